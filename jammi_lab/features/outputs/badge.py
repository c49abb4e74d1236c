"""The freshness badge of a result: the verdicts on the tables that it read, evaluated in the
background so that the result does not wait for them."""

import contextlib
import functools
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jammi_lab.core.clock import utc_now
from jammi_lab.core.command_hints import command
from jammi_lab.core.errors import JammiError
from jammi_lab.core.html import (
    Rendered,
    ReprMixin,
    bullet_list,
    cell,
    details,
    dim_text,
    inline_code,
    plain_text,
    verdict_icon,
    vstack,
)
from jammi_lab.core.interrupts import Signal
from jammi_lab.core.redaction import redact
from jammi_lab.core.reprs import is_repairable
from jammi_lab.core.thread_pool import JobQueue
from jammi_lab.core.verdicts import (
    Fresh,
    PossiblyStale,
    Verdict,
    reasons_of,
    remarks_on,
    verdict_label,
    verdicts_sentence,
)
from jammi_lab.features.outputs.stamps import Stamp, StampMaker

# --------------------------------------------------------------------------------------------------
# The freshness badge of a result: the tables that it read and that are not fresh.

_NOTHING = Rendered("", "")
_MAX_BADGE_TABLES = 5
"""Tables named in a badge. Further ones are counted."""


def badge(verdicts: Mapping[str, Verdict], date: Rendered = _NOTHING) -> Rendered | None:
    """The freshness badge of a result: the tables that are not fresh, those with the same cause in
    one line with verdict and first reason, and the next command; and the grounds of each fresh one.
    None when there is nothing to show. `date`: when the verdicts were determined, shown at the end
    of a line."""
    grounds = [
        dim_text(f"{name} is {v}")
        for name, v in verdicts.items()
        if isinstance(v, Fresh) and remarks_on(v)
    ][:_MAX_BADGE_TABLES]
    not_fresh = [(n, v) for n, v in verdicts.items() if not isinstance(v, Fresh)]
    if not not_fresh:
        return vstack(*grounds[:-1], grounds[-1] + date) if grounds else None
    repairable = [n for n, v in not_fresh if is_repairable(v)]
    next_command = inline_code(
        command("recompute", *repairable[:_MAX_BADGE_TABLES])
        if repairable
        else command("why", not_fresh[0][0])
    )
    next_command += date
    groups = _groups_of_equal_causes(not_fresh)
    if len(groups) == 1:
        line = _badge_line(*groups[0], plain_text(" — ") + next_command)
        return vstack(line, *grounds) if grounds else line
    hidden_count = sum(len(names) for names, _ in groups[_MAX_BADGE_TABLES:])
    return vstack(
        *(_badge_line(names, value) for names, value in groups[:_MAX_BADGE_TABLES]),
        dim_text(f"and {hidden_count:,} more that are not fresh") if hidden_count > 0 else None,
        next_command,
        *grounds,
    )


def _groups_of_equal_causes(
    verdicts: Sequence[tuple[str, Verdict]],
) -> list[tuple[list[str], Verdict]]:
    """The tables with equal verdicts and root causes, whatever the paths to these, each with the
    verdict of the table that is nearest to the causes."""
    groups: dict[Any, list[tuple[str, Verdict]]] = {}
    for name, value in verdicts:
        groups.setdefault(_root_causes(value), []).append((name, value))
    return [
        ([name for name, _ in group], min((v for _, v in group), key=_path_length))
        for group in groups.values()
    ]


def _root_causes(value: Verdict) -> object:
    if not isinstance(value, PossiblyStale):
        return (verdict_label(value), tuple(reasons_of(value)))
    return ("possibly stale", tuple(sorted({(c.path[-1], str(c.reason)) for c in value.causes})))


def _path_length(value: Verdict) -> int:
    return sum(len(c.path) for c in value.causes) if isinstance(value, PossiblyStale) else 0


def _badge_line(
    names: Sequence[str], value: Verdict, next_command: Rendered | None = None
) -> Rendered:
    """Tables with one verdict: a line with the first reason that expands to all of them."""
    reasons = [r.removeprefix(f"{verdict_label(value)}: ") for r in reasons_of(value)]
    line = plain_text(f"{_name_list(names)} ") + verdict_icon(verdict_label(value))
    if reasons:
        line = line + plain_text(": ") + cell(reasons[0], html_cut=200, text_cut=120)
    if len(reasons) > 1:
        line = line + plain_text(f", and {len(reasons) - 1:,} more")
    line = line if next_command is None else line + next_command
    return (
        details(
            line,
            vstack(
                bullet_list(reasons),
                inline_code(command("why", names[0])) + dim_text(" shows details"),
            ),
        )
        if reasons
        else line
    )


