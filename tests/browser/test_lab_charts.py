"""Charts in a real JupyterLab."""

import pytest

from tests.browser.lab import PAPERS, written

CELLS = [
    PAPERS,
    "chart = ws.sql('SELECT i AS a, i * i AS b FROM range(50) r(i)').chart('point')\nchart.interactive()",
    "chart",
    "print('READY', 6 * 7)",
]


@pytest.mark.only_soak
def test_an_interactive_chart_is_drawn_by_the_lab_and_another_is_an_image(lab):
    written(lab.folder / "charts.ipynb", CELLS)
    page = lab.open("charts.ipynb", width=1280, height=1600)
    page.get_by_text("READY 42").wait_for()
    cells = page.locator(".jp-Notebook .jp-CodeCell")
    drawn = cells.nth(1).locator(".vega-embed :is(svg, canvas)").first
    drawn.wait_for()
    before = drawn.bounding_box()
    assert before["width"] > 300
    assert cells.nth(1).locator("img").count() == 0 and cells.nth(2).locator("img").count() == 1
