"""The producer `row_map`: what a function returns for each row of a table. Rows whose inputs are
those of a row of an earlier version take its outputs over."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from jammi_lab.catalog.catalog import Catalog
from jammi_lab.core.definitions import RowMapDescriptor, decode_param, encode_param, merge_params
from jammi_lab.core.errors import InvalidArgument, NotRecomputable, SqlError
from jammi_lab.core.identifiers import fold, near_names
from jammi_lab.core.manifest import Manifest
from jammi_lab.core.recipes import parse_descriptor
from jammi_lab.core.records import TableKind
from jammi_lab.core.tenancy import TenantScope
from jammi_lab.engine.engine import Engine
from jammi_lab.engine.name_resolution import NameResolver
from jammi_lab.engine.prepared_statement import PreparedStatement
from jammi_lab.engine.sql import credential_check
from jammi_lab.features.rows.row_calls import RowCalls
from jammi_lab.features.rows.row_map_work import RowMapWork
from jammi_lab.features.rows.row_outputs import INPUT_DIGEST_COLUMN, RowOutputs
from jammi_lab.inputs.row_input import parse_type, schema_of
from jammi_lab.sources.scratch_duckdb import sql_types
from jammi_lab.steps.executor import Executor
from jammi_lab.steps.from_clause import from_text
from jammi_lab.steps.jobs import Job
from jammi_lab.steps.row_wise import ERROR_COLUMN, RowWise
from jammi_lab.steps.sql import environment as sql_environment
from jammi_lab.steps.step_functions import StepFunction, StepFunctions, check_call, required_digest
from jammi_lab.steps.text_statement import (
    check_text_columns,
    column_positions,
    missing_column_error,
    text_statement,
)
from jammi_lab.store.result_files import ResultFiles

OUTPUT_VERSION = 1
"""Increment when equal outputs of a function would give other rows than before, or equal inputs
another digest."""


@dataclass(frozen=True)
class RowMapSettings:
    """How the function of a row map is called."""

    schema: Any = None
    params: Mapping[str, Any] | None = None
    version: str | None = None
    batch: int = 1
    concurrency: int = 1
    on_error: str = "raise"
    cost: float | None = None

    def check(self) -> None:
        """Raise InvalidArgument for a value that is not possible."""
        for name, count in (("batch", self.batch), ("concurrency", self.concurrency)):
            if not isinstance(count, int) or isinstance(count, bool) or count < 1:
                raise InvalidArgument(f"{name} must be an integer of at least 1, got {count!r}.")
        if self.on_error not in ("raise", "record"):
            raise InvalidArgument(
                f'on_error must be "raise" or "record", got {self.on_error!r}.',
                near=near_names(str(self.on_error), ["raise", "record"]),
            )
        if self.cost is not None and (
            not isinstance(self.cost, int | float)
            or isinstance(self.cost, bool)
            or not 0 <= self.cost < float("inf")
        ):
            raise InvalidArgument(
                f"cost must be the cost of one call, a number of at least 0, got {self.cost!r}."
            )


class RowMapProducer:
    """Binds functions to the rows of a table."""

    def __init__(
        self,
        engine: Engine,
        scope: TenantScope,
        catalog: Catalog,
        results: ResultFiles,
        functions: StepFunctions,
        executor: Executor,
    ) -> None:
        self._engine, self._scope, self._functions = engine, scope, functions
        self._executor = executor
        self._catalog, self._results = catalog, results

    def job(
        self,
        name: str,
        step: StepFunction,
        over: str,
        key: str,
        inputs: Sequence[str],
        settings: RowMapSettings,
        resolvers: Sequence[NameResolver] = (),
        *,
        ignore_previous: bool = False,
    ) -> Job:
        """The job of a function over the rows of a source, table or SQL statement, for the recipe
        `name`. `ignore_previous` takes no outputs of an earlier version over.

        Raises InvalidArgument when the function cannot be called with these inputs, or cannot be
        fingerprinted and has no version; StatementNotAllowed when a recorded text contains a
        password; NameInvalid, SchemaMismatch, TableNotFound and what binding SQL raises.
        """
        check_text_columns(key, inputs, "a row map", "input", "inputs")
        settings.check()
        params = merge_params(settings.params)
        for param, value in params.items():
            credential_check.check_text(f"The value of {param!r}", value)
        encoded = {param: encode_param(value) for param, value in sorted(params.items())}
        _check_function(step, inputs, encoded, batched=settings.batch > 1)
        credential_check.check_step(name, step.source)
        credential_check.check_text(f"The version of the row map {name!r}", settings.version)
        statement, prepared = self._prepare_rows(over, key, inputs, resolvers)
        descriptor = RowMapDescriptor(
            statement=statement,
            canonical=prepared.canonical(),
            asked=over,
            key=key,
            inputs=list(inputs),
            function=step.qualified_name,
            source=step.source,
            version=settings.version,
            digest=fold(name) if settings.version is not None else required_digest(step),
            params=encoded,
            schema=_encoded_schema(settings.schema, key),
            # A function of one row called with a table would be another function; how many rows,
            # and how many calls at a time, changes no output.
            batched=settings.batch > 1,
            on_error=settings.on_error,
            batch=settings.batch,
            concurrency=settings.concurrency,
            cost=settings.cost,
        )
        self._functions.give(step)
        return self._bind(
            name, step, descriptor, prepared, resolvers, ignore_previous=ignore_previous
        )

    def _prepare_rows(
        self, over: str, key: str, inputs: Sequence[str], resolvers: Sequence[NameResolver]
    ) -> tuple[str, PreparedStatement]:
        """The statement that reads the rows to map, as text and prepared. Raises as `job`."""
        tenant = self._scope.current
        from_sql = from_text(self._engine, tenant, over, resolvers, purpose="to map")
        statement = text_statement(from_sql, key, inputs, None)
        try:
            return statement, self._prepare(statement, resolvers)
        except SqlError as error:
            raise (
                missing_column_error(self._engine, tenant, over, from_sql, key, inputs, resolvers)
                or error
            ) from None

    def from_descriptor(
        self, name: str, descriptor: RowMapDescriptor, resolvers: Sequence[NameResolver] = ()
    ) -> Job:
        """The job of a recorded definition over the current inputs. Raises NotRecomputable when the
        function is not in this kernel."""
        step = self._functions.find(descriptor, import_module=True)
        if isinstance(step, str):
            raise NotRecomputable(
                f"The row map {name!r} cannot be run: {step}.",
                hint=f"Define its function and call ws.map({name!r}, …) again; if nothing changed, "
                "its table is reused.",
            )
        digest = descriptor.digest if descriptor.version is not None else required_digest(step)
        current = {**descriptor.to_dict(), "digest": digest, "source": step.source}
        prepared = self._prepare(descriptor.statement, resolvers)
        return self._bind(name, step, _parse(current), prepared, resolvers)

    def environment(self) -> dict[str, Any]:
        """Everything besides the descriptor that shapes the rows."""
        return {"revision": OUTPUT_VERSION, "select": sql_environment(self._engine)}

    def _bind(
        self,
        name: str,
        step: StepFunction,
        descriptor: RowMapDescriptor,
        prepared: PreparedStatement,
        resolvers: Sequence[NameResolver],
        *,
        ignore_previous: bool = False,
    ) -> Job:
        current = {**descriptor.to_dict(), "canonical": prepared.canonical().to_dict()}
        descriptor = _parse(current)
        self._functions.remember(descriptor, step)
        rows = RowWise(
            self._catalog,
            self._results,
            name,
            TableKind.ROW_MAP,
            descriptor,
            self.environment(),
            prepared,
            column_positions(prepared, descriptor.key, descriptor.inputs),
            prepared.output[0][0],
            lambda: self._work(name, step, descriptor, prepared.output[0][0]),
            _is_reusable(descriptor),
            ignore_known=ignore_previous,
        )
        return rows.job(
            rebind=lambda: self._bind(
                name,
                step,
                descriptor,
                self._prepare(descriptor.statement, resolvers),
                resolvers,
                ignore_previous=ignore_previous,
            ),
            key=[rows.key_column],
            columns=_output_columns(descriptor, prepared),
            estimate=lambda: rows.estimate(descriptor.cost),
        )

    def _prepare(self, statement: str, resolvers: Sequence[NameResolver]) -> PreparedStatement:
        [prepared] = self._engine.prepare(
            statement, tenant=self._scope.current, extra_resolvers=resolvers
        )
        return prepared

    def _work(
        self, name: str, step: StepFunction, descriptor: RowMapDescriptor, key: str
    ) -> RowMapWork:
        params = {param: decode_param(value) for param, value in descriptor.params.items()}
        schema = descriptor.schema
        return RowMapWork(
            RowCalls(
                name,
                step,
                descriptor.inputs,
                params,
                descriptor.batched,
                descriptor.batch,
                descriptor.concurrency,
            ),
            RowOutputs(
                name,
                key,
                None if schema is None else pa.schema([(n, parse_type(t)) for n, t in schema]),
            ),
            self._executor,
            record_errors=descriptor.on_error == "record",
        )


def _is_reusable(descriptor: RowMapDescriptor) -> Callable[[Manifest], bool]:
    """Whether the outputs of a version can be taken over."""
    # Rows are found again by the digest of their inputs, not by key: one that moved to another key
    # or occurs twice is not asked. So another filter, source or key over equal inputs asks nothing.
    identity = descriptor.calls_identity()

    def is_reusable(manifest: Manifest) -> bool:
        recorded = parse_descriptor(manifest.descriptor)
        return (
            isinstance(recorded, RowMapDescriptor)
            and recorded.calls_identity() == identity
            and manifest.environment.get("revision") == OUTPUT_VERSION
        )

    return is_reusable


def _parse(plain: Mapping[str, Any]) -> RowMapDescriptor:
    descriptor = parse_descriptor(plain)
    assert isinstance(descriptor, RowMapDescriptor), "the tag is its own"
    return descriptor


def _output_columns(
    descriptor: RowMapDescriptor, prepared: PreparedStatement
) -> dict[str, str] | None:
    """The names and SQL types of the rows; None when they follow from the first batch."""
    if descriptor.schema is None:
        return None
    outputs = sql_types(pa.schema([(name, parse_type(kind)) for name, kind in descriptor.schema]))
    errors = {ERROR_COLUMN: "VARCHAR"} if descriptor.on_error == "record" else {}
    return {**dict(prepared.output[:1]), **outputs, **errors, INPUT_DIGEST_COLUMN: "BLOB"}


def _encoded_schema(schema: Any, key: str) -> list[tuple[str, str]] | None:
    """Names and Arrow types of the outputs. Raises as `schema_of`."""
    if schema is None:
        return None
    reserved = (key, ERROR_COLUMN, INPUT_DIGEST_COLUMN)
    return [(field.name, str(field.type)) for field in schema_of(schema, reserved=reserved)]


def _check_function(
    step: StepFunction, inputs: Sequence[str], params: Mapping[str, Any], *, batched: bool
) -> None:
    """Raise InvalidArgument when the function cannot be called with these inputs."""
    if twice := sorted({*params} & {*inputs} - ({*inputs} if batched else set())):
        raise InvalidArgument(
            f"{twice[0]!r} is both an input column and a name in params.", hint="Rename one."
        )
    hint = (
        "With batch above 1 it receives an Arrow table of the inputs, and params= as keyword "
        "arguments."
        if batched
        else "It receives the inputs of a row, and params=, as keyword arguments."
    )
    keywords = list(params) if batched else [*inputs, *params]
    check_call(step.function, int(batched), keywords, hint)
