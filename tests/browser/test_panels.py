"""Every panel on a bare page: what a mouse, a keyboard and a hostile name do. `JAMMI_SHOTS=folder`
keeps pictures."""

import contextlib
import math
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import jammi_lab as jl
from jammi_lab.core.verdicts import Fresh
from jammi_widgets import (
    CatalogBrowser,
    EmbeddingMap,
    LineageGraph,
    NeighborExplorer,
    StalenessBoard,
)
from tests.browser.bare import Bare
from tests.browser.lab import SHOTS
from tests.templates import Template

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.leaves_behind("playwright keeps a loop and its pipes for the session"),
]
EVIL = "<img src=x onerror=\"document.title='owned'\">"
TEXTS = [
    "graph neural networks",
    "a recipe for bread",
    "message passing on graphs",
    "baking sourdough",
    "how to cook rice",
    "convolutional networks",
]


def _build(folder):
    path = folder / "papers.csv"
    path.write_text(
        "id,title,topic\n"
        + "".join(
            f'{i},"{text}",{"food" if i in (1, 3, 4) else "ml"}\n' for i, text in enumerate(TEXTS)
        )
    )
    with jl.open(folder / "lab") as ws:
        ws.sources.add("papers", str(path))
        ws.materialize("ml", "SELECT * FROM papers WHERE topic = 'ml'", key="id")
        ws.materialize("topics", "SELECT topic, count(*) AS n FROM jammi.ml GROUP BY ALL")
        ws.materialize(EVIL, "SELECT topic FROM jammi.ml")
        ws.embed("vectors", "papers", key="id", text="title", model="hashing")


_template = Template(_build)


@pytest.fixture
def papers():
    return _template.restore() / "papers.csv"


@pytest.fixture
def ws(papers):
    with jl.open(papers.parent / "lab") as ws:
        yield ws


@pytest.fixture
def on_page(browser):
    """Puts panels on pages; at the end nothing broke, nothing left the page, and no name has
    acted."""
    with contextlib.ExitStack() as stack:

        def put(panel, name, **size):
            bare = Bare(browser, panel, name, **size)
            stack.callback(bare.close)
            stack.callback(lambda: titles.append(bare.page.title()))
            return bare

        titles = []
        yield put
    assert "owned" not in titles


def named(panel):
    """What its module is called."""
    return type(panel).__module__.rpartition(".")[2]


@pytest.fixture
def shown(on_page):
    """Puts a panel on a page and waits for a part of it."""

    def put(panel, part, **size):
        bare = on_page(panel, named(panel), **size)
        bare.shows(part)
        return bare

    return put


def kept(bare, name):
    if SHOTS:
        bare.page.screenshot(path=str(Path(SHOTS) / f"{name}.png"))


def bad(bare):
    """What the page says of what went wrong, by now."""
    return " ".join(bare.page.locator(".jammi-bad").all_inner_texts())


def stale(papers):
    papers.write_text(papers.read_text() + "9,attention,ml\n")


def test_a_click_in_the_lineage_selects_in_python_and_says_why(ws, shown, papers):
    stale(papers)
    bare = shown(LineageGraph(ws), "node-topics")
    bare.part("node-topics").click()
    bare.shows("reasons")
    assert bare.panel.selection == ["topics"]
    assert bare.part("reasons").inner_text() == "papers changed, 6 → 7 rows, by way of ml"
    assert bare.part("lit-papers-ml").count() == bare.part("lit-ml-topics").count() == 1
    assert bare.part(f"node-{EVIL}").count() == 1
    kept(bare, "lineage")


def test_the_lineage_is_walked_by_keyboard_and_recomputed_from(ws, shown, papers):
    stale(papers)
    bare = shown(LineageGraph(ws), "node-papers")
    bare.part("node-papers").focus()
    for key in ("ArrowRight", "ArrowUp", "ArrowDown"):
        bare.page.keyboard.press(key)
    bare.part("node-ml").focus()
    bare.page.keyboard.press("Enter")
    bare.shows("recompute-ml")
    assert bare.panel.selection == ["ml"]
    bare.part("recompute-ml").click()
    bare.expect(lambda: "ml: computed" in bare.part("outcome").inner_text())
    bare.expect(lambda: "fresh" in bare.part("verdict-ml").text_content())
    bare.part("node-ml").focus()
    bare.page.keyboard.press("Escape")
    assert bare.panel.selection == []
    assert isinstance(ws.staleness("ml"), Fresh)


