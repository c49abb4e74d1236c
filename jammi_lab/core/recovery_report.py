"""The report of a recovery: what it did to each table that a crash left unfinished."""

from typing import ClassVar

import msgspec

from jammi_lab.core.forms import form
from jammi_lab.core.html import (
    Rendered,
    bullet_list,
    count_noun,
    details,
    plain_text,
)
from jammi_lab.core.value import DisplayedValue

_FINDING_TEXTS = {
    "promoted": "completed by a writer that has exited, now ready",
    "failed": "started but never finished, marked failed",
    "healed": "whose manifest was restored from the catalog, or whose index was rebuilt from the "
    "vectors",
    "quarantined": "whose bytes no manifest attests, moved to quarantine",
    "reaped": "partly removed, now removed completely",
    "spared": "still being built by a live writer",
    "missing": "whose file is missing",
    "unknown": "complete on disk but unknown to the catalog, which has lost commits or belongs to "
    "another workspace (jl.rebuild(path) makes a catalog of all tables on disk)",
}
_MAX_INLINE_NAMES = 5


def _finding(text: str, names: list[str]) -> Rendered:
    """A finding with its tables. A long list is collapsed."""
    if len(names) <= _MAX_INLINE_NAMES:
        return plain_text(f"{text}: {', '.join(names)}")
    return details(
        plain_text(
            f"{text}: {', '.join(names[:_MAX_INLINE_NAMES])}, and "
            f"{len(names) - _MAX_INLINE_NAMES:,} more"
        ),
        bullet_list(names),
    )


class Findings(DisplayedValue, frozen=True):
    """Lists of names, by what was found. False when all that matters are empty."""

    _title: ClassVar[str]
    _no_findings: ClassVar[str]
    _harmless: ClassVar[str]
    """The list that does not matter."""

    @classmethod
    def list_fields(cls) -> list[str]:
        """The names of the lists."""
        return [field.name for field in msgspec.structs.fields(cls) if field.type == list[str]]

    def lists(self) -> dict[str, list[str]]:
        """The lists that are not empty."""
        values = {field: getattr(self, field) for field in self.list_fields()}
        return {field: names for field, names in values.items() if names}

    def __bool__(self) -> bool:
        return bool(self.lists().keys() - {self._harmless})

    def __str__(self) -> str:
        counts = [f"{len(names)} {field}" for field, names in self.lists().items()]
        return f"{self._title}: {', '.join(counts) or self._no_findings}"


class RecoveryReport(Findings, frozen=True):
    """What a recovery did, as lists of physical table names. False when there was nothing to do."""

    _title, _no_findings, _harmless = "recovery", "nothing to do", "spared"

    promoted: list[str] = []
    failed: list[str] = []
    healed: list[str] = []
    quarantined: list[str] = []
    reaped: list[str] = []
    spared: list[str] = []
    missing: list[str] = []
    unknown: list[str] = []
    """Complete tables on disk without a row in the catalog."""
    moved: list[str] = []
    """Sources with absolute paths that are gone, or in the former project, since the workspace was
    moved or copied."""
    damaged_log: list[str] = []
    """What is known about commits that the catalog lost with its log, and what to do."""
    errors: list[str] = []
    """What could not be resolved, with the reason."""
    recipes: dict[str, str] = {}
    """The recipe of each listed table. The notebook form shows recipes, because physical names
    differ from run to run."""

    def _rendered(self) -> Rendered:
        findings = [(getattr(self, field), text) for field, text in _FINDING_TEXTS.items()]
        named_findings = [
            ([self.recipes.get(n, n) for n in names], text) for names, text in findings if names
        ]
        lines = [
            _finding(f"{count_noun(len(names), 'table')} {text}", names)
            for names, text in named_findings
        ]
        if self.moved:
            lines.append(
                _finding(
                    f"{count_noun(len(self.moved), 'source')} left behind when the workspace was "
                    "moved or copied (ws.relocate(old, new) changes the paths)",
                    self.moved,
                )
            )
        lines += [plain_text(message) for message in self.damaged_log]
        lines += [plain_text(f"could not be resolved: {e}") for e in self.errors]
        return (
            form("Recovery", table=bullet_list(lines))
            if lines
            else plain_text("recovery: nothing to do")
        )
