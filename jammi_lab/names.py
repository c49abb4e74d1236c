"""Names: which ones are allowed, when two are the same, how they are quoted, and what files are called."""

import datetime
import difflib
import re
import unicodedata
from collections.abc import Iterable

from jammi_lab.clock import Clock
from jammi_lab.errors import InvalidArgument, NameInvalid, NameTooLong

MAX_NAME = 200
RESERVED_SOURCES = frozenset(
    {"main", "memory", "temp", "system", "jammi", "jammi_catalog", "mutable", "topics", "public", "information_schema", "pg_catalog"}
)
_UNSAFE = re.compile(r"[^A-Za-z0-9_-]")
_HALF = re.compile("[\ud800-\udfff]")
_BARE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_RESERVED_WORDS = frozenset(
    """all analyse analyze and anti any array as asc asof asymmetric at authorization binary both by case cast check collate collation column
    concurrently constraint create cross default deferrable desc describe distinct do else end except false fetch for foreign freeze from full glob
    group having ilike in initially inner intersect into is isnull join lambda lateral leading left like limit natural not notnull null offset on only
    or order outer overlaps pivot pivot_longer pivot_wider placing positional primary qualify references returning right select semi show similar
    some summarize symmetric table tablesample then to trailing true union unique unpack unpivot using variadic verbose when where window
    with""".split()
)
"""Words that the pinned DuckDB does not read as a name where a name begins."""
_FAMILIES = ("jammi", "jammi_catalog", "mutable", "topics")


def fold(name: str) -> str:
    """Names with one fold are the same name: Unicode form and case do not count. InvalidArgument for what is no text."""
    if not isinstance(name, str):
        own = getattr(name, "name", None)
        hint = f"Give its name: {own!r}." if isinstance(own, str) else ""
        raise InvalidArgument(f"A name is a text, not a value of type {type(name).__name__}.", hint=hint)
    folded = unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())
    return _HALF.sub("\ufffe", folded)  # half a character is in no name, and no database can be asked for it


def is_text(text: str) -> bool:
    """Whether SQL, a path and a file can hold it: there is no NUL in it and no half of a character."""
    return "\0" not in text and not has_half(text)


def has_half(text: str) -> bool:
    """Whether there is half of a character in it, which UTF-8 cannot write."""
    return _HALF.search(text) is not None


def ascii_lower(name: str) -> str:
    """The name as DuckDB compares it: only A–Z lose their case."""
    return name.lower() if name.isascii() else "".join(chr(ord(c) + 32) if "A" <= c <= "Z" else c for c in name)


def quote(identifier: str) -> str:
    """The SQL form of any identifier. NameInvalid for the empty one and for NUL."""
    if not identifier or "\0" in identifier:
        raise NameInvalid("An SQL name cannot be empty or hold a NUL character.", name=identifier)
    return '"' + identifier.replace('"', '""') + '"'


def written(*parts: str) -> str:
    """A name as SQL reads it, quoted only where it must be: `crm."my table"`."""
    first, *rest = parts
    bare = _BARE.fullmatch(first) and first.lower() not in _RESERVED_WORDS
    return ".".join([first if bare else quote(first), *(part if _BARE.fullmatch(part) else quote(part) for part in rest)])


class Written(str):
    """A name that is listed as SQL reads it."""

    __slots__ = ()


def pasteable(name: str) -> str:
    """The same of a name as it is listed: a source's, or one of ours behind its family, `jammi."my table"`."""
    if isinstance(name, Written):
        return name
    family, dot, rest = name.partition(".")
    return written(family, rest) if dot and rest and family in _FAMILIES else written(name)


def literal(text: str) -> str:
    """The SQL form of a text value. NameInvalid for NUL, which SQL text cannot hold."""
    if "\0" in text:
        raise NameInvalid("An SQL text cannot hold a NUL character.", name=text)
    return "'" + text.replace("'", "''") + "'"


def check_name(name: str, what: str) -> str:
    """The name as given, when a recipe or source may be called so.

    Any Unicode text without control characters and of at most 200 characters may. Raises NameInvalid, NameTooLong.
    """
    if not isinstance(name, str):
        raise NameInvalid(f"The name of a {what} is a text, not a value of type {type(name).__name__}.", name=str(name))
    if not name.strip():
        raise NameInvalid(f"A {what} needs a name that is not empty.", name=name)
    if len(name) > MAX_NAME:
        raise NameTooLong(name, MAX_NAME)
    if any(unicodedata.category(c) in ("Cc", "Cs") for c in name):
        raise NameInvalid(f"The {what} name {name!r} holds a control character; use visible characters.", name=name)
    return name


def check_recipe_name(name: str) -> str:
    """Like `check_name`, and not what SQL calls a recipe, which would lead to another one. NameInvalid, NameTooLong."""
    check_name(name, "recipe")
    if fold(name).startswith("jammi."):
        meant = name.partition(".")[2]
        raise NameInvalid(f"A recipe cannot be called {name!r}: that is what SQL calls the recipe {meant!r}.", name=name, hint="Leave out `jammi.`.")
    return name


def check_source_name(name: str) -> str:
    """Like `check_name`, and not one of the names that SQL in a workspace already gives a meaning. NameInvalid, NameTooLong."""
    check_name(name, "source")
    if fold(name) in RESERVED_SOURCES or fold(name).startswith(("__jammi", "jammi.")):
        raise NameInvalid(f"A source cannot be called {name!r}: SQL in a workspace already uses that name.", name=name, hint="Choose another name.")
    return name


def near(name: str, known: Iterable[str], most: int = 3) -> list[str]:
    """Up to `most` known names that `name` may have been meant to be, nearest first: not itself, which may have come since it was looked for."""
    by_fold = {fold(k): k for k in known if k != name}
    wanted = fold(name)
    same = [f for f in by_fold if f.endswith(f".{wanted}") or wanted.endswith(f".{f}")]  # only jammi. is missing, or too much
    return [by_fold[f] for f in same[:most] or difflib.get_close_matches(wanted, by_fold, most, 0.6)]


def physical_name(source: str, kind: str, model: str | None, clock: Clock) -> str:
    """A new table's file name without ending: `{source}__{kind}__{model}__{UTC time to ns}_{8 hex}`, only `[A-Za-z0-9_-]`, so that it cannot
    leave its folder, act as a glob or be cut at a dot. (Shape of the seed's result store; never parsed back.)"""
    ns = clock.now_ns()
    moment = datetime.datetime.fromtimestamp(ns // 1_000_000_000, datetime.UTC).strftime("%Y%m%dT%H%M%S")
    parts = [_UNSAFE.sub("_", source)[:64], kind] + ([_UNSAFE.sub("_", model)[:64]] if model else [])
    return "__".join([*parts, f"{moment}{ns % 1_000_000_000:09d}_{clock.token(8)}"])
