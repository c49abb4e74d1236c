"""The producer `python`: a function over inputs. Its definition is the digest of the function, or a
version that the caller gives. What it returns becomes one Arrow table: a frame, a list of dicts, or
an iterator of these, which is spooled to a temporary file."""

import mmap
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import pyarrow as pa

from jammi_lab.core.anchors import Input, InputKind
from jammi_lab.core.definitions import (
    PythonDescriptor,
    StepInput,
    decode_param,
    encode_param,
    merge_params,
)
from jammi_lab.core.errors import (
    InvalidArgument,
    JammiError,
    NotRecomputable,
    ResourceExhausted,
    SchemaMismatch,
)
from jammi_lab.core.identifiers import fold, quote_identifier
from jammi_lab.core.records import OnProgress, Progress
from jammi_lab.core.tenancy import TenantScope
from jammi_lab.engine.engine import Engine
from jammi_lab.engine.name_resolution import NameResolver
from jammi_lab.engine.prepared_statement import PreparedStatement
from jammi_lab.engine.sql import credential_check
from jammi_lab.sources.base import ReadPlan, Relation
from jammi_lab.sources.frames import as_arrow, is_frame
from jammi_lab.sources.scratch_duckdb import sql_types
from jammi_lab.steps.from_clause import from_text
from jammi_lab.steps.jobs import BoundInput, Job, RowStream, RunningJob
from jammi_lab.steps.key_check import key_columns
from jammi_lab.steps.step_functions import (
    StepFunction,
    StepFunctions,
    check_call,
    is_async,
    required_digest,
    step_failure,
)
from jammi_lab.storage.arrow_values import cast_losslessly, to_arrow_array

OUTPUT_VERSION = 1
"""Increment when equal functions over equal inputs would give other rows than before: how rows are
ordered, how frames become tables."""


def environment() -> dict[str, Any]:
    """Everything besides the descriptor that shapes the rows: how they are ordered and stored."""
    return {"revision": OUTPUT_VERSION}


class OpenInput(Protocol):
    """One input as the function receives it."""

    def close(self) -> None:
        """Release the input."""
        ...


class StepRows:
    """A name provider for the rows of a step, under a name that no user table has."""

    NAME = "__jammi_made"

    def __init__(self, rows: pa.Table) -> None:
        self._relation = Relation(
            Input(kind=InputKind.FRAME, name=self.NAME),
            ReadPlan(frame=rows),
            columns=sql_types(rows.schema),
        )

    def resolve(self, parts: tuple[str, ...]) -> Relation | None:
        """The relation of the rows, when `parts` is their name."""
        return self._relation if parts == (self.NAME,) else None

    def names(self) -> list[str]:
        """Empty, so that the name is never suggested."""
        return []