def _name_list(names: Sequence[str]) -> str:
    """`a is`, `a, b are`, `a, b, c, d, e and 2 more are`."""
    shown = ", ".join(names[:_MAX_BADGE_TABLES])
    more = f" and {len(names) - _MAX_BADGE_TABLES:,} more" if len(names) > _MAX_BADGE_TABLES else ""
    return f"{shown}{more} {'is' if len(names) == 1 else 'are'}"


def unchecked_badge(names: Sequence[str], reason: str = "") -> Rendered:
    """The badge while the verdicts are unknown, or with the reason why they could not be
    determined."""
    icon = verdict_icon("undecidable", f"not checked: {reason}" if reason else "not checked yet")
    return (
        plain_text(f"{_name_list(names)} ")
        + icon
        + plain_text(" — ")
        + inline_code(command("why", names[0]))
    )


# --------------------------------------------------------------------------------------------------
# The badge.

Evaluate = Callable[[Sequence[str], threading.Event | None], Mapping[str, Verdict]]
"""Returns the current verdicts on some recipes; stops when the event is set."""

Metadata = Callable[[Mapping[str, str]], dict[str, Any]]
"""The metadata of an output with some data by MIME type."""

UpdateDisplay = Callable[[Rendered | None, "PendingBadge", Metadata], None]
"""Displays rows (or only the badge) immediately, and updates them when the badge is known."""

MAX_CONCURRENT_CHECKS = 4
"""Maximum number of evaluation threads. Several, so that one unresponsive server does not delay
other badges."""
STOP_TIMEOUT_SECONDS = 5.0


class PendingBadge:
    """The verdicts on the tables that one result read, available immediately or later."""

    def __init__(self, names: Sequence[str], timeout: float | None) -> None:
        self.names = tuple(names)
        self._deadline = None if timeout is None else time.monotonic() + timeout
        self._done, self._lock = Signal(), threading.Lock()
        self._verdicts: Mapping[str, Verdict] = {}
        self._failure = ""
        self._checked_at = ""
        self._callbacks: list[Callable[[], None]] = []

    @property
    def is_known(self) -> bool:
        """Whether the verdicts are available."""
        return self._done.is_set()

    def wait(self) -> bool:
        """Wait until the timeout of the request. Returns whether the verdicts are available."""
        if self._deadline is None:
            return self._done.wait()
        return self._done.wait(max(0.0, self._deadline - time.monotonic()))

    def rendering(self) -> Rendered | None:
        """The badge, or a note that it is not known; None when all tables are fresh."""
        if not self.wait() or self._failure:
            return unchecked_badge(self.names, self._failure)
        return badge(self._verdicts)

    def dated_rendering(self) -> Rendered | None:
        """The badge as a notebook saves it: with the time of the check, which its reader does not
        know. A text is read when it is printed, and has none."""
        if not self._checked_at or self._failure:
            return self.rendering()
        date = dim_text(f" · as of {self._checked_at} UTC").html
        return badge(self._verdicts, Rendered(date, ""))

    def sentence(self) -> str:
        """The verdicts in one sentence; empty while they are not known."""
        if not self.is_known or self._failure or not self._verdicts:
            return ""
        return verdicts_sentence(self._verdicts)

    def add_done_callback(self, callback: Callable[[], None]) -> None:
        """Call back when the verdicts are available; immediately if they already are."""
        with self._lock:
            if not self.is_known:
                self._callbacks.append(callback)
                return
        callback()

    def resolve(self, evaluate: Callable[[], Mapping[str, Verdict]]) -> None:
        """Evaluate the verdicts and run the callbacks. A failure is displayed as the reason why
        they are unknown; it does not invalidate the rows of the result."""
        began = utc_now()
        try:
            self._verdicts = evaluate()
        except JammiError as error:
            self._failure = redact(error.message).rstrip(".")
        except Exception as error:  # noqa: BLE001  a notebook may change its frames during the evaluation
            self._failure = type(error).__name__
        self._checked_at = began
        with self._lock:
            self._done.set()
            callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            with contextlib.suppress(Exception):  # the front end may be disconnected
                callback()


