"""File kinds: inference from names, options of each kind, anchor strategies."""

import contextlib
import json
import os
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from jammi_lab.core.errors import InvalidArgument, SourceUnavailable
from jammi_lab.core.identifiers import fold, has_surrogate, near_names
from jammi_lab.core.redaction import remember_typed_credentials
from jammi_lab.core.suggestions import answer_to

SUFFIXES = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".parq": "parquet",
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".md": "text",
    ".json": "json",
    ".ndjson": "ndjson",
    ".jsonl": "ndjson",
    ".arrow": "arrow",
    ".arrows": "arrow",
    ".ipc": "arrow",
    ".feather": "arrow",
}
"""File kind by suffix; a compression suffix may follow the suffix of a text format."""
FILE_KINDS = tuple(dict.fromkeys(SUFFIXES.values()))
COMPRESSED_SUFFIXES = (".gz", ".zst", ".bz2", ".xz", ".zip")
UNDELIMITED_SUFFIXES = (".psv", ".dat", ".txt")
"""Text files whose name tells neither their kind nor their delimiter."""
TEXT_KINDS = ("csv", "tsv", "json", "ndjson", "text")
_TYPE_NAMES = (
    "bigint blob bool boolean char date decimal double float hugeint int integer interval json "
    "numeric real smallint string text time timestamp timestamp_ms timestamp_ns timestamp_s "
    "timestamptz tinyint ubigint uhugeint uinteger usmallint utinyint uuid varchar"
)
"""Types for the option `types` of text formats; `decimal` and `numeric` may have a precision and
scale."""
_TYPE = (
    rf"(?i)^({_TYPE_NAMES.replace(' ', '|')}|timestamp with time zone|"
    r"(decimal|numeric) ?\( ?\d+ ?(, ?\d+ ?)?\))\Z"
)
_Count = Annotated[int, Meta(ge=0)]
_Text = Annotated[str, Meta(pattern=r"^[^\0]*\Z")]
_Character = Annotated[str, Meta(pattern=r"^[\x00-\x7f]?\Z")]
_TimeFormat = Annotated[str, Meta(pattern="%-?[YyGxc]")]
"""Parts of formats of dates and times that give the year."""
_Types = dict[str, Annotated[str, Meta(pattern=_TYPE)]]
_TEXT_OPTIONS = {"encoding": str | dict[str, str], "types": _Types, "union_by_name": bool}
_CSV_OPTIONS = {
    "delim": Annotated[str, Meta(pattern=r'^(?!.*[\r\n"\0])(.|[\x01-\x7f]{1,4})\Z')],
    "header": bool,
    "skip": _Count,
    "names": list[_Text],
    "all_varchar": bool,
    "quote": _Character,
    "escape": _Character,
    "comment": _Character,
    "nullstr": str | list[_Text],
    "decimal_separator": Literal[".", ","],
    "thousands": _Character,
    "dateformat": _TimeFormat,
    "timestampformat": _TimeFormat,
    "strict_mode": bool,
    "null_padding": bool,
    "max_line_size": _Count,
    **_TEXT_OPTIONS,
}
_JSON_OPTIONS = {
    "records": bool | Literal["auto", "true", "false"],
    "format": Literal["auto", "array", "unstructured", "newline_delimited", "nd"],
    **_TEXT_OPTIONS,
}
OPTIONS: dict[str, dict[str, Any]] = {
    "parquet": {"union_by_name": bool},
    "csv": _CSV_OPTIONS,
    "tsv": _CSV_OPTIONS,
    "json": _JSON_OPTIONS,
    "ndjson": _JSON_OPTIONS,
    "xlsx": {
        "sheet": str,
        "range": str,
        "skip": _Count,
        "header": bool,
        "types": _Types,
        "all_varchar": bool,
    },
    "sqlite": {"text": bool},
    "postgresql": {"schemas": list[_Text], "numeric": Literal["decimal", "values", "double"]},
    "mysql": {"schemas": list[_Text]},
    "connection": {"state": str},
    "delta": {"version": int},
}
"""Options and their types by kind; other kinds take none."""
_HINTS = {
    "delim": "Use one character, such as ';' or '\\t'.",
    "dateformat": "It has to give the year, for example '%d.%m.%Y'.",
    "timestampformat": "It has to give the year, for example '%m/%d/%Y %H:%M'.",
    "types": "Use SQL types: options={'types': {'zip': 'VARCHAR'}}.",
    "decimal_separator": "It is '.' or ','.",
    "numeric": "It is 'decimal', 'values' or 'double'.",
    "format": "It is 'auto', 'array', 'unstructured', 'newline_delimited' or 'nd'.",
    "records": "It is 'auto', True or False.",
    "encoding": "Encodings are those of Python, such as utf-8, utf-16, cp1252 or shift_jis.",
    **dict.fromkeys(("quote", "escape", "comment", "thousands"), "Use one ASCII character or ''."),
}
ALIASES = {
    "delimiter": "delim",
    "sep": "delim",
    "separator": "delim",
    "null": "nullstr",
    "decimal": "decimal_separator",
}
"""Other words for options of CSV files."""
_ANCHORS_HINT = 'Use "auto", "content", "none" or "column:<name>".'


