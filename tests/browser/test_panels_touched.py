"""What a hand does with panels: drags, wheels, chips, groups, pages; and what the eye
reads."""

import pytest

from jammi_widgets import (
    EmbeddingMap,
    LineageGraph,
    StalenessBoard,
)
from tests.browser.bare import EVIL, spot, stale

PLACE = "() => { const m = new DOMMatrix(getComputedStyle(document.querySelector('.jammi-drawing')).transform); return [m.e, m.f, m.a]; }"


def middle_of(part):
    box = part.bounding_box()
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def dragged(bare, start, by):
    mouse = bare.page.mouse
    mouse.move(*start)
    mouse.down()
    mouse.move(start[0] + by[0], start[1] + by[1], steps=5)
    mouse.up()


def wheeled(bare, at, by):
    bare.page.mouse.move(*at)
    bare.page.keyboard.down("Control")
    bare.page.mouse.wheel(0, by)
    bare.page.keyboard.up("Control")


def test_the_lineage_is_dragged_wheeled_and_zoomed_and_fit_brings_it_back(ws, shown):
    bare = shown(LineageGraph(ws), "node-ml")
    at = bare.page.evaluate(PLACE)
    canvas = bare.part(".jammi-canvas").bounding_box()
    dragged(bare, (canvas["x"] + 5, canvas["y"] + 5), (70, 40))
    assert bare.page.evaluate(PLACE) == pytest.approx([at[0] + 70, at[1] + 40, at[2]], abs=1)
    assert bare.panel.selection == []  # a drag is no click
    bare.page.mouse.wheel(0, -100)
    assert bare.page.evaluate(PLACE)[2] == pytest.approx(
        at[2]
    )  # the page scrolls, unless zooming is meant
    held = bare.part("node-ml").bounding_box()
    wheeled(bare, (held["x"], held["y"]), -100)
    bare.expect(lambda: bare.page.evaluate(PLACE)[2] > at[2] * 1.1)
    assert bare.part("node-ml").bounding_box()["x"] == pytest.approx(
        held["x"], abs=3
    )  # what is below the mouse stays there
    wheeled(bare, (held["x"], held["y"]), 100)
    bare.expect(lambda: bare.page.evaluate(PLACE)[2] < at[2] * 1.05)
    bare.page.get_by_role("button", name="Zoom in").click()
    bare.page.get_by_role("button", name="Zoom in").click()
    assert bare.page.evaluate(PLACE)[2] > at[2] * 1.4
    bare.page.get_by_role("button", name="Zoom out").click()
    bare.click("fit")
    assert bare.page.evaluate(PLACE) == pytest.approx(at, abs=1)
    bare.press("+", "node-ml")
    assert bare.page.evaluate(PLACE)[2] == pytest.approx(at[2] * 1.25, abs=0.01)
    bare.press("-")
    assert bare.page.evaluate(PLACE)[2] == pytest.approx(at[2], abs=0.01)


def test_space_chooses_a_node(ws, shown):
    bare = shown(LineageGraph(ws), "node-topics")
    bare.press("Space", "node-ml")
    bare.shows("preview-ml")
    side = bare.page.get_by_role("complementary", name="Details")
    assert (
        side.get_by_role("button", name="topics").count() == 1
        and f"Used by {EVIL}, topics" in side.inner_text()
    )
    side.get_by_role("button", name="papers").click()
    bare.expect(lambda: bare.panel.selection == ["papers"])


def fill_of(bare, name):
    bare.page.mouse.move(0, 0)
    return bare.part(name).evaluate(
        "e => [getComputedStyle(e).backgroundColor, getComputedStyle(e).borderColor]"
    )


def test_chips_of_the_board_narrow_it_to_a_verdict_or_a_cause_and_back(ws, shown, papers):
    ws.materialize("dice", "SELECT random() AS r")
    stale(papers)
    bare = shown(StalenessBoard(ws), "row-dice")
    rows = bare.find("tbody tr")
    resting = fill_of(bare, "count-stale")
    assert bare.attribute("count-stale", "aria-pressed") == "false"
    bare.click("count-stale")
    bare.expect(
        lambda: sorted(r.get_attribute("data-name") for r in rows.all()) == ["ml", "vectors"]
    )
    assert bare.panel.filter == "stale"
    assert [
        bare.attribute(f"count-{word}", "aria-pressed") for word in ("stale", "undecidable")
    ] == ["true", "false"]
    assert fill_of(bare, "count-stale") != resting == fill_of(bare, "count-undecidable")
    bare.click("count-stale")
    bare.expect(lambda: rows.count() == 5)
    assert bare.attribute("count-stale", "aria-pressed") == "false"
    bare.click("cause-papers changed")
    bare.expect(lambda: rows.count() == 4 and bare.count("row-dice") == 0)
    bare.click("cause-papers changed")
    bare.expect(lambda: rows.count() == 5)


def test_the_map_is_dragged_wheeled_zoomed_and_fit_and_a_point_is_read_by_the_mouse(ws, shown):
    bare = shown(EmbeddingMap(ws, "vectors"), "verdict-table")
    bare.has("[data-points='6']", 1)
    bare.page.mouse.move(*spot(bare, 3))
    bare.expect(lambda: bare.visible("tip") and "baking sourdough" in bare.text("tip"))
    assert bare.text("tip").startswith("3")
    [x, y], start = spot(bare, 3), middle_of(bare.part("map-canvas"))
    dragged(bare, (start[0], start[1] + 100), (120, 60))
    bare.page.mouse.move(0, 0)
    bare.expect(lambda: not bare.visible("tip"))
    bare.page.mouse.move(x + 120, y + 60)
    bare.expect(lambda: bare.visible("tip") and bare.text("tip").startswith("3"))
    assert bare.panel.selection == []  # a drag is no choice
    wheeled(bare, (x + 120, y + 60), -100)
    bare.page.mouse.move(0, 0)
    bare.page.mouse.move(x + 120, y + 60)  # what is below the mouse stays there
    bare.expect(lambda: bare.visible("tip") and bare.text("tip").startswith("3"))
    bare.page.get_by_role("button", name="Zoom in").click()
    bare.page.get_by_role("button", name="Zoom out").click()
    bare.click("fit")
    bare.page.mouse.move(0, 0)
    bare.page.mouse.move(x, y)
    bare.expect(lambda: bare.visible("tip") and bare.text("tip").startswith("3"))
    bare.panel.selection = ["1", "3"]
    bare.says("chosen", "2 chosen")
    bare.page.mouse.click(*spot(bare, 4))
    bare.expect(lambda: bare.panel.selection == ["4"] and "1 chosen" in bare.text("chosen"))
