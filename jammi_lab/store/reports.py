"""What upkeep says that it found and did."""

from typing import Any

from jammi_lab import forms
from jammi_lab.markup import Form, bullets, count, heading, plain, size, stack
from jammi_lab.values.base import Value


class _Report(Value, frozen=True):
    """A report; a notebook shows it in words."""

    def _form(self) -> Form:
        raise TypeError(f"{type(self).__name__} gives no form")

    def _repr_html_(self) -> str:
        return self._form().html

    def _repr_pretty_(self, printer: Any, _cycle: bool) -> None:
        printer.text(self._form().text)


class CheckReport(_Report, frozen=True):
    """How catalog and files compare, as physical names or paths relative to the workspace; falsy when they agree and nothing had to be done."""

    missing: list[str] = []
    """Ready tables whose bytes are gone, and the paths of manifests that are."""
    orphans: list[str] = []
    """Files under `results/` that no row of the catalog accounts for."""
    damaged: list[str] = []
    """Ready tables whose bytes or manifest are not the ones that were published."""
    indexes: list[str] = []
    """Embedding tables whose index is missing, damaged, outdated or being built, and which of these: they are searched without it."""
    repaired: list[str] = []
    """Tables that a repair gave back what they had lost, or finished for a writer that died."""
    failed: list[str] = []
    """Tables that a repair had to give up: the row is failed, whole bytes are in the quarantine."""
    reclaimed: list[str] = []
    """Files that a repair removed."""
    bytes_reclaimed: int = 0
    """Their size."""
    quarantined: list[str] = []
    """What lies in the quarantine."""
    bytes_quarantined: int = 0
    """Its size."""
    errors: list[str] = []
    """What could not be compared or settled, and why."""

    def __bool__(self) -> bool:
        return any((self.missing, self.orphans, self.damaged, self.indexes, self.repaired, self.failed, self.reclaimed, self.errors))

    def __str__(self) -> str:
        parts = [f"{len(found)} {field}" for field, found in self.to_dict().items() if isinstance(found, list) and found]
        return "check: " + (", ".join(parts) if parts else "catalog and files agree")

    def _form(self) -> Form:
        found = {field: names for field, names in self.to_dict().items() if isinstance(names, list) and field not in ("quarantined", "errors")}
        named = [f"{field.replace('_', ' ')}: {name}" for field, names in found.items() for name in names]
        aside = plain(f"quarantine: {count(len(self.quarantined), 'file')}, {size(self.bytes_quarantined)}") if self.quarantined else None
        return stack(forms.check(found, self.bytes_reclaimed), bullets([*named, *self.errors]) if named or self.errors else None, aside)


class RebuildReport(_Report, frozen=True):
    """What a new catalog was made from, and what it lacks."""

    recipes: list[str] = []
    """Recipes that have their newest definition and their versions again."""
    tables: list[str] = []
    """Result tables that are in the catalog again."""
    missing: list[str] = []
    """Those of them whose bytes are gone."""
    altered: list[str] = []
    """Manifests that somebody, or the disk, has changed since they were written; what they say was checked and taken over."""
    unreadable: list[str] = []
    """Manifests that could not be taken over, and why; their files were left alone."""
    sources: list[str] = []
    """Sources that have to be added again, under these names."""
    kept: str | None = None
    """The former catalog, as it was, in the workspace's folder; None when there was none."""
    lost: list[str] = []
    """What manifests do not hold."""

    def __str__(self) -> str:
        return f"rebuilt: {count(len(self.recipes), 'recipe')}, {count(len(self.tables), 'table')}"

    def _lines(self) -> list[str]:
        return [
            f"{count(len(self.recipes), 'recipe')} with {count(len(self.tables), 'result table')} are back",
            *([f"without bytes: {', '.join(self.missing)}"] if self.missing else []),
            *(f"taken over, though it is not as it was written: {each}" for each in self.altered),
            *([f"add again, under the same names: {', '.join(self.sources)}"] if self.sources else []),
            *(f"not taken over: {each}" for each in self.unreadable),
            *([f"the former catalog is kept as {self.kept}"] if self.kept else []),
            *(f"not in any manifest: {each}" for each in self.lost),
        ]

    def _form(self) -> Form:
        return stack(heading("Rebuilt"), bullets(self._lines()))
