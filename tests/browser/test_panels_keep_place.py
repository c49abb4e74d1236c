"""What a person has in a panel stays theirs: the focus of the keyboard, what is open and said, and
the part of a picture that is looked at."""

import time

import pytest

import jammi_lab as jl
from jammi_lab.core.records import Progress
from jammi_widgets import (
    CatalogBrowser,
    EmbeddingMap,
    LineageGraph,
    NeighborExplorer,
    StalenessBoard,
)
from jammi_widgets import auto_refresh as following
from tests.browser.test_panels import on_page, papers, shown, spot, stale, ws  # noqa: F401  the fixtures

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.leaves_behind("playwright keeps a loop and its pipes for the session"),
]
FOCUSED = "() => document.activeElement === document.body ? '' : document.activeElement.dataset.testid ?? document.activeElement.textContent"
PLACE = "name => { const box = document.querySelector(`[data-testid=node-${name}] .jammi-shape`).getBoundingClientRect(); return [Math.round(box.x), Math.round(box.y)]; }"


def focused(bare):
    return bare.page.evaluate(FOCUSED)


def pressed(bare, part):
    bare.part(part).focus()
    bare.page.keyboard.press("Enter")


def test_keys_that_work_the_details_of_a_node_leave_the_focus_in_them(ws, shown, papers):
    stale(papers)
    bare = shown(LineageGraph(ws), "node-ml")
    bare.part("node-ml").focus()
    bare.page.keyboard.press("Enter")
    bare.shows("recompute-ml")
    pressed(bare, "recompute-ml")
    bare.expect(
        lambda: (
            "computed" in bare.part("outcome").inner_text()
            and "fresh" in bare.page.locator(".jammi-side .jammi-pill").inner_text()
        )
    )
    assert focused(bare) == "recompute-ml"
    bare.page.locator(".jammi-side").get_by_role("button", name="topics").focus()
    bare.page.keyboard.press("Enter")
    bare.shows("recompute-topics")
    assert focused(bare) == "topics"
    bare.page.keyboard.press("Escape")
    bare.expect(
        lambda: not bare.page.locator(".jammi-side").is_visible() and focused(bare) == "node-topics"
    )
    bare.page.keyboard.press("Enter")
    bare.shows("close-details")
    bare.expect(lambda: bare.page.locator(".jammi-side").is_visible())
    pressed(bare, "close-details")
    bare.expect(
        lambda: not bare.page.locator(".jammi-side").is_visible() and focused(bare) == "node-topics"
    )
    assert bare.part("node-topics").get_attribute("tabindex") == "0"


def test_a_button_that_is_drawn_away_hands_the_focus_on(ws, shown, papers):
    graph = shown(LineageGraph(ws, "ml"), "show-all")
    pressed(graph, "show-all")
    graph.expect(lambda: graph.part("show-all").count() == 0)
    assert focused(graph) == "columns"
    pressed(near := shown(NeighborExplorer(ws, "vectors", 0), "step-2"), "step-2")
    near.expect(
        lambda: (
            "trail-1"
            in [
                e.get_attribute("data-testid")
                for e in near.page.locator(".jammi-trail button").all()
            ]
        )
    )
    assert focused(near).startswith("neighbor-")
    pressed(near, "trail-0")
    near.expect(lambda: "Neighbours of 0" in near.part("own").inner_text())
    assert focused(near) == "trail-0"
    for pin in near.page.get_by_role("button", name="Pin").all()[:2]:
        pin.click()
    near.shows("unpin")
    pressed(near, "unpin")
    assert focused(near).startswith("neighbor-")
    stale(papers)
    board = shown(StalenessBoard(ws), "count-stale")
    pressed(board, "cause-papers changed")
    board.expect(lambda: board.part("cause-papers changed").get_attribute("aria-pressed") == "true")
    assert focused(board) == "cause-papers changed"
    pressed(board, "count-stale")
    board.expect(lambda: board.part("foot").inner_text() == "1 to 2 of 2, of 4 in total")
    assert focused(board) == "count-stale"
    pressed(board, "recompute-ml")
    board.expect(lambda: board.part("row-ml").count() == 0)
    assert focused(board) == "row-vectors"


