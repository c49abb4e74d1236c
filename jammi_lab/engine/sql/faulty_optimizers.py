"""DuckDB's optimizers that return wrong rows (1.5.5): docs/engine-faults.md lists the reports."""

from jammi_lab.engine.sql.allowlist import Node, walk_nodes

ALWAYS_OFF = ("common_subplan", "top_n_window_elimination")
"""Off for all statements, which are hardly slower."""
OFF = {"disabled_optimizers": ",".join((*ALWAYS_OFF, "deliminator", "join_filter_pushdown"))}
"""The option for statements to which a fault may apply: others take up to forty times as long with
it."""
_LIMITS = ("LIMIT_MODIFIER", "LIMIT_PERCENT_MODIFIER")


def may_apply(tree: Node) -> bool:
    """Whether a statement has what the faults of the other optimizers need: a query inside of it
    with a LIMIT, below which `join_filter_pushdown` filters, or a query in FROM inside of another
    one inside of it, from which `deliminator` removes outer columns."""
    for node in walk_nodes(tree):
        if node is not tree and any(m["type"] in _LIMITS for m in node.get("modifiers") or ()):
            return True
        inner = node.get("subquery")
        if inner is not None and any(_is_in_from(each) for each in walk_nodes(inner)):
            return True
    return False


def _is_in_from(node: Node) -> bool:
    """Whether a node is a query in FROM, or a name that a WITH gives to one."""
    return (node.get("type") == "SUBQUERY" and "class" not in node) or bool(
        (node.get("cte_map") or {}).get("map")
    )
