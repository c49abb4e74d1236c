"""Client of the child process that reads database files.

SQLite and DuckDB protect a file with POSIX locks, which belong to a process: closing *any*
descriptor of the file drops all of them. If the notebook has the file open in this kernel, reading
it here would drop the notebook's lock and could lose its updates. Therefore a child process reads
it. Starting one takes 30 to 50 ms, so idle children are reused until the kernel ends; they keep no
file open between requests.
"""

import atexit
import json
import os
import select
import socket
import subprocess
import sys
import time
import weakref
from pathlib import Path
from typing import Any

from jammi_lab.core.interrupts import POLL_SECONDS, time_limit

CHILD = str(Path(__file__).with_name("reader_main.py"))
_MAX_IDLE_READERS = 2
_RECEIVE_BYTES = 1 << 16
_NO_SIGPIPE = getattr(socket, "MSG_NOSIGNAL", 0)
"""Writing to a dead child raises an error, even if the program has reset SIGPIPE to its default,
which ends the process."""


class ReaderError(Exception):
    """The request failed. `kind` is one of notadb, busy, unfinished, gone, denied, slow, other; the
    text is the message of SQLite or the system."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class _ReaderExited(Exception):
    """The child exited without an answer."""


class _ReaderTimeout(Exception):
    """The child did not answer in time."""


class _Reader:
    """A child process that handles one request at a time. It exits when this process does, also
    when that is killed."""

    def __init__(self) -> None:
        self.owner = os.getpid()
        self._channel, child_end = socket.socketpair()
        try:
            with child_end:
                descriptor = child_end.fileno()
                self._process = subprocess.Popen(
                    [sys.executable, "-I", "-S", "-B", CHILD],
                    stdin=descriptor,
                    stdout=descriptor,
                    stderr=subprocess.DEVNULL,
                    cwd=os.sep,
                )
        except BaseException:
            self._channel.close()
            raise
        _all_readers.add(self)

    def request(self, payload: dict[str, Any], seconds: float | None) -> dict[str, Any]:
        """Send a request and return the answer. Raises _Gone, _Late."""
        deadline = None if seconds is None else time.monotonic() + seconds
        data = bytearray()
        try:
            # The child reads the whole request before it answers, so this cannot deadlock.
            self._channel.sendall(json.dumps(payload).encode() + b"\n", _NO_SIGPIPE)
            while not data.endswith(b"\n"):
                self._wait(deadline)
                if not (chunk := self._channel.recv(_RECEIVE_BYTES)):
                    raise _ReaderExited
                data += chunk
        except ConnectionError:
            raise _ReaderExited from None
        answer: dict[str, Any] = json.loads(data)
        return answer

    def _wait(self, deadline: float | None) -> None:
        """Wait for input. Raises _Late.

        Not a socket timeout: its TimeoutError looks like one that a signal handler raises.
        """
        poller = select.poll()
        poller.register(self._channel, select.POLLIN)
        while not poller.poll(POLL_SECONDS * 1000):
            time_limit.get()()
            if deadline is not None and time.monotonic() > deadline:
                raise _ReaderTimeout

    def close_channel(self) -> None:
        """Close the channel to a child of the process that this one was forked from; an open copy
        would keep that child alive."""
        self._channel.close()

    def kill(self) -> None:
        """Kill the child."""
        self._channel.close()
        if self.owner == os.getpid():
            self._process.kill()
            self._process.wait()


_all_readers: weakref.WeakSet[_Reader] = weakref.WeakSet()
idle_readers: list[_Reader] = []


@atexit.register
def end_idle() -> None:
    """End the reader processes that wait for work."""
    while idle_readers:
        idle_readers.pop().kill()


def _close_inherited() -> None:
    global _all_readers
    readers, _all_readers = _all_readers, weakref.WeakSet()
    idle_readers.clear()
    for reader in readers:
        reader.close_channel()


os.register_at_fork(after_in_child=_close_inherited)


def _take_reader() -> _Reader:
    try:
        return idle_readers.pop()
    except IndexError:
        return _start_reader()


def _start_reader() -> _Reader:
    try:
        return _Reader()
    except OSError as error:
        raise ReaderError("other", error.strerror or str(error)) from None


def request(payload: dict[str, Any], seconds: float | None = None) -> dict[str, Any]:
    """Send a request with absolute paths to a child and return the answer (see `reader_main.py`).
    Raises ReaderError, also after `seconds` without an answer."""
    try:
        try:
            answer = _exchange(_take_reader(), payload, seconds)
        except _ReaderExited:  # an idle child may have died long ago: retry with a new one
            answer = _exchange(_start_reader(), payload, seconds)
    except _ReaderExited:
        raise ReaderError("other", "the reader process exited") from None
    except _ReaderTimeout:
        raise ReaderError("slow", f"no answer within {seconds:g} s") from None
    if "failed" in answer:
        raise ReaderError(answer["failed"], answer["message"])
    return answer


def _exchange(reader: _Reader, payload: dict[str, Any], seconds: float | None) -> dict[str, Any]:
    try:
        answer = reader.request(payload, seconds)
    except BaseException:
        # Also on an interrupt: a late answer would be taken for that of the next request.
        reader.kill()
        raise
    if len(idle_readers) < _MAX_IDLE_READERS:
        idle_readers.append(reader)
    else:
        reader.kill()
    return answer


def head(path: str) -> bytes:
    """The first bytes of a file, more than a line has. Raises ReaderError."""
    return bytes.fromhex(request({"do": "head", "paths": [os.path.abspath(path)]})["head"])


def is_open_here(path: str) -> bool:
    """Whether this process has the file open, under any name."""
    try:
        target = os.stat(path)
        numbers = [int(name) for name in os.listdir("/dev/fd")]
    except (OSError, ValueError):
        return False
    for number in numbers:
        try:
            opened = os.fstat(number)
        except OSError:  # the descriptor of the listing itself, or one that was just closed
            continue
        if (opened.st_ino, opened.st_dev) == (target.st_ino, target.st_dev):
            return True
    return False
