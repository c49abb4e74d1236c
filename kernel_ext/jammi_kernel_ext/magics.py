"""The magics, and the lines of `%jammi` that only a notebook has: each is a method `_<verb>` that
calls the Workspace and returns the object to display."""

import contextlib
import dataclasses
import shlex
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from jammi_kernel_ext import display
from jammi_kernel_ext.cell_scope import load_columns
from jammi_kernel_ext.display import Note
from jammi_kernel_ext.hints import cell_syntax_hints, foreign_syntax_hints, name_as_verb_error
from jammi_kernel_ext.interruptible import display_output, interruptible, interruptible_progress
from jammi_kernel_ext.notebook import Notebook
from jammi_kernel_ext.sql_cell import run_cell
from jammi_lab.commands.help import Help
from jammi_lab.commands.shared import (
    Answer,
    SharedVerbs,
    ShownDict,
    ShownList,
    check_texts,
    given_values,
)
from jammi_lab.commands.table import Verb
from jammi_lab.commands.words import DEFAULT_FOLDER, Values, parse_line
from jammi_lab.core.errors import (
    InvalidArgument,
    SourceUnavailable,
    SqlError,
    StepFailed,
    TableNotFound,
)
from jammi_lab.core.forms import listing_table
from jammi_lab.core.html import count_noun, dim_text, plain_text, verdict_icon
from jammi_lab.core.recipes import parse_descriptor
from jammi_lab.core.verdicts import Fresh

if TYPE_CHECKING:
    from jammi_lab.features.live.session_handle import EphemeralSession
    from jammi_lab.freshness.reports import RunReport
    from jammi_lab.workspace.workspace import Workspace


# --------------------------------------------------------------------------------------------------
# The lines of `%jammi` on versions of a table: diff, history, restore, export, edit.


class VersionVerbs(SharedVerbs):
    """The lines that compare, restore and export versions."""

    _notebook: Notebook

    @property
    def _ws(self) -> "Workspace":
        return self._notebook.workspace

    def _history(self, values: Values) -> Any:
        return self._ws._services.tables.history(values["NAME"])

    def _diff(self, values: Values) -> Any:
        diff = self._ws.table(values["NAME"], values["B"]).diff(values["A"])
        versions = {"old": values["A"], "new": values["B"]}
        return Answer(diff, panel=("DiffView", (values["NAME"],), versions))

    def _restore(self, values: Values) -> Any:
        return self._ws.table(values["NAME"], values["V"]).restore()

    def _export(self, values: Values) -> Any:
        name, path = values["NAME"], values["PATH"]
        try:
            table = self._ws.table(name)
        except TableNotFound as error:
            if path in self._ws:
                error.hint = f"The table comes first: %jammi export {path} {name}"
            raise
        return Note(f"{name} is written to {table.export(path)}.")

    def _edit(self, values: Values) -> Any:
        recipe = self._ws.recipe(values["NAME"])
        cell = _cell_of(recipe)
        if cell is None:
            raise InvalidArgument(
                f"{recipe.name} is a recipe of kind {recipe.kind}, which no cell defines.",
                hint=f"ws.recipe({recipe.name!r}) shows its definition.",
            )
        if self._notebook.shell is not None:
            self._notebook.shell.set_next_input(cell)
        return Note(f"The cell that makes {recipe.name} is below.")


def _cell_of(recipe: Any) -> str | None:
    """The text of the cell that defines a recipe; None for kinds that no cell defines."""
    from jammi_lab.steps.step_functions import cell_inputs

    made: Any = parse_descriptor(recipe._record.descriptor)
    values, text = _values_given(made), recipe.definition.rstrip()
    if recipe.kind == "sql":
        line = _line_of(["-m", recipe.name], {"key": values.get("key", [])})
        return f"%%jammi {line}\n{text}"
    module, _, function = str(getattr(made, "function", "")).partition(":")
    if module == "cell":
        if "over" in values:
            values["map"] = values.pop("over")
        else:
            values["inputs"] = [
                address if name == address.rpartition(".")[2] else f"{name}={address}"
                for name, address in zip(cell_inputs(function), values["inputs"], strict=True)
            ]
        return f"%%jammi_py {_line_of([recipe.name], values)}\n{text}"
    if module != "__main__" or "<" in function:
        return None
    arguments = ", ".join(f"{name}={value!r}" for name, value in values.items())
    verb = made.VERB.removeprefix("ws.")
    call = f"{verb}({recipe.name!r}, {function}, {arguments})"
    return f"{text}\n\njammi_lab.get_workspace().{call}"


