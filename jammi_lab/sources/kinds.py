"""Kinds of files: how a name tells them, and which options each takes."""

import os
import re
from collections.abc import Iterable, Mapping
from typing import Any

from jammi_lab.errors import InvalidArgument
from jammi_lab.names import is_text, near
from jammi_lab.sources import addresses, table_formats

SUFFIXES = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".parq": "parquet",
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".json": "json",
    ".ndjson": "ndjson",
    ".jsonl": "ndjson",
    ".arrow": "arrow",
    ".arrows": "arrow",
    ".ipc": "arrow",
    ".feather": "arrow",
}
"""Kind of file by the end of its name; `.gz` and `.zst` may follow for texts."""
FILE_KINDS = tuple(dict.fromkeys(SUFFIXES.values()))
PACKED = (".gz", ".zst")
_TEXTS = ("csv", "tsv", "json", "ndjson")
_MANY: dict[str, tuple[type, ...]] = {"union_by_name": (bool,)}
_CSV = {"header": (bool,), "null": (str, list, tuple), "encoding": (str,), "types": (dict,), **_MANY}
OPTIONS: dict[str, dict[str, tuple[type, ...]]] = {
    "parquet": _MANY,
    "csv": {"delimiter": (str,), **_CSV},
    "tsv": {"delimiter": (str,), **_CSV},
    "json": _MANY,
    "ndjson": _MANY,
}
"""For each kind, its options and their types; kinds that are missing take none."""
_FLAGS = {"true": True, "false": False}
"""What a line such as `%jammi add … --option header=false` means."""
_TYPES = frozenset(
    """bigint blob bool boolean char date decimal double float hugeint int integer interval json numeric real smallint string text time timestamp
    timestamp_ms timestamp_ns timestamp_s timestamptz tinyint ubigint uhugeint uinteger usmallint utinyint uuid varchar""".split()
) | {"timestamp with time zone"}
"""What a column of a text can be said to be; `decimal` and `numeric` with precision and scale behind."""
_SCALED = re.compile(r"(decimal|numeric) ?\( ?\d+ ?(, ?\d+ ?)?\)")
_SAY_TYPES = "Name an SQL type for a column: options={'types': {'zip': 'VARCHAR'}}."
_SAY_ANCHORS = 'Use "auto", "content", "none" or "column:<name>".'
_ENCODINGS = ("utf-8", "utf-16", "latin-1")


def kind_of_name(name: str) -> str | None:
    """The kind of file that a name tells, or None."""
    stem, suffix = os.path.splitext(name.lower())
    packed = suffix in PACKED
    kind = SUFFIXES.get(os.path.splitext(stem)[1] if packed else suffix)
    return kind if not packed or kind in _TEXTS else None


def skipped(name: str) -> bool:
    """Whether a file or folder inside a folder source is left out: hidden ones, and what engines put beside data (`_SUCCESS`, `_metadata`)."""
    return name.startswith(".") or (name.startswith("_") and kind_of_name(name) is None)


def of_kind(kind: str, names: Iterable[str]) -> list[str]:
    """The names whose ending tells this kind; when none does, those whose ending tells no kind at all."""
    every = list(names)
    said = [name for name in every if kind_of_name(name) == kind]
    return said or [name for name in every if kind_of_name(name) is None]


def mapped(options: object) -> dict[str, Any]:
    """The options as they were typed, none for None. InvalidArgument for what is no dict of values by name."""
    if options is None:
        return {}
    if not isinstance(options, Mapping) or not all(isinstance(name, str) for name in options):
        raise InvalidArgument(f"options is a dict of values by name, not {type(options).__name__}.", hint='Write options={"delimiter": ";"}.')
    return dict(options)


def check_options(kind: str, options: Mapping[str, Any], place: Mapping[str, tuple[type, ...]] | None = None) -> dict[str, Any]:
    """The options as they are stored; `place` are those of where the files are. InvalidArgument for one that the kind does not know, listing those it
    does, or of a wrong type."""
    known = {**(OPTIONS.get(kind) or addresses.OPTIONS.get(kind) or table_formats.OPTIONS.get(kind, {})), **(place or {})}
    options = {name: _FLAGS.get(value, value) if known.get(name) == (bool,) and isinstance(value, str) else value for name, value in options.items()}
    for name, value in options.items():
        if name not in known:
            said = f"It knows {', '.join(known)}." if known else "It takes none."
            raise InvalidArgument(f"A source of kind {kind} has no option {name!r}.", near=near(name, known), hint=said)
        if not isinstance(value, known[name]):
            shown = "a " + type(value).__name__ if name in ("key", "secret", "token", "password") else repr(value)
            raise InvalidArgument(f"The option {name!r} takes {known[name][0].__name__}, not {shown}.")
    checked = {name: list(value) if isinstance(value, tuple) else value for name, value in options.items()}
    _check_csv(checked)
    _check_database(checked)
    return checked


def _check_database(options: Mapping[str, Any]) -> None:
    schemas = options.get("schemas")
    if schemas is not None and (not schemas or not all(isinstance(name, str) and name for name in schemas)):
        raise InvalidArgument("The option 'schemas' takes a list of names.")
    if options.get("numeric", "text") not in ("text", "double"):
        raise InvalidArgument("The option 'numeric' is 'text' or 'double'.")


def _check_csv(options: Mapping[str, Any]) -> None:
    delimiter = options.get("delimiter")
    if delimiter is not None and (not 1 <= len(delimiter.encode()) <= 4 or set(delimiter) & set('\r\n"\0')):
        raise InvalidArgument(f"{delimiter!r} cannot be a delimiter.", hint="Give one character, such as ';' or '\\t'.")
    encoding = options.get("encoding")
    if encoding is not None and encoding.lower() not in _ENCODINGS:
        raise InvalidArgument(f"The encoding {encoding!r} is not known.", near=near(encoding, _ENCODINGS), hint=f"Known are {', '.join(_ENCODINGS)}.")
    null = options.get("null")
    if isinstance(null, list) and not all(isinstance(text, str) for text in null):
        raise InvalidArgument("The option 'null' takes a text or a list of texts.")
    for column, kind in options.get("types", {}).items():
        _check_type(column, kind)


def _check_type(column: object, kind: object) -> None:
    if not isinstance(column, str) or not is_text(column):
        raise InvalidArgument(f"The option 'types' takes columns and their types, not {column!r}.", hint=_SAY_TYPES)
    if not isinstance(kind, str) or not (kind.lower() in _TYPES or _SCALED.fullmatch(kind.lower())):
        raise InvalidArgument(f"The column {column!r} cannot be read as {kind!r}.", near=near(str(kind).lower(), _TYPES), hint=_SAY_TYPES)


def check_anchor(anchor: str) -> str:
    """The anchor strategy as given. InvalidArgument for none of auto, content, none, `column:<name>`."""
    if not isinstance(anchor, str):
        raise InvalidArgument(f"An anchor is a text, not a value of type {type(anchor).__name__}.", hint=_SAY_ANCHORS)
    if anchor in ("auto", "content", "none") or (anchor.startswith("column:") and len(anchor) > len("column:")):
        return anchor
    raise InvalidArgument(f"There is no anchor {anchor!r}.", hint=_SAY_ANCHORS)
