"""Settings: dotted keys with a type and a default. Values come from `jammi.toml`, the environment
(`JAMMI_ENGINE__THREADS`) and the call; later ones win."""

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from jammi_lab.core.errors import InvalidArgument
from jammi_lab.core.redaction import remember_typed_credentials
from jammi_lab.core.suggestions import close_matches

DEFAULTS: dict[str, int | float | str] = {
    "catalog.url": "",
    "engine.threads": 0,
    "engine.memory_limit": "",
    "engine.temp_quota": "",
    "engine.timezone": "UTC",
    "engine.float_sums": "reproducible",
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
    "recompute.incremental": "auto",
    "recompute.cutoff": "rounding",
    "cells.traceback": "short",
    "cells.limit": 20,
    "cells.badge": "auto",
}
CHOICES: dict[str, tuple[str, ...]] = {
    "engine.float_sums": ("reproducible", "fast"),
    "recompute.incremental": ("auto", "never"),
    "recompute.cutoff": ("rounding", "bytes"),
    "cells.traceback": ("short", "full"),
    "cells.badge": ("auto", "wait"),
}
"""The allowed words of a setting that takes no other value."""
_MAX_FILE_BYTES = 10_000
"""Python reads a key of many parts in the square of their number."""
_NUMBERS = {int: ("an integer", 10**15), float: ("a number", 10**9)}
"""What a setting of each type takes, and the largest."""
RANGES = {
    "cells.limit": (1, _NUMBERS[int][1]),
    "engine.threads": (0, 1024),
    "vectors.connectivity": (0, 1024),
}
"""The least and the largest number of a setting, where they are not those of its type. A file of a
stranger would have the engine start threads, or the index take memory, until the system ends."""


_SIZE_PATTERN = r"(?i)-1|none|\d+(\.\d+)?\s*[a-z]+"


def _check_size(key: str, value: str) -> None:
    if re.fullmatch(_SIZE_PATTERN, value.strip()) is None:
        raise InvalidArgument(f"The setting {key} takes a size like 2GB or 512MiB, not {value!r}.")


def _check_time_zone(key: str, value: str) -> None:
    if value == DEFAULTS[key]:
        return
    # imported here: it reads the build's variables, which would cost 8 ms at each `%load_ext`
    import zoneinfo

    try:
        zoneinfo.ZoneInfo(value)
    except (ValueError, OSError, zoneinfo.ZoneInfoNotFoundError):
        if not (zones := zoneinfo.available_timezones()):
            return  # no time zone database on this machine; the engine has its own
        suggestions = close_matches(value, zones)
        raise InvalidArgument(
            f"The setting {key} takes the name of a time zone, not {value!r}.", near=suggestions
        ) from None


_CHECKS: dict[str, Callable[[str, str], None]] = {
    "engine.memory_limit": _check_size,
    "engine.temp_quota": _check_size,
    "engine.timezone": _check_time_zone,
}
"""Validators of string settings that do not accept every string."""


class Settings:
    """The settings of one workspace: `settings["engine.threads"]`. Zero and the empty string mean
    the engine's default."""

    def __init__(self, values: Mapping[str, Any] | None = None) -> None:
        self._values = dict(DEFAULTS)
        self.explicit_keys: set[str] = set()
        """The keys that were set explicitly, even to the default."""
        self.keys_of_file: set[str] = set()
        """The keys whose values are those of `jammi.toml`."""
        self._frozen_prefixes: tuple[str, ...] = ()
        for key, value in (values or {}).items():
            self.set(key, value)

    def __getitem__(self, key: str) -> Any:
        return self._values[self._check_key(key)]

    def __setitem__(self, key: str, value: Any) -> None:
        self.set(key, value)

    def __iter__(self) -> Any:
        return iter(sorted(self._values))

    def __repr__(self) -> str:
        return "\n".join(f"{key} = {self._values[key]!r}" for key in self)

    def set(self, key: str, value: Any) -> None:
        """Set a value, given in its own type or as a string. Raises InvalidArgument with similar
        keys or the expected type."""
        self._check_key(key)
        if key.startswith(self._frozen_prefixes):
            raise InvalidArgument(
                f"{key} cannot be changed while the workspace is open: it is applied only when "
                "the workspace is opened.",
                # The kernel extension translates this sentence for cells.
                hint=f'Close it, and open it with settings={{"{key}": …}} or a line in jammi.toml.',
            )
        try:
            converted = _convert(key, value)
        except (TypeError, ValueError, OverflowError):
            converted = None
        if converted and key in _CHECKS:
            _CHECKS[key](key, converted)
        if converted is None or converted not in CHOICES.get(key, (converted,)):
            suggestions = close_matches(str(value), CHOICES.get(key, ()))
            raise InvalidArgument(
                f"The setting {key} takes {accepted_values(key)}, not {value!r}.", near=suggestions
            )
        self._values[key] = converted
        self.explicit_keys.add(key)
        self.keys_of_file.discard(key)

    def _freeze(self, *prefixes: str) -> None:
        """Make the settings that begin with one of these prefixes read-only from now on."""
        self._frozen_prefixes = prefixes

    @staticmethod
    def _check_key(key: str) -> str:
        if key not in DEFAULTS:
            remember_typed_credentials(str(key))
            raise InvalidArgument(
                f"There is no setting {key!r}.",
                near=close_matches(str(key), DEFAULTS),
                hint="ws.settings shows them all.",
            )
        return key


