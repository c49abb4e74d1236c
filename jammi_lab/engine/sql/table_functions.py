"""What stands in FROM and DuckDB must not look up: Jammi's table functions, names of three parts.
Each is replaced in the text by a name of two parts, which a resolver resolves like any other.

The name is padded with blanks to the length of the call, so that positions in the text stay valid.
Its last part is the function's name, so that columns can still be qualified by it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from jammi_lab.core.errors import InvalidArgument, JammiError, StatementNotAllowed
from jammi_lab.core.identifiers import ascii_lower, near_names
from jammi_lab.engine.sql.allowlist import character_offset, walk_nodes
from jammi_lab.engine.sql.tokens import all_tokens
from jammi_lab.sources.files.formats import ALIASES, OPTIONS

Name = tuple[str, str]
"""The two-part name that replaces a call in the text, ASCII lower case."""

_REQUIRED = object()
_REPLACEMENT_SCHEMA = "__j"
_SOURCE_HINT = ", or add the file as a source: ws.sources.add('name', 'path')."


@dataclass(frozen=True, slots=True)
class FunctionArgument:
    """One argument of a function."""

    name: str
    types: tuple[type, ...] | None
    """The accepted types; None for every type with a literal."""
    default: Any = _REQUIRED


@dataclass(frozen=True, slots=True)
class Signature:
    """The signature of a table function."""

    usage: str
    """The usage shown in messages, after FROM."""
    arguments: tuple[FunctionArgument, ...]
    parameters: bool = True
    """Whether `$name` and `name := value` are accepted."""
    option_names: Mapping[str, str] | None = None
    """For functions that read files: synonyms of argument names. Their arguments are written `name
    = value` and never as `$name`. None for other functions."""


_K = FunctionArgument("k", (int,), 10)
_PATH = FunctionArgument("path", (str,))
_OPTION = (bool, int, str, list, dict)


def _reader_signature(usage: str, kind: str) -> Signature:
    """The signature of a function that reads files of a kind, with the options of its sources."""
    options = (FunctionArgument(name, _OPTION, None) for name in OPTIONS[kind])
    return Signature(usage, (_PATH, *options), option_names=ALIASES)


USAGE: Mapping[str, Signature] = {
    "jammi_version": Signature(
        "jammi_version('recipe', version)",
        (FunctionArgument("recipe", (str,)), FunctionArgument("version", (int,))),
        parameters=False,
    ),
    "search": Signature(
        "search('table', 'text' or $param [, k := 10] [, words := 'lexical table'])",
        (
            FunctionArgument("table", (str,)),
            FunctionArgument("query", (str, list)),
            _K,
            FunctionArgument("words", (str,), None),
        ),
    ),
    "neighbors": Signature(
        "neighbors('table', 'row key' or $param [, k := 10])",
        (FunctionArgument("table", (str,)), FunctionArgument("row", None), _K),
    ),
    "read_parquet": _reader_signature("read_parquet('path')", "parquet"),
    "read_csv": _reader_signature("read_csv('path' [, delim = ';'])", "csv"),
    "read_json": _reader_signature("read_json('path')", "json"),
}
"""The signatures by function name."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter `$name` as an argument."""

    name: str


@dataclass(frozen=True, slots=True)
class FunctionCall:
    """One call, with one value per argument of the signature."""

    function: str
    arguments: tuple[Any, ...]

    def with_values(self, values: Mapping[str, Any]) -> "FunctionCall":
        """The call with its parameters replaced by values. InvalidArgument for a wrong type."""
        by_folded_name = {ascii_lower(name): value for name, value in values.items()}
        arguments = tuple(
            by_folded_name[ascii_lower(a.name)] if isinstance(a, Parameter) else a
            for a in self.arguments
        )
        for argument, value in zip(USAGE[self.function].arguments, arguments, strict=True):
            if not _fits(value, argument):
                raise InvalidArgument(
                    f"The argument {argument.name} of {self.function}() cannot be of type "
                    f"{type(value).__name__}.",
                    hint=f"Write FROM {USAGE[self.function].usage}.",
                )
        return FunctionCall(self.function, arguments)


Replaced = FunctionCall | tuple[str, ...]
"""What a name in the text stands for: a call, or a name of three parts."""


