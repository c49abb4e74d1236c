"""Table functions of our own in FROM: each call is put out of the text and a name put in, which the rooms above resolve like any other.

The name is as long as the call was, with blanks after it, so that every place in the text stays where it was. It ends in the function's name, by
which columns can still be qualified.
"""

import datetime
import decimal
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from jammi_lab.engine.gate import nodes, offset_in
from jammi_lab.engine.tokens import all_tokens
from jammi_lab.errors import InvalidArgument, JammiError, StatementNotAllowed
from jammi_lab.names import ascii_lower

Name = tuple[str, str]
"""What stands in the text for a call, ASCII-lower."""

_REQUIRED = object()
_SCHEMA = "__j"
_AS_SOURCE = ", or add the file as a source: ws.sources.add('name', 'path')."


@dataclass(frozen=True, slots=True)
class Argument:
    """One argument of a function."""

    name: str
    kinds: tuple[type, ...] | None
    """What it may be; None for whatever has a literal."""
    default: Any = _REQUIRED


@dataclass(frozen=True, slots=True)
class Signature:
    """How a function is called."""

    usage: str
    """What to write after FROM."""
    arguments: tuple[Argument, ...]
    parameters: bool = True
    """Whether `$name` may stand for a value, and `name := value` for its place."""
    others: Mapping[str, str] | None = None
    """For a function that reads files: other words for its arguments, which may be written `name = value` and never as `$name`."""


_K = Argument("k", (int,), 10)
_PATH = Argument("path", (str,))
_CSV = tuple(Argument(name, kinds, None) for name, kinds in (("delimiter", (str,)), ("header", (bool,)), ("null", (str,)), ("encoding", (str,))))
_BY_NAME = Argument("union_by_name", (bool,), None)
_CSV_WORDS = {"delim": "delimiter", "sep": "delimiter", "nullstr": "null"}
USAGE: Mapping[str, Signature] = {
    "jammi_version": Signature("jammi_version('recipe', version)", (Argument("recipe", (str,)), Argument("version", (int,))), parameters=False),
    "search": Signature("search('table', 'text' or $param [, k := 10])", (Argument("table", (str,)), Argument("query", (str, list)), _K)),
    "neighbors": Signature("neighbors('table', 'row key' or $param [, k := 10])", (Argument("table", (str,)), Argument("row", None), _K)),
    "read_parquet": Signature("read_parquet('path')", (_PATH, _BY_NAME), others={}),
    "read_csv": Signature("read_csv('path' [, delim = ';'])", (_PATH, *_CSV, _BY_NAME), others=_CSV_WORDS),
    "read_json": Signature("read_json('path')", (_PATH, _BY_NAME), others={}),
}
"""The functions, and what each takes."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """`$name` in the place of a value."""

    name: str


@dataclass(frozen=True, slots=True)
class Call:
    """One call, with what was written between its brackets: one entry for each argument of the signature."""

    function: str
    arguments: tuple[Any, ...]

    def bound(self, values: Mapping[str, Any]) -> "Call":
        """The same call with the parameters' values. InvalidArgument for a value of another kind."""
        folded = {ascii_lower(name): value for name, value in values.items()}
        given = tuple(folded[ascii_lower(a.name)] if isinstance(a, Parameter) else a for a in self.arguments)
        for argument, value in zip(USAGE[self.function].arguments, given, strict=True):
            if not _fits(value, argument):
                raise InvalidArgument(
                    f"The {argument.name} of {self.function}() cannot be a value of type {type(value).__name__}.",
                    hint=f"Write FROM {USAGE[self.function].usage}.",
                )
        return Call(self.function, given)


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
            hint = f"Write FROM {USAGE[function].usage}" + (_AS_SOURCE if USAGE[function].others is not None else ".")
            raise StatementNotAllowed(f"This call of {function}() cannot be read.", hint=hint).at(text, at)
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
    """The values in the order of the signature, defaults put in."""
    signature = USAGE[function]
    wrong = _wrong(function, signature).at(text, at)
    if call.get("filter") or call.get("distinct") or (call.get("order_bys") or {}).get("orders"):
        raise wrong
    given: dict[str, Any] = {}
    places = [argument.name for argument in signature.arguments]
    for number, child in enumerate(call.get("children") or []):
        named, said = _named(child, signature)
        name = named or (places[number] if number < len(places) else "")
        value = _value(said)
        fits = isinstance(value, Parameter) or any(a.name == name and _fits(value, a) for a in signature.arguments)
        allowed = signature.parameters or not (named or isinstance(value, Parameter))
        allowed &= signature.others is None or (not isinstance(value, Parameter) and bool(named) == (number > 0))
        if value is None or name not in places or name in given or not fits or not allowed:
            raise wrong
        given[name] = value
    if any(a.default is _REQUIRED and a.name not in given for a in signature.arguments):
        raise wrong
    return tuple(given.get(a.name, a.default) for a in signature.arguments)


