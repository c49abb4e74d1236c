"""Client of the child processes that read database files, one for each request.

SQLite and DuckDB protect a file with POSIX locks, which belong to a process: closing *any*
descriptor of the file drops all of them. If the notebook has the file open in this kernel, reading
it here would drop the notebook's lock and could lose its updates. Therefore a child process reads
it. Starting one takes 40 ms.
"""

import json
import math
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from jammi_lab.core.interrupts import POLL_SECONDS, time_limit

CHILD = str(Path(__file__).with_name("reader_main.py"))


class ReaderError(Exception):
    """The request failed. `kind` is one of notadb, busy, unfinished, gone, denied, slow, other; the
    text is the message of SQLite or the system."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


def request(payload: dict[str, Any], seconds: float | None = None) -> dict[str, Any]:
    """Send a request with absolute paths to a child and return the answer (see `reader_main.py`).
    Raises ReaderError, also after `seconds` without an answer."""
    try:
        child = subprocess.Popen(
            [sys.executable, "-I", "-S", "-B", CHILD],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=os.sep,
            process_group=0,  # an interrupt is meant for the kernel, which kills the child
        )
    except OSError as error:
        raise ReaderError("other", error.strerror or str(error)) from None
    with child:
        try:
            data = _answer_of(child, json.dumps(payload).encode(), seconds)
        finally:
            child.kill()
            child.wait()
    if not data:
        raise ReaderError("other", "the reader process exited")
    answer: dict[str, Any] = json.loads(data)
    if "failed" in answer:
        raise ReaderError(answer["failed"], answer["message"])
    return answer


def _answer_of(child: subprocess.Popen[bytes], data: bytes, seconds: float | None) -> bytes:
    """All that a child writes. Raises ReaderError after `seconds`."""
    deadline = time.monotonic() + (math.inf if seconds is None else seconds)
    unsent: bytes | None = data
    while True:
        try:
            return child.communicate(unsent, POLL_SECONDS)[0]
        except subprocess.TimeoutExpired:
            unsent = None  # it is being sent
        time_limit.get()()
        if time.monotonic() > deadline:
            raise ReaderError("slow", f"no answer within {seconds:g} s")


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
