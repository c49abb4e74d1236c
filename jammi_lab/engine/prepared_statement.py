"""Prepared statements: how a statement is run; the engine prepares it."""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from jammi_lab.core.anchors import Identity, Input, Observed
from jammi_lab.core.definitions import CanonicalStatement
from jammi_lab.core.errors import JammiError, StatementNotAllowed
from jammi_lab.engine.instance_pool import InstancePool
from jammi_lab.engine.name_resolution import ResolvedNames, with_position
from jammi_lab.engine.parameters import remaining_parameters, with_lossless_casts
from jammi_lab.engine.sql import float_sums, releases, row_order
from jammi_lab.engine.sql.append_algebra import BASE, AppendRule, NotIncremental, append_rule
from jammi_lab.engine.sql.canonical_form import canonicalize
from jammi_lab.engine.sql.float_sums import ExactForm
from jammi_lab.engine.sql.parse import ParsedStatement, StatementKind
from jammi_lab.engine.sql.path_literals import replace_names
from jammi_lab.engine.sql.read_set import Binding
from jammi_lab.engine.sql.unsupported_statements import PIVOT_HINT
from jammi_lab.engine.stream import Stream
from jammi_lab.engine.tenant_instances import TenantInstances
from jammi_lab.sources import scratch_duckdb
from jammi_lab.sources.base import InputRead, Query, ReadPlan, Relation
from jammi_lab.sources.scan_conditions import ALL_ROWS, ScanConditions

OnPercent = Callable[[float], None]
"""Receives the percentage done, 0 to 100; 0 while DuckDB reports none."""
ObservedStates = dict[Identity, Observed]
"""Observed input states by `Input.identity`."""
_WRAP_PREFIX = "SELECT * FROM (\n"
_SHOW_TABLES = "SELECT unnest($names::VARCHAR[]) AS name"


