"""The first lines of `%%jammi` and `%%jammi_py` cells, and how one is parsed."""

import keyword
import shlex

from jammi_kernel_ext.hints import first_line_error
from jammi_lab.commands.table import CELL, STEP
from jammi_lab.commands.words import Values, parse_words, split_words, wants_help
from jammi_lab.core.errors import InvalidArgument


def cell_wants_help(line: str) -> bool:
    """Whether the first line of a cell contains a help flag."""
    return wants_help(split_words(line))


def parse_cell(line: str) -> Values:
    """Parse the first line of a `%%jammi` cell into values by key. InvalidArgument carries the
    usage and near matches."""
    words = split_words(line)
    try:
        values = parse_words(CELL, words)
    except InvalidArgument as error:
        raise first_line_error(words) or error from None
    name = values["NAME"]
    if name is not None and (not name.isidentifier() or keyword.iskeyword(name)):
        raise InvalidArgument(
            f"{name!r} is not a valid name for a Python variable.",
            hint=CELL.advice,
        )
    return values


def parse_step(line: str) -> Values:
    """Parse the first line of a `%%jammi_py` cell into values by key; `inputs` is a dict of
    variable to address. InvalidArgument carries the usage."""
    values = parse_words(STEP, split_words(line))
    if values["map"] and (len(values["key"]) != 1 or not values["inputs"]):
        raise InvalidArgument(
            "--map needs --key with one column, and --inputs with the columns that the cell reads.",
            hint=STEP.advice,
        )
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
