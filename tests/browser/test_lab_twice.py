"""Panels in a real JupyterLab: one twice on a page and another beside it, names dragged and pasted
into cells, one panel in another, a kernel that restarts."""

import pytest

from tests.browser.lab import PAPERS, written

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.leaves_behind("playwright keeps a loop and its pipes for the session"),
]
CELLS = [
    PAPERS,
    """with open("papers.csv", "a") as f: _ = f.write("4,attention,ml\\n")
from IPython.display import display
board = jl.widgets.StalenessBoard(ws)
display(board, board)""",
    "other = jl.widgets.StalenessBoard(ws)\nother",
    "catalog = jl.widgets.CatalogBrowser(ws)\ncatalog",
    "lineage = jl.widgets.LineageGraph(ws)\nlineage",
    "print('READY', 6 * 7)",
    "",
    "_ = ws.materialize('later', 'SELECT max(n) AS most FROM jammi.counted')\nprint('RAN', board.selection, other.selection)",
]
RESTART = "async () => { const [panel] = window.jupyterapp.shell.widgets('main'); await panel.sessionContext.session.kernel.restart(); }"


def cell(page, at):
    return page.locator(".jp-Notebook .jp-CodeCell").nth(at)


def text(page, at):
    return cell(page, at).locator(".cm-content").inner_text().strip()


def test_panels_are_shown_twice_follow_cells_and_give_names_to_them(lab):
    written(lab.folder / "twice.ipynb", CELLS)
    allowed = ["clipboard-read", "clipboard-write"]
    lab.context.grant_permissions(allowed)
    page = lab.open("twice.ipynb", width=1280, height=1600)
    page.get_by_text("READY 42").wait_for()
    views = [cell(page, 1).get_by_test_id("jammi-staleness").nth(at) for at in (0, 1)]
    beside = cell(page, 2).get_by_test_id("jammi-staleness")
    assert page.locator(".jammi-saved:visible").count() == 0

    views[0].get_by_test_id("recompute-ml").click()
    for view in views:
        view.get_by_test_id("verdict-ml").get_by_text("fresh").wait_for()
    views[1].get_by_test_id("choose-counted").check()
    views[0].locator("[data-testid=choose-counted]:checked").wait_for()
    assert not beside.get_by_test_id("choose-counted").is_checked()

    cell(page, 7).locator(".cm-content").click()
    page.keyboard.press("Control+Enter")
    cell(page, 7).get_by_text("RAN ['counted'] []").wait_for()
    for view in (*views, beside):
        view.get_by_test_id("row-later").wait_for()
    beside.get_by_test_id("verdict-ml").get_by_text("fresh").wait_for()

    names = page.get_by_test_id("jammi-catalog")
    names.get_by_test_id("catalog-item-later").wait_for()
    names.get_by_test_id("catalog-item-later").locator(".jammi-entry").drag_to(
        cell(page, 6).locator(".cm-content")
    )
    page.wait_for_function(
        "() => document.querySelectorAll('.jp-CodeCell')[6].querySelector('.cm-content').innerText.trim() === 'jammi.later'"
    )
    names.get_by_test_id("catalog-item-ml").locator(".jammi-entry").click()
    names.get_by_text("Copied: jammi.ml").wait_for()
    cell(page, 6).locator(".cm-content").click()
    page.keyboard.press("End")
    page.keyboard.type(", ")
    page.keyboard.press("Control+v")
    page.wait_for_function(
        "() => document.querySelectorAll('.jp-CodeCell')[6].innerText.includes('jammi.later, jammi.ml')"
    )

    graph = page.get_by_test_id("jammi-lineage")
    graph.get_by_test_id("node-vectors").click()
    graph.get_by_test_id("search-vectors").click()
    inner = graph.get_by_test_id("jammi-neighbors")
    inner.get_by_test_id("query-input").fill("networks")
    inner.get_by_test_id("query-input").press("Enter")
    inner.get_by_test_id("neighbor-1").wait_for()
    graph.get_by_test_id("close-inner").click()
    inner.wait_for(state="detached")

    page.evaluate(RESTART)
    for name in ("lineage", "catalog"):
        page.get_by_test_id(f"jammi-{name}").get_by_text("The kernel was restarted").wait_for()
    assert page.get_by_text("The kernel was restarted and this panel is disconnected").count() == 5
