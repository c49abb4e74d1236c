"""What a hand does with panels: drags, wheels, knobs, chips, groups, pages; and what the eye
reads."""

import threading
import time

import pytest

from jammi_lab.core.checks import CheckSummary
from jammi_lab.core.records import Edge, Progress
from jammi_lab.freshness.node_states import CheckMark
from jammi_widgets import (
    CatalogBrowser,
    EmbeddingMap,
    LineageGraph,
    NeighborExplorer,
    StalenessBoard,
    lineage,
)
from jammi_widgets.graph_view import LineageSnapshot
from tests.browser.test_panels import EVIL, kept, on_page, papers, shown, spot, stale, ws  # noqa: F401  the fixtures
from tests.inside import fill_board, recipe_rows_of, show_snapshot, snapshot_of

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.leaves_behind("playwright keeps a loop and its pipes for the session"),
]
PLACE = "() => { const m = new DOMMatrix(getComputedStyle(document.querySelector('.jammi-drawing')).transform); return [m.e, m.f, m.a]; }"
KINDS = ("source", "frame", "mutable", "topic", "model", "clock", "sql", "group")


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
    canvas = bare.page.locator(".jammi-canvas").bounding_box()
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
    bare.part("fit").click()
    assert bare.page.evaluate(PLACE) == pytest.approx(at, abs=1)
    bare.part("node-ml").focus()
    bare.page.keyboard.press("+")
    assert bare.page.evaluate(PLACE)[2] == pytest.approx(at[2] * 1.25, abs=0.01)
    bare.page.keyboard.press("-")
    assert bare.page.evaluate(PLACE)[2] == pytest.approx(at[2], abs=0.01)


def test_shift_and_an_arrow_folds_and_unfolds_and_space_chooses(ws, shown):
    bare = shown(LineageGraph(ws), "node-topics")
    bare.part("node-ml").focus()
    bare.page.keyboard.press("Shift+ArrowRight")
    bare.expect(lambda: bare.part("node-topics").count() == 0)
    assert bare.part("node-ml").evaluate("e => e === document.activeElement")
    bare.page.keyboard.press("Shift+ArrowRight")
    bare.shows("node-topics")
    bare.page.keyboard.press("Space")
    bare.shows("preview-ml")
    side = bare.page.get_by_role("complementary", name="Details")
    assert (
        side.get_by_role("button", name="topics").count() == 1
        and f"Used by {EVIL}, topics" in side.inner_text()
    )
    side.get_by_role("button", name="papers").click()
    bare.expect(lambda: bare.panel.selection == ["papers"])


def test_a_group_says_that_it_is_one_lists_its_members_and_leads_to_one(ws, shown, monkeypatch):
    monkeypatch.setattr("jammi_widgets.graph_view.MAX_DRAWN_NODES", 20)
    panel = LineageGraph(ws)
    made = [lineage.Node("sql", f"t{at}", 1) for at in range(30)]
    before = snapshot_of(panel)
    made += before.nodes
    edges = [*before.edges, *(Edge("ml", f"t{at}", "result_digest") for at in range(30))]
    show_snapshot(panel, LineageSnapshot(made, edges, before.verdicts))
    bare = shown(panel, "summary")
    bare.expect(
        lambda: "too many to draw: similar ones are grouped" in bare.part("summary").inner_text()
    )
    bare.page.get_by_role("treeitem", name="30 × sql table").click()
    members = bare.page.locator(".jammi-list li")
    assert members.count() == 30 and bare.panel.selection == []
    members.get_by_role("button", name="t7", exact=True).click()
    bare.shows("node-t7")
    assert bare.panel.focus == "t7" and bare.part("node-ml").count() == 1


def test_the_mark_of_a_groups_checks_lists_its_members_the_failing_first(ws, shown, monkeypatch):
    monkeypatch.setattr("jammi_widgets.graph_view.MAX_DRAWN_NODES", 20)
    panel = LineageGraph(ws)
    made = [lineage.Node("sql", f"t{at}", 1) for at in range(30)]
    found = CheckSummary(passed=2, failed=1)
    checks = {made[17]: CheckMark(str(found), found.status)}
    show_snapshot(panel, LineageSnapshot(made, [], {}, checks))
    bare = shown(panel, "legend-checked")
    mark = bare.page.locator("[data-testid^='checks-group']")
    assert (
        mark.get_attribute("aria-label")
        == "Checks of 30 × sql table: fail in 1 of 30. A check of the rows fails"
    )
    assert "jammi-damaged" in mark.get_attribute("class") and mark.text_content().endswith("✕")
    mark.click()
    members = bare.page.locator(".jammi-list li")
    bare.expect(lambda: members.count() == 30)
    assert members.first.inner_text() == "t17 checks: 1 of 3 fails"
    assert members.nth(1).inner_text() == "t0" and bare.panel.selection == []


