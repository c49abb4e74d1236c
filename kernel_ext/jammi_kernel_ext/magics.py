"""The magics. Of `%jammi`, each verb is one method that calls the Workspace and returns the object that the cell then shows."""

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal

from jammi_kernel_ext import display
from jammi_kernel_ext.arguments import parse_line
from jammi_kernel_ext.badges import above_made
from jammi_kernel_ext.cell import run_cell
from jammi_kernel_ext.hints import typed
from jammi_kernel_ext.misplaced import of_a_name, silenced
from jammi_kernel_ext.notebook import DEFAULT, Notebook
from jammi_kernel_ext.relations import columns_of, meant
from jammi_kernel_ext.running import interruptible, told
from jammi_lab.errors import InvalidArgument, SourceUnavailable, SqlError, TableNotFound
from jammi_lab.markup import count
from jammi_lab.names import near
from jammi_lab.values.verdicts import Fresh

if TYPE_CHECKING:
    from jammi_lab.live.ephemeral import EphemeralSession
    from jammi_lab.workspace import Workspace

Values = dict[str, Any]


class Magics:
    """The magics of one notebook."""

    def __init__(self, notebook: Notebook) -> None:
        self._notebook = notebook
        self._opened: list[EphemeralSession] = []

    def line(self, line: str) -> Any:
        """Sources, tables, verdicts and recompute of the notebook's workspace. `%jammi help` lists what can be typed."""
        line, quiet = silenced(line)
        try:
            verb, values = parse_line(line)
        except InvalidArgument as error:
            raise of_a_name(line, self._notebook.current, error) from None
        with interruptible(f"%jammi {verb.name}".rstrip()), typed():
            found = getattr(self, f"_{(verb.name or 'where').replace('-', '_')}")(values)
            return None if quiet else found

    def cell(self, line: str, cell: str) -> Any:
        """Run SQL on the notebook's workspace. `%jammi help jammi` shows the flags."""
        with typed():
            return run_cell(self._notebook, line, cell)

    def step(self, line: str, cell: str) -> Any:
        """Run Python as a step of the notebook's workspace. `%jammi help jammi_py` shows the flags."""
        from jammi_kernel_ext.step import run_step

        with typed():
            return run_step(self._notebook, line, cell)

    @property
    def _ws(self) -> "Workspace":
        return self._notebook.workspace

    def _where(self, _: Values) -> Any:
        return self._ws if self._notebook.current is not None else self._notebook.open(DEFAULT)  # it says by itself what opening it settled

    def _open(self, values: Values) -> Any:
        return self._notebook.open(values["PATH"] or DEFAULT, catalog=values["catalog"], read_only=values["read_only"], tenant=values["tenant"])

    def _close(self, _: Values) -> Any:
        return display.Note("The workspace is closed." if self._notebook.close() else "No workspace was open.")

    def _help(self, values: Values) -> Any:
        return display.Help(values["WORD"])

    def _config(self, values: Values) -> Any:
        key, value = values["KEY"], values["VALUE"]
        if value is not None and self._notebook.current is None and not key.startswith("cells."):
            return display.Config({key: self._notebook.wish(key, value)})
        settings = self._ws.settings
        if key is None:
            return display.Config({k: settings[k] for k in settings})
        if value is not None:
            settings.set(key, value)
            self._notebook.apply_settings()
        return display.Config({key: settings[key]})

    def _add(self, values: Values) -> Any:
        try:
            return self._ws.sources.add(
                values["NAME"],
                values["LOCATION"],
                kind=values["kind"],
                anchor=values["anchor"] or "auto",
                tenant_column=values["tenant_column"],
                secret=values["secret"],
                options=dict(values["option"]) or None,
                replace=values["replace"],
            )
        except SourceUnavailable as error:
            variable = values["LOCATION"].removeprefix("$")
            if self._ws._rooms.outside.variable(variable) is not None:
                error.hint = f"FROM can name the frame in {variable} as it is; ws.sources.add({values['NAME']!r}, {variable}) makes a source of it."
            raise

    def _remove(self, values: Values) -> Any:
        gone = self._ws.sources.remove(values["NAME"], tables=values["tables"])
        tables = f"and {len(gone):,} table{'' if len(gone) == 1 else 's'} made from it" if values["tables"] else "; tables made from it stay"
        return display.Note(f"Removed the source {values['NAME']}{' ' if values['tables'] else ''}{tables}.")

    def _sources(self, _: Values) -> Any:
        return self._ws.sources

    def _tables(self, values: Values) -> Any:
        return self._ws.tables(status=None if values["all"] else "ready")

    def _models(self, _: Values) -> Any:
        return self._ws.models

    def _embed(self, values: Values) -> Any:
        with told(self._notebook.line), _in_the_condition(values["where"]):
            made = self._ws.embed(
                values["NAME"],
                values["SOURCE"],
                key=values["key"],
                text=values["text"],
                model=values["model"] or "minilm",
                where=values["where"],
                cache="bypass" if values["bypass"] else "use",
                progress=self._notebook.line,
            )
        return above_made(self._notebook, made)

    def _search(self, values: Values) -> Any:
        k = 10 if values["k"] is None else values["k"]
        found = self._ws.search(values["TABLE"], " ".join(values["TEXT"]), k=k, where=values["where"], select=values["select"] or None)
        found.limit = max(found.limit, k)
        return found

    def _graph(self, values: Values) -> Any:
        with told(self._notebook.line):
            made = self._ws.neighbor_graph(
                values["NAME"],
                values["TABLE"],
                k=10 if values["k"] is None else values["k"],
                min_similarity=values["min_similarity"],
                mutual=values["mutual"],
                cache="bypass" if values["bypass"] else "use",
                progress=self._notebook.line,
            )
        return above_made(self._notebook, made)

    def _neighbors(self, values: Values) -> Any:
        k = 10 if values["k"] is None else values["k"]
        found = self._ws.neighbors(values["TABLE"], values["KEY"], k=k, select=values["select"] or None)
        return _panel(self, found, "NeighborExplorer", values["TABLE"], found.key, k=max(k, 1))

    def _map(self, values: Values) -> Any:
        with told(self._notebook.line):
            found = self._ws.vector_map(values["TABLE"], values["method"], progress=self._notebook.line)
        return _panel(self, found, "EmbeddingMap", found)

    def _catalog(self, _: Values) -> Any:
        return _panel(self, display.Catalog(self._ws), "CatalogBrowser")

    def _schema(self, values: Values) -> Any:
        name, ws = values["NAME"], self._ws
        relation, inside = self._relation(name), ws.sources[name].tables() if name in ws.sources else []
        if len(inside) > 1:
            return display.Inside(name, inside)
        if name in ws.sources:
            found = [(c.name, c.type) for c in ws.sources[name].columns()]
        elif name in ws and (manifest := ws.table(name).manifest) is not None:
            found = [(c.name, c.type) for c in manifest.columns]
        else:
            found = columns_of(ws, relation)
        return display.Columns(name, dict(found))

    def _preview(self, values: Values) -> Any:
        result = self._ws.sql(f"SELECT * FROM {self._relation(values['NAME'])}")
        result.limit = values["limit"] or self._ws.settings["cells.limit"]
        result.preview(result.limit + 1)
        return result

    def _view(self, values: Values) -> Any:
        name, known = values["NAME"], self._notebook.namespace
        found = known.get(name or "_")
        if display.has_rows(found):
            return display.view(self._notebook.shell, self._ws, found)
        if name is None:
            raise InvalidArgument("The last output has no rows to look through.", hint="%jammi view NAME shows those of a variable, source or table.")
        return display.view(self._notebook.shell, self._ws, self._ws.sql(f"SELECT * FROM {self._relation(name)}"))

    def _status(self, values: Values) -> Any:
        return _panel(self, self._ws.status(deep=values["deep"]), "StalenessBoard")

    def _stale(self, _: Values) -> Any:
        status = self._ws.status()
        return display.Doubtful((row for row in status if not isinstance(row.verdict, Fresh)), len(status))

    def _why(self, values: Values) -> Any:
        return self._ws.why(values["NAME"])

    def _verify(self, values: Values) -> Any:
        if values["NAME"] is not None:
            return self._ws.verify(values["NAME"])
        return display.Verified({row.name: self._ws.verify(row.name) for row in self._ws.status() if row.version is not None})

    def _lineage(self, values: Values) -> Any:
        if values["up"] and values["down"]:
            raise InvalidArgument("--up and --down exclude each other; without either both directions are shown.")
        direction: Literal["up", "down", "both"] = "up" if values["up"] else "down" if values["down"] else "both"
        found = self._ws.lineage(values["NAME"], direction=direction, columns=values["columns"])
        return _panel(self, found, "LineageGraph", values["NAME"], direction=direction, columns=values["columns"])

    def _plan(self, values: Values) -> Any:
        return self._ws.plan(values["NAME"] or None)

    def _recompute(self, values: Values) -> Any:
        names = values["NAME"]
        if values["dry_run"]:
            return self._ws.plan(names or None)
        with told(self._notebook.line):
            return self._ws.recompute(names or None, progress=self._notebook.line)

    def _what_if(self, values: Values) -> Any:
        return self._ws.what_if(changed=values["NAME"])

    def _expire(self, values: Values) -> Any:
        gone = self._ws.expire(values["NAME"], keep=values["keep"] or 1)
        return display.Expired(values["NAME"], gone)

    def _check(self, values: Values) -> Any:
        return self._ws.check(repair=values["repair"], deep=values["deep"])

    def _recover(self, _: Values) -> Any:
        return self._ws.recover()

    def _topics(self, _: Values) -> Any:
        return self._ws.topics.list()

    def _tail(self, values: Values) -> Any:
        return self._ws.topics.tail(values["TOPIC"], values["events"] or 10)

    def _ephemeral(self, values: Values) -> Any:
        what = values["open|close|list"]
        if what not in ("open", "close", "list"):
            raise InvalidArgument(f"%jammi ephemeral does one of open, close and list, not {what!r}.", near=near(what, ["open", "close", "list"]))
        if what == "list":
            return self._ws.sessions()
        if what == "open":
            self._opened.append(self._ws.ephemeral(timeout=values["timeout"] or 600))
            return self._opened[-1]
        closing, self._opened = self._opened, []
        if not closing:
            return display.Note("No session is open here.")
        from jammi_lab.live.ephemeral import STILL_READ

        gone = [session._end() for session in closing]
        said = "nothing of what they held is left." if all(gone) else f"their tables are gone. {STILL_READ}"
        return display.Note(f"{count(len(closing), 'session')} closed: {said}")

    def _tenant(self, values: Values) -> Any:
        if values["NAME"] is not None and values["none"]:
            raise InvalidArgument("A tenant's name and --none exclude each other.")
        if values["NAME"] is not None or values["none"]:
            self._ws.bind_tenant(values["NAME"])
        bound = self._ws.current_tenant
        return display.Note(f"The tenant is {bound}." if bound else "No tenant is bound: what is shared by all is seen.")

    def _relation(self, name: str) -> str:
        """The SQL of what a name means. TableNotFound."""
        if (found := meant(self._ws, name)) is not None:
            return found
        known = [*self._ws.sources, *self._ws._rooms.catalog.recipes.names()]
        raise TableNotFound(f"There is no source or table {name!r} here.", near=near(name, known), hint="%jammi sources and %jammi tables list them.")


@contextlib.contextmanager
def _in_the_condition(typed: str | None) -> Iterator[None]:
    """A block whose errors mark a place in the condition that was typed, and in no statement that nobody typed."""
    try:
        yield
    except SqlError as error:
        before = (error.statement or "").find(typed) if typed else -1
        at = (error.position or 0) - before
        if typed is None or before < 0 or at < 0:
            error.statement = error.position = None
        else:
            error.at(typed, min(at, len(typed)))
        raise


def _panel(magics: Magics, value: Any, panel: str, *given: Any, **named: Any) -> Any:
    """The value, which a front end with widgets shows as a panel."""
    return display.with_panel(magics._notebook.shell, value, panel, magics._ws, *given, **named)
