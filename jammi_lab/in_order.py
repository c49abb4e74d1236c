"""Several statements of one text, run one after the other; what stops one of them says what became of the changes before it."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from jammi_lab.errors import JammiError
from jammi_lab.markup import count

if TYPE_CHECKING:
    from jammi_lab.engine.prepared import Prepared
    from jammi_lab.live.committing import Done


def run_in_order(statements: "Sequence[Prepared]", apply: "Callable[[Prepared], Done]") -> tuple["Prepared | Done", int]:
    """Carry out all of them but the rows of the last: what it did, or itself, ready to be read; and how many changes were made before it. Raises as
    they do."""
    changes = 0
    for each in statements:
        now = each.renewed() if changes else each  # what stands behind a change sees it
        with told(changes, changing=now.changes):
            if now.changes:
                done = apply(now)
                if each is statements[-1]:
                    return done, changes
                changes += 1
            elif each is not statements[-1]:
                for _ in now.run().batches():
                    pass
            else:
                return now, changes
    raise JammiError("There is no statement to run.")


@contextlib.contextmanager
def told(changes: int, *, changing: bool = False) -> Iterator[None]:
    """A block that runs a statement behind so many changes, which stay when it is stopped or fails; `changing`: it is one itself."""
    before = f"The {count(changes, 'change') if changes > 1 else 'change'} before it {'was' if changes == 1 else 'were'} made." if changes else ""
    try:
        yield
    except KeyboardInterrupt as stop:
        if changing or before:
            stop.add_note(f"{'The change was rolled back.' if changing else 'The statement was stopped.'} {before}".strip())
        raise
    except JammiError as error:
        error.hint = f"{error.hint} {before}".strip()
        raise
