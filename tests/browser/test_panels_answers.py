"""What a panel answers, and about what: under the right name, at a size that can be read, in the
place that it belongs to."""

import threading

import duckdb
import pytest

import jammi_lab as jl
from jammi_widgets import (
    CatalogBrowser,
    EmbeddingMap,
    LineageGraph,
    NeighborExplorer,
    StalenessBoard,
)
from tests.browser.test_panels import bad, kept, on_page, papers, shown, stale, ws  # noqa: F401  the fixtures
from tests.inside import runner_of

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.leaves_behind("playwright keeps a loop and its pipes for the session"),
]


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
    bare.part("node-ml").click()
    bare.shows(f"{action}-ml")
    bare.part(f"{action}-ml").click()
    bare.expect(lambda: runner_of(bare.panel).busy)
    bare.part("node-topics").click()
    bare.shows(f"{action}-topics")
    gate.set()
    bare.expect(lambda: said in bare.page.locator(".jammi-said").inner_text())
    runner_of(bare.panel).wait(10)
    bare.page.wait_for_timeout(100)
    bare.deliver()
    assert (
        bare.part("outcome").inner_text() == ""
        and bare.page.locator(".jammi-side h4").inner_text() == "topics"
    )


def test_what_a_recompute_said_does_not_follow_to_the_node_that_is_chosen_then(
    ws, shown, monkeypatch, papers
):
    stale(papers)
    bare = shown(LineageGraph(ws), "node-ml")
    bare.part("node-ml").click()
    bare.shows("recompute-ml")
    plain, late = bare.panel.send, []

    def send(content, buffers=None):
        """What is to be said about ml after it was recomputed comes late."""
        if content["kind"] == "answer" and content["body"].get("id") == "ml" and not late:
            late.append(content)
        else:
            plain(content, buffers)

    bare.panel.send = send
    bare.part("recompute-ml").click()
    bare.expect(lambda: late != [])
    bare.part("node-topics").click()
    bare.expect(lambda: bare.page.locator(".jammi-side h4").inner_text() == "topics")
    plain(late[0])
    bare.deliver()
    bare.page.wait_for_timeout(100)
    assert bare.part("outcome").inner_text() == ""


@pytest.fixture
def wide(tmp_path):
    """A chain of tables that is much wider than a page."""
    with jl.open(tmp_path / "wide") as made:
        made.materialize("t0", "SELECT 1 AS a")
        for at in range(1, 24):
            made.materialize(f"t{at}", f"SELECT * FROM jammi.t{at - 1}")
        yield made


SEEN = """node => { const box = document.querySelector('.jammi-canvas').getBoundingClientRect(), it = document.querySelector(`[data-testid=node-${node}]`).getBoundingClientRect();
  return it.left >= box.left - 20 && it.right <= box.right + 20 && it.top >= box.top - 20 && it.bottom <= box.bottom + 20; }"""
SCALE = (
    "() => new DOMMatrix(getComputedStyle(document.querySelector('.jammi-drawing')).transform).a"
)


def test_a_large_lineage_begins_at_a_size_that_can_be_read_and_fit_shows_all_of_it(wide, shown):
    bare = shown(LineageGraph(wide), "node-t0")
    assert (
        bare.page.evaluate(SCALE) >= 0.6
        and bare.page.evaluate(SEEN, "t0")
        and not bare.page.evaluate(SEEN, "t23")
    )
    kept(bare, "lineage-large")
    bare.part("fit").click()
    assert (
        bare.page.evaluate(SCALE) < 0.6
        and bare.page.evaluate(SEEN, "t0")
        and bare.page.evaluate(SEEN, "t23")
    )
    bare.page.set_viewport_size({"width": 800, "height": 700})
    bare.expect(lambda: bare.page.evaluate(SEEN, "t23"))


