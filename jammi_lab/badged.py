"""What is shown below a badge that says which of the tables it was read from are not fresh."""

import time
from collections.abc import Callable, Sequence

from jammi_lab.markup import Form, Shown, stack
from jammi_lab.noticing import Notice, Noticing

_ONE_DISPLAY = 1.0
"""Seconds in which what asks for a badge again is the same display."""


class Badged(Shown):
    """Whoever has `_body()` and `_tables()` is shown with a badge above it, which a front end fills in later when it is not known at once."""

    _noticing: Noticing | None = None
    _noticed: tuple[float, Notice] | None = None
    _unchecked = False
    _panel: Callable[[], None] | None = None

    def _tables(self) -> Sequence[str]:
        """The result tables that were read."""
        raise TypeError(f"{type(self).__name__} reads no tables")

    def _body(self) -> Form:
        """What stands below the badge."""
        raise TypeError(f"{type(self).__name__} gives no form")

    def _form(self) -> Form:
        notice = self._notice()
        badge = None if notice is None else notice.form()
        self._unchecked = notice is not None and not notice.known
        return stack(badge, self._body())

    def _notice(self) -> Notice | None:
        """The badge, which may not be known yet; a display asks twice, for text and for HTML, and one look serves both. Who shows again what said
        that it was not checked, where nothing is filled in, waits for it."""
        if self._noticing is None or not (tables := self._tables()):
            return None
        now = time.monotonic()
        if self._noticed is None or self._unchecked or (self._noticed[1].known and now - self._noticed[0] > _ONE_DISPLAY):
            self._noticed, self._unchecked = (now, self._noticing.notice(tables, wait=self._unchecked)), False
        return self._noticed[1]

    @property
    def _ipython_display_(self) -> Callable[[], None]:
        """How a notebook shows it otherwise than by its form: as a panel, or with a badge that is filled in later. There is none when it does not."""
        if self._panel is not None:
            return self._panel
        later = None if self._noticing is None else self._noticing.later()
        notice = None if later is None else self._notice()
        if later is None or notice is None or notice.settled():
            raise AttributeError("it is shown by its form")
        return lambda: later(self._body(), notice)

    @_ipython_display_.setter
    def _ipython_display_(self, panel: Callable[[], None]) -> None:
        self._panel = panel
