"""What the names in a cell mean: the relations that a statement reads, the columns of each, and where the cursor stands."""

import re
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from jammi_lab.errors import JammiError
from jammi_lab.names import fold, quote, written

if TYPE_CHECKING:
    from jammi_lab.workspace import Workspace

KEPT_SECONDS = 20.0
"""How long columns are believed: what is typed needs no newer ones."""
_PART = r'(?:"(?:[^"]|"")+"|\w+)'
_NAME = rf"{_PART}(?:\s*\.\s*{_PART})*"
_WITH = re.compile(rf"(?:\bWITH\s+(?:RECURSIVE\s+)?|,)\s*(?P<name>{_PART})\s*(?:\([^()]*\)\s*)?AS\s+(?:NOT\s+)?(?:MATERIALIZED\s*)?\(", re.IGNORECASE)
_SKIPPED = re.compile(r"'(?:[^']|'')*'|--[^\n]*|/\*.*?\*/|\$\$.*?\$\$", re.DOTALL)
_FROM = re.compile(rf"\b(?:FROM|JOIN|INTO|UPDATE|,)\s+(?P<name>(?>{_NAME}))(?!\s*\()(?:\s+(?:AS\s+)?(?P<alias>{_PART}))?", re.IGNORECASE)
_NO_ALIAS = frozenset(
    """on using where group order having limit join left right inner full cross natural asof positional semi anti union intersect except set
    values qualify window select from returning offset tablesample pivot unpivot lateral""".split()
)


def bare(part: str) -> str:
    """A name's part without its quotation marks."""
    return part[1:-1].replace('""', '"') if part.startswith('"') else part


def parts(name: str) -> list[str]:
    """`crm."my table"` as its parts."""
    return [bare(p) for p in re.findall(_PART, name)]


def named(statement: str) -> Iterator[tuple[str, str]]:
    """(alias, relation as written) of everything that a statement reads, those without an alias under their last part; texts and comments aside."""
    text = _SKIPPED.sub(lambda m: " " * len(m[0]), statement)
    for found in _FROM.finditer(text):
        name, alias = found["name"], found["alias"]
        if name.casefold() in _NO_ALIAS:
            continue
        if alias is None or alias.casefold() in _NO_ALIAS:
            alias = parts(name)[-1]
        yield bare(alias), name


def ctes(statement: str) -> list[str]:
    """What WITH calls its parts."""
    text = _SKIPPED.sub(lambda m: " " * len(m[0]), statement)
    return [bare(found["name"]) for found in _WITH.finditer(text)] if re.search(r"\bWITH\b", text, re.IGNORECASE) else []


def meant(ws: "Workspace", word: str) -> str | None:
    """The SQL of what a name means: a source, a recipe, or parts as they would be typed; None where it means nothing here."""
    sources = list(ws.sources)
    if any(fold(s) == fold(word) for s in sources):
        return quote(word)
    if any(fold(r) == fold(word) for r in ws._rooms.catalog.recipes.names()):
        return f"jammi.{quote(word)}"
    head = word.partition(".")[0]
    if "." in word and any(fold(head) == fold(s) for s in [*sources, "jammi", "jammi_catalog", "mutable", "topics"]):
        return ".".join(quote(part.strip('"')) for part in word.split(".") if part)
    return None


class Columns:
    """The columns of relations, and the tables of sources, as they were a moment ago."""

    def __init__(self) -> None:
        self._kept: dict[tuple[int, str | None, str], tuple[float, list[tuple[str, str]]]] = {}
        self._inside: dict[tuple[int, str | None, str], tuple[float, list[str]]] = {}

    def inside(self, ws: "Workspace", source: str) -> list[str]:
        """The tables of a source."""
        key = (id(ws), ws.current_tenant, source)
        seen, found = self._inside.get(key, (0.0, []))
        if not seen or time.monotonic() - seen > KEPT_SECONDS:
            found = ws.sources[source].tables()
            self._inside[key] = (time.monotonic(), found)
        return found

    def of(self, ws: "Workspace", relation: str) -> list[tuple[str, str]]:
        """(name, SQL type) of each column; nothing where the relation cannot be read."""
        key = (id(ws), ws.current_tenant, relation)
        seen, found = self._kept.get(key, (0.0, []))
        if time.monotonic() - seen > KEPT_SECONDS:
            found = _columns(ws, relation)
            self._kept[key] = (time.monotonic(), found)
            while len(self._kept) > 500:
                self._kept.pop(next(iter(self._kept)))
        return found


def columns_of(ws: "Workspace", relation: str) -> list[tuple[str, str]]:
    """(name, SQL type) of each column. SourceUnavailable, TableNotFound, without a place in the statement: nobody typed it."""
    try:
        [prepared] = ws._rooms.engine.prepare(f"SELECT * FROM {relation}", tenant=ws.current_tenant, extra=[ws._rooms.frames])
    except JammiError as error:
        error.statement = error.position = None
        raise
    return list(prepared.output)


def _columns(ws: "Workspace", relation: str) -> list[tuple[str, str]]:
    try:
        return columns_of(ws, relation)
    except JammiError:
        return []


def listed(ws: "Workspace") -> dict[str, list[str]]:
    """What FROM can name, by family: sources, result tables, mutable tables, topics, the catalog's own relations."""
    from jammi_lab.sensing import relations

    found: dict[str, list[str]] = {"": list(ws.sources), "jammi": ws._rooms.catalog.recipes.names(), "jammi_catalog": sorted(relations.COLUMNS)}
    found["mutable"] = [m.name for m in ws.mutable.list()]
    found["topics"] = [t.name for t in ws.topics.list()]
    return found


def relation_at(ws: "Workspace", statement: str, at: int) -> str | None:
    """The relation that the name under the cursor means, as FROM says it; None where it is none."""
    for found in re.finditer(_NAME, statement):
        if found.start() <= at <= found.end():
            break
    else:
        return None
    families = listed(ws)
    aliases = {fold(alias): name for alias, name in named(statement)}
    words = parts(found[0])
    if fold(words[0]) not in families and (through := aliases.get(fold(words[0]))) is not None:
        words = parts(through)
    for family, names in families.items():
        if (len(words) > 1 and fold(words[0]) == family and any(fold(n) == fold(words[1]) for n in names)) or (
            not family and any(fold(n) == fold(words[0]) for n in names)
        ):
            return written(*words) if len(words) > 1 else written(words[0])
    if len(words) == 1 and any(fold(n) == fold(words[0]) for n in families["jammi"]):
        return written("jammi", words[0])
    return next((name for name in aliases.values() if parts(name) == words), None)  # a frame of the notebook
