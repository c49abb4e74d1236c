"""Calls of a row map's function, with the values of a row in Python: one after the other, in
threads, or as coroutines."""

import asyncio
import concurrent.futures
import contextlib
import contextvars
import copy
import itertools
import queue
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from jammi_lab.core.errors import SchemaMismatch, StepFailed, first_line
from jammi_lab.core.thread_pool import ThreadPool, start_daemon
from jammi_lab.steps.executor import Executor, LocalExecutor
from jammi_lab.steps.row_digests import Digests, digests_of
from jammi_lab.steps.step_functions import StepFunction, is_async, step_failure

_BLOCK_ROWS = 4096
"""Rows that are in Python memory at a time."""


def input_digests(inputs: pa.Table) -> Digests:
    """A digest of the values of each row. Column types are not in it: they belong to the
    definition. Raises SchemaMismatch for values that Python cannot represent."""

    def contents() -> Iterator[bytes]:
        for start in range(0, len(inputs), _BLOCK_ROWS):
            for row in zip(*python_columns(inputs.slice(start, _BLOCK_ROWS)), strict=True):
                # repr() is exact for all types that a column has, and never equal for unequal
                # values
                yield repr(row).encode("utf-8", "surrogatepass")

    return digests_of(contents())


def python_columns(inputs: pa.Table) -> list[list[object]]:
    """The columns as Python values. Raises SchemaMismatch for values that Python cannot
    represent."""
    columns = []
    for name, column in zip(inputs.column_names, inputs.columns, strict=True):
        try:
            columns.append(column.to_pylist())
        except (pa.ArrowException, ValueError) as error:
            raise SchemaMismatch(
                f"The column {name!r} has values of type {column.type} that Python cannot "
                f"represent ({first_line(error)}).",
                column=name,
                actual=str(column.type),
                hint="Cast it in SQL, for example to TIMESTAMP or VARCHAR.",
            ) from None
    return columns


_MAX_KEY_CHARACTERS = 60
STOP_TIMEOUT_SECONDS = 5
_MIN_GROUP_CALLS = 32
"""Calls that a worker of a cluster receives at once, at least."""
Call = tuple[Sequence[int], Any]
"""The rows of a call, and what the function receives for them."""


@dataclass(frozen=True)
class Failed:
    """The exception of a call, in place of its result."""

    error: Exception


@dataclass(frozen=True)
class _Exit:
    """The KeyboardInterrupt or SystemExit of a coroutine, in place of its result: raised inside
    the event loop, they would end its thread, and no other call would ever end."""

    error: BaseException


