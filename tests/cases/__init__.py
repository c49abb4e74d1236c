"""Corpora of cases: a case is a line, or the cells of a notebook."""

import json
from pathlib import Path
from typing import Any


def cases(corpus: str, *names: str) -> list[Any]:
    """The values under these names of each line of `tests/cases/sources/CORPUS.jsonl`; that under
    `of` says where a case comes from."""
    text = Path(__file__).with_name("sources").joinpath(f"{corpus}.jsonl").read_text("utf-8")
    lines = map(json.loads, text.splitlines())
    return [tuple(line[name] for name in names) for line in lines]


def plain(values: Any) -> Any:
    """Values as the lines of a corpus have them: dates, times and decimals as their texts."""
    return json.loads(json.dumps(values, default=str))


def notebooks(corpus: str) -> dict[str, list[str]]:
    """The cells of each case of `tests/cases/frames/CORPUS.txt`, divided by a line `--`, by what
    stands behind the `==` of the case."""
    text = Path(__file__).with_name("frames").joinpath(f"{corpus}.txt").read_text("utf-8")
    found = {}
    for case in text.strip().removeprefix("== ").split("\n\n== "):
        what, _, cells = case.partition("\n")
        found[what] = cells.split("\n--\n")
    return found
