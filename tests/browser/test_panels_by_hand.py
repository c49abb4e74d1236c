"""Panels worked without a mouse, told to a screen reader, kept still, filled to the brim, and asked
from Python."""

import re
import time

import polars as pl
import pytest

import jammi_lab as jl
from jammi_lab.core.records import Progress
from jammi_widgets import (
    CatalogBrowser,
    DiffView,
    EmbeddingMap,
    LineageGraph,
    NeighborExplorer,
    StalenessBoard,
)
from tests.browser.bare import EVIL, bad, kept, stale
from tests.browser.test_panels_live import EACH

NAMELESS = """() => [...document.querySelectorAll("#el :is(button, input, select, a, summary, [role=button], [role=treeitem], [role=row], [role=img], [tabindex])")]
  .filter((e) => !(e.getAttribute("aria-label") || e.textContent.trim() || e.title)).map((e) => e.outerHTML)"""
MOVING = """() => [...document.querySelectorAll("#el *")].filter((e) => getComputedStyle(e).transitionDuration.split(", ").some((d) => d !== "0s")
  || getComputedStyle(e).animationName !== "none").length"""


def compared(ws):
    ws.materialize("ml", "SELECT * FROM papers", key="id")
    return DiffView(ws, "ml")


@pytest.mark.parametrize(("make", "part"), EACH)
def test_every_control_has_a_name_and_every_panel_a_label(ws, shown, make, part):
    bare = shown(make(ws), part)
    assert bare.page.evaluate(NAMELESS) == []
    assert (
        bare.page.get_by_role("toolbar").count() == 1 and bare.count("#el section[aria-label]") == 1
    )
    assert bare.count(".jammi-said[role=status][aria-live=polite]") == 1


@pytest.mark.parametrize(("make", "part"), EACH)
def test_nothing_moves_by_itself_where_motion_is_to_be_reduced(ws, shown, make, part):
    assert shown(make(ws), part, calm=True).page.evaluate(MOVING) == 0


@pytest.mark.only_soak
def test_roles_say_what_a_tree_a_list_and_a_grid_of_rows_are(ws, shown):
    graph = shown(LineageGraph(ws), "node-ml").page
    assert (
        graph.get_by_role("tree").get_by_role("treeitem", name="ml, sql, version 1, fresh").count()
        == 1
    )
    board = shown(StalenessBoard(ws), "row-ml").page
    assert board.get_by_role("grid", name="Recipes").count() == 1
    assert (
        board.get_by_role("columnheader", name="table").count() == 1
        and board.get_by_role("button", name="Recompute ml").count() == 1
    )
    near = shown(NeighborExplorer(ws, "vectors", query="networks"), "neighbor-0").page
    assert near.get_by_role("grid", name="Neighbours").get_by_role("row").count() == 6
    plan = shown(
        EmbeddingMap(ws, "vectors"), "verdict-table"
    ).page  # an application gets the keys that a screen reader keeps from a picture
    assert plan.get_by_role("application", name=re.compile("arrow keys move it")).count() == 1
    tree = shown(CatalogBrowser(ws), "catalog-item-ml").page
    assert (
        tree.get_by_role("treeitem", expanded=False).count() > 2
        and tree.get_by_role("button", name="Preview ml").count() == 1
    )


def test_the_board_is_worked_by_keyboard(ws, shown, papers):
    stale(papers)
    bare = shown(StalenessBoard(ws), "row-ml")
    press = bare.page.keyboard.press
    bare.part("sort-name").focus()
    press("Enter")
    bare.expect(lambda: bare.find("th[aria-sort=ascending]").inner_text().startswith("table"))
    assert bare.part("sort-name").evaluate("e => e === document.activeElement")
    press("Enter")
    bare.expect(lambda: bare.find("th[aria-sort=descending]").count() == 1)
    bare.part("choose-ml").focus()
    press("Space")
    bare.expect(lambda: bare.panel.selection == ["ml"])
    bare.part("recompute-chosen").focus()
    press("Enter")
    bare.says("verdict-ml", "fresh")
    bare.part("row-topics").focus()
    press("ArrowUp")
    press("Enter")
    bare.expect(lambda: bare.panel.selection == ["vectors"])


