"""The rows that a row map or an embedding has in addition to the version before it, found when it
is published: then a statement over it can be computed over these rows alone.

That all other rows are equal is not concluded from what was reused. Both files are compared: the
digests of equal row groups at their beginning, and after these each column bit by bit.
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from jammi_lab.catalog.catalog import Catalog
from jammi_lab.core.errors import JammiError
from jammi_lab.core.manifest import AddedKeys, Leaf, equal_row_groups
from jammi_lab.core.records import TableKind, TableRecord
from jammi_lab.storage.arrow_digests import RunningDigests
from jammi_lab.storage.files import StoragePath, open_for_reading
from jammi_lab.storage.parquet import WRITER, open_parquet
from jammi_lab.store import manifests, read_leases
from jammi_lab.store.result_files import ResultFiles
from jammi_lab.vectors.arrays import to_arrow_rows
from jammi_lab.vectors.exact_search import RowNumbers
from jammi_lab.vectors.matrix import find_rows

GROWING_KINDS = (TableKind.ROW_MAP, TableKind.EMBEDDING)
MIN_TABLE_ROWS = 100_000
"""Statements over smaller tables are computed in full, which is as fast."""
MAX_COLUMN_BYTES = 64 << 20
"""Of both files; a larger column, such as the vectors of most embeddings, is compared only where
its row groups are equal by their digests."""
_MAX_RANGES = 10_000
_BATCH_ROWS = 65_536


class ComparedFile(NamedTuple):
    """A Parquet file with the digests of its column chunks."""

    reader: pq.ParquetFile
    leaves: Sequence[Leaf]

    def read_keys(self, key: str, first_group: int) -> pa.Array:
        """The keys from a row group on."""
        groups = [*range(first_group, self.reader.num_row_groups)]
        table = self.reader.read_row_groups(groups, columns=[key], use_threads=False)
        return table.column(key).combine_chunks()

    def digests(
        self, columns: Sequence[str], first_group: int, left_out: RowNumbers
    ) -> dict[str, str]:
        """The digest of each column from a row group on, without the rows at some positions
        there."""
        schema = pa.schema([self.reader.schema_arrow.field(name) for name in columns])
        digests, start = RunningDigests(schema), 0
        for batch in self.reader.iter_batches(
            _BATCH_ROWS,
            row_groups=[*range(first_group, self.reader.num_row_groups)],
            columns=[*columns],
            use_threads=False,
        ):
            selected, stop = batch.select([*columns]), start + batch.num_rows
            first, last = np.searchsorted(left_out, [start, stop])
            if first < last:
                kept = np.delete(np.arange(batch.num_rows), left_out[first:last] - start)
                selected = selected.take(to_arrow_rows(kept))
            digests.update(selected)
            start = stop
        return digests.digests()


def find_added_keys(
    catalog: Catalog,
    results: ResultFiles,
    record: TableRecord,
    leaves: Sequence[Leaf],
    path: Path,
    counts: Mapping[str, int],
) -> AddedKeys | None:
    """What a sealed table has in addition to the newest version of its recipe; None where that is
    not known, or other rows differ. `counts`: those of the manifest."""
    if (
        record.kind not in GROWING_KINDS
        or (record.row_count or 0) < MIN_TABLE_ROWS
        or not counts.get("new")
        or counts.get("changed")
        or counts.get("removed")
        or results.filesystem is not None
    ):
        return None
    with contextlib.suppress(JammiError, OSError, pa.ArrowException):
        newest = catalog.result_tables.newest_of_owner(record.tenant, record.recipe)
        if newest is None or not _may_be_extended(newest[1], record):
            return None
        manifest = manifests.parse(catalog.result_tables.manifest(newest[1].table_name))
        if manifest is None or manifest.writer != WRITER:
            return None
        with _open(path) as new, _open_published(results, newest[1]) as old:
            return _compare(
                record, newest[1], ComparedFile(new, leaves), ComparedFile(old, manifest.leaves)
            )
    return None


def _may_be_extended(former: TableRecord, record: TableRecord) -> bool:
    """Whether both have the same columns and the same single key, and `record` has more rows."""
    return (
        former.kind is record.kind
        and former.key == record.key
        and len(record.key) == 1
        and [(c.name, c.type) for c in former.columns] == [(c.name, c.type) for c in record.columns]
        and (former.row_count or 0) < (record.row_count or 0)
    )


def _compare(
    record: TableRecord, former: TableRecord, new: ComparedFile, old: ComparedFile
) -> AddedKeys | None:
    """Compare the rows of both files. Raises JammiError, OSError, pa.ArrowException."""
    [key], columns = record.key, [column.name for column in record.columns]
    group = equal_row_groups(new.leaves, old.leaves, columns)
    new_keys, old_keys = new.read_keys(key, group), old.read_keys(key, group)
    added = _added_positions(new_keys, old_keys)
    if len(added) + len(old_keys) != len(new_keys):
        return None
    if len(old_keys):
        compared = _comparable_columns(columns, [*new.leaves, *old.leaves], group)
        digests = new.digests(compared, group, added), old.digests(compared, group, added[:0])
        columns = [name for name in compared if digests[0][name] == digests[1][name]]
    first_row = (record.row_count or 0) - len(new_keys)
    rows = encode_rows(added + first_row)
    if key not in columns or rows is None:
        return None
    return AddedKeys(base=former.table_name, columns=columns, rows=rows)


def _added_positions(new: pa.Array, old: pa.Array) -> RowNumbers:
    """The positions of keys that only `new` has."""
    if new[: len(old)].equals(old):
        return np.arange(len(old), len(new))
    return np.flatnonzero(find_rows(new, old) < 0)


def _comparable_columns(
    columns: Sequence[str], leaves: Sequence[Leaf], first_group: int
) -> list[str]:
    """The columns that are small enough to be compared from a row group on."""
    sizes = dict.fromkeys(columns, 0)
    for leaf in leaves:
        if leaf.row_group >= first_group:
            sizes[leaf.column] += leaf.length
    return [name for name, size in sizes.items() if size <= MAX_COLUMN_BYTES]


@contextlib.contextmanager
def _open(path: StoragePath) -> Iterator[pq.ParquetFile]:
    with open_for_reading(path) as raw, open_parquet(raw) as file:
        yield file


@contextlib.contextmanager
def _open_published(results: ResultFiles, record: TableRecord) -> Iterator[pq.ParquetFile]:
    """The file of a table, whose bytes are those published. Raises TableDamaged, OSError."""
    release = read_leases.acquire_lease(results.parquet(record))
    try:
        with _open(results.require_intact(record)) as file:
            yield file
    finally:
        release()


def encode_rows(rows: RowNumbers) -> str | None:
    """Ascending row numbers as text: `0-4,17`; None for too many ranges."""
    ends = np.flatnonzero(np.diff(rows) != 1)
    firsts, lasts = rows[np.r_[0, ends + 1]].tolist(), rows[np.r_[ends, len(rows) - 1]].tolist()
    if len(firsts) > _MAX_RANGES:
        return None
    pairs = zip(firsts, lasts, strict=True)
    return ",".join(f"{a}" if a == b else f"{a}-{b}" for a, b in pairs)


def decode_rows(text: str) -> RowNumbers:
    """The row numbers of `encode_rows`. Raises ValueError."""
    pairs = (part.partition("-") for part in text.split(","))
    return np.concatenate([np.arange(int(a), int(b or a) + 1) for a, _, b in pairs])
