"""Raw bytes of database files, read where that cannot hurt their owner.

SQLite and DuckDB guard a file with POSIX locks, which belong to a process: closing *any* descriptor of the file drops all of them. A notebook that
has the file open in the same kernel would lose its lock, and with it updates, were the file opened here to be hashed. So a child process reads it.
To start one takes 30 to 50 ms, so it stays until the kernel ends, and has no file open between two requests.
"""

import atexit
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

_CHILD = str(Path(__file__).with_name("child.py"))
_MOST_IDLE = 2
_PIECE = 1 << 16


class ChildFailed(Exception):
    """The child could not do what was asked; `kind` says of which sort that is, the text what SQLite or the system said."""

    def __init__(self, kind: str, said: str) -> None:
        super().__init__(said)
        self.kind = kind


class _Gone(Exception):
    """The child is no more, and has answered nothing."""


class _Reader:
    """A child process that answers one request after the other. It ends when this process does, whatever way."""

    def __init__(self) -> None:
        self.owner = os.getpid()
        self._channel, theirs = socket.socketpair()
        try:
            with theirs:
                end = theirs.fileno()
                self._process = subprocess.Popen(
                    [sys.executable, "-I", "-S", "-B", _CHILD], stdin=end, stdout=end, stderr=subprocess.DEVNULL, cwd=os.sep
                )
        except BaseException:
            self._channel.close()
            raise

    def ask(self, request: dict[str, Any], seconds: float | None) -> dict[str, Any]:
        """Its answer. _Gone, TimeoutError."""
        until = None if seconds is None else time.monotonic() + seconds
        said = bytearray()
        try:
            self._channel.settimeout(None)
            self._channel.sendall(json.dumps(request).encode() + b"\n")  # which it waits for
            while not said.endswith(b"\n"):
                if until is not None:
                    self._channel.settimeout(max(until - time.monotonic(), 1e-6))
                if not (piece := self._channel.recv(_PIECE)):
                    raise _Gone
                said += piece
        except ConnectionError:
            raise _Gone from None
        answer: dict[str, Any] = json.loads(said)
        return answer

    def end(self) -> None:
        """End the child, whatever it does."""
        self._channel.close()
        if self.owner == os.getpid():
            self._process.kill()
            self._process.wait()


_idle: list[_Reader] = []


@atexit.register
def _end_idle() -> None:
    while _idle:
        _idle.pop().end()


def _reader() -> _Reader:
    while _idle:
        try:
            reader = _idle.pop()
        except IndexError:  # another thread took it
            break
        if reader.owner == os.getpid():
            return reader
        reader.end()  # that of the process that forked this one
    return _started()


def _started() -> _Reader:
    try:
        return _Reader()
    except OSError as error:
        raise ChildFailed("other", error.strerror or str(error)) from None


def ask(request: dict[str, Any], seconds: float | None = None) -> dict[str, Any]:
    """What the child answers (see `child.py`) to a request whose paths are absolute. ChildFailed, also when it took longer than `seconds`."""
    try:
        try:
            answer = _asked(_reader(), request, seconds)
        except _Gone:  # it may have died long ago, and others with it
            answer = _asked(_started(), request, seconds)
    except _Gone:
        raise ChildFailed("other", "the reader died") from None
    except TimeoutError:
        raise ChildFailed("slow", f"no answer within {seconds:g} s") from None
    if "failed" in answer:
        raise ChildFailed(answer["failed"], answer["said"])
    return answer


def _asked(reader: _Reader, request: dict[str, Any], seconds: float | None) -> dict[str, Any]:
    try:
        answer = reader.ask(request, seconds)
    except BaseException:  # an interrupt, too: what it says next would be taken for the next answer
        reader.end()
        raise
    if len(_idle) < _MOST_IDLE:
        _idle.append(reader)
    else:
        reader.end()
    return answer


def digest(paths: Sequence[str], seconds: float | None = None) -> str:
    """One SHA-256 over the bytes of these files, each with whether it is there. ChildFailed."""
    return str(ask({"do": "digest", "paths": list(paths)}, seconds)["digest"])


def head(path: str) -> bytes:
    """The first bytes of a file. ChildFailed."""
    return bytes.fromhex(ask({"do": "head", "paths": [os.path.abspath(path)]})["head"])


def open_here(path: str) -> bool:
    """Whether this process has the file open, by whatever name."""
    try:
        found = os.stat(path)
        numbers = [int(name) for name in os.listdir("/dev/fd")]
    except (OSError, ValueError):
        return False
    for number in numbers:
        try:
            each = os.fstat(number)
        except OSError:  # the descriptor of the listing itself, or one closed since
            continue
        if (each.st_ino, each.st_dev) == (found.st_ino, found.st_dev):
            return True
    return False
