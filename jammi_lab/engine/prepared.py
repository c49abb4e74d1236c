"""A prepared statement: what it is, what it reads and puts out, and how it is run."""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import duckdb

from jammi_lab.engine import changing, gate, order
from jammi_lab.engine.readset import Bound, bind, bound_again
from jammi_lab.engine.resolve import Found, placed
from jammi_lab.engine.statements import Form, Parsed
from jammi_lab.engine.stream import Stream
from jammi_lab.engine.values import lossless
from jammi_lab.errors import JammiError, StatementNotAllowed
from jammi_lab.names import ascii_lower
from jammi_lab.sources.base import Asking, Relation
from jammi_lab.sources.computed import Read
from jammi_lab.values.anchors import Observed
from jammi_lab.values.descriptors import Canonical

if TYPE_CHECKING:
    from jammi_lab.engine.instances import Session
    from jammi_lab.engine.question import Beside
    from jammi_lab.engine.session import Engine

OnProgress = Callable[[float], None]
"""Takes percent done, 0 to 100; called only when it is known."""
_OUTPUT = {Form.EXPLAIN: [("explain_key", "VARCHAR"), ("explain_value", "VARCHAR")], Form.PIVOT: [], Form.CHANGE: [("Count", "BIGINT")]}
Witnesses = dict[tuple[str, str, str], Observed]
"""The states of inputs, by `Input.identity`."""
_WRAP = "SELECT * FROM (\n"
_MOST_BINDINGS = 8
_SHOW_TABLES = "SELECT unnest($names::VARCHAR[]) AS name"


