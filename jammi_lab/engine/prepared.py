"""A prepared statement: what it is, what it reads and puts out, and how it is run."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import duckdb

from jammi_lab.engine import order
from jammi_lab.engine.readset import Bound, bind
from jammi_lab.engine.resolve import Found
from jammi_lab.engine.statements import Form, Parsed
from jammi_lab.engine.stream import Stream
from jammi_lab.engine.values import lossless
from jammi_lab.errors import JammiError, StatementNotAllowed
from jammi_lab.sources.base import Relation
from jammi_lab.values.descriptors import Canonical

if TYPE_CHECKING:
    from jammi_lab.engine.session import Engine, Session

OnProgress = Callable[[float], None]
"""Takes percent done, 0 to 100; called only when it is known."""
_OUTPUT = {Form.EXPLAIN: [("explain_key", "VARCHAR"), ("explain_value", "VARCHAR")], Form.PIVOT: []}
_WRAP = "SELECT * FROM (\n"
_SHOW_TABLES = "SELECT unnest($names::VARCHAR[]) AS name"


@dataclass(frozen=True, slots=True)
class BoundInput:
    """One input of a statement."""

    relation: Relation
    """What it is."""
    columns: tuple[str, ...]
    """The columns read, sorted; empty when only the number of rows matters."""
    schema: dict[str, str]
    """All its columns and SQL types when the statement was bound, in order."""


@dataclass(frozen=True, repr=False)
class Prepared:
    """One statement, gated and bound, with the relations that its names meant at that time. It may be run any number of times."""

    statement: str
    """As it was written."""
    inputs: tuple[BoundInput, ...]
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
    _shown: tuple[str, ...]

    def __repr__(self) -> str:
        reads = ", ".join(i.relation.input.label for i in self.inputs) or "nothing"
        return f"Prepared({self.statement!r}, reads {reads})"

    def canonical(self) -> Canonical:
        """What it says, without what does not matter."""
        from jammi_lab.engine.canonicaliser import canonical

        return canonical(self._engine, self._parsed, self._found, {i.relation.input.identity: i.schema for i in self.inputs}, self.output)

    def run(self, *, on_progress: OnProgress | None = None) -> Stream:
        """Its rows as they come. Raises SqlError, SourceUnavailable, TableDamaged, ResourceExhausted, here or while the stream is read."""
        return self._run(self._parsed.text, on_progress)

    def run_ordered(self, key: Sequence[str] = (), *, on_progress: OnProgress | None = None) -> Stream:
        """Its rows in a total order: its own ORDER BY, then `key`, then every other output column; as they come when the plan promises an order.

        Equal rows come in equal order whatever the number of threads. SchemaMismatch for a key column that is not put out, StatementNotAllowed
        for a PIVOT without a list of values; else as `run`.
        """
        places = order.ordinals(self.output, key, self.inferred_key)
        if self._parsed.form is Form.PIVOT:
            raise StatementNotAllowed(
                "A PIVOT without a list of values has no fixed columns.", hint="Write the values out: PIVOT t ON column IN ('a', 'b') USING …"
            )
        if self.ordered or self._parsed.form is not Form.SELECT:
            return self._run(self._parsed.text, on_progress)
        prefix, sql = self._ordered_text(places)
        return self._run(sql, on_progress, prefix)

    def _ordered_text(self, places: Sequence[int]) -> tuple[int, str]:
        """How many bytes stand before the statement, and the text."""
        sql = self._parsed.text
        extended = _extended(self._engine, self._parsed, places)
        if extended is not None:
            return 0, extended
        return len(_WRAP), f"{_WRAP}{sql}\n) ORDER BY {', '.join(map(str, places))}"

    def _run(self, sql: str, on_progress: OnProgress | None, prefix: int = 0) -> Stream:
        params = self.params
        if self._parsed.form is Form.SHOW_TABLES:
            sql, params = _SHOW_TABLES, {"names": list(self._shown)}
        elif self._parsed.form in (Form.SELECT, Form.DESCRIBE):
            shift, sql = lossless(sql, self.output)
            prefix += shift
        session, pump = self._engine.pump(self._tenant, sql, params, self._found)
        place = self._parsed.place(tuple(self._found.values()), sorted({c for i in self.inputs for c in i.schema}))
        if self._parsed.form is Form.EXPLAIN:
            prefix += len(self._parsed.text.encode()) - len(self._parsed.probe.encode())

        def failed(error: BaseException) -> JammiError:
            return self._engine.fault(error, self._tenant, session, place, prefix)

        stream = Stream(pump, failed, lambda: self._engine.set_aside(self._tenant, session), on_progress)
        stream.begin()
        return stream


def prepare(
    engine: "Engine",
    session: "Session",
    cursor: duckdb.DuckDBPyConnection,
    tenant: str | None,
    parsed: Parsed,
    found: Found,
    values: Mapping[str, Any],
    shown: Sequence[str],
) -> Prepared:
    """One gated statement bound on the twins of a session; `cursor` describes inputs whose columns are not known. Runs in a worker."""
    schemas = {}
    for parts, relation in found.items():
        try:
            schemas[parts] = dict(relation.columns) if relation.columns is not None else session.describe(cursor, relation)
        except (duckdb.Error, OSError) as error:
            raise engine.fault(error, tenant, session, parsed.place((relation,))) from None
    params = {name: values[name] for name in sorted(parsed.parameters)}
    bound = Bound([("name", "VARCHAR")]) if parsed.form is Form.SHOW_TABLES else bind(session.twins, parsed, schemas, found, params)
    if parsed.form is Form.SHOW_TABLES:
        parsed.reading.volatile.add("show tables")
    everything = list(range(1, len(bound.output) + 1))
    is_ordered = parsed.form is not Form.PIVOT and (parsed.form is not Form.SELECT or order.ordered(parsed.tree, bound.operators))
    return Prepared(
        statement=parsed.written,
        inputs=_inputs(found, schemas, bound),
        output=_OUTPUT.get(parsed.form, bound.output),
        volatile=tuple(sorted(parsed.reading.volatile)),
        clock=parsed.reading.clock,
        ordered=is_ordered,
        order_sensitive=order.order_sensitive(
            parsed.tree, not is_ordered and order.is_cut(parsed.tree) and _extended(engine, parsed, everything) is not None
        ),
        inferred_key=order.inferred_key(parsed.tree, bound.output) if parsed.form is Form.SELECT else [],
        params=params,
        _engine=engine,
        _tenant=tenant,
        _parsed=parsed,
        _found=found,
        _shown=tuple(shown) if parsed.form is Form.SHOW_TABLES else (),
    )


def _extended(engine: "Engine", parsed: Parsed, places: Sequence[int]) -> str | None:
    """The statement with a total order put into its own text, proved by its tree; None when that cannot be done."""
    extended = order.total_order(parsed.text, parsed.tree, places)
    if extended is None or extended == parsed.text:
        return extended
    tree = engine.parse_tree(extended)
    return extended if tree is not None and order.is_extension(parsed.tree, tree, places) else None


def _inputs(found: Found, schemas: Mapping[tuple[str, ...], dict[str, str]], bound: Bound) -> tuple[BoundInput, ...]:
    """One entry for each input, whatever the names by which it was called; the columns united."""
    united: dict[tuple[str, str, str], BoundInput] = {}
    for parts, relation in found.items():
        known = united.get(relation.input.identity)
        columns = bound.read[parts] | set(known.columns if known else ())
        united[relation.input.identity] = BoundInput(known.relation if known else relation, tuple(sorted(columns)), schemas[parts])
    return tuple(united.values())
