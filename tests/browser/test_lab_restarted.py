"""All panels in a real JupyterLab whose workspace is closed and whose kernel restarts: each says
so, and lives again when its cell is run."""

import pytest

from tests.browser.lab import PAPERS, press, written

PANELS = {
    "lineage": ("jl.widgets.LineageGraph(ws)", "node-ml"),
    "staleness": ("jl.widgets.StalenessBoard(ws)", "verdict-ml"),
    "neighbors": ("jl.widgets.NeighborExplorer(ws, 'vectors', '1')", "neighbor-3"),
    "map": ("jl.widgets.EmbeddingMap(ws, 'vectors')", "map-canvas"),
    "catalog": ("jl.widgets.CatalogBrowser(ws)", "catalog-item-ml"),
}
CELLS = [
    PAPERS,
    *(made for made, _ in PANELS.values()),
    "print('READY', 6 * 7)",
    "ws.close()\nprint('CLOSED', 6 * 7)",
]
RESTART = "async () => { const [panel] = window.jupyterapp.shell.widgets('main'); await panel.sessionContext.session.kernel.restart(); }"
STANDS_STILL = "The kernel was restarted and this panel is disconnected. Run this cell again."


@pytest.mark.only_soak
def test_every_panel_says_that_its_workspace_is_closed_and_that_its_kernel_restarted_and_lives_again(
    lab,
):
    written(lab.folder / "restarted.ipynb", CELLS)
    page = lab.open("restarted.ipynb", width=1280, height=1600)

    def panel(name):
        return page.get_by_test_id(f"jammi-{name}")

    page.get_by_text("CLOSED 42").wait_for()
    for name in ("lineage", "staleness"):
        panel(name).get_by_text("The workspace is closed: this panel no longer changes.").wait_for()
    assert page.locator(".jammi-bad").count() == 0
    for name in PANELS:
        press(panel(name).get_by_test_id("refresh"))
        panel(name).get_by_text("SessionClosed").first.wait_for()

    for again in range(2):  # also a panel that was made by a kernel that had restarted before
        page.evaluate(RESTART)
        for name in PANELS:
            panel(name).get_by_text(STANDS_STILL).wait_for()
        assert page.get_by_text(STANDS_STILL).count() == len(PANELS)
        for name in PANELS:  # nothing waits for a kernel that is gone, whatever is pressed
            press(panel(name).get_by_test_id("refresh"))
            assert STANDS_STILL in panel(name).inner_text()
        if not again:
            page.evaluate(
                "() => window.jupyterapp.commands.execute('notebook:clear-all-cell-outputs')"
            )
            page.locator(".jp-Notebook .jp-CodeCell").nth(len(CELLS) - 1).locator(
                ".cm-content"
            ).click()
            page.keyboard.press("Control+a")
            page.keyboard.type("print('ALIVE', 6 * 7)")
            lab.run_all(page, "restarted.ipynb")
            page.get_by_text("ALIVE 42").wait_for()
            for name, (_, part) in PANELS.items():
                panel(name).get_by_test_id(part).first.wait_for()
                press(panel(name).get_by_test_id("refresh"))
            page.locator("[data-points='3']").wait_for()
            page.wait_for_timeout(300)
            assert (
                page.get_by_text(STANDS_STILL).count() == 0
                and page.get_by_text("is closed").count() == 0
            )
