"""File kinds: inference from names, options of each kind, anchor strategies."""

import codecs
import contextlib
import encodings.aliases
import json
import os
import re
from collections.abc import Iterable, Mapping
from typing import Any

from jammi_lab.core.errors import InvalidArgument
from jammi_lab.core.identifiers import has_surrogate, is_text, near_names
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
_MULTI_FILE_OPTIONS: dict[str, tuple[type, ...]] = {"union_by_name": (bool,)}
_TEXT_OPTIONS: dict[str, tuple[type, ...]] = {
    "encoding": (str, dict),
    "types": (dict,),
    **_MULTI_FILE_OPTIONS,
}
_CSV_OPTIONS: dict[str, tuple[type, ...]] = {
    "delim": (str,),
    "header": (bool,),
    "skip": (int,),
    "names": (list, tuple),
    "all_varchar": (bool,),
    "quote": (str,),
    "escape": (str,),
    "comment": (str,),
    "nullstr": (str, list, tuple),
    "decimal_separator": (str,),
    "thousands": (str,),
    "dateformat": (str,),
    "timestampformat": (str,),
    "strict_mode": (bool,),
    "null_padding": (bool,),
    "max_line_size": (int,),
    **_TEXT_OPTIONS,
}
_JSON_OPTIONS: dict[str, tuple[type, ...]] = {
    "records": (str, bool),
    "format": (str,),
    **_TEXT_OPTIONS,
}
OPTIONS: dict[str, dict[str, tuple[type, ...]]] = {
    "parquet": _MULTI_FILE_OPTIONS,
    "csv": _CSV_OPTIONS,
    "tsv": _CSV_OPTIONS,
    "json": _JSON_OPTIONS,
    "ndjson": _JSON_OPTIONS,
    "xlsx": {
        "sheet": (str,),
        "range": (str,),
        "skip": (int,),
        "header": (bool,),
        "types": (dict,),
        "all_varchar": (bool,),
    },
    "sqlite": {"text": (bool,)},
    "postgresql": {"schemas": (list, tuple), "numeric": (str,)},
    "mysql": {"schemas": (list, tuple)},
    "connection": {"state": (str,)},
    "delta": {"version": (int,)},
}
"""Options and their types by kind; other kinds take none."""
ALIASES = {
    "delimiter": "delim",
    "sep": "delim",
    "separator": "delim",
    "null": "nullstr",
    "decimal": "decimal_separator",
}
"""Other words for options of CSV files."""
_CHOICES = {
    "decimal_separator": (".", ","),
    "records": ("auto", "true", "false"),
    "numeric": ("decimal", "values", "double"),
    "format": ("auto", "array", "unstructured", "newline_delimited", "nd"),
}
_YEAR = re.compile(r"%-?[YyGxc]")
"""Parts of formats of dates and times that give the year."""
_ONE_CHARACTER = ("quote", "escape", "comment", "thousands")
_FLAG_VALUES = {"true": True, "false": False}
"""Values of flags in a line such as `%jammi add … --option header=false`."""
_TYPE_NAMES = frozenset(
    "bigint blob bool boolean char date decimal double float hugeint int integer interval json "
    "numeric real smallint string text time timestamp timestamp_ms timestamp_ns timestamp_s "
    "timestamptz tinyint ubigint uhugeint uinteger usmallint utinyint uuid varchar".split()
) | {"timestamp with time zone"}
"""Types for the option `types` of text formats; `decimal` and `numeric` may have a precision and
scale."""
_DECIMAL_TYPE = re.compile(r"(decimal|numeric) ?\( ?\d+ ?(, ?\d+ ?)?\)")
_TYPES_HINT = "Use an SQL type: options={'types': {'zip': 'VARCHAR'}}."
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
    """The values in the `key=value` folders of a path, by key, both as they are written."""
    if "=" not in path:
        return {}
    parts = [each.partition("=") for each in os.path.dirname(path).split("/")]
    return {key: value for key, sign, value in parts if key and sign and "=" not in value}


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


def _typed_value(value: Any, kinds: tuple[type, ...]) -> Any:
    """The value that is meant by a text in a line such as `%jammi add … --option header=false`: a
    flag, a number, JSON, or a list with commas. The text itself where the option may be one."""
    if isinstance(value, list) and kinds == (str,) and all(isinstance(each, str) for each in value):
        return ",".join(value)  # a cell splits at commas
    if not isinstance(value, str):
        return value
    if kinds == (bool,):
        return _FLAG_VALUES.get(value.casefold(), value)
    if kinds == (int,) and value.isdecimal():
        return int(value)
    if value.startswith(("[", "{")):
        with contextlib.suppress(ValueError, RecursionError):
            parsed = json.loads(value)
            return parsed if isinstance(parsed, kinds) else value
    if str in kinds or list not in kinds:
        return value
    return [each.strip() for each in value.split(",")]


