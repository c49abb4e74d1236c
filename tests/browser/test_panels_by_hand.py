"""Panels worked without a mouse, told to a screen reader, kept still, filled to the brim, and asked
from Python."""

import re
import time

import polars as pl
import pytest

import jammi_lab as jl
from jammi_lab.core.identifiers import quote_identifier
from jammi_lab.core.records import Progress
from jammi_widgets import (
    CatalogBrowser,
    EmbeddingMap,
    LineageGraph,
    NeighborExplorer,
    StalenessBoard,
)
from tests.browser.test_panels import EVIL, bad, kept, on_page, papers, shown, stale, ws  # noqa: F401  the fixtures
from tests.browser.test_panels_live import EACH
from tests.inside import fill_board, recipe_rows_of

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.leaves_behind("playwright keeps a loop and its pipes for the session"),
]
NAMELESS = """() => [...document.querySelectorAll("#el :is(button, input, select, a, summary, [role=button], [role=treeitem], [role=row], [role=img], [tabindex])")]
  .filter((e) => !(e.getAttribute("aria-label") || e.textContent.trim() || e.title)).map((e) => e.outerHTML)"""
MOVING = """() => [...document.querySelectorAll("#el *")].filter((e) => getComputedStyle(e).transitionDuration.split(", ").some((d) => d !== "0s")
  || getComputedStyle(e).animationName !== "none").length"""


@pytest.mark.parametrize(("make", "part"), EACH)
def test_every_control_has_a_name_and_every_panel_a_label(ws, shown, make, part):
    bare = shown(make(ws), part)
    assert bare.page.evaluate(NAMELESS) == []
    assert (
        bare.page.get_by_role("toolbar").count() == 1
        and bare.page.locator("#el section[aria-label]").count() == 1
    )
    assert bare.page.locator(".jammi-said[role=status][aria-live=polite]").count() == 1


@pytest.mark.parametrize(("make", "part"), EACH)
def test_nothing_moves_by_itself_where_motion_is_to_be_reduced(ws, shown, make, part):
    assert shown(make(ws), part, calm=True).page.evaluate(MOVING) == 0


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
    bare.expect(
        lambda: bare.page.locator("th[aria-sort=ascending]").inner_text().startswith("table")
    )
    assert bare.part("sort-name").evaluate("e => e === document.activeElement")
    press("Enter")
    bare.expect(lambda: bare.page.locator("th[aria-sort=descending]").count() == 1)
    bare.part("choose-ml").focus()
    press("Space")
    bare.expect(lambda: bare.panel.selection == ["ml"])
    bare.part("recompute-chosen").focus()
    press("Enter")
    bare.expect(lambda: "fresh" in bare.part("verdict-ml").inner_text())
    bare.part("row-topics").focus()
    press("ArrowUp")
    press("Enter")
    bare.expect(lambda: bare.panel.selection == ["vectors"])


def test_a_narrow_board_is_sorted_by_every_column_and_its_cards_say_what_the_columns_do(ws, shown):
    bare = shown(StalenessBoard(ws), "row-ml", wide=400)
    assert re.fullmatch(
        r"\d+ (s|min) ago · 3 rows · .* · took .* s",
        bare.part("row-ml").locator(".jammi-brief").inner_text(),
    )
    for column in ("name", "age", "size", "cost", "rows"):
        bare.part(f"sort-{column}").click()
        bare.expect(
            lambda column=column: (
                bare.page.locator(f"th[aria-sort=ascending] [data-testid=sort-{column}]").count()
                == 1
            )
        )
    assert bare.page.locator("[data-name]").first.get_attribute("data-name") == "topics"
    assert bare.page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    wide = shown(StalenessBoard(ws), "row-ml", wide=1400)
    assert not wide.part("row-ml").locator(".jammi-brief").is_visible()


def test_the_explorer_is_worked_by_keyboard(ws, shown):
    bare = shown(NeighborExplorer(ws, "vectors", query="networks"), "neighbor-0")
    press = bare.page.keyboard.press
    bare.page.locator(".jammi-hit").first.focus()
    press("ArrowDown")
    press("Enter")
    [key] = bare.panel.selection
    press("Tab")
    while not bare.page.evaluate("document.activeElement.dataset.testid || ''").startswith("step-"):
        press("Tab")
    press("Enter")
    bare.expect(lambda: f"Neighbours of {key}" in bare.part("own").inner_text())


