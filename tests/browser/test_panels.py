"""Every panel on a bare page: what a mouse, a keyboard and a hostile name do. `JAMMI_SHOTS=folder` keeps pictures."""

import contextlib
import os
from pathlib import Path

import pytest

import jammi_lab as jl
from jammi_lab.values.verdicts import Fresh
from jammi_widgets import CatalogBrowser, EmbeddingMap, LineageGraph, NeighborExplorer, StalenessBoard
from tests.browser.bare import Bare

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.leaves_behind("playwright keeps a loop and its pipes for the session")]
EVIL = "<img src=x onerror=\"document.title='owned'\">"
SHOTS = os.environ.get("JAMMI_SHOTS")
TEXTS = ["graph neural networks", "a recipe for bread", "message passing on graphs", "baking sourdough", "how to cook rice", "convolutional networks"]


@pytest.fixture
def papers(tmp_path):
    path = tmp_path / "papers.csv"
    path.write_text("id,title,topic\n" + "".join(f'{i},"{text}",{"food" if i in (1, 3, 4) else "ml"}\n' for i, text in enumerate(TEXTS)))
    return path


@pytest.fixture
def ws(tmp_path, papers):
    with jl.open(tmp_path / "lab") as ws:
        ws.sources.add("papers", str(papers))
        ws.materialize("ml", "SELECT * FROM papers WHERE topic = 'ml'", key="id")
        ws.materialize("topics", "SELECT topic, count(*) AS n FROM jammi.ml GROUP BY ALL")
        ws.materialize(EVIL, "SELECT topic FROM jammi.ml")
        ws.embed("vectors", "papers", key="id", text="title", model="hashing")
        yield ws


@pytest.fixture
def on_page(browser):
    """Puts panels on pages; at the end nothing broke, nothing left the page, and no name has acted."""
    with contextlib.ExitStack() as stack:

        def put(panel, name, **size):
            bare = Bare(browser, panel, name, **size)
            stack.callback(bare.close)
            stack.callback(lambda: titles.append(bare.page.title()))
            return bare

        titles = []
        yield put
    assert "owned" not in titles


def kept(bare, name):
    if SHOTS:
        bare.page.screenshot(path=str(Path(SHOTS) / f"{name}.png"))


def stale(papers):
    papers.write_text(papers.read_text() + "9,attention,ml\n")


def test_a_click_in_the_lineage_selects_in_python_and_says_why(ws, on_page, papers):
    stale(papers)
    panel = LineageGraph(ws)
    bare = on_page(panel, "lineage")
    bare.shows("node-topics")
    bare.part("node-topics").click()
    bare.shows("reasons")
    assert panel.selection == ["topics"]
    assert "papers changed" in bare.part("reasons").inner_text()
    assert bare.part("lit-papers-ml").count() == bare.part("lit-ml-topics").count() == 1
    assert bare.part(f"node-{EVIL}").count() == 1
    kept(bare, "lineage")


def test_the_lineage_is_walked_by_keyboard_and_recomputed_from(ws, on_page, papers):
    stale(papers)
    panel = LineageGraph(ws)
    bare = on_page(panel, "lineage")
    bare.shows("node-papers")
    bare.part("node-papers").focus()
    for key in ("ArrowRight", "ArrowUp", "ArrowDown"):
        bare.page.keyboard.press(key)
    bare.part("node-ml").focus()
    bare.page.keyboard.press("Enter")
    bare.shows("recompute-ml")
    assert panel.selection == ["ml"]
    bare.part("recompute-ml").click()
    bare.until(lambda: "ml: computed" in bare.part("outcome").inner_text())
    bare.until(lambda: "fresh" in bare.part("verdict-ml").text_content())
    bare.part("node-ml").focus()
    bare.page.keyboard.press("Escape")
    assert panel.selection == []
    assert isinstance(ws.staleness("ml"), Fresh)


