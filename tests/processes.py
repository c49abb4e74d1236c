"""Python processes that tests start: forked from one that has imported the packages, which takes a
tenth of what a start takes.

`Popen` and `run` are those of `subprocess`, for commands `[sys.executable, "-c", code, *argv]`. The
processes are children of the test's own process, with its folder, variables and files as
`subprocess` gives them. What is about a start itself (imports, options of the interpreter, memory
from the first byte on) takes `subprocess`.
"""

import atexit
import contextlib
import ctypes
import gc
import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tests import backends

ROOT = Path(__file__).resolve().parent.parent
LEFT_OUT = ROOT / "tests" / "left_out"
"""Modules that stand for packages which no test needs and which take long to import."""
PACKAGE_ROOTS = (LEFT_OUT, ROOT, ROOT / "kernel_ext", ROOT / "widgets")
"""What is on the path of every child."""
_BOOT = """
from tests import processes
with processes.ending():
    exec(processes.serve())
"""
COMMAND = "import sys; from jammi_lab.cli import main; sys.exit(main())"
"""The code of a process that runs a command of the shell, which its arguments are."""
_SET_CHILD_SUBREAPER = 36  # prctl(2)
_lock = threading.Lock()
_server: "tuple[subprocess.Popen[bytes], socket.socket] | None" = None


class Popen(subprocess.Popen[str]):
    """A Python process, forked where the system can give it to this one as a child."""

    def _execute_child(self, args: Any, *given: Any) -> None:
        executable, preexec, _, pass_fds, cwd, env, *_ = given
        pipes, started_session = given[9:15], given[20]
        if sys.platform != "linux" or executable or preexec or pass_fds or args[1] != "-c":
            super()._execute_child(args, *given)  # type: ignore[misc]
            return
        ends = [end if end != -1 else n for n, end in enumerate((pipes[0], pipes[3], pipes[5]))]
        wanted = {
            "argv": [str(a) for a in args[2:]],
            "cwd": os.path.abspath(cwd or "."),
            "env": dict(os.environ if env is None else env),
            "session": bool(started_session),
        }
        self.pid = _fork(wanted, ends)
        self._child_created = True
        self._close_pipe_fds(*pipes)  # type: ignore[attr-defined]


def run(
    command: list[str],
    *,
    input: str | None = None,
    capture_output: bool = False,
    timeout: float | None = None,
    check: bool = False,
    **how: Any,
) -> subprocess.CompletedProcess[str]:
    """`subprocess.run` for such a process."""
    if capture_output:
        how |= {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    if input is not None:
        how["stdin"] = subprocess.PIPE
    with Popen(command, **how) as process:
        try:
            out, err = process.communicate(input, timeout=timeout)
        except BaseException:
            process.kill()
            raise
    done = subprocess.CompletedProcess(command, process.returncode, out, err)
    if check:
        done.check_returncode()
    return done


def environment(env: Mapping[str, str] | None = None) -> dict[str, str]:
    """The variables of this process with which a child can import the packages, and more."""
    first = os.environ.get("PYTHONPATH", "").split(os.pathsep)  # another DuckDB: `make newer`
    paths = dict.fromkeys(filter(None, (*first, *map(str, PACKAGE_ROOTS))))
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), **(env or {})}


def _fork(wanted: dict[str, Any], ends: list[int]) -> int:
    """The process id of a new child of this process."""
    global _server
    with _lock, _adopting():
        if _server is None:
            ours, theirs = socket.socketpair()
            with theirs:
                command = [sys.executable, "-c", _BOOT, str(theirs.fileno())]
                process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    cwd=ROOT,
                    env=environment(),
                    pass_fds=[theirs.fileno()],
                )
            _server = process, ours
        connection, text = _server[1], json.dumps(wanted).encode()
        socket.send_fds(connection, [len(text).to_bytes(8, "big")], ends)
        connection.sendall(text)
        return int.from_bytes(_exactly(connection, 8), "big")


@contextlib.contextmanager
def _adopting() -> Iterator[None]:
    """What loses its parent meanwhile becomes a child of this process."""
    libc = ctypes.CDLL(None)
    libc.prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        yield
    finally:
        libc.prctl(_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


def _exactly(connection: socket.socket, size: int) -> bytes:
    got = b""
    while len(got) < size:
        part = connection.recv(size - len(got))
        if not part:
            raise EOFError("the process that forks the children of tests has ended")
        got += part
    return got


def serve() -> Any:
    """Fork a child for each request on the socket; returns, in the child, the code to run."""
    import_packages()
    connection = socket.socket(fileno=int(sys.argv[1]))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    while True:
        head, ends, _, _ = socket.recv_fds(connection, 8, 3)
        if not head:
            sys.exit()
        wanted = json.loads(_exactly(connection, int.from_bytes(head, "big")))
        there, here = os.pipe()
        if not (between := os.fork()):
            # What it forks becomes a child of the test's process as soon as it has ended itself.
            own = os.getpid()
            if child := os.fork():
                os.write(here, child.to_bytes(8, "big"))
                os._exit(0)
            while os.getppid() == own:
                time.sleep(0.0005)
            connection.close()
            return _become(wanted, [*ends, there, here])
        os.waitpid(between, 0)
        connection.sendall(os.read(there, 8))
        for end in (*ends, there, here):
            os.close(end)


def import_packages() -> None:
    """Import what an open workspace, its tables and its catalog load in time, so that no child has
    to."""
    for name in (
        "duckdb",
        "psycopg",
        "pyarrow.parquet",
        "usearch.index",
        "jammi_lab.engine.sql.canonical_form",
        "jammi_lab.features.vectors.embedding",
        "jammi_lab.steps.row_wise",
        "jammi_lab.store.rebuild",
        "jammi_lab.workspace.opening",
        "jammi_lab.workspace.workspace",
    ):
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    backends.install()
    gc.freeze()


@contextlib.contextmanager
def ending() -> Iterator[None]:
    """End this process as Python does, but for the destructors of libraries: they ask for threads,
    which a fork does not take along."""
    code = 0
    try:
        yield
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
        if code == 1 and not isinstance(end.code, int):
            print(end.code, file=sys.stderr)
    except BaseException as error:
        sys.excepthook(type(error), error, error.__traceback__)
        code = 1 if not isinstance(error, KeyboardInterrupt) else -signal.SIGINT
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    if code < 0:
        signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code & 0xFF)


def _become(wanted: Mapping[str, Any], ends: list[int]) -> Any:
    for number, end in enumerate(ends[:3]):
        os.dup2(end, number)
    for end in ends:
        os.close(end)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if wanted["session"]:
        os.setsid()
    os.chdir(wanted["cwd"])
    os.environ.clear()
    os.environ.update(wanted["env"])
    code, *argv = wanted["argv"]
    sys.argv = ["-c", *argv]
    return compile(code, "<string>", "exec")