@dataclass(frozen=True, repr=False)
class Prepared:
    """One statement, gated and bound, with the relations that its names meant at that time. It may be run any number of times."""

    statement: str
    """As it was written."""
    inputs: tuple[Read, ...]
    """What it reads, each input once, in the order of first mention."""
    output: list[tuple[str, str]]
    """Exact names and SQL types; empty for a PIVOT without a list, whose columns come from the rows."""
    volatile: tuple[str, ...]
    """What makes its rows differ from run to run: functions, `sample`, `explain`; sorted."""
    clock: bool
    """Whether it reads today's date."""
    ordered: bool
    """Whether the plan promises the order of its one input, and it has no ORDER BY of its own."""
    order_sensitive: bool
    """Whether its rows may depend on the order of the inputs' rows; taken as run by `run_ordered`."""
    inferred_key: list[str]
    """The output columns that are exactly its GROUP BY expressions, or none."""
    params: dict[str, Any]
    """The bound values that it names."""
    _engine: "Engine"
    _tenant: str | None
    _parsed: Parsed
    _found: Found
    _schemas: Mapping[tuple[str, ...], dict[str, str]]
    _read: Mapping[tuple[str, ...], set[str]]
    _shown: tuple[str, ...]
    _afresh: Callable[[], "list[Prepared]"] | None = None
    """Prepares it anew, with nothing supposed; None when nothing is."""

    def __repr__(self) -> str:
        reads = ", ".join(i.relation.input.label for i in self.inputs) or "nothing"
        return f"Prepared({self.statement!r}, reads {reads})"

    @property
    def changes(self) -> bool:
        """Whether it is an INSERT, UPDATE or DELETE, which is evaluated and not run."""
        return self._parsed.form is Form.CHANGE

    def evaluate(self) -> changing.Evaluated:
        """What a change would do to its target as it was when this was prepared; nothing is changed. Raises as `run` does."""
        return changing.evaluate(self)

    def renewed(self) -> "Prepared":
        """The same statement over what the tables that change are now. TableNotFound."""
        now = {id(relation): relation.changing.renewed() for relation in self._found.values() if relation.changing is not None}
        if not now:
            return self
        found = {parts: now.get(id(relation), relation) for parts, relation in self._found.items()}
        inputs = tuple(replace(each, relation=now.get(id(each.relation), each.relation)) for each in self.inputs)
        return replace(self, _found=found, inputs=inputs)

    def bound_values(self) -> dict[str, Any]:
        """The values that the text as it runs names."""
        return _left(self.params, self._parsed)

    def canonical(self) -> Canonical:
        """What it says, without what does not matter."""
        from jammi_lab.engine.canonicaliser import address_of, canonical

        schemas = {address_of(relation): self._schemas[parts] for parts, relation in self._found.items()}
        return canonical(self._engine, self._parsed, self._found, schemas, self.output)

    def run(self, *, on_progress: OnProgress | None = None) -> Stream:
        """Its rows as they come; all of them at once when it reads an attached database, which an open stream would hold.

        Raises SqlError, SourceUnavailable, TableDamaged, ResourceExhausted, here or while the stream is read.
        """
        return self._run(self._parsed.text, on_progress, drained=self._attached)

    def started(self, *, on_progress: OnProgress | None = None) -> "tuple[Prepared, Stream]":
        """Its rows, as `run`, and the statement as it was bound for them: where it fails on what was supposed, it is bound and run anew."""
        try:
            return self, self.run(on_progress=on_progress)
        except JammiError as error:
            if self._afresh is None:
                raise
            failed = error
        [now] = self._afresh()
        if all(now._found[parts].definition == relation.definition for parts, relation in self._found.items()):
            raise failed
        return now, now.run(on_progress=on_progress)

    @property
    def _attached(self) -> bool:
        """Whether it reads an attached database."""
        return any(bound.relation.attachment is not None for bound in self.inputs)

    def run_ordered(
        self, key: Sequence[str] = (), *, on_progress: OnProgress | None = None, witnesses: Witnesses | None = None, slowly: bool = False
    ) -> Stream:
        """Its rows in a total order: its own ORDER BY, then `key`, then every other output column; as they come when the plan promises an order.

        `slowly` says that whoever takes the rows may hold them up: those of an attached database then come all at once, as from `run`.
        `witnesses` learns, when the last row was read, the state of each input that has a witness, as it was in the transaction of the read.

        Equal rows come in equal order whatever the number of threads. SchemaMismatch for a key column that is not put out, StatementNotAllowed
        for a PIVOT without a list of values; else as `run`.
        """
        places = order.ordinals(self.output, key, self.inferred_key)
        if self._parsed.form is Form.PIVOT:
            raise StatementNotAllowed(
                "A PIVOT without a list of values has no fixed columns.", hint="Write the values out: PIVOT t ON column IN ('a', 'b') USING …"
            )
        if self.ordered or self._parsed.form is not Form.SELECT:
            return self._run(self._parsed.text, on_progress, drained=slowly and self._attached, witnesses=witnesses, in_order=True)
        prefix, sql = self._ordered_text(places)
        return self._run(sql, on_progress, prefix, drained=slowly and self._attached, witnesses=witnesses, in_order=True)

    def _ordered_text(self, places: Sequence[int]) -> tuple[int, str]:
        """How many bytes stand before the statement, and the text."""
        sql = self._parsed.text
        extended = _extended(self._engine, self._parsed, places)
        if extended is not None:
            return 0, extended
        return len(_WRAP), f"{_WRAP}{sql}\n) ORDER BY {', '.join(map(str, places))}"

    def _run(
        self,
        sql: str,
        on_progress: OnProgress | None,
        prefix: int = 0,
        *,
        drained: bool = False,
        witnesses: Witnesses | None = None,
        in_order: bool = False,
    ) -> Stream:
        params = _left(self.params, self._parsed)
        if self._parsed.form is Form.SHOW_TABLES:
            sql, params = _SHOW_TABLES, {"names": list(self._shown)}
        elif self._parsed.form in (Form.SELECT, Form.DESCRIBE):
            shift, sql = lossless(sql, self.output)
            prefix += shift
        transacted = any(bound.relation.guard is not None or bound.relation.witness is not None for bound in self.inputs)
        witness = functools.partial(_witness, self.inputs, witnesses) if transacted else None
        session, pump = self._engine.pump(self._tenant, sql, params, self._now(in_order=in_order), drained=drained, witness=witness)
        place = replace(self._parsed.place(tuple(self._found.values()), sorted({c for i in self.inputs for c in i.schema})), bound=True)
        if self._parsed.form is Form.EXPLAIN:
            prefix += len(self._parsed.text.encode()) - len(self._parsed.probe.encode())

        def failed(error: BaseException) -> JammiError:
            return self._engine.fault(error, self._tenant, session, place, prefix)

        stream = Stream(pump, failed, lambda: self._engine.set_aside(self._tenant, session), on_progress)
        stream.begin()
        return stream

    def _now(self, *, in_order: bool) -> Found:
        """What its names stand for, with what is computed. Raises as computing does.

        `in_order`: rows whose state is told as a bag, and on whose order the statement depends, are put in one."""
        found = dict(self._found)
        for parts, relation in self._found.items():
            if relation.narrow is not None:
                found[parts] = replace(relation, body=relation.narrow(frozenset(self._read[parts])))
            if in_order and self.order_sensitive and relation.unordered:
                found[parts] = replace(relation, body=order.in_total_order(found[parts].body or "", self._schemas[parts], self._read[parts]))
            if relation.computed is not None:
                try:
                    found[parts] = replace(relation, frame=relation.computed.rows(self._read[parts]))
                except JammiError as error:
                    [named, *_] = [each for each in self._parsed.reading.tables if each.parts == parts]
                    raise placed(error, named, self._parsed) from error.__cause__
        return found


