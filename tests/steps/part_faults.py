"""Functions that executors run, and faults of their workers."""

import os
from pathlib import Path
from typing import Any

from jammi_lab.steps import parts


def doubled(n: int) -> int:
    """Works."""
    return n * 2


def failing(n: int) -> int:
    """Fails for 1."""
    return n // (1 - n)


def die_once(mark: str, after: int) -> None:
    """From now on the worker that begins the part of that number, of all workers, dies, once."""
    compute = parts.compute_part

    def dying(task: Any) -> Any:
        with open(mark, "a") as file:
            file.write("x")
        if Path(mark).stat().st_size == after:
            os._exit(1)
        return compute(task)

    parts.compute_part = dying


def wait_for(mark: str) -> None:
    """From now on a part says that it has begun, and then takes long."""

    def waiting(task: Any) -> Any:
        import time

        Path(mark).touch()
        time.sleep(2)
        return parts.original(task)

    if not hasattr(parts, "original"):
        parts.original = parts.compute_part
    parts.compute_part = waiting


def mend() -> None:
    """Parts are computed as they should be."""
    if hasattr(parts, "original"):
        parts.compute_part = parts.original
        del parts.original
