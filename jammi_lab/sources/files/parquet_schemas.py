"""Columns of local Parquet files by the schema in a footer: of files with a schema that DuckDB has
described, it need not be asked again.

DuckDB takes the columns of a list of files from the footer of the first one (1.5.5), unless
`union_by_name` is set or folders `key=value` add columns.
"""

import contextlib
import os
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from jammi_lab.core.caches import BoundedCache
from jammi_lab.sources.base import ObservationContext
from jammi_lab.sources.files.file_sets import SourceFile
from jammi_lab.storage.files import has_stat, is_settled

_IGNORED_METADATA = (b"ARROW:schema", b"pandas")
"""What DuckDB does not read, and what differs between files of equal columns."""
_MAX_CACHED_SCHEMAS = 256
_Schema = tuple[str, tuple[tuple[bytes, bytes], ...]]
_columns_by_schema = BoundedCache[_Schema, dict[str, str]](_MAX_CACHED_SCHEMAS)


def known_columns(
    source_files: Sequence[SourceFile], options: Mapping[str, Any]
) -> dict[str, str] | None:
    """The columns and SQL types of these files, by the footer that the first one has now; None
    where DuckDB has to describe them."""
    if not _first_footer_decides(source_files, options):
        return None
    with contextlib.suppress(OSError, pa.ArrowException):
        columns = _columns_by_schema.get(_schema_of(source_files[0].path))
        return None if columns is None else dict(columns)
    return None


def keep_columns(
    source_files: Sequence[SourceFile],
    options: Mapping[str, Any],
    columns: Mapping[str, str],
    ctx: ObservationContext,
) -> None:
    """Keep the columns that DuckDB has just described, if the first file is proved to have been the
    same from before that until now."""
    first = source_files[0]
    if not _first_footer_decides(source_files, options) or not is_settled(
        first.stat, ctx.now_ns, ctx.racy_seconds
    ):
        return
    with contextlib.suppress(OSError, pa.ArrowException):
        schema = _schema_of(first.path)
        if has_stat(os.stat(first.path), first.stat):
            _columns_by_schema.put(schema, dict(columns))


def _first_footer_decides(source_files: Sequence[SourceFile], options: Mapping[str, Any]) -> bool:
    """Whether the footer of the first file alone decides the columns."""
    return not options.get("union_by_name") and not any(
        source_file.relative and "=" in os.path.dirname(source_file.path)
        for source_file in source_files
    )


def _schema_of(path: str) -> _Schema:
    """What decides the columns in the footer of a file. Raises OSError, pyarrow.ArrowInvalid."""
    footer = pq.read_metadata(path)
    elements = str(footer.schema).partition("\n")[2]  # its first line is the object's address
    pairs = (footer.metadata or {}).items()
    return elements, tuple(sorted(pair for pair in pairs if pair[0] not in _IGNORED_METADATA))
