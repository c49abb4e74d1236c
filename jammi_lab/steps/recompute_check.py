"""Verification by recomputation: a statement is computed again in full, and the bytes are compared
with those of a published table."""

import tempfile
from pathlib import Path

from jammi_lab.core.errors import NotRecomputable
from jammi_lab.core.records import TableRecord
from jammi_lab.core.verdicts import Match, Mismatch
from jammi_lab.inputs.row_comparison import rounding_select
from jammi_lab.inputs.version_changes import FLOAT_TYPES
from jammi_lab.steps.anchor_confirmation import (
    InputChanged,
    bind_after_observing,
    confirm_anchors,
    same_anchors,
)
from jammi_lab.steps.build import BuildContext
from jammi_lab.steps.registry import RecordedRecipes
from jammi_lab.storage.digests import column_digests, digest_parquet, sha256_file
from jammi_lab.storage.parquet import ParquetSink
from jammi_lab.store import manifests
from jammi_lab.store.result_files import select_file_sql
from jammi_lab.store.storage_errors import translate_storage_errors


def verify_by_recomputation(
    ctx: BuildContext, recorded: RecordedRecipes, record: TableRecord
) -> Match | Mismatch:
    """Whether a full computation over the recorded inputs gives the same bytes, or other last bits
    of floating-point numbers. Publishes nothing.

    Raises NotRecomputable for a table that is not a statement, and when definition or inputs are
    no longer those recorded; and what the computation raises."""
    manifest = manifests.parse(ctx.catalog.result_tables.manifest(record.table_name))
    if not record.recipe_class.is_statement or manifest is None:
        raise NotRecomputable(
            f"{record.recipe!r} is not defined by SQL; only SQL tables can be verified by "
            "computing them again.",
            hint=f"ws.verify({record.recipe!r}) compares its bytes with its manifest.",
        )
    job = recorded.job(record.recipe, manifest.descriptor)
    job, state = bind_after_observing(ctx.observe, ctx.scope.current, job)
    if job.definition != record.definition_hash or not same_anchors(state.anchors, record.anchors):
        raise _changed_error(record)
    running = job.start(None)
    try:
        with (
            translate_storage_errors(record.recipe),
            tempfile.TemporaryDirectory(prefix="jammi-verify-") as folder,
        ):
            sink = ParquetSink(Path(folder) / "full.parquet", running.rows.schema)
            try:
                for batch in running.rows.batches():
                    sink.write(batch)
                sink.close()
                digest = sha256_file(sink.path)
                is_rounded = digest != record.digest and _differs_by_rounding(
                    ctx, record, sink.path
                )
            finally:
                sink.abort()
        confirm_anchors(
            ctx.observe, ctx.scope.current, job, state, running.snapshots, is_last_attempt=False
        )
    except InputChanged:
        raise _changed_error(record) from None
    finally:
        running.rows.close()
    if digest == record.digest or is_rounded:
        return Match(rounding=is_rounded)
    return Mismatch(record.digest or "", digest, "recomputation")


def _differs_by_rounding(ctx: BuildContext, record: TableRecord, computed: Path) -> bool:
    """Whether a file differs from that of a table by the rounding of floating-point numbers
    only."""
    found = digest_parquet(computed)
    digests = column_digests(found.leaves)
    differing = [c for c in record.columns if digests.get(c.name) != c.digest]
    if found.rows != record.row_count or [*digests] != [c.name for c in record.columns]:
        return False
    if any(c.type not in FLOAT_TYPES for c in differing):
        return False
    ctx.results.require_intact(record)
    statement = rounding_select(
        [c.name for c in differing],
        select_file_sql(computed, record.dimensions),
        ctx.results.select_sql(record),
    )
    relation = ctx.sealed_relation(record, "", {})  # its files may be in an object store
    [[is_close]] = ctx.engine.query(statement, ctx.scope.current, relation)
    return bool(is_close)


def _changed_error(record: TableRecord) -> NotRecomputable:
    return NotRecomputable(
        f"The inputs or the definition of {record.recipe!r} version {record.version} have changed "
        "since it was computed; its rows cannot be computed again for comparison.",
        hint=f"Run ws.recompute({record.recipe!r}), and verify the new version.",
    )