def replace_in_from(text: str, tree: dict[str, Any]) -> tuple[str, dict[Name, Replaced]]:
    """The text in which its calls and its names of three parts are names of two parts, and what
    each of those stands for. InvalidArgument or StatementNotAllowed, with a position, for wrong
    arguments and for what cannot be replaced.

    DuckDB would look up the first of three parts as a database of the instance, and all statements
    share the instance.
    """
    replaced: dict[Name, Replaced] = {}
    prefixes: dict[tuple[str, ...], str] = {}
    for node in walk_nodes(tree):
        if node.get("type") == "TABLE_FUNCTION":
            text = _replace_call(text, node.get("function") or {}, replaced)
        elif node.get("type") == "BASE_TABLE":
            text = _shorten_name(text, node, replaced, prefixes)
    return text, replaced


def _replace_call(text: str, call: dict[str, Any], replaced: dict[Name, Replaced]) -> str:
    function = ascii_lower(call.get("function_name") or "")
    if function not in USAGE or call.get("schema") or call.get("catalog"):
        return text
    position = character_offset(text, call["query_location"])
    name = (f"{_REPLACEMENT_SCHEMA}{len(replaced)}", function)
    end = None if position is None else _call_end(text, position)
    if position is None or end is None or len(".".join(name)) > end - position:
        hint = f"Write FROM {USAGE[function].usage}" + (
            _SOURCE_HINT if USAGE[function].option_names is not None else "."
        )
        raise StatementNotAllowed(
            f"This call of {function}() is not supported.", hint=hint
        ).with_position(text, position)
    replaced[name] = FunctionCall(function, _parse_arguments(function, call, text, position))
    return text[:position] + ".".join(name).ljust(end - position) + text[end:]


def _shorten_name(
    text: str,
    node: dict[str, Any],
    replaced: dict[Name, Replaced],
    prefixes: dict[tuple[str, ...], str],
) -> str:
    """The last part of a name is kept because columns are qualified by it."""
    if not node.get("catalog_name") or not node.get("schema_name"):
        return text
    parts = (node["catalog_name"], node["schema_name"], node["table_name"])
    position = character_offset(text, node.get("query_location"))
    span = None if position is None else _name_span(text, position)
    folded = tuple(ascii_lower(p) for p in parts)
    prefix = prefixes.setdefault(folded, f"_{len(prefixes)}")
    if position is None or span is None or len(prefix) > span[0] - position:
        hint = 'Write schema and table as one name: source."schema.table".'
        raise StatementNotAllowed(
            "This three-part name cannot be resolved.", hint=hint
        ).with_position(text, position)
    dot, end = span
    replaced[prefix, folded[-1]] = parts
    return text[:position] + f"{prefix}{text[dot:end]}".ljust(end - position) + text[end:]


def _call_end(text: str, position: int) -> int | None:
    """The end of the call at a character; None when its parentheses do not close."""
    start, depth = len(text[:position].encode("utf-8", "replace")), 0
    for offset, body in all_tokens(text):
        if offset > start and body[:1] in (b"(", b")"):
            depth += 1 if body[:1] == b"(" else -1
            if depth == 0:
                return len(text.encode("utf-8", "replace")[: offset + 1].decode(errors="ignore"))
    return None


def _parse_arguments(
    function: str, call: dict[str, Any], text: str, position: int
) -> tuple[Any, ...]:
    """The argument values in the order of the signature, with defaults."""
    signature = USAGE[function]
    error = _arguments_error(function, signature).with_position(text, position)
    if call.get("filter") or call.get("distinct") or (call.get("order_bys") or {}).get("orders"):
        raise error
    by_name: dict[str, Any] = {}
    argument_names = [argument.name for argument in signature.arguments]
    for number, child in enumerate(call.get("children") or []):
        explicit_name, value_node = _split_named_argument(child, signature)
        name = explicit_name or (argument_names[number] if number < len(argument_names) else "")
        value = _literal_or_parameter(value_node)
        if explicit_name and explicit_name not in argument_names:
            error.near = tuple(near_names(explicit_name, argument_names[1:]))
        is_valid_type = isinstance(value, Parameter) or any(
            a.name == name and _fits(value, a) for a in signature.arguments
        )
        is_allowed_form = signature.parameters or not (
            explicit_name or isinstance(value, Parameter)
        )
        is_allowed_form &= signature.option_names is None or (
            not isinstance(value, Parameter) and bool(explicit_name) == (number > 0)
        )
        if (
            value is None
            or name not in argument_names
            or name in by_name
            or not is_valid_type
            or not is_allowed_form
        ):
            raise error
        by_name[name] = value
    if any(a.default is _REQUIRED and a.name not in by_name for a in signature.arguments):
        raise error
    return tuple(by_name.get(a.name, a.default) for a in signature.arguments)


