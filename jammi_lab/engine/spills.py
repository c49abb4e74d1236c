"""Where DuckDB puts what memory does not hold: a folder for each instance, which its kernel removes, or the next one when that was killed.

A folder is locked as long as its kernel lives, as a writer's file is: a stopped kernel keeps it, a death lets it go, whatever became of the
number of the process.
"""

import contextlib
import fcntl
import os
import shutil
import tempfile
from pathlib import Path

_PREFIX = "jammi-spill-held-"
"""How the folders are called that have such a lock; an earlier release made others, without."""
_TRIES = 20
_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Spill:
    """One folder of this process alone, made and locked. Where none can be made, that is told when it is needed; where it cannot be locked, nobody
    else removes it."""

    def __init__(self, parent: Path) -> None:
        self.folder = parent / f"{_PREFIX}{os.getpid()}"
        self._descriptor: int | None = None
        with contextlib.suppress(OSError):
            parent.mkdir(parents=True, exist_ok=True)
            for _ in range(_TRIES):
                self.folder = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-", dir=parent))
                with contextlib.suppress(FileNotFoundError, BlockingIOError):  # somebody found it before it was locked, and removes it
                    self._descriptor = _taken(self.folder)
                    return

    def remove(self) -> None:
        """Remove the folder with what is in it. Twice is fine."""
        shutil.rmtree(self.folder, ignore_errors=True)
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)


def clear(parent: Path) -> None:
    """Remove the folders of kernels that died."""
    with contextlib.suppress(OSError):
        for name in [entry.name for entry in os.scandir(parent) if entry.name.startswith(_PREFIX)]:
            with contextlib.suppress(OSError):  # it is locked, another person's, or gone
                descriptor = _taken(parent / name)
                try:
                    shutil.rmtree(parent / name, ignore_errors=True)
                finally:
                    os.close(descriptor)


def _taken(folder: Path) -> int:
    """An open folder, locked and still there. BlockingIOError when somebody has it; FileNotFoundError; OSError."""
    descriptor = os.open(folder, _FLAGS)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(descriptor).st_ino != os.stat(folder).st_ino:
            raise FileNotFoundError(folder)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor
