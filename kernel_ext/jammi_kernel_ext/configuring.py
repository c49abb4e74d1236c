"""The settings of cells as IPython knows settings: `%config JammiMagics`, and `c.JammiMagics.limit = 50` in its configuration files.

They are those of `%jammi config`. What a workspace's `jammi.toml`, the environment or the call that opened it says goes before IPython's files;
what is typed goes before all: with `%jammi config` until the workspace is closed, with `%config` until the kernel ends.
"""

from collections.abc import Callable
from typing import Any

from traitlets import Enum, Int, TraitError
from traitlets.config import Configurable

from jammi_lab.config import CHOICES, DEFAULTS, LEAST, Settings
from jammi_lab.errors import InvalidArgument

_FAMILY = "cells."


class JammiMagics(Configurable):
    """The settings of `%%jammi` cells."""

    traceback = Enum(CHOICES["cells.traceback"], DEFAULTS["cells.traceback"], help="Errors: at most five lines, or the whole stack.").tag(config=True)
    limit = Int(int(DEFAULTS["cells.limit"]), min=LEAST["cells.limit"], help="Rows that a cell shows.").tag(config=True)
    badge = Enum(CHOICES["cells.badge"], DEFAULTS["cells.badge"], help="Fill a late badge in, or wait for it.").tag(config=True)

    def __init__(self, *, changed: Callable[[str, Any], None], **given: Any) -> None:
        try:
            super().__init__(**given)
        except TraitError as error:
            raise InvalidArgument(f"IPython's configuration cannot be followed: {error}", hint="It stands in ipython_config.py.") from None
        self._changed = changed
        self._in_files = {key: self.value(key) for key in self.keys() if key.removeprefix(_FAMILY) in self.config.get("JammiMagics", {})}
        self._typed: dict[str, Any] = {}
        self._showing = False
        self.observe(self._given, [key.removeprefix(_FAMILY) for key in self.keys()])

    @classmethod
    def keys(cls) -> list[str]:
        """The settings that there are, as `%jammi config` spells them."""
        return [f"{_FAMILY}{name}" for name in cls.class_own_traits(config=True)]

    def value(self, key: str) -> Any:
        """What a setting is."""
        return getattr(self, key.removeprefix(_FAMILY))

    def hand_over(self, settings: Settings) -> None:
        """Give a workspace what was typed, and of what stands in IPython's files that which nobody nearer to the workspace gave."""
        for key, value in {k: v for k, v in self._in_files.items() if k not in settings.given}.items():
            settings.set(key, value)
        for key, value in self._typed.items():
            settings.set(key, value)

    def show(self, settings: Settings | None) -> None:
        """From now on show what holds in a workspace; None is without one."""
        self._showing = True
        try:
            for key in self.keys():
                value = (DEFAULTS | self._in_files | self._typed)[key] if settings is None else settings[key]
                setattr(self, key.removeprefix(_FAMILY), value)
        finally:
            self._showing = False

    def _given(self, change: Any) -> None:
        if not self._showing:
            key = f"{_FAMILY}{change.name}"
            self._typed[key] = change.new
            self._changed(key, change.new)