def test_a_large_lineage_begins_around_the_node_that_was_named_or_chosen_and_stays_there(
    wide, shown
):
    panel = LineageGraph(wide, "t12")
    panel._view.hops = None
    bare = shown(panel, "node-t0")
    assert (
        bare.page.evaluate(SCALE) >= 0.6
        and bare.page.evaluate(SEEN, "t12")
        and not bare.page.evaluate(SEEN, "t0")
    )
    bare.part("node-t12").click()
    bare.shows("preview-t12")
    bare.page.locator(".jammi-side .jammi-close").click()
    bare.expect(lambda: bare.panel.selection == [])
    bare.page.wait_for_timeout(100)
    assert bare.page.evaluate(SEEN, "t12")
    other = LineageGraph(wide)
    other.selection = ["t20"]
    chosen = shown(other, "preview-t20")
    chosen.expect(lambda: chosen.page.evaluate(SEEN, "t20"))
    assert chosen.page.evaluate(SCALE) >= 0.6


def test_a_long_name_without_spaces_stays_in_its_cell(ws, shown, papers):
    long = "a_" + "very" * 45
    ws.materialize(long, "SELECT * FROM papers")
    stale(papers)
    bare = shown(StalenessBoard(ws), f"row-{long}", wide=900)
    over = """row => { const [, , name, why] = row.cells, text = document.createRange(); text.selectNodeContents(name);
      return text.getBoundingClientRect().right - why.getBoundingClientRect().left; }"""
    assert bare.part(f"row-{long}").evaluate(over) <= 0


@pytest.mark.parametrize("wide", [400, 1400])
@pytest.mark.parametrize("make", [LineageGraph, CatalogBrowser])
def test_each_row_of_a_preview_is_one_line_and_its_long_values_are_whole_when_pointed_at(
    ws, shown, make, wide
):
    text = "many words " * 15
    ws.materialize(
        "wordy",
        f"SELECT 2006 AS year, 'v0' AS venue, '{text}' AS abstract, 'paper number 6 about graphs' AS title",
    )
    bare = shown(
        make(ws), {LineageGraph: "node-wordy", CatalogBrowser: "preview-wordy"}[make], wide=wide
    )
    if make is LineageGraph:
        bare.panel.selection = ["wordy"]
        bare.shows("preview-wordy")
    bare.part("preview-wordy").click()
    bare.expect(lambda: bare.page.locator(".jammi-peek td").count() == 4)
    assert bare.page.evaluate(
        "[...document.querySelectorAll('.jammi-peek tr')].every((row) => row.offsetHeight < 30)"
    )
    assert [c.get_attribute("title") for c in bare.page.locator(".jammi-peek td").all()][:3] == [
        "2006",
        "v0",
        text,
    ]
    assert bare.page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


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


def test_a_map_without_points_says_so(ws, shown):
    ws.embed("none", "SELECT * FROM papers WHERE false", key="id", text="title", model="hashing")
    bare = shown(EmbeddingMap(ws, "none", color="topic"), "verdict-table")
    bare.expect(lambda: bare.page.locator("[data-points='0']").count() == 1)
    assert "no points" in bare.part("summary").inner_text() and bad(bare) == ""
    bare.part("map-canvas").focus()
    bare.page.keyboard.press("a")
    bare.part("map-canvas").hover()
    bare.deliver()
    assert bad(bare) == ""


def test_a_catalog_has_a_level_of_schemas(ws, shown, tmp_path):
    with duckdb.connect(str(tmp_path / "m.duckdb")) as at:
        at.execute(
            "CREATE SCHEMA s; CREATE TABLE a(x INT); CREATE TABLE s.b(y INT); INSERT INTO s.b VALUES (42)"
        )
    ws.sources.add("m", str(tmp_path / "m.duckdb"))
    bare = shown(CatalogBrowser(ws), "catalog-item-m")
    assert bare.part("preview-m").count() == 0
    for name, then in (("m", "s"), ("s", "b")):
        bare.part(f"catalog-item-{name}").focus()
        bare.page.keyboard.press("ArrowRight")
        bare.shows(f"catalog-item-{then}")
    bare.part("preview-b").click()
    bare.shows("preview")
    assert "42" in bare.part("preview").inner_text()
    bare.part("catalog-item-b").focus()
    bare.page.keyboard.press("Enter")
    bare.expect(lambda: bare.panel.selection == ["m.s.b"])
