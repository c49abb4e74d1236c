"""Arrow IPC and Feather files: reading into memory, column digests."""

from collections.abc import Sequence
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.ipc

from jammi_lab.core.errors import SchemaMismatch
from jammi_lab.sources.files.file_sets import SourceFile
from jammi_lab.sources.frames import canonical_table, unique_names
from jammi_lab.storage.arrow_digests import arrow_digests
from jammi_lab.storage.arrow_values import cast_losslessly, common_type, read_rows
from jammi_lab.storage.digests import sha256_stream


def read_table(source_file: SourceFile) -> pa.Table:
    """All rows of one file, in memory. Raises OSError, and pyarrow.ArrowInvalid for an incomplete
    or other file.

    Not memory-mapped: truncating a mapped file would crash the kernel.
    """
    with source_file.open() as file:
        return _read(file)


def read_tables(source_files: Sequence[SourceFile]) -> pa.Table:
    """All rows of all files, in order, each column in the type that holds the values of all files.
    Raises SchemaMismatch if their columns differ, or have no such type, and as `read_table`."""
    tables = [read_table(source_file) for source_file in source_files]
    names, kinds = tables[0].schema.names, tables[0].schema.types
    for source_file, table in zip(source_files, tables, strict=True):
        common = [None]
        if table.schema.names == names:
            common = [*map(common_type, kinds, table.schema.types)]
        if None in common:
            raise SchemaMismatch(
                f"{source_file.relative} does not have the columns of {source_files[0].relative}.",
                expected=_describe_columns(tables[0]),
                actual=_describe_columns(table),
            )
        kinds = common
    return pa.concat_tables(
        pa.table([*map(cast_losslessly, table.columns, kinds)], names) for table in tables
    )


def _describe_columns(table: pa.Table) -> str:
    return ", ".join(f"{field.name} {field.type}" for field in table.schema)


def _read(file: BinaryIO) -> pa.Table:
    magic = file.read(6)
    file.seek(0)
    if magic[:4] == b"FEA1":
        raise pa.ArrowInvalid(
            "Feather version 1 is not supported; write the file again as version 2"
        )
    open_rows = pa.ipc.open_file if magic == b"ARROW1" else pa.ipc.open_stream
    return unique_names(canonical_table(read_rows(open_rows, file)))


def cache_payload(source_file: SourceFile) -> dict[str, Any]:
    """The cache payload of one file: the digest of its bytes, column digests and the row count.
    Raises as `read_table`."""
    with source_file.open() as file:
        digest = sha256_stream(file)
        file.seek(0)
        table = _read(file)
    return {"whole": digest, "by_column": arrow_digests(table), "rows": table.num_rows}
