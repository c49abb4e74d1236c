"""SQL in a real JupyterLab, which must start with the extension that brings its colours, and sorts
what begins alike by name at a Tab: the columns that a statement reads are among the first that it
shows."""

import contextlib

from tests.browser.lab import written
from tests.sizes import sized, soak

COLUMNS = "id,amount,region,city,score,state,day,number,listing,title,quantity,unit_price"
SETUP = f"""
from pathlib import Path
import jammi_lab as jl
%load_ext jammi_lab
%jammi open lab
Path("sales.csv").write_text("{COLUMNS}\\n1,2,3,4,5,6,7,8,9,10,11,12\\n")
_ = jl.get_workspace().sources.add("sales", "sales.csv")
"""

SQL = """%%jammi
-- how many, by venue
SELECT "a b", count(*) AS n, 'it''s select' AS s FROM papers WHERE year > $year AND x < 1.5e3 /* and
where */ GROUP BY ALL"""
CELLS = [
    SETUP,
    SQL,
    "select = 'from python'",
    "%%jammi_py out\nselect = 1",
    "%%sql\nSELECT 1",
    "print('READY', 6 * 7)",
]

STATEMENT = "%%jammi\nSELECT * FROM sales WHERE "
ITEMS = ".jp-Completer-item .jp-Completer-match"
SHOWN = 10
"""The candidates that a completer shows at once."""
TRIES = 10
TYPED = sized(
    ("a", "s", "n", "l", "t"),
    ("a", "r", "c", "s", "d", "n", "l", "t", "q", "u", "st", "re", "ci", "li"),
)
SET = """text => {
  const panel = window.jupyterapp.shell.currentWidget;
  panel.content.activeCellIndex = 5;
  panel.content.mode = 'edit';
  const editor = panel.content.activeCell.editor;
  editor.model.sharedModel.setSource(text);
  editor.focus();
  editor.setCursorPosition(editor.getPositionAt(text.length));
}"""


def completed(page, typed: str) -> list[str]:
    """What the completer lists for that beginning of a column, in its order."""
    for _ in range(TRIES):  # JupyterLab drops what a kernel answers after a second
        page.evaluate(SET, STATEMENT + typed)
        page.keyboard.press("Tab")
        with contextlib.suppress(Exception):
            page.locator(ITEMS).first.wait_for(timeout=3000)
            break
    listed = page.evaluate(f"[...document.querySelectorAll('{ITEMS}')].map(each => each.innerText)")
    page.keyboard.press("Escape")
    page.locator(ITEMS).first.wait_for(state="hidden")
    return listed


@soak
def test_sql_is_coloured_and_columns_are_completed_in_our_cells_alone(lab):
    written(lab.folder / "sql.ipynb", CELLS, ["raises-exception"])
    page = lab.open("sql.ipynb", width=1280, height=900)
    page.get_by_text("READY 42").wait_for()
    cells = page.locator(".jp-Notebook .jp-CodeCell")

    def words(cell, kind):
        # a token that Python's own colours cut lies in several spans
        return "|".join(cells.nth(cell).locator(f".jammi-sql-{kind}").all_text_contents())

    keywords = "SELECT AS AS FROM WHERE AND GROUP BY ALL"
    assert words(1, "keyword").replace("|", " ").split() == keywords.split()
    assert "how many" in words(1, "comment") and words(1, "parameter").replace("|", "") == "$year"
    assert words(1, "function") == "count" and "1.5e3" in words(1, "number").replace("|", "")
    assert words(2, "keyword") == words(3, "keyword") == ""
    assert words(4, "keyword") == "SELECT"
    keyword = cells.nth(1).locator(".jammi-sql-keyword").first
    assert keyword.evaluate("e => getComputedStyle(e).fontWeight") == "700"
    places = {}
    for typed in TYPED:
        wanted = [name for name in COLUMNS.split(",") if name.startswith(typed)]
        if wanted == [typed] or (len(typed) > 1 and len(wanted) == 1):
            continue  # the only candidate is inserted without a list
        listed = completed(page, typed)
        places |= {name: listed.index(name) + 1 for name in wanted}
    print(places)
    assert max(places.values()) <= SHOWN
