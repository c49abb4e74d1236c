"""`%jammi resume`: after a restart, binds again the variables that cells of the notebook bound to
tables, to results and frames of all their rows, and finds the Python steps of its cells. Nothing is
run; a frame is read when a cell names it.

The text of a cell, as the front end saved it last, says what the cell bound; what was recorded when
it ran, else the stamp of its output, which version. A cell without both is taken as it would run
now: for the newest version.
"""

import ast
import contextlib
import functools
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from jammi_kernel_ext.bound_versions import recorded_versions
from jammi_kernel_ext.cell_code import CellStep, is_own_module, names_in, steps_of, words_of
from jammi_kernel_ext.cell_lines import parse_cell, parse_step
from jammi_kernel_ext.cell_words import OPAQUE_NAMES, changes_in_place
from jammi_kernel_ext.display import Note
from jammi_lab.commands.words import DEFAULT_FOLDER, parse_line
from jammi_lab.core.errors import InvalidArgument, JammiError, TableNotFound
from jammi_lab.core.forms import listing_table
from jammi_lab.core.html import Rendered, ReprMixin, plain_text, vstack
from jammi_lab.core.identifiers import fold, near_or_all
from jammi_lab.features.outputs.stamps import STAMP_KEY, StampedTable, short, stamp_from
from jammi_lab.storage.files import open_for_reading
from jammi_lab.workspace.result import whole_table

if TYPE_CHECKING:
    from jammi_kernel_ext.notebook import Notebook
    from jammi_lab.workspace.workspace import Workspace

_TABLE, _ROWS = "table", "read"
_FORMS = (_ROWS, "arrow", "polars", "pandas", "scan")
"""The methods of a table, or of its rows, that give all of them."""
_VERBS = frozenset(
    "table materialize register compute map embed lexical import_embeddings neighbor_graph "
    "propagate context_set projection asof_join".split()
)
"""The methods of a workspace that return a table of the name that is their first argument."""
_OPTIONS: dict[tuple[str, str], type] = {("pandas", "exact"): bool, ("scan", "engine"): str}
"""The arguments of these methods."""
_NOT_PYTHON = (SyntaxError, ValueError, RecursionError, MemoryError)
"""What parsing a text raises; the last two for one that is nested deeply."""
_LINES = ("embed", "lexical", "graph")
"""The lines of `%jammi` that return the table NAME."""
_MAX_OFFERED = 3
_IN_MEMORY = ("pandas", "polars")
"""The forms that a cell can change in place."""
_GIVE_VIEWS = ("pipe", "to_numpy", "view")
"""Methods of frames whose result may be memory of the frame, or the frame."""


@dataclass(frozen=True)
class SavedCell:
    """A cell that was run, as the notebook's file has it."""

    number: int
    text: str
    """Its code after IPython's transformations; that of a cell magic as it is."""
    tables: Mapping[str, StampedTable]
    """The tables in the stamps of its outputs, by folded name."""
    recorded: Mapping[str, StampedTable] = field(default_factory=dict)
    """What was recorded when it ran, by variable."""
    workspaces: frozenset[str] = frozenset()
    """Those of its stamps."""
    has_failed: bool = False
    """Whether it raised an error, so that not all of it ran."""

    @property
    def label(self) -> str:
        return f"[{self.number}]"