def _witness(inputs: Sequence[Read], witnesses: Witnesses | None, asking: Asking, beside: "Beside") -> None:
    """What is asked in the transaction that has just read the rows, and beside it what comes from elsewhere anyway."""
    guarded = [bound.relation for bound in inputs if bound.relation.guard is not None]
    here, servers = list[Relation](), dict[str, list[Relation]]()
    for relation in guarded:
        if relation.attachment is not None and relation.apart and len(guarded) > 1:
            servers.setdefault(relation.attachment.alias, []).append(relation)
        else:
            here.append(relation)
    questions = [beside(each[0], functools.partial(_guard, each)) for each in servers.values()]
    try:
        _guard(here, asking)
        _seen(inputs, witnesses, asking)
        for question in questions:
            question.result()
    except BaseException:
        for question in questions:
            question.drop()
        raise


def _guard(relations: Sequence[Relation], asking: Asking) -> None:
    for relation in relations:
        if relation.guard is not None:
            relation.guard(asking)


def _seen(inputs: Sequence[Read], witnesses: Witnesses | None, asking: Asking) -> None:
    for bound in inputs:
        relation = bound.relation
        if witnesses is not None and relation.witness is not None and (seen := relation.witness(asking, bound.columns)) is not None:
            witnesses[relation.input.identity] = seen


