"""Executor for a Dask cluster, with plain futures.

The function is sent once, then the batches. The scheduler reruns the batches of a dead worker, a
few times. A function that cannot be pickled runs in this kernel.
"""

import contextlib
import operator
import pickle
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable
from typing import Any, TypeVar

from jammi_lab.core.errors import ExtensionMissing, SourceUnavailable
from jammi_lab.core.module_imports import import_modules
from jammi_lab.core.redaction import remember_typed_credentials

T = TypeVar("T")
R = TypeVar("R")
_MAX_BATCHES_PER_THREAD = 3
"""Batches in flight per thread of the cluster: enough to keep workers busy, few enough that results
do not pile up."""
CONNECT_TIMEOUT_SECONDS = 10
"""Connection timeout."""
LOST_AFTER_SECONDS = 300
"""A cluster that has no worker for so long, or whose scheduler does not respond, is lost. One that
grows on demand takes minutes to start a worker."""
_LOOK_SECONDS = 2
"""How often the cluster is looked at while it computes a result."""


class DaskExecutor:
    """Runs batches through a client of a Dask scheduler. Closes the client only if it created it
    from an address."""

    def __init__(self, client_or_address: Any) -> None:
        try:
            with import_modules():
                import distributed
        except ImportError:
            raise ExtensionMissing(
                "Running batches on Dask needs the package distributed.",
                hint='Run: pip install "jammi-lab[dask]".',
            ) from None
        self._owns_client = isinstance(client_or_address, str)
        if self._owns_client:
            remember_typed_credentials(client_or_address)
        try:
            module: Any = distributed
            self._client: Any = (
                module.Client(
                    client_or_address, timeout=CONNECT_TIMEOUT_SECONDS, set_as_default=False
                )
                if self._owns_client
                else client_or_address
            )
        except (OSError, TimeoutError, ValueError):
            raise SourceUnavailable(
                f"No Dask scheduler responds at {client_or_address!r}.",
                hint='Check that it is running; an address looks like "tcp://host:8786".',
            ) from None

    def map(self, work: Callable[[T], R], batches: Iterable[T]) -> Generator[R, None, None]:
        try:
            pickled_work = _pickled(_OnPickled(work))
        except Exception:  # noqa: BLE001  whatever an encoder's own pickling raises, it cannot be sent
            return (work(batch) for batch in batches)
        return self._yield_results(pickled_work, batches)

    def _yield_results(
        self, pickled_work: bytes, batches: Iterable[Any]
    ) -> Generator[Any, None, None]:
        # Work and batches are unpickled by the task: a scheduler needs no package of ours, and of a
        # worker without it the task fails; what fails while a message is read is tried for ever.
        # Submitted, not scattered: scattered data is lost with the worker that has it.
        sent_work = self._client.submit(pickle.loads, pickled_work, pure=False)
        pending: deque[Any] = deque()
        remaining = iter(batches)
        max_pending = _MAX_BATCHES_PER_THREAD * max(1, self.threads)
        try:
            while True:
                for batch in remaining:
                    pending.append(
                        self._client.submit(operator.call, sent_work, _pickled(batch), pure=False)
                    )
                    if len(pending) >= max_pending:
                        break
                if not pending:
                    return
                yield self.wait_for_result(pending[0])
                pending.popleft()
        finally:
            for future in pending:
                future.cancel()

    def wait_for_result(self, future: Any) -> Any:
        """The result of a batch. Raises what the batch raised, and SourceUnavailable when the
        cluster failed."""
        with import_modules():
            from distributed.client import FutureCancelledError
            from distributed.scheduler import KilledWorker

        give_up_at = time.monotonic() + LOST_AFTER_SECONDS
        try:
            while True:
                # what is computed may take long to come, and may be lost again with its worker
                seconds = LOST_AFTER_SECONDS if future.done() else _LOOK_SECONDS
                with contextlib.suppress(TimeoutError):
                    return future.result(timeout=seconds)
                if future.status == "error":
                    return future.result()
                if self._client.status == "closed":  # its futures may wait for ever
                    raise ConnectionError("the client is closed")
                if not future.done() and self.threads:
                    give_up_at = time.monotonic() + LOST_AFTER_SECONDS
                elif time.monotonic() > give_up_at:
                    raise SourceUnavailable(
                        f"No worker of the Dask cluster has responded for {LOST_AFTER_SECONDS} s.",
                        hint="Start workers, or omit executor= to use this kernel.",
                    )
        except KilledWorker:
            raise SourceUnavailable(
                "Several workers of the Dask cluster died while running the same batch.",
                hint="Check their memory limits.",
            ) from None
        except (FutureCancelledError, OSError) as error:
            if future.status == "error":
                raise
            raise SourceUnavailable(
                f"The connection to the Dask cluster was lost: {type(error).__name__}.",
                hint="Check that it is running.",
            ) from error

    @property
    def threads(self) -> int:
        """The threads of all workers; 0 of a closed client, and when no scheduler responds."""
        scheduler = self._client.scheduler
        if scheduler is None:
            return 0
        try:
            # scheduler_info() has no timeout, and repeats what it knows of a scheduler that is gone
            found = self._client.sync(
                scheduler.identity, n_workers=-1, callback_timeout=CONNECT_TIMEOUT_SECONDS
            )
        except (OSError, TimeoutError, ValueError, RuntimeError):
            return 0
        return sum(worker["nthreads"] for worker in found["workers"].values())

    def close(self) -> None:
        """Close a client that was created from an address."""
        if self._owns_client:
            self._client.close()


class _OnPickled:
    """Work that takes a pickled batch."""

    def __init__(self, work: Callable[[Any], Any]) -> None:
        self._work = work

    def __call__(self, batch: bytes) -> Any:
        try:
            return self._work(pickle.loads(batch))  # noqa: S301  of the kernel whose work this is
        except (RecursionError, SystemExit) as error:
            # Dask cannot send a traceback so deep, and a worker that exits tells nobody
            raise RuntimeError(repr(error)) from None


def _pickled(value: Any) -> bytes:
    """A value as bytes, with functions of the notebook. Raises what its own pickling raises."""
    with import_modules():
        from distributed.protocol import pickle as pickler

    dumps: Any = pickler.dumps
    return bytes(dumps(value))
