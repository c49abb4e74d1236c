"""A lineage of which little is seen: what is seen is written first, the rest a little later, and
nothing is ever looked at unwritten."""

import pytest

import jammi_lab as jl
from jammi_lab.core.records import Edge
from jammi_lab.core.verdicts import Fresh, Stale
from jammi_lab.freshness.lineage import Node
from jammi_widgets import LineageGraph, protocol
from jammi_widgets.graph_view import LineageSnapshot
from tests.browser.bare import Bare

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.leaves_behind("playwright keeps a loop and its pipes for the session"),
]
NODES, WIDE = 400, 20
UNWRITTEN = """() => [...document.querySelectorAll('.jammi-node')].filter((n) => !n.querySelector('.jammi-kind')).map((n) => n.dataset.id)"""
PLACE = "() => { const m = new DOMMatrix(getComputedStyle(document.querySelector('.jammi-drawing')).transform); return [m.e, m.f, m.a]; }"
SEEN_UNWRITTEN = """() => { const room = document.querySelector('.jammi-canvas').getBoundingClientRect();
  return [...document.querySelectorAll('.jammi-node')].filter((n) => !n.querySelector('.jammi-kind')).filter((n) => { const b = n.querySelector('.jammi-shape').getBoundingClientRect();
    return b.right > room.left + 2 && b.left < room.right - 2 && b.bottom > room.top + 2 && b.top < room.bottom - 2; }).map((n) => n.dataset.id) }"""


@pytest.fixture
def large(tmp_path, browser, monkeypatch):
    """Puts a panel over many tables on a page, whose timers never fire when `held`."""
    monkeypatch.setattr("jammi_widgets.graph_view.MAX_DRAWN_NODES", NODES)
    made = []
    with jl.open(tmp_path / "lab") as ws:

        def put(held, snapshot=None, **size):
            panel = LineageGraph(ws)
            nodes = [Node("sql", f"table_{i}", 1) for i in range(NODES)]
            edges = [
                Edge(f"table_{i}", f"table_{i + WIDE}", "result_digest")
                for i in range(NODES - WIDE)
            ]
            plain = LineageSnapshot(nodes, edges, {n.name: Fresh() for n in nodes})
            panel._snapshot = snapshot or plain
            made.append(bare := Bare(browser, panel, "lineage", **size))
            if held:
                bare.page.evaluate("window.setTimeout = () => 0")
            bare.shows("node-table_0")
            return bare

        yield put
        for bare in made:
            bare.close()


def test_what_is_seen_is_written_at_once_and_the_rest_when_it_is_looked_at(large):
    bare = large(held=True)
    unwritten = bare.page.evaluate(UNWRITTEN)
    assert NODES / 2 < len(unwritten) < NODES
    assert bare.page.evaluate(SEEN_UNWRITTEN) == []
    bare.part("fit").click()
    assert bare.page.evaluate(SEEN_UNWRITTEN) == []


def test_a_node_that_the_mouse_or_the_keyboard_comes_to_is_written(large):
    bare = large(held=True)
    bare.part("node-table_0").focus()
    for _ in range(12):
        bare.page.keyboard.press("ArrowRight")
        assert (
            bare.page.evaluate(
                "() => document.activeElement.querySelectorAll('.jammi-kind').length"
            )
            == 1
        )
        assert bare.page.evaluate(SEEN_UNWRITTEN) == []
    far = bare.page.evaluate(UNWRITTEN)[-1]
    bare.part(f"node-{far}").dispatch_event("pointerover")
    assert bare.part(f"node-{far}").locator(".jammi-kind").count() == 1
    assert bare.part(f"collapse-up-{far}").count() == 1


def test_all_nodes_are_written_once_soon_after(large):
    bare = large(held=False)
    bare.expect(lambda: bare.page.evaluate(UNWRITTEN) == [])
    assert (
        bare.page.locator(".jammi-kind").count()
        == bare.page.locator(".jammi-word").count()
        == NODES
    )


def test_the_way_of_a_column_stands_in_nodes_that_were_written_after_it_was_lit(large):
    bare = large(held=True)
    far = bare.page.evaluate(UNWRITTEN)[-1]
    answer = bare.panel._answer
    known = {
        "id": "table_0",
        "name": "table_0",
        "said": "SQL",
        "verdict": "",
        "reasons": [],
        "actions": [],
        "facts": [],
        "identifiers": [],
        "changes": [],
        "reads": [],
        "readBy": [],
        "checks": [],
    }
    known |= {"columns": [["x", "INTEGER"]], "anchors": [], "definition": ""}
    way = {
        "node": "table_0",
        "column": "x",
        "columns": [["table_0", ["x"]], [far, ["made of x"]]],
        "lines": [],
        "edges": [],
    }
    answers = {protocol.Details: known, protocol.TraceColumn: way}
    bare.panel._answer = lambda message: (
        answers[type(message)] if type(message) in answers else answer(message)
    )
    bare.part("node-table_0").click()
    bare.shows("fold-columns")
    bare.part("fold-columns").click()
    bare.part("column-x").click()
    bare.expect(lambda: "jammi-on" in bare.part(f"node-{far}").get_attribute("class"))
    assert bare.part(f"node-{far}").locator(".jammi-kind").count() == 0
    bare.part(f"node-{far}").dispatch_event("pointerover")
    assert bare.part(f"node-{far}").locator(".jammi-kind").inner_html() == "made of x"
    assert bare.part("node-table_0").locator(".jammi-kind").inner_html() == "x"


