"""Where the rows of mutable tables and their changes lie: two tables of the database for each, which nothing else is in.

A row is two byte strings here, its key and its body; what they mean is known in the room `live`. Keys that are whole numbers are numbers here, which
the database finds and appends in half the time. When a table is dropped, every page of its two is freed, and so overwritten: in tables common to
all, values could stay behind in pages that other rows are still on. They belong to whoever has the record: nothing reaches them but by the `table_id`
of a record that was found in scope.
"""

import functools
import itertools
import struct
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec
import sqlalchemy as sa

from jammi_lab.catalog import direct
from jammi_lab.catalog.schema import Bytes
from jammi_lab.errors import TableDamaged

Key = bytes | int
"""A row's key: a number in a table that is `numbered`."""
Keys = list[Key]
Bodies = list[bytes]
Body = bytes | None
"""A row's body; None is no row."""
_SIZES = (1, 2, 4, 8, 16, 24, 32, 48, 64, 80, 96, 112, 128, 160, 192, 224, 256)
"""How many rows or keys one statement takes. Not every number, so that the driver keeps the statements parsed; many rows, because after each
statement the driver lets other threads go on, and then waits for them."""
_MOST = _SIZES[-1]
_ROWS = "CREATE TABLE {} (row_key BLOB NOT NULL PRIMARY KEY, body BLOB NOT NULL) WITHOUT ROWID"
_NUMBERED_ROWS = "CREATE TABLE {} (row_key INTEGER NOT NULL PRIMARY KEY, body BLOB NOT NULL)"
_CHANGES = "CREATE TABLE {} (version INTEGER NOT NULL PRIMARY KEY, body BLOB NOT NULL)"
_MIDDLE = 1 << 63
_eight_bytes = struct.Struct(">Q").unpack
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[tuple[bytes | int, bytes | None]]).decode