def test_the_explorer_is_worked_by_keyboard(ws, shown):
    bare = shown(NeighborExplorer(ws, "vectors", query="networks"), "neighbor-0")
    press = bare.page.keyboard.press
    bare.part(".jammi-hit").first.focus()
    press("ArrowDown")
    press("Enter")
    [key] = bare.panel.selection
    press("Tab")
    while not bare.page.evaluate("document.activeElement.dataset.testid || ''").startswith("step-"):
        press("Tab")
    press("Enter")
    bare.says("own", f"Neighbours of {key}")


def test_the_map_is_worked_by_keyboard(ws, shown):
    bare = shown(EmbeddingMap(ws, "vectors"), "verdict-table")
    bare.has("[data-points='6']", 1)
    press = bare.page.keyboard.press
    bare.part("map-canvas").focus()
    press("a")
    bare.says("chosen", "6 chosen")
    press("Escape")
    bare.expect(lambda: bare.panel.selection == [])
    x, y = bare.panel._points[
        2
    ].tolist()  # it is moved to the middle, a tenth of the half height at a time
    for key, times in (
        ("ArrowLeft" if x < 0 else "ArrowRight", abs(x) * 9.2),
        ("ArrowDown" if y < 0 else "ArrowUp", abs(y) * 9.2),
    ):
        for _ in range(round(times)):
            press(key)
    bare.expect(lambda: bare.visible("tip") and bare.text("tip").startswith("2"))
    press("Enter")
    bare.expect(lambda: bare.panel.selection == ["2"])
    for _ in range(8):
        press("+")
    press("a")
    bare.says("chosen", "1 chosen")


def test_the_map_is_coloured_and_narrowed_from_the_page_and_from_python(ws, shown):
    bare = shown(EmbeddingMap(ws, "vectors"), "verdict-table")
    bare.has("[data-points='6']", 1)
    bare.panel.color = "topic"
    bare.expect(
        lambda: bare.count(".jammi-key") == 2 and bare.part("color-input").input_value() == "topic"
    )
    bare.part("color-input").select_option("")
    bare.expect(lambda: bare.count(".jammi-key") == 0 and bare.panel.color == "")
    with pytest.raises(jl.InvalidArgument, match="no column 'nothing'"):
        bare.panel.color = "nothing"
    bare.part("filter-input").fill("topic = 'food'")
    bare.part("filter-input").press("Enter")
    bare.expect(lambda: bare.text("chosen") == "· 3 found")
    kept(bare, "map-filtered")
    bare.press("a", "map-canvas")
    bare.expect(lambda: bare.text("chosen") == "· 3 found · 3 chosen")
    assert sorted(bare.panel.selection) == ["1", "3", "4"]
    bare.panel.filter = "topic ="
    bare.expect(lambda: bad(bare) != "")
    bare.panel.filter = ""
    bare.expect(lambda: bare.text("chosen") == "· 3 chosen" and bare.text(".jammi-said") == "")


def test_hostile_names_are_text_on_the_board_and_in_the_catalog(ws, shown, papers):
    ws.sources.add("evil", pl.DataFrame({EVIL: [EVIL], "\u202eabc": ["</script>"]}))
    ws.materialize("</td></table>" + EVIL, "SELECT * FROM evil")
    stale(papers)
    board = shown(StalenessBoard(ws), f"row-{EVIL}")
    board.part(f"recompute-{EVIL}").click()
    board.expect(
        lambda: (
            f"{EVIL}\tcomputed" in board.part("outcome").inner_text()
            or "not needed" in board.part("outcome").inner_text()
        )
    )
    tree = shown(CatalogBrowser(ws), "catalog-item-evil")
    tree.part("catalog-item-evil").focus()
    tree.page.keyboard.press("ArrowRight")
    tree.shows(f"catalog-item-{EVIL}")
    tree.part("preview-evil").click()
    tree.shows("preview")
    for bare in (board, tree):
        assert bare.count("#el img, #el script") == 0


