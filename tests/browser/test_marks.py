"""Marks of cells in a real JupyterLab: after an edit outside, after a restart, without a kernel."""

import json

import nbformat
import pytest

import jammi_lab as jl
from tests.browser.lab import THEMES, picture, written

MAKE = """%load_ext jammi_lab
import jammi_lab as jl
with open("visits.csv", "w") as f: _ = f.write("day,visits\\nMon,3\\nTue,5\\n")
ws = %jammi open lab
_ = ws.sources.add("visits", "visits.csv", replace=True)"""
BUSY = "%%jammi -m busy\nSELECT day, visits FROM visits WHERE visits > 3"
CELLS = [
    MAKE,
    BUSY,
    "%%jammi\nSELECT count(*) AS n FROM jammi.busy",
    "ws.sql('SELECT day, visits FROM jammi.busy').chart('bar')",
    "ran = globals().get('ran', 0) + 1\nprint('READY', 6 * 7)",
]
PANEL = "const [panel] = [...window.jupyterapp.shell.widgets('main')].filter((x) => x.context);"
EXECUTIONS = f"() => {{ {PANEL} return panel.content.widgets.map((c) => c.model.executionCount); }}"
MARKED = (
    f"() => {{ {PANEL} return panel.content.widgets.flatMap((c, n) => "
    "c.node.querySelector(':scope > .jammi-cell-mark') ? [n + 1] : []); }"
)


KERNEL = f"{PANEL} const {{ kernel }} = panel.sessionContext.session;"


def wait_for_kernel(page):
    """Until every request is answered: lab reports an error for one that a restart cancels."""
    answered = "[...kernel._futures.values()].every((future) => future._status & 4)"
    page.wait_for_function(f"() => {{ {KERNEL} return {answered}; }}")


def edit(folder, *visits):
    rows = "".join(f"{day},{n}\n" for day, n in zip(("Mon", "Tue", "Wed"), visits, strict=False))
    (folder / "visits.csv").write_text("day,visits\n" + rows)


def wait_for_marks(page, *cells):
    page.wait_for_function(
        f"() => JSON.stringify(({MARKED})()) === '{json.dumps(cells).replace(' ', '')}'"
    )


