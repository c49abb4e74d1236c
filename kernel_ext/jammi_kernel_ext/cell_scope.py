"""Name resolution in a cell: the relations that a statement reads, their columns, and the relation
under the cursor."""

import itertools
import re
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from jammi_lab.core.errors import JammiError
from jammi_lab.core.identifiers import fold, quote_identifier, quoted_name

if TYPE_CHECKING:
    from jammi_lab.workspace.workspace import Workspace

CACHE_SECONDS = 20.0
"""How long column lists are cached. Completion does not need newer ones."""
PART = r'(?:"(?:[^"]|"")+"|\w+)'
_NAME = rf"{PART}(?:\s*\.\s*{PART})*"
_WITH = re.compile(
    rf"(?:\bWITH\s+(?:RECURSIVE\s+)?|,)\s*(?P<name>{PART}"
    rf")\s*(?:\([^()]*\)\s*)?AS\s+(?:NOT\s+)?(?:MATERIALIZED\s*)?\(",
    re.IGNORECASE,
)
IGNORED_TEXT = re.compile(r"'(?:[^']|'')*'|--[^\n]*|/\*.*?\*/|\$\$.*?\$\$", re.DOTALL)
NO_ALIAS = frozenset(
    """
    on using where group order having limit join left right inner full cross natural asof
    positional semi anti union intersect except set values qualify window select from
    returning offset tablesample pivot unpivot lateral
    """.split()
)
_FROM = re.compile(
    rf"\b(?:FROM|JOIN|INTO|UPDATE|,)\s+(?P<name>(?>{_NAME}"
    rf"))(?!\s*\()(?:\s+(?:AS\s+)?(?!(?:{'|'.join(sorted(NO_ALIAS))})\b)(?P<alias>{PART}))?",
    re.IGNORECASE,
)
_MAX_RELATIONS = 20
_DATABASE_KINDS = frozenset("postgresql mysql sqlite duckdb delta iceberg".split())


def unquote(part: str) -> str:
    """Remove the double quotes from one part of a name."""
    return part[1:-1].replace('""', '"') if part.startswith('"') else part


def name_parts(name: str) -> list[str]:
    """Split a qualified name such as `crm."my table"` into unquoted parts."""
    return [unquote(p) for p in re.findall(PART, name)]


def aliased_relations(statement: str) -> Iterator[tuple[str, str]]:
    """Yield (alias, relation as written) for everything that a statement reads. Without an alias
    the last part of the name is used. String literals and comments are ignored."""
    text = IGNORED_TEXT.sub(lambda m: " " * len(m[0]), statement)
    for match in _FROM.finditer(text):
        name, alias = match["name"], match["alias"]
        if name.casefold() in NO_ALIAS:
            continue
        if match[0].startswith(",") and not _is_list_of_relations(text[: match.start()]):
            continue
        yield unquote(alias or name_parts(name)[-1]), name


def _is_list_of_relations(head: str) -> bool:
    """Whether a comma behind this text separates relations, and not columns or arguments."""
    words = re.findall(r"\b(select|from|where|by|on|using|having|set|values|limit)\b", head.lower())
    return bool(words) and words[-1] == "from"


def cte_names(statement: str) -> list[str]:
    """The names of the common table expressions of a statement."""
    text = IGNORED_TEXT.sub(lambda m: " " * len(m[0]), statement)
    return (
        [unquote(match["name"]) for match in _WITH.finditer(text)]
        if re.search(r"\bWITH\b", text, re.IGNORECASE)
        else []
    )


def likely_columns(ws: "Workspace", cache: "RelationColumnCache") -> list[tuple[str, str]]:
    """The columns of the result tables and local files of a workspace with their types, for a
    statement whose FROM is not written yet. Servers and URLs are not queried."""
    names: dict[str, str] = {}
    for _, record in itertools.islice(ws._services.catalog.result_tables.current(), _MAX_RELATIONS):
        names |= {column.name: column.type for column in record.columns}
    for source in itertools.islice(ws.sources.list(), _MAX_RELATIONS):
        if source.kind not in _DATABASE_KINDS and "://" not in source.location:
            columns = cache.relation_columns(ws, quote_identifier(source.name))
            names |= {name: kind for name, kind in columns if name not in names}
    return list(names.items())


