"""Names: validation, case folding, SQL quoting, suggestions for misspellings, and physical file
names."""

import datetime
import operator
import re
import unicodedata
from collections.abc import Iterable
from typing import Any, TypeVar

from jammi_lab.core.clock import Clock
from jammi_lab.core.errors import InvalidArgument, NameInvalid, NameTooLong
from jammi_lab.core.suggestions import close_matches

T = TypeVar("T")
MAX_NAME_LENGTH = 200
_MIN_PART_LENGTH = 5
"""A known name of so many letters is meant by one that contains it."""
MAX_LISTED_NAMES = 8
"""Names that a message lists when none is near."""
RESERVED_SOURCES = frozenset(
    {
        "main",
        "memory",
        "temp",
        "system",
        "jammi",
        "jammi_catalog",
        "mutable",
        "topics",
        "public",
        "information_schema",
        "pg_catalog",
    }
)
_UNSAFE_CHARACTERS = re.compile(r"[^A-Za-z0-9_-]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_STATEMENT = re.compile(r"\s*(select\s.*\s(from|as)|from\s+\S+\s+select)\s", re.I | re.S)
_BARE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_RESERVED_WORDS = frozenset(
    """all analyse analyze and anti any array as asc asof asymmetric at authorization binary both
    by case cast check collate collation column concurrently constraint create cross default
    deferrable desc describe distinct do else end except false fetch for foreign freeze from full
    glob group having ilike in initially inner intersect into is isnull join lambda lateral leading
    left like limit natural not notnull null offset on only or order outer overlaps pivot
    pivot_longer pivot_wider placing positional primary qualify references returning right select
    semi show similar some summarize symmetric table tablesample then to trailing true union unique
    unpack unpivot using variadic verbose when where window with""".split()
)
"""Words that the pinned DuckDB does not accept as an identifier where a name begins."""
_OWN_SCHEMAS = ("jammi", "jammi_catalog", "mutable", "topics")


def fold(name: str) -> str:
    """The comparison key of a name: two names are the same if their Unicode normal form without
    case is equal. Raises InvalidArgument for a value that is not a string."""
    if not isinstance(name, str):
        attribute = getattr(name, "name", None)
        hint = f"Pass its name: {attribute!r}." if isinstance(attribute, str) else ""
        raise InvalidArgument(f"A name must be a string, got {type(name).__name__}.", hint=hint)
    if name.isascii():  # nearly all names; the rest of this takes six times as long
        return name.lower()
    # Normalised twice, because `casefold` can produce a text that is not in normal form.
    folded = unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())
    # No stored name contains an unpaired surrogate, and no database driver can encode one.
    return _SURROGATE.sub("\ufffe", folded)


def is_text(text: str) -> bool:
    """Whether SQL, a path and a file can hold the text: it contains neither NUL nor an unpaired
    surrogate."""
    return "\0" not in text and not has_surrogate(text)


def has_surrogate(text: str) -> bool:
    """Whether the text contains an unpaired surrogate, which UTF-8 cannot encode."""
    return _SURROGATE.search(text) is not None


def ascii_lower(name: str) -> str:
    """The name as DuckDB compares it: only A–Z are lowercased."""
    return (
        name.lower()
        if name.isascii()
        else "".join(chr(ord(c) + 32) if "A" <= c <= "Z" else c for c in name)
    )


def unique_names(names: Iterable[str]) -> list[str]:
    """Names that are unique without regard to case: `A` beside `a` becomes `A_1`, as DuckDB itself
    would rename it."""
    unique = []
    next_suffix: dict[str, int] = {}
    for name in names:
        lower_name, new_name = ascii_lower(name), name
        while ascii_lower(new_name) in next_suffix:  # taken by a column or an earlier new name
            new_name = f"{name}_{next_suffix[lower_name]}"
            next_suffix[lower_name] += ascii_lower(new_name) in next_suffix
        next_suffix[ascii_lower(new_name)] = 1
        unique.append(new_name)
    return unique


