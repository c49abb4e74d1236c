"""Statements as other tools take them: what to write here is added to the error that the engine gives."""

import contextlib
import re
from collections.abc import Iterator, Mapping
from typing import Any

from jammi_lab.errors import JammiError, SqlError, TableNotFound

_PASTED = re.compile(r"\{\{?\s*(?P<braces>[^\W\d]\w*)\s*\}|(?<![:\w]):(?P<colon>[^\W\d]\w*)|%\((?P<percent>\w+)\)s")


@contextlib.contextmanager
def explained(namespace: Mapping[str, Any]) -> Iterator[None]:
    """A block that runs a statement of a cell; `namespace`: the notebook's variables."""
    try:
        yield
    except JammiError as error:
        if not error.near and not error.hint.startswith("Write "):
            error.hint = _hint(error, namespace) or error.hint
        raise


def _hint(error: JammiError, namespace: Mapping[str, Any]) -> str:
    if isinstance(error, TableNotFound) and (missing := re.fullmatch(r"There is no table (\w+)\.", error.message)) is not None:
        name = missing[1]
        return f"The variable {name} holds a value of type {type(namespace[name]).__name__}, which is no frame." if name in namespace else ""
    wrong = isinstance(error, SqlError) and error.message.startswith("The syntax is wrong")
    if wrong and (pasted := _PASTED.search(error.statement or "")) is not None:
        return f"The value of a variable is written ${next(name for name in pasted.groups() if name)}."
    return ""