def prepare(
    engine: "Engine",
    session: "Session",
    cursor: duckdb.DuckDBPyConnection,
    tenant: str | None,
    parsed: Parsed,
    found: Found,
    values: Mapping[str, Any],
    shown: Sequence[str],
    afresh: Callable[[], list[Prepared]] | None = None,
) -> Prepared:
    """One gated statement bound on the twins of a session; `cursor` describes inputs whose columns are not known. Runs in a worker."""
    schemas = {}
    for parts, relation in found.items():
        try:
            schemas[parts] = dict(relation.columns) if relation.columns is not None else session.describe(cursor, relation)
        except (duckdb.Error, OSError) as error:
            raise engine.fault(error, tenant, session, parsed.place((relation,))) from None
    params = {name: values[name] for name in sorted(parsed.parameters)}
    if parsed.form is Form.SHOW_TABLES:
        bound = Bound([("name", "VARCHAR")])
        parsed.reading.volatile.add("show tables")
    else:
        bound = _bound(session, parsed, schemas, found, _left(params, parsed))
    everything = list(range(1, len(bound.output) + 1))
    is_ordered = parsed.form is not Form.PIVOT and (parsed.form is not Form.SELECT or order.ordered(parsed.tree, bound.operators))
    if parsed.form is Form.SELECT and any(relation.attachment is not None or relation.unordered for relation in found.values()):
        is_ordered = False  # a twin keeps its order; a table of a database promises none
    return Prepared(
        statement=parsed.written,
        inputs=_inputs(found, schemas, bound),
        output=_OUTPUT.get(parsed.form, bound.output),
        volatile=tuple(sorted(parsed.reading.volatile)),
        clock=parsed.reading.clock,
        ordered=is_ordered,
        order_sensitive=parsed.cut is None
        and (
            order.order_sensitive(parsed.tree, not is_ordered and order.is_cut(parsed.tree) and _extended(engine, parsed, everything) is not None)
            or order.takes_one_for_another(parsed.tree, [schemas[parts][column] for parts, columns in bound.read.items() for column in columns])
        ),
        inferred_key=order.inferred_key(parsed.tree, bound.output) if parsed.form is Form.SELECT else [],
        params=params,
        _engine=engine,
        _tenant=tenant,
        _parsed=parsed,
        _found=found,
        _schemas=schemas,
        _read=bound.read,
        _shown=tuple(shown) if parsed.form is Form.SHOW_TABLES else (),
        _afresh=afresh,
    )


def _bound(
    session: "Session", parsed: Parsed, schemas: Mapping[tuple[str, ...], Mapping[str, str]], found: Found, params: Mapping[str, Any]
) -> Bound:
    """What the binder says; of a text that was bound before over the same names and types, what it said then."""
    if parsed.cut is not None:
        return changing.bind_change(session.twins, parsed, schemas, found, params)
    if params:  # their types shape what it says, and their values what it proves
        return bind(session.twins, parsed, schemas, found, params)
    key = tuple((parts, tuple(columns.items())) for parts, columns in schemas.items())
    if (known := parsed.bindings.get(key)) is None:
        if len(parsed.bindings) >= _MOST_BINDINGS:
            parsed.bindings.clear()
        known = parsed.bindings[key] = bind(session.twins, parsed, schemas, found, params)
    return bound_again(parsed, known)


def _extended(engine: "Engine", parsed: Parsed, places: Sequence[int]) -> str | None:
    """The statement with a total order put into its own text, proved by its tree; None when that cannot be done."""
    extended = order.total_order(parsed.text, parsed.tree, places)
    if extended is None or extended == parsed.text:
        return extended
    tree = engine.parse_tree(extended)
    return extended if tree is not None and order.is_extension(parsed.tree, tree, places) else None


def _inputs(found: Found, schemas: Mapping[tuple[str, ...], dict[str, str]], bound: Bound) -> tuple[Read, ...]:
    """One entry for each input, whatever the names by which it was called; the columns united."""
    own: list[Read] = []
    further: list[Read] = []
    for parts, relation in found.items():
        if relation.computed is None:
            own.append(Read(relation, tuple(bound.read[parts]), schemas[parts]))
        else:
            first, *rest = relation.computed.reads(bound.read[parts])
            own.append(first)
            further += rest
    united: dict[tuple[str, str, str], Read] = {}
    for read in own + further:
        known = united.get(read.relation.input.identity)
        columns = {*read.columns, *(known.columns if known else ())}
        united[read.relation.input.identity] = Read(
            known.relation if known else read.relation, tuple(sorted(columns)), dict(known.schema if known else read.schema)
        )
    return tuple(united.values())


def _left(params: Mapping[str, Any], parsed: Parsed) -> dict[str, Any]:
    """The values that the text as it runs still names: not those that were put into calls only."""
    if not parsed.calls:
        return dict(params)
    named = {ascii_lower(node["identifier"]) for node in gate.nodes(parsed.tree) if node.get("type") == "VALUE_PARAMETER"}
    return {name: value for name, value in params.items() if ascii_lower(name) in named}
