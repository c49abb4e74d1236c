"""From names in FROM to relations, through what the rooms above registered."""

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from jammi_lab import names
from jammi_lab.engine.calls import Call
from jammi_lab.engine.gate import Named, offset_in
from jammi_lab.engine.statements import Parsed
from jammi_lab.errors import JammiError, SourceUnavailable, StatementNotAllowed, TableNotFound
from jammi_lab.names import ascii_lower
from jammi_lab.sources.base import Relation

Found = dict[tuple[str, ...], Relation]
"""What each name, as it was typed, stands for."""

_FILE_ENDINGS = (
    ".parquet",
    ".csv",
    ".tsv",
    ".json",
    ".ndjson",
    ".jsonl",
    ".arrow",
    ".feather",
    ".ipc",
    ".xlsx",
    ".db",
    ".duckdb",
    ".sqlite",
    ".gz",
    ".zst",
)
_CATALOGS = frozenset({"system", "temp", "memory", "main", "pg_catalog"})


class Provider(Protocol):
    """One family of names that SQL can read."""

    def resolve(self, parts: tuple[str, ...]) -> Relation | None:
        """What a name, given as typed, stands for; None when it is not of this family or not there. Compare by `names.fold`."""
        ...

    def names(self) -> Iterable[str]:
        """The names that there are, as a person would type them: for near names and completion."""
        ...


@runtime_checkable
class Caller(Protocol):
    """A provider that also answers table functions."""

    def call(self, function: str, arguments: tuple[Any, ...]) -> Relation | None:
        """What a call stands for; None when the function is not its own. TableNotFound for what is not there; InvalidArgument, SchemaMismatch."""
        ...


@runtime_checkable
class Ahead(Provider, Protocol):
    """A provider that has begun to ask for names."""

    def close(self) -> None:
        """Whatever of it nobody asked for is not wanted."""
        ...


@runtime_checkable
class Foreseeing(Provider, Protocol):
    """A provider that can ask for several names at once."""

    def foresee(self, names: Sequence[tuple[str, ...]], supposing: bool) -> Ahead | None:
        """Who answers for these names from now on, having begun to ask; None when there is nothing to gain. Raises nothing of sources. `supposing`:
        its relations may be supposed ones (`Relation.supposed`)."""
        ...


def resolve(parsed: Parsed, providers: Sequence[Provider], values: Mapping[str, Any], *, supposing: bool = False) -> Found:
    """The relation of every name that a statement reads; the first provider that knows a name has it. `values`: those of its parameters; `supposing`:
    relations may be supposed ones.

    TableNotFound, StatementNotAllowed; InvalidArgument, and what a provider raises, for a call.
    """
    found: Found = {}
    seen: dict[tuple[str, ...], Relation] = {}
    with contextlib.ExitStack() as stack:
        providers = [*(stack.enter_context(contextlib.closing(ahead)) for ahead in _foreseen(parsed, providers, supposing)), *providers]
        for named in parsed.reading.tables:
            same = tuple(ascii_lower(p) for p in named.parts)
            if same not in seen:
                seen[same] = _one(named, parsed, providers, values)
                found[named.parts] = seen[same]
    return found


def _foreseen(parsed: Parsed, providers: Sequence[Provider], supposing: bool) -> Iterator[Ahead]:
    """Those that have begun to ask for what a statement reads, if it reads more than one table or may suppose."""
    asked = {parsed.addresses.get(at, named.parts): None for named in parsed.reading.tables for at in [_at(named)] if at not in parsed.calls}
    if len(asked) > 1 or (asked and supposing):
        for provider in providers:
            if isinstance(provider, Foreseeing) and (ahead := provider.foresee(list(asked), supposing)) is not None:
                yield ahead


def _at(named: Named) -> tuple[str, str]:
    """How calls and addresses are known."""
    return ascii_lower(named.parts[0]), ascii_lower(named.parts[-1])


def known_names(providers: Iterable[Provider]) -> list[str]:
    """All names, sorted, each once."""
    by_fold: dict[str, str] = {}
    for provider in providers:
        for name in provider.names():
            by_fold.setdefault(names.fold(name), name)
    return sorted(by_fold.values())


def _one(named: Named, parsed: Parsed, providers: Sequence[Provider], values: Mapping[str, Any]) -> Relation:
    relation = None
    if (call := parsed.calls.get(_at(named))) is not None:
        return _called(call, named, parsed, providers, values)
    address = parsed.addresses.get(_at(named))
    try:
        if not (len(named.parts) > 1 and names.fold(named.parts[0]) in _CATALOGS):
            relation = next((r for p in providers if (r := p.resolve(named.parts)) is not None), None)
        if address is not None:
            relation = next((r for p in providers if (r := p.resolve(address)) is not None), None)
            named = Named(address, named.at)
    except (SourceUnavailable, StatementNotAllowed, TableNotFound) as error:  # a provider knows the name, and why nothing is read by it
        raise placed(error, named, parsed) from error.__cause__
    if relation is not None and (address is not None or len(named.parts) <= 2):
        return relation
    raise placed(_missing(named, providers), named, parsed)


def _called(call: Call, named: Named, parsed: Parsed, providers: Sequence[Provider], values: Mapping[str, Any]) -> Relation:
    try:
        call = call.bound(values)
        for provider in providers:
            if isinstance(provider, Caller) and (relation := provider.call(call.function, call.arguments)) is not None:
                return relation
    except JammiError as error:
        raise placed(error, named, parsed) from error.__cause__
    raise placed(StatementNotAllowed(f"{call.function}() cannot be read from here.", hint=_as_source(call)), named, parsed)


def placed(error: JammiError, named: Named, parsed: Parsed) -> JammiError:
    """The same error with the place of a name in what the person wrote."""
    at = offset_in(parsed.probe, named.at)
    return error.at(parsed.whole, None if at is None else parsed.offset + parsed.probe_offset + at)


def _missing(named: Named, providers: Sequence[Provider]) -> JammiError:
    name = ".".join(named.parts)
    last = named.parts[-1]
    if len(named.parts) == 1 and ("/" in last or "\\" in last or "*" in last or last.lower().endswith(_FILE_ENDINGS)):
        return StatementNotAllowed("A path cannot be read from directly.", hint=f"Add it as a source: ws.sources.add('name', {_shortened(last)!r}).")
    if names.fold(named.parts[0]) in ("information_schema", "pg_catalog"):
        return StatementNotAllowed(f"{named.parts[0]} is not part of a workspace.", hint="Write SHOW TABLES, or DESCRIBE <table>.")
    near = [names.pasteable(each) for each in names.near(name, known_names(providers))]
    return TableNotFound(f"There is no table {_shortened(name)}.", near=near, hint="" if near else "SHOW TABLES lists what FROM can name.")


def _as_source(call: Call) -> str:
    files = call.function.startswith("read_")
    return f"Add the file as a source: ws.sources.add('name', {_shortened(call.arguments[0])!r})." if files else ""


def _shortened(name: str) -> str:
    return name if len(name) <= 80 else f"{name[:77]}…"