def kind_of_name(name: str) -> str | None:
    """The file kind by name, or None."""
    stem, suffix = os.path.splitext(name.lower())
    is_compressed = suffix in COMPRESSED_SUFFIXES
    kind = SUFFIXES.get(os.path.splitext(stem)[1] if is_compressed else suffix)
    return kind if not is_compressed or kind in TEXT_KINDS else None


def is_delimited(name: str, options: Mapping[str, Any]) -> bool:
    """Whether a name does not tell the kind of a text file, and the options name its delimiter."""
    return name.lower().endswith(UNDELIMITED_SUFFIXES) and any(
        ALIASES.get(option, option) == "delim" for option in options
    )


def is_skipped(name: str) -> bool:
    """Whether a folder source ignores a file or folder: hidden ones, and those of query engines
    (`_SUCCESS`, `_temporary`). Not a folder `_key=value`, which is a partition."""
    return name.startswith(".") or (name.startswith("_") and "=" not in name)


def names_of_kind(kind: str, names: Iterable[str]) -> list[str]:
    """The names with a suffix of this kind; if there are none, those without a known suffix."""
    all_names = list(names)
    matching = [name for name in all_names if kind_of_name(name) == kind]
    return matching or [name for name in all_names if kind_of_name(name) is None]


def partitions(path: str) -> dict[str, str]:
    """The values in the `key=value` folders of a path, by key, both as they are written. Raises
    SourceUnavailable for a key that occurs twice, of which DuckDB reads one value."""
    if "=" not in path:
        return {}
    parts = [each.partition("=") for each in os.path.dirname(path).split("/")]
    found = [(key, value) for key, sign, value in parts if key and sign and "=" not in value]
    if len({fold(key) for key, _ in found}) < len(found):
        raise SourceUnavailable(
            f"{os.path.basename(path)} lies in two folders of one key: "
            f"{'/'.join(map('='.join, found))}.",
            hint="Rename one of them.",
        )
    return dict(found)


def options_dict(options: object) -> dict[str, Any]:
    """The options as a dict. Raises InvalidArgument if they are not a mapping by name."""
    if options is None:
        return {}
    if not isinstance(options, Mapping) or not all(isinstance(name, str) for name in options):
        raise InvalidArgument(
            f"options must be a dict of values by name, got {type(options).__name__}.",
            hint='For example options={"delim": ";"}.',
        )
    return dict(options)


def _written_value(value: Any, kind: Any) -> Any:
    """The value that is meant by a text in a line such as `%jammi add … --option nullstr=NA,-`:
    JSON, or a list with commas. The text itself where the option may be one."""
    if kind is str and isinstance(value, list) and all(isinstance(each, str) for each in value):
        return ",".join(value)  # a cell splits at commas
    if not isinstance(value, str) or kind is str:
        return value
    if value.startswith(("[", "{")):
        with contextlib.suppress(ValueError, RecursionError):
            return json.loads(value)
    return [each.strip() for each in value.split(",")] if kind == list[_Text] else value


def check_options(
    kind: str, options: Mapping[str, Any], location_options: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The options in stored form. `location_options` are known besides those of the kind. Raises
    InvalidArgument for an unknown option, listing the known ones, and for a wrong value."""
    known = {
        **OPTIONS.get(kind, {}),
        **(location_options or {}),
        **({"files": list[_Text]} if kind in FILE_KINDS else {}),
    }
    is_csv = kind in ("csv", "tsv")
    checked = {}
    for given, value in options.items():
        name = ALIASES.get(given, given) if is_csv else given
        if name not in known:
            remember_typed_credentials(name)
            meant = answer_to("options", name)
            words = [*known, *ALIASES] if is_csv else known
            raise InvalidArgument(
                f"A source of kind {kind} has no option {name!r}.",
                near=[meant] if meant in known else near_names(name, words),
                hint=f"Its options are {', '.join(known)}." if known else "It takes no options.",
            )
        checked[name] = _checked_value(name, _written_value(value, known[name]), known[name])
    return checked


def _checked_value(name: str, value: Any, kind: Any) -> Any:
    """The value of an option as a JSON value. Raises InvalidArgument."""
    try:
        text = json.dumps(value, default=str, ensure_ascii=False)
        plain = msgspec.convert(json.loads(text), kind, strict=False)
        if name == "encoding":
            for encoding in plain.values() if isinstance(plain, dict) else [plain]:
                "".encode(encoding)
    except (LookupError, TypeError, ValueError) as error:
        is_secret = name in ("key", "secret", "token", "password")
        shown = f"of type {type(value).__name__}" if is_secret else repr(value)
        raise InvalidArgument(
            f"The option {name!r} cannot be {shown}.",
            hint=_HINTS.get(name, f"{str(error).partition(' - at')[0]}."),
        ) from None
    if has_surrogate(text):
        raise InvalidArgument("An option cannot contain a lone surrogate.")
    return plain


def check_anchor(anchor: str) -> str:
    """The anchor strategy, validated. Raises InvalidArgument unless it is auto, content, none or
    `column:<name>`."""
    if not isinstance(anchor, str):
        raise InvalidArgument(
            f"anchor must be a string, got {type(anchor).__name__}.", hint=_ANCHORS_HINT
        )
    if anchor in ("auto", "content", "none") or (
        anchor.startswith("column:") and len(anchor) > len("column:")
    ):
        return anchor
    raise InvalidArgument(f"Unknown anchor: {anchor!r}.", hint=_ANCHORS_HINT)
