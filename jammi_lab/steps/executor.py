"""The executor protocol, and the executor of this kernel."""

from collections.abc import Callable, Generator, Iterable
from typing import Any, Protocol, TypeVar

from jammi_lab.core.errors import InvalidArgument

T = TypeVar("T")
R = TypeVar("R")


class Executor(Protocol):
    """Runs one function over many batches. A batch may be run again elsewhere, so the function must
    have no side effects."""

    def map(self, work: Callable[[T], R], batches: Iterable[T]) -> Generator[R, None, None]:
        """Yield the result of each batch in order, as it becomes available. An exception is raised
        in place of its batch's result. Closing it gives up the batches that were not yielded."""
        ...

    def close(self) -> None:
        """Release the resources that the executor opened. May be called twice."""
        ...


class LocalExecutor:
    """Runs batches in the current thread, each when its result is requested."""

    def map(self, work: Callable[[T], R], batches: Iterable[T]) -> Generator[R, None, None]:
        return (work(batch) for batch in batches)

    def close(self) -> None:
        """Do nothing."""


def to_executor(executor: Any) -> Executor:
    """The executor for a user's argument: None for this kernel, a `distributed.Client`, or the
    address of its scheduler. Raises InvalidArgument, ExtensionMissing, SourceUnavailable."""
    if executor is None:
        return LocalExecutor()
    if isinstance(executor, str) or all(
        hasattr(executor, name) for name in ("submit", "scatter", "scheduler_info")
    ):
        from jammi_lab.steps.dask_executor import DaskExecutor

        return DaskExecutor(executor)
    raise InvalidArgument(
        f"executor must be None, a distributed.Client or the address of one, got {executor!r}."
    )
