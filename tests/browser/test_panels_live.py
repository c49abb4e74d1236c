"""Panels that live: shown in several places, beside others, while cells run, while work goes on,
and when the kernel is gone."""

import threading

import pytest

import jammi_lab as jl
from jammi_lab.core.records import Progress
from jammi_widgets import (
    CatalogBrowser,
    EmbeddingMap,
    LineageGraph,
    NeighborExplorer,
    StalenessBoard,
)
from jammi_widgets import auto_refresh as following
from tests.browser.test_panels import bad, on_page, papers, shown, stale, ws  # noqa: F401  the fixtures
from tests.inside import runner_of

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.leaves_behind("playwright keeps a loop and its pipes for the session"),
]


def searched(ws):
    return NeighborExplorer(ws, "vectors", query="networks")


def mapped(ws):
    return EmbeddingMap(ws, "vectors")


EACH = [
    (LineageGraph, "node-ml"),
    (StalenessBoard, "row-ml"),
    (searched, "neighbor-0"),
    (mapped, "verdict-table"),
    (CatalogBrowser, "catalog-item-ml"),
]


def first(bare):
    return bare.page.locator("#el > div").first


def test_two_views_of_a_board_show_the_same_rows_and_either_works_them(ws, shown, papers):
    stale(papers)
    bare = shown(StalenessBoard(ws), "row-ml")
    there, here = first(bare), bare.again()
    bare.expect(lambda: here.get_by_test_id("row-ml").count() == 1)
    here.get_by_test_id("sort-name").click()
    bare.expect(
        lambda: all(
            "table" in v.locator("th[aria-sort=ascending]").inner_text() for v in (here, there)
        )
    )
    there.get_by_test_id("choose-ml").check()
    bare.expect(
        lambda: here.get_by_test_id("choose-ml").is_checked() and bare.panel.selection == ["ml"]
    )
    here.get_by_test_id("recompute-ml").click()
    bare.expect(
        lambda: all("fresh" in v.get_by_test_id("verdict-ml").inner_text() for v in (here, there))
    )
    here.get_by_test_id("filter-input").fill("topics")
    bare.expect(lambda: all(v.get_by_test_id("row-ml").count() == 0 for v in (here, there)))
    assert there.get_by_test_id("filter-input").input_value() == "topics"


def test_two_views_of_a_lineage_fold_together_and_each_has_its_details(ws, shown):
    bare = shown(LineageGraph(ws), "node-ml")
    there, here = first(bare), bare.again()
    bare.expect(lambda: here.get_by_test_id("node-ml").count() == 1)
    here.get_by_test_id("node-ml").hover()
    here.get_by_test_id("collapse-down-ml").click()
    bare.expect(lambda: all(v.get_by_test_id("node-topics").count() == 0 for v in (here, there)))
    there.get_by_test_id("expand-down-ml").click()
    bare.expect(lambda: all(v.get_by_test_id("node-topics").count() == 1 for v in (here, there)))
    there.get_by_test_id("node-ml").click()
    bare.expect(lambda: all(v.get_by_test_id("preview-ml").count() == 1 for v in (here, there)))
    here.get_by_test_id("preview-ml").click()
    bare.expect(lambda: "graph neural networks" in here.get_by_test_id("outcome").inner_text())


def test_two_views_of_an_explorer_a_map_and_a_catalog_go_together(ws, shown):
    near = shown(searched(ws), "neighbor-0")
    there, here = first(near), near.again()
    near.expect(lambda: here.get_by_test_id("neighbor-0").count() == 1)
    here.get_by_test_id("query-input").fill("bread")
    here.get_by_test_id("query-input").press("Enter")
    near.expect(
        lambda: all(
            v.locator(".jammi-hit").first.get_attribute("data-key") == "1" for v in (here, there)
        )
    )
    plan = shown(mapped(ws), "verdict-table")
    there, here = first(plan), plan.again()
    plan.expect(lambda: plan.page.locator("[data-points='6']").count() == 2)
    plan.panel.selection = ["1", "3"]
    plan.expect(
        lambda: all("2 chosen" in v.get_by_test_id("chosen").inner_text() for v in (here, there))
    )
    here.get_by_test_id("clear").click()
    plan.expect(lambda: all(v.get_by_test_id("chosen").inner_text() == "" for v in (here, there)))
    tree = shown(CatalogBrowser(ws), "catalog-item-ml")
    there, here = first(tree), tree.again()
    tree.expect(lambda: here.get_by_test_id("catalog-item-ml").count() == 1)
    here.get_by_test_id("filter-input").fill("vec")
    tree.expect(
        lambda: all(v.get_by_test_id("catalog-item-ml").count() == 0 for v in (here, there))
    )


