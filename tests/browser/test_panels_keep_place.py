"""What a person has in a panel stays theirs: the focus of the keyboard, what is open and said, and
the part of a picture that is looked at."""

from jammi_widgets import (
    LineageGraph,
    NeighborExplorer,
    StalenessBoard,
)
from jammi_widgets import auto_refresh as following
from tests.browser.bare import stale

FOCUSED = "() => document.activeElement === document.body ? '' : document.activeElement.dataset.testid ?? document.activeElement.textContent"


def focused(bare):
    return bare.page.evaluate(FOCUSED)


def pressed(bare, part):
    bare.press("Enter", part)


def test_keys_that_work_the_details_of_a_node_leave_the_focus_in_them(ws, shown, papers):
    stale(papers)
    bare = shown(LineageGraph(ws), "node-ml")
    bare.press("Enter", "node-ml")
    bare.shows("recompute-ml")
    pressed(bare, "recompute-ml")
    bare.expect(
        lambda: (
            "computed" in bare.text("outcome") and "fresh" in bare.text(".jammi-side .jammi-pill")
        )
    )
    assert focused(bare) == "recompute-ml"
    bare.part(".jammi-side").get_by_role("button", name="topics").focus()
    bare.press("Enter")
    bare.shows("recompute-topics")
    assert focused(bare) == "topics"
    bare.press("Escape")
    bare.expect(lambda: not bare.visible(".jammi-side") and focused(bare) == "node-topics")
    bare.press("Enter")
    bare.shows("close-details")
    bare.expect(lambda: bare.visible(".jammi-side"))
    pressed(bare, "close-details")
    bare.expect(lambda: not bare.visible(".jammi-side") and focused(bare) == "node-topics")
    assert bare.attribute("node-topics", "tabindex") == "0"


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


def test_what_is_open_said_and_scrolled_to_stays_when_a_cell_has_changed_something(ws, shown):
    bare = shown(LineageGraph(ws), "node-ml")
    bare.click("node-ml")
    bare.shows("preview-ml")
    bare.click("preview-ml")
    bare.says("outcome", "graph neural networks")
    bare.click("fold-definition")
    bare.part("fold-anchors").focus()
    side = bare.part(".jammi-side")
    side.evaluate("e => { e.scrollTop = 90 }")
    ws.materialize("later", "SELECT * FROM jammi.ml")
    following.schedule_refresh()
    bare.expect(lambda: bare.count("node-later") == 1 and "later" in side.inner_text())
    assert side.locator("details[open]").evaluate_all("all => all.map((e) => e.dataset.part)") == [
        "definition"
    ]
    assert "graph neural networks" in bare.text("outcome") and focused(bare) == "fold-anchors"
    assert side.evaluate("e => e.scrollTop") == 90
    bare.click("node-topics")
    bare.shows("preview-topics")
    assert side.locator("details[open]").count() == 0 and bare.text("outcome") == ""