def test_a_button_that_goes_with_its_work_hands_the_focus_on(ws, shown, papers, monkeypatch):
    stale(papers)
    plan = shown(EmbeddingMap(ws, "vectors"), "recompute")
    plan.expect(lambda: plan.part("recompute").is_visible())
    pressed(plan, "recompute")
    plan.expect(lambda: not plan.part("recompute").is_visible())
    assert focused(plan) == "map-canvas"

    def endless(_, progress):
        while True:
            progress(Progress("recompute", 0, 4, "steps"))
            time.sleep(0.02)

    board = shown(StalenessBoard(ws), "recompute-ml")
    monkeypatch.setattr(ws, "recompute", endless)
    board.part("recompute-ml").click()
    board.expect(lambda: board.part("stop").is_visible())
    pressed(board, "stop")
    board.expect(lambda: not board.part("stop").is_visible())
    assert focused(board) == "filter-input"


def test_a_plan_is_put_away(ws, shown, papers):
    stale(papers)
    bare = shown(StalenessBoard(ws), "choose-ml")
    bare.part("choose-ml").check()
    bare.part("plan-chosen").click()
    bare.shows("plan")
    pressed(bare, "close-outcome")
    assert bare.part("outcome").inner_text() == "" and focused(bare) == "plan-chosen"


def test_what_is_open_said_and_scrolled_to_stays_when_a_cell_has_changed_something(ws, shown):
    bare = shown(LineageGraph(ws), "node-ml")
    bare.part("node-ml").click()
    bare.shows("preview-ml")
    bare.part("preview-ml").click()
    bare.expect(lambda: "graph neural networks" in bare.part("outcome").inner_text())
    bare.part("fold-definition").click()
    bare.part("fold-anchors").focus()
    side = bare.page.locator(".jammi-side")
    side.evaluate("e => { e.scrollTop = 90 }")
    ws.materialize("later", "SELECT * FROM jammi.ml")
    following.schedule_refresh()
    bare.expect(lambda: bare.part("node-later").count() == 1 and "later" in side.inner_text())
    assert side.locator("details[open]").evaluate_all("all => all.map((e) => e.dataset.part)") == [
        "definition"
    ]
    assert (
        "graph neural networks" in bare.part("outcome").inner_text()
        and focused(bare) == "fold-anchors"
    )
    assert side.evaluate("e => e.scrollTop") == 90
    bare.part("node-topics").click()
    bare.shows("preview-topics")
    assert side.locator("details[open]").count() == 0 and bare.part("outcome").inner_text() == ""


def test_a_preview_and_a_column_of_the_catalog_stay_when_a_cell_has_changed_something(ws, shown):
    bare = shown(CatalogBrowser(ws), "catalog-item-ml")
    bare.part("preview-ml").click()
    bare.shows("preview")
    press = bare.page.keyboard.press
    bare.part("catalog-item-ml").focus()
    press("ArrowRight")
    bare.shows("catalog-item-title")
    press("ArrowRight")
    bare.expect(lambda: focused(bare) == "catalog-item-id")
    press("ArrowDown")
    ws.materialize("later", "SELECT 1 AS a")
    following.schedule_refresh()
    bare.expect(
        lambda: (
            bare.part("catalog-item-later").count() == 1
            and bare.part("catalog-item-title").count() == 1
        )
    )
    assert bare.part("preview").is_visible()
    bare.expect(lambda: focused(bare) == "catalog-item-title")
    for key, there in (
        ("ArrowLeft", "catalog-item-ml"),
        ("Home", "catalog-item-papers"),
        ("End", "catalog-item-hashing::1"),
    ):
        press(key)
        assert focused(bare) == there
    ws.sources.add("more", ws.sql("SELECT 1 AS a").arrow())
    ws.materialize("ml", "SELECT id FROM papers WHERE topic = 'ml'")
    following.schedule_refresh()
    bare.expect(lambda: bare.part("catalog-item-more").count() == 1)
    assert bare.part("preview").count() == 0  # its rows were those of the version before


def test_the_heads_of_a_narrow_board_stay_above_its_cards(ws, shown):
    for at in range(6):
        ws.materialize(f"more{at}", "SELECT * FROM jammi.ml")
    bare = shown(StalenessBoard(ws), "row-more5", wide=400)
    bare.page.locator(".jammi-tall").evaluate("e => { e.scrollTop = 200 }")
    top, head = (
        bare.page.locator(part).first.bounding_box()["y"]
        for part in (".jammi-tall", ".jammi-board thead")
    )
    assert abs(head - top) <= 1
    assert bare.page.locator(".jammi-board thead").evaluate(
        "e => e.contains(document.elementFromPoint(100, e.getBoundingClientRect().y + 5))"
    )