@dataclass(frozen=True)
class BoundVariable:
    """A variable that a cell bound to a table."""

    name: str
    table: str
    cell: str
    version: int | None = None
    """None: the newest."""
    digest: str = ""
    """The beginning of the digest of its file, where that is known."""
    form: str = _TABLE
    """`table`, or the method that gave its rows."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """The arguments of that method."""
    is_exact: bool = False
    """Whether the cell named the version."""
    state: str = ""
    """The verdict on the table, and whether a newer version is ready, or nothing tells which one it
    was."""

    def value(self, ws: "Workspace") -> Any:
        """The table, or its rows, which are read now. TableNotFound; TableDamaged."""
        table = ws.table(self.table, self.version)
        table._is_of_recipe = not self.is_exact
        return table if self.form == _TABLE else getattr(table, self.form)(**self.options)


@dataclass(repr=False)
class Resumed(ReprMixin):
    """What `%jammi resume` bound, and what not."""

    bound: Sequence[BoundVariable]
    unbound: Mapping[str, str]
    """By variable, the cell to run and why."""
    steps: Sequence[str]
    """The recipes whose Python step was found."""

    def _rendered(self) -> Rendered:
        rows = [
            (
                each.name,
                f"{each.table} version {each.version}",
                "result" if each.form == _ROWS else each.form,
                each.cell,
                each.state,
            )
            for each in self.bound
        ]
        lines = [f"{name}: {reason}" for name, reason in self.unbound.items()]
        if rows:
            headers = ["variable", "of", "as", "cell", "verdict"]
            found = listing_table(headers, rows, aligned="lllll")
        elif lines:
            found = plain_text("No variable is bound again.")
        else:
            found = plain_text("No variable that this notebook bound to a table is missing.")
        if self.steps:
            lines.append(f"Python steps found: {', '.join(self.steps)}")
        return vstack(found, *map(plain_text, lines))


def resume(notebook: "Notebook", file: str | None) -> Resumed:
    """Bind the variables of a notebook's file again, by default those of the running one, that this
    kernel does not have. InvalidArgument for a file that is no notebook, or when the front end does
    not tell it."""
    path = notebook.file if file is None else Path(file)
    if path is None:
        raise InvalidArgument(
            "The front end does not tell the file of this notebook.",
            hint="Name it: %jammi resume FILE",
        )
    ws, cells = notebook.workspace, _saved_cells(notebook, path)
    found = _variables(notebook, cells)
    bound = list[BoundVariable]()
    for each in found.bound.values():
        try:
            table = ws.table(each.table, each.version)
            if each.digest not in ("", short(table._record.digest)):
                name = f"version {table.version} of {table.name!r}"
                raise TableNotFound(f"{name} is not the one that it read.")
        except JammiError as error:
            found.unbound[each.name] = f"run cell {each.cell}: {error.message}"
        else:
            is_guess = each.version is None and table.version > 1
            shown = "newest, as its cell shows no version; " if is_guess else ""
            bound.append(replace(each, table=table.name, version=table.version, state=shown))
    tables = ws._services.catalog.result_tables
    verdicts = ws._services.freshness.current_verdicts(sorted({each.table for each in bound}))
    for at, each in enumerate(bound):
        state = each.state + str(verdicts.get(each.table, ""))
        newest = tables.newest(each.table)
        if newest is not None and newest[0].version != each.version:
            state = f"version {newest[0].version} is ready; {state}"
        bound[at] = replace(each, state=state)
        notebook.bind_later(each.name, functools.partial(each.value, ws), now=each.form == _TABLE)
    return Resumed(bound, found.unbound, _find_steps(notebook, cells, found.unbound))


def offer(notebook: "Notebook") -> Note | None:
    """The line that offers to resume; None where there is nothing to bind again."""
    try:
        path = notebook.file
        cells = [] if path is None else _saved_cells(notebook, path)
    except InvalidArgument:
        return None
    names = [*_variables(notebook, cells).bound]
    if not names:
        return None
    listed = ", ".join(names[:_MAX_OFFERED])
    more = f" and {len(names) - _MAX_OFFERED} more" if len(names) > _MAX_OFFERED else ""
    return Note(f"%jammi resume binds {listed}{more} again, as cells of this notebook did.")


def _saved_cells(notebook: "Notebook", file: Path) -> list[SavedCell]:
    """The cells that were run. InvalidArgument."""
    workspace_id = notebook.workspace._services.catalog.metadata.workspace_id()
    try:
        with open_for_reading(file, follow_links=True) as opened:
            saved = json.loads(opened.read())["cells"]
        run = [each for each in saved if each["cell_type"] == "code" and each["execution_count"]]
        cells = []
        for each in run:
            text = source = "".join(each["source"])
            if not text.startswith(("%%jammi", "%%sql")) and notebook.shell is not None:
                with contextlib.suppress(*_NOT_PYTHON):
                    text = notebook.shell.transform_cell(text)
            outputs = [output.get("metadata", {}) for output in each["outputs"]]
            found = (stamp_from(metadata.get(STAMP_KEY)) for metadata in outputs)
            stamps = [stamp for stamp in found if stamp is not None]
            own = [stamp for stamp in stamps if stamp.workspace == workspace_id]
            tables = {fold(table.name): table for stamp in own for table in stamp.tables}
            workspaces = frozenset(stamp.workspace for stamp in stamps)
            recorded = recorded_versions(notebook.workspace, file, source)
            number = int(each["execution_count"])
            failed = any(output.get("output_type") == "error" for output in each["outputs"])
            cells.append(SavedCell(number, text, tables, recorded, workspaces, failed))
        return cells
    except OSError as error:
        problem, folder = error.strerror, file.parent
        if os.path.isdir(file):
            problem, folder = "it is a folder", file
        notebooks = [each.name for each in folder.glob("*.ipynb")]
        raise InvalidArgument(
            f"{str(file)!r} cannot be read: {problem}.",
            **near_or_all(file.name, notebooks, "The folder has"),
        ) from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError):
        raise InvalidArgument(f"{str(file)!r} is not a notebook of format 4.") from None


def _variables(notebook: "Notebook", cells: Sequence[SavedCell]) -> "_Variables":
    """What the cells bound to tables, in the order of their numbers. Where two cells have one
    number, several kernels ran them: a variable is bound if the order in the notebook gives the
    same."""
    ws, existing = notebook.workspace, notebook.namespace
    found = _Variables(ws, sorted(cells, key=lambda cell: cell.number), existing)
    if len({cell.number for cell in cells}) < len(cells):
        in_place = _Variables(ws, cells, existing).bound
        for name, each in [*found.bound.items()]:
            if in_place.get(name) != each:
                del found.bound[name]
                found.unbound[name] = (
                    f"run cell {each.cell} or another: they ran in several kernels"
                )
    return found


class _Variables:
    """What the cells bound to tables, the last cell of each name."""

    def __init__(
        self, ws: "Workspace", cells: Iterable[SavedCell], existing: Mapping[str, Any]
    ) -> None:
        self.bound: dict[str, BoundVariable] = {}
        self.unbound: dict[str, str] = {}
        self._together: dict[str, set[str]] = {}
        """By name, the names whose objects may share memory with its object."""
        self._changing: dict[str, frozenset[str]] = {}
        """The functions that may change what they are given, with the names that they read."""
        self._workspaces = set[str]()
        """The names of the workspace of the cells."""
        self._ws, self._id = ws, ws._services.catalog.metadata.workspace_id()
        self._is_here, self._tenant = True, cast("str | None", None)
        for cell in cells:
            if cell.workspaces:
                self._is_here = self._id in cell.workspaces
            first_line, _, text = cell.text.partition("\n")
            magic, _, line = first_line.partition(" ")
            if magic in ("%%jammi", "%%sql"):
                self._follow_statement(cell, line, text)
            elif not cell.text.startswith("%%"):
                with contextlib.suppress(*_NOT_PYTHON):
                    self._follow_code(cell)
            for name in cell.recorded.keys() - self.bound.keys():
                self.unbound.setdefault(name, f"run cell {cell.label}, which reads a table")
        for name in existing:
            self.bound.pop(name, None)
            self.unbound.pop(name, None)

    def _bind(self, cell: SavedCell, variable: BoundVariable) -> None:
        read, name = cell.recorded.get(variable.name), variable.name
        if read is None and cell.has_failed:
            if name not in self.bound:
                self.unbound.setdefault(name, f"run cell {cell.label}, which failed")
            return
        problem = ""
        if not self._is_here or self._tenant != self._ws.current_tenant:
            problem = "for another workspace or tenant"
        elif not self._ws._services.lookup.has_ready_version(variable.table):
            problem = f"whose table {variable.table!r} is gone"
        if problem:
            self.bound.pop(name, None)
            self.unbound[name] = f"run cell {cell.label}, {problem}"
            return
        if variable.version is None:
            read = read or cell.tables.get(fold(variable.table))
        if read is not None and not variable.is_exact:
            variable = replace(variable, version=read.version, digest=read.digest)
        self.bound[name] = variable
        self.unbound.pop(name, None)

    def _follow_statement(self, cell: SavedCell, line: str, text: str) -> None:
        try:
            options = parse_cell(line)
        except InvalidArgument:
            return
        name, table = options["NAME"], options["materialize"] or whole_table(text)
        if name is None:
            return
        form = options["as"] or (_TABLE if options["materialize"] else _ROWS)
        if table is not None and not options["explain"]:
            self._bind(cell, BoundVariable(name, table, cell.label, form=form))
        else:
            self.bound.pop(name, None)
            self.unbound[name] = f"run cell {cell.label}, which computes it by a statement"

    def _follow_code(self, cell: SavedCell) -> None:
        for statement in ast.parse(cell.text).body:
            self._follow_magic(cell, statement)
            for step in steps_of(ast.unparse(statement), {}):
                self._follow_step(cell, step)
                self._connect(step, statement)
            match statement:
                case (
                    ast.Assign(targets=[ast.Name(name)], value=value)
                    | ast.AnnAssign(target=ast.Name(name), value=ast.expr() as value)
                ):
                    self._workspaces.discard(name)
                    if self._is_workspace(value):
                        self._workspaces.add(name)
                    bound = self._table_of(value, name, cell.label)
                    if bound is not None:
                        self._bind(cell, bound)
                        continue
            if isinstance(statement, ast.Assign):
                self._list_computed(cell, statement)

    def _list_computed(self, cell: SavedCell, statement: ast.Assign) -> None:
        """List the names that a statement computes from those of tables, or from tables."""
        listed = self.bound.keys() | self.unbound.keys()
        sources = [name for name in names_in(statement.value) if name in listed]
        for node in ast.walk(statement.value):
            of = self._table_of(node, "", cell.label)
            if of is not None:
                sources.append(of.table)
        for name in names_in(*statement.targets):
            if sources and name not in listed:
                self.unbound[name] = f"run cell {cell.label}, which computes it from {sources[0]}"

    def _follow_magic(self, cell: SavedCell, statement: ast.stmt) -> None:
        """Follow lines that open a workspace or bind a tenant. The words on the line of another
        magic may name variables that it binds."""
        for node in ast.walk(statement):
            match node:
                case ast.Call(
                    func=ast.Attribute(attr="run_line_magic" | "run_cell_magic"),
                    args=[ast.Constant(str(magic)), ast.Constant(str(line)), *_],
                ):
                    if magic == "jammi":
                        self._follow_line(line)
                    else:
                        self._unbind(cell, words_of(line), "may change it")
                case ast.Attribute(attr="bind_tenant"):
                    self._is_here = False

    def _follow_line(self, line: str) -> None:
        try:
            verb, values = parse_line(line)
        except InvalidArgument:
            return
        if verb.name == "open":
            self._workspaces.clear()
            self._is_here = self._is_own(values["PATH"] or DEFAULT_FOLDER)
            self._tenant = values["tenant"]
        elif verb.name == "tenant" and (values["NAME"] or values["none"]):
            self._tenant = values["NAME"]

    def _follow_step(self, cell: SavedCell, step: CellStep) -> None:
        """Forget what a statement replaces, and what it may change."""
        seen, words = {*step.loaded}, step.uses.words
        called = set[str]()
        while more := (seen & self._changing.keys()) - called:
            called |= more
            seen = seen.union(*(self._changing[name] for name in more))
        is_opaque = step.opaque and not step.opaque.startswith("a computed text")
        if is_opaque or not OPAQUE_NAMES.isdisjoint(seen) or "*" in words:
            self._unbind(cell, [*self.bound], "runs code that cannot be followed")
        uses = step.uses
        changes = bool(step.targets or step.given or called) or uses.changes
        if changes or any(map(changes_in_place, words)):
            seen |= step.targets.keys()
            reached = seen.union(*(self._together.get(name, ()) for name in seen))
            frames = {name for name, each in self.bound.items() if each.form in _IN_MEMORY}
            self._unbind(cell, frames & reached, "may change it")
        replaced = step.replaced | uses.stored
        self._unbind(cell, replaced, "may change it")
        for name in replaced:
            self._together.pop(name, {name}).discard(name)
            self._changing.pop(name, None)

    def _connect(self, step: CellStep, statement: ast.stmt) -> None:
        """What the names that a statement replaces hold of what it reads."""
        replaced, shared = step.replaced | step.uses.stored, {*step.loaded}
        modules = (word for node in ast.walk(statement) for word in _imported_modules(node))
        changes = step.uses.changes or any(map(is_own_module, modules))
        if changes or not self._changing.keys().isdisjoint(shared):
            self._changing |= dict.fromkeys(replaced, step.uses.loaded)
        match statement:
            case ast.Assign(value=ast.Call(func=ast.Attribute(attr=method), args=args) as call):
                if method not in _GIVE_VIEWS:  # another object than that of the method
                    given = [*args, *(word.value for word in call.keywords)]
                    shared = {*names_in(*given)}
        names = shared | replaced if replaced else set()
        group = names.union(*(self._together.get(name, ()) for name in names))
        self._together |= dict.fromkeys(group, group)

    def _unbind(self, cell: SavedCell, names: Iterable[str], reason: str) -> None:
        for name in names:
            self.unbound.pop(name, None)
            if self.bound.pop(name, None) is not None:
                self.unbound[name] = f"run cell {cell.label}, which {reason}"

    def _is_workspace(self, node: ast.expr) -> bool:
        match node:
            case ast.Name(name):
                return name in self._workspaces
            case ast.Call(func=ast.Name("get_workspace") | ast.Attribute(attr="get_workspace")):
                return True
            case ast.Call(args=[ast.Constant("jammi"), ast.Constant(str(line))]):
                return line.split()[:1] == ["open"]
            case ast.Call(
                func=ast.Attribute(attr="open"), args=[ast.Constant(str(path))], keywords=[]
            ):
                return self._is_own(path)
        return False

    def _is_own(self, path: str) -> bool:
        """Whether a path or URL, as a cell has it, is that of this workspace."""
        own = str(self._ws._services.folder)
        return own in (path, os.path.abspath(os.path.expanduser(path)))

    def _table_of(self, node: ast.AST, name: str, cell: str) -> BoundVariable | None:
        """What an expression makes of a table; None for any other."""
        match node:
            case ast.Name(other) if other in self.bound:
                return replace(self.bound[other], name=name, cell=cell)
            case ast.Call(
                func=ast.Attribute(value=inner, attr=form), args=[], keywords=keywords
            ) if form in _FORMS:
                of, options = self._table_of(inner, name, cell), _options(form, keywords)
                if of is None or options is None or of.form not in (_TABLE, _ROWS):
                    return None
                return replace(of, form=form, options=options)
            case ast.Call(
                func=ast.Attribute(value=owner, attr="sql"), args=[ast.Constant(str(text))]
            ) if self._is_workspace(owner):
                table = whole_table(text)
                return None if table is None else BoundVariable(name, table, cell, form=_ROWS)
            case ast.Call(
                func=ast.Attribute(attr="run_line_magic"),
                args=[ast.Constant("jammi"), ast.Constant(str(line))],
            ):
                return _table_of_line(line, name, cell)
            case ast.Call(
                func=ast.Attribute(value=owner, attr=verb),
                args=[ast.Constant(str(table)), *others],
            ) if self._is_workspace(owner):
                if verb not in _VERBS:
                    return None
                given = [*others, *(word.value for word in node.keywords)]
                match given if verb == "table" else []:
                    case []:
                        return BoundVariable(name, table, cell)
                    case [ast.Constant(int(version))] if type(version) is int:
                        return BoundVariable(name, table, cell, version, is_exact=True)
        return None


def _options(form: str, keywords: Iterable[ast.keyword]) -> dict[str, Any] | None:
    """The arguments of a method that gives rows; None when they are no literals of their types."""
    options = {word.arg or "": getattr(word.value, "value", None) for word in keywords}
    is_known = all(type(v) is _OPTIONS.get((form, name)) for name, v in options.items())
    return options if is_known else None


def _table_of_line(line: str, name: str, cell: str) -> BoundVariable | None:
    """The table that a line of `%jammi` returns; None for a line that returns none."""
    try:
        verb, values = parse_line(line)
    except InvalidArgument:
        return None
    return BoundVariable(name, values["NAME"], cell) if verb.name in _LINES else None


def _imported_modules(node: ast.AST) -> list[str]:
    match node:
        case ast.Import(names=names):
            return [each.name for each in names]
        case ast.ImportFrom(module=module, level=level):
            return ["." if level else str(module)]
    return []


def _find_steps(
    notebook: "Notebook", cells: Iterable[SavedCell], unbound: dict[str, str]
) -> list[str]:
    """Give the workspace, in a trusted folder, the Python steps of the cells whose text is that of
    their recipe, and return the recipes; `unbound` gets the others. Defining a step runs none of
    it."""
    from jammi_lab.core.recipes import parse_descriptor
    from jammi_lab.steps.cell_step import build_step
    from jammi_lab.steps.step_functions import FunctionRecipe

    services = notebook.workspace._services
    if not services.source_directory.outside.trusts_folder:
        return []
    found = dict[str, str]()
    for cell in cells:
        first_line, _, text = cell.text.partition("\n")
        if cell.text.startswith("%%jammi_py "):
            try:
                options = parse_step(first_line.removeprefix("%%jammi_py"))
                step = build_step(options["NAME"], options["inputs"], text, notebook.namespace)
                record = services.catalog.recipes.get(options["NAME"])
                recipe = None if record is None else parse_descriptor(record.descriptor)
            except (JammiError, *_NOT_PYTHON):
                continue
            name = options["NAME"]
            if isinstance(recipe, FunctionRecipe) and recipe.is_defined_by(step):
                services.step_functions.remember(recipe.with_values(function=step))
                found[fold(name)] = name
                unbound.pop(name, None)
            elif recipe is not None and fold(name) not in found:
                unbound[name] = f"run cell {cell.label}: its step changed, or names what is missing"
    return [*found.values()]
