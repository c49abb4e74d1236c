"""Name resolution: names in FROM to relations, through the registered resolvers."""

import functools
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, ClassVar

from jammi_lab.core import identifiers
from jammi_lab.core.errors import JammiError, SourceUnavailable, StatementNotAllowed, TableNotFound
from jammi_lab.core.identifiers import ascii_lower
from jammi_lab.engine.sql.allowlist import TableRef, character_offset
from jammi_lab.engine.sql.parse import ParsedStatement
from jammi_lab.engine.sql.table_functions import FunctionCall
from jammi_lab.sources.base import Relation

ResolvedNames = dict[tuple[str, ...], Relation]
"""The relation of each name, by its parts as typed."""

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
    ".xls",
    ".ods",
    ".db",
    ".duckdb",
    ".sqlite",
    ".gz",
    ".zst",
)
_CATALOGS = frozenset({"system", "temp", "memory", "main", "pg_catalog"})


class NameResolver:
    """A resolver for one kind of name in FROM; this one knows none."""

    schema: ClassVar[str] = ""
    """The schema of its names, folded; empty where they may be in any."""

    def resolve(self, parts: tuple[str, ...]) -> Relation | None:  # noqa: ARG002
        """The relation of a name, given as typed; None when the name is unknown or of another kind.
        Names are compared by `names.fold`."""
        return None

    def names(self) -> Iterable[str]:
        """The existing names, as a user would type them, for near names and completion."""
        return ()

    def call(self, function: str, arguments: tuple[Any, ...]) -> Relation | None:  # noqa: ARG002
        """The relation of a call of a table function; None when the function is not its own. Raises
        TableNotFound, InvalidArgument, SchemaMismatch."""
        return None


class FixedNames(NameResolver):
    """Resolves a few reserved names of one part, which are not suggested."""

    def __init__(self, relations: Mapping[str, Relation]) -> None:
        self._relations = relations

    def resolve(self, parts: tuple[str, ...]) -> Relation | None:
        """The relation of a name, when it is one of them."""
        return self._relations.get(parts[0]) if len(parts) == 1 else None


class DeferredResolver(NameResolver):
    """A resolver that is built with the first name that may be its own."""

    def __init__(
        self,
        build: Callable[[], NameResolver],
        *,
        schema: str | None = None,
        functions: Collection[str] = (),
    ) -> None:
        """`build`: the resolver of `<schema>.<name>`, and of calls of these functions."""
        self._build, self._schema, self._functions = build, schema, functions

    @functools.cached_property
    def _resolver(self) -> NameResolver:
        return self._build()

    def resolve(self, parts: tuple[str, ...]) -> Relation | None:
        """The relation of a name in the schema; None for any other name."""
        if len(parts) != 2 or identifiers.fold(parts[0]) != self._schema:
            return None
        return self._resolver.resolve(parts)

    def names(self) -> Iterable[str]:
        """The names in the schema."""
        return [] if self._schema is None else self._resolver.names()

    def call(self, function: str, arguments: tuple[Any, ...]) -> Relation | None:
        """The relation of a call; None for another function. Raises what the resolver raises."""
        return self._resolver.call(function, arguments) if function in self._functions else None


def resolve(
    parsed: ParsedStatement, resolvers: Sequence[NameResolver], values: Mapping[str, Any]
) -> ResolvedNames:
    """The relation of every name that a statement reads; the first resolver that knows a name wins.
    `values` are the values of its parameters.

    Raises TableNotFound, StatementNotAllowed; for a call also InvalidArgument and the resolver's
    errors.
    """
    relations: ResolvedNames = {}
    by_folded_name: dict[tuple[str, ...], Relation] = {}
    for table in parsed.reads.tables:
        folded = tuple(ascii_lower(p) for p in table.parts)
        if folded not in by_folded_name:
            by_folded_name[folded] = _resolve_table(table, parsed, resolvers, values)
            relations[table.parts] = by_folded_name[folded]
    return relations


def known_names(resolvers: Iterable[NameResolver]) -> list[str]:
    """All names, sorted, each once."""
    by_fold: dict[str, str] = {}
    for provider in resolvers:
        for name in provider.names():
            by_fold.setdefault(identifiers.fold(name), name)
    return sorted(by_fold.values())


