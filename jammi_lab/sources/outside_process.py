"""Raw bytes of database files, read where that cannot hurt their owner.

SQLite and DuckDB guard a file with POSIX locks, which belong to a process: closing *any* descriptor of the file drops all of them. A notebook that
has the file open in the same kernel would lose its lock, and with it updates, were the file opened here to be hashed. So a child process reads it.
"""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

_CHILD = str(Path(__file__).with_name("child.py"))


class ChildFailed(Exception):
    """The child could not do what was asked; `kind` says of which sort that is, the text what SQLite or the system said."""

    def __init__(self, kind: str, said: str) -> None:
        super().__init__(said)
        self.kind = kind


def ask(request: dict[str, Any], seconds: float | None = None) -> dict[str, Any]:
    """What the child answers (see `child.py`). ChildFailed, also when it took longer than `seconds`."""
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-S", "-B", _CHILD], input=json.dumps(request).encode(), capture_output=True, timeout=seconds, check=False
        )
    except subprocess.TimeoutExpired:
        raise ChildFailed("slow", f"no answer within {seconds:g} s") from None
    try:
        answer: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        raise ChildFailed("other", (done.stderr.decode(errors="replace").strip().splitlines() or ["the reader died"])[-1]) from None
    if "failed" in answer:
        raise ChildFailed(answer["failed"], answer["said"])
    return answer


def digest(paths: Sequence[str], seconds: float | None = None) -> str:
    """One SHA-256 over the bytes of these files, each with whether it is there. ChildFailed."""
    return str(ask({"do": "digest", "paths": list(paths)}, seconds)["digest"])


def head(path: str) -> bytes:
    """The first bytes of a file. ChildFailed."""
    return bytes.fromhex(ask({"do": "head", "paths": [path]})["head"])


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
