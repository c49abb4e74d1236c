"""Where tests write: in memory where there is room. Syncs, new names and removals of files on a
disk take up to a fifth of the processor time of tests that open workspaces, and a third of the time
on the clock."""

import atexit
import os
import shutil
import tempfile
from pathlib import Path

from tests.sizes import SOAK

MEMORY = Path("/dev/shm")
NEEDED_BYTES = 4 << 30
"""What must be free. Folders are removed with their tests: the workers of a run hold some hundred
megabytes at a time."""
ON_DISK = ("tests/storage/", "tests/store/")
"""Tests that are about files themselves, which a disk may number and date in other ways."""
_CONFIGURATION_MARK = "jammi-config-"
disk = tempfile.gettempdir()
"""The folder of the system for temporary files."""


def write_to_memory() -> None:
    """From now on temporary folders of this process and its children lie in memory, if there is
    room, nobody named a folder and this is no soak."""
    if not SOAK and "TMPDIR" not in os.environ and _is_roomy():
        os.environ["TMPDIR"] = tempfile.tempdir = str(MEMORY)


def use_own_configuration() -> None:
    """From now on this process and its children keep what belongs to a user, such as the list of
    trusted folders, in a folder that goes with the first of them."""
    if _CONFIGURATION_MARK in os.environ.get("XDG_CONFIG_HOME", ""):
        return
    folder = tempfile.mkdtemp(prefix=_CONFIGURATION_MARK)
    os.environ["XDG_CONFIG_HOME"], process = folder, os.getpid()
    atexit.register(lambda: os.getpid() == process and shutil.rmtree(folder, ignore_errors=True))


def _is_roomy() -> bool:
    try:
        folder, memory = os.statvfs(MEMORY), Path("/proc/meminfo").read_text()
    except OSError:
        return False
    available = int(memory.partition("MemAvailable:")[2].split()[0]) << 10
    free = min(folder.f_bavail * folder.f_frsize, available)
    return free >= NEEDED_BYTES and os.access(MEMORY, os.W_OK)
