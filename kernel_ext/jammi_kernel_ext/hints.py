"""What to do about an error, as it is typed in a cell: errors speak Python, and where there is a line for it, a cell says the line."""

import contextlib
import re
from collections.abc import Iterator

from jammi_lab.errors import JammiError

_QUOTED = r"['\"]([^'\"]*)['\"]"
_LINES: tuple[tuple[str, str], ...] = (
    (r"ws\.close\(\), %jammi close", "%jammi close"),
    (rf"ws\.materialize\({_QUOTED}, 'SELECT …'\), or %%jammi -m NAME in a cell", "%%jammi -m NAME"),
    (r"ws\.materialize\((?:'name', 'SELECT …'|name, sql)\)", "%%jammi -m NAME"),
    (r"ws\.sources\.add\((?:'name', 'location'|'name', 'path'|name, location)\)", "%jammi add NAME LOCATION"),
    (rf"ws\.sources\.add\('name', {_QUOTED}\)", r"%jammi add NAME \1"),
    (r"ws\.sources\.remove\((?:'name'|name)\)", "%jammi remove NAME"),
    (r"ws\.sources\.list\(\)|ws\.sources\b(?=\s)", "%jammi sources"),
    (rf"ws\.recompute\({_QUOTED}\)", r"%jammi recompute \1"),
    (rf"ws\.verify\({_QUOTED}\)", r"%jammi verify \1"),
    (r"ws\.status\(deep=True\)", "%jammi status --deep"),
    (r"ws\.bind_tenant\(None\)", "%jammi tenant --none"),
    (r"ws\.check\(\)", "%jammi check"),
    (r"ws\.tables\(\)", "%jammi tables"),
    (r"ws\.recipes\(\)", "%jammi status"),
    (r"ws\.models\b(?![.(])", "%jammi models"),
    (r"ws\.embed\b(?!\()", "%jammi embed"),
    (r"\bws\.(?=\w)", "jammi_lab.get_workspace()."),
)
"""What Python says and what a cell says, the longer first; what has no line is said for the notebook's own workspace."""


def in_cells(hint: str) -> str:
    """The hint as one types it in a cell."""
    for python, line in _LINES:
        hint = re.sub(python, line, hint)
    return hint


@contextlib.contextmanager
def typed() -> Iterator[None]:
    """A block that a magic runs: errors that leave it say what to type in a cell."""
    try:
        yield
    except JammiError as error:
        error.hint = in_cells(error.hint)
        raise