def quote_identifier(identifier: str) -> str:
    """The quoted SQL form of an identifier. Raises NameInvalid for an empty one and for NUL."""
    if not identifier or "\0" in identifier:
        raise NameInvalid(
            "An SQL name cannot be empty or contain a NUL character.", name=identifier
        )
    return '"' + identifier.replace('"', '""') + '"'


def quoted_name(*parts: str) -> str:
    """A dotted SQL name, quoted only where necessary: `crm."my table"`."""
    head, *tail = parts
    bare = _BARE_NAME.fullmatch(head) and head.lower() not in _RESERVED_WORDS
    return ".".join(
        [
            head if bare else quote_identifier(head),
            *(part if _BARE_NAME.fullmatch(part) else quote_identifier(part) for part in tail),
        ]
    )


class QuotedName(str):
    """A name that is already quoted for SQL."""

    __slots__ = ()


def copyable_name(name: str) -> str:
    """A listed name, quoted so that it can be pasted into SQL: a source, or one of our tables with
    its schema, `jammi."my table"`."""
    if isinstance(name, QuotedName):
        return name
    schema, _, table = name.partition(".")
    if table and schema in _OWN_SCHEMAS:
        return quoted_name(schema, table)
    return quoted_name(name)


def sql_literal(text: str) -> str:
    """The SQL literal of a string. Raises NameInvalid for what SQL cannot hold."""
    if not is_text(text):
        raise NameInvalid(
            "An SQL text cannot contain a NUL character or a lone surrogate.", name=text
        )
    return "'" + text.replace("'", "''") + "'"


def check_name(name: str, kind: str) -> str:
    """Return the name if a recipe or source may have it.

    Any Unicode text of at most 200 characters without control characters is allowed. Raises
    NameInvalid, NameTooLong; InvalidArgument for a value that is not a string.
    """
    if not fold(name).strip():
        raise NameInvalid(f"The name of a {kind} must not be empty.", name=name)
    if len(name) > MAX_NAME_LENGTH:
        raise NameTooLong(name, MAX_NAME_LENGTH)
    if any(unicodedata.category(c) in ("Cc", "Cs") for c in name):
        raise NameInvalid(
            f"The {kind} name {name!r} contains a control character; use visible characters.",
            name=name,
        )
    return name


def check_recipe_name(name: str) -> str:
    """Like `check_name`, and reject the SQL name of another recipe (`jammi.…`). Raises NameInvalid,
    NameTooLong."""
    check_name(name, "recipe")
    if _STATEMENT.match(name):
        raise NameInvalid(
            "The name of a recipe comes first, its statement second, and this name is SQL.",
            name=name,
            hint="Write ws.materialize('name', 'SELECT …').",
        )
    if fold(name).startswith("jammi."):
        recipe = name.partition(".")[2]
        raise NameInvalid(
            f"A recipe cannot be named {name!r}: in SQL, that is the recipe {recipe!r}.",
            name=name,
            hint="Omit `jammi.`.",
        )
    return name


def check_source_name(name: str) -> str:
    """Like `check_name`, and reject names that SQL in a workspace reserves. Raises NameInvalid,
    NameTooLong."""
    check_name(name, "source")
    if fold(name) in RESERVED_SOURCES or fold(name).startswith(("__jammi", "jammi.")):
        raise NameInvalid(
            f"A source cannot be named {name!r}: SQL in a workspace reserves that name.",
            name=name,
            hint="Choose another name.",
        )
    return name


def near_names(name: str, candidates: Iterable[str], limit: int = 3) -> list[str]:
    """Up to `limit` known names similar to `name`, nearest first. `name` itself is left out: it may
    have been created since the look-up failed."""
    by_fold = {fold(k): k for k in candidates if k != name}
    target = fold(name)
    # A missing or superfluous schema prefix, such as `jammi.`, is the likeliest mistake.
    suffix_matches = [f for f in by_fold if f.endswith(f".{target}") or target.endswith(f".{f}")]
    # Both the prefix missing and a slip: the bar is higher, since all prefixes are alike.
    return [
        by_fold[f]
        for f in suffix_matches[:limit]
        or close_matches(target, by_fold, limit, 0.6)
        or close_matches(f"jammi.{target}", by_fold, limit, 0.8)
        or [f for f in by_fold if len(f) >= _MIN_PART_LENGTH and f in target][:limit]
    ]