def test_an_answer_to_one_view_is_never_taken_for_an_answer_to_the_other(ws, shown):
    bare = shown(CatalogBrowser(ws), "catalog-item-ml")
    there, here = first(bare), bare.again()
    bare.expect(lambda: here.get_by_test_id("catalog-item-ml").count() == 1)
    there.get_by_test_id("catalog-item-ml").locator(".jammi-turn").click()
    here.get_by_test_id("catalog-item-topics").locator(".jammi-turn").click()
    bare.expect(
        lambda: (
            there.get_by_test_id("catalog-item-title").count() == 1
            and here.get_by_test_id("catalog-item-n").count() == 1
        )
    )
    assert (
        there.get_by_test_id("catalog-item-n").count()
        == here.get_by_test_id("catalog-item-title").count()
        == 0
    )


@pytest.mark.parametrize(("make", "part"), EACH)
def test_a_view_that_is_left_is_not_looked_at_and_the_other_lives_on(ws, shown, make, part):
    bare = shown(make(ws), part)
    here = bare.again()
    bare.expect(lambda: here.get_by_test_id(part).count() == 1 and len(bare.panel._views) == 2)
    bare.page.evaluate("window.leave(0)")
    bare.expect(lambda: len(bare.panel._views) == 1 and bare.part(part).count() == 1)
    here.get_by_test_id("refresh").click()
    bare.expect(lambda: here.locator(".jammi-bad").count() == 0)
    bare.page.evaluate("window.leave(1)")
    bare.expect(lambda: bare.panel._views == set())


def test_two_panels_of_one_table_have_each_its_own_query_and_choice(ws, shown):
    bare = shown(searched(ws), "neighbor-0")
    other = NeighborExplorer(ws, "vectors", 1)
    there, here = first(bare), bare.add(other)
    bare.expect(lambda: "Neighbours of 1" in here.get_by_test_id("own").inner_text())
    assert (
        "networks" in there.get_by_test_id("trail-0").inner_text()
        and there.get_by_test_id("own").inner_text() == ""
    )
    there.get_by_test_id("neighbor-0").click()
    assert bare.panel.selection == ["0"] and other.selection == ["1"]
    other.query = "rice"
    bare.expect(lambda: here.locator(".jammi-hit").first.get_attribute("data-key") == "4")
    assert bare.panel.query == "networks"


@pytest.mark.parametrize("make", [LineageGraph, StalenessBoard, CatalogBrowser])
def test_what_a_cell_changed_is_shown_after_it_in_every_panel_on_the_page(ws, shown, papers, make):
    part = {LineageGraph: "node", StalenessBoard: "row", CatalogBrowser: "catalog-item"}[make]
    bare = shown(make(ws), f"{part}-ml")
    here = bare.add(make(ws))
    bare.expect(lambda: here.get_by_test_id(f"{part}-ml").count() == 1)
    ws.materialize("later", "SELECT count(*) AS n FROM jammi.topics")
    following.schedule_refresh()
    bare.expect(lambda: bare.part(f"{part}-later").count() == 2)
    stale(papers)
    following.schedule_refresh()
    bare.expect(
        lambda: all(
            t.endswith("stale") and "possibly" not in t
            for t in bare.part("verdict-ml").all_text_contents()
        )
    )
    ws.close()
    following.schedule_refresh()
    bare.expect(
        lambda: (
            [("closed" in t) for t in bare.page.locator(".jammi-said").all_inner_texts()]
            == [True, True]
        )
    )


def test_what_is_open_and_chosen_stays_so_when_a_cell_has_changed_something(ws, shown):
    bare = shown(CatalogBrowser(ws), "catalog-item-ml")
    bare.part("catalog-item-ml").focus()
    bare.page.keyboard.press("ArrowRight")
    bare.expect(lambda: bare.part("catalog-item-title").count() == 1)
    ws.materialize("later", "SELECT 1 AS a")
    following.schedule_refresh()
    bare.expect(
        lambda: (
            bare.part("catalog-item-later").count() == 1
            and bare.part("catalog-item-title").count() == 1
        )
    )
    assert bare.part("catalog-item-ml").evaluate("e => e === document.activeElement")


@pytest.mark.parametrize("make", [searched, mapped])
def test_a_panel_of_vectors_says_after_a_cell_that_its_table_is_stale(ws, shown, papers, make):
    bare = shown(make(ws), "verdict-table")
    bare.expect(
        lambda: (
            "fresh" in bare.part("verdict-table").inner_text()
            and bare.page.locator(".jammi-hit, [data-points]").count() > 0
        )
    )
    stale(papers)
    following.schedule_refresh()
    bare.expect(
        lambda: (
            "papers changed" in bare.page.locator("#el").inner_text()
            and "stale" in bare.part("verdict-table").inner_text()
        )
    )


