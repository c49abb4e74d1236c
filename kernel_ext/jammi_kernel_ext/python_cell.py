"""`%%jammi_py`: run a cell as a Python step. The inputs are its variables, the last expression is
the resulting frame."""

from typing import Any

from jammi_kernel_ext.cell_lines import cell_wants_help, parse_step
from jammi_kernel_ext.display import Note
from jammi_kernel_ext.interruptible import interruptible_progress
from jammi_kernel_ext.notebook import Notebook
from jammi_kernel_ext.sql_cell import cell_output, store_table
from jammi_lab.commands.help import Help
from jammi_lab.commands.shared import given_values
from jammi_lab.features.rows.row_map import RowMap
from jammi_lab.steps.cell_step import build_step
from jammi_lab.steps.python import PythonStep
from jammi_lab.steps.step_functions import StepFunction
from jammi_lab.workspace.recipe_values import Cache


def run_step(notebook: Notebook, line: str, text: str) -> Any:
    """Run the cell. Returns the ResultTable to display; None with `--quiet`."""
    if cell_wants_help(line):
        return Help("jammi_py")
    options = parse_step(line)
    step = build_step(
        options["NAME"],
        options["inputs"],
        text,
        notebook.namespace,
    )
    recipe = _recipe(step, options)
    services = notebook.workspace._services
    if options["dry_run"]:
        cache: Cache = "bypass" if options["bypass"] else "use"
        estimate = services.materializer.estimate(options["NAME"], recipe, cache=cache, frames=True)
        return Note(f"{options['NAME']}: {estimate}.")
    with interruptible_progress(notebook.line):
        table = store_table(notebook, options["NAME"], recipe, options)
    return cell_output(notebook, table, quiet=options["quiet"])


def _recipe(step: StepFunction, options: dict[str, Any]) -> PythonStep | RowMap:
    if options["map"] is None:
        return PythonStep(
            step,
            inputs=list(options["inputs"].values()),
            version=options["version"],
            key=options["key"],
        )
    return RowMap(
        step,
        options["map"],
        key=options["key"][0],
        inputs=list(options["inputs"]),
        **given_values(options, "version", "concurrency", "on_error", "cost"),
    )
