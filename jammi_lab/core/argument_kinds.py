"""Checks of the kinds of arguments, by the annotations of a public function: booleans, numbers,
strings, mappings and lists of strings. Other annotations are checked where they are used."""

import inspect
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Union, get_args, get_origin

from jammi_lab.core.errors import InvalidArgument

Allowed = Mapping[str, tuple[str, ...]]
"""The kinds that arguments may have."""


class ArgumentKinds(NamedTuple):
    """The kinds of the arguments of a function, of those whose annotations name no others."""

    flags: Allowed
    """Of booleans, which any value would do for: checked before a call that names them."""
    taken_silently: Allowed
    """Of others that any value would do for: checked before a call."""
    others: Allowed
    """Of those that a verb itself refuses, by its own errors: checked where it fails otherwise."""


_STORED = frozenset(
    {
        "api_key",
        "changed",
        "definition",
        "description",
        "expected",
        "model",
        "namespace",
        "note",
        "perplexity",
        "redefine",
        "seed",
    }
)
"""Arguments that are stored, compared or iterated whatever they are."""
_SIMPLE: Mapping[Any, str] = {
    bool: "True or False",
    int: "an integer",
    float: "a number",
    str: "a string",
    type(None): "None",
    None: "None",
}


def argument_kinds(function: Callable[..., Any]) -> ArgumentKinds:
    """The kinds of the arguments of a function, by its annotations."""
    kinds = {}
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        names = [_kind_of(each) for each in _alternatives(parameter.annotation)]
        if all(names):
            kinds[parameter.name] = tuple(name for name in names if name)
    flags = {name for name, allowed in kinds.items() if "True or False" in allowed}
    return ArgumentKinds(
        *(
            {name: allowed for name, allowed in kinds.items() if name in selected}
            for selected in (flags, _STORED, kinds.keys() - flags - _STORED)
        )
    )


def check_kinds(kinds: Allowed, arguments: Mapping[str, Any]) -> None:
    """Raise InvalidArgument for the first argument of another kind."""
    for name, value in arguments.items():
        allowed = kinds.get(name)
        if allowed is not None and not any(_is_of_kind(value, kind) for kind in allowed):
            expected = " or ".join(kind for kind in allowed if kind != "None")
            raise InvalidArgument(f"{name} must be {expected}, got {type(value).__name__}.")


def _alternatives(annotation: Any) -> Sequence[Any]:
    is_union = isinstance(annotation, types.UnionType) or get_origin(annotation) is Union
    return get_args(annotation) if is_union else (annotation,)


def _kind_of(annotation: Any) -> str | None:
    origin = get_origin(annotation)
    if origin is Mapping:
        return "a mapping"
    if origin in (Iterable, Sequence) and get_args(annotation) == (str,):
        return "a list of strings"
    try:
        return _SIMPLE.get(annotation)
    except TypeError:  # an annotation that has no hash
        return None


def _is_of_kind(value: Any, kind: str) -> bool:
    is_boolean = isinstance(value, bool) or type(value).__name__ in ("bool", "bool_")  # of numpy
    match kind:
        case "None":
            return value is None
        case "True or False":
            return is_boolean
        case "an integer":
            return hasattr(value, "__index__") and not is_boolean
        case "a number":
            return hasattr(value, "__float__") and not is_boolean
        case "a mapping":
            return isinstance(value, Mapping)
        case "a list of strings":
            return isinstance(value, Iterable) and not isinstance(value, Mapping | bytes)
        case _:
            return isinstance(value, str)