def test_python_moves_the_lineage_and_hops_and_folds_change_it(ws, on_page):
    panel = LineageGraph(ws, "ml")
    bare = on_page(panel, "lineage")
    bare.shows("node-topics")
    assert bare.part("node-vectors").count() == 0
    panel.selection = ["vectors"]
    bare.shows("node-vectors")
    panel.filter = "topics"
    bare.until(lambda: bare.part("node-papers").count() == 0)
    panel.filter = ""
    panel.selection = []
    bare.until(lambda: bare.part("node-vectors").count() == 0)
    bare.part("node-ml").hover()
    bare.part("collapse-down-ml").click()
    bare.until(lambda: bare.part("node-topics").count() == 0)
    bare.part("expand-down-ml").click()
    bare.shows("node-topics")
    bare.part("show-all").click()
    bare.shows("node-vectors")
    assert panel.focus is None


def test_an_answer_that_does_not_come_is_said(ws, on_page):
    bare = on_page(LineageGraph(ws), "lineage")
    bare.shows("node-ml")
    ws.close()
    bare.part("refresh").click()
    bare.until(lambda: "closed" in bare.page.locator(".jammi-said").inner_text())
    bare.page.evaluate("window.dead = true")
    bare.page.clock.install()
    bare.part("refresh").click()
    bare.page.clock.run_for(9000)
    bare.until(lambda: "does not answer" in bare.page.locator(".jammi-said").inner_text())


def test_the_board_recomputes_a_row_and_its_verdict_changes_in_place(ws, on_page, papers):
    stale(papers)
    panel = StalenessBoard(ws)
    bare = on_page(panel, "staleness")
    bare.shows("row-ml")
    assert "stale" in bare.part("verdict-ml").inner_text()
    bare.part("recompute-ml").click()
    bare.until(lambda: "fresh" in bare.part("verdict-ml").inner_text())
    bare.part("row-topics").focus()
    bare.page.keyboard.press("Enter")
    assert panel.selection == ["topics"]
    kept(bare, "staleness")


def test_the_board_plans_groups_by_cause_and_filters(ws, on_page, papers):
    stale(papers)
    panel = StalenessBoard(ws)
    bare = on_page(panel, "staleness")
    bare.shows("cause-papers changed")
    bare.part("choose-all").check()
    assert set(panel.selection) == {"ml", "topics", EVIL, "vectors"}
    bare.part("plan-chosen").click()
    bare.shows("plan")
    assert "must run" in bare.part("plan").inner_text() and len(ws.tables()) == 4
    bare.part("filter-input").fill("possibly stale")
    bare.until(lambda: bare.part("row-ml").count() == 0 and bare.part("row-topics").count() == 1)
    bare.part("sort-name").click()
    bare.until(lambda: bare.page.locator("th[aria-sort=ascending]").inner_text().startswith("table"))


def test_the_explorer_searches_steps_pins_and_filters(ws, on_page):
    panel = NeighborExplorer(ws, "vectors")
    bare = on_page(panel, "neighbors")
    bare.until(lambda: "fresh" in bare.part("verdict-table").inner_text())
    bare.part("query-input").fill("graph networks")
    bare.part("query-input").press("Enter")
    bare.shows("neighbor-0")
    bare.part("step-0").click()
    bare.until(lambda: "Neighbours of 0" in bare.part("own").inner_text())
    assert panel.selection == ["0"] and bare.part("neighbor-0").count() == 0
    bare.part("pin-2").click()
    bare.part("pin-5").click()
    bare.until(lambda: "Similarity" in bare.part("pins").inner_text())
    bare.part("filter-input").fill("topic = 'food'")
    bare.part("filter-input").press("Enter")
    bare.until(lambda: bare.part("neighbor-2").count() == 0 and bare.part("neighbor-3").count() == 1)
    bare.part("trail-0").click()
    bare.until(lambda: bare.part("own").inner_text() == "")
    kept(bare, "neighbors")


