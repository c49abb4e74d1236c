"""A lineage of which little is seen at first."""

import pytest

import jammi_lab as jl
from jammi_lab.core.verdicts import Fresh, Stale
from tests.browser.bare import Bare
from tests.inside import lineage_of

NODES, WIDE = 400, 20
LARGE = {f"table_{i}": Fresh() for i in range(NODES)}
PLACE = "() => { const m = new DOMMatrix(getComputedStyle(document.querySelector('.jammi-drawing')).transform); return [m.e, m.f, m.a]; }"


@pytest.fixture
def large(tmp_path, browser, monkeypatch):
    """Puts a panel over many tables on a page."""
    monkeypatch.setattr("jammi_widgets.graph_view.MAX_DRAWN_NODES", NODES)
    made = []
    with jl.open(tmp_path / "lab") as ws:

        def put(verdicts=LARGE, step=WIDE, part="node-table_0", **size):
            made.append(bare := Bare(browser, lineage_of(ws, verdicts, step), "lineage", **size))
            bare.shows(part)
            return bare

        yield put
        for bare in made:
            bare.close()


def test_fit_brings_all_of_a_large_lineage_into_view(large):
    bare = large(wide=400)
    bare.click("fit")
    room = bare.part(".jammi-canvas").bounding_box()
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


CHAIN = ["weather", "rain", "delay_by_weather", "summary"]
CUT = """() => { const room = document.querySelector('.jammi-canvas').getBoundingClientRect();
  return [...document.querySelectorAll('.jammi-node')].filter((e) => { const b = e.getBoundingClientRect();
    return b.left < room.left || b.right > room.right || b.top < room.top || b.bottom > room.bottom; }).map((e) => e.dataset.id); }"""


@pytest.mark.parametrize("wide", [480, 620, 1000])
def test_of_a_small_lineage_no_table_is_cut_at_first(large, wide):
    """What is beside the others, such as the last one, is not left to be found."""
    bare = large(dict.fromkeys(CHAIN, Stale([])), 1, part="node-summary", wide=wide)
    assert bare.page.evaluate(CUT) == []
    assert bare.part(".jammi-far-sign").first.is_hidden(), "its letters are drawn"
    high = bare.part(".jammi-canvas").bounding_box()["height"]
    bare.page.set_viewport_size({"width": 1400, "height": 700})
    bare.expect(lambda: bare.page.evaluate(PLACE)[2] == pytest.approx(1.1))
    bare.page.set_viewport_size({"width": wide, "height": 700})
    bare.expect(lambda: bare.part(".jammi-canvas").bounding_box()["height"] == high)


def test_what_a_filter_finds_after_fit_can_be_read(large):
    bare = large()
    bare.click("fit")
    small = bare.page.evaluate(PLACE)[2]
    bare.panel.filter = "table_1"
    bare.says("summary", "of 400")
    assert small < 0.5 < 0.7 <= bare.page.evaluate(PLACE)[2]
