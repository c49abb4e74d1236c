"""Table functions of our own in FROM: each call is put out of the text and a name put in, which the rooms above resolve like any other.

The name is as long as the call was, with blanks after it, so that every place in the text stays where it was. It ends in the function's name, by
which columns can still be qualified.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from jammi_lab.engine.gate import ascii_lower, nodes, offset_in
from jammi_lab.engine.tokens import all_tokens
from jammi_lab.errors import InvalidArgument, JammiError, StatementNotAllowed

Name = tuple[str, str]
"""What stands in the text for a call, ASCII-lower."""

USAGE: Mapping[str, tuple[str, tuple[type, ...]]] = {"jammi_version": ("jammi_version('recipe', version)", (str, int))}
"""The functions, how each is written, and what it takes."""
_SCHEMA = "__j"
_TYPES = frozenset({"VARCHAR", "INTEGER", "BIGINT"})
"""Of texts and whole numbers; a decimal number's value is a whole one, too."""


@dataclass(frozen=True, slots=True)
class Call:
    """One call, with what was written between its brackets."""

    function: str
    arguments: tuple[Any, ...]


def replaced(text: str, tree: dict[str, Any]) -> tuple[str, dict[Name, Call]]:
    """The text without its calls, and what each name in it stands for. InvalidArgument, placed in the text, for arguments that do not fit."""
    calls: dict[Name, Call] = {}
    for node in nodes(tree):
        call = node.get("function") if node.get("type") == "TABLE_FUNCTION" else None
        if call is None or ascii_lower(call.get("function_name") or "") not in USAGE or call.get("schema") or call.get("catalog"):
            continue
        function, at = ascii_lower(call["function_name"]), offset_in(text, call["query_location"])
        name = (f"{_SCHEMA}{len(calls)}", function)
        end = None if at is None else _end(text, at)
        if at is None or end is None or len(".".join(name)) > end - at:
            raise StatementNotAllowed(f"This call of {function}() cannot be read.", hint=f"Write FROM {USAGE[function][0]}.").at(text, at)
        calls[name] = Call(function, _arguments(function, call, text, at))
        text = text[:at] + ".".join(name).ljust(end - at) + text[end:]
    return text, calls


def _end(text: str, at: int) -> int | None:
    """Where the brackets of the call at a character close."""
    start, depth = len(text[:at].encode("utf-8", "replace")), 0
    for place, body in all_tokens(text):
        if place > start and body[:1] in (b"(", b")"):
            depth += 1 if body[:1] == b"(" else -1
            if depth == 0:
                return len(text.encode("utf-8", "replace")[: place + 1].decode(errors="ignore"))
    return None


def _arguments(function: str, call: dict[str, Any], text: str, at: int) -> tuple[Any, ...]:
    usage, kinds = USAGE[function]
    given = call.get("children") or []
    values = [_constant(child) for child in given]
    plain = not call.get("filter") and not call.get("distinct") and not (call.get("order_bys") or {}).get("orders")
    if not plain or len(values) != len(kinds) or any(type(v) is not kind for v, kind in zip(values, kinds, strict=True)):
        raise _wrong(function, usage).at(text, at)
    return tuple(values)


def _constant(child: dict[str, Any]) -> Any:
    literal = child.get("type") == "VALUE_CONSTANT" and not child.get("alias") and child["value"]["type"]["id"] in _TYPES
    return child["value"].get("value") if literal else None


def _wrong(function: str, usage: str) -> JammiError:
    return InvalidArgument(f"{function}() takes values that are written out.", hint=f"Write FROM {usage}, for example FROM jammi_version('top', 2).")
