"""The producer `sql`: one SQL statement, run by the engine."""

import functools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from jammi_lab.core.anchors import Observed
from jammi_lab.core.definitions import CanonicalStatement, StepInput
from jammi_lab.core.errors import InvalidArgument, SchemaMismatch, StatementNotAllowed
from jammi_lab.core.identifiers import fold, list_of_names
from jammi_lab.core.recipes import NAMES, PARAMS, Stored
from jammi_lab.core.records import OnProgress, percent_callback
from jammi_lab.steps.recipe import BindContext, RunnableRecipe, statement_environment

if TYPE_CHECKING:
    from jammi_lab.engine.prepared_statement import PreparedStatement
    from jammi_lab.engine.sql.column_lineage import ColumnReads
    from jammi_lab.sources.base import InputRead
    from jammi_lab.steps.jobs import Job, RunningJob

_STORED_TYPES = {
    '"NULL"': "INTEGER",
    "HUGEINT": "DECIMAL(38,0)",
    "TIMESTAMP_S": "TIMESTAMP",
    "TIMESTAMP_MS": "TIMESTAMP",
}
"""The types that change in Parquet."""
_TYPE_FUNCTIONS = re.compile("typeof|get_type|can_cast_implicitly")
"""Functions whose value is a column's type. The plan does not show that they depend on it, so such
a statement counts as reading all columns."""


