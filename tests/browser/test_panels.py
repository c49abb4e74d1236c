"""Every panel on a bare page: what a mouse, a keyboard and a hostile name do. `JAMMI_SHOTS=folder`
keeps pictures."""

import numpy as np
import polars as pl

import jammi_lab as jl
from jammi_lab.core.verdicts import Fresh
from jammi_widgets import (
    CatalogBrowser,
    EmbeddingMap,
    LineageGraph,
    NeighborExplorer,
    StalenessBoard,
)
from tests.browser.bare import EVIL, bad, kept, spot, stale


def test_the_lineage_is_walked_by_keyboard_and_recomputed_from(ws, shown, papers):
    stale(papers)
    bare = shown(LineageGraph(ws), "node-papers")
    bare.part("node-papers").focus()
    for key in ("ArrowRight", "ArrowUp", "ArrowDown"):
        bare.press(key)
    bare.press("Enter", "node-ml")
    bare.shows("recompute-ml")
    assert bare.panel.selection == ["ml"]
    bare.click("recompute-ml")
    bare.says("outcome", "ml: computed")
    bare.expect(lambda: "fresh" in bare.part("verdict-ml").text_content())
    bare.press("Escape", "node-ml")
    assert bare.panel.selection == []
    assert isinstance(ws.staleness("ml"), Fresh)


DASHED = """() => [...document.querySelectorAll(".jammi-edges path")].filter((path) => {
  const { display, strokeDasharray } = getComputedStyle(path);
  return display !== "none" && strokeDasharray !== "none";
}).length"""


def test_a_column_lights_its_way_up_and_down_until_another_node_is_chosen(ws, shown):
    bare = shown(LineageGraph(ws), "node-ml")
    bare.click("node-ml")
    bare.shows("preview-ml")
    bare.find("summary").filter(has_text="columns").click()
    bare.click("column-topic")
    bare.expect(lambda: bare.count("trace-papers-ml") == bare.count("trace-ml-topics") == 1)
    assert bare.attribute(
        "column-topic", "aria-pressed"
    ) == "true" and "papers (topic)" in bare.text("way")
    assert bare.part("node-topics").locator(".jammi-kind").text_content() == "n, topic"
    kept(bare, "lineage-column")
    bare.press("Enter", "column-title")
    bare.expect(lambda: bare.count("trace-ml-topics") == 0 and bare.count("trace-papers-ml") == 1)
    bare.click("node-topics")
    bare.has(".jammi-traced", 0)
    assert bare.part("node-ml").locator(".jammi-kind").text_content() == "sql, version 1"
    bare.click("columns")
    bare.shows("column-of-ml-topic")
    assert bare.page.evaluate(DASHED) == 0
    bare.click("column-of-ml-topic")
    bare.expect(lambda: bare.page.evaluate(DASHED) > 0)
    bare.click("column-of-ml-topic")
    bare.expect(lambda: bare.page.evaluate(DASHED) == 0)


def test_a_graph_that_is_not_all_in_sight_says_so(ws, shown):
    bare = shown(LineageGraph(ws), "node-ml", wide=300)
    bare.says("further-nodes", "not all in sight")
    assert "right" in bare.find(".jammi-canvas").get_attribute("data-beyond")
    bare.click("fit")
    bare.expect(lambda: bare.text("further-nodes") == "")


def test_the_buttons_of_the_board_are_in_sight_at_every_width(ws, shown, papers):
    ws.checks.add("ids", jl.checks.unique("id"), on="ml")
    ws.check()
    stale(papers)
    bare = shown(StalenessBoard(ws), "recompute-ml")
    beside = """() => document.querySelector("[data-testid=recompute-ml]").getBoundingClientRect().right
      - document.querySelector(".jammi-tall").getBoundingClientRect().right"""
    for wide in (360, 600, 680, 760, 1000):
        bare.page.set_viewport_size({"width": wide, "height": 700})
        bare.expect(lambda: bare.page.evaluate(beside) <= 1)


def test_ages_on_the_board_grow_in_columns_and_on_cards(ws, shown):
    bare = shown(StalenessBoard(ws), "row-ml")
    bare.install_clock()
    bare.page.clock.run_for(3_600_000)
    row = bare.part("row-ml")
    bare.expect(lambda: row.locator(".jammi-age").text_content() == "1 h ago")
    assert row.locator(".jammi-brief").text_content().startswith("1 h ago · 3 rows")


def test_an_answer_that_does_not_come_is_said(ws, shown):
    bare = shown(LineageGraph(ws), "node-ml")
    ws.close()
    bare.click("refresh")
    bare.says(".jammi-said", "closed")
    bare.page.evaluate("window.dead = true")
    bare.install_clock()
    bare.click("refresh")
    bare.page.clock.run_for(9000)
    bare.says(".jammi-said", "does not respond")