def _arguments_error(function: str, signature: Signature) -> JammiError:
    """The error for wrong arguments."""
    if signature.option_names is None:
        return InvalidArgument(
            f"{function}() takes texts and whole numbers"
            f"{', and $parameters for other values' if signature.parameters else ''}.",
            hint=f"Write FROM {signature.usage}"
            + (
                ", for example FROM jammi_version('top', 2)."
                if function == "jammi_version"
                else "."
            ),
        )
    optional_names = ", ".join(argument.name for argument in signature.arguments[1:])
    return StatementNotAllowed(
        f"{function}() takes a literal path{', and ' if optional_names else ''}{optional_names}.",
        hint=f"Write FROM {signature.usage}{_SOURCE_HINT}",
    )


def _split_named_argument(
    child: dict[str, Any], signature: Signature
) -> tuple[str, dict[str, Any]]:
    """The name of a named argument (empty for a positional one), and its value node."""
    name = ascii_lower(child.get("alias") or "")
    if signature.option_names is None:
        return name, child
    left_node = child.get("left") or {}
    if (
        not name
        and child.get("type") == "COMPARE_EQUAL"
        and left_node.get("type") == "COLUMN_REF"
        and len(left_node.get("column_names") or ()) == 1
    ):
        name, child = ascii_lower(left_node["column_names"][0]), child.get("right") or {}
    return signature.option_names.get(name, name), child


def _fits(value: Any, argument: FunctionArgument) -> bool:
    if argument.types is None:
        return value is not None and not isinstance(value, list | tuple | dict)
    if value is None and argument.default is None:
        return True
    return isinstance(value, argument.types) and (
        bool in argument.types or not isinstance(value, bool)
    )


def _literal_or_parameter(child: dict[str, Any]) -> Any:
    """The parameter or literal value of an argument; None for anything else, including NULL."""
    if child.get("type") == "VALUE_PARAMETER":
        return Parameter(child["identifier"])
    if (
        child.get("type") == "FUNCTION"
        and child.get("function_name") == "list_value"
        and child.get("schema") in ("", "main")
    ):
        texts = [_constant_value(item) for item in child.get("children") or ()]
        return texts if texts and all(isinstance(text, str) for text in texts) else None
    if child.get("type") == "FUNCTION" and child.get("function_name") == "struct_pack":
        fields = {item.get("alias"): _constant_value(item) for item in child.get("children") or ()}
        return fields if all(isinstance(text, str) for text in fields.values()) else None
    if child.get("type") == "OPERATOR_CAST" and child["cast_type"].get("id") == "BOOLEAN":
        # what `true` and `false` are in a tree
        return {"t": True, "f": False}.get(_constant_value(child["child"]))
    return _constant_value(child)


def _constant_value(child: dict[str, Any]) -> Any:
    """The value of a text or a whole number; None for anything else."""
    match child:
        case {
            "type": "VALUE_CONSTANT",
            "value": {
                "type": {"id": "VARCHAR" | "INTEGER" | "BIGINT"},
                "is_null": False,
                "value": value,
            },
        }:
            return value
    return None


def _name_span(text: str, position: int) -> tuple[int, int] | None:
    """The position of the second dot and the end of the three-part name that starts at a character;
    None when there is none."""
    raw, start = text.encode("utf-8", "replace"), len(text[:position].encode("utf-8", "replace"))
    following = [(offset, body) for offset, body in all_tokens(text) if offset >= start]
    marks = [body.strip() for _, body in following[:5]]
    if len(marks) < 5 or marks[1] != b"." or marks[3] != b".":
        return None
    end = following[4][0] + len(following[4][1].rstrip())
    return len(raw[: following[3][0]].decode(errors="ignore")), len(
        raw[:end].decode(errors="ignore")
    )
