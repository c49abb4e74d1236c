"""The query plan of a statement as a tree: the operators, the rows that each returns and, when the
statement was run, the time that each took."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jammi_lab.core.errors import InvalidArgument, JammiError
from jammi_lab.core.html import Rendered, ReprMixin, display_width, escape, escape_invisible

Relation = tuple[str, Sequence[str]]
"""The name of an input and the columns that are read of it."""

if TYPE_CHECKING:
    from jammi_lab.engine.prepared_statement import PreparedStatement
    from jammi_lab.workspace.result import Result

_OPERATOR_NAMES = {
    "SEQ_SCAN": "scan",
    "TABLE_SCAN": "scan",
    "HASH_GROUP_BY": "group",
    "PERFECT_HASH_GROUP_BY": "group",
    "UNGROUPED_AGGREGATE": "aggregate",
    "HASH_JOIN": "join",
    "NESTED_LOOP_JOIN": "nested-loop join",
    "BLOCKWISE_NL_JOIN": "nested-loop join",
    "PIECEWISE_MERGE_JOIN": "merge join",
    "IE_JOIN": "range join",
    "ASOF_JOIN": "as-of join",
    "CROSS_PRODUCT": "cross join",
    "ORDER_BY": "order",
    "TOP_N": "top n",
    "STREAMING_LIMIT": "limit",
    "COLUMN_DATA_SCAN": "values",
    "PROJECTION": "select",
    "EMPTY_RESULT": "no rows",
    "DUMMY_SCAN": "one row",
}
_DETAIL_KEYS = (
    "Function",
    "Table",
    "Projections",
    "Filters",
    "Expression",
    "Join Type",
    "Conditions",
    "Groups",
    "Aggregates",
    "Order By",
    "Top",
    "Limit",
)
_HIDDEN_OPERATORS = frozenset({"QUERY", "QUERY_ROOT", "EXPLAIN_ANALYZE", "RESULT_COLLECTOR"})
_MAX_DETAIL_CHARS = 70
"""Length to which the details of an operator are truncated."""


@dataclass(frozen=True)
class Operator:
    """An operator of the query plan."""

    name: str
    """What it does, in one or two words."""
    about: str
    """Its details: columns, conditions."""
    rows: int | None
    """Rows that it returned; estimated when the statement was not run."""
    seconds: float | None
    """Time of all threads; None when the statement was not run."""
    children: tuple["Operator", ...]
    """The operators that it reads from."""


class Explanation(str, ReprMixin):
    """The tree as text. `.root` is the topmost operator, `.seconds` the run time, None when the
    statement was not run."""

    __slots__ = ("root", "seconds")
    __repr__ = ReprMixin.__repr__
    root: Operator | None
    seconds: float | None

    def __new__(cls, body: str, inputs: Sequence[Relation] = ()) -> "Explanation":
        """Parse the JSON of the engine. `inputs`: name and columns of each thing that is read."""
        plan = json.loads(body)
        was_run = isinstance(plan, Mapping)
        roots = [
            o
            for each in (plan.get("children", []) if was_run else plan)
            for o in _operators(each, inputs, was_run=was_run)
        ]
        root = roots[0] if roots else None
        seconds = float(plan["latency"]) if was_run and "latency" in plan else None
        explanation = super().__new__(cls, "\n".join(_lines(root, seconds)))
        explanation.root, explanation.seconds = root, seconds
        return explanation

    def _rendered(self) -> Rendered:
        text = str.__str__(self)
        return Rendered(
            f'<pre style="margin:0.2em '
            f'0">{chr(10).join(escape(line) for line in text.split(chr(10)))}</pre>',
            text,
        )


def explain_statement(
    text: str,
    analyze: bool,
    prepare: "Callable[[str], list[PreparedStatement]]",
    run: "Callable[[PreparedStatement], Result]",
) -> Explanation:
    """The query plan of one statement. Error positions refer to the text as passed. InvalidArgument
    for several statements; then none is run."""
    if not isinstance(text, str):
        raise InvalidArgument(f"A statement must be a string, got {type(text).__name__}.")
    prefix = "EXPLAIN (ANALYZE, FORMAT JSON) " if analyze else "EXPLAIN (FORMAT JSON) "
    try:
        prepared = prepare(prefix + text)
        if prepared[1:]:
            raise InvalidArgument(
                f"Only one statement can be explained at a time, got {len(prepared)}.",
                hint="Nothing was run.",
            )
        inputs = [(b.relation.input.label, b.columns) for b in prepared[0].inputs]
        return Explanation(str(run(prepared[0]).fetchall()[0][-1]), inputs)
    except JammiError as error:
        if error.statement is not None and error.statement.startswith(prefix):
            error.with_position(
                error.statement.removeprefix(prefix),
                None if error.position is None else max(0, error.position - len(prefix)),
            )
        raise


def _operators(
    node: Mapping[str, Any], inputs: Sequence[Relation], *, was_run: bool
) -> list[Operator]:
    """An operator with its children. Operators that only pass columns on are left out."""
    name = str(node.get("operator_name" if was_run else "name", "")).strip()
    children = [
        o for child in node.get("children", []) for o in _operators(child, inputs, was_run=was_run)
    ]
    details = _details_text(node.get("extra_info") or {}, name)
    if name.startswith("READ_") or name.endswith("_SCAN"):
        scanned = _scanned(node.get("extra_info") or {}, inputs)
        details = ": ".join(filter(None, [scanned, details]))
    if name in _HIDDEN_OPERATORS or (
        name == "PROJECTION" and len(children) == 1 and ("__internal" in details or not details)
    ):
        return children
    rows = (
        node.get("operator_cardinality")
        if was_run
        else (node.get("extra_info") or {}).get("Estimated Cardinality")
    )
    number = int(str(rows)) if str(rows).isdigit() else None
    seconds = float(node["operator_timing"]) if was_run and "operator_timing" in node else None
    return [
        Operator(
            _OPERATOR_NAMES.get(name, name.replace("_", " ").lower()),
            details,
            number,
            seconds,
            tuple(children),
        )
    ]


def _scanned(info: Mapping[str, Any], inputs: Sequence[Relation]) -> str:
    """The name of what a scan reads. DuckDB names the columns only; where several inputs have
    them, all are named."""
    read = info.get("Projections") or []
    wanted = set([read] if isinstance(read, str) else read)
    exact = [name for name, columns in inputs if set(columns) == wanted]
    candidates = exact or [name for name, columns in inputs if wanted <= set(columns)]
    return " or ".join(dict.fromkeys(map(escape_invisible, candidates)))


def _details_text(info: Mapping[str, Any], name: str) -> str:
    details = []
    for key in _DETAIL_KEYS:
        value = info.get(key)
        parts = (
            [str(v) for v in value]
            if isinstance(value, Sequence) and not isinstance(value, str)
            else str(value or "").split("\n")
        )
        detail = ", ".join(
            p.removeprefix("memory.main.")
            for p in parts
            if p and p != name and not p.startswith("#")
        )
        if detail:
            details.append(detail.lower() if key == "Join Type" else detail)
    text = escape_invisible("; ".join(details))
    return text if len(text) <= _MAX_DETAIL_CHARS else text[: _MAX_DETAIL_CHARS - 1] + "…"


def _lines(root: Operator | None, seconds: float | None) -> list[str]:
    if root is None:
        return ["no operators"]
    tree_lines = list(_tree_lines(root, "", ""))
    text_width = max(display_width(text) for text, _ in tree_lines)
    row_counts = [
        f"{'' if seconds is not None else '~'}{o.rows:,} row{'' if o.rows == 1 else 's'}"
        if o.rows is not None
        else ""
        for _, o in tree_lines
    ]
    count_width = max(map(len, row_counts))
    lines = []
    for (text, operator), rows in zip(tree_lines, row_counts, strict=True):
        duration = f"  {operator.seconds * 1e3:,.1f} ms" if operator.seconds is not None else ""
        lines.append(
            f"{text}{' ' * (text_width - display_width(text))}  "
            f"{rows:>{count_width}}{duration}".rstrip()
        )
    footer = (
        "not run: row counts are estimates" if seconds is None else f"took {seconds * 1e3:,.1f} ms"
    )
    return [*lines, footer]


def _tree_lines(operator: Operator, prefix: str, indent: str) -> Iterator[tuple[str, Operator]]:
    yield f"{prefix}{operator.name}{f' · {operator.about}' if operator.about else ''}", operator
    for index, child in enumerate(operator.children):
        is_last = index == len(operator.children) - 1
        yield from _tree_lines(
            child, indent + ("└─ " if is_last else "├─ "), indent + ("   " if is_last else "│  ")
        )
