"""Panels that live: shown in several places, beside others, while cells run, while work goes on,
and when the kernel is gone."""

import threading

import pytest

import jammi_lab as jl
from jammi_lab.core.records import Progress
from jammi_lab.features.search.source_rows import SourceRows
from jammi_widgets import (
    CatalogBrowser,
    DiffView,
    EmbeddingMap,
    LineageGraph,
    NeighborExplorer,
    StalenessBoard,
)
from jammi_widgets import auto_refresh as following
from tests.browser.bare import bad, stale


def searched(ws):
    return NeighborExplorer(ws, "vectors", query="networks")


def mapped(ws):
    return EmbeddingMap(ws, "vectors")


def compared(ws):
    ws.materialize("ml", "SELECT * FROM papers", key="id")
    return DiffView(ws, "ml")


EACH = [
    (LineageGraph, "node-ml", {"tree": "", "treeitem": "ml, sql, version 1, fresh"}),
    (
        StalenessBoard,
        "row-ml",
        {"grid": "Recipes", "columnheader": "table", "button": "Recompute ml"},
    ),
    (searched, "neighbor-0", {"grid": "Neighbours", "row": ""}),
    (mapped, "verdict-table", {"application": "arrow keys move it"}),
    (CatalogBrowser, "catalog-item-ml", {"treeitem": "", "button": "Preview ml"}),
    (compared, "version-old", {}),
]
"""Panels, a part of each, and roles in it with a part of their names, as a screen reader tells
them. An application gets the keys that it keeps from a picture."""
NAMELESS = """() => [...document.querySelectorAll("#el :is(button, input, select, a, summary, [role=button], [role=treeitem], [role=row], [role=img], [tabindex])")]
  .filter((e) => !(e.getAttribute("aria-label") || e.textContent.trim() || e.title)).map((e) => e.outerHTML)"""
MOVING = """() => [...document.querySelectorAll("#el *")].filter((e) => getComputedStyle(e).transitionDuration.split(", ").some((d) => d !== "0s")
  || getComputedStyle(e).animationName !== "none").length"""


@pytest.mark.every_case
@pytest.mark.parametrize(("make", "part", "roles"), EACH)
def test_every_panel_has_names_keeps_still_and_lives_in_each_view_until_its_kernel_is_gone(
    ws, shown, make, part, roles
):
    bare = shown(make(ws), part, calm=True)
    page, menu = bare.page, "e => e.getBoundingClientRect().right"
    assert (page.evaluate(NAMELESS), page.evaluate(MOVING)) == ([], 0)
    for one in (
        "[role=toolbar]",
        "section[aria-label]",
        ".jammi-said[role=status][aria-live=polite]",
    ):
        assert bare.count(f"#el {one}") == 1, one
    missing = [r for r, name in roles.items() if not page.get_by_role(r, name=name).count()]
    assert missing == []
    for wide in (900, 480):
        page.set_viewport_size({"width": wide, "height": 700})
        assert not bare.visible("refresh")
        bare.part("more").click()
        bare.expect(lambda wide=wide: bare.part(".jammi-menu").evaluate(menu) <= wide)
        bare.part("refresh").click()
        assert not bare.visible("refresh")
    here = bare.again()
    bare.expect(lambda: here.get_by_test_id(part).count() == 1 and len(bare.panel._views) == 2)
    page.evaluate("window.leave(0)")
    bare.expect(lambda: len(bare.panel._views) == 1 and bare.count(part) == 1)
    bare.click("refresh")
    bare.panel._reply_queue.wait(10)
    bare.deliver()
    assert bad(bare) == ""
    ws.close()
    bare.click("refresh")
    bare.expect(lambda: "closed" in bad(bare))
    page.evaluate("window.restart()")
    assert "restarted" in bare.text(".jammi-said")
    page.evaluate("document.querySelector('.jammi-said').replaceChildren()")
    bare.click("refresh")
    page.get_by_text("Run this cell again").wait_for()
    page.evaluate("window.leave(1)")


def first(bare):
    return bare.part("#el > div").first


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


@pytest.mark.parametrize("make", [LineageGraph, StalenessBoard, CatalogBrowser])
def test_what_a_cell_changed_is_shown_after_it_in_every_panel_on_the_page(ws, shown, papers, make):
    part = {LineageGraph: "node", StalenessBoard: "row", CatalogBrowser: "catalog-item"}[make]
    bare = shown(make(ws), f"{part}-ml")
    here = bare.add(make(ws))
    bare.expect(lambda: here.get_by_test_id(f"{part}-ml").count() == 1)
    ws.materialize("later", "SELECT count(*) AS n FROM jammi.topics")
    following.schedule_refresh()
    bare.has(f"{part}-later", 2)
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
            [("closed" in t) for t in bare.part(".jammi-said").all_inner_texts()] == [True, True]
        )
    )


@pytest.mark.parametrize("make", [searched, mapped])
def test_a_panel_of_vectors_says_after_a_cell_that_its_table_is_stale(ws, shown, papers, make):
    bare = shown(make(ws), "verdict-table")
    bare.expect(
        lambda: (
            "fresh" in bare.text("verdict-table") and bare.count(".jammi-hit, [data-points]") > 0
        )
    )
    stale(papers)
    following.schedule_refresh()
    bare.expect(
        lambda: "papers changed" in bare.text("#el") and "stale" in bare.text("verdict-table")
    )


@pytest.mark.parametrize("make", [searched, mapped])
def test_a_source_that_takes_long_to_read_is_said_and_the_word_goes_with_the_answer(
    ws, shown, monkeypatch, make
):
    gate = threading.Event()
    bare = shown(make(ws), "verdict-table")
    bare.panel._reply_queue.wait(10)
    matching_keys = SourceRows.matching_keys
    monkeypatch.setattr(
        SourceRows,
        "matching_keys",
        lambda rows, *asked: gate.wait(30) and matching_keys(rows, *asked),
    )
    said = bare.part(".jammi-said")
    for condition in ("topic = 'food'", "topic = 'food' AND true"):
        bare.part("filter-input").fill(condition)
        bare.part("filter-input").press("Enter")
        bare.expect(lambda: said.inner_text() == "Reading the source …")
        assert bare.count(".jammi-bad") == 0
        gate.set()
        bare.expect(lambda: said.inner_text() == "")
        gate.clear()


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
    bare.says(".jammi-progress", "0 of 4 steps")


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
        bare.click("node-ml")
        bare.shows("recompute-ml")
    begun(bare, monkeypatch, failing)
    go.set()
    bare.expect(lambda: not bare.visible(".jammi-progress") and str(error.args[0]) in bad(bare))
