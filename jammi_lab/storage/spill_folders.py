"""DuckDB's spill folders: one per instance, removed by its kernel, or by the next one after a
crash.

A folder is locked with flock while its kernel lives. A stopped kernel keeps the lock and a crash
releases it, even if its process id is reused.
"""

import atexit
import contextlib
import fcntl
import itertools
import os
import tempfile
from pathlib import Path

from jammi_lab.core.errors import ResourceExhausted
from jammi_lab.storage import own_files

_PREFIX = "jammi-spill-held-"
"""Name prefix of spill folders."""
_MAX_ATTEMPTS = 20
_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class SpillFolder:
    """A spill folder of this process, created and locked.

    A failure to create it is reported when it is first needed. A folder that cannot be locked is
    never removed by another process.
    """

    def __init__(self, parent: Path) -> None:
        self.folder = parent / f"{_PREFIX}{os.getpid()}"
        self._descriptor: int | None = None
        with contextlib.suppress(OSError):
            parent.mkdir(parents=True, exist_ok=True)
            for _ in range(_MAX_ATTEMPTS):
                self.folder = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-", dir=parent))
                # Retry: another process may have seen it before it was locked and be removing it.
                with contextlib.suppress(FileNotFoundError, BlockingIOError):
                    self._descriptor = lock_folder(self.folder)
                    return

    def remove(self) -> None:
        """Remove the folder with its contents. May be called twice."""
        own_files.remove_folder(self.folder)
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)


def temporary_folder() -> Path:
    """The system's folder for temporary files. Raises ResourceExhausted when none can be
    written."""
    try:
        return Path(tempfile.gettempdir())
    except FileNotFoundError:
        raise ResourceExhausted(
            "No folder for temporary files can be written.",
            hint="Free space in it, close open files or set TMPDIR, and run it again.",
        ) from None


def remove_abandoned_folders(parent: Path) -> None:
    """Remove the spill folders of crashed kernels."""
    with contextlib.suppress(OSError):
        for name in [
            folder.name for folder in os.scandir(parent) if folder.name.startswith(_PREFIX)
        ]:
            with contextlib.suppress(OSError):  # locked, owned by another user, or removed
                descriptor = lock_folder(parent / name)
                try:
                    own_files.remove_folder(parent / name)
                finally:
                    os.close(descriptor)


process_folder: list[SpillFolder] = []
"""The folder of this process for instances without a workspace, if created."""
_instance_numbers = itertools.count()


def new_instance_path() -> Path:
    """A new spill path for an instance of this process without a workspace. The folder itself is
    not created, since most instances never spill.

    DuckDB's own default is the working folder, which is shared with others and may change.
    """
    if not process_folder:
        parent = temporary_folder()
        remove_abandoned_folders(parent)
        process_folder.append(SpillFolder(parent))
    return process_folder[0].folder / str(next(_instance_numbers))


@atexit.register
def _remove_process_folder() -> None:
    while process_folder:
        process_folder.pop().remove()


os.register_at_fork(after_in_child=process_folder.clear)


def lock_folder(folder: Path) -> int:
    """A descriptor of the existing folder, with an exclusive lock. Raises BlockingIOError when it
    is locked elsewhere; FileNotFoundError; OSError."""
    descriptor = os.open(folder, _FLAGS)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # It may have been removed and created again between opening and locking.
        if os.fstat(descriptor).st_ino != os.stat(folder).st_ino:
            raise FileNotFoundError(folder)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor
