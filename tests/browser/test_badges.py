"""The badge above a result in a real JupyterLab: late, then filled in where it stands, and opened
on a click without a kernel."""

from pathlib import Path

import pytest

from tests.browser.lab import SHOTS, THEMES, written

SETUP = """
from pathlib import Path
import time
Path("papers.csv").write_text("id,venue\\n1,A\\n2,B\\n3,A\\n")
%load_ext jammi_lab
%jammi add papers papers.csv
"""
HANG = """
Path("papers.csv").write_text("id,venue\\n1,A\\n2,B\\n3,A\\n4,\\n")
%jammi close
from jammi_lab.inputs.source_names import SourceKind
source = SourceKind.observe
def hanging(self, input, look):
    while not Path("answered").exists():
        time.sleep(0.02)
    return source(self, input, look)
SourceKind.observe = hanging
_ = %jammi open
"""
VENUES = "%%jammi -m venues\nSELECT venue, count(*) AS n FROM papers GROUP BY venue"
CELLS = [
    SETUP,
    VENUES,
    "%%jammi -m top\nSELECT * FROM jammi.venues",
    HANG,
    "%%jammi\nSELECT * FROM jammi.top ORDER BY n",
    "print('READY', 6 * 7)",
]


@pytest.mark.parametrize("theme", THEMES)
def test_a_late_badge_is_filled_in_where_it_stands_and_opens_on_its_reasons(lab, theme):
    written(lab.folder / "badge.ipynb", CELLS)
    page = lab.open("badge.ipynb", width=1280, height=1100)
    page.get_by_text("READY 42").wait_for()
    output = page.locator(".jp-Notebook .jp-CodeCell").nth(4).locator(".jp-OutputArea-output")
    output.get_by_text("not checked yet").wait_for()
    assert output.count() == 1 and output.locator("td").count() == 4
    shot(page, theme, "late")
    (lab.folder / "answered").touch()
    output.get_by_text("possibly stale").wait_for()
    assert (
        output.count() == 1
        and output.locator("td").count() == 4
        and "not checked" not in output.inner_text()
    )
    assert not output.get_by_text("shows details").is_visible()
    output.locator("summary").click()
    output.get_by_text("shows details").wait_for()
    shot(page, theme, "filled")


def shot(page, theme, name):
    """A picture to look at, when somebody asks for it."""
    if SHOTS:
        page.locator(".jp-Notebook .jp-CodeCell").nth(4).screenshot(
            path=str(Path(SHOTS) / f"badge-{name}-{theme.rpartition(' ')[2].lower()}.png")
        )
