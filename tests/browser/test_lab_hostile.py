"""Hostile names and values in a real JupyterLab: text in every panel, live and saved, and Python
gets them as they are."""

import shutil

import pytest

from tests.browser.lab import written

EVIL = "<img src=x onerror=\"document.title='owned'\">"
CELLS = [
    f"""import jammi_lab as jl, polars as pl
ws = jl.open("lab")
evil = {EVIL!r}
ws.sources.add("evil", pl.DataFrame({{"id": [evil, "</script><script>document.title='owned'</script>", "\\u202eabc"], evil: [evil, "x", "</td></table>" + evil]}}))
ws.materialize(evil, "SELECT * FROM evil")
_ = ws.embed("bad", "evil", key="id", text=evil, model="hashing")""",
    "lineage = jl.widgets.LineageGraph(ws, columns=True)\nlineage",
    "board = jl.widgets.StalenessBoard(ws)\nboard",
    "near = jl.widgets.NeighborExplorer(ws, 'bad', evil)\nnear",
    "plan = jl.widgets.EmbeddingMap(ws, 'bad', color=evil)\nplan",
    "catalog = jl.widgets.CatalogBrowser(ws)\ncatalog",
    "print('READY', 6 * 7)",
    "print('PYTHON', lineage.selection == board.selection == [evil], len(near.selection))",
]
ACTED = "() => document.title === 'owned' || document.querySelectorAll('.jp-OutputArea img[src=x], .jp-OutputArea script:not([type])').length > 0"


@pytest.mark.only_soak
def test_hostile_names_and_values_are_text_in_every_panel_live_and_saved(lab):
    written(lab.folder / "hostile.ipynb", CELLS)
    page = lab.open("hostile.ipynb", width=1280, height=1600)
    page.get_by_text("READY 42").wait_for()
    page.locator("[data-points='3']").wait_for()
    page.get_by_test_id(f"node-{EVIL}").click(position={"x": 60, "y": 20})
    page.get_by_test_id("jammi-lineage").get_by_test_id(f"preview-{EVIL}").click()
    page.get_by_test_id("outcome").get_by_text("onerror").first.wait_for()
    page.get_by_test_id(f"choose-{EVIL}").check()
    page.locator(".jammi-hit").first.click()
    page.get_by_test_id("map-canvas").hover()
    page.get_by_test_id(f"catalog-item-{EVIL}").locator(".jammi-turn").first.click()
    page.locator(".jammi-tree ul ul [role=treeitem]").first.wait_for()
    cell = page.locator(".jp-Notebook .jp-CodeCell").nth(7)
    cell.locator(".cm-content").click()
    page.keyboard.press("Control+Enter")
    cell.get_by_text("PYTHON True 1").wait_for()
    assert not page.evaluate(ACTED)
    page.evaluate("window.jupyterapp.commands.execute('docmanager:save')")
    page.wait_for_function("() => !window.jupyterapp.shell.currentWidget.context.model.dirty")
    shutil.copy(lab.folder / "hostile.ipynb", lab.folder / "copied.ipynb")
    page = lab.open("copied.ipynb", width=1280, height=1600, run=False)
    page.locator(".jammi-saved img:visible").first.wait_for()
    page.wait_for_timeout(500)
    assert page.locator(".jammi-saved:visible").count() == 5 and not page.evaluate(ACTED)
