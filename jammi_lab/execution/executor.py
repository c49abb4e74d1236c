"""The protocol of what runs batches, and the one that runs them here."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol, TypeVar

from jammi_lab.errors import InvalidArgument

T = TypeVar("T")
R = TypeVar("R")


class Executor(Protocol):
    """Runs one function over many batches. Each batch may be run again elsewhere: the function changes nothing outside itself."""

    def map(self, work: Callable[[T], R], batches: Iterable[T]) -> Iterator[R]:
        """What the work gives for each batch, in their order, as it comes; what it raises is raised in the place of that batch."""
        ...

    def close(self) -> None:
        """Let go of what was opened for it. Twice is fine."""
        ...


class Local:
    """Runs them in this thread, each when it is asked for."""

    def map(self, work: Callable[[T], R], batches: Iterable[T]) -> Iterator[R]:
        return map(work, batches)

    def close(self) -> None:
        """Nothing was opened."""


def executor_of(given: Any) -> Executor:
    """None: this kernel; a `distributed.Client`, or the address of its scheduler. InvalidArgument, ExtensionMissing, SourceUnavailable."""
    if given is None:
        return Local()
    if isinstance(given, str) or all(hasattr(given, name) for name in ("submit", "scatter", "scheduler_info")):
        from jammi_lab.execution.dask import Dask

        return Dask(given)
    raise InvalidArgument(f"executor is None, a distributed.Client or its address, not {given!r}.")
