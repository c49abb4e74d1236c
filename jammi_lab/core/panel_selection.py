"""The selection of the panel in which a line of `%jammi` displayed a value."""

from collections.abc import Sequence
from typing import Any


class PanelSelection:
    """A mixin of values that are displayed as a panel in a notebook."""

    _widget: Any = None
    """The panel."""

    @property
    def selection(self) -> list[str]:
        """What is selected in the panel: node, recipe and source names, or row keys. Without a
        panel nothing is."""
        return [] if self._widget is None else list(self._widget.selection)

    @selection.setter
    def selection(self, names: Sequence[str]) -> None:
        if self._widget is not None:
            self._widget.selection = list(names)
