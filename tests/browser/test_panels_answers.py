"""What a panel answers, and about what: under the right name, at a size that can be read, in the
place that it belongs to."""

import threading

import pytest

from jammi_widgets import (
    LineageGraph,
)
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
