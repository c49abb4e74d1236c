"""The tour in a real JupyterLab. `JAMMI_SHOTS=folder` keeps pictures."""

import os
import shutil
from pathlib import Path

import pytest

from tests.browser.lab import RUN_ALL, lab

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(240)]
NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
SHOTS = os.environ.get("JAMMI_SHOTS")


def picture(page, name: str, at: str) -> None:
    """Scroll to a text and keep a picture, when pictures are wanted."""
    if SHOTS:
        page.locator(".jp-RenderedHTMLCommon").get_by_text(at).first.evaluate("e => e.closest('.jp-Cell').scrollIntoView({block: 'start'})")
        page.wait_for_timeout(300)
        page.locator(".jp-Notebook").first.screenshot(path=str(Path(SHOTS) / f"{name}.png"))


@pytest.mark.leaves_behind("playwright keeps a loop and its pipes for the session")
@pytest.mark.parametrize("theme", ["JupyterLab Light", "JupyterLab Dark"])
def test_the_tour_runs_in_a_real_lab_and_asks_nothing_of_the_network(browser, tmp_path, theme):
    root = tmp_path / "root"
    root.mkdir()
    shutil.copy(NOTEBOOKS / "01_tour.ipynb", root)
    shutil.copytree(NOTEBOOKS / "data", root / "data")
    refused: list[str] = []
    broken: list[str] = []
    with lab(root, tmp_path / "state", theme) as (address, token):
        context = browser.new_context(viewport={"width": 1280, "height": 900}, device_scale_factor=1)

        def gate(route):
            if route.request.url.startswith((address, "data:", "blob:")):
                route.continue_()
            else:
                refused.append(route.request.url)
                route.abort()

        context.route("**/*", gate)
        page = context.new_page()
        page.on("pageerror", lambda error: broken.append(str(error)))
        page.goto(f"{address}/lab/tree/01_tour.ipynb?token={token}&reset")
        assert page.evaluate(RUN_ALL, "01_tour.ipynb") == "ran"
        outputs = page.locator(".jp-OutputArea-output")
        outputs.get_by_text("The workspace is closed.").wait_for()
        assert page.locator(".jp-OutputArea-output[data-mime-type='application/vnd.jupyter.stderr']").count() == 0
        shown = page.locator(".jp-Notebook").inner_text()
        counts = page.get_by_test_id("counts")
        counts.last.get_by_text("fresh").wait_for()
        told = [" ".join(text.split()) for text in counts.all_inner_texts()]
        assert any("1 ● stale" in text and "2 ~ possibly stale" in text and "1 ✓ fresh" in text for text in told)
        assert "not needed: inputs came out equal" in shown
        assert told.count("4 ✓ fresh") >= 2
        if SHOTS:
            page.evaluate("window.jupyterapp.commands.execute('application:toggle-left-area')")
        for name, at in (("lineage", "3 · Tables that know"), ("plan", "5 · True again")):
            picture(page, f"{name}-{theme.split()[-1].lower()}", at)
        context.close()
    assert (refused, broken) == ([], [])