def test_the_board_plans_groups_by_cause_and_filters(ws, shown, papers):
    stale(papers)
    bare = shown(StalenessBoard(ws), "cause-papers changed")
    bare.part("choose-all").check()
    bare.expect(lambda: set(bare.panel.selection) == {"ml", "topics", EVIL, "vectors"})
    bare.click("plan-chosen")
    bare.shows("plan")
    assert "to recompute" in bare.text("plan") and len(ws.tables()) == 4
    bare.part("filter-input").fill("possibly stale")
    bare.expect(lambda: bare.count("row-ml") == 0 and bare.count("row-topics") == 1)
    bare.click("sort-name")
    bare.expect(lambda: bare.find("th[aria-sort=ascending]").inner_text().startswith("table"))
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


def test_the_explorer_searches_steps_and_filters(ws, on_page):
    panel = NeighborExplorer(ws, "vectors")
    bare = on_page(panel, "neighbors")
    bare.shows("verdict-table")
    bare.says("verdict-table", "fresh")
    bare.part("query-input").fill("graph networks")
    bare.part("query-input").press("Enter")
    bare.shows("neighbor-0")
    bare.click("step-0")
    bare.says("own", "Neighbours of 0")
    assert panel.selection == ["0"] and bare.count("neighbor-0") == 0
    bare.part("filter-input").fill("topic = 'food'")
    bare.part("filter-input").press("Enter")
    bare.expect(lambda: bare.count("neighbor-2") == 0 and bare.count("neighbor-3") == 1)
    bare.click("trail-0")
    bare.expect(lambda: bare.text("own") == "")
    kept(bare, "neighbors")


def test_a_condition_that_is_none_is_refused_with_words_and_the_hits_stay(ws, shown):
    bare = shown(NeighborExplorer(ws, "vectors", 0), "neighbor-2")
    bare.part("filter-input").fill("EXISTS (SELECT * FROM read_csv('/etc/passwd'))")
    bare.part("filter-input").press("Enter")
    bare.expect(lambda: bad(bare) != "")
    assert bare.count("neighbor-2") == 1


def test_the_catalog_opens_down_to_columns_and_a_click_selects_what_a_cell_says(ws, shown):
    bare = shown(CatalogBrowser(ws), "catalog-item-ml")
    name, verdict, facts = (
        bare.part("catalog-item-ml").locator(f".jammi-{part}").bounding_box()["x"]
        for part in ("entry", "pill", "said-of")
    )
    assert name < verdict < facts  # the verdict is beside the name
    assert bare.text("jump-Result tables") == "4 result tables"
    bare.click("jump-Result tables")
    assert bare.page.evaluate("document.activeElement.dataset.testid") == "group-Result tables"
    bare.press("ArrowRight", "catalog-item-ml")
    bare.has("catalog-item-topic", 1)
    bare.press("Enter")
    assert bare.panel.selection == ["jammi.ml"]
    assert "jammi.ml" in bare.text(".jammi-said")  # copied, or to be typed where a page may not
    bare.click("preview-papers")
    bare.expect(lambda: bare.visible("preview"))
    bare.click("preview-papers")
    assert not bare.visible("preview")
    head = bare.page.get_by_role("button", name="Result tables", exact=True)
    head.click()
    assert head.get_attribute("aria-expanded") == "false" and not bare.visible("catalog-item-ml")
    head.focus()
    bare.press("Enter")
    assert bare.visible("catalog-item-ml")
    bare.part("catalog-item-topics").locator(".jammi-entry").click()
    bare.expect(lambda: bare.panel.selection == ["jammi.topics"])
    bare.part("filter-input").fill("vec")
    bare.expect(
        lambda: bare.count("catalog-item-ml") == 0 and bare.count("catalog-item-vectors") == 1
    )
    kept(bare, "catalog")


