"""Notebook panels for a workspace, available as `jl.widgets`. Each panel is imported on first
use."""

import importlib
from typing import TYPE_CHECKING, Any

from jammi_lab.core.module_imports import import_modules

if TYPE_CHECKING:
    from jammi_widgets.catalog import CatalogBrowser
    from jammi_widgets.diff import DiffView
    from jammi_widgets.lineage import LineageGraph
    from jammi_widgets.map import EmbeddingMap
    from jammi_widgets.neighbors import NeighborExplorer
    from jammi_widgets.results import ResultView
    from jammi_widgets.staleness import StalenessBoard
    from jammi_widgets.workbench import Workbench

_HOMES = {
    "CatalogBrowser": "catalog",
    "DiffView": "diff",
    "EmbeddingMap": "map",
    "LineageGraph": "lineage",
    "NeighborExplorer": "neighbors",
    "ResultView": "results",
    "StalenessBoard": "staleness",
    "Workbench": "workbench",
}
"""The modules of the panels."""
__all__ = [
    "CatalogBrowser",
    "DiffView",
    "EmbeddingMap",
    "LineageGraph",
    "NeighborExplorer",
    "ResultView",
    "StalenessBoard",
    "Workbench",
]


def __getattr__(name: str) -> Any:
    """Import and return the panel class; AttributeError lists the available panels."""
    if name not in _HOMES:
        raise AttributeError(f"jl.widgets has no {name!r}; available: {', '.join(__all__)}.")
    with import_modules():
        return getattr(importlib.import_module(f".{_HOMES[name]}", __package__), name)


def draw_chart(result: Any, kind: str, x: str | None, y: str | None, color: str | None) -> Any:
    with import_modules():
        from jammi_widgets.charts import chart

    return chart(result, kind, x, y, color)


def __dir__() -> list[str]:
    return sorted(__all__)
