"""Suggestions for what was probably meant otherwise: similar texts, and the answers to plausible
guesses in `suggestions.toml`."""

import ast
import functools
import json
import re
import shlex
from collections.abc import Iterable, Mapping

from jammi_lab.core.packaged_tables import rules_of

_CALL_OR_OPTIONS = re.compile(
    r"ws\.sources\.add\((?:[^()'\"]|'[^']*'|\"[^\"]*\")*\)|\boptions=(\{(?:[^{}]|\{[^{}]*\})*\})"
)


def close_matches(
    text: str, candidates: Iterable[str], limit: int = 3, similarity: float = 0.5
) -> list[str]:
    """Up to `limit` candidates that are at least as similar as that (0 to 1), nearest first."""
    import difflib  # 2 ms at each `%load_ext`, which only messages of errors need

    return difflib.get_close_matches(text, [*candidates], limit, similarity)


def by_guess(guesses: Mapping[str, str]) -> dict[str, str]:
    """The answers by guess, of the words that people guess by answer."""
    return {guess: answer for answer, words in guesses.items() for guess in words.split()}


def answer_to(section: str, guess: str) -> str:
    """The answer that a section of the table has for a guess; empty without one."""
    return by_guess(dict(rules_of("suggestions", section))).get(guess.casefold(), "")


def translate_advice(text: str, place: str, path: str = "") -> str:
    """Advice in Python as it reads at a `place`: in cells, or in a shell on the workspace at a
    path. As it is when no file descriptor is left to read how it is translated."""
    for pattern, advice in rules_of("suggestions", "advice", place):
        text = re.sub(pattern, functools.partial(_fill, advice, path), text)
    return text


def _fill(advice: str, path: str, match: re.Match[str]) -> str:
    last_group = next((group for group in reversed(match.groups()) if group is not None), "")
    return advice.format(*match.groups(""), quoted=shlex.quote(last_group), path=shlex.quote(path))


def options_as_flags(text: str) -> str:
    """Advice with `options={…}` as the `--option`s of a line; calls stay as they are."""
    return _CALL_OR_OPTIONS.sub(_option_flags, text)


def _option_flags(match: re.Match[str]) -> str:
    """Translate `options={…}`; a placeholder stays one, and so does a call with options."""
    if match[1] is None:
        return match[0]
    written = match[1].replace("{…}", "{'KEY': 'VALUE'}").replace(": …", ": '…'")
    try:
        options = ast.literal_eval(written)
    except (SyntaxError, ValueError):
        return match[0]
    return " ".join(["--option", *(_option_word(name, value) for name, value in options.items())])


def _option_word(name: str, value: object) -> str:
    if value == "…":
        return f"{name}=…"
    if isinstance(value, list):
        value = ",".join(map(str, value))
    text = json.dumps(value, ensure_ascii=False) if isinstance(value, dict) else str(value)
    return shlex.quote(f"{name}={text}".replace("\t", "\\t"))
