"""Where an interrupt must not get past the handlers around a loop. CPython 3.13 has the way back of
`while` and `if` outside of the `try` or `with` that they stand in, and looks for interrupts on it
(python/cpython#130279)."""

import dis
import re
import types
from pathlib import Path

import pytest

import jammi_lab
from jammi_lab.core.cancellable import wait
from jammi_lab.features.vectors.all_pairs import search_blocks


def unguarded(code: types.CodeType) -> list[int | None]:
    """The lines of conditions whose way back has another handler than they have."""
    instructions = list(dis.get_instructions(code))
    entries = dis.Bytecode(code).exception_entries

    def handler(at: dis.Instruction) -> int | None:
        return next((e.target for e in entries if e.start <= at.offset < e.end), None)

    three = zip(instructions, instructions[1:], instructions[2:], strict=False)
    return [
        back.positions and back.positions.lineno
        for before, jump, back in three
        if jump.opname.startswith("POP_JUMP")
        and back.opname == "JUMP_BACKWARD"
        and handler(before) != handler(back)
    ]


@pytest.mark.parametrize(
    "function",
    [wait, search_blocks],
    ids=lambda f: f.__qualname__,
)
def test_no_way_back_of_a_loop_is_outside_of_the_handlers_around_it(function):
    assert not unguarded(function.__code__)


def test_nothing_waits_in_a_way_that_an_interrupt_breaks():
    """The lock in these is released twice then, and the thread that wakes the waiter fails."""
    waits = re.compile(r"futures\.wait\(|as_completed\(")
    files = Path(jammi_lab.__file__).parent.rglob("*.py")
    assert [file.name for file in files if waits.search(file.read_text(encoding="utf-8"))] == []
