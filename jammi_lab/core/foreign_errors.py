"""What messages of DuckDB, database servers, remote stores and the operating system mean: the table
`foreign_errors.toml`."""

import re
from dataclasses import dataclass

from jammi_lab.core import errors
from jammi_lab.core.packaged_tables import rules_of


@dataclass(frozen=True, slots=True)
class Meaning:
    """The meaning of one message."""

    message: str
    """One sentence, or a clause of one; may be empty."""
    hint: str
    """The next step; may be empty."""
    error: str
    """The class of our error."""


def explain(group: str, text: str, **names: object) -> Meaning:
    """The meaning of a text by the rules of a group; empty where none fits, or when no file
    descriptor is left to read them. `names`: what the sentences mention besides groups of the
    pattern."""
    for rule in rules_of("foreign_errors", group):
        if match := re.search(rule["pattern"], text):
            message, hint = (
                rule.get(part, "").format(*match.groups(""), **names)
                for part in ("message", "hint")
            )
            return Meaning(message, hint, rule.get("error", "SourceUnavailable"))
    return Meaning("", "", "")


def to_error(group: str, text: str, **names: object) -> errors.JammiError | None:
    """The error for a text by the rules of a group; None where none fits."""
    found = explain(group, text, **names)
    if not found.message:
        return None
    error_class: type[errors.JammiError] = getattr(errors, found.error)
    return error_class(found.message, hint=found.hint)