def test_python_moves_the_lineage_and_hops_and_folds_change_it(ws, shown):
    bare = shown(LineageGraph(ws, "ml"), "node-topics")
    assert bare.part("node-vectors").count() == 0
    bare.panel.selection = ["vectors"]
    bare.shows("node-vectors")
    bare.panel.filter = "topics"
    bare.expect(lambda: bare.part("node-papers").count() == 0)
    bare.panel.filter = ""
    bare.panel.selection = []
    bare.expect(lambda: bare.part("node-vectors").count() == 0)
    bare.part("node-ml").hover()
    bare.part("collapse-down-ml").click()
    bare.expect(lambda: bare.part("node-topics").count() == 0)
    bare.part("expand-down-ml").click()
    bare.shows("node-topics")
    bare.part("show-all").click()
    bare.shows("node-vectors")
    assert bare.panel.focus is None


def test_a_column_lights_its_way_up_and_down_until_another_node_is_chosen(ws, shown):
    bare = shown(LineageGraph(ws), "node-ml")
    bare.part("node-ml").click()
    bare.shows("preview-ml")
    bare.page.locator("summary").filter(has_text="columns").click()
    bare.part("column-topic").click()
    bare.expect(
        lambda: bare.part("trace-papers-ml").count() == bare.part("trace-ml-topics").count() == 1
    )
    assert (
        bare.part("column-topic").get_attribute("aria-pressed") == "true"
        and "papers (topic)" in bare.part("way").inner_text()
    )
    assert bare.part("node-topics").locator(".jammi-kind").text_content() == "n, topic"
    kept(bare, "lineage-column")
    bare.part("column-title").focus()
    bare.page.keyboard.press("Enter")
    bare.expect(
        lambda: (
            bare.part("trace-ml-topics").count() == 0 and bare.part("trace-papers-ml").count() == 1
        )
    )
    bare.part("node-topics").click()
    bare.expect(lambda: bare.page.locator(".jammi-traced").count() == 0)
    assert bare.part("node-ml").locator(".jammi-kind").text_content() == "sql, version 1"


def test_an_answer_that_does_not_come_is_said(ws, shown):
    bare = shown(LineageGraph(ws), "node-ml")
    ws.close()
    bare.part("refresh").click()
    bare.expect(lambda: "closed" in bare.page.locator(".jammi-said").inner_text())
    bare.page.evaluate("window.dead = true")
    bare.install_clock()
    bare.part("refresh").click()
    bare.page.clock.run_for(9000)
    bare.expect(lambda: "does not respond" in bare.page.locator(".jammi-said").inner_text())


def test_the_board_recomputes_a_row_and_its_verdict_changes_in_place(ws, shown, papers):
    stale(papers)
    bare = shown(StalenessBoard(ws), "row-ml")
    assert "stale" in bare.part("verdict-ml").inner_text()
    why = bare.part("row-ml").locator(".jammi-one-line")
    assert why.inner_text() == "papers changed, 6 → 7 rows"
    assert why.get_attribute("title") == "papers changed, 6 → 7 rows"
    bare.part("recompute-ml").click()
    bare.expect(lambda: "fresh" in bare.part("verdict-ml").inner_text())
    bare.part("row-topics").focus()
    bare.page.keyboard.press("Enter")
    assert bare.panel.selection == ["topics"]
    kept(bare, "staleness")


def test_the_board_plans_groups_by_cause_and_filters(ws, shown, papers):
    stale(papers)
    bare = shown(StalenessBoard(ws), "cause-papers changed")
    bare.part("choose-all").check()
    bare.expect(lambda: set(bare.panel.selection) == {"ml", "topics", EVIL, "vectors"})
    bare.part("plan-chosen").click()
    bare.shows("plan")
    assert "must run" in bare.part("plan").inner_text() and len(ws.tables()) == 4
    bare.part("filter-input").fill("possibly stale")
    bare.expect(lambda: bare.part("row-ml").count() == 0 and bare.part("row-topics").count() == 1)
    bare.part("sort-name").click()
    bare.expect(
        lambda: bare.page.locator("th[aria-sort=ascending]").inner_text().startswith("table")
    )
    assert not bare.part("choose-all").evaluate("box => box.indeterminate")
    bare.part("choose-all").uncheck()
    bare.expect(lambda: bare.panel.selection == [])
    bare.part("filter-input").fill("")
    bare.shows("choose-ml")
    bare.part("choose-ml").check()
    bare.expect(
        lambda: (
            bare.panel.selection == ["ml"]
            and bare.part("choose-all").evaluate("box => box.indeterminate")
        )
    )


