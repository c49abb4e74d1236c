"""Reports of the consistency check and the rebuild, and what a tenant sees of them: recovery and
check cover all tenants, and name tables and files of each."""

import contextlib
from collections.abc import Callable
from typing import ClassVar

import msgspec

from jammi_lab.catalog.catalog import Catalog
from jammi_lab.core.errors import SessionClosed
from jammi_lab.core.forms import form, listing_table
from jammi_lab.core.html import (
    Rendered,
    bullet_list,
    count_noun,
    details,
    format_bytes,
    plain_text,
    verdict_icon,
    vstack,
)
from jammi_lab.core.records import TableStatus
from jammi_lab.core.value import DisplayedValue
from jammi_lab.store.result_files import SHARED_FOLDER

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


class FindingLists(DisplayedValue, frozen=True):
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


class RecoveryReport(FindingLists, frozen=True):
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


class FsckReport(FindingLists, frozen=True):
    """Differences between catalog and files, as physical names or paths relative to the workspace.
    False when they agree and nothing had to be done."""

    _title, _no_findings, _harmless = "fsck", "catalog and files agree", "quarantined"

    missing: list[str] = []
    """Ready tables whose file is missing, and paths of missing manifests."""
    orphans: list[str] = []
    """Files under `results/` without a catalog row."""
    damaged: list[str] = []
    """Ready tables whose bytes or manifest differ from those published; in a deep check also
    mutable tables whose rows differ from those written, as `mutable.<name>`."""
    indexes: list[str] = []
    """Tables whose index of vectors or words is missing, damaged, outdated or being built, with the
    reason: they are searched without it."""
    repaired: list[str] = []
    """Tables restored by a repair, or completed for a dead writer."""
    failed: list[str] = []
    """Tables that a repair had to fail. Complete bytes are in quarantine."""
    reclaimed: list[str] = []
    """Files removed by a repair."""
    bytes_reclaimed: int = 0
    """Their size in bytes."""
    quarantined: list[str] = []
    """Files in quarantine."""
    bytes_quarantined: int = 0
    """Their size in bytes."""
    errors: list[str] = []
    """What could not be compared or settled, with the reason."""

    def _rendered(self) -> Rendered:
        findings = self.lists()
        for field in ("quarantined", "errors"):
            findings.pop(field, None)
        lines = [f"{field}: {name}" for field, names in findings.items() for name in names]
        quarantine = (
            plain_text(
                f"quarantine: {count_noun(len(self.quarantined), 'file')}, "
                f"{format_bytes(self.bytes_quarantined)}"
            )
            if self.quarantined
            else None
        )
        counts = [(field, len(names)) for field, names in findings.items()]
        found = verdict_icon("fresh", "No problems found: catalog and files agree.")
        if counts:
            reclaimed = self.bytes_reclaimed
            note = f"{format_bytes(reclaimed)} reclaimed" if reclaimed else ""
            headers = ["found", "number"]
            found = listing_table(headers, counts, aligned="lr", caption="Check", note=note)
        return vstack(
            found,
            bullet_list([*lines, *self.errors]) if lines or self.errors else None,
            quarantine,
        )


class RebuildReport(DisplayedValue, frozen=True):
    """What a new catalog was rebuilt from, and what it lacks."""

    recipes: list[str] = []
    """Recipes restored with their newest definition and their versions."""
    tables: list[str] = []
    """Result tables restored to the catalog."""
    missing: list[str] = []
    """Restored tables whose file is missing."""
    unreadable: list[str] = []
    """Manifests that could not be used, with the reason. Their files were not changed."""
    sources: list[str] = []
    """Sources that must be added again under these names."""
    kept: str | None = None
    """Name of the old catalog, unchanged, in the workspace's folder; None when there was none."""
    lost: list[str] = []
    """What manifests do not contain."""

    def __str__(self) -> str:
        return (
            f"rebuilt: {count_noun(len(self.recipes), 'recipe')}, "
            f"{count_noun(len(self.tables), 'table')}"
        )

    def _lines(self) -> list[str]:
        return [
            (
                f"{count_noun(len(self.recipes), 'recipe')} with "
                f"{count_noun(len(self.tables), 'result table')} restored"
            ),
            *([f"file missing: {', '.join(self.missing)}"] if self.missing else []),
            *(
                [f"add again under the same names: {', '.join(self.sources)}"]
                if self.sources
                else []
            ),
            *(f"not used: {item}" for item in self.unreadable),
            *([f"the old catalog is kept as {self.kept}"] if self.kept else []),
            *(f"not in any manifest: {item}" for item in self.lost),
        ]

    def _rendered(self) -> Rendered:
        return form("Rebuilt", table=bullet_list(self._lines()))


EntryFilter = Callable[[str], bool]


def visible_to_tenant(catalog: Catalog) -> EntryFilter:
    """A filter for report entries (a physical name or a path, with or without a trailing remark):
    whether the bound tenant may see the table or folder. Everything is visible while no tenant is
    bound."""
    tenant = catalog.scope.tenant
    if tenant is None:
        return lambda _: True
    names: set[str] = set()
    with contextlib.suppress(SessionClosed):  # of a closed workspace, a tenant sees no entries
        names = {
            record.table_name
            for status in TableStatus
            for record in catalog.result_tables.with_status(status)
        }
    folders = (f"results/{tenant}/", f"results/{SHARED_FOLDER}/")
    return lambda entry: entry.startswith(folders) or _table_name(entry) in names


def visible_recovery(report: RecoveryReport, catalog: Catalog) -> RecoveryReport:
    """The report without entries about other tenants' tables."""
    if not report and not report.spared:
        return report
    is_visible = visible_to_tenant(catalog)
    lists = {
        field: [entry for entry in entries if field == "damaged_log" or is_visible(entry)]
        for field, entries in report.lists().items()
    }
    lists["moved"] = [name for name in report.moved if catalog.sources.get(name) is not None]
    return report.with_values(
        **lists,
        recipes={name: recipe for name, recipe in report.recipes.items() if is_visible(name)},
    )


def _table_name(entry: str) -> str:
    return entry.partition(": ")[0].rpartition("/")[2].removeprefix(".").partition(".")[0]
