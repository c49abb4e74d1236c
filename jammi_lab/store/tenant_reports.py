"""Tenant filter for reports: recovery and check cover all tenants, and their reports name tables
and files of each."""

import contextlib
from collections.abc import Callable

import msgspec

from jammi_lab.catalog.catalog import Catalog
from jammi_lab.core.errors import SessionClosed
from jammi_lab.core.records import RecoveryReport, TableStatus
from jammi_lab.store.result_files import SHARED_FOLDER

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
        field: [entry for entry in value if field == "damaged_log" or is_visible(entry)]
        for field, value in report.to_dict().items()
        if isinstance(value, list)
    }
    return msgspec.structs.replace(
        report,
        **lists,
        recipes={name: recipe for name, recipe in report.recipes.items() if is_visible(name)},
    )


def _table_name(entry: str) -> str:
    return entry.partition(": ")[0].rpartition("/")[2].removeprefix(".").partition(".")[0]
