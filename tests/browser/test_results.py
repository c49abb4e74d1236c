"""The result viewer on a bare page: pages, orders, keys, long values, hostile ones.
`JAMMI_SHOTS=folder` keeps pictures."""

from pathlib import Path

import pytest

import jammi_lab as jl
from jammi_widgets import ResultView
from tests.browser.bare import EVIL, kept

AIRPORTS = Path(__file__).parents[2] / "notebooks" / "data" / "airports.csv"

ROWS = """
SELECT i::BIGINT AS id, CASE WHEN i % 7 = 3 THEN NULL ELSE round(i * 7919 % 1000 / 3, 2) END AS price, DATE '2024-01-01' + i::INT AS day,
CASE WHEN i = 2 THEN '' WHEN i = 4 THEN repeat('a long text that goes on, ', 40) ELSE 'name ' || i END AS name, [i, i + 1] AS pair FROM range(130) r(i)
"""


@pytest.fixture
def ws(tmp_path):
    with jl.open(tmp_path / "lab") as ws:
        yield ws


@pytest.fixture
def view(ws, on_page):
    """Puts the rows of a statement on a page."""

    def put(sql=ROWS, **size):
        panel = ResultView(ws.sql(sql))
        bare = on_page(panel, "results", **size)
        bare.has("counted", 1)
        return panel, bare

    return put


def first(bare, column=0):
    return bare.text(f"cell-0-{column}")


def test_buttons_turn_the_pages_and_only_a_page_is_in_the_page(view):
    _, bare = view()
    assert bare.text("counted") == "1 to 50 of 130 rows" and bare.find("tbody tr").count() == 50
    bare.click("further")
    bare.expect(lambda: first(bare) == "50")
    bare.click("further")
    bare.expect(lambda: first(bare) == "100")
    assert bare.part("further").is_disabled() and bare.find("tbody tr").count() == 30
    bare.click("back")
    bare.expect(lambda: first(bare) == "50")
    bare.click("first")
    bare.expect(lambda: first(bare) == "0")
    assert bare.part("back").is_disabled()


def test_clicks_on_a_column_order_by_it_turn_it_and_end_it(view):
    _, bare = view()
    bare.find("thead th .jammi-dim").first.click()  # all of a head sorts
    bare.expect(lambda: bare.find("th[aria-sort=ascending]").count() == 1)
    bare.click("sort-0")
    bare.expect(lambda: first(bare) == "129")
    assert bare.find("th[aria-sort=descending]").inner_text().startswith("id")
    bare.click("further")
    bare.expect(lambda: first(bare) == "79")
    bare.click("sort-0")
    bare.expect(lambda: first(bare) == "0")
    assert bare.find("th[aria-sort=descending], th[aria-sort=ascending]").count() == 0


def test_the_cells_are_walked_by_keyboard_over_the_borders_of_pages(view):
    panel, bare = view()
    roles = {"grid": 1, "gridcell": 250, "rowheader": 50, "columnheader": 6}
    assert {role: bare.page.get_by_role(role).count() for role in roles} == roles
    assert bare.count("[data-testid^=cell-][tabindex='0'], [data-testid^=row-][tabindex='0']") == 1
    bare.part("row-1").focus()
    keys = bare.page.keyboard

    def at():
        return bare.page.evaluate("document.activeElement.dataset.testid")

    for key in ("ArrowRight", "ArrowDown", "ArrowDown", "End"):
        keys.press(key)
    assert at() == "cell-2-4"
    keys.press("Control+End")
    assert at() == "cell-49-4"
    keys.press("ArrowDown")
    bare.expect(lambda: first(bare) == "50" and at() == "cell-0-4")
    keys.press("ArrowUp")
    bare.expect(lambda: first(bare) == "0" and at() == "cell-49-4")
    keys.press("PageDown")
    bare.expect(lambda: first(bare) == "50" and at() == "cell-0-4")
    keys.press("Home")
    keys.press(" ")
    bare.expect(lambda: panel.selection == ["51"])
    assert bare.find("tr[aria-selected=true]").count() == 1


def test_a_long_value_is_whole_when_pointed_at_and_when_opened(view):
    _, bare = view()
    text = "a long text that goes on, " * 40
    cell = bare.part("cell-4-3")
    assert (
        cell.inner_text().endswith("…") and cell.locator("[title]").get_attribute("title") == text
    )
    cell.focus()
    cell.dblclick()
    bare.expect(lambda: bare.visible("whole"))
    assert bare.part("whole").locator("pre").inner_text() == text
    kept(bare, "results-whole")
    bare.press("Escape")
    assert (
        bare.part("whole").is_hidden()
        and bare.page.evaluate("document.activeElement.dataset.testid") == "cell-4-3"
    )
    bare.press("Enter")
    bare.expect(lambda: bare.visible("whole"))


def test_rows_are_chosen_on_the_page_and_from_python(view):
    panel, bare = view()
    bare.click("row-3")
    bare.part("row-5").click(modifiers=["Control"])
    bare.expect(lambda: panel.selection == ["3", "5"])
    assert panel.selected().column("id").to_pylist() == [2, 4]
    panel.selection = ["7"]
    bare.expect(lambda: bare.find("tr[aria-selected=true]").get_attribute("data-number") == "7")


