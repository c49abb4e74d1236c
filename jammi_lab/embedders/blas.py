"""One BLAS thread while small products run: spinning helper threads cost more than they bring on a machine that has other work."""

import contextlib
import functools
import os
import threading
from collections.abc import Iterator
from typing import Any

_lock = threading.Lock()
_holders = 0
_before: list[int] = []


@contextlib.contextmanager
def one_blas_thread() -> Iterator[None]:
    """Holds BLAS to one thread until the last of all who asked is done; the counts before then come back.

    The count is one number for the process (or, with OpenMP, for the thread), and threadpoolctl lets only the thread that came first set
    it: with cells on threads of their own it would stay where the first one left it. So holders are counted here.
    """
    global _holders, _before
    everywhere, here = _libraries()
    own = [_held(library) for library in here]
    with _lock:
        if _holders == 0:
            _before = [_held(library) for library in everywhere]
        _holders += 1
    try:
        yield
    finally:
        with _lock:
            _holders -= 1
            if _holders == 0:
                for library, count in zip(everywhere, _before, strict=True):
                    _set(library, count)
        for library, count in zip(here, own, strict=True):
            _set(library, count)


@functools.cache
def _libraries() -> tuple[list[Any], list[Any]]:
    """The BLAS libraries that are loaded: those with one count for the process, and those with one for each thread."""
    import numpy as np  # noqa: F401  # its BLAS must be loaded to be found
    from threadpoolctl import ThreadpoolController

    found = ThreadpoolController().select(user_api="blas").lib_controllers
    return [x for x in found if not _is_per_thread(x)], [x for x in found if _is_per_thread(x)]


def _is_per_thread(library: Any) -> bool:
    return getattr(library, "threading_layer", None) == "openmp"


def _held(library: Any) -> int:
    """The count of a library before it was set to 1."""
    count = int(library.get_num_threads() or 1)
    _set(library, 1)
    return count


def _set(library: Any, count: int) -> None:
    """Sets a count from any thread: control is taken before and given back after (threadpoolctl 3.8; earlier ones let everybody)."""
    release = getattr(library, "clear_controlling_thread", None)
    if release is not None:
        release(force=True)
    library.set_num_threads(count)
    if release is not None:
        release(force=True)


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