@pytest.mark.parametrize("theme", THEMES)
def test_cells_are_marked_while_their_tables_do_not_hold(lab, theme):
    written(lab.folder / "marks.ipynb", CELLS)
    page = lab.open("marks.ipynb", width=1280, height=900)
    page.get_by_text("READY 42").wait_for()
    status = page.get_by_test_id("jammi-status")
    status.get_by_text("fresh").wait_for()
    assert page.evaluate(MARKED) == []
    enabled = "() => window.jupyterapp.commands.isEnabled('jammi:run-stale-cells')"
    assert not page.evaluate(enabled)

    executions = page.evaluate(EXECUTIONS)
    edit(lab.folder, 3, 5, 9)
    wait_for_marks(page, 2, 3, 4)
    reason = page.locator(".jammi-cell-mark").first.get_attribute("title")
    assert reason.startswith("busy is stale: visits changed")
    status.get_by_text("1 stale").wait_for()
    explained = "1 stale: an input or its definition changed since it was computed"
    assert explained in status.get_attribute("title")
    picture(page, "marks", theme)
    assert page.evaluate(EXECUTIONS) == executions  # nothing runs by itself
    edit(lab.folder, 3, 5)
    wait_for_marks(page)  # the tables hold again
    status.get_by_text("fresh").wait_for()

    edit(lab.folder, 3, 5, 9)
    wait_for_marks(page, 2, 3, 4)
    assert page.evaluate(enabled)
    page.evaluate("() => window.jupyterapp.commands.execute('jammi:run-stale-cells')")
    wait_for_marks(page)
    after = page.evaluate(EXECUTIONS)
    assert [a != b for a, b in zip(after, executions, strict=True)] == [0, 1, 1, 1, 0]
    page.get_by_text("busy, version 2: computed").wait_for()

    status.click()
    workbench = page.locator(".jammi-workbench-area")
    workbench.get_by_test_id("jammi-staleness").get_by_text("busy").first.wait_for()
    picture(page, "marks-workbench", theme)

    wait_for_kernel(page)
    # The kernel is restarted, then ended: marks come and go as before.
    page.evaluate(f"async () => {{ {KERNEL} await kernel.restart(); }}")
    edit(lab.folder, 3, 8, 9)
    wait_for_marks(page, 2, 3, 4)
    wait_for_kernel(page)
    page.evaluate(f"async () => {{ {PANEL} await panel.sessionContext.shutdown(); }}")
    edit(lab.folder, 3, 5, 9)
    wait_for_marks(page)

    # Saved and opened again, before any cell is run.
    page.evaluate(f"async () => {{ {PANEL} await panel.context.save(); }}")
    edit(lab.folder, 1, 2, 9)
    page = lab.open("marks.ipynb", width=1280, height=900, run=False)
    page.locator(".jp-CodeCell").first.wait_for()
    wait_for_marks(page, 2, 3, 4)

    # A notebook from elsewhere, which nobody trusted: its metadata opens no workspace.
    book = nbformat.read(lab.folder / "marks.ipynb", 4)
    book.cells[-1].source += "  # another signature"
    book.cells[-1].id = "constructor"  # a name that every object of a page has
    nbformat.write(book, lab.folder / "foreign.ipynb")
    page = lab.open("foreign.ipynb", width=480, height=900, run=False)
    page.locator(".jp-CodeCell").nth(len(CELLS) - 1).wait_for()
    page.wait_for_timeout(1500)
    assert page.evaluate(MARKED) == [] and not page.get_by_test_id("jammi-status").is_visible()
    assert not page.evaluate(enabled)
    lab.run_all(page, "foreign.ipynb")
    page.get_by_test_id("jammi-status").wait_for()


PUT = """%load_ext jammi_lab
import jammi_lab as jl
ws = jl.open("lab")
def put(f1): ws.materialize("scores", f"SELECT * FROM (VALUES ('LLM', {f1}e0), ('BM25', 0.212e0)) t(model, f1)", key="model")
put(0.364)
print("READY", 6 * 7)"""


@pytest.mark.parametrize("theme", THEMES)
def test_a_markdown_cell_with_an_outdated_number_is_marked(lab, theme):
    written(lab.folder / "prose.ipynb", [PUT])
    book = nbformat.read(lab.folder / "prose.ipynb", 4)
    for text in (
        "## Results\n\nThe LLM has an F1 of 0.364.",
        "BM25 has 0.212<!-- jammi scores/BM25/f1 -->.",
    ):
        book.cells.append(nbformat.v4.new_markdown_cell(text))
    nbformat.write(book, lab.folder / "prose.ipynb")
    page = lab.open("prose.ipynb", width=1280, height=900)
    page.get_by_text("READY 42").wait_for()
    with jl.open(lab.folder / "lab") as ws:
        rows = "SELECT * FROM (VALUES ('LLM', 0.4551e0), ('BM25', 0.212e0)) t(model, f1)"
        ws.materialize("scores", rows, key="model")
    wait_for_marks(page, 2)
    reason = page.locator(".jammi-cell-mark").get_attribute("title")
    assert reason == "0.364 is outdated: it was scores version 1, row LLM, column f1; now 0.455."
    assert not page.evaluate("() => window.jupyterapp.commands.isEnabled('jammi:run-stale-cells')")
    picture(page, "marks-prose", theme)
    edit_cell = (
        "panel.content.widgets[1].model.sharedModel.setSource('The LLM has an F1 of 0.455.')"
    )
    page.evaluate(f"() => {{ {PANEL} {edit_cell}; }}")
    wait_for_marks(page)
