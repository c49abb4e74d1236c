"""Runs several statements in order; an error reports whether earlier changes were made.

Cells import this before the engine is loaded, so it stays light.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from jammi_lab.core.errors import JammiError
from jammi_lab.core.html import count_noun

if TYPE_CHECKING:
    from jammi_lab.engine.prepared_statement import PreparedStatement
    from jammi_lab.features.live.dml_commits import CommitResult


def run_in_order(
    statements: "Sequence[PreparedStatement]", apply: "Callable[[PreparedStatement], CommitResult]"
) -> "tuple[PreparedStatement | CommitResult, int]":
    """Run all statements up to the last. Returns the commit of the last one if it changes a table,
    else the last statement itself, ready to be read; and the number of changes before it. Raises
    what the statements raise."""
    changes = 0
    for each in statements:
        # A statement after a change is bound again, so that it reads the new state.
        current = each.refreshed() if changes else each
        with note_earlier_changes(changes, is_change=current.is_dml):
            if current.is_dml:
                commit = apply(current)
                if each is statements[-1]:
                    return commit, changes
                changes += 1
            elif each is not statements[-1]:
                for _ in current.run().batches():
                    pass
            else:
                return current, changes
    raise JammiError("There is no statement to run.")


@contextlib.contextmanager
def note_earlier_changes(changes: int, *, is_change: bool = False) -> Iterator[None]:
    """Context manager around a statement that runs after `changes` committed changes: an error
    reports that they remain. `is_change`: the statement changes a table itself."""
    earlier_changes = (
        f"The {count_noun(changes, 'change') if changes > 1 else 'change'} before it "
        f"{'was' if changes == 1 else 'were'} committed."
        if changes
        else ""
    )
    try:
        yield
    except KeyboardInterrupt as interrupt:
        if is_change or earlier_changes:
            interrupt.add_note(
                f"{'The change was rolled back.' if is_change else 'The statement was stopped.'} "
                f"{earlier_changes}".strip()
            )
        raise
    except JammiError as error:
        error.hint = f"{error.hint} {earlier_changes}".strip()
        raise
