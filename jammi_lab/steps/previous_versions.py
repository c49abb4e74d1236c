"""The version of a recipe that a new one may take rows from."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from jammi_lab.catalog.catalog import Catalog
from jammi_lab.core.manifest import Manifest
from jammi_lab.core.records import TableStatus
from jammi_lab.storage.files import StoragePath, open_for_reading
from jammi_lab.storage.parquet import open_parquet
from jammi_lab.store import manifests, read_leases
from jammi_lab.store.result_files import ResultFiles

_BATCH_ROWS = 1024
"""Rows in memory at a time: a version may be as large as the new one."""


@dataclass(frozen=True)
class PreviousVersion:
    """The version that rows are taken over from. One whose file disappears has no rows."""

    path: StoragePath | None = None
    """Its file; None when there is none."""
    damaged: tuple[int, ...] = ()
    """The newer versions that would be taken instead, if they were not damaged."""

    def columns(self, names: Sequence[str]) -> pa.Table | None:
        """Its first column and those of some names that it has; None without a file."""
        try:
            with self._open() as file:
                present = file.schema_arrow.names
                wanted = [present[0], *(name for name in names if name in present)]
                return file.read(wanted, use_threads=False)
        except FileNotFoundError:
            return None

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Its rows with all columns."""
        with contextlib.suppress(FileNotFoundError), self._open() as file:
            yield from file.iter_batches(_BATCH_ROWS, use_threads=False)

    @contextlib.contextmanager
    def _open(self) -> Iterator[pq.ParquetFile]:
        if self.path is None:
            raise FileNotFoundError("there is no previous version")
        release = read_leases.acquire_lease(self.path)
        try:
            # Without a size of buffers each column would be read by whole row groups.
            with (
                open_for_reading(self.path) as raw,
                open_parquet(raw, 1 << 20) as file,
            ):
                yield file
        finally:
            release()


def find_previous_version(
    catalog: Catalog,
    results: ResultFiles,
    name: str,
    kind: str,
    is_reusable: Callable[[Manifest], bool],
) -> PreviousVersion:
    """The newest ready and intact version of that kind whose manifest is reusable."""
    versions = catalog.result_tables.versions(name)
    if not versions and (shared := catalog.result_tables.newest(name)) is not None:
        versions = [shared]
    damaged: tuple[int, ...] = ()
    for version, record in versions:
        if record.status is not TableStatus.READY or record.kind != kind:
            continue
        manifest = manifests.parse(catalog.result_tables.manifest(record.table_name))
        if manifest is None or not is_reusable(manifest):
            continue
        if results.is_intact(record):
            return PreviousVersion(results.parquet(record), damaged)
        damaged = (*damaged, version.version)
    return PreviousVersion(damaged=damaged)
