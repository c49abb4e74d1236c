"""Arrow IPC and Feather files as frames, and their digests by column."""

from collections.abc import Sequence
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.ipc

from jammi_lab.errors import SchemaMismatch
from jammi_lab.sources.frames import plain_table, told_apart
from jammi_lab.sources.places import Item, Place
from jammi_lab.storage.digests import arrow_digests, sha256_stream


def read_table(place: Place, item: Item) -> pa.Table:
    """All rows of one file, read into memory. pyarrow.ArrowInvalid when it is torn or none, OSError.

    A memory map would be cheaper, and would kill the kernel when somebody shortens the file under it.
    """
    with place.open(item) as file:
        return _read(file)


def read_tables(place: Place, items: Sequence[Item]) -> pa.Table:
    """All rows of all files, in their order. SchemaMismatch when their columns differ; as `read_table`."""
    tables = [read_table(place, item) for item in items]
    for item, table in zip(items, tables, strict=True):
        if table.schema != tables[0].schema:
            raise SchemaMismatch(
                f"{item.relative} does not have the columns of {items[0].relative}.", expected=_columns(tables[0]), actual=_columns(table)
            )
    return pa.concat_tables(tables)


def _columns(table: pa.Table) -> str:
    return ", ".join(f"{field.name} {field.type}" for field in table.schema)


def _read(file: BinaryIO) -> pa.Table:
    magic = file.read(6)
    file.seek(0)
    if magic == b"ARROW1":
        return told_apart(plain_table(pa.ipc.open_file(file).read_all()))
    if magic[:4] == b"FEA1":
        raise pa.ArrowInvalid("Feather version 1 is not read any more; write it again as version 2")
    return told_apart(plain_table(pa.ipc.open_stream(file).read_all()))


def payload(place: Place, item: Item) -> dict[str, Any]:
    """What the memo keeps of one file: the digest of its bytes, of each column, and its rows. As `read_table`."""
    with place.open(item) as file:
        whole = sha256_stream(file)
        file.seek(0)
        table = _read(file)
    return {"whole": whole, "by_column": arrow_digests(table), "rows": table.num_rows}
