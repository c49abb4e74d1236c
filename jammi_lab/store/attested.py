"""What a manifest may say: a results folder may come from anywhere, and what is taken over from one goes into a catalog that all tables share."""

import contextlib
from pathlib import Path
from types import TracebackType
from typing import Self

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from jammi_lab.clock import from_rfc3339
from jammi_lab.names import check_name, fold, is_text
from jammi_lab.sources.scratch import lent_bare
from jammi_lab.storage.digests import sha256_file
from jammi_lab.storage.files import Place, opened
from jammi_lab.store.results import body_of, untyped
from jammi_lab.values.descriptors import parse_descriptor
from jammi_lab.values.manifest import Manifest
from jammi_lab.values.records import TableKind

_MOST = 1 << 62
"""What a catalog can hold as a number, and count on from."""

_PLAIN = {
    ("BOOLEAN", "None"): "BOOLEAN",
    ("INT32", "None"): "INTEGER",
    ("INT64", "None"): "BIGINT",
    ("FLOAT", "None"): "FLOAT",
    ("DOUBLE", "None"): "DOUBLE",
    ("BYTE_ARRAY", "String"): "VARCHAR",
    ("INT32", "Date"): "DATE",
}
"""SQL types, by what Parquet calls them."""


def check_manifest(manifest: Manifest) -> None:
    """Nothing, when all that a catalog would take over can be. ValueError, NameInvalid, msgspec.ValidationError for the first thing that cannot."""
    check_name(manifest.recipe, "recipe")
    TableKind(manifest.kind)
    parse_descriptor(manifest.descriptor)
    _check_time(manifest.produced_at)
    _check_numbers(manifest)
    _check_texts(manifest)
    _check_columns(manifest)


def _check_time(text: str) -> None:
    """As `rfc3339` writes it: such texts are sorted, and ages are counted from them."""
    with contextlib.suppress(ValueError):
        if from_rfc3339(text).isoformat(timespec="microseconds").removesuffix("+00:00") + "Z" == text:
            return
    raise ValueError(f"it was made at {text[:50]!r}, which is no time")


def _check_numbers(manifest: Manifest) -> None:
    numbers: list[tuple[str, int, float | None]] = [
        ("version", 1, manifest.version),
        ("row_count", 0, manifest.row_count),
        ("dimensions", 1, manifest.dimensions),
        ("seconds", 0, manifest.seconds),
        *((f"counts.{name}", 0, number) for name, number in manifest.counts.items()),
        *(("leaves", 0, number) for leaf in manifest.leaves for number in (leaf.row_group, leaf.offset, leaf.length)),
        *(("anchors", 0, number) for anchor in manifest.anchors for number in (anchor.row_count, anchor.version)),
    ]
    if wrong := next((each for each in numbers if each[2] is not None and not each[1] <= each[2] < _MOST), None):
        raise ValueError(f"its {wrong[0]} cannot be {wrong[2]}")


def _check_texts(manifest: Manifest) -> None:
    """Names that no database, path or statement holds."""
    texts = [manifest.table_name, manifest.definition_hash, manifest.source_id, manifest.model_id, manifest.derived_from]
    texts += [text for anchor in manifest.anchors for text in (anchor.input.name, anchor.input.table)]
    if (wrong := next((text for text in texts if text is not None and not is_text(text)), None)) is not None:
        raise ValueError(f"it names {wrong[:50]!r}, which is no text")


def _check_columns(manifest: Manifest) -> None:
    names = [column.name for column in manifest.columns]
    if not names or not all(name and is_text(name) for name in names) or len({fold(name) for name in names}) < len(names):
        raise ValueError("its columns are none, or have no names of their own")
    if (column := untyped(manifest)) is not None:
        raise ValueError(f"its column {column.name!r} is said to be {column.type[:100]!r}, which is no SQL type")
    if (key := next((name for name in manifest.key if name not in names), None)) is not None:
        raise ValueError(f"its key {key[:50]!r} is none of its columns")


def _plainly(schema: pq.ParquetSchema) -> list[tuple[str, str]] | None:
    """Names and types of columns where the physical ones leave no doubt, for which DuckDB need not be asked; None where one does."""
    found = []
    for at in range(len(schema)):
        column = schema.column(at)
        known = _PLAIN.get((column.physical_type, str(column.logical_type)))
        if known is None or column.path != column.name:
            return None
        found.append((column.name, known))
    return found


class Footers:
    """A block in which manifests are compared with what their Parquet files hold; one DuckDB for all of them, opened for the first."""

    def __init__(self) -> None:
        self._undo = contextlib.ExitStack()
        self._connection: duckdb.DuckDBPyConnection | None = None
        self._types: dict[tuple[str, int | None], list[tuple[str, str]]] = {}
        self._last: tuple[pq.ParquetSchema, list[tuple[str, str]] | None] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._undo.__exit__(kind, error, trace)

    def check(self, manifest: Manifest, parquet: Place, footer: pq.FileMetaData | None = None) -> int:
        """The rows of the very file that a manifest attests, by its footer; what the manifest says of one that is gone, torn or another: looks tell.
        ValueError when that file has other columns. `footer`: that of the file, if it was read."""
        with contextlib.suppress(OSError, pa.ArrowException, duckdb.Error):
            if footer is None:
                with opened(parquet) as file:
                    footer = pq.read_metadata(file)
            wrong = self._differs(manifest, parquet, footer)
            if (wrong or manifest.row_count != footer.num_rows) and sha256_file(parquet) == manifest.artifact.digest:
                if wrong:
                    raise ValueError(wrong)
                return int(footer.num_rows)
        return manifest.row_count

    def _differs(self, manifest: Manifest, parquet: Place, footer: pq.FileMetaData) -> str:
        told = [(column.name, column.type) for column in manifest.columns]
        if self._last is None or not self._last[0].equals(footer.schema):
            self._last = footer.schema, _plainly(footer.schema)
        if manifest.dimensions is None and self._last[1] == told:
            return ""
        schema = footer.schema.to_arrow_schema()
        if [name for name, _ in told] != schema.names:
            return "its columns are not those of its file"
        if manifest.dimensions is not None:
            vector = schema.field("vector").type if "vector" in schema.names else None
            if getattr(vector, "list_size", None) != manifest.dimensions:
                return f"its file holds no vectors of {manifest.dimensions} dimensions"
        if isinstance(parquet, Path) and told != self._described(parquet, footer, manifest.dimensions):
            return "its columns have other types than those of its file"
        return ""

    def _described(self, parquet: Path, footer: pq.FileMetaData, dimensions: int | None) -> list[tuple[str, str]]:
        """As the types were found that the manifest tells, once for all files of one schema; in a store each would have a reader of its own."""
        kind = (str(footer.schema).partition("\n")[2], dimensions)  # its first line tells where the object lies
        if kind not in self._types:
            if self._connection is None:
                self._connection = self._undo.enter_context(lent_bare())
            self._types[kind] = [(row[0], row[1]) for row in self._connection.execute(f"DESCRIBE {body_of(parquet, dimensions)}").fetchall()]
        return self._types[kind]
