"""Sums, averages, minima and maxima of floating-point numbers that are the same whatever the order
of the rows, the number of threads and the machine; used where rows are stored.

A number between 1e-21 and 9e18 is split into whole multiples of three units that lie 62 bits apart.
Multiples are added as integers, which is exact, and put together at the end with an error of about
one unit in the last place (after Demmel and Nguyen, *Parallel Reproducible Summation*, 2015). What
the units leave of other numbers, infinities and NaN is collected and added in ascending order. The
sums of the multiples, with those rests, are *partial sums*: they are exact, and those of two sets
of rows can be merged.

A result that is 0 is 0.0, not -0.0, and all NaN are the same one.

The functions are macros over DuckDB's aggregates. A macro takes no DISTINCT, ORDER BY or OVER, so
those calls stay as they are; a FILTER becomes part of the argument.
"""

import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import duckdb

from jammi_lab.core.identifiers import ascii_lower
from jammi_lab.engine.sql.allowlist import walk_nodes

Node = dict[str, Any]

SUM, AVERAGE, PARTIAL = "__jammi_sum", "__jammi_avg", "__jammi_partial"
MINIMUM, MAXIMUM = "__jammi_min", "__jammi_max"
_EXTREMES = {"min": MINIMUM, "max": MAXIMUM}
_MACROS = {"sum": SUM, "avg": AVERAGE, "mean": AVERAGE, **_EXTREMES}
_PARTIAL_MACROS = {**dict.fromkeys(("sum", "avg", "mean"), PARTIAL), **_EXTREMES}
_CALLED_MACROS = re.compile(r"\b__jammi_(sum|avg|min|max|partial)(_of)?\(")
PARTIAL_TYPE = "STRUCT(m1 HUGEINT, m2 HUGEINT, m3 HUGEINT, apart DOUBLE[], n BIGINT)"
"""The type of partial sums: by unit the sum of the multiples, what the units leave of numbers, and
how many numbers there are in all."""
_BITS = 62
_UNITS = [2.0 ** (-_BITS * level) for level in range(3)]
_MARK = re.compile(r'"__jammi_call_(\d+)"')
_ROUNDING_AGGREGATES = frozenset(
    """
    avg corr covar_pop covar_samp entropy favg fsum kahan_sum kurtosis kurtosis_pop max mean min
    product regr_avgx regr_avgy regr_intercept regr_r2 regr_slope regr_sxx regr_sxy regr_syy sem
    skewness stddev stddev_pop stddev_samp sum sumkahan var_pop var_samp variance
    """.split()
)


def create_macros() -> Iterator[str]:
    """The statements that create the macros, each after those that it uses."""
    for name, body in _macro_bodies():
        yield f"CREATE MACRO IF NOT EXISTS {name} AS {body}"


def _number(value: float) -> str:
    return f"{value!r}::DOUBLE"


def _macro_bodies() -> Iterator[tuple[str, str]]:
    """Names with parameters, and bodies."""
    # Too large a number, an infinity and NaN have no multiples: all that is made of them is NULL.
    # No CASE: DuckDB computes a part once for all macros that contain it, but not within a CASE.
    above = "x"
    yield "__jammi_1(x)", "TRY_CAST(x AS BIGINT)"
    for level in (2, 3):
        below = f"({above} - __jammi_{level - 1}(x)::DOUBLE) * {_number(2.0**_BITS)}"
        above = f"__jammi_rest_{level}(x)"
        yield above, f"({below})"
        yield f"__jammi_{level}(x)", f"CAST({above} AS BIGINT)"
    is_left = f"CAST({above} - __jammi_3(x)::DOUBLE AS BOOLEAN)"
    is_other = "(__jammi_1(x) IS NULL AND x IS NOT NULL)"
    multiple = f"coalesce(TRY_CAST(x / {_number(_UNITS[-1])} AS BIGINT), 0)"
    yield (
        "__jammi_left(xs)",
        f"list_transform(xs, lambda x: x - {multiple} * {_number(_UNITS[-1])})",
    )
    yield "__jammi_carry(s)", f"CAST(s::DOUBLE / {_number(2.0**_BITS)} AS HUGEINT)"
    yield "__jammi_below(s)", f"CAST(s - __jammi_carry(s) * {2**_BITS} AS DOUBLE)"
    apart = f"__jammi_left(list(x) FILTER (WHERE {is_left} OR {is_other}))"
    levels = range(1, len(_UNITS) + 1)
    sums = [f"sum(__jammi_{level}(x))" for level in levels]
    fields = [f"m{level} := {part}" for level, part in zip(levels, sums, strict=True)]
    yield "__jammi_double_partial(x)", _struct(*fields, f"apart := {apart}", "n := count(x)")
    yield f"{PARTIAL}(x)", "__jammi_double_partial(x::DOUBLE)"
    merged = [f"m{level} := sum(p.m{level})" for level in levels]
    merged += ["apart := flatten(list(p.apart))", "n := CAST(sum(p.n) AS BIGINT)"]
    yield f"{PARTIAL}_of(p)", _struct(*merged)
    yield "__jammi_settled(x)", "CASE WHEN isnan(x) THEN 'nan'::FLOAT ELSE x + 0::TINYINT END"
    total = _total([f"p.m{level}" for level in levels], "p.apart", "p.n")
    yield f"{SUM}_of(p)", total
    yield f"{AVERAGE}_of(p)", f"({SUM}_of(p) / p.n)"
    yield "__jammi_double_sum(x)", _total(sums, apart, "count(x)")
    yield f"{SUM}(x)", "__jammi_double_sum(x::DOUBLE)"
    yield f"{AVERAGE}(x)", "(__jammi_double_sum(x::DOUBLE) / count(x))"
    for function, macro in _EXTREMES.items():
        yield f"{macro}(x)", f"__jammi_settled({function}(x))"