def test_the_explorer_searches_steps_pins_and_filters(ws, on_page):
    panel = NeighborExplorer(ws, "vectors")
    bare = on_page(panel, "neighbors")
    bare.shows("verdict-table")
    bare.expect(lambda: "fresh" in bare.part("verdict-table").inner_text())
    bare.part("query-input").fill("graph networks")
    bare.part("query-input").press("Enter")
    bare.shows("neighbor-0")
    bare.part("step-0").click()
    bare.expect(lambda: "Neighbours of 0" in bare.part("own").inner_text())
    assert panel.selection == ["0"] and bare.part("neighbor-0").count() == 0
    bare.part("pin-2").click()
    bare.part("pin-5").click()
    bare.expect(lambda: "Similarity" in bare.part("pins").inner_text())
    bare.part("filter-input").fill("topic = 'food'")
    bare.part("filter-input").press("Enter")
    bare.expect(
        lambda: bare.part("neighbor-2").count() == 0 and bare.part("neighbor-3").count() == 1
    )
    bare.part("trail-0").click()
    bare.expect(lambda: bare.part("own").inner_text() == "")
    kept(bare, "neighbors")


@pytest.mark.parametrize(
    "condition",
    [
        "topic = ",
        "1; DROP TABLE x",
        "EXISTS (SELECT * FROM read_csv('/etc/passwd'))",
        "nothing > 1",
    ],
)
def test_a_condition_that_is_none_is_refused_with_words_and_the_hits_stay(ws, shown, condition):
    bare = shown(NeighborExplorer(ws, "vectors", 0), "neighbor-2")
    bare.part("filter-input").fill(condition)
    bare.part("filter-input").press("Enter")
    bare.expect(lambda: bad(bare) != "")
    assert bare.part("neighbor-2").count() == 1


def test_the_catalog_opens_down_to_columns_and_a_click_selects_what_a_cell_says(ws, shown):
    bare = shown(CatalogBrowser(ws), "catalog-item-ml")
    name, verdict, facts = (
        bare.part("catalog-item-ml").locator(f".jammi-{part}").bounding_box()["x"]
        for part in ("entry", "pill", "said-of")
    )
    assert name < verdict < facts  # the verdict is beside the name
    assert bare.part("jump-Result tables").inner_text() == "4 result tables"
    bare.part("jump-Result tables").click()
    assert bare.page.evaluate("document.activeElement.dataset.testid") == "group-Result tables"
    bare.part("catalog-item-ml").focus()
    bare.page.keyboard.press("ArrowRight")
    bare.expect(lambda: bare.part("catalog-item-topic").count() == 1)
    bare.page.keyboard.press("Enter")
    assert bare.panel.selection == ["jammi.ml"]
    bare.part("preview-papers").click()
    bare.shows("preview")
    bare.part("filter-input").fill("vec")
    bare.expect(
        lambda: (
            bare.part("catalog-item-ml").count() == 0
            and bare.part("catalog-item-vectors").count() == 1
        )
    )
    kept(bare, "catalog")


def test_numbers_are_coloured_from_low_to_high_on_narrow_dark_pages_too(ws, on_page):
    angles = [i / 40 for i in range(240)]
    frame = pl.DataFrame(
        {
            "id": range(240),
            "vector": pl.Series(
                [[math.cos(a), math.sin(a), math.sin(3 * a)] for a in angles],
                dtype=pl.Array(pl.Float32, 3),
            ),
            "angle": angles,
        }
    )
    ws.import_embeddings("ring", frame, key="id")
    for wide, dark in ((1400, False), (480, True)):
        panel = EmbeddingMap(ws, "ring", color="angle")
        bare = on_page(panel, "map", wide=wide, dark=dark, high=900)
        bare.expect(lambda bare=bare: bare.page.locator(".jammi-key").count() == 6)
        assert bare.part("legend").inner_text().startswith("0 – 1 40")
        panel.selection = ["3", "5"]
        bare.expect(lambda bare=bare: bare.part("selected-rows").locator("tbody tr").count() == 2)
        assert bare.page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        kept(bare, f"map-gradient-{wide}")


