"""Keys in a real JupyterLab: a panel that has the focus gets them, and the notebook does not act on
them."""

import pytest

from tests.browser.lab import PAPERS, written

CELLS = [
    PAPERS,
    "lineage = jl.widgets.LineageGraph(ws)\nlineage",
    "board = jl.widgets.StalenessBoard(ws)\nboard",
    "near = jl.widgets.NeighborExplorer(ws, 'vectors', '1')\nnear",
    "plan = jl.widgets.EmbeddingMap(ws, 'vectors')\nplan",
    "catalog = jl.widgets.CatalogBrowser(ws)\ncatalog",
    "print('READY', 6 * 7)",
    "print('PYTHON', lineage.selection, board.selection, near.selection, sorted(plan.selection), catalog.selection)",
]
FOCUSED = "(test) => document.activeElement.closest('[data-testid]').dataset.testid === test"


@pytest.mark.only_soak
def test_panels_are_worked_by_keys_that_mean_other_things_in_a_notebook(lab):
    written(lab.folder / "keys.ipynb", CELLS)
    page = lab.open("keys.ipynb", width=1280, height=1600)
    page.get_by_text("READY 42").wait_for()
    page.locator("[data-points='3']").wait_for()
    press = page.keyboard.press

    page.get_by_test_id("node-papers").focus()
    for key, there in (
        ("ArrowRight", "node-ml"),
        ("ArrowRight", "node-counted"),
        ("ArrowLeft", "node-ml"),
    ):
        press(key)
        page.wait_for_function(FOCUSED, arg=there)
    press("Enter")
    page.get_by_test_id("preview-ml").first.wait_for()

    page.get_by_test_id("row-counted").focus()
    press("ArrowDown")
    page.wait_for_function(FOCUSED, arg="row-ml")
    press("Enter")
    page.locator("[data-testid=row-ml][aria-selected=true]").wait_for()

    hits = page.locator(".jammi-hit")
    hits.first.focus()
    press("ArrowDown")
    press("Enter")
    page.locator(".jammi-hit:nth-child(2)[aria-selected=true]").wait_for()

    page.get_by_test_id("map-canvas").click(position={"x": 4, "y": 4})
    assert (
        page.evaluate("window.jupyterapp.shell.currentWidget.content.mode") == "command"
    )  # in which A inserts a cell
    press("a")
    page.get_by_test_id("chosen").get_by_text("· 3 chosen", exact=True).wait_for()

    page.get_by_test_id("catalog-item-counted").focus()
    press("ArrowDown")
    page.wait_for_function(FOCUSED, arg="catalog-item-ml")
    press("ArrowRight")
    page.get_by_test_id("catalog-item-title").wait_for()
    press("Enter")
    page.locator("[data-testid=catalog-item-ml][aria-selected=true]").wait_for()

    cells = page.locator(".jp-Notebook .jp-CodeCell")
    assert cells.count() == len(CELLS)
    second = hits.nth(1).get_attribute("data-key")
    press("Control+s")  # and what the notebook does with Ctrl it does here, too
    page.wait_for_function(
        "async () => { const [panel] = window.jupyterapp.shell.widgets('main'); return !panel.context.model.dirty; }"
    )
    cells.nth(7).locator(".cm-content").click()
    press("Control+Enter")
    cells.nth(7).get_by_text(
        f"PYTHON ['ml'] ['ml'] ['{second}'] ['1', '2', '3'] ['jammi.ml']"
    ).wait_for()
