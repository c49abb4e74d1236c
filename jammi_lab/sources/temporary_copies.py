"""Copies of files in the folder of this process, each for as long as it is used."""

import os
import weakref
from collections.abc import Callable
from pathlib import Path

from jammi_lab.core.caches import ObjectCache
from jammi_lab.core.errors import SourceUnavailable
from jammi_lab.sources.locations import Unreachable
from jammi_lab.storage import own_files, spill_folders

MAX_COPIES_BYTES = 1 << 30
_copies = ObjectCache(MAX_COPIES_BYTES)


class TemporaryCopy:
    """A file that is deleted with this object."""

    def __init__(self, name: str, write: Callable[[Path], object]) -> None:
        """`write` makes the file of this name in a new folder. Raises Unreachable where there
        can be none, SourceUnavailable where readers would add a column, and what `write`
        raises."""
        folder = spill_folders.new_instance_path()
        if "=" in str(folder):
            raise SourceUnavailable(
                f"Readers take the name of the folder {folder.parent} for a column.",
                hint="Set TMPDIR to a folder without = in its path.",
            )
        self.path = folder / name
        weakref.finalize(self, _remove, folder, os.getpid()).atexit = False
        try:
            folder.mkdir(parents=True)
        except OSError as error:
            raise Unreachable(f"no copy can be written ({error.strerror})") from None
        write(self.path)
        self.nbytes = self.path.stat().st_size


def _remove(folder: Path, process_id: int) -> None:
    if os.getpid() == process_id:  # a fork has the copies of its parent
        own_files.remove_folder(folder)


def load_copy(key: str | None, make: Callable[[], TemporaryCopy]) -> TemporaryCopy:
    """The copy of a key, which tells the state of what is copied; a new one where none is proved.
    Raises what `make` raises."""
    if key is None:
        return make()
    copy = _copies.load(key, make)
    if copy.path.exists():
        return copy
    _copies.evict([key])  # something cleans the folder of temporary files
    return _copies.load(key, make)