def test_a_chosen_node_at_the_end_of_a_narrow_page_leaves_no_void_beside_it(ws, shown):
    for at in range(4):
        ws.materialize(
            f"further{at}", f"SELECT * FROM jammi.{'topics' if at == 0 else f'further{at - 1}'}"
        )
    bare = shown(LineageGraph(ws), "node-further3", wide=400)
    bare.panel.selection = ["further3"]
    bare.shows("preview-further3")
    void = """() => { const box = document.querySelector('.jammi-canvas').getBoundingClientRect();
      return box.right - Math.max(...[...document.querySelectorAll('.jammi-node .jammi-shape')].map((n) => n.getBoundingClientRect().right)); }"""
    bare.expect(lambda: 0 <= bare.page.evaluate(void) < 40)


def test_an_empty_lineage_has_a_word_and_no_empty_frame(ws, shown):
    for name in ("topics", EVIL, "ml", "vectors"):
        ws.drop(name)
    bare = shown(LineageGraph(ws), "summary")
    bare.expect(lambda: "No tables yet" in bare.part("summary").inner_text())
    assert not bare.page.locator(".jammi-canvas").is_visible()
    ws.materialize("first", "SELECT * FROM papers")
    bare.part("refresh").click()
    bare.expect(lambda: bare.part("node-first").is_visible())


def fill_of(bare, name):
    bare.page.mouse.move(0, 0)
    return bare.part(name).evaluate(
        "e => [getComputedStyle(e).backgroundColor, getComputedStyle(e).borderColor]"
    )


def test_chips_of_the_board_narrow_it_to_a_verdict_or_a_cause_and_back(ws, shown, papers):
    ws.materialize("dice", "SELECT random() AS r")
    stale(papers)
    bare = shown(StalenessBoard(ws), "row-dice")
    rows = bare.page.locator("tbody tr")
    resting = fill_of(bare, "count-stale")
    assert bare.part("count-stale").get_attribute("aria-pressed") == "false"
    bare.part("count-stale").click()
    bare.expect(
        lambda: sorted(r.get_attribute("data-name") for r in rows.all()) == ["ml", "vectors"]
    )
    assert bare.panel.filter == "stale"
    assert [
        bare.part(f"count-{word}").get_attribute("aria-pressed")
        for word in ("stale", "undecidable")
    ] == ["true", "false"]
    assert fill_of(bare, "count-stale") != resting == fill_of(bare, "count-undecidable")
    bare.part("count-stale").click()
    bare.expect(lambda: rows.count() == 5)
    assert bare.part("count-stale").get_attribute("aria-pressed") == "false"
    bare.part("cause-papers changed").click()
    bare.expect(lambda: rows.count() == 4 and bare.part("row-dice").count() == 0)
    bare.part("cause-papers changed").click()
    bare.expect(lambda: rows.count() == 5)


def test_pages_of_the_board_are_turned_both_ways_and_a_look_is_asked_for(ws, shown, papers):
    import msgspec

    panel = StalenessBoard(ws)
    [one] = [each for each in recipe_rows_of(panel).rows if each.row.name == "ml"]
    lines = [msgspec.structs.replace(one.row, name=f"table_{at:03}") for at in range(450)]
    fill_board(panel, [(row, one) for row in lines])
    bare = shown(panel, "row-table_000")
    for first in (200, 400):
        bare.part("further").click()
        bare.shows(f"row-table_{first}")
    assert bare.page.locator("tbody tr").count() == 50 and bare.part("further").count() == 0
    bare.page.get_by_role("button", name="Previous").click()
    bare.shows("row-table_200")
    stale(papers)
    bare.part("refresh").click()
    bare.expect(
        lambda: (
            bare.part("verdict-ml").count() == 1
            and bare.part("verdict-ml").inner_text().endswith("stale")
        )
    )


