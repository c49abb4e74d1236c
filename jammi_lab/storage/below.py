"""What lies below a folder, on a disk or in an object store."""

import os
from collections.abc import Callable, Iterator
from typing import NamedTuple

from jammi_lab.storage.files import Place
from jammi_lab.storage.remote import RemotePath, age_ns


class Found(NamedTuple):
    """Of a file that is there."""

    size: int
    since_ns: int
    """When it was last changed."""


def files_below(root: Place, folder: str, unread: Callable[[str, OSError], object] | None = None) -> Iterator[tuple[str, Found]]:
    """Everything below a folder that is no folder, by its path from the root; links are not followed.

    `unread` is told of each folder that cannot be read, which is passed over then; without it that is an OSError."""
    try:
        yield from _below(root, folder, unread)
    except OSError as error:
        if unread is None:
            raise
        unread(folder, error)


def _below(root: Place, folder: str, unread: Callable[[str, OSError], object] | None) -> Iterator[tuple[str, Found]]:
    if isinstance(root, RemotePath):
        for name, said in (root / folder).listed().items():
            yield f"{folder}/{name}", Found(said["size"], age_ns(said))
        return
    try:
        with os.scandir(root / folder) as entries:
            listed = sorted(entries, key=lambda entry: entry.name)
    except (FileNotFoundError, NotADirectoryError):
        return
    for entry in listed:
        path = f"{folder}/{entry.name}"
        if entry.is_dir(follow_symlinks=False):
            yield from files_below(root, path, unread)
        else:
            try:
                found = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue
            yield path, Found(found.st_size, found.st_mtime_ns)
