"""Settings: dotted keys with a type and a default, from `jammi.toml`, the environment (`JAMMI_ENGINE__THREADS`) and the call, in rising order."""

import difflib
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jammi_lab.errors import InvalidArgument

DEFAULTS: dict[str, int | float | str] = {
    "catalog.url": "",
    "engine.threads": 0,
    "engine.memory_limit": "",
    "engine.temp_quota": "",
    "engine.timezone": "UTC",
    "vectors.exact_max_rows": 20_000,
    "look.timeout_seconds": 30.0,
    "look.racy_seconds": 2.0,
    "look.scan_rows": 2_000_000,
    "look.scan_bytes": 1_000_000_000,
    "flight.wait_seconds": 600.0,
    "cells.traceback": "short",
    "cells.limit": 20,
}
_WORDS = {int: "a whole number from 0", float: "a number from 0", str: "a text"}


class Settings:
    """The settings of one workspace; `settings["engine.threads"]`. Zero and the empty text mean: the engine's own choice."""

    def __init__(self, values: Mapping[str, Any] | None = None) -> None:
        self._values = dict(DEFAULTS)
        self._fixed: tuple[str, ...] = ()
        for key, value in (values or {}).items():
            self.set(key, value)

    def __getitem__(self, key: str) -> Any:
        return self._values[self._known(key)]

    def __iter__(self) -> Any:
        return iter(sorted(self._values))

    def __repr__(self) -> str:
        return "\n".join(f"{key} = {self._values[key]!r}" for key in self)

    def set(self, key: str, value: Any) -> None:
        """Give a setting another value, from its own type or from text. InvalidArgument names the near keys or the type that was expected."""
        default = DEFAULTS[self._known(key)]
        if key.startswith(self._fixed):
            raise InvalidArgument(
                f"{key} cannot be changed while the workspace is open: what was done before would not follow.",
                hint=f'Close it, and open it with settings={{"{key}": …}} or a line in jammi.toml.',
            )
        try:
            self._values[key] = _convert(value, type(default))
        except (TypeError, ValueError):
            raise InvalidArgument(f"The setting {key} takes {_WORDS[type(default)]}, not {value!r}.") from None

    def fix(self, *prefixes: str) -> None:
        """From now on the settings that begin with one of these stay as they are."""
        self._fixed = prefixes

    @staticmethod
    def _known(key: str) -> str:
        if key not in DEFAULTS:
            raise InvalidArgument(f"There is no setting {key!r}.", near=difflib.get_close_matches(key, DEFAULTS, 3, 0.5))
        return key


def _convert(value: Any, kind: type) -> Any:
    if isinstance(value, bool):
        raise TypeError
    if kind is str:
        return str(value)
    converted = kind(value)
    if converted < 0:
        raise ValueError
    return converted


def load_settings(folder: Path | None, given: Mapping[str, Any] | None, environment: Mapping[str, str] | None = None) -> Settings:
    """Settings for a workspace in `folder`: its `jammi.toml`, then the environment, then what the call gave. InvalidArgument."""
    settings = Settings()
    file = folder / "jammi.toml" if folder else None
    if file is not None and file.is_file():
        try:
            table = tomllib.loads(file.read_text(encoding="utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise InvalidArgument(f"{file.name} cannot be read: {error}.") from None
        for key, value in _flatten(table):
            settings.set(key, value)
    for name, value in sorted((os.environ if environment is None else environment).items()):
        if name.startswith("JAMMI_") and "__" in name and (key := name[6:].lower().replace("__", ".", 1)) in DEFAULTS:
            settings.set(key, value)
    for key, value in (given or {}).items():
        settings.set(key, value)
    return settings


def _flatten(table: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    flat: list[tuple[str, Any]] = []
    for key, value in table.items():
        flat += _flatten(value, f"{prefix}{key}.") if isinstance(value, Mapping) else [(prefix + key, value)]
    return flat
