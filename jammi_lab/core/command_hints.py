"""The command that a message recommends, as the reader would type it: in Python, or as a `%jammi`
line once the cell extension is loaded. The command line translates the latter."""

import contextlib
import shlex
from collections.abc import Iterator

_in_cells = False


def use_cells(enabled: bool) -> bool:
    """Recommend `%jammi` lines, or Python. Returns what was set before."""
    global _in_cells
    before, _in_cells = _in_cells, enabled
    return before


@contextlib.contextmanager
def cell_commands() -> Iterator[None]:
    """Recommend `%jammi` lines within this block."""
    before = use_cells(True)
    try:
        yield
    finally:
        use_cells(before)


def cell_or_python(cells: str, python: str) -> str:
    """The text for the place where it is read."""
    return cells if _in_cells else python


def command_line(*words: str) -> str:
    """A command line, with its words quoted where necessary, for display."""
    from jammi_lab.core.html import escape_invisible  # not when the extension is loaded

    quoted = (w if w.startswith(("%", "<")) else shlex.quote(w) for w in words)
    return escape_invisible(" ".join(quoted))


def command(verb: str, *names: str) -> str:
    """The command of that verb: `%jammi why late` or `ws.why('late')`."""
    arguments = f"{names[0]!r}" if len(names) == 1 else f"{[*names]!r}" if names else ""
    return cell_or_python(f"%jammi {command_line(verb, *names)}", f"ws.{verb}({arguments})")
