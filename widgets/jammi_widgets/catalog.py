"""The catalog browser: what there is, down to columns with their types, by names that can be used as they are."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar

import traitlets

from jammi_lab.errors import InvalidArgument, TableNotFound
from jammi_lab.forms import listing
from jammi_lab.markup import Form, count, mark, size, visible
from jammi_lab.model_encoders import COME_ALONG
from jammi_lab.names import written
from jammi_lab.observing.seen import LastSeen
from jammi_lab.values.verdicts import word
from jammi_widgets import assets, protocol
from jammi_widgets.panel import Panel
from jammi_widgets.rows import WITH_SCHEMAS, columns_of, first_rows, holds_tables
from jammi_widgets.work import Report

if TYPE_CHECKING:
    from jammi_lab.registered import Source
    from jammi_lab.workspace import Workspace

MOST_PARTS = 1_000
"""Parts below one that are listed; the filter finds the others."""
PREVIEW_ROWS = 10
"""Rows that a preview shows."""


@dataclass(frozen=True)
class Part:
    """Something in the tree."""

    name: str
    """As it is called."""
    said: str
    """What it is, in few words."""
    insert: str
    """What a cell says for it."""
    verdict: str = ""
    below: Callable[[], Sequence["Part"]] | None = field(default=None, compare=False)
    relation: str = ""
    """What FROM says; empty where there are no rows to look at."""
    all: tuple["Part", ...] = ()
    """What is below a group."""
    inside: Callable[[], Sequence["Part"]] | None = field(default=None, compare=False)
    """The tables of a database that are known, by their full names, for the filter to look through; nothing is asked for them."""


class CatalogBrowser(Panel):
    """Sources, result tables, mutable tables, topics, sessions and models as a tree; a name can be dragged into a cell or copied.

    `selection` holds the chosen names as a cell says them, `filter` what names are searched for.
    """

    _esm = assets.module("catalog")
    _css = assets.style()
    _kinds: ClassVar[Any] = protocol.Open | protocol.Refresh | protocol.Children | protocol.Act | protocol.Cancel

    _shared = (protocol.Refresh,)
    _aside = (protocol.Refresh, protocol.Children)

    def __init__(self, ws: "Workspace") -> None:
        self._parts: dict[str, Part] = {}
        self._inside: dict[str, list[str]] = {}
        self._top = _top(ws, self._inside)
        super().__init__(ws)
        self.observe(lambda _: self._do("filter", self._show), names="filter")

    def refresh(self) -> None:
        """Look again."""
        with self._as_bound():
            self._top = _top(self._ws, self._inside)
        self._show()

    def _show(self) -> None:
        self._tell({"kind": "changed", "body": self._opened()})

    def _look_quietly(self) -> None:
        before, self._top = self._top, _top(self._ws, self._inside)
        if [group.all for group in before] != [group.all for group in self._top]:
            self._show()

    @traitlets.validate("selection")
    def _chosen(self, proposal: dict[str, Any]) -> list[str]:
        return list(proposal["value"])[:1_000]

    # -- messages ------------------------------------------------------------------------------------------------------------------

    def _answer(self, message: Any) -> dict[str, Any]:
        match message:
            case protocol.Children(part=part):
                return {"parts": self._told(part, self._known(part).below)}
            case protocol.Refresh():
                self._top = _top(self._ws, self._inside)
        return self._opened()

    def _known(self, number: str) -> Part:
        if (part := self._parts.get(number)) is None:
            raise TableNotFound("This part is not there any more.", hint="Refresh the catalog.")
        return part

    def _opened(self) -> dict[str, Any]:
        """The top of the tree with what is directly below each part; with a filter, what it finds."""
        self._parts.clear()
        wanted = self.filter.strip().casefold()

        def found_in(part: Part) -> list[Part]:
            some = [part, *part.inside()] if part.inside is not None else [part]
            return [p for p in some if wanted in p.name.casefold() or wanted == p.verdict]

        groups = []
        for at, group in enumerate(self._top):
            number = f"{at}"
            self._parts[number] = group
            found = [each for part in group.all for each in found_in(part)] if wanted else list(group.all)
            groups.append({"id": number, "name": group.name, "count": len(group.all), "found": len(found), "parts": self._listed(number, found)})
        return {"groups": groups, "filtered": bool(wanted)}

    def _told(self, number: str, below: Callable[[], Sequence[Part]] | None) -> list[dict[str, Any]]:
        return self._listed(number, list(below()) if below else [])

    def _listed(self, number: str, parts: Sequence[Part]) -> list[dict[str, Any]]:
        told = []
        for at, part in enumerate(parts[:MOST_PARTS]):
            own = f"{number}.{at}"
            self._parts[own] = part
            more = {"verdict": part.verdict, "opens": part.below is not None, "rows": bool(part.relation)}
            told.append({"id": own, "name": part.name, "said": part.said, "insert": part.insert, **more})
        if len(parts) > MOST_PARTS:
            told.append(
                {
                    "id": "",
                    "name": f"… and {len(parts) - MOST_PARTS:,} more",
                    "said": "the filter finds them",
                    "insert": "",
                    "verdict": "",
                    "opens": False,
                    "rows": False,
                }
            )
        return told

    def _act(self, action: str, names: list[str], report: Report) -> dict[str, Any]:
        if action != "preview":
            return super()._act(action, names, report)
        part = self._known(names[0])
        if not part.relation:
            raise InvalidArgument(f"{part.name!r} has no rows to look at.")
        return {"id": names[0], **first_rows(self._ws, part.relation, PREVIEW_ROWS)}

    def _form(self) -> Form:
        lines = [(g.name, p.name, p.said, mark(p.verdict) if p.verdict else "") for g in self._top for p in g.all[:MOST_PARTS]]
        return listing(["", "name", "what it is", "verdict"], lines, aligned="llll", caption="Catalog", note=count(len(lines), "thing"))


def _top(ws: "Workspace", inside: dict[str, list[str]]) -> list[Part]:
    """The groups, each with what was there when it was looked at. `inside`: the tables of each database that was opened here."""
    verdicts = {row.name: word(row.verdict) for row in ws.status()}
    sources = [_source(ws, s.name, inside) for s in ws.sources.list()]
    tables: dict[str, Part] = {}
    for each in ws.tables():
        if each.name not in tables:
            said = f"{each.kind.replace('_', ' ')}, version {each.version}, {count(each.row_count or 0, 'row')}, {size(each.bytes)}"
            tables[each.name] = _relation(ws, each.name, said, written("jammi", each.name), verdicts.get(each.name, ""))
    for recipe in ws.recipes():
        if recipe.name not in tables:
            tables[recipe.name] = Part(recipe.name, f"{recipe.kind}, never computed", written("jammi", recipe.name), verdicts.get(recipe.name, ""))
    ordered = sorted(tables.values(), key=lambda p: p.name.casefold())
    models = [Part(m.key, f"{m.dimensions or '?'} dimensions", repr(m.name)) for m in ws.models.list()]
    models += [Part(m.key, f"{m.dimensions} dimensions, comes with jammi_lab", repr(m.name)) for m in map(ws.models.get, COME_ALONG)]
    groups = [("Sources", sources), ("Result tables", ordered), *_live(ws), ("Models", models)]
    return [Part(name, "", "", all=tuple(parts)) for name, parts in groups]


def _live(ws: "Workspace") -> list[tuple[str, list[Part]]]:
    """Tables that change, topics and sessions, read as the catalog's own relations have them."""

    def mutable(row: dict[str, Any]) -> str:
        return f"version {row['version']}, {count(row['row_count'] or 0, 'row')}"

    def topic(row: dict[str, Any]) -> str:
        return count(row["next_offset"] or 0, "event")

    def rows(relation: str, by: str, there: object) -> list[dict[str, Any]]:  # a statement takes longer than to see that there is nothing
        return ws.sql(f"SELECT * FROM jammi_catalog.{relation} ORDER BY {by}").arrow().to_pylist() if there else []

    tables = rows("mutable_tables", "name", ws.mutable.list())
    topics = rows("topics", "name", ws.topics.list())
    sessions = rows("sessions", "id", ws.sessions())
    return [
        ("Mutable tables", [_relation(ws, r["name"], mutable(r), written("mutable", r["name"])) for r in tables]),
        ("Topics", [_relation(ws, r["name"], topic(r), written("topics", r["name"])) for r in topics]),
        ("Sessions", [Part(r["id"], f"until {r['deadline']}", repr(r["id"])) for r in sessions]),
    ]


