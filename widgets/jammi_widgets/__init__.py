"""Panels that show a workspace in a notebook: `jl.widgets`. Each is loaded when it is first asked for."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jammi_widgets.catalog import CatalogBrowser
    from jammi_widgets.lineage import LineageGraph
    from jammi_widgets.map import EmbeddingMap
    from jammi_widgets.neighbors import NeighborExplorer
    from jammi_widgets.results import ResultView
    from jammi_widgets.staleness import StalenessBoard

__all__ = ["CatalogBrowser", "EmbeddingMap", "LineageGraph", "NeighborExplorer", "ResultView", "StalenessBoard"]

_HOMES = {
    "CatalogBrowser": "catalog",
    "EmbeddingMap": "map",
    "LineageGraph": "lineage",
    "NeighborExplorer": "neighbors",
    "ResultView": "results",
    "StalenessBoard": "staleness",
}


def __getattr__(name: str) -> Any:
    """The panel; AttributeError names the panels that there are."""
    if name in _HOMES:
        return getattr(importlib.import_module(f"jammi_widgets.{_HOMES[name]}"), name)
    raise AttributeError(f"jl.widgets has no {name!r}; it holds {', '.join(__all__)}.")


def __dir__() -> list[str]:
    return sorted(__all__)