class PythonProducer:
    """Binds functions to their inputs."""

    def __init__(self, engine: Engine, scope: TenantScope, functions: StepFunctions) -> None:
        self._engine, self._scope, self._functions = engine, scope, functions
        self.open_input: Callable[[PreparedStatement], OpenInput] | None = None
        """Opens a bound input as the object that the function receives; set by the workspace."""

    def job(
        self,
        name: str,
        step: StepFunction,
        inputs: Sequence[str],
        params: Mapping[str, Any],
        version: str | None,
        key: Sequence[str] = (),
        resolvers: Sequence[NameResolver] = (),
    ) -> Job:
        """The job of a function over its inputs, for the recipe `name`.

        Raises InvalidArgument when the function cannot be called with these arguments, or cannot be
        fingerprinted and has no version; StatementNotAllowed when a recorded text contains a
        password; TableNotFound and what binding SQL raises.
        """
        for name_or_input, value in merge_params(params).items():
            credential_check.check_text(f"The value of {name_or_input!r}", value)
        encoded = {n: encode_param(v) for n, v in sorted(params.items())}
        if is_async(step.function):
            raise InvalidArgument("A Python step must not be an async function.")
        check_call(
            step.function,
            len(inputs),
            list(encoded),
            "It receives one Result per input, in the order of inputs=, and params= as keyword "
            "arguments.",
        )
        references = [
            (
                name_or_input,
                (
                    "SELECT * FROM "
                    f"{from_text(self._engine, self._scope.current, name_or_input, resolvers)}"
                ),
            )
            for name_or_input in inputs
        ]
        self._functions.give(step)
        return self._bind(name, step, references, encoded, version, list(key), resolvers)

    def from_descriptor(
        self, name: str, descriptor: PythonDescriptor, resolvers: Sequence[NameResolver] = ()
    ) -> Job:
        """The job of a recorded definition over the current inputs. Raises NotRecomputable when the
        function is not in this kernel."""
        step = self._functions.find(descriptor, import_module=True)
        if isinstance(step, str):
            raise NotRecomputable(
                f"The Python step {name!r} cannot be run: {step}.", hint=_rerun_hint(name)
            )
        references = [recorded.reference for recorded in descriptor.inputs]
        return self._bind(
            name, step, references, descriptor.params, descriptor.version, descriptor.key, resolvers
        )

    def current_inputs(
        self, descriptor: PythonDescriptor, resolvers: Sequence[NameResolver] = ()
    ) -> tuple[list[BoundInput], bool]:
        """The inputs of a recorded definition with the columns read today, and whether their
        statements still mean the same. Does not need the function. Raises what binding raises."""
        prepared = [self._prepare(i.statement, resolvers) for i in descriptor.inputs]
        return _merged_inputs(prepared), all(
            p.canonical() == i.canonical for p, i in zip(prepared, descriptor.inputs, strict=True)
        )

    def _bind(
        self,
        name: str,
        step: StepFunction,
        references: Sequence[tuple[str, str]],
        params: dict[str, Any],
        version: str | None,
        key: list[str],
        resolvers: Sequence[NameResolver],
    ) -> Job:
        source = step.source
        credential_check.check_step(name, source)
        credential_check.check_text(f"The version of the Python step {name!r}", version)
        prepared = [self._prepare(statement, resolvers) for _, statement in references]
        descriptor = PythonDescriptor(
            function=step.qualified_name,
            source=source,
            version=version,
            digest=fold(name) if version is not None else required_digest(step),
            inputs=[
                StepInput(reference, statement, p.canonical())
                for (reference, statement), p in zip(references, prepared, strict=True)
            ],
            params=params,
            key=key,
        )
        self._functions.remember(descriptor, step)

        def rows(on_progress: OnProgress | None) -> RunningJob:
            if on_progress:
                on_progress(Progress(stage=f"compute {name}", done=0, total=None, unit="rows"))
            return RunningJob(
                self._sorted_rows(self._call_function(name, step, prepared, params), key)
            )

        return Job(
            descriptor=descriptor,
            environment=environment(),
            inputs=_merged_inputs(prepared),
            start=rows,
            rebind=lambda: self._bind(name, step, references, params, version, key, resolvers),
            key=key,
            volatile=sorted({v for p in prepared for v in p.volatile}),
            reads_date=any(p.reads_clock for p in prepared),
            # a function may depend on the order of its input rows in any way
            order_sensitive=bool(prepared),
        )

    def _prepare(self, statement: str, resolvers: Sequence[NameResolver]) -> PreparedStatement:
        [prepared] = self._engine.prepare(
            statement, tenant=self._scope.current, extra_resolvers=resolvers
        )
        return prepared

    def _call_function(
        self,
        name: str,
        step: StepFunction,
        prepared: Sequence[PreparedStatement],
        params: Mapping[str, Any],
    ) -> pa.Table:
        """Call the function and return its rows. Raises StepFailed, with the function's own
        exception as the cause, and SchemaMismatch when it returns no rows."""
        assert self.open_input is not None, "set by the workspace"
        inputs: list[OpenInput] = []

        def call_step(call: Callable[[], Any]) -> Any:
            try:
                return call()
            except JammiError:  # an unreadable input has an error of its own
                raise
            except Exception as error:
                raise step_failure(name, step, error) from error

        try:
            for statement in prepared:
                # not a comprehension: the inputs opened so far are closed when one fails
                inputs.append(self.open_input(statement))  # noqa: PERF401
            arguments = {n: decode_param(v) for n, v in params.items()}
            return to_table(call_step(lambda: step.function(*inputs, **arguments)), name, call_step)
        finally:
            for open_input in inputs:
                open_input.close()

    def _sorted_rows(self, table: pa.Table, key: Sequence[str]) -> RowStream:
        """The rows in total order: by the key, then by all other columns."""
        key_names = key_columns(table.schema.names, key)
        order = ", ".join(map(quote_identifier, key_names)) if key_names else "1"
        [prepared] = self._engine.prepare(
            f"SELECT * FROM {StepRows.NAME} ORDER BY {order}",
            tenant=self._scope.current,
            extra_resolvers=[StepRows(table)],
        )
        return prepared.run_ordered(key_names)