class Physical:
    """The two tables of one mutable table."""

    def __init__(self, table_id: int, numbered: bool) -> None:
        self._numbered = numbered
        rows, changes = self._rows, self._changes = f"mutable_{table_id:x}_rows", f"mutable_{table_id:x}_changes"
        self.make = ((_NUMBERED_ROWS if numbered else _ROWS).format(rows), _CHANGES.format(changes))
        # in the order in which they are read: on a server a reader and a drop would else wait for each other
        self.drop = (f"DROP TABLE IF EXISTS {changes}", f"DROP TABLE IF EXISTS {rows}")
        self._bodies = (f"SELECT row_key, body FROM {rows} WHERE row_key IN (", ", ", ")")
        self._delete = (f"DELETE FROM {rows} WHERE row_key IN (", ", ", ")")
        insert = f"INSERT INTO {rows} (row_key, body) VALUES "
        self._add = (insert, ", ", " ON CONFLICT (row_key) DO NOTHING")
        self._upsert = (insert, ", ", " ON CONFLICT (row_key) DO UPDATE SET body = excluded.body")

    def all(self, tx: sa.Connection) -> tuple[Keys, Bodies]:
        """The keys of all rows, ascending, and their bodies."""
        found = direct.rows(tx, f"SELECT row_key, body FROM {self._rows} ORDER BY row_key")
        return [key for key, _ in found], [body for _, body in found]

    def bodies(self, tx: sa.Connection, keys: Sequence[Key]) -> dict[Key, bytes]:
        """The bodies of those of the rows that are there."""
        found: dict[Key, bytes] = {}
        for some in _padded(keys):
            found.update(direct.rows(tx, _statement(self._bodies, _mark(tx), len(some)), some))
        return found

    def add(self, tx: sa.Connection, put: Mapping[Key, Body]) -> bool:
        """Whether none of these rows was there, and all are now; otherwise what was there is as it was, and some of the others are there."""
        return self._put(tx, self._add, put) == len(put)

    def write(self, tx: sa.Connection, put: Mapping[Key, bytes], remove: Sequence[Key]) -> None:
        """Leave these rows there, and those not."""
        self._put(tx, self._upsert, put)
        for some in _padded(remove):
            direct.change(tx, _statement(self._delete, _mark(tx), len(some)), some)

    def _put(self, tx: sa.Connection, statement: tuple[str, str, str], rows: Mapping[Key, Body]) -> int:
        """Run it over rows; how many it wrote."""
        mark, written = _mark(tx), 0
        values = tuple(itertools.chain.from_iterable(rows.items()))
        for at in range(0, len(values), 2 * _MOST):
            some = values[at : at + 2 * _MOST]
            size = _size(len(some) // 2) if mark == "?" else len(some) // 2  # PostgreSQL refuses a row that comes twice
            some += some[-2:] * (size - len(some) // 2)  # to SQLite it is the same row, and does not count
            written += direct.change(tx, _statement(statement, f"({mark}, {mark})", size), some)
        return written

    def log(self, tx: sa.Connection, changes: Mapping[int, Sequence[tuple[Key, Body]]]) -> None:
        """Keep what commits touched: by version, each key with the row as it was before."""
        mark = _mark(tx)
        rows = [(version, _encode(touched)) for version, touched in changes.items()]
        direct.change(tx, f"INSERT INTO {self._changes} (version, body) VALUES ({mark}, {mark})", rows, many=True)

    def since(self, tx: sa.Connection, version: int) -> Iterable[tuple[int, list[tuple[Key, Body]]]]:
        """The commits after a version, in order. TableDamaged."""
        asked = f"SELECT version, body FROM {self._changes} WHERE version > {_mark(tx)} ORDER BY version"
        for number, body in direct.rows(tx, asked, (version,)):
            try:
                yield number, [(self._key(key), was) for key, was in _decode(body)]
            except (msgspec.DecodeError, struct.error):
                raise TableDamaged("The catalog is damaged: the changes of a mutable table hold what nothing here wrote.") from None

    def trim(self, tx: sa.Connection, version: int) -> None:
        """Forget the commits up to a version."""
        direct.change(tx, f"DELETE FROM {self._changes} WHERE version <= {_mark(tx)}", (version,))

    def tables(self) -> Collection[sa.Table]:
        """Both, for a copy."""
        kept = sa.MetaData()
        return (
            sa.Table(self._rows, kept, sa.Column("row_key", sa.BigInteger if self._numbered else Bytes, primary_key=True), sa.Column("body", Bytes)),
            sa.Table(self._changes, kept, sa.Column("version", sa.BigInteger, primary_key=True), sa.Column("body", Bytes)),
        )

    def _key(self, logged: Key) -> Key:
        """A key of the log; an earlier release wrote numbers there as eight bytes. struct.error."""
        return int(_eight_bytes(logged)[0]) - _MIDDLE if self._numbered and isinstance(logged, bytes) else logged


def _padded(keys: Sequence[Any]) -> Iterator[tuple[Any, ...]]:
    """The keys in pieces of few sizes; the last may have its last key several times, which says no more than once."""
    for start in range(0, len(keys), _MOST):
        some = tuple(keys[start : start + _MOST])
        yield some + some[-1:] * (_size(len(some)) - len(some))


def _size(number: int) -> int:
    return next(each for each in _SIZES if each >= number)


@functools.lru_cache(maxsize=1024)
def _statement(parts: tuple[str, str, str], mark: str, times: int) -> str:
    """What stands between the first part and the last: a mark so many times."""
    before, between, after = parts
    return before + between.join([mark] * times) + after


def _mark(tx: sa.Connection) -> str:
    """How a driver is told of a value."""
    return "?" if tx.dialect.paramstyle == "qmark" else "%s"


@functools.lru_cache(maxsize=512)
def physical(table_id: int, numbered: bool) -> Physical:
    """The two tables of one mutable table. `numbered`: whether its keys are whole numbers, and lie there as such."""
    return Physical(table_id, numbered)
