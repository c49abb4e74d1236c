"""The Workbench in a real JupyterLab over few and many tables, in light and dark, wide and narrow: all texts are
legible, whole and apart. `JAMMI_SHOTS=folder` keeps pictures; `make soak` takes 150 and 1 000 tables."""

from pathlib import Path

import pytest

from tests.browser.lab import SHOTS, written
from tests.browser.test_panels_looked_at import CHANGED, TEMPLATES, UNREADABLE, VERDICTS, _rows
from tests.sizes import sized

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.soak,
    pytest.mark.timeout(900),
    pytest.mark.leaves_behind("playwright keeps a loop and its pipes for the session"),
]
BENCH = """import jammi_lab as jl
bench = jl.widgets.Workbench(jl.open(FOLDER))
bench"""

SEEN = """name => { const row = document.querySelector(`.jammi-workbench [data-testid="row-${name}"]`)?.getBoundingClientRect();
  const list = document.querySelector(".jammi-workbench .jammi-staleness .jammi-tall").getBoundingClientRect();
  return row && row.top >= list.top && row.bottom <= list.bottom; }"""
"""Whether the row of the selected table is among those that are seen on the board."""

COLLAPSE = "window.jupyterapp.restored.then(() => window.jupyterapp.shell.collapseLeft())"
TO_TOP = "document.querySelector('.jammi-workbench .jammi-staleness .jammi-tall').scrollTop = 0"
"""No row of the board is cut by the head of the list."""


@pytest.mark.product
@pytest.mark.parametrize("size", list(TEMPLATES))
@pytest.mark.parametrize("width", sized((480,), (1400, 480)))
@pytest.mark.parametrize(
    "theme", sized(("JupyterLab Light",), ("JupyterLab Light", "JupyterLab Dark"))
)
def test_all_that_a_workbench_says_can_be_read(lab, theme, width, size):
    folder = TEMPLATES[size].restore()
    _rows(folder / "orders.csv", "99,new,1.0,a\n")
    select = f"bench.selection = [{CHANGED!r}]"
    cells = [BENCH.replace("FOLDER", repr(str(folder / "lab"))), f"{select}\nprint('READY', 6 * 7)"]
    cells.append("bench.tab = 'What changed'\nprint('COMPARED', 6 * 7)")
    written(lab.folder / "bench.ipynb", cells)
    page = lab.open("bench.ipynb", width=width, height=2400, run=False)
    page.wait_for_function("window.jupyterapp")
    page.evaluate(COLLAPSE)  # before the board scrolls to a row
    lab.run_all(page, "bench.ipynb")
    page.get_by_text("COMPARED 42").wait_for(timeout=120_000)
    page.get_by_test_id("jammi-diff").first.wait_for()
    page.wait_for_function(SEEN, arg=CHANGED)
    problems = {}
    for tab in ("What changed", "Rows"):
        page.get_by_test_id("jammi-workbench").get_by_role("tab", name=tab).click()
        page.get_by_test_id(
            "jammi-diff" if tab == "What changed" else "jammi-result"
        ).get_by_test_id("grid").first.wait_for()
        page.wait_for_timeout(300)
        if SHOTS:
            label = (
                f"workbench-{size}-{width}-{theme.split()[-1].lower()}-{tab.split()[0].lower()}.png"
            )
            page.get_by_test_id("jammi-workbench").screenshot(path=str(Path(SHOTS) / label))
        page.evaluate(TO_TOP)
        problems[tab] = page.evaluate(UNREADABLE, ["[data-testid=jammi-workbench]", VERDICTS])
    assert problems == {"What changed": [], "Rows": []}
