"""Waiting for what other threads or processes do."""

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any


def until(condition: Callable[[], object], seconds: float = 60) -> object:
    """Ask again until the answer is true, or the time is over; the last answer."""
    end = time.monotonic() + seconds
    while not (answer := condition()) and time.monotonic() < end:
        time.sleep(0.01)
    return answer


def at_once(calls: Sequence[Callable[[], Any]]) -> list[Any]:
    """The results of calls that begin together, each in a thread of its own; errors in their
    place."""
    start = threading.Barrier(len(calls))
    results: list[Any] = [None] * len(calls)

    def run(number: int, call: Callable[[], Any]) -> None:
        start.wait()
        try:
            results[number] = call()
        except BaseException as error:
            results[number] = error

    threads = [threading.Thread(target=run, args=each) for each in enumerate(calls)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    return results


def in_threads(work: Callable[[Any], Any], values: Iterable[Any]) -> list[Any]:
    """What `work` gives for each value, in threads that begin together. Raises the first error."""
    results = at_once([lambda value=value: work(value) for value in values])
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return results
