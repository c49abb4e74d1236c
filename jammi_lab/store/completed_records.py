"""The catalog row of a table that is complete: as its writer knows it, or as its manifest says."""

import msgspec

from jammi_lab.core.anchors import Anchor
from jammi_lab.core.identifiers import fold
from jammi_lab.core.manifest import Manifest, ManifestColumn
from jammi_lab.core.records import TableRecord, TableStatus
from jammi_lab.storage.digests import ParquetDigests, column_digests
from jammi_lab.store import manifests


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
    return msgspec.structs.replace(
        record,
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


def record_of_manifest(
    manifest: Manifest, body: bytes, path: str, writer_id: str, size: int | None
) -> TableRecord:
    """The row of a table that its manifest attests, as it is before it becomes ready."""
    return TableRecord(
        table_name=manifest.table_name,
        kind=manifest.kind,
        status=TableStatus.BUILDING,
        recipe=manifest.recipe,
        version=manifest.version,
        tenant=manifest.tenant,
        writer_id=writer_id,
        definition_hash=manifest.definition_hash,
        path=path,
        source_id=manifest.source_id,
        model_id=manifest.model_id,
        derived_from=manifest.derived_from,
        key=manifest.key,
        dimensions=manifest.dimensions,
        row_count=manifest.row_count,
        bytes=size,
        created_at=manifest.produced_at,
        completed_at=manifest.produced_at,
        seconds=manifest.seconds,
        columns=manifest.columns,
        anchors=manifest.anchors,
        digest=manifest.artifact.digest,
        manifest_digest=manifests.digest(body),
        order_sensitive=manifest.order_sensitive,
        flight=False,
    )


def is_of(attested: TableRecord, record: TableRecord) -> bool:
    """Whether a manifest describes the table of a row. A rename moves versions, but keeps the name
    that a table was built for."""
    return fold(attested.recipe) == fold(record.recipe) and all(
        getattr(attested, field) == getattr(record, field)
        for field in ("table_name", "definition_hash", "tenant", "kind", "version")
    )
