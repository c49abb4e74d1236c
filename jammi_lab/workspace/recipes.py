"""The list of recipes with their definitions and newest versions."""

from collections.abc import Sequence

from jammi_lab.catalog.catalog import Catalog
from jammi_lab.core.forms import listing_table
from jammi_lab.core.html import CalledCollection, Rendered, ReprMixin
from jammi_lab.core.records import RecipeRecord, recipe_statement
from jammi_lab.freshness.reports import NamedRows


class Recipe(ReprMixin):
    """One recipe."""

    def __init__(self, record: RecipeRecord, newest: int | None) -> None:
        self._record = record
        self.newest_version = newest
        """The newest ready version; None when there is none."""

    @property
    def name(self) -> str:
        """Its name."""
        return self._record.name

    @property
    def kind(self) -> str:
        """The kind of producer that makes its tables."""
        return self._record.kind

    @property
    def definition(self) -> str:
        """The statement, the source of the function, or the name of the external producer."""
        return recipe_statement(self._record)

    @property
    def definition_hash(self) -> str:
        """The digest of the current definition."""
        return self._record.definition_hash

    @property
    def tenant(self) -> str | None:
        """The owner; None is shared."""
        return self._record.tenant

    def _rendered(self) -> Rendered:
        return _recipes_table([self])


class Recipes(CalledCollection, NamedRows[Recipe], ReprMixin):
    """All recipes, in the order of their names."""

    def __init__(self, recipes: Sequence[Recipe]) -> None:
        self._rows = list(recipes)

    def _rendered(self) -> Rendered:
        return _recipes_table(self._rows)


def recipe_of(record: RecipeRecord, catalog: Catalog) -> Recipe:
    """A recipe with its newest ready version."""
    newest = catalog.result_tables.newest(record.name)
    return Recipe(record, None if newest is None else newest[0].version)


def list_recipes(catalog: Catalog) -> Recipes:
    """All recipes that the bound tenant sees."""
    newest = {(v.tenant, v.recipe): v.version for v, _ in catalog.result_tables.current()}
    return Recipes([Recipe(r, newest.get((r.tenant, r.name))) for r in catalog.recipes.list()])


def _recipes_table(recipes: Sequence[Recipe]) -> Rendered:
    rows = [(r.name, r.kind, r.newest_version, " ".join(r.definition.split())) for r in recipes]
    return listing_table(["recipe", "kind", "newest version", "definition"], rows, aligned="llrl")
