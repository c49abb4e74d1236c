"""All panels in a real JupyterLab: clicks reach Python, verdicts change, the saved form is there
without a kernel, nothing leaves the page.

`JAMMI_SHOTS=folder` keeps pictures."""

import shutil
from pathlib import Path

import nbformat
import pytest

from tests.browser.lab import PAPERS, SHOTS, THEMES, written

DOCSTRINGS = Path(__file__).parents[2] / "notebooks" / "data" / "docstrings.csv"
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


@pytest.mark.parametrize("theme", THEMES)
def test_the_panels_live_in_a_real_lab(lab, theme):
    written(lab.folder / "panels.ipynb", CELLS)
    shutil.copy(DOCSTRINGS, lab.folder)
    page = lab.open("panels.ipynb", width=1280, height=1000)
    page.get_by_text("READY 42").wait_for()
    page.get_by_test_id("node-picture").click()
    page.get_by_test_id("reasons").wait_for()
    page.get_by_test_id("recompute-functions").last.click()
    board = page.get_by_test_id("jammi-staleness")
    board.get_by_test_id("verdict-functions").get_by_text("fresh").wait_for()
    page.get_by_test_id("jammi-lineage").get_by_test_id("verdict-functions").get_by_text(
        "fresh"
    ).wait_for()  # no cell has run
    page.get_by_test_id("neighbor-json.load").click()
    page.get_by_test_id("catalog-item-modules").get_by_text("modules", exact=True).first.click()
    page.locator("[data-points]").wait_for()
    assert page.locator(".jammi-saved:visible").count() == 0
    if SHOTS:
        page.evaluate("window.jupyterapp.commands.execute('application:toggle-left-area')")
        for name in ("lineage", "staleness", "neighbors", "map", "catalog"):
            shot(page, name, theme)
        page.get_by_test_id("columns").click()
        page.get_by_test_id("column-of-largest-module").click()
        page.get_by_test_id("trace-functions.module-modules.module").wait_for(state="attached")
        shot(page, "lineage", theme, "columns")
        page.get_by_test_id("columns").click()
        page.get_by_test_id("column-of-largest-module").wait_for(state="detached")
    cells = page.locator(".jp-Notebook .jp-CodeCell")
    cells.nth(7).locator(".cm-content").click()
    page.keyboard.press("Control+Enter")
    cells.nth(7).get_by_text("PYTHON ['picture'] ['json.load'] ['jammi.modules'] fresh").wait_for(
        timeout=20_000
    )
    if theme.endswith("Light"):
        page.evaluate("window.jupyterapp.commands.execute('docmanager:save')")
        again(lab)


@pytest.mark.only_soak
@pytest.mark.parametrize("theme", THEMES)
def test_the_workbench_has_one_selection_in_a_real_lab(lab, theme):
    written(
        lab.folder / "bench.ipynb",
        [SETUP, "bench = jl.widgets.Workbench(ws)\nbench", "print('READY', 6 * 7)"],
    )
    shutil.copy(DOCSTRINGS, lab.folder)
    page = lab.open("bench.ipynb", width=1440, height=1800)
    page.get_by_text("READY 42").wait_for()
    page.evaluate("window.jupyterapp.commands.execute('application:toggle-left-area')")
    bench = page.get_by_test_id("jammi-workbench")
    bench.get_by_text("6 tables: 3 ● stale, 3 ~ possibly stale").wait_for()
    bench.get_by_test_id("jammi-lineage").get_by_test_id("node-modules").click()
    bench.get_by_test_id("jammi-result").get_by_text("base64", exact=True).first.wait_for()
    assert bench.get_by_test_id("choose-modules").is_checked()
    ends = [
        box["y"] + box["height"]
        for part in ("jammi-lineage", "jammi-staleness")
        if (box := bench.get_by_test_id(part).bounding_box())
    ]
    assert ends[0] == pytest.approx(ends[1], abs=2), "no void below the lower one"
    assert page.locator(".jammi-saved:visible").count() == 0
    if SHOTS:
        shot(page, "workbench", theme)


def shot(page, name, theme, kept=None):
    """A picture of a panel; the light ones are those of the documents."""
    page.get_by_test_id(f"jammi-{name}").screenshot(
        path=str(Path(SHOTS) / f"{kept or name}-{theme.split()[-1].lower()}.png")
    )


def again(lab):
    """Opened anew with a fresh kernel, as by somebody who trusts it and by somebody who does
    not."""
    book = nbformat.read(lab.folder / "panels.ipynb", 4)
    kinds = [set(o["data"]) for o in book.cells[1].outputs if "data" in o]
    assert kinds == [
        {"text/plain", "text/html", "application/vnd.jupyter.widget-view+json"},
        {"text/plain", "text/html"},
    ]
    shutil.copy(lab.folder / "panels.ipynb", lab.folder / "copied.ipynb")
    page = lab.open("copied.ipynb", width=1280, height=1400, run=False)
    page.locator("img[alt^='Lineage:']").first.wait_for()
    assert page.locator("img[alt^='Lineage:']:visible").count() == 1
    assert page.locator(".jammi-saved:visible").count() == 5
    assert page.get_by_text("possibly stale").count() >= 1


@pytest.mark.only_soak
def test_the_saved_form_is_hidden_beside_a_panel_also_after_the_notebook_is_opened_again(lab):
    written(lab.folder / "twice.ipynb", [PAPERS, "jl.widgets.StalenessBoard(ws)", "print(6 * 7)"])
    page = lab.open("twice.ipynb", width=1280, height=1400)
    page.get_by_text("42", exact=True).wait_for()
    page.evaluate("window.jupyterapp.commands.execute('docmanager:save')")
    page.locator(".jp-mod-dirty").wait_for(state="detached")
    page = lab.open("twice.ipynb", width=1280, height=1400, run=False)  # its kernel is alive
    page.get_by_test_id("verdict-ml").wait_for()
    saved = page.locator(".jammi-saved")
    assert saved.count() == 1 and not saved.is_visible()
    # As a lab draws an output that was out of sight.
    saved.evaluate(
        "e => { const at = e.closest('.jp-OutputArea-child'); at.replaceWith(at.cloneNode(true)); }"
    )
    assert not saved.is_visible()
    page.get_by_test_id("jammi-staleness").evaluate("e => e.remove()")
    assert saved.is_visible()