def test_the_lineage_is_narrowed_widened_verified_and_asked_what_if(ws, shown):
    bare = shown(LineageGraph(ws, "topics"), "node-papers")
    bare.click("fewer-hops")
    bare.expect(
        lambda: (
            bare.count("node-papers") == 0 and "around topics, 1 hop" in bare.text(".jammi-hops")
        )
    )
    bare.click("expand-up-ml")
    bare.shows("node-papers")
    bare.part("node-ml").hover()
    bare.click("collapse-up-ml")
    bare.has("node-papers", 0)
    bare.click("more-hops")
    bare.click("show-all")
    bare.shows("node-vectors")
    bare.part("filter-input").fill("source")
    bare.expect(lambda: bare.panel.filter == "source" and bare.count("node-topics") == 0)
    bare.click("node-papers")
    bare.shows("what-if-papers")
    bare.click("what-if-papers")
    bare.says("outcome", "ml would be stale")
    assert "jammi-touched" in bare.attribute("node-ml", "class")
    bare.click("node-ml")
    bare.shows("verify-ml")
    bare.click("verify-ml")
    bare.expect(lambda: bare.text("outcome") == "match")
    bare.click("focus-ml")
    bare.expect(lambda: bare.panel.focus == "ml")


@pytest.mark.parametrize("width", [900, 480])
def test_the_boards_button_recomputes_what_is_not_fresh(ws, shown, papers, width):
    stale(papers)
    bare = shown(StalenessBoard(ws), "row-ml", wide=width)
    number = sum(n for word, n in bare.panel.counts.items() if word != "fresh")
    assert bare.text("recompute-chosen") == f"Recompute {number} not fresh"
    kept(bare, f"board-button-{width}")
    bare.click("recompute-chosen")
    bare.expect(lambda: [*bare.panel.counts] == ["fresh"])
    bare.says("recompute-chosen", "Recompute")
    assert bare.part("recompute-chosen").is_disabled()


@pytest.mark.parametrize("width", [900, 480])
def test_rarer_actions_of_the_lineage_are_behind_dots(ws, shown, width):
    bare = shown(LineageGraph(ws), "node-ml", wide=width)
    rare = ("refresh", "full-screen", "export-svg", "export-mermaid")
    assert not any(bare.visible(name) for name in rare)
    bare.part("more").click()
    assert all(bare.visible(name) for name in rare)
    kept(bare, f"lineage-more-{width}")
    bare.part("export-svg").click()
    bare.says(".jammi-said", "Saved lineage.svg")
    assert not bare.visible("export-svg")
    bare.press("Enter", "more")
    assert bare.visible("refresh")
    bare.press("Escape", "refresh")
    assert not bare.visible("refresh")
    assert bare.part("more").evaluate("e => e === document.activeElement")


AS_IN_A_LAB = "<!doctype html><body style='font: 12px sans-serif'>"


@pytest.mark.parametrize("width", [900, 480])
@pytest.mark.parametrize(("make", "part"), [*EACH, (compared, "show-history")])
def test_refresh_is_behind_dots_in_every_panel(ws, shown, make, part, width):
    bare = shown(make(ws), part, wide=width)
    assert not bare.visible("refresh")
    bare.part("more").click()
    ends = "e => e.getBoundingClientRect().right"
    bare.expect(lambda: bare.part(".jammi-menu").evaluate(ends) <= width)
    assert bare.visible("refresh")
    bare.part("refresh").click()
    assert not bare.visible("refresh") and bare.count(".jammi-bad") == 0