@dataclass(frozen=True, repr=False)
class PreparedStatement:
    """One statement, checked and bound, with the relations that its names resolved to. It may be
    run any number of times."""

    statement: str
    """The text as written."""
    inputs: tuple[InputRead, ...]
    """The inputs, each once, in the order of first mention."""
    output: list[tuple[str, str]]
    """Exact names and SQL types; empty for a PIVOT without a list, whose columns come from the
    rows."""
    volatile: tuple[str, ...]
    """The non-deterministic features it uses: functions, `sample`, `explain`; sorted."""
    reads_clock: bool
    """Whether it reads today's date."""
    keeps_order: bool
    """Whether the plan keeps the order of its one input; such a statement gets no ORDER BY."""
    order_sensitive: bool
    """Whether its rows may depend on the order of the inputs' rows, when run by `run_ordered`."""
    inferred_key: list[str]
    """The output columns that are exactly its GROUP BY expressions, or none."""
    params: dict[str, Any]
    """The values of its parameters."""
    _pool: InstancePool
    _tenant: str | None
    _parsed: ParsedStatement
    _relations: ResolvedNames
    _schemas: Mapping[tuple[str, ...], dict[str, str]]
    _binding: Binding
    _table_names: tuple[str, ...]

    def __repr__(self) -> str:
        reads = ", ".join(i.relation.input.label for i in self.inputs) or "nothing"
        return f"{type(self).__name__}({self.statement!r}, reads {reads})"

    @property
    def is_dml(self) -> bool:
        """Whether it is an INSERT, UPDATE or DELETE, which is evaluated and committed."""
        return self._parsed.kind is StatementKind.DML

    @property
    def rounds(self) -> bool:
        """Whether it aggregates floating-point numbers."""
        return self._binding.merged.rounds

    def refreshed(self) -> "PreparedStatement":
        """The same statement over the current versions of its mutable tables. TableNotFound."""
        current = {
            id(relation): relation.mutable.refreshed()
            for relation in self._relations.values()
            if relation.mutable is not None
        }
        relations = {
            parts: current.get(id(relation), relation)
            for parts, relation in self._relations.items()
        }
        inputs = tuple(
            replace(read, relation=current.get(id(read.relation), read.relation))
            for read in self.inputs
        )
        return replace(self, _relations=relations, inputs=inputs)

    def bound_values(self) -> dict[str, Any]:
        """The values of the parameters that remain in the executed text."""
        return remaining_parameters(self.params, self._parsed)

    def text_with_names(
        self, name_of: Callable[[Input], str | None], *, quoted: bool = False
    ) -> str:
        """The statement with other SQL in FROM wherever `name_of` gives it for an input. `quoted`:
        the names are quoted texts. StatementNotAllowed when the place of one in the text is
        unknown."""
        names = {
            parts: name
            for parts, relation in self._relations.items()
            if (name := name_of(relation.input)) is not None
        }
        return replace_names(self._parsed, names, quoted=quoted) if names else self.statement

    def canonical(self) -> CanonicalStatement:
        """The canonical form of the statement, for its definition hash."""
        columns_read = {
            parts: {name: self._schemas[parts][name] for name in names}
            for parts, names in self._binding.columns_read.items()
        }
        return canonicalize(self._parsed, self._relations, columns_read, self.output)

    def append_rule(self, identity: Identity) -> AppendRule:
        """How its rows follow from its former rows when only one input gained rows. Raises
        NotIncremental."""
        if self._parsed.kind is not StatementKind.SELECT or self._parsed.has_calls:
            raise NotIncremental("it is more than a SELECT from tables")
        if self.volatile or self.reads_clock:
            raise NotIncremental("its rows do not depend on its inputs alone")
        if self.order_sensitive:
            raise NotIncremental("its rows depend on the order of its inputs")
        appended = frozenset(p for p, r in self._relations.items() if r.input.identity == identity)
        params = self.bound_values()
        if (rule := self._binding.append_rules.get((appended, self.keeps_order))) is None:
            rule = self._pool.with_replicas(
                lambda replicas: append_rule(
                    replicas,
                    self._parsed,
                    self._schemas,
                    params,
                    self.output,
                    appended,
                    keeps_order=self.keeps_order,
                ),
            )
            self._binding.append_rules[appended, self.keeps_order] = rule
        if rule.has_floats and self.partial_text is None:
            raise NotIncremental("sums of floating-point numbers are not reproducible")
        return rule

    @property
    def partial_text(self) -> str | None:
        """The statement with partial sums (`float_sums`); None where there is no such form."""
        form = None if self._pool.has_fast_sums else self._exact_form()
        return None if form is None or form.rounds else form.partial

    def _exact_form(self) -> ExactForm:
        if self._binding.exact_form is None:
            self._binding.exact_form = self._pool.exact_form(
                self._parsed, self._schemas, self.bound_values()
            )
        return self._binding.exact_form

    def restricted_to(self, identity: Identity, read: ReadPlan) -> "PreparedStatement":
        """The same statement over a part of an input, which has the columns of the input."""
        parts_of_input = [p for p, r in self._relations.items() if r.input.identity == identity]
        part = replace(self._relations[parts_of_input[0]], read=read)
        relations = {**self._relations, **dict.fromkeys(parts_of_input, part)}
        return replace(self, _relations=relations)

    def run(self, *, on_progress: OnPercent | None = None) -> Stream:
        """Run the statement and stream its rows.

        A statement over an attached database is read to its end first, because an open stream would
        keep the database attached. Raises SqlError, SourceUnavailable, TableDamaged,
        ResourceExhausted, here or while the stream is read.
        """
        return self._run(
            self._parsed.text, on_progress, read_ahead_fully=self._reads_attached_database
        )

    def run_over(self, select: str, clauses: str = "") -> Stream:
        """Run a SELECT that the library wrote over the rows of the statement, whose columns are
        called c0, c1, … there. The values of `*` are those of `run`. Raises as `run`."""
        names = ", ".join(f"c{i}" for i in range(len(self.output)))
        prefix = f"SELECT {select} FROM (\n"
        text = f"{prefix}{self._parsed.text}\n) AS t({names}) {clauses}"
        size = len(prefix.encode())
        return self._run(text, None, size, read_ahead_fully=True, casts_output=select == "*")

    def run_merged(
        self,
        rule: AppendRule,
        base: Relation,
        key: Sequence[str],
        observed_states: ObservedStates | None = None,
    ) -> Stream:
        """Run the statement with its rows merged with those of a table, in the total order of
        `run_ordered`, with its `observed_states`; partial sums are in further columns. Raises as
        `run_ordered`."""
        merged = replace(self, _relations={**self._relations, (BASE,): base})
        text = self._partial_text_of(rule)
        merging = rule.merging_statement(rule.partial_output(self.output), text)
        return merged._run_by_rule(rule, merging, text, key, observed_states)

    def _partial_text_of(self, rule: AppendRule) -> str:
        """The statement whose rows the rule merges."""
        return (self.partial_text if rule.has_floats else None) or self._parsed.text

    def run_partial(
        self,
        rule: AppendRule,
        key: Sequence[str],
        on_progress: OnPercent | None = None,
        observed_states: ObservedStates | None = None,
    ) -> Stream:
        """Run the statement as `run_ordered`, with the partial sums of the rule in further
        columns."""
        text = self.partial_text
        assert text is not None, "the rule has partial sums"
        return self._run_by_rule(rule, text, text, key, observed_states, on_progress)

    def _run_by_rule(
        self,
        rule: AppendRule,
        rows: str,
        text: str,
        key: Sequence[str],
        observed_states: ObservedStates | None,
        on_progress: OnPercent | None = None,
    ) -> Stream:
        """Run a SELECT `rows` of what the rule merges, which contains the statement as `text`."""
        if rule.partial_columns:
            rows = rule.total_statement(self.output, rows)
        positions = row_order.total_order_positions(self.output, key, self.inferred_key)
        return replace(self, _parsed=replace(self._parsed, text=text))._run(
            f"{rows} ORDER BY {', '.join(map(str, positions))}",
            on_progress,
            len(rows[: rows.index(text)].encode()),
            observed_states=observed_states,
            in_order=True,
        )

    @property
    def _reads_attached_database(self) -> bool:
        """Whether it reads an attached database."""
        return any(read.relation.requirements.attachment is not None for read in self.inputs)

    def run_ordered(
        self,
        key: Sequence[str] = (),
        *,
        unique: Sequence[str] | None = None,
        on_progress: OnPercent | None = None,
        observed_states: ObservedStates | None = None,
        buffer: bool = False,
    ) -> Stream:
        """Run the statement with its rows in a total order: its own ORDER BY, then `key`, then
        every other output column, unless `key` includes all columns of `unique` (default: what a
        GROUP BY makes unique). When the plan keeps the input's order, no ORDER BY is added.

        Set `buffer` when the consumer may pause: rows of an attached database are then read to the
        end first, as in `run`. After the last row, `observed_states` receives the state of each
        input that has a witness, observed in the transaction of the read.

        Neither order nor values depend on the number of threads: a statement that depends on the
        order of its inputs runs on one, since several would combine their parts in any order.
        Raises StatementNotAllowed for a PIVOT without a list of values, and otherwise as `run`.
        """
        positions = row_order.total_order_positions(
            self.output, key, self.inferred_key if unique is None else unique
        )
        self.check_columns()
        exact, prefix, sql = self, 0, self._parsed.text
        if not self.keeps_order and self._parsed.kind is StatementKind.SELECT:
            exact = self._with_exact_sums(positions)
            prefix, sql = exact._ordered_text(positions)
        return exact._run(
            sql,
            on_progress,
            prefix,
            read_ahead_fully=buffer and self._reads_attached_database,
            observed_states=observed_states,
            in_order=True,
        )

    def check_columns(self) -> None:
        """Raise StatementNotAllowed for a PIVOT without a list of values, whose columns are known
        when it has run."""
        if self._parsed.kind is StatementKind.PIVOT:
            raise StatementNotAllowed(
                "The columns of a PIVOT without a list of values depend on its data.",
                hint=PIVOT_HINT,
            )

    @property
    def depends_on_order(self) -> bool:
        """Whether its rows, the last bits of sums among them, may depend on the order of the
        inputs' rows."""
        if self.order_sensitive or self.keeps_order or not self._binding.merged.rounds:
            return self.order_sensitive
        return self._pool.has_fast_sums or self._exact_form().rounds

    def _with_exact_sums(self, positions: Sequence[int]) -> "PreparedStatement":
        """The statement with sums of floating-point numbers that do not depend on the order of the
        rows; order-sensitive when last bits still do."""
        if self._pool.has_fast_sums or not self._binding.merged.rounds:
            return self
        form = self._exact_form()
        exact = replace(self, order_sensitive=self.order_sensitive or form.rounds)
        tree = None if form.text is None else self._pool.parse_tree(form.text)
        if form.text is None or tree is None:
            return exact
        parsed = replace(self._parsed, text=form.text, tree=tree)
        if row_order.has_limit(tree) and with_total_order(self._pool, parsed, positions) is None:
            return replace(self, order_sensitive=True)
        return replace(exact, _parsed=parsed)

    def run_by_key(self, observed_states: ObservedStates) -> Stream:
        """Run the statement in the order of its first column, as `run_ordered`. The caller refuses
        rows with equal values there, so that sorting by the other columns, which are long texts,
        would be wasted."""
        key = [self.output[0][0]]
        return self.run_ordered(key, unique=key, observed_states=observed_states)

    def _ordered_text(self, positions: Sequence[int]) -> tuple[int, str]:
        """The number of bytes in front of the statement, and the ordered text."""
        sql = self._parsed.text
        extended = with_total_order(self._pool, self._parsed, positions)
        if extended is not None:
            return 0, extended
        return len(
            _WRAP_PREFIX
        ), f"{_WRAP_PREFIX}{sql}\n) ORDER BY {', '.join(map(str, positions))}"

    def _run(
        self,
        sql: str,
        on_progress: OnPercent | None,
        prefix: int = 0,
        *,
        read_ahead_fully: bool = False,
        observed_states: ObservedStates | None = None,
        in_order: bool = False,
        casts_output: bool = True,
    ) -> Stream:
        params = self.bound_values()
        if self._parsed.kind is StatementKind.SHOW_TABLES:
            sql, params = _SHOW_TABLES, {"names": list(self._table_names)}
        elif casts_output and self._parsed.kind in (StatementKind.SELECT, StatementKind.DESCRIBE):
            shift, sql = with_lossless_casts(sql, self.output)
            prefix += shift
        in_transaction = any(
            read.relation.consistency.guard is not None
            or read.relation.consistency.witness is not None
            for read in self.inputs
        )
        after_read = (
            functools.partial(_check_after_read, self.inputs, observed_states)
            if in_transaction
            else None
        )
        options = {}
        if in_order and self.order_sensitive:
            # With several threads DuckDB combines the parts of `list`, `first` or a window as they
            # are finished, so that two full runs over equal inputs may differ.
            options["threads"] = "1"
        if self._reads_attached_database or releases.may_apply(self._parsed.tree):
            options[releases.OPTION] = releases.OFF
        instances, worker = self._pool.create_worker(
            self._tenant,
            sql,
            params,
            self._rebind(in_order=in_order),
            read_ahead_fully=read_ahead_fully,
            after_read=after_read,
            options=options,
            with_float_sums=float_sums.uses_macros(sql),
        )
        stream = Stream(
            worker,
            self._error_translator(instances, prefix),
            lambda: self._pool.retire(self._tenant, instances),
            on_progress,
        )
        stream.start()
        return stream

    def _error_translator(
        self, instances: TenantInstances, prefix: int
    ) -> Callable[[BaseException], JammiError]:
        """Translates errors of a run whose text has `prefix` bytes in front of the statement."""
        parsed, relations, inputs = self._parsed, tuple(self._relations.values()), self.inputs
        if parsed.kind is StatementKind.EXPLAIN:
            prefix += len(parsed.text.encode()) - len(parsed.probe.encode())

        def translate_error(error: BaseException) -> JammiError:
            columns = sorted({column for each in inputs for column in each.schema})
            context = replace(parsed.error_context(relations, columns), is_bound=True)
            return self._pool.translate_error(error, self._tenant, instances, context, prefix)

        return translate_error

    def _rebind(self, *, in_order: bool) -> ResolvedNames:
        """The relations for one run: projected to the columns read, computed frames evaluated.
        Raises as computing does.

        With `in_order`, an unordered input is sorted if the statement depends on its order: the
        observed state of such an input does not cover the order of its rows."""
        relations = dict(self._relations)
        if not any(
            r.read.projected_body is not None
            or r.read.computed is not None
            or (in_order and r.consistency.unordered)
            for r in relations.values()
        ):
            return relations
        conditions = functools.cache(self._scan_conditions)
        for parts, relation in self._relations.items():

            def needed_rows(parts: tuple[str, ...] = parts) -> ScanConditions:
                return conditions(in_order).get(parts, ALL_ROWS)

            if relation.read.projected_body is not None:
                body = relation.read.projected_body(
                    frozenset(self._binding.columns_read[parts]), needed_rows
                )
                relations[parts] = _with_body(relation, body)
            sorts = in_order and self.order_sensitive and relation.consistency.unordered
            if sorts and relation.read.computed is None:
                body = row_order.select_in_total_order(
                    relations[parts].read.body or "",
                    self._schemas[parts],
                    self._binding.columns_read[parts],
                )
                relations[parts] = _with_body(relation, body)
            if relation.read.computed is not None:
                try:
                    rows = relation.read.computed.rows(
                        self._binding.columns_read[parts], needed_rows
                    )
                    relations[parts] = replace(relation, read=replace(relation.read, frame=rows))
                    if sorts:
                        relations[parts] = self._sorted(parts, relations[parts])
                except JammiError as error:
                    [table, *_] = [
                        candidate
                        for candidate in self._parsed.reads.tables
                        if candidate.parts == parts
                    ]
                    raise with_position(error, table, self._parsed) from error.__cause__
        return relations

    def _sorted(self, parts: tuple[str, ...], relation: Relation) -> Relation:
        """The relation of a frame with its rows in a total order of the columns read."""
        select = row_order.select_in_total_order(
            "FROM it", self._schemas[parts], self._binding.columns_read[parts]
        )
        with scratch_duckdb.connect(relation) as connection:
            rows = connection.execute(select).to_arrow_table()
        return replace(relation, read=replace(relation.read, frame=rows))

    def _scan_conditions(self, in_order: bool) -> dict[tuple[str, ...], ScanConditions]:
        """What the statement needs of the rows of each relation."""
        if self._parsed.kind is not StatementKind.SELECT:
            return {}
        by_input = self._binding.scan_conditions
        if by_input is None:
            by_input = self._pool.scan_conditions(self._parsed, self._schemas, self.bound_values())
            if not (self.volatile or self.reads_clock):  # the plan may hold such a value
                self._binding.scan_conditions = by_input
        # Rows in a total order are the first by it, not any.
        return {p: c._replace(limit=None) for p, c in by_input.items()} if in_order else by_input


def _with_body(relation: Relation, body: str) -> Relation:
    return replace(relation, read=replace(relation.read, body=body))


def _check_after_read(
    inputs: Sequence[InputRead], observed_states: ObservedStates | None, query: Query
) -> None:
    """Run the guards and witnesses of the inputs in the transaction that has just read the rows."""
    for read in inputs:
        relation = read.relation
        if relation.consistency.guard is not None:
            relation.consistency.guard(query)
        if (
            observed_states is not None
            and relation.consistency.witness is not None
            and (state := relation.consistency.witness(query, read.columns)) is not None
        ):
            observed_states[relation.input.identity] = state


def with_total_order(
    instances: InstancePool, parsed: ParsedStatement, positions: Sequence[int]
) -> str | None:
    """The statement with a total order appended to its ORDER BY, verified on its syntax tree; None
    when that is not possible."""
    extended = row_order.add_total_order(parsed.text, parsed.tree, positions)
    if extended is None or extended == parsed.text:
        return extended
    tree = instances.parse_tree(extended)
    if tree is not None and row_order.is_extension(parsed.tree, tree, positions):
        return extended
    return None
