"""The cell settings as a Configurable: `%config JammiMagics`, and `c.JammiMagics.limit = 50` in
IPython's configuration files.

These are the settings of `%jammi config`. Precedence, lowest first: IPython's files; the
workspace's `jammi.toml`, the environment and the arguments of `open`; typed settings. `%jammi
config` applies until the workspace is closed, `%config` until the kernel ends.
"""

from collections.abc import Callable
from typing import Any

from traitlets import Enum, Int, TraitError
from traitlets.config import Configurable

from jammi_lab.core.errors import InvalidArgument
from jammi_lab.core.settings import CHOICES, DEFAULTS, MINIMUMS, Settings

_FAMILY = "cells."


class JammiMagics(Configurable):
    """The settings of `%%jammi` cells."""

    traceback = Enum(
        CHOICES["cells.traceback"],
        DEFAULTS["cells.traceback"],
        help="How errors are shown: at most five lines, or the full traceback.",
    ).tag(config=True)
    limit = Int(
        int(DEFAULTS["cells.limit"]),
        min=MINIMUMS["cells.limit"],
        help="Number of rows shown below a cell.",
    ).tag(config=True)
    badge = Enum(
        CHOICES["cells.badge"],
        DEFAULTS["cells.badge"],
        help="Insert a late badge afterwards, or wait for it.",
    ).tag(config=True)

    def __init__(self, *, on_change: Callable[[str, Any], None], **options: Any) -> None:
        try:
            super().__init__(**options)
        except TraitError as error:
            raise InvalidArgument(
                f"Invalid IPython configuration: {error}",
                hint="It is set in ipython_config.py.",
            ) from None
        self._on_change = on_change
        self._file_values = {
            key: self.value(key)
            for key in self.keys()
            if key.removeprefix(_FAMILY) in self.config.get("JammiMagics", {})
        }
        self._session_values: dict[str, Any] = {}
        self._updating_traits = False
        self.observe(self._record_change, [key.removeprefix(_FAMILY) for key in self.keys()])

    @classmethod
    def keys(cls) -> list[str]:
        """The setting keys, as `%jammi config` spells them."""
        return [f"{_FAMILY}{name}" for name in cls.class_own_traits(config=True)]

    def value(self, key: str) -> Any:
        """The value of a setting."""
        return getattr(self, key.removeprefix(_FAMILY))

    def apply_to(self, settings: Settings) -> None:
        """Apply the typed values to a workspace, and the values of IPython's files where the
        workspace has no explicit one."""
        for key, value in {
            k: v for k, v in self._file_values.items() if k not in settings.explicit_keys
        }.items():
            settings.set(key, value)
        for key, value in self._session_values.items():
            settings.set(key, value)

    def show_settings(self, settings: Settings | None) -> None:
        """Set the traits to the values of a workspace; None shows those without one."""
        self._updating_traits = True
        try:
            for key in self.keys():
                value = (
                    (DEFAULTS | self._file_values | self._session_values)[key]
                    if settings is None
                    else settings[key]
                )
                setattr(self, key.removeprefix(_FAMILY), value)
        finally:
            self._updating_traits = False

    def _record_change(self, change: Any) -> None:
        if not self._updating_traits:
            key = f"{_FAMILY}{change.name}"
            self._session_values[key] = change.new
            self._on_change(key, change.new)