def test_what_more_room_shows_of_a_picture_that_was_moved_is_written_at_once(large):
    bare = large(held=True, wide=500)
    bare.part("node-table_0").focus()
    for key in "+-":
        bare.page.keyboard.press(key)
    before = len(bare.page.evaluate(UNWRITTEN))
    bare.page.set_viewport_size({"width": 1400, "height": 700})
    bare.expect(lambda: len(bare.page.evaluate(UNWRITTEN)) < before)
    assert bare.page.evaluate(SEEN_UNWRITTEN) == []


@pytest.mark.parametrize(("wide", "scale"), [(400, 0.85), (1000, 0.7)])
def test_a_large_lineage_begins_so_that_it_can_be_read_and_larger_where_there_is_little_room(
    large, wide, scale
):
    bare = large(held=True, wide=wide)
    assert bare.page.evaluate(PLACE)[2] == pytest.approx(scale)


def test_fit_brings_all_of_a_large_lineage_into_view(large):
    bare = large(held=False, wide=400)
    bare.part("fit").click()
    room = bare.page.locator(".jammi-canvas").bounding_box()
    drawn = bare.page.evaluate(
        "() => [...document.querySelectorAll('.jammi-shape')].map((e) => e.getBoundingClientRect()).map((b) => [b.left, b.top, b.right, b.bottom])"
    )
    assert (
        len(drawn) == NODES
        and min(b[0] for b in drawn) >= room["x"] - 1
        and min(b[1] for b in drawn) >= room["y"] - 1
    )
    assert (
        max(b[2] for b in drawn) <= room["x"] + room["width"] + 1
        and max(b[3] for b in drawn) <= room["y"] + room["height"] + 1
    )


def test_tab_comes_to_one_node_which_is_then_seen_and_fit_still_brings_all_into_view(large):
    bare = large(held=True, wide=500)
    away = """() => { const room = document.querySelector('.jammi-canvas').getBoundingClientRect(), b = document.activeElement.querySelector('.jammi-shape').getBoundingClientRect();
      return Math.max(room.left - b.left, b.right - room.right, room.top - b.top, b.bottom - room.bottom); }"""
    bare.page.evaluate(
        "document.querySelector('.jammi-node[tabindex=\"0\"]').setAttribute('tabindex', -1)"
    )
    bare.part("node-table_399").evaluate("e => e.setAttribute('tabindex', 0)")
    bare.part("legend-fresh").focus()
    bare.page.keyboard.press("Tab")
    assert bare.page.evaluate("document.activeElement.dataset.id") == "table_399"
    bare.expect(
        lambda: (
            bare.page.evaluate("document.querySelector('.jammi-canvas').scrollTop") == 0
            and bare.page.evaluate(away) <= 0
        )
    )
    assert bare.page.evaluate(SEEN_UNWRITTEN) == []
    bare.part("fit").click()
    room = bare.page.locator(".jammi-canvas").bounding_box()
    assert (
        room["y"] - 1
        <= bare.part("node-table_0").locator(".jammi-shape").bounding_box()["y"]
        <= room["y"] + room["height"]
    )


def test_what_a_filter_finds_after_fit_can_be_read(large):
    bare = large(held=False)
    bare.part("fit").click()
    small = bare.page.evaluate(PLACE)[2]
    bare.panel.filter = "table_1"
    bare.expect(lambda: "of 400" in bare.part("summary").inner_text())
    assert small < 0.5 < 0.7 <= bare.page.evaluate(PLACE)[2]


def test_of_many_tables_fitted_to_the_screen_each_is_seen_with_its_verdict(large):
    """150 tables in four layers, most of them stale."""
    starts = [0, 10, 50, 100, 150]
    nodes = [Node("sql", f"table_{i}", 1) for i in range(150)]
    edges = [
        Edge(f"table_{before + (i * step) % 10}", f"table_{i}", "result_digest")
        for before, start, end in zip(starts, starts[1:], starts[2:], strict=False)
        for i in range(start, end)
        for step in (1, 3)
    ]
    verdicts = {n.name: Fresh() if i % 7 == 0 else Stale([]) for i, n in enumerate(nodes)}
    bare = large(False, LineageSnapshot(nodes, edges, verdicts), wide=1400, high=800)
    bare.part("fit").click()
    boxes = bare.page.evaluate(
        "() => [...document.querySelectorAll('.jammi-shape')].map((e) => e.getBoundingClientRect()).map((b) => [b.width, b.height])"
    )
    assert len(boxes) == 150
    assert min(w for w, _ in boxes) > 28 and min(h for _, h in boxes) > 12
    signs = bare.page.locator(".jammi-far-sign")
    assert signs.count() == sum(isinstance(v, Stale) for v in verdicts.values())
    assert signs.first.bounding_box()["height"] > 7