def test_why_is_whole_on_a_narrow_board_also_with_long_names(ws, shown, papers):
    long = "margins_by_region_and_product_family_of_all_the_subsidiaries_of_the_company"
    ws.materialize(long, "SELECT * FROM papers")
    ws.materialize("reader", f"SELECT * FROM jammi.{long}")
    stale(papers)
    bare = shown(StalenessBoard(ws), "row-reader", wide=480)
    inside = """e => { const why = e.querySelector('.jammi-one-line'), seen = why.getBoundingClientRect();
      return why.scrollHeight <= why.clientHeight && seen.right <= 480 && why.innerText; }"""
    assert bare.part("row-reader").evaluate(inside).endswith(f"by way of {long}")
    cause = bare.find(".jammi-cause").bounding_box()
    assert cause["x"] + cause["width"] <= 480
    bare.page.set_content(ws.status()._repr_html_())
    reason = bare.page.get_by_role("cell", name=f"by way of {long}").bounding_box()
    assert reason["x"] + reason["width"] <= 480


def test_tables_of_outputs_are_whole_on_a_narrow_page_or_scroll_in_a_box_of_their_own(
    ws, shown, papers
):
    ws.materialize("delay_by_weather", "SELECT DISTINCT topic FROM jammi.ml")
    ws.materialize("summary", "SELECT count(*) AS n FROM jammi.delay_by_weather")
    stale(papers)
    bare = shown(StalenessBoard(ws), "row-summary", wide=360)
    page, window = bare.page, "document.documentElement.scrollWidth <= window.innerWidth"
    for told, cell in (
        (ws.plan(), "by way of delay_by_weather ← ml"),
        (ws.recompute(), "not needed: inputs came out equal"),
    ):
        page.set_content(AS_IN_A_LAB + told._repr_html_())
        reason = page.get_by_role("cell", name=cell).first.bounding_box()
        assert reason["x"] + reason["width"] <= 360
    wide = ws.sql("SELECT id, title, title || title AS twice FROM papers")
    page.set_content(AS_IN_A_LAB + wide._repr_html_())
    box = page.locator("div:has(> table)")
    assert page.evaluate(window)
    assert box.evaluate("e => { e.scrollLeft = 999; return e.scrollLeft > 0; }")


def test_a_recompute_is_stopped_from_the_board(ws, shown, papers, monkeypatch):
    stale(papers)
    bare = shown(StalenessBoard(ws), "row-ml")

    def without_end(_names, progress):
        while True:  # until the report of it raises
            progress(Progress("recompute", 1, 4, "steps"))
            time.sleep(0.05)

    monkeypatch.setattr(ws, "recompute", without_end)
    bare.part("choose-ml").check()
    bare.click("recompute-chosen")
    bare.says(".jammi-progress", "recompute: 1 of 4 steps")
    bare.click("plan-chosen")
    bare.says(".jammi-said", "Another action is running")
    bare.click("stop")
    bare.expect(
        lambda: "Stopped." in bare.text(".jammi-said") and not bare.visible(".jammi-progress")
    )


def test_a_page_without_webgl_draws_the_points_one_by_one(ws, shown):
    bare = shown(EmbeddingMap(ws, "vectors"), "verdict-table")
    bare.page.evaluate("""() => { const made = HTMLCanvasElement.prototype.getContext;
      HTMLCanvasElement.prototype.getContext = function (kind, how) { return kind === "webgl2" ? null : made.call(this, kind, how); }; }""")
    here = bare.add(EmbeddingMap(ws, "vectors", color="topic"))
    bare.expect(
        lambda: (
            here.locator("[data-points='6']").count() == 1
            and here.locator(".jammi-key").count() == 2
        )
    )
    drawn = "c => c.getContext('2d').getImageData(0, 0, c.width, c.height).data.filter((v, i) => i % 4 === 3 && v > 0).length"
    assert here.get_by_test_id("map-canvas").evaluate(drawn) >= 6 * 4