def _struct(*fields: str) -> str:
    return f"struct_pack({', '.join(fields)})"


def _total(sums: Sequence[str], others: str, count: str) -> str:
    """The sum of all numbers, NULL where there is none."""
    of_others = f"coalesce(list_sum(list_sort({others})), 0)"
    return f"__jammi_settled({_put_together(sums)} + {of_others} + 0 * nullif({count}, 0))"


def _put_together(sums: Sequence[str]) -> str:
    """The number of the sums by unit: from the least, each gives what exceeds it to the next."""
    sums = [f"coalesce({each}, 0)" for each in sums]
    above, terms = sums[-1], list[str]()
    for unit, next_sum in zip(_UNITS[:0:-1], sums[-2::-1], strict=True):
        terms.append(f"__jammi_below({above}) * {_number(unit)}")
        above = f"({next_sum} + __jammi_carry({above}))"
    return "(" + " + ".join([*terms, f"{above}::DOUBLE * {_number(_UNITS[0])}"]) + ")"


# -- the statement with the macros


@dataclass(frozen=True, slots=True)
class ExactForm:
    """How a statement is run whose rows are stored."""

    text: str | None
    """The statement with the macros; None where it has no call that they can stand for."""
    rounds: bool
    """Whether another aggregate of floating-point numbers is left, whose last bits depend on the
    order in which DuckDB adds."""
    partial: str | None = None
    """`text` with partial sums in place of sums and averages."""


def uses_macros(text: str) -> bool:
    """Whether a text that is run may call the macros."""
    return _CALLED_MACROS.search(text) is not None


def rounds(expression: Node) -> bool:
    """Whether an expression of a bound plan is an aggregate of floating-point numbers that rounds,
    or picks one of several forms of 0 or NaN."""
    if expression.get("expression_class") not in ("BOUND_AGGREGATE", "BOUND_WINDOW"):
        return False
    name = ascii_lower(expression.get("name") or "")
    if name not in _ROUNDING_AGGREGATES:
        return False
    if name == "entropy":  # of how often there is each value, of any type
        return True
    arguments = expression.get("children") or ()
    kinds = [a.get("return_type") or (a.get("value") or {}).get("type") for a in arguments]
    return any((kind or {}).get("id") in ("FLOAT", "DOUBLE") for kind in kinds)


