"""All panels in a real JupyterLab: clicks reach Python, verdicts change, the saved form is there without a kernel, nothing leaves the page.

`JAMMI_SHOTS=folder` keeps pictures."""

import os
import shutil
from pathlib import Path

import nbformat
import pytest

from tests.browser.lab import RUN_ALL, lab

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.leaves_behind("playwright keeps a loop and its pipes for the session"),
]
SHOTS = os.environ.get("JAMMI_SHOTS")
SETUP = """import jammi_lab as jl
ws = jl.open("lab")
ws.sources.add("texts", "docstrings.csv")
ws.materialize("functions", "SELECT * FROM texts WHERE kind = 'function'")
ws.materialize("modules", "SELECT module, count(*) AS n FROM jammi.functions GROUP BY ALL")
ws.materialize("largest", "SELECT * FROM jammi.modules ORDER BY n DESC, module LIMIT 10")
ws.materialize("long", "SELECT name, length(text) AS length FROM texts WHERE length(text) > 200")
ws.materialize("picture", "SELECT (SELECT max(n) FROM jammi.largest) AS most, (SELECT count(*) FROM jammi.long) AS long")
ws.embed("vectors", "texts", key="name", text="text", model="hashing")
with open("docstrings.csv", "a") as f: _ = f.write("jammi.open,jammi,function,Open a workspace in a folder.\\n")"""
CELLS = [
    SETUP,
    "lineage = jl.widgets.LineageGraph(ws)\nlineage",
    "board = jl.widgets.StalenessBoard(ws)\nboard",
    "near = jl.widgets.NeighborExplorer(ws, 'vectors', 'json.loads')\nnear",
    "map = jl.widgets.EmbeddingMap(ws, 'vectors', color='kind')\nmap",
    "catalog = jl.widgets.CatalogBrowser(ws)\ncatalog",
    "print('READY', 6 * 7)",
    "print('PYTHON', lineage.selection, near.selection, catalog.selection, ws.staleness('functions'))",
]


def written(root: Path) -> None:
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in CELLS])
    book.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(book, root / "panels.ipynb")
    shutil.copy(Path(__file__).parents[2] / "notebooks" / "data" / "docstrings.csv", root)


def opened(context, address, token, broken):
    page = context.new_page()
    page.on("pageerror", lambda error: broken.append(str(error)))
    page.goto(f"{address}/lab/tree/panels.ipynb?token={token}&reset")
    return page


@pytest.mark.parametrize("theme", ["JupyterLab Light", "JupyterLab Dark"])
def test_the_panels_live_in_a_real_lab(browser, tmp_path, theme):
    root = tmp_path / "root"
    root.mkdir()
    written(root)
    refused: list[str] = []
    broken: list[str] = []
    with lab(root, tmp_path / "state", theme) as (address, token):
        context = browser.new_context(viewport={"width": 1280, "height": 1000})

        def gate(route):
            if route.request.url.startswith((address, "data:", "blob:")):
                route.continue_()
            else:
                refused.append(route.request.url)
                route.abort()

        context.route("**/*", gate)
        page = opened(context, address, token, broken)
        assert page.evaluate(RUN_ALL, "panels.ipynb") == "ran"
        page.get_by_text("READY 42").wait_for()
        page.get_by_test_id("node-picture").click()
        page.get_by_test_id("reasons").wait_for()
        page.get_by_test_id("recompute-functions").last.click()
        board = page.get_by_test_id("jammi-staleness")
        board.get_by_test_id("verdict-functions").get_by_text("fresh").wait_for()
        page.get_by_test_id("neighbor-json.load").click()
        page.get_by_test_id("catalog-item-modules").get_by_text("modules", exact=True).first.click()
        page.locator("[data-points]").wait_for()
        assert page.locator(".jammi-saved:visible").count() == 0
        if SHOTS:
            page.evaluate("window.jupyterapp.commands.execute('application:toggle-left-area')")
            for name in ("lineage", "staleness", "neighbors", "map", "catalog"):
                page.get_by_test_id(f"jammi-{name}").screenshot(path=str(Path(SHOTS) / f"{name}-{theme.split()[-1].lower()}.png"))
        cells = page.locator(".jp-Notebook .jp-CodeCell")
        cells.nth(7).locator(".cm-content").click()
        page.keyboard.press("Control+Enter")
        cells.nth(7).get_by_text("PYTHON ['picture'] ['json.load'] ['jammi.modules'] fresh").wait_for(timeout=20_000)
        if theme.endswith("Light"):
            page.evaluate("window.jupyterapp.commands.execute('docmanager:save')")
            page.wait_for_timeout(1500)
            page.close()
            again(context, address, token, broken, root)
        context.close()
    assert (refused, broken) == ([], [])


def again(context, address, token, broken, root):
    """Opened anew with a fresh kernel, as by somebody who trusts it and by somebody who does not."""
    book = nbformat.read(root / "panels.ipynb", 4)
    kinds = [set(o["data"]) for o in book.cells[1].outputs if "data" in o]
    assert kinds[0] >= {"text/plain", "text/html", "application/vnd.jupyter.widget-view+json"} and kinds[1] == {"text/html"}
    shutil.copy(root / "panels.ipynb", root / "copied.ipynb")
    page = context.new_page()
    page.on("pageerror", lambda error: broken.append(str(error)))
    page.goto(f"{address}/lab/tree/copied.ipynb?token={token}&reset")
    page.locator("img[alt^='Lineage:']").first.wait_for()
    assert page.locator("img[alt^='Lineage:']:visible").count() == 1
    assert page.locator(".jammi-saved:visible").count() == 5
    assert page.get_by_text("possibly stale").count() >= 1
    page.close()
