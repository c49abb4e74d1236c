"""Physical storage of mutable tables: two database tables for each, one for rows and one for the
history of changes.

A row consists of two byte strings, its key and its body; the room `live` encodes them. Integer keys
are stored as integers, which the database finds and appends in half the time. Each mutable table
has database tables of its own because dropping them frees, and so overwrites, all of their pages;
in shared tables, deleted values could remain in pages that other rows still use. They have no
tenant column: they are reached only by the `table_id` of a record that was found in scope.

Each stored row and each entry of the history carries a checksum over its key and its bytes. SQLite
has none: a flipped bit in a page would be read as another value.
"""

import functools
import itertools
import struct
import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec
import sqlalchemy as sa

from jammi_lab.catalog import database as direct
from jammi_lab.catalog.schema import Bytes
from jammi_lab.core.errors import TableDamaged, invalid_row_error

Key = bytes | int
"""The key of a row: an integer in a table that is `numbered`."""
Keys = list[Key]
Bodies = list[bytes]
Body = bytes | None
"""The body of a row; None is no row."""
_SIZES = (1, 2, 4, 8, 16, 24, 32, 48, 64, 80, 96, 112, 128, 160, 192, 224, 256)
"""Rows or keys per statement. Only some sizes, so that the driver's cache of parsed statements
suffices; large ones, because after each statement the driver yields to other threads and then waits
for them."""
_MAX_ROWS = _SIZES[-1]
_CREATE_ROWS = (
    "CREATE TABLE {} (row_key BLOB NOT NULL PRIMARY KEY, body BLOB NOT NULL) WITHOUT ROWID"
)
_CREATE_NUMBERED_ROWS = "CREATE TABLE {} (row_key INTEGER NOT NULL PRIMARY KEY, body BLOB NOT NULL)"
_CREATE_CHANGES = "CREATE TABLE {} (version INTEGER NOT NULL PRIMARY KEY, body BLOB NOT NULL)"
_MASK_32 = (1 << 32) - 1
_CHECKSUM_MARK = b"\xc1"
"""The first byte of a body with a checksum; no msgpack value begins with it."""
_PREFIX_BYTES = 5
_pack_prefix = struct.Struct(">cI").pack
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[tuple[bytes | int, bytes | None]]).decode