def test_the_map_is_worked_by_keyboard(ws, shown):
    bare = shown(EmbeddingMap(ws, "vectors"), "verdict-table")
    bare.expect(lambda: bare.page.locator("[data-points='6']").count() == 1)
    press = bare.page.keyboard.press
    bare.part("map-canvas").focus()
    press("a")
    bare.expect(lambda: "6 chosen" in bare.part("chosen").inner_text())
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
    bare.expect(
        lambda: bare.part("tip").is_visible() and bare.part("tip").inner_text().startswith("2")
    )
    press("Enter")
    bare.expect(lambda: bare.panel.selection == ["2"])
    for _ in range(8):
        press("+")
    press("a")
    bare.expect(lambda: "1 chosen" in bare.part("chosen").inner_text())


def test_the_map_is_coloured_and_narrowed_from_the_page_and_from_python(ws, shown):
    bare = shown(EmbeddingMap(ws, "vectors"), "verdict-table")
    bare.expect(lambda: bare.page.locator("[data-points='6']").count() == 1)
    bare.panel.color = "topic"
    bare.expect(
        lambda: (
            bare.page.locator(".jammi-key").count() == 2
            and bare.part("color-input").input_value() == "topic"
        )
    )
    bare.part("color-input").select_option("")
    bare.expect(lambda: bare.page.locator(".jammi-key").count() == 0 and bare.panel.color == "")
    with pytest.raises(jl.InvalidArgument, match="no column 'nothing'"):
        bare.panel.color = "nothing"
    bare.part("filter-input").fill("topic = 'food'")
    bare.part("filter-input").press("Enter")
    bare.expect(lambda: bare.part("chosen").inner_text() == "· 3 found")
    kept(bare, "map-filtered")
    bare.part("map-canvas").focus()
    bare.page.keyboard.press("a")
    bare.expect(lambda: bare.part("chosen").inner_text() == "· 3 found · 3 chosen")
    assert sorted(bare.panel.selection) == ["1", "3", "4"]
    bare.panel.filter = "topic ="
    bare.expect(lambda: bad(bare) != "")
    bare.panel.filter = ""
    bare.expect(
        lambda: (
            bare.part("chosen").inner_text() == "· 3 chosen"
            and bare.page.locator(".jammi-said").inner_text() == ""
        )
    )


def test_python_sets_what_the_explorer_searches_for(ws, shown):
    bare = shown(NeighborExplorer(ws, "vectors"), "verdict-table")
    bare.panel.query = "bread"
    bare.expect(
        lambda: (
            bare.page.locator(".jammi-hit").count() == 6
            and bare.part("query-input").input_value() == "bread"
        )
    )
    bare.panel.k = 2
    bare.expect(lambda: bare.page.locator(".jammi-hit").count() == 2)
    bare.panel.filter = "topic = 'ml'"
    bare.expect(
        lambda: (
            bare.part("neighbor-1").count() == 0
            and bare.part("filter-input").input_value() == "topic = 'ml'"
        )
    )
    bare.panel.filter = "topic ="
    bare.expect(lambda: bad(bare) != "")


def test_fifty_thousand_recipes_are_paged_searched_and_chosen_on_the_page(ws, shown, papers):
    import msgspec

    stale(papers)
    panel = StalenessBoard(ws)
    [one] = [each for each in recipe_rows_of(panel).rows if each.row.name == "ml"]
    names = [f"table_{at:05}" for at in range(50_000)]
    fill_board(panel, [(msgspec.structs.replace(one.row, name=name), one) for name in names])
    bare = shown(panel, "row-table_00000")
    assert (
        bare.page.locator("tbody tr").count() == 200
        and "1 to 200 of 50,000" in bare.part("foot").inner_text()
    )
    assert "50,000 because papers changed" in bare.page.locator(".jammi-causes").inner_text()
    bare.part("further").click()
    bare.shows("row-table_00200")
    bare.part("filter-input").fill("table_4999")
    bare.expect(
        lambda: (
            bare.page.locator("tbody tr").count() == 10
            and "1 to 10 of 10, of 50,000 in total" in bare.part("foot").inner_text()
        )
    )
    bare.part("choose-all").check()
    bare.expect(
        lambda: (
            panel.selection == names[-10:]
            and bare.part("recompute-chosen").inner_text() == "Recompute 10"
        )
    )


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
        assert bare.page.locator("#el img, #el script").count() == 0


