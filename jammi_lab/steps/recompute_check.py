"""Verification by recomputation: a statement is computed again in full, and the bytes are compared
with those of a published table."""

import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa

from jammi_lab.core.errors import NotRecomputable
from jammi_lab.core.records import TableRecord
from jammi_lab.core.verdicts import ROUNDING_RATIO, Match, Mismatch
from jammi_lab.steps.anchor_confirmation import (
    InputChanged,
    bind_after_observing,
    confirm_anchors,
    same_anchors,
)
from jammi_lab.steps.build import ProducerContext
from jammi_lab.steps.registry import Producers
from jammi_lab.storage.digests import sha256_file
from jammi_lab.storage.files import StoragePath, open_for_reading
from jammi_lab.storage.parquet import ParquetSink, open_parquet
from jammi_lab.store import manifests


def verify_by_recomputation(
    ctx: ProducerContext, producers: Producers, record: TableRecord
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
    job = producers.job(record.recipe, manifest.descriptor)
    job, state = bind_after_observing(ctx.observe, ctx.scope.current, job)
    if job.definition != record.definition_hash or not same_anchors(state.anchors, record.anchors):
        raise _changed_error(record)
    running = job.start(None)
    try:
        with tempfile.TemporaryDirectory(prefix="jammi-verify-") as folder:
            sink = ParquetSink(Path(folder) / "full.parquet", running.rows.schema)
            try:
                for batch in running.rows.batches():
                    sink.write(batch)
                sink.close()
                digest = sha256_file(sink.path)
                is_rounded = digest != record.digest and _differs_by_rounding(
                    ctx.results.require_intact(record), sink.path
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


def _differs_by_rounding(stored: StoragePath, computed: Path) -> bool:
    """Whether two files differ in floating-point columns only, by `ROUNDING_RATIO` at most."""
    with open_for_reading(stored) as left_file, computed.open("rb") as right_file:
        left, right = open_parquet(left_file), open_parquet(right_file)
        if not left.schema_arrow.equals(right.schema_arrow):
            return False
        if left.num_row_groups != right.num_row_groups:
            return False
        return all(
            _are_close(left.read_row_group(group), right.read_row_group(group))
            for group in range(left.num_row_groups)
        )


def _are_close(left: pa.Table, right: pa.Table) -> bool:
    if left.num_rows != right.num_rows:
        return False
    for one, other in zip(left.columns, right.columns, strict=True):
        if not pa.types.is_floating(one.type):
            if not one.equals(other):
                return False
            continue
        if not one.is_null().equals(other.is_null()):
            return False
        numbers = one.to_numpy(), other.to_numpy()
        if not np.allclose(*numbers, rtol=ROUNDING_RATIO, atol=0.0, equal_nan=True):
            return False
        of_zeros = [np.signbit(column[column == 0]) for column in numbers]
        if not np.array_equal(*of_zeros):
            return False
    return True


def _changed_error(record: TableRecord) -> NotRecomputable:
    return NotRecomputable(
        f"The inputs or the definition of {record.recipe!r} version {record.version} have changed "
        "since it was computed; its rows cannot be computed again for comparison.",
        hint=f"Run ws.recompute({record.recipe!r}), and verify the new version.",
    )
