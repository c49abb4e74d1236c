"""Tables of this package in TOML, `foreign_errors.toml` and `suggestions.toml`. Each is read at
its first use, because most sessions need none."""

import errno
import functools
from collections.abc import Iterable
from pathlib import Path
from typing import Any


@functools.cache
def packaged_table(name: str) -> dict[str, Any]:
    """The sections of a table. Raises OSError when its file cannot be opened."""
    import tomllib

    return tomllib.loads(Path(__file__).with_name(f"{name}.toml").read_text(encoding="utf-8"))


def rules_of(name: str, *sections: str) -> Iterable[Any]:
    """The rules in a section of a table. None while no file descriptor is left to read it: an
    error is then shown without what the rules would have made of it."""
    try:
        rules: Any = packaged_table(name)
    except OSError as error:
        if error.errno not in (errno.EMFILE, errno.ENFILE):
            raise
        return ()
    for section in sections:
        rules = rules[section]
    return rules  # type: ignore[no-any-return]