def accepted_values(key: str) -> str:
    """The values that a setting accepts, as text."""
    if key in CHOICES:
        return " or ".join(CHOICES[key])
    if isinstance(DEFAULTS[key], str):
        return "a string"
    least, largest = _range_of(key)
    return f"{_NUMBERS[type(DEFAULTS[key])][0]} from {least} to {largest:,}"


def _range_of(key: str) -> tuple[int, int]:
    return RANGES.get(key, (0, _NUMBERS[type(DEFAULTS[key])][1]))


def _convert(key: str, value: Any) -> Any:
    if isinstance(value, bool):  # which Python counts as an int
        raise TypeError
    target_type = type(DEFAULTS[key])
    if target_type is str:
        return str(value)
    converted: Any = target_type(value)
    least, largest = _range_of(key)
    is_cut = isinstance(value, float) and converted != value
    if is_cut or not least <= converted <= largest:
        raise ValueError
    return converted


def load_settings(
    folder: Path | None,
    overrides: Mapping[str, Any] | None,
    environment: Mapping[str, str] | None = None,
) -> Settings:
    """The settings of a workspace in `folder`: from its `jammi.toml`, then the environment, then
    the call. Raises InvalidArgument."""
    settings = Settings()
    file = folder / "jammi.toml" if folder else None
    if file is not None and file.is_file():
        import tomllib

        try:
            if file.stat().st_size > _MAX_FILE_BYTES:
                raise ValueError("it has more than 10 kB")
            table = tomllib.loads(file.read_text(encoding="utf-8"))
        except (ValueError, RecursionError) as error:  # also of a number with too many digits
            raise InvalidArgument(f"{file.name} cannot be read: {error}.") from None
        except OSError as error:
            raise InvalidArgument(
                f"{file.name} cannot be read: {error.strerror}.",
                hint="Ask its owner for read permission.",
            ) from None
        for key, value in _flatten(table):
            _set_from(settings, key, value, file.name)
        settings.keys_of_file = {*settings.explicit_keys}
    for name, value in sorted((os.environ if environment is None else environment).items()):
        if (
            name.startswith("JAMMI_")
            and "__" in name
            # Unknown variables are ignored: other programs may use the prefix.
            and (key := name[6:].lower().replace("__", ".", 1)) in DEFAULTS
        ):
            _set_from(settings, key, value, f"the environment variable {name}")
    if not isinstance(overrides or {}, Mapping):
        raise InvalidArgument(
            f"settings= must be a dict, got {type(overrides).__name__}.",
            hint='For example {"engine.memory_limit": "4GB"}.',
        )
    for key, value in (overrides or {}).items():
        settings.set(key, value)
    return settings


def _set_from(settings: Settings, key: str, value: Any, origin: str) -> None:
    """Like `settings.set`; an error names where the value came from."""
    try:
        settings.set(key, value)
    except InvalidArgument as error:
        raise InvalidArgument(
            str(error.message), near=error.near, hint=f"It is set in {origin}."
        ) from None


def _flatten(table: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """The values of a file by their dotted keys, which have two parts."""
    flat: list[tuple[str, Any]] = []
    for section, value in table.items():
        if isinstance(value, Mapping):
            flat += [(f"{section}.{key}", each) for key, each in value.items()]
        else:
            flat.append((section, value))
    return flat
