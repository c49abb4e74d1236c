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
    """The rules in a section of a table. None while no file descriptor or memory is left to
    read it: an error is then shown without what the rules would have made of it."""
    try:
        rules: Any = packaged_table(name)
    except (OSError, MemoryError) as error:
        number = getattr(error, "errno", errno.ENOMEM)
        if number not in (errno.EMFILE, errno.ENFILE, errno.ENOMEM):
            raise
        return ()
    for section in sections:
        rules = rules[section]
    return rules  # type: ignore[no-any-return]
