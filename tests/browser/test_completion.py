"""Tab in a real JupyterLab, which sorts what begins alike by name: the columns that a statement reads
are among the first that it shows."""

import contextlib

import pytest

from tests.browser.lab import written

COLUMNS = "id,amount,region,city,score,state,day,number,listing,title,quantity,unit_price"
SETUP = f"""
from pathlib import Path
import jammi_lab as jl
%load_ext jammi_lab
%jammi open lab
Path("sales.csv").write_text("{COLUMNS}\\n1,2,3,4,5,6,7,8,9,10,11,12\\n")
_ = jl.get_workspace().sources.add("sales", "sales.csv")
"""
CELLS = [SETUP, "print('READY', 6 * 7)"]
STATEMENT = "%%jammi\nSELECT * FROM sales WHERE "
ITEMS = ".jp-Completer-item .jp-Completer-match"
SHOWN = 10
"""The candidates that a completer shows at once."""
TRIES = 10
TYPED = ("a", "r", "c", "s", "d", "n", "l", "t", "q", "u", "st", "re", "ci", "li")
SET = """text => {
  const panel = window.jupyterapp.shell.currentWidget;
  panel.content.activeCellIndex = 1;
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


@pytest.mark.every_case
def test_columns_in_scope_are_among_the_first_that_the_completer_shows(lab):
    written(lab.folder / "tab.ipynb", CELLS)
    page = lab.open("tab.ipynb", width=1280, height=900)
    page.get_by_text("READY 42").wait_for()
    places = {}
    for typed in TYPED:
        wanted = [name for name in COLUMNS.split(",") if name.startswith(typed)]
        if wanted == [typed] or (len(typed) > 1 and len(wanted) == 1):
            continue  # the only candidate is inserted without a list
        listed = completed(page, typed)
        places |= {name: listed.index(name) + 1 for name in wanted}
    print(places)
    assert max(places.values()) <= SHOWN