@dataclass(frozen=True)
class RowCalls:
    """Calls a function for rows: for each one with its values as keywords, or for batches of rows
    with an Arrow table."""

    name: str
    step: StepFunction
    columns: Sequence[str]
    """The inputs, by the names that the function receives them under."""
    params: Mapping[str, Any]
    batched: bool = False
    batch: int = 1
    """Rows of one call at most."""
    concurrency: int = 1
    """Calls at a time."""

    def calls(self, inputs: pa.Table, numbers: Sequence[int]) -> Iterator[Call]:
        """The calls for some rows, which have these numbers."""
        if self.batched:
            for start in range(0, len(inputs), self.batch):
                yield numbers[start : start + self.batch], inputs.slice(start, self.batch)
            return
        for number, values in zip(numbers, zip(*python_columns(inputs), strict=True), strict=True):
            yield [number], dict(zip(self.columns, values, strict=True))

    def run(
        self, calls: Iterable[Call], is_stopped: Callable[[], bool]
    ) -> Iterator[tuple[Sequence[int], object]]:
        """Yield for each call its rows and what the function returned, or Failed, as soon as it
        ends. Once `is_stopped` is true no further call begins, and the running ones are awaited."""
        if self.concurrency == 1 and not is_async(self.step.function):
            for numbers, argument in calls:
                yield numbers, _outcome_of(lambda: self._call(argument))  # noqa: B023  called now
                if is_stopped():
                    return
            return
        with self._submitter() as submit:
            pending: dict[Future[Any], Sequence[int]] = {}
            finished = queue.SimpleQueue[Future[Any]]()
            for numbers, argument in calls:
                future = submit(argument)
                pending[future] = numbers
                future.add_done_callback(finished.put)
                if len(pending) >= self.concurrency:
                    yield _take_finished(pending, finished)
                if is_stopped():
                    break
            while pending:
                yield _take_finished(pending, finished)

    def run_on(
        self, executor: Executor, calls: Iterable[Call], is_stopped: Callable[[], bool]
    ) -> Iterator[tuple[Sequence[int], object]]:
        """As `run`: in this kernel call by call, on a cluster in groups of calls."""
        if isinstance(executor, LocalExecutor):
            return self.run(calls, is_stopped)
        remaining = iter(calls)
        group_calls = max(_MIN_GROUP_CALLS, self.concurrency)
        groups = iter(lambda: list(itertools.islice(remaining, group_calls)), [])
        running = itertools.takewhile(lambda _: not is_stopped(), groups)
        return itertools.chain.from_iterable(executor.map(self.run_group, running))

    def run_group(self, calls: Sequence[Call]) -> list[tuple[Sequence[int], object]]:
        """All calls of a group, with what the function returned for each, or Failed."""
        return list(self.run(calls, lambda: False))

    def failure(self, error: Exception, keys: Sequence[object]) -> StepFailed:
        """The error to raise for an exception of the call for the rows with these keys."""
        failure = step_failure(self.name, self.step, error, f" for {_rows_of(keys)}")
        advice = 'on_error="record" stores errors in their rows and goes on.'
        failure.hint = " ".join(filter(None, (failure.hint, advice)))
        return failure

    def _call(self, argument: Any) -> Any:
        # A copy for each call: a function may change a list, and other rows must not see it.
        params = copy.deepcopy(self.params)
        if self.batched:
            return self.step.function(argument, **params)
        return self.step.function(**argument, **params)

    async def _call_coroutine(self, argument: Any) -> Any:
        try:
            return await self._call(argument)
        except (KeyboardInterrupt, SystemExit) as error:
            return _Exit(error)

    @contextlib.contextmanager
    def _submitter(self) -> Iterator[Callable[[Any], Future[Any]]]:
        """A function that begins a call. After an error no call that has not begun is made, and
        coroutines are cancelled."""
        if is_async(self.step.function):
            with _event_loop() as loop:
                yield lambda argument: asyncio.run_coroutine_threadsafe(
                    self._call_coroutine(argument), loop
                )
            return
        pool = ThreadPool(self.concurrency, "jammi-map")
        try:
            yield lambda argument: pool.submit(contextvars.copy_context().run, self._call, argument)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
        pool.shutdown()


def mismatch_of_rows(error: SchemaMismatch, keys: Sequence[object]) -> SchemaMismatch:
    """The error about what a call for the rows with these keys returned."""
    return SchemaMismatch(
        f"{error.message.rstrip('.')}, for {_rows_of(keys)}.",
        table=error.table,
        column=error.column,
        key=keys[0],
        near=error.near,
        hint=error.hint,
    )


def _rows_of(keys: Sequence[object]) -> str:
    first = repr(keys[0])[:_MAX_KEY_CHARACTERS]
    return f"the row {first}" if len(keys) == 1 else f"{len(keys):,} rows from {first}"


def _outcome_of(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except Exception as error:  # noqa: BLE001  user functions may raise anything
        return Failed(error)


def _take_finished(
    pending: dict[Future[Any], Sequence[int]], finished: "queue.SimpleQueue[Future[Any]]"
) -> tuple[Sequence[int], object]:
    """Wait for a call that has ended. An interrupt breaks the lock of other kinds of waiting
    (`Signal`)."""
    future = finished.get()
    outcome = _outcome_of(future.result)
    if isinstance(outcome, _Exit):
        raise outcome.error
    return pending.pop(future), outcome


@contextlib.contextmanager
def _event_loop() -> Iterator[asyncio.AbstractEventLoop]:
    """An event loop in a thread of its own, because that of a notebook is running already. Tasks
    that have not ended are cancelled at the end."""
    loop = asyncio.new_event_loop()
    thread = start_daemon(loop.run_forever, "jammi-map")
    try:
        yield loop
    finally:
        with contextlib.suppress(TimeoutError, concurrent.futures.CancelledError):
            asyncio.run_coroutine_threadsafe(_cancel_tasks(), loop).result(STOP_TIMEOUT_SECONDS)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(STOP_TIMEOUT_SECONDS)
        if not thread.is_alive():
            loop.close()


async def _cancel_tasks() -> None:
    tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await asyncio.get_running_loop().shutdown_asyncgens()
