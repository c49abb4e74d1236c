"""Runs SQL statements, explains them, and wraps their rows in Results."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from jammi_lab.catalog.logs import LogRecord
from jammi_lab.core.anchors import Identity, Input, Snapshot
from jammi_lab.core.errors import InvalidArgument, JammiError, mask_credentials
from jammi_lab.core.identifiers import fold, quote_identifier
from jammi_lab.core.records import TableRecord, percent_callback
from jammi_lab.engine.name_resolution import NameResolver
from jammi_lab.engine.prepared_statement import PreparedStatement
from jammi_lab.engine.stream import Stream
from jammi_lab.features.live.live_names import snapshot_of
from jammi_lab.features.outputs.stamps import StampedSource, stamped_source, stamped_table
from jammi_lab.workspace.query_plan import Explanation
from jammi_lab.workspace.result import ChangeResult, InMemoryResult, RecordedInputs, Result
from jammi_lab.workspace.run_in_order import note_earlier_changes, run_in_order

if TYPE_CHECKING:
    import pyarrow as pa

    from jammi_lab.features.live.dml_commits import CommitResult
    from jammi_lab.features.search.hits import SearchAnswer
    from jammi_lab.workspace.assembly import Services

_SIMILARITY_DIGITS = 4
"""Decimal places of a displayed similarity or score. Further ones may differ between
processors, like the vectors of the encoder."""


class StatementRunner:
    """Runs statements in the bound tenant's scope and wraps their rows."""

    def __init__(self, services: "Services") -> None:
        self._services, self.badges = services, services.badges
        self._engine, self._scope, self._frames = services.engine, services.scope, services.frames
        # Called when a result has been read: it deletes tables that were dropped meanwhile.
        self._release_tables = services.removal.try_remove_pending

    def run(self, text: str, params: Mapping[str, Any], *, frames: bool = False) -> Result:
        """Run statements in order and return the rows of the last one; with `frames` they can name
        data frames of the notebook. Raises as `ws.sql`."""
        if not isinstance(text, str):
            raise InvalidArgument(f"A statement must be a string, got {type(text).__name__}.")
        prepared = self._prepare(text, params, frames)
        last, changes = run_in_order(prepared, self._apply_change)
        if not isinstance(last, PreparedStatement):
            return ChangeResult(last)
        with note_earlier_changes(changes):
            result = self.result(last)
        result._changes_before = changes
        result._unshown_before = len(prepared) - 1 - changes
        return result

    def _apply_change(self, change: PreparedStatement) -> "CommitResult":
        return self._services.dml_committer.apply(change)

    def _prepare(
        self, text: str, params: Mapping[str, Any], frames: bool
    ) -> list[PreparedStatement]:
        return self._engine.prepare(
            text,
            params,
            tenant=self._scope.current,
            extra_resolvers=[self._frames] if frames else [],
            allow_dml=True,
        )

    def explain(
        self, text: str, params: Mapping[str, Any], *, analyze: bool, frames: bool = False
    ) -> Explanation:
        """The query plan of one statement. Error positions refer to the text as passed. Raises as
        `run`, and InvalidArgument for several statements; then none is run."""
        prefix = "EXPLAIN ANALYZE " if analyze else "EXPLAIN "
        try:
            prepared = self._prepare(prefix + text, params, frames)
            if prepared[1:]:
                raise InvalidArgument(
                    f"Only one statement can be explained at a time, got {len(prepared)}."
                )
            [(_, drawn)] = self.result(prepared[0]).fetchall()
            return Explanation(mask_credentials(drawn.rstrip()))
        except JammiError as error:
            if error.statement is not None and error.statement.startswith(prefix):
                error.with_position(
                    error.statement.removeprefix(prefix),
                    None if error.position is None else max(0, error.position - len(prefix)),
                )
            raise

    def read(self, text: str, params: Mapping[str, Any]) -> Result:
        """Run statements that only read, and return the rows of the last one."""
        prepared = self._engine.prepare(text, params, tenant=self._scope.current)
        for each in prepared[:-1]:
            for _ in self.start(each).batches():
                pass
        return self.result(prepared[-1])

    def read_table(self, record: TableRecord, resolver: NameResolver, ending: str = "") -> Result:
        """The rows of a result table, which `resolver` knows by its physical name; `ending`: the
        end of the statement. TableDamaged."""
        [prepared] = self._engine.prepare(
            f"SELECT * FROM jammi.{quote_identifier(record.table_name)}{ending}",
            None,
            tenant=self._scope.current,
            overriding_resolvers=[resolver],
        )
        return self.result(prepared)

    def query(self, text: str, tenant: str | None, extra_resolvers: Sequence[Any]) -> Any:
        """The rows of one statement as an Arrow table, in the scope of a tenant."""
        [prepared] = self._engine.prepare(text, tenant=tenant, extra_resolvers=extra_resolvers)
        return prepared.run().table()

    def start(self, prepared: PreparedStatement) -> Stream:
        """Start a statement, with the default progress report of the workspace."""
        return prepared.run(on_progress=percent_callback(self._services.progress.default))

    def result(self, prepared: PreparedStatement) -> Result:
        """Start a statement and wrap its rows."""
        stamps = self.badges.stamps
        # Observed before the rows are read: a change between the two is a false alarm at worst.
        states = {} if stamps is None else stamps.source_states(prepared, self._scope.current)
        result = Result(prepared, self.start(prepared), self.badges, self._release_tables)
        result._source_states = states
        return result

    def mutable_rows(self, record: LogRecord, rows: "pa.Table") -> Result:
        """A Result of rows that were computed from a version of a mutable table."""
        state = snapshot_of(record)
        source = Input(record.kind, record.name, columns=tuple(state.columns))
        anchor = state.anchor(source, source.columns)
        return InMemoryResult(rows, [source], self.badges, states=[anchor])

    def step_input(self, prepared: PreparedStatement) -> Result:
        """The result of a statement as an input of a Python step: its rows are ordered, and the
        producer checks whether they changed meanwhile."""
        stream = prepared.run_ordered(buffer=True)
        return Result(prepared, stream, self.badges, self._release_tables, is_step_input=True)

    def answer(
        self, find: "Callable[[], SearchAnswer]", searched: Sequence[TableRecord], *, filtered: bool
    ) -> Result:
        """The answer of a search of tables. `filtered`: a condition reads columns of their source
        rows."""
        stamps, states = self.badges.stamps, dict[Identity, Snapshot]()
        if stamps is not None:
            anchors = [anchor for record in searched for anchor in record.anchors]
            states = stamps.snapshots(anchors, self._scope.current)
        answer = find()
        result = InMemoryResult(answer.table, answer.inputs, self.badges, answer.types)
        result._recorded = _recorded_reads(answer.inputs, searched, states)
        if filtered:
            result._recorded[2].append("the rows that the condition reads")
        result.decimals["similarity"] = _SIMILARITY_DIGITS
        if "rank_words" in result.columns or "similarity" not in result.columns:
            # beside similarities alone, a column of this name is the source's
            result.decimals["score"] = _SIMILARITY_DIGITS
        return result


def _recorded_reads(
    inputs: Sequence[Input],
    searched: Sequence[TableRecord],
    states: Mapping[Identity, Snapshot],
) -> RecordedInputs:
    """What a search read: the searched tables, and the inputs of their source rows in the states
    that were observed before."""
    tables = [stamped_table(record.recipe, record.version, record) for record in searched]
    names = {fold(name) for record in searched for name in (record.recipe, record.table_name)}
    sources, unrecorded = list[StampedSource](), list[str]()
    for each in inputs:
        state = states.get(each.identity)
        if each.kind_class.is_result and fold(each.name) in names:
            continue
        if state is not None and state.covers(each.columns):
            sources.append(stamped_source(state.anchor(each, each.columns)))
        else:
            unrecorded.append(each.label)
    return tables, sources, unrecorded
