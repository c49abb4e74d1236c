"""The difference panel on a bare page. `JAMMI_SHOTS=folder` keeps pictures."""

import pytest

import jammi_lab as jl
from jammi_widgets import DiffView
from tests.browser.bare import kept


@pytest.fixture
def ws(tmp_path):
    with jl.open(tmp_path / "lab") as ws:
        old = "SELECT i AS id, i * 1.5::DOUBLE AS price FROM range(200) r(i)"
        new = "SELECT i AS id, i * 1.5::DOUBLE + (i % 9 = 0)::INT AS price FROM range(3, 206) r(i)"
        for prices in (old, new):
            ws.materialize("prices", prices, key="id")
            ws.materialize(
                "offers",
                """SELECT id, ['ash', 'oak', 'elm'][id % 3 + 1] AS name, price,
                CASE WHEN price > 290 THEN 'dear' WHEN id <> 100 THEN 'a long note on the offer' END
                AS note, DATE '2024-01-01' + id::INT AS day FROM jammi.prices""",
                key="id",
            )
        yield ws


def test_changes_are_seen_narrowed_and_selected(ws, on_page):
    panel = DiffView(ws, "offers")
    bare = on_page(panel, "diff", wide=1400)
    bare.shows("counted")
    assert bare.text("part-changed") == "≠ 22 changed"
    assert "prices changed, version 1 → 2" in bare.text("causes")
    cell = bare.part("cell-9-price")
    assert cell.inner_text() == "13.5 → 14.5"
    assert (cell.locator("del").inner_text(), cell.locator("ins").inner_text()) == ("13.5", "14.5")
    kept(bare, "diff-light")
    bare.click("row-9")
    bare.expect(lambda: panel.selection == ["9"])
    bare.part("row-9").press("ArrowDown")
    bare.press("Enter")
    bare.expect(lambda: panel.selection == ["18"])
    stops = bare.part("[data-testid^=row-][tabindex='0']")
    assert stops.count() == 1 and stops.get_attribute("data-key") == "18"
    bare.click("part-added")
    bare.shows("row-205")
    bare.click("column-price")
    bare.says("counted", "1 to 22 of 22")
    bare.part("filter-input").fill("14.5")
    bare.expect(lambda: bare.text("counted") == "1 to 1 of 1")
    panel.filter = ""
    bare.says("counted", "of 22")
    ws.table("offers", version=1).restore()
    bare.click("refresh")
    bare.expect(lambda: bare.text("part-added") == "+ 3 added")
    bare.part("version-old").select_option("1")
    bare.expect(lambda: bare.text("bounds") == "No row differs.")
