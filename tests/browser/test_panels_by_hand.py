"""Panels worked without a mouse, told to a screen reader, kept still, filled to the brim, and asked
from Python."""

import time

import pytest

import jammi_lab as jl
from jammi_lab.core.records import Progress
from jammi_widgets import (
    EmbeddingMap,
    LineageGraph,
    NeighborExplorer,
    StalenessBoard,
)
from tests.browser.bare import bad, kept, stale


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


def test_the_lineage_is_narrowed_widened_verified_and_asked_what_if(ws, shown):
    bare = shown(LineageGraph(ws, "topics"), "node-papers")
    bare.panel.selection = ["vectors"]
    bare.shows("node-vectors")
    bare.panel.selection = []
    bare.has("node-vectors", 0)
    bare.click("fewer-hops")
    bare.expect(
        lambda: (
            bare.count("node-papers") == 0 and "around topics, 1 hop" in bare.text(".jammi-hops")
        )
    )
    bare.click("more-hops")
    bare.shows("node-papers")
    bare.click("show-all")
    bare.shows("node-vectors")
    assert bare.panel.focus is None
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


def test_the_boards_button_recomputes_what_is_not_fresh(ws, shown, papers):
    stale(papers)
    bare = shown(StalenessBoard(ws), "row-ml", wide=480)
    number = sum(n for word, n in bare.panel.counts.items() if word != "fresh")
    assert bare.text("recompute-chosen") == f"Recompute {number} not fresh"
    bare.click("recompute-chosen")
    bare.expect(lambda: [*bare.panel.counts] == ["fresh"])
    bare.says("recompute-chosen", "Recompute")
    assert bare.part("recompute-chosen").is_disabled()


def test_rarer_actions_of_the_lineage_are_behind_dots(ws, shown):
    bare = shown(LineageGraph(ws), "node-ml", wide=480)
    rare = ("refresh", "full-screen", "export-svg", "export-mermaid")
    assert not any(bare.visible(name) for name in rare)
    bare.part("more").click()
    assert all(bare.visible(name) for name in rare)
    bare.part("export-svg").click()
    bare.says(".jammi-said", "Saved lineage.svg")
    assert not bare.visible("export-svg")
    bare.press("Enter", "more")
    assert bare.visible("refresh")
    bare.press("Escape", "refresh")
    assert not bare.visible("refresh")
    assert bare.part("more").evaluate("e => e === document.activeElement")


AS_IN_A_LAB = "<!doctype html><body style='font: 12px sans-serif'>"


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
