"""How the engine runs a statement, as a tree: what each step does, the rows that come out of it, and, when it was run, the time it took."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jammi_lab.errors import InvalidArgument, JammiError
from jammi_lab.markup import Form, Shown, escape, visible, width

if TYPE_CHECKING:
    from jammi_lab.engine.prepared import Prepared
    from jammi_lab.result import Result

_WORDS = {
    "SEQ_SCAN": "scan",
    "TABLE_SCAN": "scan",
    "HASH_GROUP_BY": "group",
    "PERFECT_HASH_GROUP_BY": "group",
    "UNGROUPED_AGGREGATE": "aggregate",
    "HASH_JOIN": "join",
    "NESTED_LOOP_JOIN": "join by comparing all",
    "BLOCKWISE_NL_JOIN": "join by comparing all",
    "PIECEWISE_MERGE_JOIN": "join by merging",
    "IE_JOIN": "join by ranges",
    "ASOF_JOIN": "as-of join",
    "CROSS_PRODUCT": "cross join",
    "ORDER_BY": "order",
    "TOP_N": "first in order",
    "STREAMING_LIMIT": "limit",
    "COLUMN_DATA_SCAN": "values",
    "PROJECTION": "select",
    "EMPTY_RESULT": "no rows",
    "DUMMY_SCAN": "one row",
}
_TOLD = ("Function", "Table", "Projections", "Filters", "Expression", "Join Type", "Conditions", "Groups", "Aggregates", "Order By", "Top", "Limit")
_QUIET = frozenset({"QUERY", "QUERY_ROOT", "EXPLAIN_ANALYZE", "RESULT_COLLECTOR"})
_MOST_TOLD = 70
"""Characters that a step's particulars may have."""


@dataclass(frozen=True)
class Operator:
    """A step of the engine's."""

    name: str
    """What it does, in a word or two."""
    about: str
    """Its particulars: columns, conditions."""
    rows: int | None
    """That came out of it; estimated when the statement was not run."""
    seconds: float | None
    """Of all threads; None when the statement was not run."""
    children: tuple["Operator", ...]
    """What it reads from."""


class Explanation(str, Shown):
    """The tree as text; `.root` is its first step, `.seconds` what the statement took, None when it was not run."""

    __slots__ = ("root", "seconds")
    __repr__ = Shown.__repr__
    root: Operator | None
    seconds: float | None

    def __new__(cls, body: str) -> "Explanation":
        """From the engine's JSON."""
        found = json.loads(body)
        ran = isinstance(found, Mapping)
        roots = [o for each in (found.get("children", []) if ran else found) for o in _operators(each, ran=ran)]
        root = roots[0] if roots else None
        seconds = float(found["latency"]) if ran and "latency" in found else None
        made = super().__new__(cls, "\n".join(_lines(root, seconds)))
        made.root, made.seconds = root, seconds
        return made

    def _form(self) -> Form:
        text = str.__str__(self)
        return Form(f'<pre style="margin:0.2em 0">{chr(10).join(escape(line) for line in text.split(chr(10)))}</pre>', text)


def explained(text: str, analyze: bool, prepare: "Callable[[str], list[Prepared]]", run: "Callable[[Prepared], Result]") -> Explanation:
    """How one statement would run. Errors mark a place in what was typed. InvalidArgument for several statements, of which none is run then."""
    if not isinstance(text, str):
        raise InvalidArgument(f"A statement is a text, not a value of type {type(text).__name__}.")
    before = "EXPLAIN (ANALYZE, FORMAT JSON) " if analyze else "EXPLAIN (FORMAT JSON) "
    try:
        prepared = prepare(before + text)
        if prepared[1:]:
            raise InvalidArgument(f"One statement can be explained at a time; this text holds {len(prepared)}.", hint="Nothing was run.")
        return Explanation(str(run(prepared[0]).fetchall()[0][-1]))
    except JammiError as error:
        if error.statement is not None and error.statement.startswith(before):
            error.at(error.statement.removeprefix(before), None if error.position is None else max(0, error.position - len(before)))
        raise


def _operators(node: Mapping[str, Any], *, ran: bool) -> list[Operator]:
    """A step with what is below it; steps that only carry columns along are left out."""
    name = str(node.get("operator_name" if ran else "name", "")).strip()
    below = [o for child in node.get("children", []) for o in _operators(child, ran=ran)]
    about = _about(node.get("extra_info") or {}, name)
    if name in _QUIET or (name == "PROJECTION" and len(below) == 1 and ("__internal" in about or not about)):
        return below
    rows = node.get("operator_cardinality") if ran else (node.get("extra_info") or {}).get("Estimated Cardinality")
    number = int(str(rows)) if str(rows).isdigit() else None
    took = float(node["operator_timing"]) if ran and "operator_timing" in node else None
    return [Operator(_WORDS.get(name, name.replace("_", " ").lower()), about, number, took, tuple(below))]


def _about(info: Mapping[str, Any], name: str) -> str:
    told = []
    for key in _TOLD:
        value = info.get(key)
        parts = [str(v) for v in value] if isinstance(value, Sequence) and not isinstance(value, str) else str(value or "").split("\n")
        said = ", ".join(p.removeprefix("memory.main.") for p in parts if p and p != name and not p.startswith("#"))
        if said:
            told.append(said.lower() if key == "Join Type" else said)
    text = visible("; ".join(told))
    return text if len(text) <= _MOST_TOLD else text[: _MOST_TOLD - 1] + "…"


def _lines(root: Operator | None, seconds: float | None) -> list[str]:
    if root is None:
        return ["nothing to do"]
    drawn = list(_drawn(root, "", ""))
    wide = max(width(text) for text, _ in drawn)
    counted = [f"{'' if seconds is not None else '~'}{o.rows:,} row{'' if o.rows == 1 else 's'}" if o.rows is not None else "" for _, o in drawn]
    most = max(map(len, counted))
    lines = []
    for (text, operator), rows in zip(drawn, counted, strict=True):
        took = f"  {operator.seconds * 1e3:,.1f} ms" if operator.seconds is not None else ""
        lines.append(f"{text}{' ' * (wide - width(text))}  {rows:>{most}}{took}".rstrip())
    ran = "not run: rows are estimated" if seconds is None else f"took {seconds * 1e3:,.1f} ms"
    return [*lines, ran]


def _drawn(operator: Operator, lead: str, indent: str) -> Iterator[tuple[str, Operator]]:
    yield f"{lead}{operator.name}{f' · {operator.about}' if operator.about else ''}", operator
    for at, child in enumerate(operator.children):
        last = at == len(operator.children) - 1
        yield from _drawn(child, indent + ("└─ " if last else "├─ "), indent + ("   " if last else "│  "))