def test_a_text_is_found_from_the_page_and_from_python(view):
    panel, bare = view()
    bare.part("filter-input").fill("NAME 11")
    bare.expect(lambda: bare.text("counted") == "1 to 11 of 11 matches in 130 rows")
    panel.filter = "name 12"
    bare.expect(lambda: first(bare) == "12")
    assert bare.part("filter-input").input_value() == "name 12"


def test_markup_in_names_types_and_values_is_text(view):
    text, name = EVIL.replace("'", "''"), EVIL.replace('"', '""')
    _, bare = view(
        f"""SELECT '{text}' AS "{name}", ['{text}'] AS l, repeat('{text}', 50) AS r, {{'{text}': 1}} AS s, '</td><script>document.title = 1</script>' AS x"""
    )
    assert bare.text("cell-0-0") == EVIL and bare.part("cell-0-4").inner_text().startswith(
        "</td><script>"
    )
    bare.part("cell-0-2").dblclick()
    bare.expect(lambda: bare.visible("whole"))
    assert bare.count("#el img, #el script") == 0
    bare.part("filter-input").fill(EVIL)
    bare.says("counted", "matches")
    bare.press("Escape")
    bare.click("profile")
    bare.says("profiles", "1 distinct")
    assert bare.count("#el img, #el script") == 0 and bare.page.title() != "owned"


def test_profiles_are_computed_when_they_are_opened_and_fit_narrow_pages(view):
    panel, bare = view(wide=480, dark=True)
    assert bare.part("profiles").is_hidden() and not panel._rows._profiled
    bare.click("profile")
    bare.expect(lambda: "no NULL" in bare.text("profile-name"))
    assert "19 NULL (15 %)" in bare.text("profile-price")
    assert bare.part("profile-price").locator("rect.jammi-bar").count() == 17
    assert "2024-01-01" in bare.text("profile-day")
    assert "130 distinct" in bare.text("profile-name")
    assert bare.page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    kept(bare, "results-profile")
    bare.click("profile")
    assert bare.part("profiles").is_hidden()


def test_a_bar_and_a_value_of_a_profile_filter_the_rows(view):
    panel, bare = view(ROWS.replace("[i, i + 1]", "'kind ' || i % 4"), wide=480, dark=True)
    bare.click("profile")
    bare.expect(lambda: bare.count("bar-id-2") == 1)
    bare.click("bar-id-2")
    bare.expect(lambda: bare.count("filter-id") == 1)
    assert panel.filters == {"id": ("10", "15")} and first(bare) == "10"
    assert bare.text("counted") == "5 filtered rows"
    bare.expect(lambda: bare.attribute("bar-id-2", "aria-pressed") == "true")
    bare.press("ArrowRight", "bar-id-2")
    bare.press("Shift+Enter")
    bare.expect(lambda: panel.filters == {"id": ("10", "20")})
    bare.click("value-pair-0")
    bare.expect(lambda: bare.count("filter-pair") == 1)
    bare.expect(lambda: "2 of 33 rows" in (bare.attribute("value-pair-0", "title") or ""))
    bare.click("fold-sql")
    assert "WHERE id >= 10 AND id < 20" in bare.text("sql")
    assert bare.page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    bare.page.mouse.move(0, 0)
    kept(bare, "results-filtered")
    bare.click("filter-pair")
    bare.expect(lambda: list(panel.filters) == ["id"])


@pytest.mark.only_soak
def test_the_picture_of_the_documents_shows_airports_below_500_feet(ws, on_page):
    ws.sources.add("airports", AIRPORTS)
    panel = ResultView(ws.sql("SELECT * FROM airports"))
    bare = on_page(panel, "results", wide=1000, high=1036)
    bare.shows("counted")
    bare.click("profile")
    bare.shows("bar-alt-1")
    panel.filters = {"alt": ("0", "500")}
    bare.expect(lambda: bare.text("counted") == "1 to 50 of 737 filtered rows")
    bare.click("sort-4")
    bare.expect(lambda: bare.find("th[aria-sort=ascending]").count() == 1)
    bare.click("sort-4")
    bare.expect(lambda: bare.text("cell-0-4") == "492")
    bare.click("fold-sql")
    assert "SELECT * FROM airports\nWHERE alt >= 0 AND alt < 500" in bare.text("sql")
    bare.page.mouse.move(0, 0)
    kept(bare, "results-light")


def test_a_number_of_a_table_is_copied_with_its_tie(ws, on_page):
    rows = "SELECT * FROM (VALUES ('LLM', 0.4551e0), ('BM 25', 0.212e0)) t(model, f1)"
    ws.materialize("scores", rows, key="model")
    bare = on_page(ResultView(ws.sql("SELECT f1, model, f1 + 1 AS g FROM jammi.scores")), "results")
    bare.has("counted", 1)
    bare.part("cell-1-0").dblclick()
    bare.expect(lambda: bare.visible("whole"))
    kept(bare, "results-tie")
    bare.click("copy-tie")
    text = "0.212<!-- jammi scores/BM%2025/f1 -->"
    bare.expect(lambda: text in bare.page.locator("#el").inner_text())
    for cell in ("cell-0-1", "cell-0-2"):  # a text, and a number that is not the table's
        bare.press("Escape")
        bare.part(cell).dblclick()
        bare.expect(lambda: bare.visible("whole"))
        assert bare.count("[data-testid=copy-tie]") == 0
