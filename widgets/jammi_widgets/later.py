"""Answers that rest on a source which has to be read first: given in a thread of their own, in the order in which they were asked for, so that the
kernel is free meanwhile."""

import contextvars
import threading
from collections import deque
from collections.abc import Callable


class Later:
    """One thing after the other, in a thread that is there as long as there is something to do."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = threading.Lock()
        self._jobs: deque[Callable[[], object]] = deque()
        self._thread: threading.Thread | None = None

    @property
    def busy(self) -> bool:
        """Whether something is done or waits."""
        return self._thread is not None

    def put(self, job: Callable[[], object]) -> None:
        """Do this after what was put here before, in the context of the caller."""
        run = contextvars.copy_context().run
        with self._lock:
            self._jobs.append(lambda: run(job))
            if self._thread is None:
                self._begin()

    def wait(self, seconds: float | None = None) -> None:
        """Until there is nothing left to do."""
        thread = self._thread
        if thread is not None:
            thread.join(seconds)

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._jobs:
                    self._thread = None
                    return
                job = self._jobs.popleft()
            try:
                job()
            except BaseException:  # it is the end of this thread, and not of what waits
                with self._lock:
                    self._begin()
                raise

    def _begin(self) -> None:
        self._thread = threading.Thread(target=self._work, name=f"jammi-panel-{self._name}", daemon=True)
        self._thread.start()
