"""Where the rows of mutable tables and their changes lie: two tables of the database for each, which nothing else is in.

A row is two byte strings here, its key and its body; what they mean is known in the room `live`. When a table is dropped, every page of its two is
freed, and so overwritten: in tables common to all, values could stay behind in pages that other rows are still on. They belong to whoever has the
record: nothing reaches them but by the `table_id` of a record that was found in scope.
"""

import functools
import itertools
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

import msgspec
import sqlalchemy as sa

from jammi_lab.catalog import direct
from jammi_lab.catalog.schema import Bytes
from jammi_lab.errors import TableDamaged

Column = list[bytes]
Body = bytes | None
"""A row's body; None is no row."""
_TOGETHER = (256, 64, 16)
"""How many rows one statement takes. Few sizes, so that the driver keeps the statements parsed; many rows, because it lets other threads go on
after each that it is given alone, and then waits for them."""
_FEW = (1, 4, *reversed(_TOGETHER))
_MOST = _TOGETHER[0]
_DDL = (
    "CREATE TABLE {rows} (row_key BLOB NOT NULL PRIMARY KEY, body BLOB NOT NULL) WITHOUT ROWID",
    "CREATE TABLE {changes} (version BIGINT NOT NULL PRIMARY KEY, body BLOB NOT NULL)",
)
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[tuple[bytes, bytes | None]]).decode


class Physical:
    """The two tables of one mutable table."""

    def __init__(self, table_id: int) -> None:
        rows, changes = self._rows, self._changes = f"mutable_{table_id:x}_rows", f"mutable_{table_id:x}_changes"
        self.make = tuple(statement.format(rows=rows, changes=changes) for statement in _DDL)
        self.drop = (f"DROP TABLE IF EXISTS {rows}", f"DROP TABLE IF EXISTS {changes}")
        self._bodies = (f"SELECT row_key, body FROM {rows} WHERE row_key IN (", ", ", ")")
        self._delete = (f"DELETE FROM {rows} WHERE row_key IN (", ", ", ")")
        insert = f"INSERT INTO {rows} (row_key, body) VALUES "
        self._add = (insert, ", ", " ON CONFLICT (row_key) DO NOTHING")
        self._upsert = (insert, ", ", " ON CONFLICT (row_key) DO UPDATE SET body = excluded.body")

    def all(self, tx: sa.Connection) -> tuple[Column, Column]:
        """The keys of all rows, ascending, and their bodies."""
        found = direct.rows(tx, f"SELECT row_key, body FROM {self._rows} ORDER BY row_key")
        return [key for key, _ in found], [body for _, body in found]

    def bodies(self, tx: sa.Connection, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """The bodies of those of the rows that are there."""
        found: dict[bytes, bytes] = {}
        for some in _padded(keys):
            found.update(direct.rows(tx, _statement(self._bodies, _mark(tx), len(some)), some))
        return found

    def add(self, tx: sa.Connection, put: Mapping[bytes, Body]) -> bool:
        """Whether none of these rows was there, and all are now; otherwise what was there is as it was, and some of the others are there."""
        return self._put(tx, self._add, put) == len(put)

    def write(self, tx: sa.Connection, put: Mapping[bytes, bytes], remove: Sequence[bytes]) -> None:
        """Leave these rows there, and those not."""
        self._put(tx, self._upsert, put)
        for some in _padded(remove):
            direct.change(tx, _statement(self._delete, _mark(tx), len(some)), some)

    @staticmethod
    def _put(tx: sa.Connection, statement: tuple[str, str, str], rows: Mapping[bytes, Body]) -> int:
        """Run it over rows; how many it wrote."""
        mark, values, written = _mark(tx), list(itertools.chain.from_iterable(rows.items())), 0
        at = 0
        for size in _TOGETHER:
            text = _statement(statement, f"({mark}, {mark})", size) if len(values) - at >= 2 * size else ""
            while len(values) - at >= 2 * size:
                written += direct.change(tx, text, tuple(values[at : at + 2 * size]))
                at += 2 * size
        if at < len(values):
            one_by_one = [(values[n], values[n + 1]) for n in range(at, len(values), 2)]
            written += direct.change(tx, _statement(statement, f"({mark}, {mark})", 1), one_by_one, many=True)
        return written

    def log(self, tx: sa.Connection, changes: Mapping[int, Sequence[tuple[bytes, Body]]]) -> None:
        """Keep what commits touched: by version, each key with the row as it was before."""
        mark = _mark(tx)
        rows = [(version, _encode(touched)) for version, touched in changes.items()]
        direct.change(tx, f"INSERT INTO {self._changes} (version, body) VALUES ({mark}, {mark})", rows, many=True)

    def since(self, tx: sa.Connection, version: int) -> Iterable[tuple[int, list[tuple[bytes, Body]]]]:
        """The commits after a version, in order. TableDamaged."""
        asked = f"SELECT version, body FROM {self._changes} WHERE version > {_mark(tx)} ORDER BY version"
        for number, body in direct.rows(tx, asked, (version,)):
            try:
                yield number, _decode(body)
            except msgspec.DecodeError:
                raise TableDamaged("The catalog is damaged: the changes of a mutable table hold what nothing here wrote.") from None

    def trim(self, tx: sa.Connection, version: int) -> None:
        """Forget the commits up to a version."""
        direct.change(tx, f"DELETE FROM {self._changes} WHERE version <= {_mark(tx)}", (version,))

    def tables(self) -> Collection[sa.Table]:
        """Both, for a copy."""
        kept = sa.MetaData()
        return (
            sa.Table(self._rows, kept, sa.Column("row_key", Bytes, primary_key=True), sa.Column("body", Bytes)),
            sa.Table(self._changes, kept, sa.Column("version", sa.BigInteger, primary_key=True), sa.Column("body", Bytes)),
        )


def _padded(keys: Sequence[bytes]) -> Iterator[tuple[bytes, ...]]:
    """The keys in pieces of few sizes; the last may have its last key several times, which says no more than once."""
    for start in range(0, len(keys), _MOST):
        some = tuple(keys[start : start + _MOST])
        size = next(each for each in _FEW if each >= len(some))
        yield some + some[-1:] * (size - len(some))


@functools.lru_cache(maxsize=1024)
def _statement(parts: tuple[str, str, str], mark: str, times: int) -> str:
    """What stands between the first part and the last: a mark so many times."""
    before, between, after = parts
    return before + between.join([mark] * times) + after


def _mark(tx: sa.Connection) -> str:
    """How a driver is told of a value."""
    return "?" if tx.dialect.paramstyle == "qmark" else "%s"


@functools.lru_cache(maxsize=512)
def physical(table_id: int) -> Physical:
    """The two tables of one mutable table."""
    return Physical(table_id)
