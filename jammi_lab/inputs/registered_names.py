"""Names in FROM that the catalog alone knows: registered sources and the workspace's own tables."""

from collections.abc import Callable, Iterable
from typing import Any

from jammi_lab.catalog.catalog import Catalog
from jammi_lab.core.anchors import source_input
from jammi_lab.core.identifiers import RESERVED_SOURCES, fold
from jammi_lab.engine.name_resolution import NameResolver
from jammi_lab.sources.base import ReadPlan, Relation

_PLACEHOLDER = Relation(source_input(""), ReadPlan(body=""))
_FUNCTIONS = ("search", "neighbors")
"""The table functions that read tables."""


class RegisteredNames(NameResolver):
    """Knows which names are registered. It opens nothing: its relations are placeholders, for
    checking the names of a statement before the statement is prepared."""

    def __init__(self, catalog: Catalog, names: Callable[[], Iterable[str]]) -> None:
        """`names`: the names for suggestions."""
        self._catalog, self._names = catalog, names

    def resolve(self, parts: tuple[str, ...]) -> Relation | None:
        """A placeholder for a registered name; None for any other."""
        is_own = len(parts) > 1 and fold(parts[0]) in RESERVED_SOURCES
        is_known = is_own or self._catalog.sources.get(parts[0]) is not None
        return _PLACEHOLDER if is_known else None

    def call(self, function: str, arguments: tuple[Any, ...]) -> Relation | None:  # noqa: ARG002
        """A placeholder for a function that reads tables; None for one that reads files."""
        return _PLACEHOLDER if function in _FUNCTIONS else None

    def names(self) -> Iterable[str]:
        """The names for suggestions."""
        return self._names()
