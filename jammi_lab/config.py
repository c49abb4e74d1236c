"""Settings: dotted keys with a type and a default, from `jammi.toml`, the environment (`JAMMI_ENGINE__THREADS`) and the call, in rising order."""

import difflib
import math
import os
import re
import tomllib
import zoneinfo
from collections.abc import Callable, Mapping
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
    "vectors.connectivity": 16,
    "vectors.build_expansion": 64,
    "vectors.search_expansion": 0,
    "vectors.oversample": 2,
    "look.timeout_seconds": 30.0,
    "look.racy_seconds": 2.0,
    "look.scan_rows": 2_000_000,
    "look.scan_bytes": 1_000_000_000,
    "mutable.versions_kept": 10_000,
    "mutable.memory_bytes": 256_000_000,
    "flight.wait_seconds": 600.0,
    "cells.traceback": "short",
    "cells.limit": 20,
    "cells.badge": "auto",
}
CHOICES: dict[str, tuple[str, ...]] = {"cells.traceback": ("short", "full"), "cells.badge": ("auto", "wait")}
"""The words that a setting takes, where it takes no other."""
LEAST: dict[str, int] = {"cells.limit": 1}
"""The least that a setting takes, where that is not 0."""
_WORDS = {int: "a whole number from 0", float: "a number from 0", str: "a text"}


_SIZE = re.compile(r"-1|none|\d+(\.\d+)?\s*[a-z]+", re.IGNORECASE)


def _check_size(key: str, said: str) -> None:
    if _SIZE.fullmatch(said.strip()) is None:
        raise InvalidArgument(f"The setting {key} takes a size like 2GB or 512MiB, not {said!r}.")


def _check_zone(key: str, said: str) -> None:
    try:
        zoneinfo.ZoneInfo(said)
    except (ValueError, OSError, zoneinfo.ZoneInfoNotFoundError):
        if not (known := zoneinfo.available_timezones()):
            return  # a machine without their names: the engine has its own
        near = difflib.get_close_matches(said, known, 3, 0.5)
        raise InvalidArgument(f"The setting {key} takes the name of a time zone, not {said!r}.", near=near) from None


_CHECKS: dict[str, Callable[[str, str], None]] = {
    "engine.memory_limit": _check_size,
    "engine.temp_quota": _check_size,
    "engine.timezone": _check_zone,
}
"""What a text must be, where not every text will do."""


class Settings:
    """The settings of one workspace; `settings["engine.threads"]`. Zero and the empty text mean: the engine's own choice."""

    def __init__(self, values: Mapping[str, Any] | None = None) -> None:
        self._values = dict(DEFAULTS)
        self.given: set[str] = set()
        """The keys that somebody gave a value, be it the default."""
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
            converted = _convert(value, type(default))
        except (TypeError, ValueError):
            converted = None
        if converted and key in _CHECKS:
            _CHECKS[key](key, converted)
        if converted is None or converted not in CHOICES.get(key, (converted,)) or (key in LEAST and converted < LEAST[key]):
            near = difflib.get_close_matches(str(value), CHOICES.get(key, ()), 3, 0.5)
            raise InvalidArgument(f"The setting {key} takes {taken(key)}, not {value!r}.", near=near)
        self._values[key] = converted
        self.given.add(key)

    def fix(self, *prefixes: str) -> None:
        """From now on the settings that begin with one of these stay as they are."""
        self._fixed = prefixes

    @staticmethod
    def _known(key: str) -> str:
        if key not in DEFAULTS:
            raise InvalidArgument(
                f"There is no setting {key!r}.", near=difflib.get_close_matches(key, DEFAULTS, 3, 0.5), hint="ws.settings shows them all."
            )
        return key


def taken(key: str) -> str:
    """What a setting takes, in words."""
    if key in CHOICES:
        return " or ".join(CHOICES[key])
    return f"a whole number from {LEAST[key]}" if key in LEAST else _WORDS[type(DEFAULTS[key])]


def _convert(value: Any, kind: type) -> Any:
    if isinstance(value, bool):
        raise TypeError
    if kind is str:
        return str(value)
    converted = kind(value)
    if not 0 <= converted < math.inf or (kind is int and isinstance(value, float) and converted != value):
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
        except OSError as error:
            raise InvalidArgument(f"{file.name} cannot be read: {error.strerror}.", hint="Ask its owner for the right to read it.") from None
        for key, value in _flatten(table):
            _set(settings, key, value, file.name)
    for name, value in sorted((os.environ if environment is None else environment).items()):
        if name.startswith("JAMMI_") and "__" in name and (key := name[6:].lower().replace("__", ".", 1)) in DEFAULTS:
            _set(settings, key, value, f"the variable {name} of the environment")
    if not isinstance(given or {}, Mapping):
        raise InvalidArgument(
            f"settings= takes a dict, not a value of type {type(given).__name__}.", hint='For example {"engine.memory_limit": "4GB"}.'
        )
    for key, value in (given or {}).items():
        settings.set(key, value)
    return settings


def _set(settings: Settings, key: str, value: Any, where: str) -> None:
    """As `settings.set`, with the word where the value came from."""
    try:
        settings.set(key, value)
    except InvalidArgument as error:
        raise InvalidArgument(str(error.message), near=error.near, hint=f"It stands in {where}.") from None


def _flatten(table: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    flat: list[tuple[str, Any]] = []
    for key, value in table.items():
        flat += _flatten(value, f"{prefix}{key}.") if isinstance(value, Mapping) else [(prefix + key, value)]
    return flat