class BadgeService:
    """Evaluates the badges of one workspace: in threads where the front end can update a display,
    else while the result waits."""

    def __init__(
        self,
        evaluate: Evaluate,
        current_tenant: Callable[[], str | None] = lambda: None,
        stamps: StampMaker | None = None,
    ) -> None:
        self._evaluate, self.current_tenant = evaluate, current_tenant
        self.stamps = stamps
        """Makes the stamps of outputs; None for results of no workspace."""
        self.timeout: Callable[[], float | None] = lambda: None
        """Seconds that a result waits for its badge. None waits until it is known, so that output
        does not depend on timing."""
        self.update_display: Callable[[], UpdateDisplay | None] = lambda: None
        """How a late badge is displayed; None where output cannot be updated."""
        self._closed, self._lock = threading.Event(), threading.Lock()
        self._pending: dict[tuple[str | None, tuple[str, ...]], PendingBadge] = {}
        # Jobs keep the context, which carries the tenant and, in a kernel, the cell that displays
        # the result.
        self._queue = JobQueue("jammi-badge", MAX_CONCURRENT_CHECKS)

    def verdicts(self, names: Sequence[str]) -> Mapping[str, Verdict]:
        """Evaluate the current verdicts and return them. Raises what the evaluation raises."""
        return self._evaluate(names, None)

    def request(self, names: Sequence[str], *, wait: bool = False) -> PendingBadge:
        """Start to evaluate a badge; with `wait`, evaluate it now. Equal pending requests share
        one evaluation."""
        timeout = None if wait else self.timeout()
        badge = PendingBadge(names, timeout)
        if timeout is None:
            badge.resolve(lambda: self._evaluate(badge.names, None))
            return badge
        key = (self.current_tenant(), badge.names)
        with self._lock:
            pending = self._pending.get(key)
            if pending is not None and not pending.is_known:
                return pending
            if self._closed.is_set():
                badge.resolve(self._raise_closed)
                return badge
            self._pending = {k: b for k, b in self._pending.items() if not b.is_known} | {
                key: badge
            }
            self._queue.put(lambda: self._resolve(badge))
        return badge

    @staticmethod
    def _raise_closed() -> Mapping[str, Verdict]:
        raise JammiError("the workspace was closed first")

    def _resolve(self, badge: PendingBadge) -> None:
        def evaluate() -> Mapping[str, Verdict]:
            verdicts = self._evaluate(badge.names, self._closed)
            return self._raise_closed() if self._closed.is_set() else verdicts

        badge.resolve(evaluate)

    def close(self) -> None:
        """Cancel pending requests and wait for the threads. Idempotent."""
        with self._lock:
            self._closed.set()
            self._queue.clear()
        self._queue.wait(STOP_TIMEOUT_SECONDS)


_ONE_DISPLAY_SECONDS = 1.0
"""Requests for a badge within this time belong to one display."""


class BadgeMixin(ReprMixin):
    """Displays `_content()` below the freshness badge of `_tables()`. A front end that can update
    its output fills in a badge that is not known at once."""

    _badges: BadgeService | None = None
    _last_request: tuple[float, PendingBadge] | None = None
    _was_unchecked = False
    _panel: Callable[[], None] | None = None

    def _tables(self) -> Sequence[str]:
        """The result tables that were read."""
        raise TypeError(f"{type(self).__name__} reads no tables")

    def _content(self) -> Rendered:
        """What is displayed below the badge."""
        raise TypeError(f"{type(self).__name__} gives no form")

    def _stamp(self) -> Stamp | None:
        """What the output's metadata says of the tables that were read."""
        return None

    def _metadata(self, data: Mapping[str, str], code: str | None = None) -> dict[str, Any]:
        """The metadata of an output. `code`: the digest of the text of its cell, when another one
        may run by now."""
        stamp = self._stamp()
        if stamp is None or self._badges is None or self._badges.stamps is None:
            return {}
        if code is not None:
            stamp = stamp.with_values(code=code)
        return self._badges.stamps.metadata(stamp, data)

    def _repr_mimebundle_(self, **_: Any) -> tuple[dict[str, str], dict[str, Any]]:
        data = self._rendered(dated=True).data
        return data, self._metadata(data)

    def _rendered(self, *, dated: bool = False) -> Rendered:
        badge = self._badge()
        form = PendingBadge.dated_rendering if dated else PendingBadge.rendering
        rendered_badge = None if badge is None else form(badge)
        self._was_unchecked = badge is not None and not badge.is_known
        return vstack(rendered_badge, self._content())

    def _badge(self) -> PendingBadge | None:
        """The badge, known or pending. A display requests it twice, for text and for HTML; one
        evaluation serves both. An object that was displayed unchecked, in a front end that cannot
        update output, waits for its badge the next time."""
        if self._badges is None or not (tables := self._tables()):
            return None
        now = time.monotonic()
        if (
            self._last_request is None
            or self._was_unchecked
            or (
                self._last_request[1].is_known
                and now - self._last_request[0] > _ONE_DISPLAY_SECONDS
            )
        ):
            badge = self._badges.request(tables, wait=self._was_unchecked)
            self._last_request, self._was_unchecked = (now, badge), False
        return self._last_request[1]

    @property
    def _ipython_display_(self) -> Callable[[], None]:
        """The display function for a panel, or for a badge that is filled in later. Raises
        AttributeError where the ordinary representation is displayed."""
        if self._panel is not None:
            return self._panel
        update = None if self._badges is None else self._badges.update_display()
        badge = None if update is None else self._badge()
        if update is None or badge is None or badge.wait():
            raise AttributeError("it is shown by its form")
        stamps = None if self._badges is None else self._badges.stamps
        code = None if stamps is None else stamps.current_code()
        return lambda: update(self._content(), badge, functools.partial(self._metadata, code=code))

    @_ipython_display_.setter
    def _ipython_display_(self, panel: Callable[[], None]) -> None:
        self._panel = panel
