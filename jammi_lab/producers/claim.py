"""A recipe's name while one call makes a table of it."""

import contextlib

from jammi_lab.catalog.catalog import Catalog
from jammi_lab.errors import JammiError
from jammi_lab.values.records import RecipeRecord


class Redefined(Exception):
    """The recipe has another definition by now, or is gone; `produce` raises it only when it was told which definition it is about."""


class Claim:
    """A recipe's name for one call: the definition is this call's until another call gives it another one, and then stays that one's."""

    def __init__(self, catalog: Catalog, name: str, instead_of: str | None) -> None:
        self._catalog, self.name, self.tenant = catalog, name, catalog.scope.tenant
        self._stands, self._strict, self._ours = instead_of, instead_of is not None, True
        before = catalog.recipes.get(name)
        self._new = before is None or before.tenant != self.tenant

    def put(self, record: RecipeRecord) -> None:
        """Make a definition the recipe's. DependencyCycle; Redefined."""
        if not self._ours:
            return
        kept = self._catalog.recipes.define(record, instead_of=self._stands, anew=not self._strict)
        if kept is not None:
            self._stands = kept.definition_hash
        elif self._strict:
            raise Redefined(self.name)
        else:
            self._ours = False  # the call that began last has the name; this one still makes what it was asked for

    def hold(self, record: RecipeRecord) -> None:
        """Once a table is begun, which no other call's `forget` overlooks: put the definition again when one came before that. Raises as `put`."""
        if self._new and self._catalog.recipes.get(self.name) is None:
            self.put(record)

    def forget(self) -> None:
        """Take away the recipe that a first call made and did not finish, unless another call is at it, or has given it a version or a definition."""
        if self._new and self._ours and self._stands is not None:
            with contextlib.suppress(JammiError):
                self._catalog.recipes.remove_unmade(self.name, self._stands)
