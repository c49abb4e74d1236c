"""SQL colours in a real JupyterLab, which must start with the extension that brings them."""

from tests.browser.lab import written

SQL = """%%jammi
-- how many, by venue
SELECT "a b", count(*) AS n, 'it''s select' AS s FROM papers WHERE year > $year AND x < 1.5e3 /* and
where */ GROUP BY ALL"""
CELLS = [
    "%load_ext jammi_lab",
    SQL,
    "select = 'from python'",
    "%%jammi_py out\nselect = 1",
    "%%sql\nSELECT 1",
    "print('READY', 6 * 7)",
]


def test_sql_is_coloured_in_our_cells_and_python_is_left_alone(lab):
    written(lab.folder / "sql.ipynb", CELLS, ["raises-exception"])
    page = lab.open("sql.ipynb", width=1280, height=900)
    page.get_by_text("READY 42").wait_for()
    cells = page.locator(".jp-Notebook .jp-CodeCell")

    def words(cell, kind):
        # a token that Python's own colours cut lies in several spans
        return "|".join(cells.nth(cell).locator(f".jammi-sql-{kind}").all_text_contents())

    assert [w for w in words(1, "keyword").split("|") if w] == [
        "SELECT",
        "AS",
        "AS",
        "FROM",
        "WHERE",
        "AND",
        "GROUP",
        "BY",
        "ALL",
    ]
    assert "how many" in words(1, "comment") and words(1, "parameter").replace("|", "") == "$year"
    assert words(1, "function") == "count" and "1.5e3" in words(1, "number").replace("|", "")
    assert words(2, "keyword") == words(3, "keyword") == ""
    assert words(4, "keyword") == "SELECT"
    keyword = cells.nth(1).locator(".jammi-sql-keyword").first
    assert keyword.evaluate("e => getComputedStyle(e).fontWeight") == "700"
