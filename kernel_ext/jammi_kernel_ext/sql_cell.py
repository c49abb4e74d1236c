"""`%%jammi`: run SQL, bind the result to a variable, store it as a result table. `$name` is bound
from the notebook's variables."""

import re
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from jammi_kernel_ext.cell_lines import cell_wants_help, parse_cell
from jammi_kernel_ext.display import Note, view
from jammi_kernel_ext.hints import empty_hint, first_line_error, foreign_syntax_hints
from jammi_kernel_ext.interruptible import display_output, interruptible_progress
from jammi_kernel_ext.notebook import Notebook
from jammi_kernel_ext.statement_parameters import parameters
from jammi_lab.commands.help import Help
from jammi_lab.commands.table import CELL
from jammi_lab.core import foreign_errors
from jammi_lab.core.errors import InvalidArgument
from jammi_lab.core.html import ReprMixin
from jammi_lab.workspace.run_in_order import note_earlier_changes

if TYPE_CHECKING:
    from jammi_lab.workspace.recipe_values import Cache
    from jammi_lab.workspace.result import Result
    from jammi_lab.workspace.result_table import ResultTable
    from jammi_lab.workspace.workspace import Workspace


FIRST_ROWS = 5
"""The number of rows shown of a table that a cell stores."""


_EXPLAIN = re.compile(
    r"\s*EXPLAIN\s+(?P<analyze>ANALYZE\s+)?(?=(?:SELECT|FROM|WITH|VALUES|PIVOT|UNPIVOT)\b)(?![^;]*;\s*\S)",
    re.IGNORECASE,
)
"""A single EXPLAIN statement, which is shown like `--explain`."""


def run_cell(notebook: Notebook, line: str, text: str) -> Any:
    """Run the cell. Returns what to display: a Result, a frame, a ResultTable or an explanation;
    None with `--quiet`."""
    if cell_wants_help(line):
        return Help("jammi")
    options = parse_cell(line)
    _check_options(options)
    if not text.strip():
        raise first_line_error(line.split()) or InvalidArgument(
            "The cell contains no statement.",
            hint="Write it below the first line, which takes a NAME and flags; %%jammi --help "
            "shows them.",
        )
    with interruptible_progress(notebook.line), foreign_syntax_hints(notebook.namespace):
        rows = _run_statement(notebook, notebook.workspace, options, text)
        value = _as_frame(notebook, rows, options) if options["as"] else rows
    if notebook.shell is not None and options["NAME"]:
        notebook.shell.push({options["NAME"]: value})
    if options["plot"]:
        _show_chart(notebook, value, options)
        return None
    if options["as"] and not options["quiet"] and hasattr(notebook.shell, "kernel"):
        _show_frame(notebook.shell, rows, value[: options["limit"]])
        return cell_output(notebook, value, quiet=True)
    return (
        _show_panel(notebook, value)
        if options["view"]
        else cell_output(notebook, value, quiet=options["quiet"])
    )


def _show_panel(notebook: Notebook, value: Any) -> Any:
    """Display the rows as a panel; `_` and NAME hold the rows."""
    widget = view(notebook.shell, value)
    if isinstance(widget, ReprMixin):  # in a terminal
        return widget
    display_output(widget)
    return cell_output(notebook, value, quiet=True)


def _show_chart(notebook: Notebook, value: Any, options: Mapping[str, Any]) -> None:
    """Display a chart of the rows; `_` and NAME hold the rows."""
    kind, *columns = options["plot"]
    rows = value.read() if hasattr(value, "read") else value
    if "vl_convert" not in sys.modules:  # the first one loads libraries
        notebook.line.announce("Drawing the chart …")
    chart = rows.chart(kind, *columns)
    shown = None if options["quiet"] else chart._repr_mimebundle_()
    notebook.line.clear()
    cell_output(notebook, value, quiet=True)
    notebook.badges.show(rows)
    if shown is not None:
        data, metadata = shown
        display_output(data, metadata=metadata, raw=True)


def _as_frame(notebook: Notebook, result: "Result", options: Mapping[str, Any]) -> Any:
    """The rows of a result as a frame, below the badge of a statement that stores no table."""
    with note_earlier_changes(result._changes_before):
        frame = getattr(result, options["as"])()
    if not (options["materialize"] or options["quiet"]):
        notebook.badges.show(result)
    return frame


