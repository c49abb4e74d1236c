"""Where the rows of mutable tables and their changes lie: two tables of the database for each, which nothing else is in.

A row is two byte strings here, its key and its body; what they mean is known in the room `live`. When a table is dropped, every page of its two is
freed, and so overwritten: in tables common to all, values could stay behind in pages that other rows are still on. They belong to whoever has the
record: nothing reaches them but by the `table_id` of a record that was found in scope.
"""

import functools
from collections.abc import Collection, Iterable, Mapping, Sequence

import msgspec
import sqlalchemy as sa

from jammi_lab.catalog import scope
from jammi_lab.catalog.schema import Bytes
from jammi_lab.errors import TableDamaged

Column = list[bytes]
Body = bytes | None
"""A row's body; None is no row."""
_MANY = 500
"""Keys that one statement asks for."""
_DDL = (
    "CREATE TABLE mutable_{id:x}_rows (row_key BLOB NOT NULL PRIMARY KEY, body BLOB NOT NULL) WITHOUT ROWID",
    "CREATE TABLE mutable_{id:x}_changes (version BIGINT NOT NULL PRIMARY KEY, body BLOB NOT NULL)",
)
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[tuple[bytes, bytes | None]]).decode


class Physical:
    """The two tables of one mutable table. What goes over many rows is handed to the driver as it is: a statement of SQLAlchemy costs more for each
    row than the database does."""

    def __init__(self, table_id: int) -> None:
        kept = sa.MetaData()
        self.rows = sa.Table(
            f"mutable_{table_id:x}_rows", kept, sa.Column("row_key", Bytes, primary_key=True), sa.Column("body", Bytes, nullable=False)
        )
        self.changes = sa.Table(
            f"mutable_{table_id:x}_changes", kept, sa.Column("version", sa.BigInteger, primary_key=True), sa.Column("body", Bytes, nullable=False)
        )
        self.make = tuple(statement.format(id=table_id) for statement in _DDL)
        self.drop = tuple(f"DROP TABLE IF EXISTS {table.name}" for table in (self.rows, self.changes))
        at = sa.bindparam("at_version", type_=sa.BigInteger)
        self._all = scope.untenanted(self.rows, self.rows.c.row_key, self.rows.c.body).order_by(self.rows.c.row_key)
        since = scope.untenanted(self.changes, self.changes.c.version, self.changes.c.body).where(self.changes.c.version > at)
        self._since = since.order_by(self.changes.c.version)
        self._trim = scope.delete_untenanted(self.changes).where(self.changes.c.version <= at)

    def all(self, tx: sa.Connection) -> tuple[Column, Column]:
        """The keys of all rows, ascending, and their bodies."""
        found = tx.execute(self._all).all()
        return [key for key, _ in found], [body for _, body in found]

    def bodies(self, tx: sa.Connection, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """The bodies of those of the rows that are there."""
        found: dict[bytes, bytes] = {}
        for start in range(0, len(keys), _MANY):
            some = tuple(keys[start : start + _MANY])
            marks = ", ".join([_mark(tx)] * len(some))
            found.update(tx.exec_driver_sql(f"SELECT row_key, body FROM {self.rows.name} WHERE row_key IN ({marks})", some).all())
        return found

    def write(self, tx: sa.Connection, put: Mapping[bytes, bytes], remove: Iterable[bytes]) -> None:
        """Leave these rows there, and those not."""
        mark = _mark(tx)
        if put:
            insert = f"INSERT INTO {self.rows.name} (row_key, body) VALUES ({mark}, {mark})"
            tx.exec_driver_sql(f"{insert} ON CONFLICT (row_key) DO UPDATE SET body = excluded.body", [*put.items()])
        if gone := [(key,) for key in remove]:
            tx.exec_driver_sql(f"DELETE FROM {self.rows.name} WHERE row_key = {mark}", gone)

    def log(self, tx: sa.Connection, changes: Mapping[int, Sequence[tuple[bytes, Body]]]) -> None:
        """Keep what commits touched: by version, each key with the row as it was before."""
        mark = _mark(tx)
        rows = [(version, _encode(touched)) for version, touched in changes.items()]
        tx.exec_driver_sql(f"INSERT INTO {self.changes.name} (version, body) VALUES ({mark}, {mark})", rows)

    def since(self, tx: sa.Connection, version: int) -> Iterable[tuple[int, list[tuple[bytes, Body]]]]:
        """The commits after a version, in order. TableDamaged."""
        for number, body in tx.execute(self._since, {"at_version": version}):
            try:
                yield number, _decode(body)
            except msgspec.DecodeError:
                raise TableDamaged("The catalog is damaged: the changes of a mutable table hold what nothing here wrote.") from None

    def trim(self, tx: sa.Connection, version: int) -> None:
        """Forget the commits up to a version."""
        tx.execute(self._trim, {"at_version": version})

    def tables(self) -> Collection[sa.Table]:
        """Both, for a copy."""
        return (self.rows, self.changes)


def _mark(tx: sa.Connection) -> str:
    """How a driver is told of a value."""
    return "?" if tx.dialect.paramstyle == "qmark" else "%s"


@functools.lru_cache(maxsize=512)
def physical(table_id: int) -> Physical:
    """The two tables of one mutable table."""
    return Physical(table_id)