def test_what_is_said_of_a_point_lies_within_the_map(ws, shown):
    ws.sources.add(
        "tall",
        ws.sql(
            "SELECT i AS id, repeat('text ' || i || ' ', 30) AS title FROM range(3) t(i)"
        ).arrow(),
    )
    ws.embed("high", "tall", key="id", text="title", model="hashing")
    bare = shown(EmbeddingMap(ws, "high"), "verdict-table", wide=400)
    bare.expect(lambda: bare.page.locator("[data-points='3']").count() == 1)
    for point in range(3):
        bare.page.mouse.move(*spot(bare, point))
        bare.expect(lambda: bare.part("tip").is_visible())
        outer, tip = (
            bare.page.locator(".jammi-body").bounding_box(),
            bare.part("tip").bounding_box(),
        )
        assert outer["x"] <= tip["x"] and tip["x"] + tip["width"] <= outer["x"] + outer["width"] + 1
        assert (
            outer["y"] <= tip["y"] and tip["y"] + tip["height"] <= outer["y"] + outer["height"] + 1
        )


@pytest.fixture
def long(tmp_path):
    """A chain of tables, wider than a page, and a short one that leaves it."""
    with jl.open(tmp_path / "long") as made:
        made.materialize("t0", "SELECT 1 AS a")
        for at in range(1, 24):
            made.materialize(f"t{at}", f"SELECT * FROM jammi.t{at - 1}")
        made.materialize("side", "SELECT * FROM jammi.t10")
        made.materialize("end", "SELECT * FROM jammi.side")
        yield made


def test_a_node_that_is_unfolded_or_looked_at_stays_where_it_is(long, shown):
    bare = shown(LineageGraph(long), "node-t0")
    box = bare.page.locator(".jammi-canvas").bounding_box()
    bare.page.mouse.move(box["x"] + 900, box["y"] + 140)
    bare.page.mouse.down()
    bare.page.mouse.move(box["x"] + 100, box["y"] + 140, steps=4)
    bare.page.mouse.up()
    before = bare.page.evaluate(PLACE, "side")
    assert box["x"] < before[0] < box["x"] + 800
    bare.part("node-side").hover()
    for fold, there in (("collapse", 0), ("expand", 1)):
        bare.part(f"{fold}-down-side").click()
        bare.expect(lambda there=there: bare.part("node-end").count() == there)
        assert bare.page.evaluate(PLACE, "side")[0] == before[0]
    long.materialize("later", "SELECT * FROM jammi.t23")
    following.schedule_refresh()
    bare.expect(lambda: bare.part("node-later").count() == 1)
    assert bare.page.evaluate(PLACE, "side")[0] == before[0]


def test_of_a_long_way_the_middle_is_folded_and_the_keyboard_still_comes_to_every_step(ws, shown):
    near = shown(NeighborExplorer(ws, "vectors"), "note")
    for at in range(20):
        near.part("query-input").fill(f"text {at}")
        near.part("query-input").press("Enter")
        near.expect(
            lambda at=at: (
                f"text {at}"
                in near.page.locator(".jammi-trail [aria-current]").all_inner_texts()[-1:][0]
                if at
                else near.part("trail-0").count()
            )
        )
    there = near.page.locator(".jammi-trail [data-testid]")
    names = [f"trail-{at}" for at in (0, "between", 15, 16, 17, 18, 19)]
    assert [each.get_attribute("data-testid") for each in there.all()] == names and near.part(
        "trail-between"
    ).inner_text() == "… 14 steps …"
    pressed(near, "trail-between")
    near.expect(lambda: there.count() == 21)
    assert (
        focused(near) == "trail-between"
        and near.part("trail-between").get_attribute("aria-expanded") == "true"
    )
    near.page.keyboard.press("Tab")
    assert focused(near) == "trail-1"
    pressed(near, "trail-between")
    near.expect(lambda: there.count() == 7)
    pressed(near, "trail-between")
    pressed(near, "trail-3")
    near.expect(lambda: there.count() == 4)
    assert focused(near) == "trail-3"