def _values_given(made: Any) -> dict[str, Any]:
    """The values of a recipe's fields that differ from their defaults, but for its function."""
    values = {}
    for field in dataclasses.fields(made):
        value = getattr(made, field.name)
        is_default = value == field.default or value in (None, [], {})
        if field.init and field.name not in ("function", "schema") and not is_default:
            values[field.name] = value
    if made.kind == "python":
        values["inputs"] = [each.asked for each in made.inputs]
    if getattr(made, "schema", None):
        values["schema"] = dict(made.schema)
    return values


def _line_of(words: list[str], values: Mapping[str, Any]) -> str:
    """The first line of a cell: words, then flags with these values."""
    for name, value in values.items():
        if flag_words := value if isinstance(value, list) else [str(value)]:
            words += [f"--{name.replace('_', '-')}", *flag_words]
    return shlex.join(words)


# --------------------------------------------------------------------------------------------------
# The line magics.

_REPORTS = {
    "rename": "{NAME} is now called {NEW}.",
    "unalias": "{NAME} is no longer an alias.",
    "hold": "{NAME} is held until %jammi recompute names it.",
    "unhold": "{NAME} is no longer held.",
    "drop": "Removed the recipe {NAME} and its versions.",
}
"""What is reported of a line that returns nothing."""


