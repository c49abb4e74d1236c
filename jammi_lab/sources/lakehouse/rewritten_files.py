"""Data files of a Delta or Iceberg table that were changed after their commit.

Writers of these formats never change a data file, so the snapshot's number usually proves its rows.
A file that has changed since the commit (an edit in place, a restored backup, a copy) proves
nothing by its name; its digest becomes part of the snapshot's state.
"""

import errno
import os
import time
from collections.abc import Sequence
from pathlib import Path

from jammi_lab.core.anchors import Unknown
from jammi_lab.core.caches import BoundedCache
from jammi_lab.sources.base import ObservationContext
from jammi_lab.storage.digests import CacheEntry, cache_key, fingerprint, is_current
from jammi_lab.storage.files import CLOCK_SECONDS, Stat, stat_of

_MAX_CACHED_DIGESTS = 4096
_digests = BoundedCache[str, CacheEntry](_MAX_CACHED_DIGESTS)
"""Digests of changed files; catalogs do not store them, since such files are rare."""


def rewritten_files(
    home: str, commit_file: str, data_files: Sequence[str], ctx: ObservationContext | None
) -> list[list[str]] | Unknown:
    """The local data files that have changed since the commit file was written, each as its path
    below `home` and a digest of its bytes.

    Unknown when the bytes to read exceed the limit of `ctx`. Raises FileNotFoundError for a missing
    data file, whose rows nobody can read; OSError.
    """
    changed = changed_files(commit_file, data_files)
    unread_bytes = sum(
        stat.size
        for path, stat in changed
        if not is_current(_digests.get(cache_key(Path(path), parquet=False)), stat, CLOCK_SECONDS)
    )
    if ctx is not None and (refused := ctx.refuse_scan(unread_bytes)) is not None:
        return refused
    return [[os.path.relpath(path, home), _digest(Path(path))] for path, _ in changed]


def changed_files(commit_file: str, data_files: Sequence[str]) -> list[tuple[str, Stat]]:
    """The files that have changed since the commit file was written, which are all of them when it
    is missing. Raises FileNotFoundError for a missing data file."""
    commit = stat_of(commit_file)
    changed = []
    for path in sorted(data_files):
        stat = stat_of(path)
        if stat is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        if commit is None or _changed_at(stat) > _changed_at(commit):
            changed.append((path, stat))
    return changed


def _changed_at(stat: Stat) -> int:
    # The modification time can be set by any program, and a copy has the one of its original.
    return max(stat.mtime_ns, stat.ctime_ns)


def _digest(path: Path) -> str:
    contents = fingerprint(
        path, _digests, parquet=False, now_ns=time.time_ns(), racy_seconds=CLOCK_SECONDS
    )
    return contents.whole
