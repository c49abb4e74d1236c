"""Versions of result tables as inputs: the one that an anchor recorded, and the rows that a later
version of a row map or an embedding has in addition, as their manifests record (`AddedKeys`)."""

from collections.abc import Collection

import numpy as np

from jammi_lab.catalog.catalog import Catalog
from jammi_lab.core.anchors import Anchor
from jammi_lab.core.errors import JammiError
from jammi_lab.core.identifiers import fold
from jammi_lab.core.records import TableRecord
from jammi_lab.inputs.version_changes import ROW_NUMBER, Window, skip_rows
from jammi_lab.sources.base import AddedRows, NotAppended, ReadPlan
from jammi_lab.store import manifests
from jammi_lab.store.added_keys import decode_rows
from jammi_lab.store.result_files import ResultFiles, result_snapshot
from jammi_lab.vectors.exact_search import RowNumbers

_MAX_VERSIONS = 100
"""Versions between the recorded one and the current one."""


def find_recorded_version(catalog: Catalog, name: str, recorded: Anchor) -> TableRecord | None:
    """The version of a recipe that an anchor recorded; None when it is gone, or when the version of
    that number is in another state."""
    if recorded.version is None:
        return None
    version = catalog.result_tables.version(name, recorded.version)
    if version is None or not result_snapshot(version[1], recorded.version).anchor(
        recorded.input, recorded.columns
    ).same_state(recorded):
        return None
    return version[1]


def added_rows(
    catalog: Catalog, results: ResultFiles, current: TableRecord, recorded: Anchor
) -> AddedRows:
    """The rows of a version of a row map or an embedding that a recorded one did not have. Raises
    NotAppended."""
    name = catalog.aliases.resolve(recorded.input.name)
    if (former := find_recorded_version(catalog, name, recorded)) is None:
        raise NotAppended(f"its version {recorded.version} is gone")
    if ROW_NUMBER in {fold(column.name) for column in current.columns}:
        raise NotAppended(f"it has a column {ROW_NUMBER}")
    added = _added_row_numbers(catalog, current, former, recorded.columns)
    if added is None:
        raise NotAppended(f"more than keys were added since version {recorded.version}")
    total = current.row_count or 0
    return AddedRows.of_version(
        recorded.version,
        len(added),
        total,
        ReadPlan(body=_select_rows(results.select_sql(current), added)),
        are_last=int(added[0]) == total - len(added),
    )


def _added_row_numbers(
    catalog: Catalog, current: TableRecord, former: TableRecord, columns: Collection[str]
) -> RowNumbers | None:
    """The numbers of the rows that a version has in addition to a former one, where all versions in
    between only added keys, over these columns; else None."""
    total, table_name = current.row_count or 0, current.table_name
    kept: RowNumbers = np.arange(total)
    for _ in range(_MAX_VERSIONS):
        if table_name == former.table_name:
            break
        try:
            manifest = manifests.parse(catalog.result_tables.manifest(table_name))
            added_keys = None if manifest is None else manifest.added_keys
            if added_keys is None or not {*columns} <= {*added_keys.columns}:
                return None
            kept = np.delete(kept, decode_rows(added_keys.rows))
        except (JammiError, ValueError, IndexError):
            return None
        table_name = added_keys.base
    if table_name != former.table_name or len(kept) != former.row_count or len(kept) == total:
        return None
    return np.delete(np.arange(total), kept)


def _select_rows(select: str, rows: RowNumbers) -> str:
    """The SELECT from a file, limited to the rows with these numbers."""
    first, last = int(rows[0]), int(rows[-1])
    window = skip_rows(select, Window(first, last + 1))
    if last - first + 1 == len(rows):
        return window
    # as one text: DuckDB plans thousands of constants several times as long
    return f"{window} AND {ROW_NUMBER} IN (SELECT unnest('{rows.tolist()}'::BIGINT[]))"
