"""What of a report is the bound tenant's to read: recovery and check go over all tenants, and name tables and files of each."""

import contextlib
from collections.abc import Callable

import msgspec

from jammi_lab.catalog.catalog import Catalog
from jammi_lab.errors import SessionClosed
from jammi_lab.store.results import SHARED_FOLDER
from jammi_lab.values.records import RecoveryReport, TableStatus

Seen = Callable[[str], bool]


def seen_by_tenant(catalog: Catalog) -> Seen:
    """Says of an entry of a report (a physical name or a path, with or without a remark behind it) whether it is of a table or folder that the bound
    tenant sees; of every entry while none is bound."""
    tenant = catalog.scope.tenant
    if tenant is None:
        return lambda _: True
    names: set[str] = set()
    with contextlib.suppress(SessionClosed):  # what a closed workspace has found is nobody's then
        names = {record.table_name for status in TableStatus for record in catalog.tables.with_status(status)}
    folders = (f"results/{tenant}/", f"results/{SHARED_FOLDER}/")
    return lambda entry: entry.startswith(folders) or _table_name(entry) in names


def recovery_seen(report: RecoveryReport, catalog: Catalog) -> RecoveryReport:
    """A report without what is about another tenant's tables."""
    if not report and not report.spared:
        return report
    seen = seen_by_tenant(catalog)
    lists = {field: [entry for entry in value if seen(entry)] for field, value in report.to_dict().items() if isinstance(value, list)}
    return msgspec.structs.replace(report, **lists, recipes={name: recipe for name, recipe in report.recipes.items() if seen(name)})


def _table_name(entry: str) -> str:
    return entry.partition(": ")[0].rpartition("/")[2].removeprefix(".").partition(".")[0]
