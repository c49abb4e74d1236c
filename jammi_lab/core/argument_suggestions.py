"""Answers to calls whose arguments do not fit: the argument that was meant, or the whole call."""

import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar

from jammi_lab.core import foreign_errors
from jammi_lab.core.argument_kinds import ArgumentKinds, argument_kinds, check_kinds
from jammi_lab.core.attribute_suggestions import answers_of
from jammi_lab.core.errors import JammiError
from jammi_lab.core.identifiers import near_names
from jammi_lab.core.packaged_tables import rules_of

_Function = TypeVar("_Function", bound=Callable[..., Any])
_Class = TypeVar("_Class", bound=type)


def answer_arguments(function: _Function) -> _Function:
    """A decorator of a method or of a function of the package: a call whose arguments do not fit is
    answered with those that do, and one with arguments of another kind with InvalidArgument. Where
    the machine has no memory or thread left, whatever was called raises ResourceExhausted."""

    @functools.cache
    def expected() -> tuple[list[str], ArgumentKinds]:
        return list(inspect.signature(function).parameters), argument_kinds(function)

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        names, kinds = expected()
        arguments = {**dict(zip(names, args, strict=False)), **kwargs}
        check_kinds(kinds.flags, kwargs)
        check_kinds(kinds.taken_silently, arguments)
        try:
            return function(*args, **kwargs)
        except JammiError:
            raise
        except (TypeError, AttributeError, ValueError) as error:
            check_kinds(kinds.others, arguments)
            # Raised by the call itself: no frame of the function was entered.
            is_of_call = error.__traceback__ is None or error.__traceback__.tb_next is None
            if not (is_of_call and isinstance(error, TypeError)):
                raise
            problem = str(error)
        except Exception as error:
            text = f"{type(error).__name__}: {error}"
            exhausted = foreign_errors.to_error("machine", text)
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
    parameters = [p for p in inspect.signature(function).parameters.values() if p.name != "self"]
    named = [p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters)
    unknown = None if takes_any else next((k for k in kwargs if k not in named), None)
    if unknown is None:
        problem = problem.replace(f"{function.__qualname__}()", f"{verb}()")
        return f"{problem}. Write {verb}({', '.join(_required(parameters))})."
    guesses = dict(rules_of("suggestions", "arguments")).get(unknown, "").split()
    meant = [guess for guess in guesses if guess in named] or near_names(unknown, named)
    if not meant:
        return f"{verb} has no argument {unknown!r}. Its arguments are {', '.join(named)}."
    shown = 'cache="bypass"' if meant[0] == "cache" else f"{meant[0]}="
    return f"{verb} has no argument {unknown!r}. Did you mean {shown}?"


def _required(parameters: list[inspect.Parameter]) -> list[str]:
    """The arguments that a call needs, as in its signature."""
    return [
        f"{p.name}=…" if p.kind is p.KEYWORD_ONLY else p.name
        for p in parameters
        if p.default is p.empty and p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)
    ]