def exact_form(
    tree: Node, print_tree: Callable[[Node], str | None], plan_of: Callable[[str], Node]
) -> ExactForm:
    """The form of a SELECT. `plan_of` gives the bound plan of a text. When in doubt, it rounds."""
    marked = _copy(tree)
    calls = _replaceable_calls(marked)
    for number, call in enumerate(calls):
        call["filter"] = _and(_mark(number), call["filter"])
    text = print_tree(marked)
    if text is None:
        return ExactForm(None, rounds=True)
    try:
        plan = plan_of(text)
    except (duckdb.Error, ValueError, KeyError, RecursionError):
        return ExactForm(None, rounds=True)
    floats, others, is_left = set[int](), set[int](), False
    for expression in walk_nodes(plan):
        mark = _MARK.search(json.dumps(expression.get("filter")))
        if mark is not None:
            (floats if rounds(expression) else others).add(int(mark[1]))
        elif rounds(expression) and ascii_lower(expression["name"]) not in _EXTREMES:
            is_left = True
    if floats & others:  # one call of several columns
        return ExactForm(None, rounds=True)
    if not floats:
        return ExactForm(None, is_left)
    text, partial = (
        _with_macros(tree, floats, print_tree, macros) for macros in (_MACROS, _PARTIAL_MACROS)
    )
    return ExactForm(text, is_left, partial)


def _with_macros(
    tree: Node,
    floats: Collection[int],
    print_tree: Callable[[Node], str | None],
    macros: Mapping[str, str],
) -> str | None:
    """The text of a statement in which macros stand for some of the replaceable calls."""
    exact = _copy(tree)
    named = _unnamed_items(exact)
    names = [print_tree(_select_of(item)) for item in named]
    for number, call in enumerate(_replaceable_calls(exact)):
        if number in floats:
            call["function_name"] = macros[_function_name(call)]
            if call["filter"] is not None:
                call["children"] = [_only_where(call["filter"], call["children"][0])]
                call["filter"] = None
    for item, name in zip(named, names, strict=True):
        if name is None:
            return None
        item["alias"] = name.removeprefix("SELECT ")
    return print_tree(exact)


def _replaceable_calls(tree: Node) -> list[Node]:
    """The calls that a macro can stand for if their argument is floating-point."""
    pivoted = {id(n) for p in walk_nodes(tree) if p.get("type") == "PIVOT" for n in walk_nodes(p)}
    return [
        node
        for node in walk_nodes(tree)
        if node.get("class") == "FUNCTION"
        and _function_name(node) in _MACROS
        and id(node) not in pivoted
        and not node["distinct"]
        and not node["order_bys"]["orders"]
        and len(node["children"]) == 1
        and not any(n.get("class") == "STAR" for n in walk_nodes(node["children"]))
    ]


def _unnamed_items(tree: Node) -> list[Node]:
    """The selected expressions with a replaceable call that have the text as their name."""
    calls = {id(call) for call in _replaceable_calls(tree)}
    return [
        item
        for node in walk_nodes(tree)
        for item in node.get("select_list") or ()
        if not item.get("alias") and any(id(n) in calls for n in walk_nodes(item))
    ]


def _function_name(node: Node) -> str:
    return ascii_lower(node.get("function_name") or "")


def _copy(tree: Node) -> Node:
    copied: Node = json.loads(json.dumps(tree))
    return copied


def _select_of(item: Node) -> Node:
    return {
        "type": "SELECT_NODE",
        "modifiers": [],
        "cte_map": {"map": []},
        "select_list": [item],
        "from_table": {"type": "EMPTY", "alias": "", "sample": None},
        "where_clause": None,
        "group_expressions": [],
        "group_sets": [],
        "aggregate_handling": "STANDARD_HANDLING",
        "having": None,
        "sample": None,
        "qualify": None,
    }


def _mark(number: int) -> Node:
    """A condition that is true and tells the call in the plan."""
    return {
        "class": "COMPARISON",
        "type": "COMPARE_NOTEQUAL",
        "alias": "",
        "left": _constant(f"__jammi_call_{number}"),
        "right": _constant(""),
    }


def _constant(text: str | None) -> Node:
    kind = "NULL" if text is None else "VARCHAR"
    value = {"type": {"id": kind, "type_info": None}, "is_null": text is None}
    if text is not None:
        value["value"] = text
    return {"class": "CONSTANT", "type": "VALUE_CONSTANT", "alias": "", "value": value}


def _and(first: Node, second: Node | None) -> Node:
    if second is None:
        return first
    conditions = [first, second]
    return {
        "class": "CONJUNCTION",
        "type": "CONJUNCTION_AND",
        "alias": "",
        "children": conditions,
    }


def _only_where(condition: Node, argument: Node) -> Node:
    return {
        "class": "CASE",
        "type": "CASE_EXPR",
        "alias": "",
        "case_checks": [{"when_expr": condition, "then_expr": argument}],
        "else_expr": _constant(None),
    }
