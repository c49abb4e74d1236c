"""Validation of manifests: a results folder may come from anywhere, and what is read from it enters
a catalog that all tables share."""

import contextlib
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from jammi_lab.core.clock import parse_rfc3339
from jammi_lab.core.errors import TableDamaged
from jammi_lab.core.identifiers import check_name, fold, is_text
from jammi_lab.core.manifest import Manifest
from jammi_lab.core.recipes import parse_descriptor
from jammi_lab.storage.digests import sha256_file
from jammi_lab.storage.files import StoragePath, open_for_reading
from jammi_lab.store.result_files import invalid_column, select_file_sql

_MAX_NUMBER = 1 << 62
"""Limit of integers in a catalog, with room for counting on."""


def check_manifest(manifest: Manifest) -> None:
    """Check that a catalog can hold all values of a manifest. Raises ValueError, NameInvalid or
    TableDamaged for the first one that it cannot."""
    check_name(manifest.recipe, "recipe")
    parse_descriptor(manifest.descriptor)
    if manifest.kind != manifest.descriptor["producer"]:
        raise ValueError(f"its kind {manifest.kind[:50]!r} is not that of its recipe")
    _check_time(manifest.produced_at)
    _check_numbers(manifest)
    _check_texts(manifest)
    _check_columns(manifest)


def _check_time(text: str) -> None:
    """Check that the text is as `rfc3339` writes it, because these texts are sorted and ages are
    computed from them."""
    with contextlib.suppress(TableDamaged):
        if (
            parse_rfc3339(text).isoformat(timespec="microseconds").removesuffix("+00:00") + "Z"
            == text
        ):
            return
    raise ValueError(f"its creation time {text[:50]!r} is invalid")


def _check_numbers(manifest: Manifest) -> None:
    numbers: list[tuple[str, int, float | None]] = [
        ("version", 1, manifest.version),
        ("row_count", 0, manifest.row_count),
        ("dimensions", 1, manifest.dimensions),
        ("seconds", 0, manifest.seconds),
        *((f"counts.{name}", 0, number) for name, number in manifest.counts.items()),
        *(
            ("leaves", 0, number)
            for leaf in manifest.leaves
            for number in (leaf.row_group, leaf.offset, leaf.length)
        ),
        *(
            ("anchors", 0, number)
            for anchor in manifest.anchors
            for number in (anchor.row_count, anchor.version)
        ),
    ]
    if violation := next(
        (
            number
            for number in numbers
            if number[2] is not None and not number[1] <= number[2] < _MAX_NUMBER
        ),
        None,
    ):
        raise ValueError(f"its {violation[0]} must not be {violation[2]}")


def _check_texts(manifest: Manifest) -> None:
    """Reject names that no database, path or statement can hold."""
    texts = [
        manifest.table_name,
        manifest.definition_hash,
        manifest.source_id,
        manifest.model_id,
        manifest.derived_from,
    ]
    texts += [
        text for anchor in manifest.anchors for text in (anchor.input.name, anchor.input.table)
    ]
    if (
        invalid := next((text for text in texts if text is not None and not is_text(text)), None)
    ) is not None:
        raise ValueError(f"its name {invalid[:50]!r} is not valid text")


def _check_columns(manifest: Manifest) -> None:
    names = [column.name for column in manifest.columns]
    if (
        not names
        or not all(name and is_text(name) for name in names)
        or len({fold(name) for name in names}) < len(names)
    ):
        raise ValueError("it has no columns, or their names are empty or not unique")
    if (column := invalid_column(manifest)) is not None:
        raise ValueError(
            f"its column {column.name!r} has the type {column.type[:100]!r}, which is not an SQL "
            "type"
        )
    if (key := next((name for name in manifest.key if name not in names), None)) is not None:
        raise ValueError(f"its key {key[:50]!r} is not one of its columns")


class FooterChecker:
    """Compares manifests with their Parquet files, by a DuckDB."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection
        self._described_by_schema: dict[tuple[str, int | None], list[tuple[str, str]]] = {}

    def check(self, manifest: Manifest, parquet: StoragePath) -> int:
        """The row count of the file that a manifest attests, from its footer. For a missing,
        damaged or different file it is that of the manifest, since the freshness check detects
        those. Raises ValueError when the attested file has other columns."""
        with contextlib.suppress(OSError, pa.ArrowException, duckdb.Error):
            with open_for_reading(parquet) as file:
                footer = pq.read_metadata(file)
            difference = self._difference(manifest, parquet, footer)
            if (difference or manifest.row_count != footer.num_rows) and sha256_file(
                parquet
            ) == manifest.artifact.digest:
                if difference:
                    raise ValueError(difference)
                return int(footer.num_rows)
        return manifest.row_count

    def _difference(self, manifest: Manifest, parquet: StoragePath, footer: pq.FileMetaData) -> str:
        manifest_columns = [(column.name, column.type) for column in manifest.columns]
        schema = footer.schema.to_arrow_schema()
        if [name for name, _ in manifest_columns] != schema.names:
            return "its columns differ from those of its file"
        if manifest.dimensions is not None:
            vector = schema.field("vector").type if "vector" in schema.names else None
            if getattr(vector, "list_size", None) != manifest.dimensions:
                return f"its file has no vectors of {manifest.dimensions} dimensions"
        if isinstance(parquet, Path) and manifest_columns != self._described_columns(
            parquet, footer, manifest.dimensions
        ):
            return "the types of its columns differ from those of its file"
        return ""

    def _described_columns(
        self, parquet: Path, footer: pq.FileMetaData, dimensions: int | None
    ) -> list[tuple[str, str]]:
        """The SQL types by DESCRIBE, as for the manifest itself, once per schema. Not for object
        stores, where each file would need its own reader."""
        # Without the first line, which contains the address of the Python object.
        schema_key = (str(footer.schema).partition("\n")[2], dimensions)
        if schema_key not in self._described_by_schema:
            described = self._connection.execute(
                f"DESCRIBE {select_file_sql(parquet, dimensions)}"
            ).fetchall()
            self._described_by_schema[schema_key] = [(row[0], row[1]) for row in described]
        return self._described_by_schema[schema_key]