class PhysicalTables:
    """The two database tables of one mutable table."""

    def __init__(self, table_id: int, numbered: bool) -> None:
        self._numbered = numbered
        token = f"{table_id % 2**63:x}"  # nobody assigns a negative id, and it is no name
        rows, changes = self._rows, self._changes = (
            f"mutable_{token}_rows",
            f"mutable_{token}_changes",
        )
        self.create_statements = (
            (_CREATE_NUMBERED_ROWS if numbered else _CREATE_ROWS).format(rows),
            _CREATE_CHANGES.format(changes),
        )
        # in reverse order, a reader and a drop could deadlock on a server
        self.drop_statements = (f"DROP TABLE IF EXISTS {changes}", f"DROP TABLE IF EXISTS {rows}")
        self._bodies = (f"SELECT row_key, body FROM {rows} WHERE row_key IN (", ", ", ")")
        self._delete = (f"DELETE FROM {rows} WHERE row_key IN (", ", ", ")")
        insert = f"INSERT INTO {rows} (row_key, body) VALUES "
        self._add = (insert, ", ", " ON CONFLICT (row_key) DO NOTHING")
        self._upsert = (insert, ", ", " ON CONFLICT (row_key) DO UPDATE SET body = excluded.body")

    def all_rows(self, tx: sa.Connection) -> tuple[Keys, Bodies]:
        """The keys of all rows, ascending, and their bodies. Raises TableDamaged."""
        rows = direct.fetch(tx, f"SELECT row_key, body FROM {self._rows} ORDER BY row_key")
        return [key for key, _ in rows], list(itertools.starmap(_checked_body, rows))

    def bodies(
        self, tx: sa.Connection, keys: Sequence[Key], *, checked: bool = True
    ) -> dict[Key, bytes]:
        """The bodies of those rows that exist. Raises TableDamaged; with `checked=False` a damaged
        row has some body that no valid row has, so that it can be replaced."""
        bodies: dict[Key, bytes] = {}
        for chunk in _padded_chunks(keys):
            statement = _statement(self._bodies, _parameter_mark(tx), len(chunk))
            bodies.update(
                (key, _checked_body(key, stored, checked=checked))
                for key, stored in direct.fetch(tx, statement, chunk)
            )
        return bodies

    def insert_new(self, tx: sa.Connection, put: Mapping[Key, Body]) -> bool:
        """Insert rows; return whether all of them were new. Existing rows stay unchanged; on
        failure some of the others are inserted."""
        return self._put(tx, self._add, put) == len(put)

    def write(self, tx: sa.Connection, put: Mapping[Key, bytes], remove: Sequence[Key]) -> None:
        """Insert or replace some rows, and delete others."""
        self._put(tx, self._upsert, put)
        for chunk in _padded_chunks(remove):
            direct.execute(tx, _statement(self._delete, _parameter_mark(tx), len(chunk)), chunk)

    def _put(
        self, tx: sa.Connection, statement: tuple[str, str, str], rows: Mapping[Key, Body]
    ) -> int:
        """Run a statement over rows; return how many it wrote."""
        mark, written = _parameter_mark(tx), 0
        values = tuple(
            itertools.chain.from_iterable(
                (key, _with_checksum(key, body)) for key, body in rows.items() if body is not None
            )
        )
        for start in range(0, len(values), 2 * _MAX_ROWS):
            chunk = values[start : start + 2 * _MAX_ROWS]
            # padding repeats the last row, which SQLite counts once and PostgreSQL rejects
            size = _statement_size(len(chunk) // 2) if mark == "?" else len(chunk) // 2
            chunk += chunk[-2:] * (size - len(chunk) // 2)
            written += direct.execute(tx, _statement(statement, f"({mark}, {mark})", size), chunk)
        return written

    def log(self, tx: sa.Connection, changes: Mapping[int, Sequence[tuple[Key, Body]]]) -> None:
        """Store the changes of commits: by version, each touched key with the row before it."""
        mark = _parameter_mark(tx)
        rows = [
            (version, _with_checksum(version, _encode(touched)))
            for version, touched in changes.items()
        ]
        direct.execute(
            tx,
            f"INSERT INTO {self._changes} (version, body) VALUES ({mark}, {mark})",
            rows,
            many=True,
        )

    def since(
        self, tx: sa.Connection, version: int
    ) -> Iterable[tuple[int, list[tuple[Key, Body]]]]:
        """The commits after a version, in order. Raises TableDamaged."""
        query = (
            f"SELECT version, body FROM {self._changes} WHERE version > {_parameter_mark(tx)} "
            "ORDER BY version"
        )
        for number, stored in direct.fetch(tx, query, (version,)):
            try:
                touched = _decode(_checked_body(number, stored))
                yield number, touched
            except msgspec.DecodeError:
                raise TableDamaged(
                    "The catalog is damaged: the history of a mutable table contains invalid data."
                ) from None

    def trim(self, tx: sa.Connection, version: int) -> None:
        """Delete the history up to a version."""
        direct.execute(
            tx, f"DELETE FROM {self._changes} WHERE version <= {_parameter_mark(tx)}", (version,)
        )

    def tables(self) -> Collection[sa.Table]:
        """Both tables, for a backup."""
        metadata = sa.MetaData()
        return (
            sa.Table(
                self._rows,
                metadata,
                sa.Column("row_key", sa.BigInteger if self._numbered else Bytes, primary_key=True),
                sa.Column("body", Bytes),
            ),
            sa.Table(
                self._changes,
                metadata,
                sa.Column("version", sa.BigInteger, primary_key=True),
                sa.Column("body", Bytes),
            ),
        )


def _with_checksum(key: Key, body: bytes) -> bytes:
    """The stored form of a body."""
    # As `_checksum`, without the call: this runs for each row that is written.
    key_value = key & _MASK_32 if isinstance(key, int) else zlib.crc32(key)
    return _pack_prefix(_CHECKSUM_MARK, zlib.crc32(body, key_value)) + body


def _checked_body(key: Key, stored: bytes, *, checked: bool = True) -> bytes:
    """The body of a stored row or history entry. Raises TableDamaged."""
    if type(stored) is not bytes:
        raise invalid_row_error()
    body = stored[_PREFIX_BYTES:]
    if stored[:_PREFIX_BYTES] == _pack_prefix(_CHECKSUM_MARK, _checksum(key, body)):
        return body
    if not checked:
        return stored
    row = f"the row {key}" if isinstance(key, int) else "a row"
    raise TableDamaged(
        f"The catalog is damaged: {row} of a mutable table does not match its checksum.",
        hint="Its upsert() with that row replaces it; a backup of the catalog may contain it.",
    )


def _checksum(key: Key, body: bytes) -> int:
    return zlib.crc32(body, key & _MASK_32 if isinstance(key, int) else zlib.crc32(key))


def _padded_chunks(keys: Sequence[Any]) -> Iterator[tuple[Any, ...]]:
    """The keys in chunks of a few fixed sizes; the last chunk repeats its last key, which does not
    change the result."""
    for start in range(0, len(keys), _MAX_ROWS):
        chunk = tuple(keys[start : start + _MAX_ROWS])
        yield chunk + chunk[-1:] * (_statement_size(len(chunk)) - len(chunk))


def _statement_size(number: int) -> int:
    return next(size for size in _SIZES if size >= number)


@functools.lru_cache(maxsize=1024)
def _statement(parts: tuple[str, str, str], mark: str, times: int) -> str:
    """The statement with the given number of parameter marks between its first and last part."""
    prefix, separator, suffix = parts
    return prefix + separator.join([mark] * times) + suffix


def _parameter_mark(tx: sa.Connection) -> str:
    """The driver's parameter mark."""
    return "?" if tx.dialect.paramstyle == "qmark" else "%s"


@functools.lru_cache(maxsize=512)
def physical_tables(table_id: int, numbered: bool) -> PhysicalTables:
    """The storage of one mutable table. `numbered`: whether its keys are integers and stored as
    such."""
    return PhysicalTables(table_id, numbered)
