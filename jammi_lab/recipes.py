"""Recipes as people see them: a list of names with their definition and newest version."""

from collections.abc import Iterator, Sequence

from jammi_lab import forms
from jammi_lab.markup import Form, Shown
from jammi_lab.sensing.reports import called, is_among
from jammi_lab.values.records import RecipeRecord, statement_of


class Recipe(Shown):
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
        """What makes its tables."""
        return self._record.kind.value

    @property
    def definition(self) -> str:
        """The statement, the source of the function, or who makes its rows."""
        return statement_of(self._record)

    @property
    def definition_hash(self) -> str:
        """The digest of the definition as it stands."""
        return self._record.definition_hash

    @property
    def tenant(self) -> str | None:
        """Whose it is; None is shared."""
        return self._record.tenant

    def _form(self) -> Form:
        return _listed([self])


class Recipes(Shown):
    """All recipes: iterable in the order of their names, `len()`, by name or place."""

    def __init__(self, recipes: Sequence[Recipe]) -> None:
        self._recipes = list(recipes)

    def __iter__(self) -> Iterator[Recipe]:
        return iter(self._recipes)

    def __len__(self) -> int:
        return len(self._recipes)

    def __contains__(self, what: object) -> bool:
        return is_among(what, self._recipes)

    def __getitem__(self, at: int | str) -> Recipe:
        """One of them. TableNotFound, with near names; IndexError."""
        return called(at, self._recipes) if isinstance(at, str) else self._recipes[at]

    def _form(self) -> Form:
        return _listed(self._recipes)


def _listed(recipes: Sequence[Recipe]) -> Form:
    rows = [(r.name, r.kind, r.newest_version, " ".join(r.definition.split())) for r in recipes]
    return forms.listing(["recipe", "kind", "newest version", "definition"], rows, aligned="llrl")