def test_the_map_colours_hovers_and_takes_a_lasso_to_python_and_sql(ws, on_page):
    panel = EmbeddingMap(ws, "vectors", color="topic")
    bare = on_page(panel, "map")
    bare.expect(
        lambda: (
            bare.page.locator("[data-points='6']").count() == 1
            and bare.page.locator(".jammi-key").count() == 2
        )
    )
    box = bare.part("map-canvas").bounding_box()
    middle = (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    bare.part("lasso").click()
    mouse = bare.page.mouse
    mouse.move(middle[0] - 400, middle[1] - 210)
    mouse.down()
    for x, y in ((400, -210), (400, 210), (-400, 210)):
        mouse.move(middle[0] + x, middle[1] + y, steps=4)
    mouse.up()
    bare.expect(lambda: "6 chosen" in bare.part("chosen").inner_text())
    assert sorted(panel.selection) == ["0", "1", "2", "3", "4", "5"] and panel.count == 6
    bare.expect(lambda: bare.part("selected-rows").locator("tbody tr").count() == 6)
    assert "sourdough" in bare.part("selected-rows").inner_text()
    ws.sources.add("picked", panel.selected())
    assert ws.sql(
        "SELECT count(*) FROM papers JOIN picked ON papers.id = picked.key"
    ).fetchall() == [(6,)]
    kept(bare, "map")
    bare.part("clear").click()
    bare.expect(lambda: panel.selection == [])


def test_words_select_a_cluster_whose_rows_are_kept_as_a_table(tmp_path, on_page):
    texts = [f"{'graph network' if i % 2 else 'rye bread'} {i}" for i in range(120)]
    with jl.open(tmp_path / "words") as ws:
        ws.sources.add("texts", pl.DataFrame({"id": range(120), "text": texts}))
        ws.embed("vectors", "texts", key="id", text="text", model="hashing")
        for wide, dark in ((1400, False), (480, True)):
            panel = EmbeddingMap(ws, "vectors")
            bare = on_page(panel, "map", wide=wide, dark=dark)
            bare.expect(lambda bare=bare: bare.part("cluster-0").count() == 1)
            bare.part("cluster-0").click()
            bare.expect(lambda bare=bare: bare.part("keep").count() == 1)
            bare.part("keep-name").fill(f"kept_{wide}")
            bare.page.keyboard.press("Enter")
            bare.expect(
                lambda bare=bare: "selected rows" in bare.page.locator(".jammi-said").inner_text()
            )
            assert ws.table(f"kept_{wide}").row_count == len(panel.selection) > 0
            box, rows = (
                bare.part("map-canvas").bounding_box(),
                bare.part("selected-rows").bounding_box(),
            )
            beside = rows["x"] >= box["x"] + box["width"]
            assert beside == (wide == 1400)
            assert bare.page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
            kept(bare, f"map-words-{wide}")


def test_very_many_points_are_drawn_by_density(ws, on_page):
    panel = EmbeddingMap(ws, "vectors")
    rng = np.random.default_rng(1)
    panel._points = np.clip(rng.normal(0, 0.1, (400_000, 2)), -1, 1).astype(np.float32)
    panel.clusters = list
    bare = on_page(panel, "map")
    bare.expect(lambda: bare.page.locator("[data-points='400000']").count() == 1)
    opacity = """([x, y]) => { const c = document.querySelector('.jammi-over'); const box = c.getBoundingClientRect();
        return c.getContext('2d').getImageData(c.width * x, c.height * y, 1, 1).data[3]; }"""
    bare.expect(lambda: bare.page.evaluate(opacity, [0.5, 0.5]) > 200)
    edge = bare.page.evaluate(opacity, [0.5, 0.5 - 0.35 * 0.46])
    assert 0 < edge < bare.page.evaluate(opacity, [0.5, 0.5])
    kept(bare, "map-density")


def test_the_map_is_placed_another_way_says_when_it_is_stale_and_is_mended(ws, shown, papers):
    bare = shown(EmbeddingMap(ws, "vectors", color="topic"), "verdict-table")
    bare.expect(lambda: bare.page.locator("[data-points='6']").count() == 1)
    bare.part("method-input").select_option("tsne")
    bare.expect(
        lambda: (
            "by t-SNE with perplexity 1.67 (vectors_tsne, version 1)"
            in bare.part("summary").inner_text()
        ),
        seconds=60,
    )  # the library is loaded
    assert (
        ws.table("vectors_tsne").row_count == 6
        and bare.part("note").count() == 0
        and not bare.part("recompute").is_visible()
    )
    stale(papers)
    bare.part("refresh").click()
    bare.expect(lambda: "vectors_tsne is possibly stale" in bare.part("notes").inner_text())
    kept(bare, "map-stale")
    bare.part("recompute").click()
    bare.expect(
        lambda: (
            bare.page.locator("[data-points='7']").count() == 1
            and "fresh" in bare.part("verdict-table").inner_text()
        )
    )
    assert (
        bare.part("notes").inner_text() == "" and bare.part("method-input").input_value() == "tsne"
    )
    bare.part("method-input").select_option("at once")
    bare.expect(lambda: "the vectors differ most" in bare.part("summary").inner_text())


def spot(bare, point):
    """Where on the page a point of a map is."""
    box, [x, y] = bare.part("map-canvas").bounding_box(), bare.panel._points[point].tolist()
    half = min(box["width"], box["height"]) / 2
    return box["x"] + box["width"] / 2 + x * 0.92 * half, box["y"] + box[
        "height"
    ] / 2 - y * 0.92 * half


def test_a_choice_from_python_and_a_click_are_marked_on_the_map(ws, shown):
    bare = shown(EmbeddingMap(ws, "vectors"), "verdict-table")
    bare.expect(lambda: bare.page.locator("[data-points='6']").count() == 1)
    bare.panel.selection = ["1", "3"]
    bare.expect(lambda: "2 chosen" in bare.part("chosen").inner_text())
    bare.page.mouse.click(*spot(bare, 4))
    bare.expect(
        lambda: bare.panel.selection == ["4"] and "1 chosen" in bare.part("chosen").inner_text()
    )
    bare.part("clear").click()
    bare.expect(lambda: bare.panel.selection == [] and bare.part("chosen").inner_text() == "")


def test_a_row_chosen_from_python_is_gone_to_in_the_explorer_and_lies_on_the_way(ws, shown):
    bare = shown(NeighborExplorer(ws, "vectors", 0, k=1), "trail-0")
    [near] = bare.page.locator(".jammi-hit").all()
    other = next(key for key in "12345" if key != near.get_attribute("data-key"))
    bare.panel.selection = [other]
    bare.expect(lambda: f"Neighbours of {other}" in bare.part("own").inner_text())
    assert bare.part("trail-1").inner_text() == other
    bare.part("trail-0").click()
    bare.expect(
        lambda: "Neighbours of 0" in bare.part("own").inner_text() and bare.panel.selection == ["0"]
    )


def test_hostile_keys_texts_and_columns_are_text_in_the_explorer_and_on_the_map(ws, shown):
    ws.sources.add(
        "hostile",
        pl.DataFrame(
            {
                "id": [EVIL, "</script>" + EVIL, "\u202eabc"],
                EVIL: [EVIL, "x" * 5_000, "\x00\x1b[31m"],
            }
        ),
    )
    ws.embed("bad", "hostile", key="id", text=EVIL, model="hashing")
    near = shown(NeighborExplorer(ws, "bad", EVIL), "note")
    near.expect(lambda: near.page.locator(".jammi-hit").count() == 2)
    near.page.locator(".jammi-hit").first.get_by_role("button", name="Neighbours").click()
    near.expect(lambda: near.part("trail-1").count() == 1)
    plan = shown(EmbeddingMap(ws, "bad", color=EVIL), "verdict-table")
    plan.expect(lambda: plan.page.locator(".jammi-key").count() == 3)
    for point in range(3):
        plan.page.mouse.move(*spot(plan, point))
        plan.expect(lambda: plan.part("tip").is_visible())
    for bare in (near, plan):
        assert bare.page.locator("#el img, #el script").count() == 0


def explored(ws):
    return NeighborExplorer(ws, "vectors", query="networks")


def coloured(ws):
    return EmbeddingMap(ws, "vectors", color="topic", projection="tsne")


@pytest.mark.parametrize("make", [LineageGraph, StalenessBoard, CatalogBrowser, explored, coloured])
def test_a_panel_fits_a_narrow_page_and_reads_in_the_dark(ws, on_page, papers, make):
    panels = [make(ws) for _ in range(4)]
    stale(papers)
    for panel, (wide, dark) in zip(
        panels, ((400, False), (1400, True), (400, True), (1400, False)), strict=True
    ):
        panel.refresh()
        name = named(panel)
        bare = on_page(panel, name, wide=wide, dark=dark)
        bare.expect(
            lambda bare=bare: (
                bare.page.locator("[data-testid]").count() > 8
                and bare.page.get_by_text("stale").count() > 0
            )
        )
        assert bare.page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        kept(bare, f"{name}-{wide}-{'dark' if dark else 'light'}")


@pytest.mark.parametrize(
    ("make", "name"),
    [(LineageGraph, "lineage"), (StalenessBoard, "staleness"), (CatalogBrowser, "catalog")],
)
def test_an_empty_workspace_is_a_panel_with_a_word(tmp_path, on_page, make, name):
    with jl.open(tmp_path / "empty") as empty:
        bare = on_page(make(empty), name)
        bare.expect(
            lambda: any(
                w in bare.part(f"jammi-{name}").inner_text()
                for w in ("No tables yet", "No recipes yet", "none yet")
            )
        )


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_the_mark_of_checks_opens_rules_and_failing_rows(ws, shown, dark):
    ws.checks.add("few", jl.checks.row_count(max=2), on="ml", severity="warn")
    ws.checks.add("titled", jl.checks.not_null("title"), on="ml")
    ws.checks.add("topics", jl.checks.row_count(1), on="topics")
    ws.checks.add("food", jl.checks.accepted("topic", ["ml"]), on="papers")
    ws.check()
    bare = shown(LineageGraph(ws), "checks-ml", dark=dark)
    bare.part("checks-ml").click()
    bare.shows("failing-few")
    assert bare.panel.selection == ["ml"]
    assert "the table has at most 2 rows: 1 row fails" in bare.part("check-few").inner_text()
    assert bare.part("failing-titled").count() == 0
    kept(bare, f"checks-lineage-{'dark' if dark else 'light'}")
    board = shown(StalenessBoard(ws), "checks-topics", dark=dark)
    assert board.part("checks-ml").inner_text().strip().endswith("1 of 2 fails")
    board.part("checks-ml").click()
    board.shows("failing-few")
    assert "the table has at most 2 rows: 1 row fails" in board.part("check-few").inner_text()
    assert board.part("failing-few").locator("tbody tr").count() == 1
    kept(board, f"checks-board-{'dark' if dark else 'light'}")
    board.part("close-outcome").click()
    board.part("check-few").wait_for(state="detached")


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_the_switch_searches_by_meaning_words_or_both_and_marks_the_words(ws, shown, dark):
    ws.lexical("words", "papers", key="id", text="title")
    bare = shown(NeighborExplorer(ws, "vectors", query="graphs"), "neighbor-0", dark=dark)
    assert bare.part("mode-input").is_visible()
    assert bare.page.locator("mark").all_inner_texts() == []
    bare.part("mode-input").select_option("words")
    bare.expect(lambda: bare.part("neighbor-1").count() == 0)
    assert bare.panel.mode == "words"
    assert bare.part("query-input").get_attribute("placeholder") == "Search by words"
    assert sorted(bare.page.locator("mark").all_inner_texts()) == ["graph", "graphs"]
    kept(bare, f"neighbors-words-{'dark' if dark else 'light'}")
    bare.part("mode-input").select_option("meaning and words")
    bare.shows("neighbor-1")
    bare.expect(lambda: bare.panel.mode == "both" and bare.page.locator("mark").count() == 2)
    kept(bare, f"neighbors-both-{'dark' if dark else 'light'}")


def test_a_word_far_down_a_text_is_seen(ws, shown):
    ws.sources.add("long", pl.DataFrame({"id": [1], "text": ["much ado " * 3000 + "E17 occurs"]}))
    ws.embed("far", "long", key="id", text="text", model="hashing")
    ws.lexical("far_words", "long", key="id", text="text")
    bare = shown(NeighborExplorer(ws, "far", mode="words", query="E17"), "neighbor-1", wide=500)
    mark, box = bare.page.locator("mark"), bare.page.locator(".jammi-text").first
    assert mark.inner_text() == "E17" and box.inner_text().startswith("…")
    word, text = mark.bounding_box(), box.bounding_box()
    assert text["y"] <= word["y"] and word["y"] + word["height"] <= text["y"] + text["height"] + 1
    kept(bare, "neighbors-far")
