"""How words become a command and the values of its arguments and flags: those of a line of
`%jammi`, of the first line of a cell, and of a command of the shell."""

import itertools
import os
import re
import shlex
from collections import deque
from collections.abc import Sequence
from typing import Any

from jammi_lab.commands.table import (
    LINE,
    SHELL,
    Argument,
    Flag,
    Verb,
    commands,
    find_command,
    listing,
)
from jammi_lab.core.errors import InvalidArgument
from jammi_lab.core.identifiers import fold, near_names
from jammi_lab.core.packaged_tables import packaged_table
from jammi_lab.core.suggestions import answer_to, by_guess, options_as_flags, translate_advice

DEFAULT_FOLDER = ".jammi"
"""The workspace of a notebook, and of a command without PATH."""
HELP_FLAGS = ("--help", "-h", "-?")
"""The flags that request help after any verb."""
SQL_KEYWORDS = frozenset(
    "select with from values show describe explain insert update delete create drop alter "
    "pivot unpivot summarize attach".split()
)
"""Keywords that begin a SQL statement."""
_ASSIGNMENT_SIGNS = ("=", "<<", ":=")
_COLUMN_VALUES = ("C", "COL")
_MAX_SYNONYM_WORDS = 2
_SHOWING = ("show", "list")

Values = dict[str, Any]
"""The values of a command's arguments and flags, by the keys of the table."""


def wants_help(words: Sequence[str]) -> bool:
    """Whether the words contain a help flag before `--`."""
    return any(w in HELP_FLAGS for w in itertools.takewhile(lambda w: w != "--", words))


def split_words(line: str) -> list[str]:
    """The words of a line, as a shell splits them."""
    # a path of Windows, or a sign such as \t, without quotes around it
    if re.match(r"""(?:[^'"\\]|'[^']*'|"[^"]*"|\\\W)*\\\w""", line):
        raise InvalidArgument(
            "A backslash in front of a letter would be lost.",
            hint=r"Folders are separated by /; other texts stand in single quotes: '\t'.",
        )
    try:
        return shlex.split(line)
    except ValueError:
        raise InvalidArgument(
            "A quotation mark is not closed.",
            hint="Put words with spaces between two equal quotation marks.",
        ) from None


def parse_command(magic: str, words: Sequence[str]) -> tuple[Verb, Values]:
    """The command that the words name, and its values by key; `help` for a help flag.
    InvalidArgument carries the usage and near matches."""
    name = words[0] if words else ""
    if name in HELP_FLAGS or (magic == SHELL and not words):
        words, name = ["help"], "help"
    verb = find_command(magic, name)
    if verb is None:
        raise _unknown_command_error(magic, words)
    if wants_help(words[1:]):
        return parse_command(magic, ["help", name])
    return verb, parse_words(verb, words[1:])


def parse_line(line: str) -> tuple[Verb, Values]:
    """The same of a line of `%jammi`."""
    return parse_command(LINE, split_words(line))


def near_commands(magic: str, name: str, known: Sequence[str]) -> list[str]:
    """The commands that a name may mean."""
    meant = by_guess(packaged_table("suggestions")[magic]["synonyms"]).get(fold(name))
    return near_names(name, known) if meant is None else meant.split()


def _unknown_command_error(magic: str, words: Sequence[str]) -> InvalidArgument:
    name, known = words[0], packaged_table("suggestions")[magic]
    message = f"Unknown command: {magic} {name}."
    if (call := known["python"].get(name)) is not None:
        workspace = "jammi_lab.get_workspace()" if magic == LINE else "jammi_lab.open(path)"
        return InvalidArgument(message, hint=f"In Python: {workspace}{call}")
    # `update` alone and `show sales` are commands of other tools; a statement has more words
    is_synonym = fold(name) in by_guess(known["synonyms"]) and len(words) <= _MAX_SYNONYM_WORDS
    if magic == LINE and not is_synonym and (fold(name) in {*SQL_KEYWORDS, *known["cells"]}):
        return InvalidArgument(message, hint=known["cells"].get(name, known["cells"]["sql"]))
    if magic == LINE and ("://" in name or os.path.isfile(name)):
        return InvalidArgument(message, hint=f"To add a source: {magic} add NAME {name}")
    if magic == SHELL and words[1:] and find_command(magic, words[1]) is not None:
        written = shlex.join([words[1], name, *words[2:]])
        return InvalidArgument(message, hint=f"The verb comes first: {magic} {written}")
    near = near_commands(magic, name, [verb.name for verb in commands(magic) if verb.name])
    if fold(name) in _SHOWING and words[1:] and find_command(magic, words[1]) is not None:
        near = [words[1]]
    meant = find_command(magic, near[0]) if len(near) == 1 else None
    hint = f"{magic} help lists all commands." if meant is None else meant.advice
    return InvalidArgument(message, near=near, hint=hint)