class Magics(VersionVerbs):
    """The magics of one notebook."""

    def __init__(self, notebook: Notebook) -> None:
        self._notebook = notebook
        self._sessions: list[EphemeralSession] = []

    def line(self, line: str) -> Any:
        """Sources, tables, verdicts and recompute of the notebook's workspace. `%jammi help` lists
        what can be typed."""
        line, quiet = _strip_semicolon(line)
        try:
            verb, values = parse_line(line)
        except InvalidArgument as error:
            raise name_as_verb_error(line, self._notebook.current, error) from None
        with (
            interruptible(f"%jammi {verb.name}".rstrip()),
            foreign_syntax_hints(self._notebook.namespace),
            cell_syntax_hints(),
        ):
            value = self._show(self.run(verb, values))
            return None if quiet else value

    def _show(self, answer: Any) -> Any:
        """The object that a line returns; a front end with widgets displays it as its panel."""
        if not isinstance(answer, Answer):
            return answer
        if answer.panel is None:
            return answer.value
        panel, arguments, options = answer.panel
        shell = self._notebook.shell
        return display.with_panel(shell, answer.value, panel, self._ws, *arguments, **options)

    def run(self, verb: Verb, values: Values) -> Any:
        """Run a line. What returns nothing is reported in a sentence."""
        value = super().run(verb, values)
        if value is None and verb.name in _REPORTS:
            return display.Note(_REPORTS[verb.name].format_map(values))
        return value

    def cell(self, line: str, cell: str) -> Any:
        """Run SQL on the notebook's workspace. `%jammi help jammi` shows the flags."""
        with cell_syntax_hints():
            return run_cell(self._notebook, line, cell)

    def step(self, line: str, cell: str) -> Any:
        """Run Python as a step of the notebook's workspace. `%jammi help jammi_py` shows the
        flags."""
        from jammi_kernel_ext.python_cell import run_step

        with cell_syntax_hints():
            return run_step(self._notebook, line, cell)

    def _where(self, _: Values) -> Any:
        return (
            self._ws if self._notebook.current is not None else self._notebook.open_default()
        )  # the repr of a workspace includes the recovery report

    def _open(self, values: Values) -> Any:
        return self._notebook.open(
            values["PATH"] or DEFAULT_FOLDER,
            **given_values(values, "catalog", "read_only", "tenant"),
        )

    def _close(self, _: Values) -> Any:
        return display.Note(
            "The workspace is closed." if self._notebook.close() else "No workspace is open."
        )

    def _help(self, values: Values) -> Any:
        return Help(values["WORD"])

    def _config(self, values: Values) -> Any:
        key, value = values["KEY"], values["VALUE"]
        if value is not None and self._notebook.current is None and not key.startswith("cells."):
            return _settings_form({key: self._notebook.queue_setting(key, value)})
        settings = self._ws.settings
        if key is None:
            return _settings_form({k: settings[k] for k in settings})
        if value is not None:
            settings.set(key, value)
            self._notebook.apply_settings()
        return _settings_form({key: settings[key]})

    def _add(self, values: Values) -> Any:
        try:
            return self._ws.sources.add(
                values["NAME"],
                values["LOCATION"],
                **given_values(values, "kind", "anchor", "tenant_column", "secret"),
                options=dict(values["option"]) or None,
                replace=values["replace"],
            )
        except SourceUnavailable as error:
            variable = values["LOCATION"].removeprefix("$")
            if self._ws._services.source_directory.frame_variable(variable) is not None:
                error.hint = (
                    f"FROM can read the frame in {variable} directly; "
                    f"ws.sources.add({values['NAME']!r}, {variable}) registers it as a source."
                )
            raise

    def _remove(self, values: Values) -> Any:
        removed = self._ws.sources.remove(values["NAME"], tables=values["tables"])
        sentence = f"Removed the source {values['NAME']}"
        if not values["tables"]:
            return display.Note(f"{sentence}; tables computed from it stay.")
        return display.Note(f"{sentence} and {count_noun(len(removed), 'table')} computed from it.")

    def _models(self, _: Values) -> Any:
        return self._ws.models

    def _embed(self, values: Values) -> Any:
        return self._compute(self._ws.embed, values, "SOURCE", "key", "text", "model", "where")

    def _lexical(self, values: Values) -> Any:
        names = ("key", "text", "analyzer", "where")
        return self._compute(self._ws.lexical, values, "SOURCE", *names)

    def _graph(self, values: Values) -> Any:
        names = ("k", "min_similarity", "mutual")
        return self._compute(self._ws.neighbor_graph, values, "TABLE", *names)

    def _compute(self, verb: Callable[..., Any], values: Values, table: str, *names: str) -> Any:
        """Compute the table NAME from the source or table of an argument, with a progress line.
        `names`: the flags that the verb takes."""
        options = given_values(values, *names)
        cache = "bypass" if values["bypass"] else "use"
        line = self._notebook.line
        with interruptible_progress(line), _locate_in_condition(options.get("where")):
            made = verb(values["NAME"], values[table], **options, cache=cache, progress=line)
        return self._notebook.badges.show_inputs(made)

    def _neighbors(self, values: Values) -> Any:
        options = given_values(values, "k", "select")
        hits = self._ws.neighbors(values["TABLE"], values["KEY"], **options)
        k = max(options.get("k", 10), 1)
        return Answer(hits, panel=("NeighborExplorer", (values["TABLE"], hits.key), {"k": k}))

    def _map(self, values: Values) -> Any:
        with interruptible_progress(self._notebook.line):
            vector_map = self._ws.vector_map(
                values["TABLE"], values["method"], progress=self._notebook.line
            )
        return Answer(vector_map, panel=("EmbeddingMap", (vector_map,), {}))

    def _catalog(self, _: Values) -> Any:
        return Answer(display.CatalogListing(self._ws), panel=("CatalogBrowser", (), {}))

    def _schema(self, values: Values) -> Any:
        name, ws = values["NAME"], self._ws
        tables = ws.sources[name].tables() if name in ws.sources else []
        if len(tables) > 1:
            return ShownList(tables, display.source_tables_form(name, tables))
        columns = load_columns(ws, name)
        return ShownDict(dict(columns), display.columns_form(name, columns))

    def _preview(self, values: Values) -> Any:
        result = self._ws.sql(f"SELECT * FROM {self._from_text(values['NAME'])}")
        result.limit = values["limit"] or self._ws.settings["cells.limit"]
        result.preview(result.limit + 1)
        return result

    def _check_text(self, values: Values) -> Any:
        files = values["FILE"] or [self._notebook.require_file()]
        prose = self._ws._services.prose
        return check_texts(files, lambda _: prose, update=values["update"])

    def _view(self, values: Values) -> Any:
        name, namespace = values["NAME"], self._notebook.namespace
        rows = namespace.get(name or "_")
        if display.has_rows(rows):
            return display.view(self._notebook.shell, rows)
        if name is None:
            raise InvalidArgument(
                "The last output has no rows to browse.",
                hint="%jammi view NAME shows the rows of a variable, source or table.",
            )
        rows = self._ws.sql(f"SELECT * FROM {self._from_text(name)}")
        return display.view(self._notebook.shell, rows)

    def _from_text(self, name: str) -> str:
        # never a variable: `name = ws.materialize("name", …)` is the table, with its verdict
        return self._ws._services.from_text(name)

    def _stale(self, _: Values) -> Any:
        status = self._ws.status()
        rows = [row for row in status if not isinstance(row.verdict, Fresh)]
        sentence = f"Nothing is stale: {len(status)} of {len(status)} recipes are fresh."
        form = verdict_icon("fresh", sentence) if len(status) else plain_text("No recipes yet.")
        return ShownList(rows, type(status)(rows, list(status))._rendered() if rows else form)

    def _verify(self, values: Values) -> Any:
        results = super()._verify(values).value
        return results[values["NAME"][0]] if len(values["NAME"]) == 1 else results

    def _recompute(self, values: Values) -> Any:
        names = values["NAME"]
        if values["dry_run"]:
            return self._ws.plan(names or None)
        if values["detach"]:
            return self._start_detached(names)
        with interruptible_progress(self._notebook.line):
            report = self._ws.recompute(names or None, progress=self._notebook.line)
        if report.failed or report.rejected:
            display_output(report)
            raise _failed_steps_error(report)
        return report

    def _start_detached(self, names: list[str]) -> Any:
        from jammi_lab.workspace import detached_run

        plan = self._ws.plan(names or None)
        if not plan:
            return plan
        pid = detached_run.start(self._ws._services, names or None)
        return display.Note(
            f"Recompute runs in process {pid}: %jammi status shows it, %jammi stop ends it; its "
            f"report is in {self._ws.path}/{detached_run.LOG}."
        )

    def _stop(self, _: Values) -> Any:
        from jammi_lab.workspace import detached_run

        run = detached_run.stop(self._ws._services)
        if run is None:
            return display.Note("No detached run is under way.")
        return display.Note(f"The run in process {run.pid} was stopped; finished tables stay.")

    def _expire(self, values: Values) -> Any:
        name = values["NAME"]
        removed = self._ws.expire(name, keep=values["keep"] or 1)
        sentence = f"{name}: {count_noun(len(removed), 'table')} removed."
        if not removed:
            sentence = f"{name}: there are no versions to remove."
        return ShownList(removed, plain_text(sentence))

    def _resume(self, values: Values) -> Any:
        from jammi_kernel_ext.resume import resume

        return resume(self._notebook, values["FILE"])

    def _topics(self, _: Values) -> Any:
        return self._ws.topics.list()

    def _tail(self, values: Values) -> Any:
        return self._ws.topics.tail(values["TOPIC"], values["events"] or 10)

    def _ephemeral(self, values: Values) -> Any:
        action = values["open|close|list"]
        if action == "list":
            return self._ws.sessions()
        if action == "open":
            self._sessions.append(self._ws.ephemeral(timeout=values["timeout"] or 600))
            return self._sessions[-1]
        sessions, self._sessions = self._sessions, []
        if not sessions:
            return display.Note("No session is open here.")
        from jammi_lab.features.live.session_handle import LOG_WARNING

        erased = [session._end() for session in sessions]
        outcome = (
            "all of their data is deleted."
            if all(erased)
            else f"their tables are deleted. {LOG_WARNING}"
        )
        return display.Note(f"{count_noun(len(sessions), 'session')} closed: {outcome}")

    def _tenant(self, values: Values) -> Any:
        if values["NAME"] is not None and values["none"]:
            raise InvalidArgument("Pass a tenant's name or --none, not both.")
        if values["NAME"] is not None or values["none"]:
            self._ws.bind_tenant(values["NAME"])
        tenant = self._ws.current_tenant
        return display.Note(
            f"The bound tenant is {tenant}."
            if tenant
            else "No tenant is bound: only objects shared by all tenants are visible."
        )


