"""The version of a recipe that a new one may take rows from."""

from collections.abc import Callable
from typing import NamedTuple

from jammi_lab.catalog.catalog import Catalog
from jammi_lab.core.manifest import Manifest
from jammi_lab.core.records import TableKind, TableStatus
from jammi_lab.storage.files import StoragePath
from jammi_lab.store import manifests
from jammi_lab.store.result_files import ResultFiles


class ReusableVersion(NamedTuple):
    """The version that rows are taken over from."""

    path: StoragePath | None = None
    """Its file; None when there is none."""
    damaged: tuple[int, ...] = ()
    """The newer versions that would be taken instead, if they were not damaged."""


def find_previous_version(
    catalog: Catalog,
    results: ResultFiles,
    name: str,
    kind: TableKind,
    is_reusable: Callable[[Manifest], bool],
) -> ReusableVersion:
    """The newest ready and intact version of that kind whose manifest is reusable."""
    versions = catalog.result_tables.versions(name)
    if not versions and (shared := catalog.result_tables.newest(name)) is not None:
        versions = [shared]
    damaged: tuple[int, ...] = ()
    for version, record in versions:
        if record.status is not TableStatus.READY or record.kind is not kind:
            continue
        manifest = manifests.parse(catalog.result_tables.manifest(record.table_name))
        if manifest is None or not is_reusable(manifest):
            continue
        if results.is_intact(record):
            return ReusableVersion(results.parquet(record), damaged)
        damaged = (*damaged, version.version)
    return ReusableVersion(damaged=damaged)
