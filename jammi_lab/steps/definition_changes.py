"""What differs between two definitions, in words: fields of their descriptors, and of a Python
function the names of its helpers and values."""

from collections.abc import Iterator, Mapping
from typing import Any

from jammi_lab.core.caches import BoundedCache
from jammi_lab.core.canonical_json import digest_of
from jammi_lab.core.recipes import hashed_fields

_MAX_FUNCTIONS = 1024
_FIELD_WORDS = {
    "canonical": "the statement",
    "key": "the key columns",
    "digest": "the function",
    "inputs": "what it reads",
}
"""Words for the fields of descriptors whose names say less. A field `tie_break` is the tie
break."""
_function_parts = BoundedCache[str, dict[str, str]](_MAX_FUNCTIONS)
"""By the digest of a function of this process: a digest of each part."""


def note_function(digest: str, name: str, form: Any) -> None:
    """Keep a digest for each name in the form of a function, so that a later change can be
    named."""
    if _function_parts.get(digest) is None:
        parts: dict[str, list[Any]] = {}
        for part, part_form in _named_parts(name, form):
            parts.setdefault(part, []).append(part_form)
        _function_parts.put(digest, {part: digest_of(forms) for part, forms in parts.items()})


def _named_parts(name: str, form: Any) -> Iterator[tuple[str, Any]]:
    """The parts of a value: itself, and what the functions in it name."""
    functions = list[Mapping[str, Any]]()
    yield name, _without_names(form, functions)
    for function in functions:
        for part, value in (*function["globals"].items(), *function["cells"].items()):
            yield from _named_parts(part, value)


def _without_names(form: Any, functions: list[Mapping[str, Any]]) -> Any:
    """A form without what its functions name, which are added to `functions`, and without the
    numbers of objects that were met before, which depend on other parts."""
    if isinstance(form, dict):
        if form.keys() >= {"says", "globals", "cells"}:
            functions.append(form)
            form = {part: form[part] for part in form.keys() - {"globals", "cells"}}
        return {key: _without_names(value, functions) for key, value in form.items()}
    if not isinstance(form, list | tuple):
        return form
    if form and form[0] == "met":
        return ["met"]
    return [_without_names(value, functions) for value in form]


def _changed_names(recorded: str, current: str) -> list[str]:
    """The names of the parts in which two functions of this process differ; empty for others."""
    before, after = _function_parts.get(recorded), _function_parts.get(current)
    if before is None or after is None:
        return []
    return sorted(
        name for name in before.keys() | after.keys() if before.get(name) != after.get(name)
    )


def changed_parts(recorded: Mapping[str, Any], current: Mapping[str, Any]) -> list[str]:
    """What differs between two descriptors of one kind, as stored: fields in words, parameters as
    `$name`, names in a Python function. Empty where all that counts is equal."""
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
        elif field == "digest" and (names := _changed_names(str(old), str(new))):
            parts += names
        else:
            parts.append(_FIELD_WORDS.get(field, f"the {field.replace('_', ' ')}"))
    return parts