def _settings_form(settings: Values) -> ShownDict:
    rows = []
    for key, value in settings.items():
        is_default = value in ("", 0)
        text = "engine default" if key.startswith("engine.") else value
        rows.append((key, dim_text(text) if is_default else value))
    return ShownDict(settings, listing_table(["setting", "value"], rows, aligned="ll"))


def _failed_steps_error(report: "RunReport") -> StepFailed:
    """The error that makes the cell fail, so that Run All and nbconvert stop."""
    first = next(step for step in report.steps if step.outcome in ("failed", "rejected"))
    counts = [
        f"{count_noun(len(names), 'step')} {outcome}: {', '.join(names)}"
        for outcome, names in (("failed", report.failed), ("rejected", report.rejected))
        if names
    ]
    return StepFailed(
        f"{'; '.join(counts)}.",
        step=first.name,
        hint=f"{first.name}: {first.error} {first.hint}".rstrip(),
    )


@contextlib.contextmanager
def _locate_in_condition(condition: str | None) -> Iterator[None]:
    """Relocate SQL errors of the block into the condition that the user typed. An error elsewhere
    loses its position, because the user did not type that statement."""
    try:
        yield
    except SqlError as error:
        start = (error.statement or "").find(condition) if condition else -1
        position = (error.position or 0) - start
        if condition is None or start < 0 or position < 0:
            error.statement = error.position = None
        else:
            error.with_position(condition, min(position, len(condition)))
        raise


def _strip_semicolon(line: str) -> tuple[str, bool]:
    """Strip a trailing semicolon, which suppresses output as elsewhere in IPython. Returns the line
    and whether there was one. `delimiter=;` is a value and stays."""
    stripped = line.rstrip()
    last = stripped.rpartition(" ")[2]
    quiet = last.endswith(";") and "=" not in last
    return (stripped[:-1], True) if quiet else (line, False)
