"""Every panel inside a real JupyterLab, in light and dark, wide and narrow: all texts are legible,
whole and apart. `JAMMI_SHOTS=folder` keeps pictures; `make soak` takes narrow and dark ones."""

from pathlib import Path

import pytest

from tests.browser.lab import SHOTS, written
from tests.browser.test_panels_looked_at import UNREADABLE, VERDICTS
from tests.sizes import sized

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.soak,
    pytest.mark.timeout(900),
    pytest.mark.leaves_behind("playwright keeps a loop and its pipes for the session"),
]
SETUP = """import jammi_lab as jl
%load_ext jammi_lab
%jammi open lab
ws = jl.get_workspace()
kinds = ["novel", "essay", "poem"]
with open("books.csv", "w") as f:
    _ = f.write("id,title,kind,price\\n" + "".join(f"{i},the {kinds[i % 3]} number {i},{kinds[i % 3]},{i * 7919 % 1000 / 100}\\n" for i in range(200)))
ws.sources.add("books", "books.csv")
ws.materialize("offers", "SELECT id, title, kind, price * 2 AS price FROM books", key="id")
for i in range(SIZE):
    ws.materialize(f"total_{i}", f"SELECT kind, sum(price) + {i} AS total FROM jammi.offers GROUP BY ALL")
ws.materialize("offers", "SELECT id, title, kind, price * 3 AS price FROM books", key="id")
_ = ws.embed("vectors", "books", key="id", text="title", model="hashing")
with open("books.csv", "a") as f: _ = f.write("200,the last one,novel,3.5\\n")
"""
CELLS = {
    "lineage": "lineage = jl.widgets.LineageGraph(ws)\nlineage.selection = ['offers']\nlineage",
    "staleness": "board = jl.widgets.StalenessBoard(ws)\nboard",
    "neighbors": "near = jl.widgets.NeighborExplorer(ws, 'vectors', query='poem')\nnear",
    "map": "map = jl.widgets.EmbeddingMap(ws, 'vectors', color='kind')\nmap",
    "catalog": "catalog = jl.widgets.CatalogBrowser(ws)\ncatalog",
    "result": "view = jl.widgets.ResultView(ws.sql('SELECT * FROM jammi.offers'))\nview",
    "diff": "%jammi diff offers",
    "workbench": "bench = jl.widgets.Workbench(ws)\nbench.selection = ['offers']\nbench",
}
HISTORY = "%jammi history offers"


@pytest.mark.product
@pytest.mark.parametrize("size", sized((3,), (3, 150)))
@pytest.mark.parametrize("width", sized((480,), (1400, 480)))
@pytest.mark.parametrize(
    "theme", sized(("JupyterLab Light",), ("JupyterLab Light", "JupyterLab Dark"))
)
def test_all_that_a_panel_says_in_a_lab_can_be_read(lab, theme, width, size):
    cells = [SETUP.replace("SIZE", str(size)), *CELLS.values(), HISTORY, "print('READY', 6 * 7)"]
    written(lab.folder / "looked.ipynb", cells)
    page = lab.open("looked.ipynb", width=width, height=2600)
    page.get_by_text("READY 42").wait_for(timeout=120_000)
    page.evaluate("window.jupyterapp.shell.collapseLeft()")
    page.get_by_test_id("profile").first.click()
    page.get_by_test_id("profile-price").first.wait_for()
    problems = {}
    for name in CELLS:
        panel = page.get_by_test_id(f"jammi-{name}").first
        panel.scroll_into_view_if_needed()
        page.wait_for_timeout(300)
        if SHOTS:
            label = f"lab-{name}-{size}-{width}-{theme.split()[-1].lower()}.png"
            panel.screenshot(path=str(Path(SHOTS) / label))
        problems[name] = page.evaluate(UNREADABLE, [f"[data-testid=jammi-{name}]", VERDICTS])
    if SHOTS:
        cell = page.locator(".jp-Notebook .jp-CodeCell").nth(len(CELLS) + 1)
        cell.scroll_into_view_if_needed()
        cell.screenshot(
            path=str(Path(SHOTS) / f"lab-history-{size}-{width}-{theme.split()[-1].lower()}.png")
        )
    assert {name: found for name, found in problems.items() if found} == {}
