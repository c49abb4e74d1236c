"""The marks of verdicts on a page: their contrast, in light and in dark."""

import re

import pytest

import jammi_lab as jl
from jammi_widgets import StalenessBoard
from tests.browser.bare import Bare

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.leaves_behind("playwright keeps a loop and its pipes for the session"),
]
WORDS = ("fresh", "possibly stale", "stale", "undecidable", "missing manifest", "damaged")
LEAST_CONTRAST = 4.5
SIGNS = """() => [...document.querySelectorAll('.jammi-pill b')].map((e) => {
  const style = getComputedStyle(e); return [style.color, style.backgroundColor]; })"""


def luminance(colour):
    """The relative luminance of `rgb(r, g, b)`, by WCAG 2."""
    parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
    r, g, b = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


def contrast(one, other):
    bright, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)


@pytest.fixture
def ws(tmp_path):
    with jl.open(tmp_path / "lab") as ws:
        ws.materialize("made", "SELECT 1 AS a")
        yield ws


@pytest.fixture(params=[False, True], ids=["light", "dark"])
def shown(browser, request):
    """Puts a panel on a page of one theme."""
    made = []

    def put(panel, name, **size):
        made.append(bare := Bare(browser, panel, name, dark=request.param, **size))
        return bare

    yield put
    for bare in made:
        bare.close()


def test_each_sign_of_a_verdict_stands_out_from_what_is_behind_it(ws, shown):
    panel = StalenessBoard(ws)
    panel._rows.counts = dict.fromkeys(WORDS, 1)
    bare = shown(panel, "staleness")
    bare.shows("count-damaged")
    signs = bare.page.evaluate(SIGNS)
    assert len(signs) == len(WORDS) + 1
    assert min(contrast(*each) for each in signs) >= LEAST_CONTRAST
