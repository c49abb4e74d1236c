"""The first lines of `%%jammi` and `%%jammi_py` cells: their flags, and how a line is parsed."""

import keyword
import shlex
from collections.abc import Mapping
from typing import Any

from jammi_kernel_ext.arguments import (
    Argument,
    Verb,
    flag,
    non_negative_number,
    parse_words,
    positive_integer,
    split_words,
    wants_help,
)
from jammi_kernel_ext.hints import first_line_error
from jammi_kernel_ext.verbs import VERB_NAMES
from jammi_lab.core.errors import InvalidArgument

CELL = Verb(
    "",
    "Run SQL. The Python variable NAME gets the result; $variable in the statement takes its value "
    "from Python.",
    (Argument("NAME", required=False),),
    (
        flag("-m|--materialize RECIPE", "store the rows as a result table under this recipe name"),
        flag("--key COL …", "the columns that identify a row (with -m)"),
        flag("-t|--as arrow|polars|pandas", "return a frame instead of a Result"),
        flag(
            "-n|--limit N",
            "number of rows to show; the result contains all rows",
            convert=positive_integer,
        ),
        flag("--bypass", "compute again even if the same result exists (with -m)"),
        flag(
            "--check CHECK",
            "keep the statement, which selects the failing rows, as a check (with --on)",
        ),
        flag("--on TABLE", "the table whose versions are checked (with --check)"),
        flag("--warn", "report failing rows but publish the version (with --check)"),
        flag("-q|--quiet", "show nothing"),
        flag("-v|--view", "browse the rows in a panel"),
        flag("-e|--explain", "show the query plan instead of running the statement"),
        flag("--analyze", "with -e: run the statement and show actual row counts and times"),
        flag(
            "--plot KIND …",
            "show a chart: its kind (bar, line, point, area, box, hist), then the columns for x, y "
            "and colour",
        ),
    ),
    magic="%%jammi",
)

STEP = Verb(
    "",
    "Run Python as a step: inputs are Results under their names, and the frame in the last "
    "expression becomes a table of the recipe NAME.",
    (Argument("NAME"),),
    (
        flag(
            "--inputs INPUT …",
            "sources, tables or name=ADDRESS that the cell reads; with --map columns of a row",
        ),
        flag("--key COL …", "the columns that identify a row"),
        flag("--version V", "a version that identifies the definition, instead of the cell's text"),
        flag("--map OVER", "run the cell for each row of OVER, and only for changed ones"),
        flag("--on-error raise|record", "with --map: end the run, or store the error in the row"),
        flag("--concurrency N", "with --map: rows at a time (1)", convert=positive_integer),
        flag("--cost C", "with --map: the cost of one row, for plans", convert=non_negative_number),
        flag("--dry-run", "with --map: only count the rows that would run"),
        flag("--bypass", "compute again even if the same result exists"),
        flag("-q|--quiet", "show nothing"),
    ),
    magic="%%jammi_py",
)


def cell_wants_help(line: str) -> bool:
    """Whether the first line of a cell contains a help flag."""
    return wants_help(split_words(line))


def parse_cell(line: str) -> dict[str, Any]:
    """Parse the first line of a `%%jammi` cell into values by key. InvalidArgument carries the
    usage and near matches."""
    words = split_words(line)
    try:
        values = parse_words(CELL, words)
    except InvalidArgument as error:
        raise first_line_error(words, VERB_NAMES) or error from None
    name = values["NAME"]
    if name is not None and (not name.isidentifier() or keyword.iskeyword(name)):
        raise InvalidArgument(
            f"{name!r} is not a valid name for a Python variable.",
            hint=f"Usage: {CELL.usage}",
        )
    return values


def parse_step(line: str) -> dict[str, Any]:
    """Parse the first line of a `%%jammi_py` cell into values by key; `inputs` is a dict of
    variable to address. InvalidArgument carries the usage."""
    values = parse_words(STEP, split_words(line))
    _check_map_flags(values)
    inputs: dict[str, str] = {}
    for word in values["inputs"]:
        name, separator, address = word.partition("=")
        if not separator or not name.isidentifier():
            name, address = word.rpartition(".")[2], word
        if not name.isidentifier() or keyword.iskeyword(name):
            raise InvalidArgument(
                f"{word!r} is not a valid name for a Python variable.",
                hint=f"Give it a name: --inputs {shlex.quote(f'rows={word}')}",
            )
        if name in inputs:
            raise InvalidArgument(
                f"Two inputs are named {name}.",
                hint=f"Rename one: --inputs {shlex.quote(f'other={address}')}",
            )
        inputs[name] = address
    return {**values, "inputs": inputs}


def _check_map_flags(values: Mapping[str, Any]) -> None:
    """Raise InvalidArgument for `--map` without one key and inputs, and for its flags without
    it."""
    if values["map"] is None:
        given = [f for f in ("on_error", "concurrency", "cost", "dry_run") if values[f]]
        if given:
            flag = "--" + given[0].replace("_", "-")
            raise InvalidArgument(f"{flag} needs --map OVER.", hint=f"Usage: {STEP.usage}")
    elif len(values["key"]) != 1 or not values["inputs"]:
        raise InvalidArgument(
            "--map needs --key with one column, and --inputs with the columns that the cell reads.",
            hint=f"Usage: {STEP.usage}",
        )
