"""Panels that show a workspace in a notebook: `jl.widgets`.

None is built yet. Asking for one says which are planned and what shows the same thing today.
"""

from typing import Any, NoReturn

__all__: list[str] = []

_TODAY = {
    "LineageGraph": "ws.lineage(name) shows a picture of the lineage",
    "StalenessBoard": "ws.status() shows every verdict with its reasons",
    "NeighborExplorer": "ws.search(table, row=key) lists a row's neighbours",
    "CatalogBrowser": "ws.sources.list() and ws.tables() list what is there",
    "EmbeddingMap": "ws.table(name).read() gives the vectors to plot",
}


def __getattr__(name: str) -> NoReturn:
    """AttributeError that says, for a planned panel, what to use until it comes."""
    planned = ", ".join(_TODAY)
    if name in _TODAY:
        raise AttributeError(f"The panel {name} is not built yet (planned: {planned}); until it is, {_TODAY[name]}.")
    raise AttributeError(f"jl.widgets has no {name!r}; it is to hold the panels {planned}.")


def __dir__() -> list[Any]:
    return sorted(__all__)