def test_a_plan_says_of_what_was_chosen_and_cannot_be_decided_that_it_runs_because_of_that(
    ws, shown
):
    ws.materialize("dice", "SELECT random() AS r")
    bare = shown(StalenessBoard(ws), "row-dice")
    bare.part("choose-dice").check()
    bare.part("plan-chosen").click()
    bare.shows("plan")
    assert "1 run because they are selected" in bare.part("plan").inner_text()


def test_buttons_keep_their_shape_and_edge_in_a_lab_that_has_rules_and_colours_of_its_own(
    ws, shown, papers
):
    stale(papers)
    lab = {
        "--jp-layout-color2": "#424242",
        "--jp-border-color2": "#424242",
        "--jp-layout-color1": "#212121",
        "--jp-content-font-color1": "#fff",
    }
    for panel, part in (
        (StalenessBoard(ws), "row-ml"),
        (NeighborExplorer(ws, "vectors", 0), "neighbor-2"),
    ):
        bare = shown(panel, part)
        bare.page.evaluate(
            "all => Object.entries(all).forEach(([k, v]) => document.documentElement.style.setProperty(k, v))",
            lab,
        )
        bare.page.add_style_tag(content=".jp-ThemedContainer button { border-radius: 2px; }")
        bare.page.evaluate("document.body.className = 'jp-ThemedContainer'")
        assert (
            bare.page.locator(".jammi-cause").first.evaluate(
                "e => getComputedStyle(e).borderRadius"
            )
            == "10px"
        )
        assert bare.part("refresh").evaluate("e => getComputedStyle(e).borderRadius") == "4px"
        bare.part(part).hover()
        seen = bare.part(part).evaluate(
            "e => [getComputedStyle(e).backgroundColor, getComputedStyle(e.querySelector('.jammi-button')).backgroundColor]"
        )
        assert seen[0] != "rgba(0, 0, 0, 0)" and seen[0] != seen[1] == "rgb(66, 66, 66)"


def lightness(colour):
    def part(value):
        return value / 12.92 if value <= 0.03928 else ((value + 0.055) / 1.055) ** 2.4

    red, green, blue = (part(value) for value in colour)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("dark", [False, True])
def test_what_went_wrong_and_what_a_node_is_can_be_read(ws, shown, dark):
    bare = shown(LineageGraph(ws), "node-papers", dark=dark)
    bare.panel._send_message({"kind": "said", "lines": ["It is gone."]})
    bare.expect(lambda: bare.page.locator(".jammi-bad").count() == 1)
    read = """([what, of]) => { const pen = document.createElement('canvas').getContext('2d'), one = document.querySelector(what);
      pen.fillStyle = getComputedStyle(one)[of]; pen.fillRect(0, 0, 1, 1); return [...pen.getImageData(0, 0, 1, 1).data].slice(0, 3).map((v) => v / 255); }"""
    pairs = [(".jammi-bad", "color", ".jammi", "backgroundColor")]
    for front, of, back, how in [
        *pairs,
        *((".jammi-kind", "fill", kind, "fill") for kind in KINDS),
    ]:
        if back in KINDS:
            bare.page.evaluate(
                "kind => { document.querySelector('.jammi-shape').setAttribute('class', `jammi-shape jammi-of-${kind}`); }",
                back,
            )
        colours = [
            bare.page.evaluate(read, each)
            for each in ([front, of], [".jammi-shape" if back in KINDS else back, how])
        ]
        low, high = sorted(lightness(each) for each in colours)
        assert (high + 0.05) / (low + 0.05) >= 4.5, (front, back)


def test_pinned_rows_are_put_away_and_the_map_of_an_explorer_is_left_as_it_was(ws, shown):
    bare = shown(NeighborExplorer(ws, "vectors", 0), "neighbor-2")
    bare.part("pin-2").click()
    bare.expect(lambda: "2 is pinned; pin another row" in bare.part("pins").inner_text())
    bare.part("pin-5").click()
    bare.expect(lambda: "Similarity" in bare.part("pins").inner_text())
    both = bare.part("pins").inner_text()
    assert "message passing on graphs" in both and "convolutional networks" in both
    bare.page.get_by_role("button", name="Done").click()
    bare.expect(
        lambda: (
            bare.part("pins").inner_text() == ""
            and bare.part("pin-2").get_attribute("aria-pressed") == "false"
        )
    )


