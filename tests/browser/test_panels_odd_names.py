"""Names and values that hide something are written out, and long ones stay on the page."""

import polars as pl
import pytest

from jammi_lab.core.html import escape_invisible
from jammi_lab.core.identifiers import quote_identifier
from jammi_widgets import (
    CatalogBrowser,
    EmbeddingMap,
    LineageGraph,
    NeighborExplorer,
    StalenessBoard,
)
from tests.browser.test_panels import EVIL, named, on_page, papers, shown, spot, ws  # noqa: F401  the fixtures

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.leaves_behind("playwright keeps a loop and its pipes for the session"),
]
BACKWARDS = "\u202edesrever"
LONG = "b" * 3_000


@pytest.fixture
def odd(ws):
    """A table whose name is written backwards, columns and keys that are long or hide something."""
    rows = {
        "id": [EVIL, LONG, BACKWARDS],
        "W" * 120: ["a\nb", "c" * 900, "\x1b[31md"],
        BACKWARDS: ["x\u2066y", "</script>", "two\nlines"],
    }
    ws.sources.add("odd", pl.DataFrame(rows))
    ws.materialize(BACKWARDS, "SELECT * FROM odd")
    ws.materialize("n" * 200, f"SELECT * FROM jammi.{quote_identifier(BACKWARDS)}")
    ws.embed("bad", "odd", key="id", text="W" * 120, model="hashing")
    return ws


@pytest.mark.parametrize("make", [LineageGraph, StalenessBoard, CatalogBrowser])
def test_a_name_that_is_written_backwards_looks_like_no_other(odd, shown, make):
    part = {LineageGraph: "node", StalenessBoard: "row", CatalogBrowser: "catalog-item"}[make]
    bare = shown(make(odd), f"{part}-{BACKWARDS}")
    assert r"\u202edesrever" in bare.part(f"{part}-{BACKWARDS}").text_content()
    bare.part(f"{part}-{BACKWARDS}").click()
    if make is LineageGraph:
        bare.expect(
            lambda: bare.page.locator(".jammi-side h4").all_inner_texts() == [r"\u202edesrever"]
        )
    hidden = "() => [document.querySelector('#el').innerText, ...[...document.querySelectorAll('#el [title]')].map((e) => e.title)].filter((t) => /[\\u202a-\\u202e\\u2066-\\u2069]/.test(t))"
    assert bare.page.evaluate(hidden) == []


def test_what_is_written_out_on_a_page_is_what_saved_forms_write_out(odd, shown):
    bare = shown(StalenessBoard(odd), "row-bad")
    texts = [
        "plain",
        "é漢🦊",
        "a\u202eb",
        "\u2066x\u2069",
        "\x00\x1b[31m\x7f\x85",
        "a\rb",
        "\u00a0\u2028\u3000",
        "\u200b\u200d\u200c\ufeff",
        "\U000e0041",
    ]
    bare.page.evaluate("async () => { window.kit = await import('/kit.js'); }")
    assert bare.page.evaluate("texts => texts.map(window.kit.seen)", texts) == [
        escape_invisible(text) for text in texts
    ]
    assert bare.page.evaluate("window.kit.seen('a\\n\\tb')") == "a\n\tb"


def test_a_column_with_an_odd_name_lights_its_way_from_its_node(odd, shown):
    bare = shown(LineageGraph(odd, BACKWARDS, columns=True), f"column-of-{BACKWARDS}-{BACKWARDS}")
    entry = bare.part(f"column-of-{BACKWARDS}-{BACKWARDS}")
    assert entry.locator("text").text_content() == r"\u202edesrever"
    entry.click()
    bare.shows(f"trace-odd.{BACKWARDS}-{BACKWARDS}.{BACKWARDS}")


def test_what_is_chosen_in_the_catalog_is_the_name_as_a_cell_says_it(odd, shown):
    bare = shown(CatalogBrowser(odd), f"catalog-item-{BACKWARDS}")
    bare.part(f"catalog-item-{BACKWARDS}").locator(".jammi-entry").click()
    bare.expect(lambda: bare.panel.selection == [f'jammi."{BACKWARDS}"'])
    assert bare.part(f"catalog-item-{BACKWARDS}").get_attribute("aria-selected") == "true"
    assert odd.sql(f"SELECT count(*) FROM {bare.panel.selection[0]}").fetchall() == [(3,)]


def known(ws):
    return NeighborExplorer(ws, "bad", LONG)


def plan(ws):
    return EmbeddingMap(ws, "bad", color=BACKWARDS)


@pytest.mark.parametrize("make", [LineageGraph, StalenessBoard, CatalogBrowser, known, plan])
def test_long_names_columns_and_keys_stay_on_a_narrow_page(odd, shown, make):
    bare = shown(make(odd), "refresh", wide=400)
    bare.expect(lambda: bare.page.locator("[data-testid]").count() > 10)
    if make is known:
        bare.expect(lambda: bare.page.locator(".jammi-hit").count() == 2)
        assert (
            bare.page.evaluate(
                "Math.max(...[...document.querySelectorAll('.jammi-hit')].map((e) => e.offsetHeight))"
            )
            < 260
        )
        for pin in bare.page.locator("[data-testid^=pin-]").all():
            pin.click()
        bare.expect(lambda: "Similarity" in bare.part("pins").inner_text())
    if make is plan:
        bare.expect(lambda: bare.page.locator(".jammi-key").count() == 3)
        bare.page.mouse.move(*spot(bare, 1))
        bare.expect(lambda: bare.part("tip").is_visible())
        assert bare.part("tip").bounding_box()["height"] < 500
    if make is StalenessBoard:
        bare.part("choose-" + "n" * 200).check()
        bare.part("plan-chosen").click()
        bare.expect(lambda: bare.part("plan").count() == 1)
    assert bare.page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), named(
        bare.panel
    )


def test_lines_of_a_value_stand_in_one_line_of_a_preview(odd, shown):
    bare = shown(CatalogBrowser(odd), "preview-odd")
    bare.part("preview-odd").click()
    bare.expect(lambda: bare.part("preview").locator("td").count() == 9)
    assert bare.page.evaluate(
        "[...document.querySelectorAll('.jammi-peek tr')].every((row) => row.offsetHeight < 30)"
    )
    assert bare.part("preview").locator("td").nth(8).get_attribute("title") == "two\nlines"