def test_the_board_watches_from_a_button_and_ends_it(ws, shown, papers):
    bare = shown(StalenessBoard(ws), "row-ml")
    bare.part("watch").click()
    bare.expect(
        lambda: bare.panel.watch == 5 and bare.part("watch").get_attribute("aria-pressed") == "true"
    )
    bare.panel.watch = 0.2
    stale(papers)
    bare.expect(lambda: bare.part("verdict-ml").inner_text().endswith("stale"))
    bare.part("watch").click()
    bare.expect(
        lambda: (
            bare.panel.watch == 0 and bare.part("watch").get_attribute("aria-pressed") == "false"
        )
    )


@pytest.mark.parametrize(("make", "part"), EACH)
def test_a_kernel_that_was_restarted_is_said_at_once_and_nothing_waits_for_it(
    ws, shown, make, part
):
    bare = shown(make(ws), part)
    bare.page.evaluate("window.restart()")
    assert "restarted" in bare.page.locator(".jammi-said").inner_text()
    bare.page.evaluate("document.querySelector('.jammi-said').replaceChildren()")
    bare.part("refresh").click()
    bare.page.get_by_text("Run this cell again").wait_for()
    bare.page.evaluate("window.leave(0)")


@pytest.mark.parametrize("make", [searched, mapped])
def test_a_source_that_takes_long_to_read_is_said_and_the_word_goes_with_the_answer(
    ws, shown, monkeypatch, make
):
    gate = threading.Event()
    bare = shown(make(ws), "verdict-table")
    bare.panel._reply_queue.wait(10)
    monkeypatch.setattr(bare.panel, "_needs_read", lambda _: True)
    monkeypatch.setattr(bare.panel, "_load", lambda _: gate.wait(30))
    said = bare.page.locator(".jammi-said")
    for condition in ("topic = 'food'", "topic = 'food' AND true"):
        bare.part("filter-input").fill(condition)
        bare.part("filter-input").press("Enter")
        bare.expect(lambda: said.inner_text() == "Reading the source …")
        assert bare.page.locator(".jammi-bad").count() == 0
        gate.set()
        bare.expect(lambda: said.inner_text() == "")
        gate.clear()


@pytest.mark.parametrize(("make", "part"), EACH)
def test_a_closed_workspace_is_said_by_every_panel(ws, shown, make, part):
    bare = shown(make(ws), part)
    ws.close()
    bare.part("refresh").click()
    bare.expect(lambda: "closed" in bad(bare))


def begun(bare, monkeypatch, then):
    """A recompute on the page that has told `0 of 4`, and then does what is said."""
    monkeypatch.setattr(
        bare.panel._ws,
        "recompute",
        lambda _names, progress: (progress(Progress("recompute", 0, 4, "steps")), then(progress))[
            1
        ],
    )
    bare.part("recompute-ml").first.click()
    bare.expect(lambda: "0 of 4 steps" in bare.page.locator(".jammi-progress").inner_text())


@pytest.mark.parametrize("make", [LineageGraph, StalenessBoard])
@pytest.mark.parametrize(
    "error", [jl.SourceUnavailable("papers cannot be reached."), ValueError("something else")]
)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_the_progress_of_a_recompute_that_failed_is_gone_and_why_is_said(
    ws, shown, papers, monkeypatch, make, error
):
    stale(papers)
    bare = shown(make(ws), "verdict-ml")
    go = threading.Event()

    def failing(_):
        assert go.wait(20)
        raise error

    if make is LineageGraph:
        bare.part("node-ml").click()
        bare.shows("recompute-ml")
    begun(bare, monkeypatch, failing)
    go.set()
    bare.expect(
        lambda: (
            not bare.page.locator(".jammi-progress").is_visible()
            and str(error.args[0]) in bad(bare)
        )
    )


def test_the_progress_of_a_kernel_that_fell_silent_is_gone_and_comes_back_with_it(
    ws, shown, papers, monkeypatch
):
    go = threading.Event()
    stale(papers)
    bare = shown(StalenessBoard(ws), "row-ml")
    bare.install_clock()
    end = threading.Event()

    def hanging(progress):
        assert go.wait(20)
        progress(Progress("recompute", 3, 4, "steps"))
        assert end.wait(20)
        raise jl.SourceUnavailable("the end")

    begun(bare, monkeypatch, hanging)
    bare.page.clock.run_for(9000)
    assert (
        not bare.page.locator(".jammi-progress").is_visible()
        and "does not respond" in bare.page.locator(".jammi-said").inner_text()
    )
    go.set()
    bare.expect(lambda: "3 of 4 steps" in bare.page.locator(".jammi-progress").inner_text())
    assert bare.page.locator(".jammi-said").inner_text() == ""
    bare.page.evaluate("window.restart()")
    assert not bare.page.locator(".jammi-progress").is_visible()
    end.set()
    runner_of(bare.panel).wait(20)