def test_the_map_is_dragged_wheeled_zoomed_and_fit_and_a_point_is_read_by_the_mouse(ws, shown):
    bare = shown(EmbeddingMap(ws, "vectors"), "verdict-table")
    bare.expect(lambda: bare.page.locator("[data-points='6']").count() == 1)
    bare.page.mouse.move(*spot(bare, 3))
    bare.expect(
        lambda: (
            bare.part("tip").is_visible() and "baking sourdough" in bare.part("tip").inner_text()
        )
    )
    assert bare.part("tip").inner_text().startswith("3")
    [x, y], start = spot(bare, 3), middle_of(bare.part("map-canvas"))
    dragged(bare, (start[0], start[1] + 100), (120, 60))
    bare.page.mouse.move(0, 0)
    bare.expect(lambda: not bare.part("tip").is_visible())
    bare.page.mouse.move(x + 120, y + 60)
    bare.expect(
        lambda: bare.part("tip").is_visible() and bare.part("tip").inner_text().startswith("3")
    )
    assert bare.panel.selection == []  # a drag is no choice
    wheeled(bare, (x + 120, y + 60), -100)
    bare.page.mouse.move(0, 0)
    bare.page.mouse.move(x + 120, y + 60)  # what is below the mouse stays there
    bare.expect(
        lambda: bare.part("tip").is_visible() and bare.part("tip").inner_text().startswith("3")
    )
    bare.page.get_by_role("button", name="Zoom in").click()
    bare.page.get_by_role("button", name="Zoom out").click()
    bare.part("fit").click()
    bare.page.mouse.move(0, 0)
    bare.page.mouse.move(x, y)
    bare.expect(
        lambda: bare.part("tip").is_visible() and bare.part("tip").inner_text().startswith("3")
    )


def test_a_mouse_that_passes_many_points_asks_one_question_at_a_time_and_the_last_is_answered(
    ws, shown, monkeypatch
):
    bare = shown(EmbeddingMap(ws, "vectors"), "verdict-table")
    bare.expect(lambda: bare.page.locator("[data-points='6']").count() == 1)
    plain, asked = bare.panel._describe_point, []
    monkeypatch.setattr(
        bare.panel, "_describe_point", lambda point: asked.append(point) or plain(point)
    )
    for point in range(6):
        bare.page.mouse.move(*spot(bare, point))
        bare.page.wait_for_timeout(30)  # no answer is carried to the page meanwhile
    assert asked == [0]
    bare.expect(
        lambda: bare.part("tip").is_visible() and bare.part("tip").inner_text().startswith("5")
    )
    assert asked == [0, 5]


def test_a_lasso_is_taken_with_shift_or_by_the_key_l(ws, shown):
    bare = shown(EmbeddingMap(ws, "vectors"), "verdict-table")
    bare.expect(lambda: bare.page.locator("[data-points='6']").count() == 1)
    x, y = spot(bare, 2)
    mouse = bare.page.mouse

    def around():
        mouse.move(x - 12, y - 12)
        mouse.down()
        for by in ((12, -12), (12, 12), (-12, 12)):
            mouse.move(x + by[0], y + by[1], steps=3)
        mouse.up()

    bare.page.keyboard.down("Shift")
    around()
    bare.page.keyboard.up("Shift")
    bare.expect(
        lambda: "2" in bare.panel.selection and "chosen" in bare.part("chosen").inner_text()
    )
    bare.part("clear").click()
    bare.expect(lambda: bare.panel.selection == [])
    bare.part("map-canvas").focus()
    bare.page.keyboard.press("l")
    assert bare.part("lasso").get_attribute("aria-pressed") == "true"
    around()
    bare.expect(lambda: "2" in bare.panel.selection)


def test_points_stay_under_the_mouse_while_a_source_is_read(ws, shown):
    bare = shown(EmbeddingMap(ws, "vectors"), "verdict-table")
    bare.expect(lambda: bare.page.locator("[data-points='6']").count() == 1)
    place = bare.part("map-canvas").bounding_box()

    def read():  # an answer that was on its way ends a report
        bare.panel.send({"v": 1, "kind": "reading", "ask": None})
        return "Reading the source" in bare.page.locator(".jammi-said").inner_text()

    bare.expect(read)
    assert bare.part("map-canvas").bounding_box() == place