def test_a_table_that_is_dropped_while_it_is_shown_is_said_and_gone_after_a_look(ws, shown):
    graph, board, tree = (
        shown(make(ws), part)
        for make, part in EACH
        if make in (LineageGraph, StalenessBoard, CatalogBrowser)
    )
    graph.part("node-topics").click()
    board.part("choose-topics").check()
    graph.shows("preview-topics")
    ws.drop("topics")
    graph.part("preview-topics").click()
    graph.expect(lambda: "topics" in bad(graph))
    tree.part("preview-topics").click()
    tree.expect(lambda: "topics" in bad(tree))
    board.part("recompute-chosen").click()
    board.expect(lambda: "topics" in bad(board))
    for bare, part in ((graph, "node"), (board, "row"), (tree, "catalog-item")):
        bare.part("refresh").click()
        bare.expect(
            lambda bare=bare, part=part: (
                bare.part(f"{part}-topics").count() == 0 and bare.part(f"{part}-ml").count() == 1
            )
        )
    assert graph.panel.selection == board.panel.selection == []


def test_the_lineage_is_narrowed_widened_verified_and_asked_what_if(ws, shown):
    bare = shown(LineageGraph(ws, "topics"), "node-papers")
    bare.part("fewer-hops").click()
    bare.expect(
        lambda: (
            bare.part("node-papers").count() == 0
            and "around topics, 1 hop" in bare.page.locator(".jammi-hops").inner_text()
        )
    )
    bare.part("expand-up-ml").click()
    bare.shows("node-papers")
    bare.part("node-ml").hover()
    bare.part("collapse-up-ml").click()
    bare.expect(lambda: bare.part("node-papers").count() == 0)
    bare.part("more-hops").click()
    bare.part("show-all").click()
    bare.shows("node-vectors")
    bare.part("filter-input").fill("source")
    bare.expect(lambda: bare.panel.filter == "source" and bare.part("node-topics").count() == 0)
    bare.part("node-papers").click()
    bare.shows("what-if-papers")
    bare.part("what-if-papers").click()
    bare.expect(lambda: "ml would be stale" in bare.part("outcome").inner_text())
    assert "jammi-touched" in bare.part("node-ml").get_attribute("class")
    bare.part("node-ml").click()
    bare.shows("verify-ml")
    bare.part("verify-ml").click()
    bare.expect(lambda: bare.part("outcome").inner_text() == "match")
    bare.part("focus-ml").click()
    bare.expect(lambda: bare.panel.focus == "ml")


def test_one_side_of_a_node_is_shown_from_the_page(ws, shown):
    bare = shown(LineageGraph(ws, "ml", direction="up"), "node-papers")
    assert (
        bare.part("node-topics").count() == 0
        and bare.part("way-up").get_attribute("aria-pressed") == "true"
    )
    assert (
        "all hops" in bare.page.locator(".jammi-hops").inner_text()
        and bare.part("more-hops").is_disabled()
    )
    bare.part("way-down").focus()
    bare.page.keyboard.press("Enter")
    bare.expect(
        lambda: bare.part("node-papers").count() == 0 and bare.part("node-topics").count() == 1
    )
    assert bare.page.evaluate("document.activeElement.dataset.testid") == "way-down"
    bare.part("fewer-hops").click()
    bare.expect(
        lambda: (
            "2 hops" in bare.page.locator(".jammi-hops").inner_text()
            and bare.part("node-papers").count() == 0
        )
    )