def _wrong(function: str, signature: Signature) -> JammiError:
    """What is said of arguments that do not fit."""
    if signature.others is None:
        return InvalidArgument(
            f"{function}() takes values that are written out{' or $parameters' if signature.parameters else ''}.",
            hint=f"Write FROM {signature.usage}" + (", for example FROM jammi_version('top', 2)." if function == "jammi_version" else "."),
        )
    more = ", ".join(argument.name for argument in signature.arguments[1:])
    return StatementNotAllowed(
        f"{function}() takes a path that is written out{', and ' if more else ''}{more}.", hint=f"Write FROM {signature.usage}{_AS_SOURCE}"
    )


def _named(child: dict[str, Any], signature: Signature) -> tuple[str, dict[str, Any]]:
    """The name by which an argument is given (empty: by its place), and the argument."""
    name = ascii_lower(child.get("alias") or "")
    if signature.others is None:
        return name, child
    left = child.get("left") or {}
    if not name and child.get("type") == "COMPARE_EQUAL" and left.get("type") == "COLUMN_REF" and len(left.get("column_names") or ()) == 1:
        name, child = ascii_lower(left["column_names"][0]), child.get("right") or {}
    return signature.others.get(name, name), child


def _fits(value: Any, argument: Argument) -> bool:
    if argument.kinds is None:
        return value is not None and not isinstance(value, list | tuple | dict)
    if value is None and argument.default is None:
        return True
    return isinstance(value, argument.kinds) and (bool in argument.kinds or not isinstance(value, bool))


def _value(child: dict[str, Any]) -> Any:
    """The parameter or value that an argument is; None for anything else, NULL included."""
    if child.get("type") == "VALUE_PARAMETER":
        return Parameter(child["identifier"])
    if child.get("type") == "FUNCTION" and child.get("function_name") == "list_value" and child.get("schema") in ("", "main"):
        numbers = [_constant(each) for each in child.get("children") or ()]
        plain = all(isinstance(n, int | float | decimal.Decimal) and not isinstance(n, bool) for n in numbers)
        return [float(n) for n in numbers] if plain and numbers else None
    if child.get("type") == "OPERATOR_CAST" and not child.get("try_cast"):
        inner, read = _constant(child.get("child") or {}), _TYPED.get((child.get("cast_type") or {}).get("id") or "")
        try:
            return read(inner) if read is not None and isinstance(inner, str) else None
        except ValueError:
            return None
    return _constant(child)


def _constant(child: dict[str, Any]) -> Any:
    """The value of a literal text or number; None for anything else."""
    value = child.get("value") if child.get("type") == "VALUE_CONSTANT" else None
    if not isinstance(value, dict) or value.get("is_null"):
        return None
    kind, plain = value["type"]["id"], value.get("value")
    match kind:
        case "VARCHAR" | "INTEGER" | "BIGINT" | "DOUBLE":
            return plain
        case "HUGEINT" | "UHUGEINT":
            return _whole(plain)
        case "DECIMAL":
            with decimal.localcontext(prec=40):
                return decimal.Decimal(_whole(plain)).scaleb(-value["type"]["type_info"]["scale"])
    return None


def _whole(plain: Any) -> int:
    """A whole number, which comes in two halves beyond 64 bits."""
    return (int(plain["upper"]) << 64) + int(plain["lower"]) if isinstance(plain, dict) else int(plain)


_TYPED: Mapping[str, Callable[[str], Any]] = {
    "DATE": datetime.date.fromisoformat,
    "TIME": datetime.time.fromisoformat,
    "TIMESTAMP": datetime.datetime.fromisoformat,
    "TIMESTAMP WITH TIME ZONE": datetime.datetime.fromisoformat,
    "UUID": uuid.UUID,
    "BOOLEAN": {"t": True, "f": False}.get,
}
"""Typed literals such as DATE '2020-01-31', by what they are cast to."""
