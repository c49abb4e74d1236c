"""What a panel answers, and about what: under the right name, at a size that can be read, in the
place that it belongs to."""

import threading

import pytest

import jammi_lab as jl
from jammi_widgets import (
    CatalogBrowser,
    LineageGraph,
    NeighborExplorer,
    StalenessBoard,
)
from tests.browser.bare import stale
from tests.inside import runner_of


def slowly(monkeypatch, ws, name):
    """A question of the workspace that is not answered before what this gives is set."""
    gate, plain = threading.Event(), getattr(ws, name)

    def waiting(*named, **how):
        gate.wait(30)
        return plain(*named, **how)

    monkeypatch.setattr(ws, name, waiting)
    return gate


@pytest.mark.parametrize(
    ("action", "asked", "said"),
    [
        ("verify", "verify", "ml: match"),
        ("what-if", "what_if", "ml: topics would be"),
        ("recompute", "recompute", "ml: "),
    ],
)
def test_an_answer_about_one_node_never_stands_below_another(
    ws, shown, monkeypatch, action, asked, said
):
    gate = slowly(monkeypatch, ws, asked)
    bare = shown(LineageGraph(ws), "node-ml")
    bare.click("node-ml")
    bare.shows(f"{action}-ml")
    bare.click(f"{action}-ml")
    bare.expect(lambda: runner_of(bare.panel).busy)
    bare.click("node-topics")
    bare.shows(f"{action}-topics")
    gate.set()
    bare.expect(lambda: said in bare.text(".jammi-said"))
    runner_of(bare.panel).wait(10)
    bare.page.wait_for_timeout(100)
    bare.deliver()
    assert bare.text("outcome") == "" and bare.text(".jammi-side h4") == "topics"


def test_what_a_recompute_said_does_not_follow_to_the_node_that_is_chosen_then(
    ws, shown, monkeypatch, papers
):
    stale(papers)
    bare = shown(LineageGraph(ws), "node-ml")
    bare.click("node-ml")
    bare.shows("recompute-ml")
    plain, late = bare.panel.send, []

    def send(content, buffers=None):
        """What is to be said about ml after it was recomputed comes late."""
        if content["kind"] == "answer" and content["body"].get("id") == "ml" and not late:
            late.append(content)
        else:
            plain(content, buffers)

    bare.panel.send = send
    bare.click("recompute-ml")
    bare.expect(lambda: late != [])
    bare.click("node-topics")
    bare.expect(lambda: bare.text(".jammi-side h4") == "topics")
    plain(late[0])
    bare.deliver()
    bare.page.wait_for_timeout(100)
    assert bare.text("outcome") == ""


@pytest.fixture
def wide(tmp_path):
    """A chain of tables that is much wider than a page."""
    with jl.open(tmp_path / "wide") as made:
        made.materialize("t0", "SELECT 1 AS a")
        for at in range(1, 24):
            made.materialize(f"t{at}", f"SELECT * FROM jammi.t{at - 1}")
        yield made


def test_what_is_pressed_pinned_or_open_says_so(ws, shown, papers):
    near = shown(NeighborExplorer(ws, "vectors", 0), "neighbor-2")
    assert near.part("pin-2").get_attribute("aria-pressed") == "false"
    near.part("pin-2").click()
    assert [near.part(f"pin-{key}").get_attribute("aria-pressed") for key in "25"] == [
        "true",
        "false",
    ]
    stale(papers)
    board = shown(StalenessBoard(ws), "cause-papers changed")
    board.part("cause-papers changed").click()
    board.expect(lambda: board.part("cause-papers changed").get_attribute("aria-pressed") == "true")
    assert (
        shown(CatalogBrowser(ws), "catalog-item-ml")
        .page.locator("button[aria-expanded=true]")
        .count()
        == 3
    )