def _merged_inputs(prepared: Sequence[PreparedStatement]) -> list[BoundInput]:
    """The bound inputs, each once with the union of its columns."""
    merged: dict[tuple[str, str, str], BoundInput] = {}
    for bound_input in (b for p in prepared for b in p.inputs):
        existing = merged.get(bound_input.relation.input.identity)
        columns = {*bound_input.columns, *(existing.columns if existing else ())}
        merged[bound_input.relation.input.identity] = BoundInput(
            existing.relation if existing else bound_input.relation, tuple(sorted(columns))
        )
    return list(merged.values())


def _rerun_hint(name: str) -> str:
    return (
        f"Define it and call ws.compute({name!r}, …) again; if nothing changed, its table is "
        "reused."
    )


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
        table = _spool_batches(iter(value), step, call_step)
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
            reason = str(error).splitlines()[0][:160] if str(error) else type(error).__name__
            sentence = (
                f"The Python step {step!r} returned values in {str(name)!r} that have no common "
                f"SQL type ({reason})."
            )
            raise SchemaMismatch(
                sentence, table=step, column=str(name), hint="Convert them to one type."
            ) from None
    return _to_batch(pa.table(columns, names=[str(n) for n in names]), step)


def _spool_batches(
    parts: Iterator[Any], step: str, call_step: Callable[[Callable[[], Any]], Any]
) -> pa.Table:
    """Write all batches to an unnamed temporary file and map it, so that they do not have to fit in
    memory. All must have the columns and types of the first."""
    end = object()
    with tempfile.TemporaryFile(prefix="jammi-") as file:
        first = call_step(lambda: next(parts, end))
        if first is end:
            raise SchemaMismatch(
                f"The Python step {step!r} yielded no batch.",
                table=step,
                hint="Yield an empty frame: it has columns even without rows.",
            )
        batch = _to_batch(first, step)
        schema = batch.schema
        with _translate_disk_errors(step), pa.ipc.new_file(file, schema) as sink:
            while True:
                sink.write_table(_cast_batch(batch, schema, step))
                next_batch = call_step(lambda: next(parts, end))
                if next_batch is end:
                    break
                batch = _to_batch(next_batch, step)
        with _translate_disk_errors(step):
            file.flush()
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    return pa.ipc.open_file(pa.BufferReader(pa.py_buffer(mapped))).read_all()


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
                reason = f" ({field.name!r}: {str(error).splitlines()[0][:160]})"
    if len(columns) == len(schema):
        return pa.table(columns, schema=schema)
    raise SchemaMismatch(
        f"The batches of the Python step {step!r} do not all have the same schema{reason}.",
        table=step,
        expected=", ".join(f"{f.name} {f.type}" for f in schema),
        actual=", ".join(f"{f.name} {f.type}" for f in batch.schema),
        hint="Give every batch the columns and types of the first.",
    )


class _translate_disk_errors:  # noqa: N801  used like a function in `with`
    """A context that reports disk errors as ResourceExhausted."""

    def __init__(self, step: str) -> None:
        self._step = step

    def __enter__(self) -> None:
        """Do nothing."""

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if isinstance(error, OSError) and not isinstance(error, JammiError):
            reason = error.strerror or type(error).__name__
            raise ResourceExhausted(
                f"The batches of the Python step {self._step!r} did not fit into the "
                f"temporary folder: {reason}.",
                hint="Free some disk space.",
            ) from error


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
