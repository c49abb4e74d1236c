"""Answers to calls whose arguments do not fit: the argument that was meant, or the whole call; and
what kind an argument must be.

Kinds are checked by the annotations of a public function: booleans, numbers, strings, mappings and
lists of strings. Other annotations are checked where they are used."""

import functools
import inspect
import sys
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar, Union, get_args, get_origin

from jammi_lab.core import foreign_errors
from jammi_lab.core.attribute_suggestions import answers_of
from jammi_lab.core.errors import (
    InvalidArgument,
    JammiError,
    ResourceExhausted,
    SchemaMismatch,
    SourceUnavailable,
    TableDamaged,
    message_of,
    quotes_data,
    too_many_open_files,
)
from jammi_lab.core.identifiers import near_names
from jammi_lab.core.suggestions import answer_to

_Function = TypeVar("_Function", bound=Callable[..., Any])
_Class = TypeVar("_Class", bound=type)


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
        "inputs",
        "model",
        "name",
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
        if name == "name" and hasattr(value, "name"):
            continue  # it is told which name to pass
        if allowed is not None and not any(_is_of_kind(value, kind) for kind in allowed):
            expected = " or ".join(kind for kind in allowed if kind != "None")
            texts = [repr(each) for each in arguments.values() if isinstance(each, str)]
            hint = f"The name {texts[0]} comes first." if texts and name == "name" else ""
            raise InvalidArgument(
                f"{name} must be {expected}, got {type(value).__name__}.", hint=hint
            )


def _alternatives(annotation: Any) -> Sequence[Any]:
    is_union = get_origin(annotation) in (Union, types.UnionType)
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
    is_boolean = type(value).__name__ in ("bool", "bool_")  # of Python, of numpy
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


_ABOUT_DATA = (SchemaMismatch, SourceUnavailable, TableDamaged)
"""What libraries without memory, threads or descriptors make a verb say of rows and files."""


def _exhausted_error(error: BaseException, handled: BaseException | None) -> JammiError | None:
    """The error for a machine that has no memory, thread or descriptor left, when that is where
    another error came from; None for any other. `handled` is older than the call."""
    if sys.is_finalizing():
        return None  # the table of messages cannot be imported any more
    cause: BaseException | None = error
    while cause is not None and cause is not handled:
        text = f"{type(cause).__name__}: {message_of(cause)}"
        exhausted: JammiError | None = too_many_open_files(cause, "A file")
        if exhausted is None and not quotes_data(cause):
            exhausted = foreign_errors.to_error("machine", text)
        if exhausted is None and isinstance(cause, MemoryError):  # too little to read the table
            exhausted = ResourceExhausted("Memory is exhausted.")
        if exhausted is not None:
            return exhausted
        cause = cause.__cause__ or cause.__context__
    return None


def answer_arguments(function: _Function) -> _Function:
    """A decorator of a method or of a function of the package: a call whose arguments do not fit is
    answered with those that do, and one with arguments of another kind with InvalidArgument. Where
    the machine has no memory, thread or descriptor left, or a disk fails, whatever was called
    raises ResourceExhausted."""

    @functools.cache
    def expected() -> tuple[list[str], ArgumentKinds]:
        parameters = inspect.signature(function).parameters.values()
        names = [p.name for p in parameters if p.kind is not p.KEYWORD_ONLY]
        return names, argument_kinds(function)

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        handled = sys.exception()
        names, kinds = expected()
        arguments = dict(zip(names, args, strict=False)) | kwargs
        check_kinds(kinds.flags, kwargs)
        check_kinds(kinds.taken_silently, arguments)
        try:
            return function(*args, **kwargs)
        except JammiError as error:
            if not isinstance(error, _ABOUT_DATA):
                raise
            exhausted = _exhausted_error(error, handled)
            if exhausted is None:
                raise
            raise exhausted from error
        except (TypeError, AttributeError, ValueError) as error:
            check_kinds(kinds.others, arguments)
            # Raised by the call itself: no frame of the function was entered.
            is_of_call = error.__traceback__ is None or error.__traceback__.tb_next is None
            if not (is_of_call and isinstance(error, TypeError)):
                raise
            problem = str(error)
        except BaseException as error:
            # A panic of polars is no Exception.
            if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
                raise
            exhausted = _exhausted_error(error, handled)
            if exhausted is None and isinstance(error, OSError):
                exhausted = foreign_errors.to_error("any_file", message_of(error))
            if exhausted is None:
                raise
            raise exhausted from None
        raise TypeError(_wrong_arguments_message(function, problem, kwargs))

    return call  # type: ignore[return-value]


def answer_calls(cls: _Class) -> _Class:
    """A class decorator: calls of the public methods are answered so."""
    for name, method in list(vars(cls).items()):
        if inspect.isfunction(method) and not name.startswith("_"):
            setattr(cls, name, answer_arguments(method))
    return cls


def _wrong_arguments_message(
    function: Callable[..., Any], problem: str, kwargs: dict[str, Any]
) -> str:
    owner, _, name = function.__qualname__.rpartition(".")
    verb = f"{answers_of(owner).variable}.{name}" if owner else f"jl.{name}"
    verb = verb.removesuffix(".__init__")
    parameters = [p for p in inspect.signature(function).parameters.values() if p.name != "self"]
    named = [p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters)
    unknown = None if takes_any else next((k for k in kwargs if k not in named), None)
    instead = answer_to("instead", f"{name}.{unknown}" if unknown else f"{verb}()")
    needed = _signature_of(parameters, optional=problem.endswith("given"))
    call = f"Write {verb}({', '.join(needed)})."
    if unknown is None:
        problem = problem.replace(f"{function.__qualname__}()", f"{verb}()")
        return f"{problem}. {instead or call}"
    guesses = answer_to("arguments", unknown).split()
    meant = [guess for guess in guesses if guess in named] or near_names(unknown, named)
    if instead:
        return f"{verb} has no argument {unknown!r}. {instead}"
    if not meant:
        known = ", ".join(named) or "none"
        if "params" in named:
            known += f". A value for ${unknown} is one of params={{{unknown!r}: …}}"
        return f"{verb} has no argument {unknown!r}. Its arguments are {known}."
    shown = 'cache="bypass"' if meant[0] == "cache" else f"{meant[0]}="
    if f"{shown}…" not in needed:  # the call without it would be no example
        call = ""
    return f"{verb} has no argument {unknown!r}. Did you mean {shown}? {call}".rstrip()


def _signature_of(parameters: list[inspect.Parameter], optional: bool) -> list[str]:
    """The arguments that a call needs, as in its signature; with the optional ones, or where it
    needs none, all."""
    written = [p for p in parameters if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]
    required = [p for p in written if optional or p.default is p.empty] or written
    return [f"{p.name}=…" if p.kind is p.KEYWORD_ONLY else p.name for p in required]