def test_columns_stand_in_the_nodes_and_a_click_on_one_lights_its_way(ws, shown):
    bare = shown(LineageGraph(ws), "node-topics")
    bare.part("columns").click()
    bare.shows("column-of-ml-title")
    assert bare.part("columns").get_attribute("aria-pressed") == "true"
    bare.part("column-of-ml-topic").click()
    bare.shows("trace-papers.topic-ml.topic")
    assert (
        bare.part("trace-ml.topic-topics.topic").count() == 1
        and bare.part("trace-papers.title-ml.title").count() == 0
    )
    assert bare.panel.selection == [] and bare.page.locator(".jammi-column.jammi-lit").count() >= 4
    kept(bare, "lineage-columns")
    bare.part("column-of-ml-topic").click()
    bare.expect(lambda: bare.page.locator(".jammi-traced, .jammi-column.jammi-lit").count() == 0)
    bare.part("columns").click()
    bare.expect(lambda: bare.page.locator(".jammi-column").count() == 0)


def test_hostile_columns_are_text_in_their_nodes_and_long_names_stay_inside(ws, shown):
    ws.sources.add(
        "odd", pl.DataFrame({EVIL: [1], "x" * 300: [2], **{f"c{n}": [n] for n in range(20)}})
    )
    columns = ", ".join([quote_identifier(EVIL), *(f"c{n}" for n in range(20)), "x" * 300])
    ws.materialize("W" * 60, f"SELECT {columns} FROM odd")
    bare = shown(LineageGraph(ws, "W" * 60, columns=True), f"column-of-odd-{EVIL}")
    more = bare.page.locator(".jammi-more")
    assert more.count() == 2 and more.first.text_content().endswith("… 9 more columns")
    outside = """() => [...document.querySelectorAll(".jammi-node text")].filter((t) => {
      const own = t.getBoundingClientRect(), node = t.closest(".jammi-node").querySelector(".jammi-shape").getBoundingClientRect();
      return own.left < node.left || own.right > node.right;
    }).map((t) => t.textContent)"""
    assert bare.page.evaluate(outside) == [] and bare.page.locator("#el img").count() == 0


def test_where_a_page_cannot_hold_a_panel_in_another_the_line_that_makes_it_is_said(ws, shown):
    bare = shown(LineageGraph(ws), "node-vectors")
    bare.part("node-vectors").click()
    bare.shows("search-vectors")
    bare.part("search-vectors").click()
    bare.expect(
        lambda: (
            "jl.widgets.NeighborExplorer(ws, 'vectors')"
            in bare.page.locator(".jammi-said").inner_text()
        )
    )


def test_a_recompute_is_stopped_from_the_board(ws, shown, papers, monkeypatch):
    stale(papers)
    bare = shown(StalenessBoard(ws), "row-ml")

    def without_end(_names, progress):
        while True:  # until the report of it raises
            progress(Progress("recompute", 1, 4, "steps"))
            time.sleep(0.05)

    monkeypatch.setattr(ws, "recompute", without_end)
    bare.part("choose-ml").check()
    bare.part("recompute-chosen").click()
    bare.expect(
        lambda: "recompute: 1 of 4 steps" in bare.page.locator(".jammi-progress").inner_text()
    )
    bare.part("plan-chosen").click()
    bare.expect(
        lambda: "Another action is running" in bare.page.locator(".jammi-said").inner_text()
    )
    bare.part("stop").click()
    bare.expect(
        lambda: (
            "Stopped." in bare.page.locator(".jammi-said").inner_text()
            and not bare.page.locator(".jammi-progress").is_visible()
        )
    )


def test_the_histogram_and_the_facets_of_the_explorer(ws, shown):
    bare = shown(NeighborExplorer(ws, "vectors", query="networks"), "neighbor-0")
    assert bare.page.locator(".jammi-bars rect").count() == 20
    assert bare.page.get_by_role("img", name="Similarities of the nearest 6").count() == 1
    bare.part("neighbor-0").get_by_role("button", name="topic: ml").click()
    assert bare.part("filter-input").input_value() == "\"topic\"::VARCHAR = 'ml'"
    bare.part("filter-input").press("Enter")
    bare.expect(lambda: bare.page.locator(".jammi-hit").count() == 3 and bare.panel.filter != "")


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
