"""The data files that a Delta or Iceberg table gained from one snapshot to another.

Writers never change a data file, so a snapshot that has all files of an earlier one, none of them
with deleted rows, has the rows of the earlier one and those of its new files.
"""

from collections.abc import Collection, Iterable, Mapping

from jammi_lab.core.identifiers import sql_literal
from jammi_lab.sources.base import AddedRows, NotAppended

DataFiles = Mapping[str, tuple[int, bool]]
"""Data files named as in a scan: the row count, and whether no row is deleted."""


def data_files(entries: Iterable[tuple[str, int | None, bool]]) -> dict[str, tuple[int, bool]]:
    """The data files of a snapshot, from its list. A file that is listed twice is read twice, and
    is not whole."""
    files = dict[str, tuple[int, bool]]()
    for name, rows, is_whole in entries:
        files[name] = (int(rows or 0), is_whole and name not in files)
    return files


def added_files(former: DataFiles, current: DataFiles, home: str) -> AddedRows:
    """The files that `current` has more than `former`; `home` is the folder or URL of the table.
    Raises NotAppended."""
    if not all(is_whole for files in (former, current) for _, is_whole in files.values()):
        raise NotAppended("rows of a data file were deleted")
    if any(current.get(name) != state for name, state in former.items()):
        raise NotAppended("a data file was removed or rewritten")
    added = sorted(name for name in current if name not in former)
    if not added or not former:
        raise NotAppended("no data file was added")
    return AddedRows(
        delta=tuple(relative_name(name, home) for name in added),
        rows=sum(current[name][0] for name in added),
        total_rows=sum(rows for rows, _ in current.values()),
        are_last=False,  # a scan promises no order of the files
        addresses=tuple(added),
        file_count=len(current),
    )


def relative_name(address: str, home: str) -> str:
    """The path of a data file relative to its table, where it is below it."""
    return address.removeprefix("file://").removeprefix(f"{home}/")


def condition_on_files(addresses: Collection[str]) -> str:
    """The condition for the rows of some files in a scan."""
    return f"filename IN ({', '.join(map(sql_literal, sorted(addresses)))})"
