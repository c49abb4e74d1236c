"""The recipe of a row map: what a function returns for each row of a table."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from jammi_lab.core.canonical_json import digest_of
from jammi_lab.core.definitions import CanonicalStatement
from jammi_lab.core.errors import InvalidArgument, NotRecomputable
from jammi_lab.core.identifiers import check_choice, check_count, fold, list_of_names
from jammi_lab.core.manifest import Manifest
from jammi_lab.core.recipes import AS_WRITTEN, NAMES, Stored, is_number, parse_descriptor
from jammi_lab.steps.recipe import BindContext
from jammi_lab.steps.row_recipe import RowRecipe
from jammi_lab.steps.step_functions import (
    FunctionRecipe,
    StepFunction,
    StepFunctions,
    check_call,
)

if TYPE_CHECKING:
    import pyarrow as pa

    from jammi_lab.engine.prepared_statement import PreparedStatement
    from jammi_lab.features.rows.row_map_work import RowMapWork
    from jammi_lab.steps.jobs import Job


@dataclass(frozen=True)
class RowMap(FunctionRecipe, RowRecipe):
    """What a Python function returns for each row of a source, table or SQL."""

    kind = "row_map"
    VERB = "ws.map"
    stored_as = {
        **RowRecipe.stored_statement,
        **FunctionRecipe.stored_function,
        "over": Stored("asked", hashed=False),
        "inputs": NAMES,
        "schema": Stored(type=list[tuple[str, str]] | None),
        "batch": AS_WRITTEN,
        "concurrency": AS_WRITTEN,
        "cost": AS_WRITTEN,
        "_batched": Stored("batched"),
    }

    function: Callable[..., Any] | StepFunction | str
    """Takes the values of a row as keywords, or with `batch` above 1 an Arrow table of rows;
    returns a dict or one value, for a table a frame of as many rows. May be a coroutine
    function."""
    over: str
    """The source, table or SQL."""
    _: KW_ONLY
    key: str
    """The column that identifies a row."""
    inputs: str | Sequence[str]
    """The columns that the function receives."""
    schema: "pa.Schema | Mapping[str, Any] | None" = None
    """The outputs, as columns and types; from the values when None."""
    params: Mapping[str, Any] | None = None
    """Further keyword arguments of the function."""
    version: str | None = None
    """The definition; that of the function's source when None."""
    batch: int = 1
    """Rows of one call at most; no part of the definition beyond 1."""
    concurrency: int = 1
    """Calls at a time; no part of the definition."""
    on_error: Literal["raise", "record"] = "raise"
    """Whether an exception of the function ends the run, or goes to the column `_error`."""
    cost: float | None = None
    """The cost of one call, for plans; no part of the definition."""
    _source: str = field(default="", init=False)
    _digest: str = field(default="", init=False)
    _statement: str = field(default="", init=False)
    _canonical: CanonicalStatement | None = field(default=None, init=False)
    _batched: bool = field(default=False, init=False)
    """Whether the function receives an Arrow table. A function of one row called with a table would
    be another function; how many rows, and how many calls at a time, changes no output."""

    def bind(self, ctx: BindContext) -> "Job":
        """Raises InvalidArgument when the function cannot be called with these inputs, or cannot be
        fingerprinted and has no version; StatementNotAllowed when a recorded text contains a
        password; NotRecomputable when a recorded function is not in this kernel; NameInvalid,
        SchemaMismatch, TableNotFound and what binding SQL raises."""
        from jammi_lab.steps.text_statement import check_text_columns

        self._check_settings()
        written = self.with_values(inputs=self.input_columns(), _batched=self.batch > 1)
        check_text_columns(self.key, written.input_columns(), "a row map", "input", "inputs")
        called = written.with_function(ctx)
        if not self._statement:
            called = called.with_values(schema=_encode_schema(self.schema, self.key))
        recipe, prepared = called.with_statement(ctx, self.over, None, "to map")
        ctx.part(StepFunctions).remember(recipe)
        key_column = prepared.output[0][0]
        rows = recipe.row_wise(
            ctx,
            prepared,
            key_column,
            lambda: recipe._work(ctx, key_column),
            recipe._is_reusable,
        )
        return ctx.job(
            recipe,
            [prepared],
            start=rows.start,
            key=[key_column],
            columns=recipe._output_columns(prepared),
            estimate=lambda: rows.estimate(recipe.cost),
        )

    def input_columns(self) -> Sequence[str]:
        """The columns that the function receives."""
        return list_of_names(self.inputs)

    def check_function(self, step: StepFunction) -> None:
        """Raise InvalidArgument when the function cannot be called with the inputs."""
        inputs, params = self.input_columns(), self.params or {}
        keywords = list(params)
        hint = (
            "With batch above 1 it receives an Arrow table of the inputs, and params= as keyword "
            "arguments."
        )
        if not self._batched:
            keywords = [*inputs, *params]
            hint = "It receives the inputs of a row, and params=, as keyword arguments."
            if twice := sorted({*params} & {*inputs}):
                raise InvalidArgument(
                    f"{twice[0]!r} is both an input column and a name in params.",
                    hint="Rename one.",
                )
        check_call(step.function, int(self._batched), keywords, hint)

    def missing_function_error(self, name: str, reason: str) -> NotRecomputable:
        """The error for a recorded function that is not in this kernel."""
        return NotRecomputable(
            f"The row map {name!r} cannot be run: {reason}.",
            hint=f"Define its function and call ws.map({name!r}, …) again; if nothing changed, "
            "its table is reused.",
        )

    def _check_settings(self) -> None:
        """Raise InvalidArgument for a setting that is not possible."""
        for name in ("batch", "concurrency"):
            check_count(name, getattr(self, name), 1)
        check_choice("on_error", self.on_error, ("raise", "record"))
        if self.cost is not None and (not is_number(self.cost) or self.cost < 0):
            raise InvalidArgument(
                f"cost must be the cost of one call, a number of at least 0, got {self.cost!r}."
            )

    def _work(self, ctx: BindContext, key_column: str) -> "RowMapWork":
        """What a run of the bound recipe computes."""
        from jammi_lab.features.rows.row_calls import RowCalls
        from jammi_lab.features.rows.row_map_work import RowMapWork
        from jammi_lab.features.rows.row_outputs import RowOutputs
        from jammi_lab.steps.executor import Executor

        assert isinstance(self.function, StepFunction), "it is bound"
        calls = RowCalls(
            ctx.name,
            self.function,
            self.input_columns(),
            self.params or {},
            self._batched,
            self.batch,
            self.concurrency,
        )
        return RowMapWork(
            calls,
            RowOutputs(ctx.name, key_column, _parse_schema(self.schema)),
            ctx.part(Executor),  # type: ignore[type-abstract]
            record_errors=self.on_error == "record",
        )

    def _is_reusable(self, manifest: Manifest) -> bool:
        """Whether the outputs of a version can be taken over. Rows are found again by the digest of
        their inputs, not by key: one that moved to another key or occurs twice is not asked. So
        another filter, source or key over equal inputs asks nothing."""
        recorded = parse_descriptor(manifest.descriptor)
        return (
            isinstance(recorded, RowMap)
            and recorded._calls_identity() == self._calls_identity()
            and manifest.environment.get("revision") == self.revision
        )

    def _calls_identity(self) -> str:
        """Digest of what defines the outputs of a row besides its inputs: two definitions with an
        equal one give equal outputs for equal inputs."""
        assert self._canonical is not None, "it is bound"
        names = {fold(column) for column in self.input_columns()}
        types = [pair for pair in self._canonical.output if fold(pair[0]) in names]
        return digest_of({**self.identity(), "canonical": types, "key": None, "on_error": None})

    def _output_columns(self, prepared: "PreparedStatement") -> dict[str, str] | None:
        """The names and SQL types of the rows; None when they follow from the first batch."""
        from jammi_lab.features.rows.row_outputs import INPUT_DIGEST_COLUMN
        from jammi_lab.sources.scratch_duckdb import sql_types
        from jammi_lab.steps.row_wise import ERROR_COLUMN

        schema = _parse_schema(self.schema)
        if schema is None:
            return None
        errors = {ERROR_COLUMN: "VARCHAR"} if self.on_error == "record" else {}
        key = dict(prepared.output[:1])
        return {**key, **sql_types(schema), **errors, INPUT_DIGEST_COLUMN: "BLOB"}


def _encode_schema(schema: Any, key: str) -> list[tuple[str, str]] | None:
    """Names and SQL types of the outputs. Raises as `schema_of`."""
    from jammi_lab.features.rows.row_outputs import INPUT_DIGEST_COLUMN
    from jammi_lab.inputs.row_input import schema_of
    from jammi_lab.sources.scratch_duckdb import sql_types
    from jammi_lab.steps.row_wise import ERROR_COLUMN

    if schema is None:
        return None
    reserved = (key, ERROR_COLUMN, INPUT_DIGEST_COLUMN)
    return [*sql_types(schema_of(schema, reserved=reserved)).items()]


def _parse_schema(encoded: Any) -> "pa.Schema | None":
    """The outputs of a bound recipe."""
    import pyarrow as pa

    from jammi_lab.sources.scratch_duckdb import arrow_type

    if encoded is None:
        return None
    return pa.schema([(name, arrow_type(kind)) for name, kind in encoded])
