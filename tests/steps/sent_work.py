"""Functions that executors run, and faults of their workers."""

import importlib
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

_before_call: list[Callable[[], object]] = []


def doubled(n: int) -> int:
    """Works."""
    return n * 2


async def awaited(n: int) -> int:
    """Works, too."""
    return n * 3


def place_of(n: int) -> str:
    """Where it runs."""
    return f"{os.getpid()} {threading.get_ident()}"


def failing(n: int) -> int:
    """Fails for 1."""
    return n // (1 - n)


def recursing(n: int) -> int:
    """Fails with a traceback that no pickle takes."""
    return recursing(n)


def exiting(n: int) -> int:
    """Ends its process."""
    raise SystemExit(n)


def faulty(n: int) -> int:
    """Works, after what `die_once` and `take_long` say."""
    for act in _before_call:
        act()
    return n * 2


class Unloadable:
    """Work that no other process can load."""

    def __call__(self, n: int) -> int:
        return n

    def __reduce__(self) -> tuple[Any, ...]:
        return importlib.import_module, ("no_package_of_this_name",)


def die_once(mark: str, number: int) -> None:
    """From now on the worker that begins the call of that number, of all workers, dies, once."""

    def die() -> None:
        with Path(mark).open("a") as file:
            file.write("x")
        if Path(mark).stat().st_size == number:
            os._exit(1)

    _before_call[:] = [die]


def take_long(mark: str) -> None:
    """From now on a call says that it has begun, and then takes long."""

    def wait() -> None:
        Path(mark).touch()
        time.sleep(2)

    _before_call[:] = [wait]


def mend() -> None:
    """Calls are as they should be."""
    _before_call.clear()
