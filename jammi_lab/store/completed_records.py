"""The catalog row of a table that is complete: as its writer knows it, or as its manifest says."""

from typing import Any

from jammi_lab.core.anchors import Anchor
from jammi_lab.core.identifiers import fold
from jammi_lab.core.manifest import Manifest, ManifestColumn
from jammi_lab.core.records import TableRecord, TableStatus
from jammi_lab.storage.digests import ParquetDigests, column_digests
from jammi_lab.store import manifests

_ATTESTED_FIELDS = (
    *("table_name", "kind", "recipe", "version", "tenant", "source_id", "model_id"),
    *("derived_from", "key", "dimensions", "columns", "anchors", "order_sensitive"),
)


def completed_record(
    record: TableRecord,
    rows: int,
    digests: ParquetDigests,
    types: dict[str, str],
    anchors: list[Anchor],
    *,
    completed_at: str,
    seconds: float,
) -> TableRecord:
    """The row as it will be when the table is ready. `types`: the SQL types of the columns as read
    from the file."""
    by_column = column_digests(digests.leaves)
    results = [a for a in anchors if a.input.kind_class.is_result]
    if record.recipe_class.combines_vectors:
        results = [a for a in results if a.columns == ("key", "vector")]
    return record.with_values(
        status=TableStatus.READY,
        row_count=rows,
        bytes=digests.bytes,
        columns=[
            ManifestColumn(name=name, type=type_, digest=by_column.get(name, ""))
            for name, type_ in types.items()
        ],
        anchors=sorted(anchors, key=lambda a: a.input.identity),
        derived_from=results[0].input.name if len(results) == 1 else None,
        digest=digests.whole,
        completed_at=completed_at,
        seconds=seconds,
    )


def attested_fields(described: TableRecord | Manifest) -> dict[str, Any]:
    """The fields that a row and its manifest have in common."""
    return {name: getattr(described, name) for name in _ATTESTED_FIELDS}


def record_of_manifest(
    manifest: Manifest, body: bytes, path: str, writer_id: str, size: int | None
) -> TableRecord:
    """The row of a table that its manifest attests, as it is before it becomes ready."""
    return TableRecord(
        status=TableStatus.BUILDING,
        writer_id=writer_id,
        definition_hash=manifest.definition_hash,
        path=path,
        row_count=manifest.row_count,
        bytes=size,
        created_at=manifest.produced_at,
        completed_at=manifest.produced_at,
        seconds=manifest.seconds,
        digest=manifest.artifact.digest,
        manifest_digest=manifests.digest(body),
        flight=False,
        **attested_fields(manifest),
    )


def is_of(attested: TableRecord, record: TableRecord) -> bool:
    """Whether a manifest describes the table of a row. A rename moves versions, but keeps the name
    that a table was built for."""
    return fold(attested.recipe) == fold(record.recipe) and all(
        getattr(attested, field) == getattr(record, field)
        for field in ("table_name", "definition_hash", "tenant", "kind", "version")
    )
