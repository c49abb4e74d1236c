"""What differs between two definitions, in words: fields of their descriptors."""

from collections.abc import Mapping
from typing import Any

from jammi_lab.core.recipes import hashed_fields

_FIELD_WORDS = {
    "canonical": "the statement",
    "key": "the key columns",
    "digest": "the function",
    "inputs": "what it reads",
}
"""Words for the fields of descriptors whose names say less. A field `tie_break` is the tie
break."""


def changed_parts(recorded: Mapping[str, Any], current: Mapping[str, Any]) -> list[str]:
    """What differs between two descriptors of one kind, as stored: fields in words, parameters as
    `$name`. Empty where all that counts is equal."""
    before, after = hashed_fields(recorded), hashed_fields(current)
    if before.get("producer") != after.get("producer"):
        return ["the kind of table"]
    parts = list[str]()
    for field in sorted(before.keys() | after.keys()):
        old, new = before.get(field), after.get(field)
        if old == new:
            continue
        if field == "params" and isinstance(old, Mapping) and isinstance(new, Mapping):
            names = sorted(old.keys() | new.keys())
            parts += [f"${name}" for name in names if old.get(name) != new.get(name)]
        else:
            parts.append(_FIELD_WORDS.get(field, f"the {field.replace('_', ' ')}"))
    return parts


def changed_environment(recorded: Mapping[str, Any], current: Mapping[str, Any]) -> list[str]:
    """What differs between two environments of definitions, in words; empty where nothing does."""
    before, after = _engine_release(recorded), _engine_release(current)
    if before != after:
        return [f"the release of DuckDB: {before} computed it, and {after} is installed"]
    return [] if recorded == current else ["the release or revision that runs it"]


def _engine_release(environment: Mapping[str, Any]) -> str:
    """1.5, which is not recorded, or a later one."""
    statement = environment.get("select", environment)
    return str(statement.get("engine", {}).get("release", "1.5"))
