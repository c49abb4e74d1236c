"""An executor of threads that an interrupt leaves as KeyboardInterrupt."""

import concurrent.futures
from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class ThreadPool(concurrent.futures.ThreadPoolExecutor):
    """Like its base, except that an interrupt while a thread starts, which `threading` turns into a
    RuntimeError of its own lock, is raised as KeyboardInterrupt."""

    def submit(
        self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs
    ) -> concurrent.futures.Future[T]:
        """As in the base class."""
        try:
            return super().submit(fn, *args, **kwargs)
        except RuntimeError as error:
            if isinstance(error.__context__, KeyboardInterrupt):
                raise error.__context__ from None
            raise