def _relation(ws: "Workspace", name: str, said: str, relation: str, verdict: str = "") -> Part:
    def columns() -> list[Part]:
        return [Part(column, kind, written(column)) for column, kind in columns_of(ws, relation)]

    return Part(name, said, relation, verdict, columns, relation)


def _source(ws: "Workspace", name: str, opened: dict[str, list[str]]) -> Part:
    source, seen = ws.sources[name], LastSeen(ws._rooms.memo)
    said = f"{source.kind}, {visible(source.location)}"
    if not holds_tables(source):
        return Part(
            name, said, written(name), below=lambda: [Part(c.name, c.type, written(c.name)) for c in source.columns()], relation=written(name)
        )

    def below() -> list[Part]:
        tables = source.tables()
        known = seen.tables(source._record)
        opened[name] = tables if known is not None and known[1] else []
        return _inside(source, opened[name]) if opened[name] else [Part("no tables", "", "")]

    def inside() -> list[Part]:
        known = opened.get(name) or (seen.tables(source._record) or ([], 0))[0]
        return [_table(source, label, _address(source, label), f"{name}.{label}") for label in known]

    return Part(name, said, written(name), below=below, inside=inside)


def _inside(source: "Source", tables: Sequence[str]) -> list[Part]:
    """The tables of a source, below their schemas where it has several."""
    schemas: dict[str, list[Part]] = {}
    for label in tables:
        schema, name = _split(source, label)
        schemas.setdefault(schema, []).append(_table(source, label, _address(source, label), name))
    if len(schemas) == 1:
        return [replace(part, name=label) for label, part in zip(tables, *schemas.values(), strict=True)]
    usual = str(getattr(source._connector(), "default", "main"))
    return [
        Part(schema or usual, f"schema, {count(len(some), 'table')}", written(source.name, schema) if schema else "", below=some.copy)
        for schema, some in schemas.items()
    ]


def _split(source: "Source", label: str) -> tuple[str, str]:
    """The schema of a table as its source lists it, empty for the default one, and its name."""
    schema, dot, name = label.partition(".") if source.kind in WITH_SCHEMAS else ("", "", "")
    return (schema, name) if dot else ("", label)


def _address(source: "Source", label: str) -> str:
    """What FROM says for a table as its source lists it."""
    schema, name = _split(source, label)
    return written(source.name, schema, name) if schema else written(source.name, name)


def _table(source: "Source", label: str, address: str, shown: str) -> Part:
    """A table inside a source, which calls it `label`."""
    return Part(shown, "table", address, below=lambda: [Part(c.name, c.type, written(c.name)) for c in source.columns(label)], relation=address)