def check_options(
    kind: str,
    options: Mapping[str, Any],
    location_options: Mapping[str, tuple[type, ...]] | None = None,
) -> dict[str, Any]:
    """The options in stored form. `location_options` are known besides those of the kind. Raises
    InvalidArgument for an unknown option, listing the known ones, and for a wrong type."""
    known = {
        **OPTIONS.get(kind, {}),
        **(location_options or {}),
        **({"files": (list,)} if kind in FILE_KINDS else {}),
    }
    if kind in ("csv", "tsv"):
        options = {ALIASES.get(name, name): value for name, value in options.items()}
    options = {name: _typed_value(value, known.get(name, ())) for name, value in options.items()}
    for name, value in options.items():
        if name not in known:
            remember_typed_credentials(name)
            hint = f"Its options are {', '.join(known)}." if known else "It takes no options."
            meant = answer_to("options", name)
            words = [*known, *ALIASES] if kind in ("csv", "tsv") else known
            raise InvalidArgument(
                f"A source of kind {kind} has no option {name!r}.",
                near=[meant] if meant in known else near_names(name, words),
                hint=hint,
            )
        if not isinstance(value, known[name]) or (known[name] == (int,) and value is True):
            shown = (
                "a " + type(value).__name__
                if name in ("key", "secret", "token", "password")
                else repr(value)
            )
            raise InvalidArgument(
                f"The option {name!r} must be of type {known[name][0].__name__}, got {shown}.",
                hint=_TYPES_HINT if name == "types" else "",
            )
    options = {
        name: list(value) if isinstance(value, tuple) else value for name, value in options.items()
    }
    text = json.dumps(options, default=str, skipkeys=True, ensure_ascii=False)
    if has_surrogate(text):
        raise InvalidArgument("An option cannot contain a lone surrogate.")
    _check_values(options)  # as given: JSON makes texts of other keys
    plain: dict[str, Any] = json.loads(text)  # no subclasses of str such as NumPy's
    return plain


def _check_values(options: Mapping[str, Any]) -> None:
    delimiter = options.get("delim")
    if delimiter is not None and (
        not 1 <= len(delimiter.encode()) <= 4 or set(delimiter) & set('\r\n"\0')
    ):
        raise InvalidArgument(
            f"{delimiter!r} is not a valid delimiter.",
            hint="Use one character, such as ';' or '\\t'.",
        )
    for name in _ONE_CHARACTER:
        if len(options.get(name, "").encode()) > 1:
            raise InvalidArgument(f"The option {name!r} must be one ASCII character or empty.")
    for name, choices in _CHOICES.items():
        if name in options and str(options[name]).lower() not in choices:
            raise InvalidArgument(
                f"The option {name!r} cannot be {options[name]!r}.",
                hint=f"Use one of {', '.join(map(repr, choices))}.",
            )
    for name in ("dateformat", "timestampformat"):
        if not _YEAR.search(options.get(name, "%Y")):
            raise InvalidArgument(
                f"The option {name!r} has no year: {options[name]!r}.",
                hint="For example '%d.%m.%Y', or '%m/%d/%Y %H:%M'.",
            )
    for name in ("skip", "max_line_size"):
        if options.get(name, 0) < 0:
            raise InvalidArgument(f"The option {name!r} must not be negative.")
    _check_encodings(options.get("encoding", "utf-8"))
    for name in ("nullstr", "names", "schemas", "files"):
        texts = options.get(name, [])
        if isinstance(texts, list) and not all(
            isinstance(text, str) and "\0" not in text for text in texts
        ):
            raise InvalidArgument(f"The option {name!r} must contain texts only.")
    for column, kind in options.get("types", {}).items():
        _check_type(column, kind)


def _check_encodings(encoding: str | dict[object, object]) -> None:
    for name in encoding.values() if isinstance(encoding, dict) else [encoding]:
        try:
            is_text = isinstance(name, str) and codecs.lookup(name)._is_text_encoding
        except (LookupError, ValueError):
            is_text = False
        if not is_text:
            raise InvalidArgument(
                f"Unknown encoding: {name!r}.",
                near=near_names(str(name), sorted(set(encodings.aliases.aliases.values()))),
                hint="Encodings are those of Python, such as utf-8, utf-16, cp1252 or shift_jis.",
            )


def _check_type(column: object, kind: object) -> None:
    if not isinstance(column, str) or not is_text(column):
        raise InvalidArgument(
            f"The option 'types' maps column names to types; {column!r} is not a name.",
            hint=_TYPES_HINT,
        )
    if not isinstance(kind, str) or not (
        kind.lower() in _TYPE_NAMES or _DECIMAL_TYPE.fullmatch(kind.lower())
    ):
        raise InvalidArgument(
            f"Unknown type {kind!r} for the column {column!r}.",
            near=near_names(str(kind).lower(), _TYPE_NAMES),
            hint=_TYPES_HINT,
        )


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
