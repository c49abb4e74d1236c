"""What is particular to the release of DuckDB that is used: optimizers that return wrong rows, of
which docs/engine-faults.md lists the reports."""

from typing import Any

import duckdb

from jammi_lab.core.errors import ExtensionMissing

Node = dict[str, Any]

ALWAYS_OFF = ("common_subplan", "top_n_window_elimination")
"""Off for all statements, which are hardly slower."""
OPTION = "disabled_optimizers"
OFF = ",".join((*ALWAYS_OFF, "deliminator", "join_filter_pushdown"))
"""The value of the option for statements to which a fault may apply: others take up to forty times
as long with it."""
_LIMITS = ("LIMIT_MODIFIER", "LIMIT_PERCENT_MODIFIER")


def check_release() -> None:
    """Raise ExtensionMissing for a DuckDB that definitions and verdicts were not tried with."""
    if not duckdb.__version__.startswith("1.5."):
        raise ExtensionMissing(
            f"jammi_lab runs on DuckDB 1.5, and DuckDB {duckdb.__version__} is installed.",
            hint='Run: pip install "duckdb==1.5.5".',
        )


def may_apply(tree: Node) -> bool:
    """Whether a statement has what the faults of the other optimizers need: a query inside of it
    with a LIMIT, below which `join_filter_pushdown` filters, or a query in FROM inside of another
    one inside of it, from which `deliminator` removes outer columns."""
    parts: list[tuple[Any, bool]] = [(tree, False)]  # with whether each is inside of another query
    while parts:
        part, is_inside = parts.pop()
        if isinstance(part, list):
            parts.extend((each, is_inside) for each in part)
        elif isinstance(part, dict):
            if part is not tree and any(m["type"] in _LIMITS for m in part.get("modifiers") or ()):
                return True
            if is_inside and _is_in_from(part):
                return True
            parts.extend((each, is_inside or key == "subquery") for key, each in part.items())
    return False


def _is_in_from(node: Node) -> bool:
    """Whether a node is a query in FROM, or a name that a WITH gives to one."""
    return (node.get("type") == "SUBQUERY" and "class" not in node) or bool(
        (node.get("cte_map") or {}).get("map")
    )
