"""Batches on the workers of a Dask cluster, by plain futures.

What is sent is the function, once, and the batches; the scheduler runs a batch again whose worker died, a few times. What cannot be sent, because it
cannot be pickled, runs in this kernel.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from jammi_lab.errors import ExtensionMissing, SourceUnavailable

T = TypeVar("T")
R = TypeVar("R")
_AHEAD = 3
"""Batches under way for each thread of the cluster: results wait here no longer than they must, and no worker waits for us."""
_SECONDS = 10


class Dask:
    """Runs batches through a client of a Dask scheduler. A client that was given stays open; one that was made from an address is closed."""

    def __init__(self, given: Any) -> None:
        try:
            import distributed
        except ImportError:
            raise ExtensionMissing("Running batches on Dask needs the package distributed.", hint='Run: pip install "jammi-lab[dask]".') from None
        self._own = isinstance(given, str)
        try:
            made: Any = distributed
            self._client: Any = made.Client(given, timeout=_SECONDS, set_as_default=False) if self._own else given
        except (OSError, TimeoutError, ValueError):
            raise SourceUnavailable(
                f"No Dask scheduler answers at {given!r}.", hint='See whether it runs; an address is written "tcp://host:8786".'
            ) from None

    def map(self, work: Callable[[T], R], batches: Iterable[T]) -> Iterator[R]:
        if not _can_be_sent(work):
            return map(work, batches)
        return self._results(work, batches)

    def _results(self, work: Callable[[T], R], batches: Iterable[T]) -> Iterator[R]:
        sent = self._client.submit(_itself, work, pure=False)  # not scattered: what was scattered is lost with the worker that has it
        waiting: deque[Any] = deque()
        rest, most = iter(batches), _AHEAD * max(1, self._threads())
        try:
            while True:
                for batch in rest:
                    waiting.append(self._client.submit(_run, sent, batch, pure=False))
                    if len(waiting) >= most:
                        break
                if not waiting:
                    return
                yield _result(waiting[0])
                waiting.popleft()
        finally:
            for future in waiting:
                future.cancel()

    def _threads(self) -> int:
        workers = self._client.scheduler_info(n_workers=-1)["workers"].values()
        return sum(worker["nthreads"] for worker in workers)

    def close(self) -> None:
        """Close a client that was made from an address."""
        if self._own:
            self._client.close()


def _result(future: Any) -> Any:
    """What a batch gave. Raises what it raised; SourceUnavailable when it was no fault of its own."""
    from distributed.client import FutureCancelledError
    from distributed.scheduler import KilledWorker

    try:
        return future.result()
    except KilledWorker:
        raise SourceUnavailable("The workers of the Dask cluster died over one batch, one after the other.", hint="See to their memory.") from None
    except (FutureCancelledError, OSError) as error:
        if future.status == "error":
            raise
        raise SourceUnavailable(f"The Dask cluster was lost: {type(error).__name__}.", hint="See whether it runs.") from error


def _itself(work: T) -> T:
    return work


def _run(work: Callable[[Any], Any], batch: Any) -> Any:
    return work(batch)


def _can_be_sent(work: Any) -> bool:
    from distributed.protocol import pickle

    sending: Any = pickle
    try:
        sending.dumps(work)
    except Exception:  # noqa: BLE001  whatever an encoder's own pickling raises, it cannot be sent
        return False
    return True
