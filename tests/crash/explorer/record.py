"""Real runs of the scenario under strace: recorded whole, or with one of its system calls
failing."""

import functools
import os
import shutil
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.crash.check import Server

CALLS = (
    "open openat creat write pwrite64 writev pwritev pwritev2 lseek fsync fdatasync sync_file_range rename renameat renameat2 link linkat symlink "
    "symlinkat unlink unlinkat rmdir ftruncate truncate fallocate copy_file_range sendfile mkdir mkdirat close dup dup2 dup3 fcntl"
).split()
"""What can change files, or which file a descriptor means. Writes through a mapping are not seen:
only SQLite's -shm has any."""


@dataclass(frozen=True)
class Run:
    """A child that has ended."""

    world: Path
    """The folder that held nothing when the child began; what is outside of it is no part of the
    run."""
    folder: Path
    """The workspace, which lies in it."""
    said: str
    code: int
    trace: Path
    """What strace wrote."""


def needs_strace() -> None:
    """Skip the test where no process can be traced; fail it where that is required."""
    if (why := _untraceable()) is None:
        return
    if os.environ.get("JAMMI_REQUIRE_SERVICES") == "1":
        pytest.fail(
            f"{why}, and JAMMI_REQUIRE_SERVICES=1 asks for the crash explorer", pytrace=False
        )
    pytest.skip(f"{why}: the crash explorer records a run's system calls (apt-get install strace)")


@functools.cache
def _untraceable() -> str | None:
    if shutil.which("strace") is None:
        return "strace is not there"
    done = subprocess.run(
        ["strace", "-f", "-o", os.devnull, "true"], capture_output=True, text=True, check=False
    )
    return None if done.returncode == 0 else f"strace may not trace ({done.stderr.strip()[:200]})"


def run(
    server: Server, folder: Path, scenario: str, *mutants: str, inject: str | None = None
) -> Run:
    """Run a scenario in a workspace below a folder of its own; `inject` is a call, an error and
    which time it fails: `fsync:error=EIO:query_times=3`."""
    world = folder / "world"
    world.mkdir(parents=True)
    trace = folder / "trace"
    ask = (
        ["-s", "100000000", "-xx", "-e", f"trace={','.join(CALLS)}"]
        if inject is None
        else ["-e", f"trace={inject.split(':')[0]}", "-e", f"inject={inject}"]
    )
    child = server.start("explore", world / "lab", scenario, *mutants)
    while (
        Path(f"/proc/{child}/stat").read_text().rpartition(") ")[2][0] != "T"
    ):  # it stops itself; continued before that, it would stop for good
        time.sleep(0.001)
    with subprocess.Popen(
        ["strace", "-f", *ask, "-o", str(trace), "-p", str(child)],
        stderr=subprocess.PIPE,
        text=True,
    ) as strace:
        assert strace.stderr is not None
        told = strace.stderr.readline()
        os.kill(child, signal.SIGCONT)
        code, said = server.end()
    assert "attached" in told, told
    return Run(world, world / "lab", said, code, trace)


def memory() -> Path:
    """A folder for what is written, opened and thrown away a thousand times: on a memory filesystem
    where there is one."""
    shm = Path("/dev/shm")
    return Path(
        tempfile.mkdtemp(prefix="jammi-crash-", dir=shm if os.access(shm, os.W_OK) else None)
    )
