"""The producer `python`: a function over inputs. Its definition is the digest of the function, or a
version that the caller gives."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import pyarrow as pa

from jammi_lab.core.anchors import Input, InputKind
from jammi_lab.core.definitions import PythonDescriptor, StepInput, decode_param, encode_param
from jammi_lab.core.errors import InvalidArgument, JammiError, NotRecomputable
from jammi_lab.core.identifiers import fold, quote_identifier
from jammi_lab.core.records import OnProgress, Progress, TableKind
from jammi_lab.core.tenancy import TenantScope
from jammi_lab.engine.engine import Engine
from jammi_lab.engine.name_resolution import NameResolver
from jammi_lab.engine.prepared_statement import PreparedStatement
from jammi_lab.engine.sql import credential_check
from jammi_lab.producers.from_clause import from_text
from jammi_lab.producers.jobs import BoundInput, Job, RowStream, RunningJob
from jammi_lab.producers.key_check import key_columns
from jammi_lab.producers.step_functions import (
    StepFunction,
    StepFunctions,
    check_call,
    is_async,
    required_digest,
    step_failure,
)
from jammi_lab.producers.step_output import to_table
from jammi_lab.sources.base import ReadPlan, Relation
from jammi_lab.sources.scratch_duckdb import sql_types

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
        for name_or_input, value in params.items():
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
        return self._bind(name, step, references, encoded, version, list(key), resolvers)

    def from_descriptor(
        self, name: str, descriptor: PythonDescriptor, resolvers: Sequence[NameResolver] = ()
    ) -> Job:
        """The job of a recorded definition over the current inputs. Raises NotRecomputable when the
        function is not in this kernel."""
        step = self._functions.adopt(descriptor)
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
            kind=TableKind.PYTHON,
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
