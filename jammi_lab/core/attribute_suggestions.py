"""Answers to plausible guesses: an attribute or item that does not exist is answered with the one
that does. The answers are in `suggestions.toml`. Arguments: `argument_suggestions`.

People arrive from pandas, DuckDB, dbt and sqlite-utils and type the verbs that they know. Python
answers `ws.query` with "no attribute 'query'", which is true and no help.
"""

import contextlib
from typing import Any, NamedTuple

from jammi_lab.core.identifiers import near_names
from jammi_lab.core.packaged_tables import rules_of
from jammi_lab.core.suggestions import by_guess


class Answers(NamedTuple):
    """What is said of the objects of a class."""

    variable: str
    """The name that examples give to one: `ws`, `result`, `table`."""
    by_guess: dict[str, str]
    """The answer for each attribute that people guess."""
    others: dict[str, str]
    """What gives an item, what assigns and what deletes one, by key of `suggestions.toml`."""


def answers_of(class_name: str) -> Answers:
    """The answers that are known for a class."""
    known = dict(rules_of("suggestions"))
    of_class = known.get("classes", {}).get(_public_name(class_name), {})
    shared = by_guess(known.get(of_class.get("also"), {}))
    own = by_guess(of_class.get("answers", {}))
    return Answers(of_class.get("variable", class_name), shared | own, of_class)


def missing_attribute_message(
    class_name: str, guess: str, known: list[str], item: str | None = None
) -> str:
    """The text of the AttributeError for a name that a class does not have. `item`: the answer when
    the object has an item of that name."""
    variable, answers, others = answers_of(class_name)
    message = f"{_public_name(class_name)} has no attribute {guess!r}."
    near = [name for name in near_names(guess, known) if name[0] == guess[0] or name in guess]
    # What has rows is taken for a frame.
    answer = item or answers.get(guess) or (None if near else others.get("operand"))
    if answer is not None:
        return f"{message} Use {_with_variable(variable, answer)}."
    advice = f"Did you mean {', '.join(near)}?" if near else f"help({variable}) lists what it has."
    return f"{message} {advice}"


def _public_name(class_name: str) -> str:
    """The name that people know: a kind of Result is a Result."""
    return "Result" if class_name.endswith("Result") else class_name


def _with_variable(variable: str, answer: str) -> str:
    """The answer with the object's name before each part that begins with a dot or bracket."""
    return " or ".join(
        f"{variable}{verb}" if verb.startswith((".", "[")) else verb
        for verb in answer.split(" or ")
    )


def answer_guess(self: object, name: str) -> Any:
    """The `__getattr__` of a public class: answers a name that does not exist with the one that
    does."""
    cls = type(self)
    if name.startswith("_") or hasattr(cls, name):  # a property that raised this itself
        return object.__getattribute__(self, name)
    known = [each for each in dir(cls) if not each.startswith("_")]
    item = None if name in answers_of(cls.__name__).by_guess else _answer_of_item(self, name)
    raise AttributeError(missing_attribute_message(cls.__name__, name, known, item))


def answer_item(self: object, key: object) -> Any:
    """The `__getitem__` of a public class that has no items. Iterating comes here, too."""
    cls = type(self).__name__
    message = f"{_public_name(cls)} has no " + (
        f"item {key!r}." if isinstance(key, str) else "such items."
    )
    found = _answer_of_item(self, key) if isinstance(key, str) else None
    of_names = isinstance(key, str | list | tuple)
    raise TypeError(_with_example(message, cls, "item" if of_names else "items", key, found))


def answer_name_in_list(self: list[Any], key: Any) -> Any:
    """The `__getitem__` of a list of named things, which has items by position."""
    return answer_item(self, key) if isinstance(key, str) else list.__getitem__(self, key)


def answer_operand(self: object, _: object) -> Any:
    """What a comparison or sum calls on a public class that has no values."""
    cls = type(self).__name__
    message = f"{_public_name(cls)} is no value to compare or compute with."
    raise TypeError(_with_example(message, cls, "operand", None))


def answer_assignment(self: object, key: object, _: object) -> None:
    """The `__setitem__` of a public class whose items cannot be assigned."""
    cls = type(self).__name__
    message = f"Items of {_public_name(cls)} cannot be assigned."
    raise TypeError(_with_example(message, cls, "assignment", key))


def answer_deletion(self: object, key: object) -> None:
    """What `del` calls on a public class whose items cannot be deleted."""
    cls = type(self).__name__
    message = f"Items of {_public_name(cls)} cannot be deleted."
    raise TypeError(_with_example(message, cls, "deletion", key))


def _with_example(
    message: str, class_name: str, kind: str, key: object, found: str | None = None
) -> str:
    """The message with the answer of that kind, or with what was found for the key."""
    variable, _, others = answers_of(class_name)
    answer = found or others.get(kind)
    if not answer:
        return message
    shown = answer.replace("{key}", repr([*key] if isinstance(key, tuple) else key))
    return f"{message} Use {_with_variable(variable, shown)}."


def _answer_of_item(self: Any, name: str) -> str | None:
    """What gives the table, source or column of that name, if the object has one."""
    with contextlib.suppress(Exception):  # a closed workspace, a damaged table
        cls = _public_name(type(self).__name__)
        if cls == "Workspace":
            places = (
                (self, f".table({name!r})"),
                (self.sources, f".sources[{name!r}]"),
                (self.mutable, f".mutable[{name!r}]"),
                (self.topics, f".topics[{name!r}]"),
            )
            return next((answer for held, answer in places if name in held), None)
        if cls in ("Result", "ResultTable"):
            found = name in self.columns
            return answers_of(cls).others["item"].replace("{key}", repr(name)) if found else None
        if cls in ("Sources", "MutableTables", "Topics", "Checks") and name in self:
            return f"[{name!r}]"
    return None
