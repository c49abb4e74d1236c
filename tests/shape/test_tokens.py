"""The budget of code tokens of each room, which may only fall.

A token is one of Python's tokenizer, without comments, line ends, indents and docstrings: names may
be as long as they like. `python -m tests.shape.test_tokens` writes the budgets anew: a commit that
raises one says what fell elsewhere.
"""

import io
import json
import sys
import tokenize
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BUDGETS = ROOT / "tests" / "data" / "token_budgets.json"
LAYOUT = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENCODING,
    tokenize.ENDMARKER,
}
SPARE_TOKENS = 400
"""By how much a room may lie below its budget before the budget is lowered."""


def tokens_of(text: str) -> int:
    """The number of code tokens of a module. A text that is a line of its own, outside of brackets,
    is a docstring or stands under a field."""
    count, line = 0, list[int]()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        kind = token[0]
        if kind == tokenize.NEWLINE:
            count += len(line) - (line == [tokenize.STRING])
            line = []
        elif kind not in LAYOUT:
            line.append(kind)
    return count


def rooms() -> Iterator[tuple[str, Path]]:
    """Each module with the room that it belongs to."""
    for file in sorted((ROOT / "jammi_lab").rglob("*.py")):
        folders = file.parent.relative_to(ROOT).parts
        yield "/".join(folders[: 3 if "features" in folders else 2]), file
    for name in ("kernel_ext", "widgets"):
        for file in sorted((ROOT / name).rglob("*.py")):
            yield name, file
    for file in sorted((ROOT / "tests").rglob("*.py")):
        yield "tests", file


def token_counts() -> Counter[str]:
    """The tokens of each room, and of the product."""
    counts = Counter[str]()
    for room, file in rooms():
        number = tokens_of(file.read_text(encoding="utf-8"))
        counts[room] += number
        counts["product"] += 0 if room == "tests" else number
    return counts


def check_budgets(counts: dict[str, int], budgets: dict[str, int]) -> list[str]:
    """One sentence for each room that does not fit its budget."""
    found = [
        f"{room} has {counts[room]} tokens, {counts[room] - budgets.get(room, 0)} above its budget"
        for room in counts
        if counts[room] > budgets.get(room, 0)
    ]
    found += [
        f"{room} has {counts.get(room, 0)} tokens: lower its budget of {budget}"
        for room, budget in budgets.items()
        if counts.get(room, 0) < budget - SPARE_TOKENS
    ]
    return found


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="counted with an f-string as one token")
def test_no_room_is_above_its_budget():
    assert check_budgets(token_counts(), json.loads(BUDGETS.read_text())) == []


def test_a_room_above_its_budget_and_one_far_below_are_named():
    assert check_budgets({"a": 11, "b": 10, "c": 10}, {"a": 10, "b": 10, "d": 500}) == [
        "a has 11 tokens, 1 above its budget",
        "c has 10 tokens, 10 above its budget",
        "d has 0 tokens: lower its budget of 500",
    ]


def test_comments_docstrings_and_layout_are_no_tokens():
    text = '"""A module."""\n\n\ndef f(a):  # why\n    """What."""\n    return a\n'
    assert tokens_of(text) == len(["def", "f", "(", "a", ")", ":", "return", "a"])


if __name__ == "__main__":
    BUDGETS.write_text(json.dumps(dict(sorted(token_counts().items())), indent=1) + "\n")
