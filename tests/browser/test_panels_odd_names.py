"""Names and values that hide something are written out, and long ones stay on the page."""

import polars as pl
import pytest

from jammi_lab.core.html import escape_invisible
from jammi_lab.core.identifiers import quote_identifier
from jammi_widgets import (
    CatalogBrowser,
    LineageGraph,
    StalenessBoard,
)
from tests.browser.bare import EVIL

BACKWARDS = "\u202edesrever"
LONG = "b" * 3_000


@pytest.fixture
def odd(ws):
    """A table whose name is written backwards, with another definition by now, and columns and keys
    that are long or hide something."""
    rows = {
        "id": [EVIL, LONG, BACKWARDS],
        "W" * 120: ["a\nb", "c" * 900, "\x1b[31md"],
        BACKWARDS: ["x\u2066y", "</script>", "two\nlines"],
        EVIL: [EVIL, "</td></table>" + EVIL, ""],
    }
    ws.sources.add("odd", pl.DataFrame(rows))
    ws.materialize(BACKWARDS, "SELECT * FROM odd")
    ws.materialize("n" * 200, f"SELECT * FROM jammi.{quote_identifier(BACKWARDS)}")
    ws.embed("bad", "odd", key="id", text="W" * 120, model="hashing")
    ws.define(BACKWARDS, "SELECT id FROM odd")
    return ws


@pytest.mark.parametrize("make", [LineageGraph, StalenessBoard, CatalogBrowser])
def test_a_name_that_is_written_backwards_looks_like_no_other(odd, shown, make):
    part = {LineageGraph: "node", StalenessBoard: "row", CatalogBrowser: "catalog-item"}[make]
    bare = shown(make(odd), f"{part}-{BACKWARDS}")
    assert r"\u202edesrever" in bare.part(f"{part}-{BACKWARDS}").text_content()
    bare.click(f"{part}-{BACKWARDS}")
    if make is LineageGraph:
        bare.expect(lambda: bare.part(".jammi-side h4").all_inner_texts() == [r"\u202edesrever"])
    if make is StalenessBoard:
        bare.click(f"recompute-{BACKWARDS}")
        bare.shows("outcome")
    if make is CatalogBrowser:
        bare.press("ArrowRight", f"catalog-item-{BACKWARDS}")
        bare.shows(f"catalog-item-{EVIL}")
        bare.click(f"preview-{BACKWARDS}")
        bare.shows("preview")
    assert bare.count("#el img, #el script") == 0
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
