"""Detached runs: a recompute in a process of its own, which goes on when the kernel that started it
ends. A workspace has one at a time, which holds a named lock; its note says which process it is."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING

import msgspec

from jammi_lab.core.errors import InvalidArgument, JammiError, StepFailed
from jammi_lab.core.interrupts import attempts
from jammi_lab.core.records import Progress
from jammi_lab.storage import own_files
from jammi_lab.storage.files import open_regular
from jammi_lab.store.storage_errors import translate_storage_errors

if TYPE_CHECKING:
    from jammi_lab.workspace.assembly import Services
    from jammi_lab.workspace.result_table import ResultTable

LOG = "recompute.log"
"""The file of the workspace folder to which a detached run writes its report."""
_LOCK = "recompute"
START_SECONDS, STOP_SECONDS = 60.0, 10.0
_children: list[subprocess.Popen[bytes]] = []
"""Kept, because Python warns of a process that it forgets."""


class DetachedRun(msgspec.Struct, frozen=True):
    """The process of a detached run."""

    pid: int
    host: str


class _Request(msgspec.Struct):
    tenant: str | None
    settings: dict[str, int | float | str]
    names: Sequence[str] | None


def find(services: "Services") -> DetachedRun | None:
    """The detached run that is under way."""
    writers = services.catalog.writers
    note = writers.read_note(_LOCK) if writers.is_alive(_LOCK) else None
    if note is not None:
        with contextlib.suppress(msgspec.DecodeError):  # it is being written, or forged
            return msgspec.json.decode(note[1], type=DetachedRun)
    return None


def start(services: "Services", names: Sequence[str] | None) -> int:
    """Start a recompute of these recipes, or of all, in a process of its own, and return its id
    once it runs. Raises WorkspaceReadOnly; InvalidArgument for a workspace at a URL and while
    another run is under way; StepFailed when it cannot begin."""
    services.check_writable()
    if not isinstance(services.folder, Path):
        raise InvalidArgument("A workspace at a URL has no detached runs.")
    if (running := find(services)) is not None:
        raise InvalidArgument(
            f"A detached run is under way, in process {running.pid} on {running.host}.",
            hint="%jammi stop ends it.",
        )
    settings = services.settings
    given = settings.explicit_keys - settings.keys_of_file
    request = _Request(
        services.scope.current,
        {key: settings[key] for key in given},
        names,
    )
    try:
        with tempfile.TemporaryFile() as output:
            return _launch(services, request, output)
    except OSError as error:
        raise StepFailed(f"No detached run can be started: {error.strerror}.") from None


def _arguments(services: "Services") -> list[str]:
    """What Python is started with, by which the process of a run is known: a note may be forged."""
    return ["-m", __name__, os.path.realpath(str(services.folder))]


def _is_run(pid: int, services: "Services") -> bool:
    """Whether a process is a run of this workspace."""
    try:
        if sys.platform == "linux":
            command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ")
        else:
            command = subprocess.check_output(["ps", "-ww", "-o", "args=", "-p", str(pid)])
    except (OSError, subprocess.CalledProcessError):
        return False
    return command.rstrip().endswith(os.fsencode(" ".join(_arguments(services))))


def _launch(services: "Services", request: _Request, output: IO[bytes]) -> int:
    """The id of the process, once it runs. What it says before goes to `output`."""
    process = subprocess.Popen(
        [sys.executable, *_arguments(services)],
        stdin=subprocess.PIPE,
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,  # signals to the kernel and its group do not reach it
    )
    _children.append(process)
    assert process.stdin is not None, "it is a pipe"
    with contextlib.suppress(BrokenPipeError), process.stdin as pipe:
        pipe.write(msgspec.json.encode(request))
    for _ in attempts(START_SECONDS):
        run = find(services)
        if process.poll() is not None or (run is not None and run.pid == process.pid):
            break
    if process.poll():
        output.seek(0)
        said = output.read().decode(errors="replace").strip()
        raise StepFailed(f"The detached run ended at once: {said}")
    return process.pid


def stop(services: "Services") -> DetachedRun | None:
    """End the detached run, and return it; None where none is under way. Finished tables stay.
    Raises InvalidArgument for one of another machine or user, StepFailed for one that goes on."""
    run = find(services)
    if run is None:
        return None
    if not _is_run(run.pid, services):
        if find(services) is None:
            return None
        raise InvalidArgument(
            f"The detached run is on {run.host} and can be stopped only there: process {run.pid} "
            "of this machine is none, or another user's.",
        )
    try:
        os.kill(run.pid, signal.SIGTERM)
    except ProcessLookupError:
        return None
    except PermissionError:
        raise InvalidArgument("The detached run belongs to another user.") from None
    for _ in attempts(STOP_SECONDS):
        if find(services) != run:
            return run
    raise StepFailed(
        f"The detached run, process {run.pid}, was told to end and has not yet.",
        hint=f"`kill -9 {run.pid}` in a shell ends it at once; finished tables stay.",
    )


def _run() -> int:
    from jammi_lab.workspace import opening

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.default_int_handler)
    try:
        request = msgspec.json.decode(sys.stdin.buffer.read(), type=_Request)
        with opening.open(
            sys.argv[1], tenant=request.tenant, settings=request.settings, create=False
        ) as ws:
            lock = ws._services.catalog.writers.try_acquire_named(_LOCK)
            if lock is None:
                return _say("Another detached run is under way.", 1)
            run = DetachedRun(os.getpid(), socket.gethostname())
            try:
                _open_log(Path(sys.argv[1], LOG))
                lock.write_note(msgspec.json.encode(run).decode())
                before = _versions(ws.tables())
                try:
                    report = str(ws.recompute(request.names, progress=_say_begun))
                except KeyboardInterrupt:
                    finished = sorted(_versions(ws.tables()) - before)
                    report = f"Stopped; finished: {', '.join(finished) or 'no table'}."
                _say(report)  # before others see that it ended
            finally:
                lock.release(remove=True)
    except JammiError as error:
        return _say("\n".join(error.rendered_lines()), 1)
    except (KeyboardInterrupt, msgspec.DecodeError):  # its kernel ended before it said what to do
        return _say("Stopped before it began.")
    return 0


def _open_log(log: Path) -> None:
    """Let what is said go to a new file in this place. Raises JammiError."""
    with translate_storage_errors(LOG):
        own_files.discard(log)  # another user's, or a link
        descriptor = open_regular(log, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    for stream in (sys.stdout, sys.stderr):
        os.dup2(descriptor, stream.fileno())


def _versions(tables: "Sequence[ResultTable]") -> set[str]:
    return {f"{table.name} version {table.version}" for table in tables}


def _say_begun(progress: Progress) -> None:
    """Write each step when it begins, which is left of a run that is killed."""
    if progress.unit == "steps":
        _say(f"{progress.stage}: {progress.done} of {progress.total} steps are done")


def _say(text: str, code: int = 0) -> int:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
    return code


if __name__ == "__main__":
    sys.exit(_run())