def parse_words(verb: Verb, words: Sequence[str]) -> Values:
    """The values by key that the words behind a verb give to its arguments and flags."""
    values: Values = {a.name: [] if a.repeated else None for a in verb.arguments}
    for flag in verb.flags:
        is_list = flag.repeated or flag.words
        values[flag.key] = [] if is_list else None if flag.value_name else False
    positional, remaining, flags_ended = list[str](), deque(words), False
    while remaining:
        word = remaining.popleft()
        if word == "--" and not flags_ended:
            flags_ended = True
        elif _is_flag(word) and not flags_ended and "WORD" not in values:  # a flag to look up
            _parse_flag(verb, word, remaining, values)
        else:
            positional.append(word)
    if verb.magic == SHELL:
        positional = _with_path(verb, positional)
    for argument in verb.arguments:
        if argument.repeated:
            values[argument.name], positional = positional, []
        elif positional:
            name = verb.command if argument.choices else f"{argument.name} of {verb.command}"
            values[argument.name] = _convert(argument, name, positional.pop(0))
        if argument.required and not values[argument.name]:
            raise InvalidArgument(
                f"{verb.command} needs {argument.description}.",
                hint=answer_to("instead", verb.name) or verb.advice,
            )
    for flag in verb.flags:
        if flag.required and not values[flag.key]:
            raise InvalidArgument(
                f"{verb.command} needs {flag.spellings[-1]}, {flag.help}.",
                hint=verb.advice,
            )
        needed = verb.flag(flag.needs)
        if needed is not None and values[flag.key] and not values[needed.key]:
            needs = f"{needed.spellings[-1]} {needed.value_name}".rstrip()
            raise InvalidArgument(f"{flag.spellings[-1]} needs {needs}.", hint=verb.advice)
    if positional:
        raise _unexpected_word_error(verb, positional[0])
    return values


def _unexpected_word_error(verb: Verb, word: str) -> InvalidArgument:
    one_table = answer_to("one_table", verb.name)
    if word in _ASSIGNMENT_SIGNS:
        hint = f"Omit {word}: the variable alone follows {verb.command}."
    elif one_table and find_command(verb.magic, one_table):
        path = " PATH" if verb.magic == SHELL else ""
        hint = f"For one: {verb.magic} {one_table}{path} {shlex.quote(word)}."
    elif verb.flag("--inputs") is not None:
        hint = f"Name its inputs behind --inputs: --inputs {shlex.quote(word)}."
    else:
        hint = f"{verb.advice.rstrip('.')}. Words with spaces take quotation marks."
    return InvalidArgument(f"{verb.command} got an unexpected argument: {word!r}.", hint=hint)


def _with_path(verb: Verb, words: list[str]) -> list[str]:
    """The words of the arguments with PATH, which may be left out before others."""
    others = verb.arguments[1:]
    if not others or verb.arguments[0].name != "PATH":
        return words
    signs_of_a_path = (
        len(words) > sum(argument.required for argument in others),
        bool(words) and os.path.lexists(words[0]),
        not os.path.isdir(DEFAULT_FOLDER),
    )
    return words if sum(signs_of_a_path) > 1 else [DEFAULT_FOLDER, *words]


def _is_flag(word: str) -> bool:
    """Whether a word is a flag: `-k` is; `-` and the number `-0.2` are not."""
    return word.startswith("-") and not re.match(r"-(\.?\d|$)", word)


def _parse_flag(verb: Verb, word: str, remaining: deque[str], values: Values) -> None:
    spelling, separator, inline_value = word.partition("=")
    flag, command = verb.flag(spelling), verb.command
    if flag is None:
        raise _unknown_flag_error(verb, spelling)
    if flag.words:
        if inline_value not in flag.words and separator:
            raise InvalidArgument(
                f"{spelling} of {command} takes {listing(['no value', *flag.words])}, "
                f"not {inline_value!r}.",
                near=near_names(inline_value, flag.words),
            )
        values[flag.key] = [*values[flag.key], inline_value]
        return
    if not flag.value_name:
        if separator:
            raise InvalidArgument(f"{spelling} of {command} takes no value.", hint=verb.advice)
        values[flag.key] = True
        return
    words = [inline_value] if separator else []
    while remaining and not _is_flag(remaining[0]) and (flag.repeated or not words):
        words.append(remaining.popleft())
    if flag.repeated and flag.value_name in _COLUMN_VALUES:  # `--key a,b` as in SQL
        words = [part for word in words for part in word.split(",") if part or word == ""]
    if not words or "" in words:
        raise InvalidArgument(
            f"{spelling} of {command} needs a value: {flag.value_name}.",
            hint=f"{flag.form}: {flag.help}.",
        )
    converted = [_convert(flag, f"{spelling} of {command}", word) for word in words]
    values[flag.key] = values[flag.key] + converted if flag.repeated else converted[-1]


def _unknown_flag_error(verb: Verb, spelling: str) -> InvalidArgument:
    message = f"{verb.command} has no flag {spelling}."
    guess = spelling.lstrip("-")
    instead = answer_to("instead", f"{verb.name}.{guess}") or answer_to("instead", guess)
    if instead:
        place = "shell" if verb.magic == SHELL else "cells"
        return InvalidArgument(
            message, hint=translate_advice(options_as_flags(instead), place, "PATH")
        )
    known = {s.lstrip("-"): s for f in verb.flags for s in f.spellings}
    meant = [
        flag
        for word in dict.fromkeys([guess, *guess.split("-")])
        for flag in answer_to("flags", word).split()
        if verb.flag(flag)
    ]
    # the guess itself, with one dash or two, or a similar one
    near = meant or [known[name] for name in (guess, *near_names(guess, known)) if name in known]
    return InvalidArgument(message, near=near, hint=verb.advice)


def _convert(taker: Argument | Flag, what: str, word: str) -> Any:
    """The value of a word. `what`: the argument or flag, as a message names it."""
    if taker.choices and word not in taker.choices:
        raise InvalidArgument(
            f"{what} takes {listing(taker.choices)}, not {word!r}.",
            near=near_names(word, taker.choices),
        )
    try:
        return taker.convert(word)
    except ValueError as expected:
        raise InvalidArgument(f"{what} takes {expected}, not {word!r}.") from None