@dataclass(frozen=True)
class Sql(RunnableRecipe):
    """The rows of a SELECT statement."""

    kind = "sql"
    is_statement = True
    stored_as = {
        "text": Stored("statement", hashed=False),
        "params": PARAMS,
        "key": NAMES,
        "_canonical": Stored("canonical", CanonicalStatement),
        "_frames": Stored("frames", dict[str, str], hashed=False, optional=True),
    }

    text: str
    """The statement."""
    params: Mapping[str, Any] | None = None
    """Values of `$name` in the statement; they are bound, never pasted."""
    key: str | Sequence[str] | None = None
    """Columns that identify a row; checked."""
    _canonical: CanonicalStatement | None = field(default=None, init=False)
    _frames: Mapping[str, str] | None = field(default=None, init=False)
    """The frame of the notebook that each of these tables was, by the table's folded name."""

    def bind(self, ctx: BindContext) -> "Job":
        """Raises StatementNotAllowed unless the text is one reading statement; SqlError,
        TableNotFound and ParameterMissing as binding does; SchemaMismatch when the output cannot be
        stored or lacks a key column."""
        from jammi_lab.engine.sql import credential_check
        from jammi_lab.inputs.path_names import bound_text
        from jammi_lab.steps.increment import IncrementalStatement
        from jammi_lab.steps.key_check import key_columns

        text, params, frames = self.text, self.params or {}, self._frames
        query = _single_statement(ctx.prepare(text, params))
        reads_frame = any(read.relation.input.kind_class.has_origin for read in query.inputs)
        # as a cell wrote it; in a check, which is bound without parts, a frame stays one
        if self._canonical is None and reads_frame and ctx.parts:
            from jammi_lab.steps.frame_tables import text_over_tables

            if (over_tables := text_over_tables(ctx, query)) is not None:
                text, frames = over_tables
                query = _single_statement(ctx.prepare(text, params))
        key = list_of_names(self.key)
        query.check_columns()
        if key:
            key = key_columns([n for n, _ in query.output], key)
        _check_output(query.output)
        for name, value in query.params.items():
            credential_check.check_value(name, value)
        bound = bound_text(query)
        statement = text if bound == query.statement else bound
        row_key = key or _inferred_key(query)
        by_type = _TYPE_FUNCTIONS.search(statement.casefold()) is not None
        inputs = query.inputs
        if by_type:
            inputs = tuple(replace(each, columns=tuple(sorted(each.schema))) for each in inputs)
        recipe = self.with_values(
            text=statement,
            params=query.params,
            key=key,
            _canonical=query.canonical(),
            _frames=frames,
        )
        return ctx.job(
            recipe,
            [query],
            inputs=inputs,
            start=functools.partial(_start, query, row_key),
            key=key,
            columns={name: _stored_type(kind) for name, kind in query.output},
            incremental=None
            if by_type
            else functools.partial(
                IncrementalStatement, ctx.engine, query, row_key, ctx.scope.current
            ),
        )

    def environment(
        self, ctx: BindContext, _recorded: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """How the engine runs statements."""
        return statement_environment(ctx.engine)

    def recorded_inputs(self) -> list[StepInput]:
        """The statement itself."""
        assert self._canonical is not None, "it is bound"
        return [StepInput("", self.text, self._canonical)]

    def current_inputs(self, ctx: BindContext) -> "tuple[list[InputRead], bool]":
        """The inputs of the statement as it is bound today."""
        job = self.bind(ctx)
        return list(job.inputs), job.descriptor.identity() == self.identity()

    def column_reads(
        self, _: Sequence[str], inputs: "Sequence[Sequence[ColumnReads]]"
    ) -> "list[ColumnReads]":
        """Those of the statement."""
        return [*inputs[0]]


def _single_statement(prepared: "Sequence[PreparedStatement]") -> "PreparedStatement":
    if len(prepared) != 1:
        raise StatementNotAllowed(
            f"A recipe must be one statement; this text contains {len(prepared)}.",
            hint="Define one recipe per statement.",
        )
    return prepared[0]


def _stored_type(kind: str) -> str:
    """The SQL type in which the values of an output column are stored."""
    return "VARCHAR" if kind.startswith("ENUM(") else _STORED_TYPES.get(kind, kind)


def _start(
    query: "PreparedStatement", row_key: Sequence[str], on_progress: OnProgress | None
) -> "RunningJob":
    from jammi_lab.steps.increment import PartialSums, partial_rule
    from jammi_lab.steps.jobs import RunningJob

    witnesses: dict[tuple[str, str, str], Observed] = {}
    percent = percent_callback(on_progress)
    rule = partial_rule(query) if query.rounds else None
    if rule is not None:
        rows = PartialSums(rule, query.run_partial(rule, row_key, percent, witnesses))
        return RunningJob(rows, snapshots=witnesses, partial_sums=rows.file_body)
    ordered = query.run_ordered(row_key, on_progress=percent, observed_states=witnesses)
    return RunningJob(ordered, snapshots=witnesses)


def _check_output(output: Sequence[tuple[str, str]]) -> None:
    from jammi_lab.engine.sql.syntax_tree import sql_type

    folded_names: set[str] = set()
    for name, kind in output:
        if not name:
            raise InvalidArgument(
                "An output column has an empty name.", hint="Give it a name with AS."
            )
        if fold(name) in folded_names:
            raise SchemaMismatch(
                f"Two output columns are named {name!r}.",
                column=name,
                expected="different names",
                actual=name,
                hint="Rename one with AS.",
            )
        folded_names.add(fold(name))
        if sql_type(kind) is None:
            raise SchemaMismatch(
                f"Column {name!r} has the type {kind[:100]}, which no table can have.",
                column=name,
                actual=kind[:100],
                hint="Name the fields of a struct: {'a': 1, 'b': 2} instead of row(1, 2).",
            )


def _inferred_key(query: "PreparedStatement") -> list[str]:
    """Columns that probably identify a row, so that a changed value does not reorder other rows:
    the GROUP BY columns, else the key of the only table read."""
    from jammi_lab.inputs.observation import PinnedState

    if query.inferred_key:
        return list(query.inferred_key)
    if len(query.inputs) != 1:
        return []
    token = query.inputs[0].relation.token
    key = token.record.key if isinstance(token, PinnedState) and token.record else []
    names = {n for n, _ in query.output}
    return list(key) if set(key) <= names else []
