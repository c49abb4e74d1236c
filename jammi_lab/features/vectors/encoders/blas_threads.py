"""BLAS thread limit: one thread while small products run. Spinning helper threads would cost more
than they gain when the machine has other work."""

import contextlib
import functools
import os
import threading
from collections.abc import Iterator
from typing import Any

from jammi_lab.core.module_imports import import_modules

_limit_lock = threading.Lock()
_holder_count = 0
_previous_limits: list[int] = []


@contextlib.contextmanager
def one_blas_thread() -> Iterator[None]:
    """Limit BLAS to one thread until the last concurrent caller leaves; then restore the previous
    limits.

    The limit is per process (per thread with OpenMP), and threadpoolctl lets only the first thread
    change it. When cells run in several threads, the limit would stay where the first one left it.
    So the callers are counted here.
    """
    global _holder_count, _previous_limits
    process_libraries, thread_libraries = _libraries()
    thread_limits = [_limit_to_one(library) for library in thread_libraries]
    with _limit_lock:
        if _holder_count == 0:
            _previous_limits = [_limit_to_one(library) for library in process_libraries]
        _holder_count += 1
    try:
        yield
    finally:
        with _limit_lock:
            _holder_count -= 1
            if _holder_count == 0:
                for library, count in zip(process_libraries, _previous_limits, strict=True):
                    _set_limit(library, count)
        for library, count in zip(thread_libraries, thread_limits, strict=True):
            _set_limit(library, count)


@functools.cache
def _libraries() -> tuple[list[Any], list[Any]]:
    """The loaded BLAS libraries: those with one limit per process, and those with one per
    thread."""
    import numpy as np  # noqa: F401  # its BLAS must be loaded to be found

    with import_modules():
        from threadpoolctl import ThreadpoolController

    libraries = ThreadpoolController().select(user_api="blas").lib_controllers
    return [library for library in libraries if not _is_per_thread(library)], [
        library for library in libraries if _is_per_thread(library)
    ]


def _is_per_thread(library: Any) -> bool:
    return getattr(library, "threading_layer", None) == "openmp"


def _limit_to_one(library: Any) -> int:
    """Set the limit of a library to 1 and return the previous one."""
    count = int(library.get_num_threads() or 1)
    _set_limit(library, 1)
    return count


def _set_limit(library: Any, count: int) -> None:
    """Set the limit of a library from any thread. threadpoolctl 3.8 binds control to one thread, so
    control is cleared before and after; earlier releases have no such binding."""
    release = getattr(library, "clear_controlling_thread", None)
    if release is not None:
        release(force=True)
    library.set_num_threads(count)
    if release is not None:
        release(force=True)


def usable_cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
