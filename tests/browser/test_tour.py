"""The tour in a real JupyterLab. `JAMMI_SHOTS=folder` keeps pictures."""

import shutil
import sys
from pathlib import Path

import pytest

from tests.browser.lab import SHOTS, THEMES

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
sys.path.insert(0, str(NOTEBOOKS))


def picture(page, name: str, at: str, nth: int) -> None:
    """Scroll to the cell that has a text for the nth time and keep a picture, when pictures are
    wanted."""
    found = page.locator(".jp-RenderedHTMLCommon h2, .cm-content").get_by_text(at)
    assert found.count() > nth, f"the tour has no {at!r} to take a picture of"
    if SHOTS:
        found.nth(nth).evaluate("e => e.closest('.jp-Cell').scrollIntoView({block: 'start'})")
        page.wait_for_timeout(300)
        page.locator(".jp-Notebook").first.screenshot(path=str(Path(SHOTS) / f"{name}.png"))


@pytest.mark.only_soak
@pytest.mark.leaves_behind("playwright keeps a loop and its pipes for the session")
@pytest.mark.parametrize("theme", THEMES)
def test_the_tour_runs_in_a_real_lab_and_asks_nothing_of_the_network(lab, theme):
    shutil.copy(NOTEBOOKS / "01_tour.ipynb", lab.folder)
    shutil.copytree(NOTEBOOKS / "data", lab.folder / "data")
    page = lab.open("01_tour.ipynb", width=1280, height=900)
    outputs = page.locator(".jp-OutputArea-output")
    outputs.get_by_text("The workspace is closed.", exact=True).wait_for()
    assert (
        page.locator(
            ".jp-OutputArea-output[data-mime-type='application/vnd.jupyter.stderr']"
        ).count()
        == 0
    )
    shown = page.locator(".jp-Notebook").inner_text()
    counts = page.get_by_test_id("counts")
    counts.last.get_by_text("fresh").wait_for()
    told = [" ".join(text.split()) for text in counts.all_inner_texts()]
    assert any(
        "1 ● stale" in text and "2 ~ possibly stale" in text and "1 ✓ fresh" in text
        for text in told
    )
    assert "not needed: inputs came out equal" in shown
    assert told.count("4 ✓ fresh") >= 2
    if SHOTS:
        page.evaluate("window.jupyterapp.commands.execute('application:toggle-left-area')")
    for name, at, nth in (
        ("tour-lineage", "3 · Tables with", 0),
        ("stale", "%jammi status", 1),
        ("tour-plan", "5 · Update only", 0),
    ):
        picture(page, f"{name}-{theme.split()[-1].lower()}", at, nth)
