"""`%%jammi`: run SQL, bind the result, keep it as a result table; `$name` comes from the notebook's variables."""

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from jammi_kernel_ext.arguments import CELL, NAMES, cell_wants_help, parse_cell
from jammi_kernel_ext.badges import above, above_made, above_reused
from jammi_kernel_ext.display import Help, view
from jammi_kernel_ext.habits import explained
from jammi_kernel_ext.misplaced import on_the_first_line
from jammi_kernel_ext.notebook import Notebook
from jammi_kernel_ext.running import told
from jammi_lab.errors import InvalidArgument, ParameterMissing
from jammi_lab.in_order import told as behind
from jammi_lab.markup import Shown
from jammi_lab.names import near

if TYPE_CHECKING:
    from jammi_lab.workspace import Workspace


# What a `$` does not count in: texts, quoted names, $$texts$$ and comments.
_TOKEN = re.compile(
    r"""'(?:[^']|'')*' | "(?:[^"]|"")*" | --[^\n]* | /\*.*?\*/ | \$(?P<tag>[A-Za-z_]\w*|)\$.*?\$(?P=tag)\$ | \$(?P<name>[^\W\d]\w*) | \w+\$?""",
    re.VERBOSE | re.DOTALL,
)


_EXPLAIN = re.compile(r"\s*EXPLAIN\s+(?P<analyze>ANALYZE\s+)?(?=(?:SELECT|FROM|WITH|VALUES|PIVOT|UNPIVOT)\b)(?![^;]*;\s*\S)", re.IGNORECASE)
"""One statement that asks how it would run, and is shown so."""


def parameter_names(sql: str) -> list[str]:
    """The names of the `$parameters` of a text, each once, in order."""
    return list(dict.fromkeys(m["name"] for m in _TOKEN.finditer(sql) if m["name"]))


def parameters(sql: str, namespace: Mapping[str, Any]) -> dict[str, Any]:
    """Values for the `$parameters` of a text from the notebook's variables. ParameterMissing; InvalidArgument for what is not a value."""
    from jammi_lab.engine.values import plain

    found: dict[str, Any] = {}
    for name in parameter_names(sql):
        if name not in namespace:
            known = [n for n, v in namespace.items() if not n.startswith("_") and isinstance(v, str | int | float)]
            error = ParameterMissing(
                f"The statement names ${name}, and the notebook has no variable {name}.", parameter=name, hint=f"Set it in a cell: {name} = …"
            )
            error.near = tuple(near(name, known))
            raise error.at(sql, _place(sql, name))
        try:
            plain(namespace[name])
        except InvalidArgument as error:
            raise InvalidArgument(f"${name}: {error.message}", hint=error.hint).at(sql, _place(sql, name)) from None
        found[name] = namespace[name]
    return found


def _place(sql: str, name: str) -> int:
    return next(m.start() for m in _TOKEN.finditer(sql) if m["name"] == name)


def run_cell(notebook: Notebook, line: str, text: str) -> Any:
    """What the cell shows: a Result, a frame, a ResultTable or an explanation; None when it is quiet."""
    if cell_wants_help(line):
        return Help("jammi")
    options = parse_cell(line)
    _check(options)
    if not text.strip():
        raise on_the_first_line(line.split(), NAMES) or InvalidArgument(
            "The cell holds no statement.", hint="It stands below the first line, which is for a NAME and flags; %%jammi --help shows them."
        )
    with told(notebook.line), explained(notebook.namespace):
        value = _value(notebook, notebook.workspace, options, text)
    if notebook.shell is not None and options["NAME"]:
        notebook.shell.push({options["NAME"]: value})
    if options["plot"]:
        return _chart(notebook, value, options)
    if options["as"] and options["limit"] and not options["quiet"] and len(value) > options["limit"]:
        return _first(notebook, value, options["limit"])
    return _viewed(notebook, value) if options["view"] else shown(notebook, value, quiet=options["quiet"])


def _viewed(notebook: Notebook, value: Any) -> Any:
    """The rows of what the cell gave as a panel; `_` and NAME hold the rows."""
    made = view(notebook.shell, notebook.workspace, value)
    if isinstance(made, Shown):  # in a terminal
        return made
    from IPython.display import display

    display(made)
    return shown(notebook, value, quiet=True)


def _chart(notebook: Notebook, value: Any, options: Mapping[str, Any]) -> Any:
    """The chart of what the cell gave; `_` and NAME hold the rows."""
    kind, *columns = options["plot"]
    rows = value.read() if hasattr(value, "read") else value
    drawn = rows.chart(kind, *columns)
    shown(notebook, value, quiet=True)
    above(notebook, rows)
    if options["quiet"]:
        return None
    from IPython.display import display

    display(drawn)
    return None


def _first(notebook: Notebook, frame: Any, rows: int) -> Any:
    """Shows the first rows of a frame; `_` holds all of it."""
    from IPython.display import display

    display(frame.slice(0, rows) if hasattr(frame, "slice") else frame.head(rows))
    return shown(notebook, frame, quiet=True)


def shown(notebook: Notebook, value: Any, *, quiet: bool) -> Any:
    """What the cell gives; with `quiet` nothing, but `_` holds it all the same."""
    if notebook.shell is None or not quiet:
        return value
    notebook.shell.displayhook.update_user_ns(value)
    return None


def _check(options: Mapping[str, Any]) -> None:
    if options["analyze"] and not options["explain"]:
        raise InvalidArgument("--analyze belongs to --explain.", hint=f"Usage: {CELL.usage}")
    if options["plot"] and (options["as"] or options["explain"] or len(options["plot"]) > 4):
        raise InvalidArgument(
            "--plot takes a kind and at most three columns, and neither --as nor --explain.", hint="For example --plot bar venue papers"
        )
    if options["view"] and any(options[other] for other in ("as", "explain", "plot", "quiet")):
        raise InvalidArgument("--view goes with none of --as, --explain, --plot and --quiet.", hint=f"Usage: {CELL.usage}")
    if not options["materialize"]:
        for flag in ("key", "bypass"):
            if options[flag]:
                raise InvalidArgument(f"--{flag} belongs to a recipe: it needs -m RECIPE.", hint=f"Usage: {CELL.usage}")


def _value(notebook: Notebook, ws: "Workspace", options: Mapping[str, Any], text: str) -> Any:
    params = parameters(text, notebook.namespace)
    if options["explain"]:
        return ws._cell_explain(text, params, analyze=options["analyze"])
    if (asked := _EXPLAIN.match(text)) is not None and not any(options[other] for other in ("materialize", "as", "plot", "view")):
        return ws._cell_explain(text[asked.end() :], params, analyze=asked["analyze"] is not None)
    if options["materialize"]:
        table = ws._cell_materialize(options["materialize"], text, params, options["key"], "bypass" if options["bypass"] else "use", notebook.line)
        if not options["quiet"]:
            above_made(notebook, table)
        if not options["as"]:
            return table
        if table.outcome == "reused" and not options["quiet"]:
            above_reused(table)  # a frame cannot say so itself
        return getattr(table.read(), options["as"])()
    result = ws._cell_sql(text, params)
    if options["as"]:
        with behind(result.changes_before):
            frame = getattr(result, options["as"])()
        if not options["quiet"]:
            above(notebook, result)
        return frame
    result.limit = options["limit"] or ws.settings["cells.limit"]
    with behind(result.changes_before):
        result.preview(result.limit + 1)  # a statement that fails while it runs fails the cell, not only its display
    return result