def test_the_map_colours_hovers_and_takes_a_lasso_to_python_and_sql(ws, on_page):
    panel = EmbeddingMap(ws, "vectors", color="topic")
    bare = on_page(panel, "map")
    bare.expect(lambda: bare.count("[data-points='6']") == 1 and bare.count(".jammi-key") == 2)
    box = bare.part("map-canvas").bounding_box()
    middle = (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    bare.click("lasso")
    mouse = bare.page.mouse
    mouse.move(middle[0] - 400, middle[1] - 210)
    mouse.down()
    for x, y in ((400, -210), (400, 210), (-400, 210)):
        mouse.move(middle[0] + x, middle[1] + y, steps=4)
    mouse.up()
    bare.says("chosen", "6 chosen")
    assert sorted(panel.selection) == ["0", "1", "2", "3", "4", "5"] and panel.count == 6
    bare.expect(lambda: bare.part("selected-rows").locator("tbody tr").count() == 6)
    assert "sourdough" in bare.text("selected-rows")
    ws.sources.add("picked", panel.selected())
    assert ws.sql(
        "SELECT count(*) FROM papers JOIN picked ON papers.id = picked.key"
    ).fetchall() == [(6,)]
    kept(bare, "map")
    bare.click("clear")
    bare.expect(lambda: panel.selection == [])


def test_selected_rows_are_kept_as_a_table(tmp_path, on_page):
    texts = [f"{'graph network' if i % 2 else 'rye bread'} {i}" for i in range(120)]
    with jl.open(tmp_path / "words") as ws:
        ws.sources.add("texts", pl.DataFrame({"id": range(120), "text": texts}))
        ws.embed("vectors", "texts", key="id", text="text", model="hashing")
        bare = on_page(EmbeddingMap(ws, "vectors"), "map", wide=1400)
        bare.has("[data-points='120']", 1)
        bare.panel.selection = [str(i) for i in range(0, 120, 2)]
        bare.has("keep", 1)
        bare.part("keep-name").fill("kept")
        bare.press("Enter")
        bare.says(".jammi-said", "selected rows")
        assert ws.table("kept").row_count == len(bare.panel.selection) > 0
        for wide in (1400, 480):
            bare.page.set_viewport_size({"width": wide, "height": 700})
            places = (bare.part(part).bounding_box() for part in ("map-canvas", "selected-rows"))
            box, rows = places
            assert (rows["x"] >= box["x"] + box["width"]) == (wide == 1400)
            assert bare.page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
            kept(bare, f"map-selected-{wide}")


def test_very_many_points_are_drawn_by_density(ws, on_page):
    panel = EmbeddingMap(ws, "vectors")
    rng = np.random.default_rng(1)
    panel._points = np.clip(rng.normal(0, 0.1, (400_000, 2)), -1, 1).astype(np.float32)
    bare = on_page(panel, "map")
    bare.has("[data-points='400000']", 1)
    opacity = """([x, y]) => { const c = document.querySelector('.jammi-over'); const box = c.getBoundingClientRect();
        return c.getContext('2d').getImageData(c.width * x, c.height * y, 1, 1).data[3]; }"""
    bare.expect(lambda: bare.page.evaluate(opacity, [0.5, 0.5]) > 200)
    edge = bare.page.evaluate(opacity, [0.5, 0.5 - 0.35 * 0.46])
    assert 0 < edge < bare.page.evaluate(opacity, [0.5, 0.5])
    kept(bare, "map-density")


def test_the_map_is_placed_another_way_says_when_it_is_stale_and_is_mended(ws, shown, papers):
    bare = shown(EmbeddingMap(ws, "vectors", color="topic"), "verdict-table")
    bare.has("[data-points='6']", 1)
    bare.part("method-input").select_option("pca")
    bare.says("summary", "(vectors_pca, version 1)")
    assert (
        ws.table("vectors_pca").row_count == 6
        and bare.count("note") == 0
        and not bare.visible("recompute")
    )
    stale(papers)
    bare.click("refresh")
    bare.says("notes", "vectors_pca is possibly stale")
    kept(bare, "map-stale")
    bare.click("recompute")
    bare.expect(
        lambda: bare.count("[data-points='7']") == 1 and "fresh" in bare.text("verdict-table")
    )
    assert bare.text("notes") == "" and bare.part("method-input").input_value() == "pca"
    bare.part("method-input").select_option("at once")
    bare.says("summary", "the vectors differ most")


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
        assert bare.count("#el img, #el script") == 0


def test_the_mark_of_checks_opens_rules_and_failing_rows(ws, shown):
    ws.checks.add("few", jl.checks.row_count(max=2), on="ml", severity="warn")
    ws.checks.add("titled", jl.checks.not_null("title"), on="ml")
    ws.checks.add("topics", jl.checks.row_count(1), on="topics")
    ws.check()
    bare = shown(LineageGraph(ws), "checks-ml")
    bare.click("checks-ml")
    bare.shows("failing-few")
    assert bare.panel.selection == ["ml"]
    assert "the table has at most 2 rows: 1 row fails" in bare.text("check-few")
    assert bare.count("failing-titled") == 0
    kept(bare, "checks-lineage")
    board = shown(StalenessBoard(ws), "checks-topics")
    assert board.part("checks-ml").inner_text().strip().endswith("1 of 2 fails")
    board.part("checks-ml").click()
    board.shows("failing-few")
    assert "the table has at most 2 rows: 1 row fails" in board.part("check-few").inner_text()
    assert board.part("failing-few").locator("tbody tr").count() == 1
    kept(board, "checks-board")
    board.part("close-outcome").click()
    board.part("check-few").wait_for(state="detached")