def relation_sql(ws: "Workspace", word: str) -> str | None:
    """The SQL for a name: a source, a recipe, or a qualified name as typed. None when the name is
    unknown."""
    sources = list(ws.sources)
    if any(fold(s) == fold(word) for s in sources):
        return quote_identifier(word)
    if any(fold(r) == fold(word) for r in ws._services.catalog.recipes.names()):
        return f"jammi.{quote_identifier(word)}"
    head = word.partition(".")[0]
    if "." in word and any(
        fold(head) == fold(s) for s in [*sources, "jammi", "jammi_catalog", "mutable", "topics"]
    ):
        return ".".join(quote_identifier(part.strip('"')) for part in word.split(".") if part)
    return None


class RelationColumnCache:
    """A short-lived cache of the columns of relations and the tables of sources."""

    def __init__(self) -> None:
        self._columns: dict[tuple[int, str | None, str], tuple[float, list[tuple[str, str]]]] = {}
        self._tables: dict[tuple[int, str | None, str], tuple[float, list[str]]] = {}

    def source_tables(self, ws: "Workspace", source: str) -> list[str]:
        """The tables of a source."""
        key = (id(ws), ws.current_tenant, source)
        loaded_at, tables = self._tables.get(key, (0.0, []))
        if not loaded_at or time.monotonic() - loaded_at > CACHE_SECONDS:
            tables = ws.sources[source].tables()
            self._tables[key] = (time.monotonic(), tables)
        return tables

    def relation_columns(self, ws: "Workspace", relation: str) -> list[tuple[str, str]]:
        """(name, SQL type) of each column; empty when the relation cannot be read."""
        key = (id(ws), ws.current_tenant, relation)
        loaded_at, columns = self._columns.get(key, (0.0, []))
        if time.monotonic() - loaded_at > CACHE_SECONDS:
            columns = _columns_or_empty(ws, relation)
            self._columns[key] = (time.monotonic(), columns)
            while len(self._columns) > 500:
                self._columns.pop(next(iter(self._columns)))
        return columns


def load_columns(ws: "Workspace", relation: str) -> list[tuple[str, str]]:
    """(name, SQL type) of each column. SourceUnavailable and TableNotFound carry no statement or
    position, because the user did not type this statement."""
    try:
        [prepared] = ws._services.engine.prepare(
            f"SELECT * FROM {relation}",
            tenant=ws.current_tenant,
            extra_resolvers=[ws._services.frames],
        )
    except JammiError as error:
        error.statement = error.position = None
        raise
    return list(prepared.output)


def _columns_or_empty(ws: "Workspace", relation: str) -> list[tuple[str, str]]:
    try:
        return load_columns(ws, relation)
    except JammiError:
        return []


def relations_by_family(ws: "Workspace") -> dict[str, list[str]]:
    """The names that FROM accepts, by schema: sources (under the empty string), result tables,
    mutable tables, topics and the relations of the catalog."""
    from jammi_lab.freshness import catalog_relations

    names: dict[str, list[str]] = {
        "": list(ws.sources),
        "jammi": ws._services.catalog.recipes.names(),
        "jammi_catalog": sorted(catalog_relations.COLUMNS),
    }
    names["mutable"] = [m.name for m in ws.mutable.list()]
    names["topics"] = [t.name for t in ws.topics.list()]
    return names


def relation_at(ws: "Workspace", statement: str, position: int) -> str | None:
    """The relation under the cursor, as FROM would name it; None if there is none."""
    for match in re.finditer(_NAME, statement):
        if match.start() <= position <= match.end():
            break
    else:
        return None
    families = relations_by_family(ws)
    aliases = {fold(alias): name for alias, name in aliased_relations(statement)}
    words = name_parts(match[0])
    if fold(words[0]) not in families and (aliased := aliases.get(fold(words[0]))) is not None:
        words = name_parts(aliased)
    for family, names in families.items():
        if (
            len(words) > 1
            and fold(words[0]) == family
            and any(fold(n) == fold(words[1]) for n in names)
        ) or (not family and any(fold(n) == fold(words[0]) for n in names)):
            return quoted_name(*words) if len(words) > 1 else quoted_name(words[0])
    if len(words) == 1 and any(fold(n) == fold(words[0]) for n in families["jammi"]):
        return quoted_name("jammi", words[0])
    return next(
        (name for name in aliases.values() if name_parts(name) == words), None
    )  # what remains is a DataFrame variable of the notebook