def near_or_all(name: str, names: Iterable[str], listed: str = "Its columns are") -> dict[str, Any]:
    """What the error of a name that is none of these says of them, as its `near` and `hint`: those
    that are similar, else all, the first of many."""
    known = list(names)
    near = near_names(name, known)
    if near or not known:
        return {"near": near, "hint": ""}
    more = " …" if known[MAX_LISTED_NAMES:] else ""
    return {"near": (), "hint": f"{listed} {', '.join(known[:MAX_LISTED_NAMES])}{more}."}


def find_name(name: str, names: Iterable[str]) -> str | None:
    """The one of these names that is meant: as it is written, else without regard to case."""
    known = list(names)
    if name in known:
        return name
    return next((each for each in known if fold(each) == fold(name)), None)


def check_choice(name: str, value: object, choices: Iterable[str], hint: str = "") -> None:
    """Raise InvalidArgument, with near ones, unless the value is one of the choices."""
    known = list(choices)
    if value not in known:
        *others, last = (f'"{each}"' for each in known)
        raise InvalidArgument(
            f"{name} must be {', '.join(others)} or {last}, got {value!r}.",
            near=near_names(str(value), known),
            hint=hint,
        )


def check_count(argument: str, number: object, least: int = 0, hint: str = "") -> int:
    """A whole number as a Python integer. Raises InvalidArgument unless it is at least `least`."""
    if not isinstance(number, bool) and hasattr(number, "__index__"):
        count: int = operator.index(number)
        if count >= least:
            return count
    raise InvalidArgument(
        f"{argument} must be an integer of at least {least}, got {number!r}.", hint=hint
    )


def near_tables(name: str, candidates: Iterable[str]) -> list[str]:
    """Like `near_names`, for tables: those of a schema are not similar by its name alone, and those
    of other schemas with the same name come first."""
    last = fold(name).rpartition(".")[2]
    last_of = {each: fold(each).rpartition(".")[2] for each in candidates}
    if "." not in name or not last:
        return near_names(name, last_of)
    if namesakes := [each for each, part in last_of.items() if part == last]:
        return namesakes[:3]
    similar = close_matches(last, last_of.values(), len(last_of) or 1, 0.6)
    return near_names(name, [each for each, part in last_of.items() if part in similar])


def physical_name(source: str, kind: str, model: str | None, clock: Clock) -> str:
    """The file name, without suffix, of a new table: `{source}__{kind}__{model}__{UTC time to
    ns}_{8 hex}`.

    It consists of `[A-Za-z0-9_-]` only, so that it cannot leave its folder, act as a glob or be cut
    at a dot. It is never parsed.
    """
    ns = clock.now_ns()
    moment = datetime.datetime.fromtimestamp(ns // 1_000_000_000, datetime.UTC).strftime(
        "%Y%m%dT%H%M%S"
    )
    # Cut to 64 characters each, so that the name with its suffix fits into the 255 bytes of a
    # file name.
    parts = [_UNSAFE_CHARACTERS.sub("_", source)[:64], kind] + (
        [_UNSAFE_CHARACTERS.sub("_", model)[:64]] if model else []
    )
    return "__".join([*parts, f"{moment}{ns % 1_000_000_000:09d}_{clock.token(8)}"])


def list_of_names(names: str | Iterable[T] | None) -> list[T | str]:
    """Names as a list: one name, several, or none. InvalidArgument for other types."""
    if not isinstance(names, str | Iterable | None) or hasattr(names, "__arrow_c_stream__"):
        fold(names)  # type: ignore[arg-type]  # raises
    if names is None or isinstance(names, str):
        return [] if names is None else [names]
    return [*names]


def unused_name(name: str, columns: Iterable[str]) -> str:
    """A table alias that equals no column name."""
    used = {fold(c) for c in columns}
    while name in used:
        name += "_"
    return name
