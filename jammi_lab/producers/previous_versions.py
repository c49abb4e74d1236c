"""The version of a recipe that a new one may take rows from."""

from collections.abc import Callable

from jammi_lab.catalog.catalog import Catalog
from jammi_lab.core.manifest import Manifest
from jammi_lab.core.records import TableKind, TableStatus
from jammi_lab.storage.files import StoragePath
from jammi_lab.store import manifests
from jammi_lab.store.result_files import ResultFiles


def find_previous_version(
    catalog: Catalog,
    results: ResultFiles,
    name: str,
    kind: TableKind,
    is_reusable: Callable[[Manifest], bool],
) -> StoragePath | None:
    """The file of the newest ready and intact version of that kind whose manifest is reusable; None
    when there is none."""
    versions = [record for _, record in catalog.result_tables.versions(name)]
    if not versions and (shared := catalog.result_tables.newest(name)) is not None:
        versions = [shared[1]]
    for record in versions:
        if record.status is not TableStatus.READY or record.kind is not kind:
            continue
        manifest = manifests.parse(catalog.result_tables.manifest(record.table_name))
        if manifest is not None and is_reusable(manifest) and results.is_intact(record):
            return results.parquet(record)
    return None
