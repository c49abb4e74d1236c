"""Corpora of cases: a case is a line, or the cells of a notebook."""

import json
from pathlib import Path
from typing import Any


def cases(corpus: str, *names: str) -> list[Any]:
    """The values under these names of each line of `tests/cases/CORPUS.jsonl`; that under `of` says
    where a case comes from."""
    text = (Path(__file__).parent / f"{corpus}.jsonl").read_text("utf-8")
    lines = map(json.loads, text.splitlines())
    return [tuple(line[name] for name in names) for line in lines]


def lines(name: str) -> list[str]:
    """The lines of `tests/cases/NAME` that are no comments."""
    text = (Path(__file__).parent / name).read_text("utf-8")
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def pairs(name: str) -> list[tuple[str, str]]:
    """Each two of those lines."""
    found = lines(name)
    return list(zip(found[::2], found[1::2], strict=True))


def plain(values: Any) -> Any:
    """Values as the lines of a corpus have them: dates, times and decimals as their texts."""
    return json.loads(json.dumps(values, default=str))


def notebooks(corpus: str) -> dict[str, list[str]]:
    """The cells of each case of `tests/cases/CORPUS.txt`, divided by a line `--`, by what stands
    behind the `==` of the case."""
    text = (Path(__file__).parent / f"{corpus}.txt").read_text("utf-8")
    found = {}
    for case in text.strip().removeprefix("== ").split("\n\n== "):
        what, _, cells = case.partition("\n")
        found[what] = cells.split("\n--\n")
    return found
