"""What a workspace and a panel are made of, for tests of the rooms below them."""

from collections.abc import Mapping
from typing import Any

from jammi_widgets import auto_refresh
from jammi_widgets.board_rows import RecipeRows


def services_of(workspace: Any) -> Any:
    """The `Services` that a workspace holds."""
    return workspace._services


def record_of(handle: Any) -> Any:
    """The catalog's record that a table or a source is made of, which the rooms below take."""
    return handle._record


def recipe_rows_of(board: Any) -> RecipeRows:
    """The rows that a status board shows."""
    rows: RecipeRows = board._rows
    return rows


def snapshot_of(graph: Any) -> Any:
    """The nodes, edges and verdicts that a lineage graph shows."""
    return graph._snapshot


def show_snapshot(graph: Any, snapshot: Any) -> None:
    """Let a lineage graph show these nodes, edges and verdicts."""
    graph._snapshot = snapshot


def lineage_of(workspace: Any, verdicts: Mapping[str, Any], step: int) -> Any:
    """A lineage graph over tables with these verdicts, by name, each made from that so many before
    it."""
    from jammi_lab.core.records import Edge
    from jammi_lab.freshness.lineage import Node
    from jammi_widgets import LineageGraph
    from jammi_widgets.graph_view import LineageSnapshot

    nodes = [Node("sql", name, 1) for name in verdicts]
    pairs = zip(verdicts, [*verdicts][step:], strict=False)
    graph = LineageGraph(workspace)
    show_snapshot(
        graph, LineageSnapshot(nodes, [Edge(*p, "result_digest") for p in pairs], verdicts)
    )
    return graph


def result_page_of(view: Any) -> Any:
    """The rows that a result view holds in memory."""
    return view._result_page


def runner_of(panel: Any) -> Any:
    """What runs the actions of a panel."""
    return panel._runner


def wait_for_refresh(seconds: float = 30) -> None:
    """Wait until no panel is left to be refreshed after the last cell."""
    auto_refresh._queue.wait(seconds)
