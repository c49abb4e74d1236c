"""How the words of a `%jammi` line, or of the first line of a cell, become the values of the
arguments and flags of a command."""

import itertools
import re
import shlex
from collections.abc import Iterator, Sequence
from typing import Any

from jammi_lab.core.commands import Argument, Flag, Verb
from jammi_lab.core.errors import InvalidArgument
from jammi_lab.core.identifiers import near_names

_COLUMN_VALUES = ("C", "COL")


HELP_FLAGS = ("--help", "-h", "-?")
"""The flags that request help after any verb."""


def wants_help(words: Sequence[str]) -> bool:
    """Whether the words contain a help flag before `--`."""
    return any(w in HELP_FLAGS for w in itertools.takewhile(lambda w: w != "--", words))


def split_words(line: str) -> list[str]:
    """The words of a line, as a shell splits them."""
    try:
        return shlex.split(line)
    except ValueError:
        raise InvalidArgument(
            "A quotation mark is not closed.",
            hint="Put words with spaces between two equal quotation marks.",
        ) from None


def parse_words(verb: Verb, words: Sequence[str]) -> dict[str, Any]:
    """The values by key that the words behind a verb give to its arguments and flags."""
    values: dict[str, Any] = {a.name: [] if a.repeated else None for a in verb.arguments}
    values |= {f.key: [] if f.repeated else None if f.value_name else False for f in verb.flags}
    positional, remaining, flags_ended = [], _WordIterator(words), False
    for word in remaining:
        if word == "--" and not flags_ended:
            flags_ended = True
        elif _is_flag(word) and not flags_ended and not any(a.allows_dash for a in verb.arguments):
            _parse_flag(verb, word, remaining, values)
        else:
            positional.append(word)
    for argument in verb.arguments:
        if argument.repeated:
            values[argument.name], positional = positional, []
        elif positional:
            values[argument.name] = _convert_argument(verb, argument, positional.pop(0))
        if argument.required and not values[argument.name]:
            raise InvalidArgument(
                f"{verb.command} needs {argument.description}.",
                hint=f"Usage: {verb.usage}",
            )
    for flag in verb.flags:
        if flag.required and not values[flag.key]:
            raise InvalidArgument(
                f"{verb.command} needs {flag.spellings[-1]}, {flag.help}.",
                hint=f"Usage: {verb.usage}",
            )
    if positional:
        raise InvalidArgument(
            f"{verb.command} got an unexpected argument: {positional[0]!r}.",
            hint=f"Usage: {verb.usage}",
        )
    return values


class _WordIterator(Iterator[str]):
    """An iterator over words that can look at the next one."""

    def __init__(self, words: Sequence[str]) -> None:
        self._words, self._position = words, 0

    def __next__(self) -> str:
        if self._position >= len(self._words):
            raise StopIteration
        self._position += 1
        return self._words[self._position - 1]

    def value_follows(self) -> bool:
        """Whether the next word exists and is not a flag."""
        return self._position < len(self._words) and not _is_flag(self._words[self._position])


def _is_flag(word: str) -> bool:
    """Whether a word is a flag: `-k` is; `-` and the number `-0.2` are not."""
    return word.startswith("-") and not re.match(r"-(\.?\d|$)", word)


def _parse_flag(verb: Verb, word: str, remaining: _WordIterator, values: dict[str, Any]) -> None:
    spelling, separator, inline_value = word.partition("=")
    flag = next((f for f in verb.flags if spelling in f.spellings), None)
    command = verb.command
    if flag is None:
        known = {s.lstrip("-"): s for f in verb.flags for s in f.spellings}
        covers_all = any(not a.required and "NAME" in a.name for a in verb.arguments)
        if spelling == "--all" and covers_all:
            raise InvalidArgument(
                f"{command} has no flag --all.",
                hint=f"Without a name, {command} covers everything.",
            )
        raise InvalidArgument(
            f"{command} has no flag {spelling}.",
            near=[known[name] for name in near_names(spelling.lstrip("-"), known)],
            hint=f"Usage: {verb.usage}",
        )
    if not flag.value_name:
        if separator:
            raise InvalidArgument(
                f"{spelling} of {command} takes no value.", hint=f"Usage: {verb.usage}"
            )
        values[flag.key] = True
        return
    words = [inline_value] if separator else []
    while (remaining.value_follows() and (flag.repeated or not words)) and not (
        separator and not flag.repeated
    ):
        words.append(next(remaining))
    if flag.repeated and flag.value_name in _COLUMN_VALUES:  # `--key a,b` as in SQL
        words = [part for word in words for part in word.split(",") if part or word == ""]
    if not words or "" in words:
        raise InvalidArgument(
            f"{spelling} of {command} needs a value: {'|'.join(flag.choices) or flag.value_name}.",
            hint=f"Usage: {verb.usage}",
        )
    converted = [_convert_word(flag, spelling, command, word) for word in words]
    values[flag.key] = values[flag.key] + converted if flag.repeated else converted[-1]


def _convert_argument(verb: Verb, argument: Argument, word: str) -> Any:
    try:
        return argument.convert(word)
    except ValueError as expected:
        raise InvalidArgument(
            f"{argument.name} of {verb.command} takes {expected}, not {word!r}."
        ) from None


def _convert_word(flag: Flag, spelling: str, command: str, word: str) -> Any:
    if flag.choices and word not in flag.choices:
        raise InvalidArgument(
            f"{spelling} of {command} takes {' or '.join(flag.choices)}, not {word!r}.",
            near=near_names(word, flag.choices),
        )
    try:
        return flag.convert(word)
    except ValueError as expected:
        raise InvalidArgument(f"{spelling} of {command} takes {expected}, not {word!r}.") from None