def _show_frame(shell: Any, result: "Result", frame: Any) -> None:
    """Display a frame with the stamp of the result that it was made from."""
    data, metadata = shell.display_formatter.format(frame)
    display_output(data, metadata={**metadata, **result._metadata(data)}, raw=True)


def store_table(
    notebook: Notebook, name: str, recipe: Any, options: Mapping[str, Any]
) -> "ResultTable":
    """The table that a cell stores, shown with its first rows: `--limit` of them, else five. Which
    of its inputs are not fresh is displayed."""
    services = notebook.workspace._services
    cache: Cache = "bypass" if options["bypass"] else "use"
    table = services.materializer.materialize(
        name, recipe, cache=cache, progress=notebook.line, frames=True
    )
    if options["quiet"]:
        return table
    if not options.get("as"):
        table._show_first_rows(options.get("limit") or FIRST_ROWS)
    return notebook.badges.show_inputs(table)


def cell_output(notebook: Notebook, value: Any, *, quiet: bool) -> Any:
    """The output of the cell: the value, or None with `quiet`, when only `_` is set."""
    if notebook.shell is None or not quiet:
        return value
    notebook.shell.displayhook.update_user_ns(value)
    return None


def _check_options(options: Mapping[str, Any]) -> None:
    if options["plot"] and (options["as"] or options["explain"] or len(options["plot"]) > 4):
        raise InvalidArgument(
            "--plot takes a kind and up to three columns, without --as or --explain.",
            hint="For example --plot bar venue papers",
        )
    if options["view"] and any(options[other] for other in ("as", "explain", "plot", "quiet")):
        raise InvalidArgument(
            "--view cannot be combined with --as, --explain, --plot or --quiet.",
            hint=CELL.advice,
        )
    others = ("NAME", "materialize", "as", "view", "explain", "plot")
    if options["check"] and any(options[other] for other in others):
        raise InvalidArgument(
            "--check allows only --on, --warn and --quiet besides.",
            hint=f"%%jammi --check {options['check']} --on TABLE",
        )


def _add_check(
    ws: "Workspace", options: Mapping[str, Any], text: str, params: Mapping[str, Any]
) -> Any:
    """Add the check of the cell, and run it on the newest version, if there is one."""
    severity = "warn" if options["warn"] else "block"
    check = ws.checks.add(
        options["check"], text, on=options["on"], severity=severity, params=params
    )
    results = ws.check(check.name)
    return results if len(results) else check


def _run_statement(
    notebook: Notebook, ws: "Workspace", options: Mapping[str, Any], text: str
) -> Any:
    _display_remark(foreign_errors.explain("remarks", text).hint)
    params = parameters(text, notebook.namespace)
    analyze = options["analyze"]
    shows_plan = options["explain"]
    if (match := _EXPLAIN.match(text)) is not None and not any(
        options[other] for other in ("materialize", "as", "plot", "view")
    ):
        shows_plan, analyze, text = True, match["analyze"], text[match.end() :]
    if shows_plan:
        return ws._services.statements.explain(text, params, analyze=analyze, frames=True)
    if options["check"]:
        return _add_check(ws, options, text, params)
    if options["materialize"]:
        from jammi_lab.steps.sql import Sql

        recipe = Sql(text, params, options["key"])
        table = store_table(notebook, options["materialize"], recipe, options)
        if not options["as"]:
            return table
        if table.outcome == "reused" and not options["quiet"]:
            # A frame's repr does not show it.
            display_output(Note(f"{table.name}, version {table.version}: reused"))
        return table.read()
    result = ws._services.statements.run(text, params, frames=True)
    if options["as"]:
        return result
    result.limit = options["limit"] or ws.settings["cells.limit"]
    with note_earlier_changes(result._changes_before):
        # Read ahead now, so that an error at run time fails the cell, not only its display.
        shown = result.preview(result.limit + 1)
    _display_remark(empty_hint(ws, result, shown))
    return result


def _display_remark(remark: str) -> None:
    if remark:
        display_output(Note(remark))
