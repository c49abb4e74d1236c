"""Recursive file listing of a local or remote folder."""

import os
from collections.abc import Callable, Iterator
from typing import NamedTuple

from jammi_lab.storage.files import StoragePath
from jammi_lab.storage.object_store import RemotePath, modified_ns


class ListedFile(NamedTuple):
    """A listed file."""

    size: int
    modified_ns: int
    """When it was last modified."""


def list_files(
    root: StoragePath, folder: str, on_unreadable: Callable[[str, OSError], object] | None = None
) -> Iterator[tuple[str, ListedFile]]:
    """All files below a folder, recursively, as (path from the root, file). Links are not
    followed.

    `on_unreadable` is called for each folder that cannot be read, which is then skipped. Without
    it, such a folder raises OSError.
    """
    try:
        yield from _list_folder(root, folder, on_unreadable)
    except OSError as error:
        if on_unreadable is None:
            raise
        on_unreadable(folder, error)


def _list_folder(
    root: StoragePath, folder: str, on_unreadable: Callable[[str, OSError], object] | None
) -> Iterator[tuple[str, ListedFile]]:
    if isinstance(root, RemotePath):
        for name, info in (root / folder).list_objects().items():
            yield f"{folder}/{name}", ListedFile(info["size"], modified_ns(info))
        return
    try:
        with os.scandir(root / folder) as entries:
            entries_by_name = sorted(entries, key=lambda entry: entry.name)
    except (FileNotFoundError, NotADirectoryError):
        return
    for entry in entries_by_name:
        path = f"{folder}/{entry.name}"
        if entry.is_dir(follow_symlinks=False):
            yield from list_files(root, path, on_unreadable)
        else:
            try:
                stat = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue
            yield path, ListedFile(stat.st_size, stat.st_mtime_ns)