@pytest.mark.parametrize("condition", ["topic = ", "1; DROP TABLE x", "EXISTS (SELECT * FROM read_csv('/etc/passwd'))", "nothing > 1"])
def test_a_condition_that_is_none_is_refused_with_words_and_the_hits_stay(ws, on_page, condition):
    bare = on_page(NeighborExplorer(ws, "vectors", 0), "neighbors")
    bare.shows("neighbor-2")
    bare.part("filter-input").fill(condition)
    bare.part("filter-input").press("Enter")
    bare.until(lambda: bare.page.locator(".jammi-bad").count() == 1 and bare.page.locator(".jammi-bad").inner_text() != "")
    assert bare.part("neighbor-2").count() == 1


def test_the_catalog_opens_down_to_columns_and_a_click_selects_what_a_cell_says(ws, on_page):
    panel = CatalogBrowser(ws)
    bare = on_page(panel, "catalog")
    bare.shows("catalog-item-ml")
    bare.part("catalog-item-ml").focus()
    bare.page.keyboard.press("ArrowRight")
    bare.until(lambda: bare.part("catalog-item-topic").count() == 1)
    bare.page.keyboard.press("Enter")
    assert panel.selection == ["jammi.ml"]
    bare.part("preview-papers").click()
    bare.shows("preview")
    bare.part("filter-input").fill("vec")
    bare.until(lambda: bare.part("catalog-item-ml").count() == 0 and bare.part("catalog-item-vectors").count() == 1)
    kept(bare, "catalog")


def test_the_map_colours_hovers_and_takes_a_lasso_to_python_and_sql(ws, on_page):
    panel = EmbeddingMap(ws, "vectors", color="topic")
    bare = on_page(panel, "map")
    bare.until(lambda: bare.page.locator("[data-points='6']").count() == 1 and bare.page.locator(".jammi-key").count() == 2)
    box = bare.part("map-canvas").bounding_box()
    middle = (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    bare.part("lasso").click()
    mouse = bare.page.mouse
    mouse.move(middle[0] - 400, middle[1] - 210)
    mouse.down()
    for x, y in ((400, -210), (400, 210), (-400, 210)):
        mouse.move(middle[0] + x, middle[1] + y, steps=4)
    mouse.up()
    bare.until(lambda: "6 chosen" in bare.part("chosen").inner_text())
    assert sorted(panel.selection) == ["0", "1", "2", "3", "4", "5"] and panel.count == 6
    ws.sources.add("picked", panel.selected())
    assert ws.sql("SELECT count(*) FROM papers JOIN picked ON papers.id = picked.key").fetchall() == [(6,)]
    kept(bare, "map")
    bare.part("clear").click()
    bare.until(lambda: panel.selection == [])


@pytest.mark.parametrize(("make", "name"), [(LineageGraph, "lineage"), (StalenessBoard, "staleness"), (CatalogBrowser, "catalog")])
def test_a_panel_fits_a_narrow_page_and_reads_in_the_dark(ws, on_page, papers, make, name):
    stale(papers)
    for wide, dark in ((400, False), (1400, True)):
        bare = on_page(make(ws), name, wide=wide, dark=dark)
        bare.until(lambda bare=bare: bare.page.locator("[data-testid]").count() > 8)
        assert bare.page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        kept(bare, f"{name}-{wide}")


@pytest.mark.parametrize(("make", "name"), [(LineageGraph, "lineage"), (StalenessBoard, "staleness"), (CatalogBrowser, "catalog")])
def test_an_empty_workspace_is_a_panel_with_a_word(tmp_path, on_page, make, name):
    with jl.open(tmp_path / "empty") as empty:
        bare = on_page(make(empty), name)
        bare.until(lambda: any(w in bare.part(f"jammi-{name}").inner_text() for w in ("No tables yet", "No recipes yet", "none yet")))
