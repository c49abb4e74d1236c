"""What stands above a result about the tables that it read: found out beside the result, which does not wait for it."""

import contextlib
import contextvars
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence

from jammi_lab import forms
from jammi_lab.errors import JammiError
from jammi_lab.markup import Form
from jammi_lab.scrubbing import scrubbed
from jammi_lab.values.verdicts import Verdict

Ask = Callable[[Sequence[str], threading.Event | None], Mapping[str, Verdict]]
"""The verdicts on some recipes as they are now; whoever asks gives up when the event is set."""

Later = Callable[[Form | None, "Notice"], None]
"""Shows rows (or nothing but the badge) at once, and again with the badge when it is known."""

_AT_ONCE = 4
"""Looks that go on at the same time, so that one server which does not answer holds up no other badge; and no more threads than that."""
_LETTING_GO_SECONDS = 5.0


class Notice:
    """The verdicts on what one result read: asked for once, known at once or later."""

    def __init__(self, names: Sequence[str], patience: float | None) -> None:
        self.names = tuple(names)
        self._until = None if patience is None else time.monotonic() + patience
        self._known, self._lock = threading.Event(), threading.Lock()
        self._verdicts: Mapping[str, Verdict] = {}
        self._why_not = ""
        self._then: list[Callable[[], None]] = []

    @property
    def known(self) -> bool:
        """Whether there is an answer by now."""
        return self._known.is_set()

    def settled(self) -> bool:
        """Whether there is an answer, having waited for it for as long as whoever asked has patience."""
        return self._known.wait(None if self._until is None else max(0.0, self._until - time.monotonic()))

    def form(self) -> Form | None:
        """The badge, or that it is not known; None when all is fresh."""
        if not self.settled() or self._why_not:
            return forms.unchecked(self.names, self._why_not)
        return forms.badge(self._verdicts)

    def then(self, call: Callable[[], None]) -> None:
        """Call when it is known; at once when it is already."""
        with self._lock:
            if not self.known:
                self._then.append(call)
                return
        call()

    def find(self, verdicts: Callable[[], Mapping[str, Verdict]]) -> None:
        """Find out, and tell who waits. What goes wrong is why it is not known: the rows are good all the same."""
        try:
            self._verdicts = verdicts()
        except JammiError as error:
            self._why_not = scrubbed(error.message).rstrip(".")
        except Exception as error:  # noqa: BLE001  the notebook may change its variables while they are looked at
            self._why_not = type(error).__name__
        with self._lock:
            self._known.set()
            waiting, self._then = self._then, []
        for call in waiting:
            with contextlib.suppress(Exception):  # a front end that is gone
                call()


class Noticing:
    """The badges of one workspace. Where somebody looks on, a look gets a thread and its badge a moment; elsewhere results wait for it."""

    def __init__(self, ask: Ask, tenant: Callable[[], str | None] = lambda: None) -> None:
        self._ask, self._tenant = ask, tenant
        self.patience: Callable[[], float | None] = lambda: None
        """For how many seconds a result waits for its badge; None is until it is known, so that what is shown does not depend on the moment."""
        self.later: Callable[[], Later | None] = lambda: None
        """How a late badge is filled in; None where what was shown cannot be changed."""
        self._stopped, self._lock = threading.Event(), threading.Lock()
        self._going: dict[tuple[str | None, tuple[str, ...]], Notice] = {}
        self._queue: deque[tuple[contextvars.Context, Notice]] = deque()
        self._threads: set[threading.Thread] = set()

    def now(self, names: Sequence[str]) -> Mapping[str, Verdict]:
        """The verdicts, waited for. Raises as asking does."""
        return self._ask(names, None)

    def notice(self, names: Sequence[str], *, wait: bool = False) -> Notice:
        """Begin to find out, or with `wait` find out; a question that is being asked already is not asked twice."""
        patience = None if wait else self.patience()
        notice = Notice(names, patience)
        if patience is None:
            notice.find(lambda: self._ask(notice.names, None))
            return notice
        key = (self._tenant(), notice.names)
        with self._lock:
            going = self._going.get(key)
            if going is not None and not going.known:
                return going
            if self._stopped.is_set():
                notice.find(self._gone)
                return notice
            self._going = {k: n for k, n in self._going.items() if not n.known} | {key: notice}
            self._queue.append((contextvars.copy_context(), notice))  # with the tenant, and for a kernel the cell that asks
            if len(self._threads) < _AT_ONCE:
                thread = threading.Thread(target=self._work, name="jammi-badge", daemon=True)
                self._threads.add(thread)
                thread.start()
        return notice

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._queue or self._stopped.is_set():
                    self._threads.discard(threading.current_thread())
                    return
                context, notice = self._queue.popleft()
            context.run(self._find, notice)

    @staticmethod
    def _gone() -> Mapping[str, Verdict]:
        raise JammiError("the workspace was closed before")

    def _find(self, notice: Notice) -> None:
        def verdicts() -> Mapping[str, Verdict]:
            found = self._ask(notice.names, self._stopped)
            return self._gone() if self._stopped.is_set() else found

        notice.find(verdicts)

    def close(self) -> None:
        """Give up what is not known yet, and wait until nobody looks any more. Closing twice is fine."""
        with self._lock:
            self._stopped.set()
            self._queue.clear()
            threads = self._threads - {threading.current_thread()}
        until = time.monotonic() + _LETTING_GO_SECONDS
        for thread in threads:
            thread.join(max(0.0, until - time.monotonic()))