def test_placing_points_is_stopped_from_the_page(ws, shown, monkeypatch):
    bare = shown(EmbeddingMap(ws, "vectors"), "verdict-table")
    bare.expect(lambda: bare.page.locator("[data-points='6']").count() == 1)
    begun = threading.Event()

    def without_end(_name, _method, progress):
        while True:  # until the report of it raises
            progress(Progress("project", 20, 100, "percent"))
            begun.set()
            time.sleep(0.05)

    monkeypatch.setattr(ws, "vector_map", without_end)
    bare.part("method-input").select_option("tsne")
    bare.expect(
        lambda: (
            begun.is_set() and "project: 20 %" in bare.page.locator(".jammi-progress").inner_text()
        )
    )
    bare.part("stop").click()
    bare.expect(
        lambda: "Stopped. The map is unchanged." in bare.page.locator(".jammi-said").inner_text()
    )
    assert (
        bare.part("method-input").input_value() == "at once"
        and not bare.page.locator(".jammi-progress").is_visible()
    )


def test_groups_of_the_catalog_fold_a_click_says_the_name_and_a_preview_is_put_away(ws, shown):
    bare = shown(CatalogBrowser(ws), "catalog-item-ml")
    head = bare.page.get_by_role("button", name="Result tables", exact=True)
    head.click()
    assert (
        head.get_attribute("aria-expanded") == "false"
        and not bare.part("catalog-item-ml").is_visible()
    )
    head.focus()
    bare.page.keyboard.press("Enter")
    assert bare.part("catalog-item-ml").is_visible()
    bare.part("catalog-item-ml").locator(".jammi-entry").click()
    bare.expect(lambda: bare.panel.selection == ["jammi.ml"])
    assert (
        "jammi.ml" in bare.page.locator(".jammi-said").inner_text()
    )  # copied, or to be typed where a page may not copy
    bare.part("preview-ml").click()
    bare.expect(lambda: bare.part("preview").is_visible())
    bare.part("preview-ml").click()
    assert not bare.part("preview").is_visible()


def test_the_picture_steps_back_only_behind_a_way_that_is_seen(ws, shown):
    bare = shown(LineageGraph(ws, columns=True), "column-of-ml-topic")
    back = bare.page.locator(".jammi-drawing.jammi-tracing")

    def traced():
        bare.part("column-of-ml-topic").locator("rect").click()
        bare.expect(lambda: back.count() == 1)

    traced()
    bare.part("node-vectors").focus()
    bare.page.keyboard.press("Enter")
    bare.expect(lambda: bare.panel.selection == ["vectors"])
    bare.part("columns").click()  # then a way stands in the details of its node alone
    bare.expect(lambda: bare.part("columns").get_attribute("aria-pressed") == "false")
    assert back.count() == 0
    bare.part("columns").click()
    bare.shows("column-of-ml-topic")
    traced()
    bare.panel.selection = []
    bare.panel.filter = "hashing"
    bare.expect(lambda: bare.part("node-ml").count() == 0)
    assert back.count() == 0
    bare.panel.filter = ""
    bare.shows("node-ml")
    assert back.count() == 1
    bare.part("node-ml").focus()
    bare.page.keyboard.press("Escape")
    assert back.count() == 0 and bare.page.locator(".jammi-traced").count() == 0


def test_the_lineage_fills_the_screen_and_comes_back(ws, shown):
    bare = shown(LineageGraph(ws), "node-topics", high=700)
    height = "document.querySelector('.jammi-canvas').clientHeight"
    before = bare.page.evaluate(height)
    bare.part("full-screen").click()
    bare.page.wait_for_function("document.fullscreenElement?.dataset.testid === 'jammi-lineage'")
    bare.expect(lambda: bare.page.evaluate(height) > max(before, 500))
    bare.part("node-topics").click()
    bare.shows("verify-topics")
    kept(bare, "lineage-full-screen")
    bare.part("full-screen").click()
    bare.page.wait_for_function("document.fullscreenElement === null")
    bare.part("close-details").click()
    bare.expect(lambda: bare.page.evaluate(height) == before)


def test_many_readers_are_named_on_request(ws, shown):
    for number in range(15):
        ws.materialize(f"reader_{number}", f"SELECT count(*) + {number} AS n FROM jammi.ml")
    panel = LineageGraph(ws, "ml", direction="up")
    panel.selection = ["ml"]
    bare = shown(panel, "more-names")
    links = bare.page.locator(".jammi-side p", has_text="Used by").locator("button")
    assert links.count() == 13 and bare.part("more-names").inner_text() == "… 5 more"
    bare.part("more-names").click()
    bare.expect(lambda: links.count() == 17)
