"""What a Python step returned, as one Arrow table: a frame, a list of dicts, or an iterator of
these, which is spooled to a temporary file."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pyarrow as pa

from jammi_lab.core.anchors import frame_input
from jammi_lab.core.errors import (
    InvalidArgument,
    JammiError,
    ResourceExhausted,
    SchemaMismatch,
    first_line,
)
from jammi_lab.core.identifiers import fold, quote_identifier
from jammi_lab.core.records import OnProgress, Progress
from jammi_lab.engine.name_resolution import FixedNames
from jammi_lab.sources.base import ReadPlan, Relation
from jammi_lab.sources.frames import as_arrow, is_frame
from jammi_lab.sources.scratch_duckdb import sql_types
from jammi_lab.steps.jobs import RowStream, RunningJob, spool
from jammi_lab.steps.key_check import key_columns
from jammi_lab.steps.recipe import BindContext
from jammi_lab.steps.step_functions import StepFunction, step_failure
from jammi_lab.storage.arrow_values import cast_losslessly, to_arrow_array
from jammi_lab.store.storage_errors import reason_of, translate_storage_errors

_MADE = "__jammi_made"
"""The name of the rows of a step, in statements."""


def run_step(
    ctx: BindContext,
    step: StepFunction,
    call: Callable[[], Any],
    key: Sequence[str],
    on_progress: OnProgress | None,
) -> RunningJob:
    """Call a function and sort its rows. Raises StepFailed, with the function's own exception as
    the cause, and SchemaMismatch when it returns no rows."""

    def call_step(call: Callable[[], Any]) -> Any:
        try:
            return call()
        except JammiError:  # an unreadable input has an error of its own
            raise
        except Exception as error:
            raise step_failure(ctx.name, step, error) from error

    if on_progress:
        on_progress(Progress(stage=f"compute {ctx.name}", done=0, total=None, unit="rows"))
    table = to_table(call_step(call), ctx.name, call_step)
    return RunningJob(sorted_rows(ctx, table, key))


def sorted_rows(ctx: BindContext, table: pa.Table, key: Sequence[str]) -> RowStream:
    """The rows in total order: by the key, then by all other columns."""
    key_names = key_columns(table.schema.names, key)
    order = ", ".join(map(quote_identifier, key_names)) if key_names else "1"
    columns = sql_types(table.schema)
    relation = Relation(frame_input(_MADE), ReadPlan(frame=table), columns=columns)
    [prepared] = ctx.engine.prepare(
        f"SELECT * FROM {_MADE} ORDER BY {order}",
        tenant=ctx.scope.current,
        extra_resolvers=[FixedNames({_MADE: relation})],
    )
    return prepared.run_ordered(key_names)


_EXPECTED_OUTPUT = "a pandas, polars or pyarrow frame, a list of dicts, or an iterator of these"
_OUTPUT_HINT = "Return a pandas, polars or pyarrow frame, a list of dicts, or yield such batches."


def to_table(value: Any, step: str, call_step: Callable[[Callable[[], Any]], Any]) -> pa.Table:
    """The step's return value as a table.

    `call_step` calls the step's own code, for iterators that have yet to run. Raises SchemaMismatch
    when the value is not tabular."""
    if (
        isinstance(value, pa.RecordBatchReader)
        or (hasattr(value, "__next__") and not is_frame(value))
        or (isinstance(value, list | tuple) and value and all(is_frame(v) for v in value))
    ):
        with translate_storage_errors(step, _spill_error):
            table = spool(_batches(iter(value), step, call_step))
    else:
        table = _to_batch(value, step)
    by_folded_name: dict[str, str] = {}
    for name in table.schema.names:
        if (first_name := by_folded_name.setdefault(fold(name), name)) != name:
            raise SchemaMismatch(
                f"The Python step {step!r} returned the columns {first_name!r} and {name!r}, which "
                "are the same name in SQL.",
                table=step,
                column=name,
                expected="different names",
                actual=name,
                hint="Rename one.",
            )
    return table


def _to_batch(value: Any, step: str) -> pa.Table:
    """Convert a frame or a list of dicts to Arrow."""
    if isinstance(value, list) and all(isinstance(row, dict) for row in value):
        return _from_rows(value, step)
    try:
        return as_arrow(value)
    except InvalidArgument:
        kind = "None" if value is None else f"a value of type {type(value).__name__}"
        raise SchemaMismatch(
            f"The Python step {step!r} returned {kind}, not rows.",
            table=step,
            expected=_EXPECTED_OUTPUT,
            actual=type(value).__name__,
            hint=_OUTPUT_HINT,
        ) from None
    except SchemaMismatch as error:
        raise _step_error(error, step) from None


def _from_rows(rows: list[dict[Any, Any]], step: str) -> pa.Table:
    """Convert dicts to rows; a missing key becomes NULL."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    if not names:
        raise SchemaMismatch(
            f"The Python step {step!r} returned an empty list, which has no columns.",
            table=step,
            hint="Return an empty frame: it has columns even without rows.",
        )
    columns = []
    for name in names:
        try:
            columns.append(to_arrow_array([row.get(name) for row in rows]))
        except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
            reason = first_line(error)
            sentence = (
                f"The Python step {step!r} returned values in {str(name)!r} that have no common "
                f"SQL type ({reason})."
            )
            raise SchemaMismatch(
                sentence, table=step, column=str(name), hint="Convert them to one type."
            ) from None
    return _to_batch(pa.table(columns, names=[str(n) for n in names]), step)


def _batches(
    parts: Iterator[Any], step: str, call_step: Callable[[Callable[[], Any]], Any]
) -> Iterator[pa.Table]:
    """All batches, with the columns and types of the first. Raises SchemaMismatch without one."""
    end, schema = object(), None
    while (part := call_step(lambda: next(parts, end))) is not end:
        batch = _to_batch(part, step)
        schema = schema or batch.schema
        yield _cast_batch(batch, schema, step)
    if schema is None:
        raise SchemaMismatch(
            f"The Python step {step!r} yielded no batch.",
            table=step,
            hint="Yield an empty frame: it has columns even without rows.",
        )


def _cast_batch(batch: pa.Table, schema: pa.Schema, step: str) -> pa.Table:
    if batch.schema == schema:
        return batch
    reason = ""
    columns = []
    if sorted(batch.schema.names) == sorted(schema.names):
        for field in schema:
            try:
                columns.append(cast_losslessly(batch[field.name], field.type))
            except pa.ArrowException as error:
                reason = f" ({field.name!r}: {first_line(error)})"
    if len(columns) == len(schema):
        return pa.table(columns, schema=schema)
    raise SchemaMismatch(
        f"The batches of the Python step {step!r} do not all have the same schema{reason}.",
        table=step,
        expected=", ".join(f"{f.name} {f.type}" for f in schema),
        actual=", ".join(f"{f.name} {f.type}" for f in batch.schema),
        hint="Give every batch the columns and types of the first.",
    )


def _spill_error(error: OSError, step: str) -> ResourceExhausted:
    return ResourceExhausted(
        f"The batches of the Python step {step!r} did not fit into the temporary folder: "
        f"{reason_of(error)}.",
        hint="Free some disk space.",
    )


def _step_error(error: SchemaMismatch, step: str) -> SchemaMismatch:
    sentence = (
        f"The Python step {step!r} returned a frame that cannot be stored: "
        f"{error.message[:1].lower()}{error.message[1:]}"
    )
    return SchemaMismatch(
        sentence,
        table=step,
        column=error.column,
        expected=error.expected,
        actual=error.actual,
        hint=error.hint,
    )