def _resolve_table(
    table: TableRef,
    parsed: ParsedStatement,
    resolvers: Sequence[NameResolver],
    values: Mapping[str, Any],
) -> Relation:
    relation = None
    address = parsed.replaced.get((ascii_lower(table.parts[0]), ascii_lower(table.parts[-1])))
    if isinstance(address, FunctionCall):
        return _resolve_call(address, table, parsed, resolvers, values)
    try:
        if not (len(table.parts) > 1 and identifiers.fold(table.parts[0]) in _CATALOGS):
            relation = _find_relation(table.parts, resolvers)
        if address is not None:
            relation = _find_relation(address, resolvers)
            table = TableRef(address, table.offset)
    except (
        SourceUnavailable,
        StatementNotAllowed,
        TableNotFound,
    ) as error:  # a resolver knows the name but cannot provide a relation
        raise with_position(error, table, parsed) from error.__cause__
    if relation is not None and (address is not None or len(table.parts) <= 2):
        return relation
    raise with_position(_missing_table_error(table, resolvers), table, parsed)


def _find_relation(parts: tuple[str, ...], resolvers: Sequence[NameResolver]) -> Relation | None:
    """The relation of a name by the first resolver that knows it. Those of other schemas are not
    asked."""
    first = identifiers.fold(parts[0])
    for resolver in resolvers:
        is_asked = first.partition(".")[0] == resolver.schema or not resolver.schema
        if is_asked and (relation := resolver.resolve(parts)) is not None:
            return relation
    return None


def _resolve_call(
    call: FunctionCall,
    table: TableRef,
    parsed: ParsedStatement,
    resolvers: Sequence[NameResolver],
    values: Mapping[str, Any],
) -> Relation:
    try:
        call = call.with_values(values)
        for provider in resolvers:
            if (relation := provider.call(call.function, call.arguments)) is not None:
                return relation
    except JammiError as error:
        raise with_position(error, table, parsed) from error.__cause__
    raise with_position(
        StatementNotAllowed(
            f"{call.function}() is not available as a table function.", hint=_source_hint(call)
        ),
        table,
        parsed,
    )


def with_position(error: JammiError, table: TableRef, parsed: ParsedStatement) -> JammiError:
    """The error with the position of a name in the user's text."""
    offset = character_offset(parsed.probe, table.offset)
    return error.with_position(
        parsed.full_text, None if offset is None else parsed.offset + parsed.probe_offset + offset
    )


def _missing_table_error(table: TableRef, resolvers: Sequence[NameResolver]) -> JammiError:
    name = ".".join(table.parts)
    last = table.parts[-1]
    if len(table.parts) == 1 and (
        "/" in last or "\\" in last or "*" in last or last.lower().endswith(_FILE_ENDINGS)
    ):
        return StatementNotAllowed(
            "A file path cannot be used as a table name.",
            hint=f"Add it as a source: ws.sources.add('name', {last!r}).",
        )
    if identifiers.fold(table.parts[0]) in ("information_schema", "pg_catalog"):
        return StatementNotAllowed(
            f"{table.parts[0]} is not available in a workspace.",
            hint="Use SHOW TABLES or DESCRIBE <table>.",
        )
    suggestions = [
        identifiers.copyable_name(candidate)
        for candidate in identifiers.near_tables(name, known_names(resolvers))
    ]
    hint = "SHOW TABLES lists the available tables; ws.sources.add(name, frame) adds a frame."
    if identifiers.fold(table.parts[0]) == "mutable":
        hint = "ws.mutable.create(name, schema, primary_key=[…]) creates one."
    elif name.lower().endswith(_FILE_ENDINGS):
        hint = f"If it is a file, quote its path: {identifiers.sql_literal(name)}."
    return TableNotFound(
        f"There is no table {name}.",
        near=suggestions,
        hint="" if suggestions else hint,
    )


def _source_hint(call: FunctionCall) -> str:
    files = call.function.startswith("read_")
    if files:
        return f"Add the file as a source: ws.sources.add('name', {call.arguments[0]!r})."
    return ""
