"""The marks of verdicts on a page: their contrast, in light and in dark."""

import re

import pytest

import jammi_lab as jl
from jammi_lab.core.verdicts import (
    Cause,
    Damaged,
    DefinitionChanged,
    Fresh,
    MissingManifest,
    PossiblyStale,
    Stale,
    Undecidable,
)
from jammi_lab.features.pictures.lineage_svg import VERDICT_FILLS
from jammi_widgets import StalenessBoard
from tests.browser.bare import Bare
from tests.inside import lineage_of, recipe_rows_of

WORDS = ("fresh", "possibly stale", "stale", "undecidable", "missing manifest", "damaged")
LEAST_CONTRAST = 4.5
MOVED = DefinitionChanged("a", "b")
VERDICTS = (
    Fresh(),
    PossiblyStale([Cause(MOVED, ["t2"])]),
    Stale([MOVED]),
    Undecidable([]),
    MissingManifest(),
    Damaged(None),
)
NODES = 150
FILLS = """() => Object.fromEntries([...document.querySelectorAll('.jammi-node')].map((e) => {
  const shape = e.querySelector('.jammi-shape'), id = getComputedStyle(shape).fill.match(/#([^"]+)/)?.[1];
  const behind = id ? [...document.getElementById(id).children].map((part) => getComputedStyle(part)).map((style) => style.stroke === 'none' ? style.fill : style.stroke) : [getComputedStyle(shape).fill];
  return [e.dataset.id, { behind, ink: getComputedStyle(e.querySelector('.jammi-kind')).fill }]; }))"""
HUES = """(word) => { const all = [...document.querySelectorAll(`[data-verdict=${word}] .jammi-shape`)];
  return all.map((e) => e.getBoundingClientRect()).filter((b) => b.width > 4 && b.height > 4).length; }"""
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
    recipe_rows_of(panel).counts = dict.fromkeys(WORDS, 1)
    bare = shown(panel, "staleness")
    bare.shows("count-damaged")
    signs = bare.page.evaluate(SIGNS)
    assert len(signs) == len(WORDS) + 1
    assert min(contrast(*each) for each in signs) >= LEAST_CONTRAST


def named(verdicts):
    return {f"t{i}": verdict for i, verdict in enumerate(verdicts)}


def test_the_text_of_each_table_stands_out_from_the_fill_of_its_verdict(ws, shown):
    bare = shown(lineage_of(ws, named(VERDICTS), 10), "lineage")
    bare.expect(lambda: bare.count(".jammi-node") == len(VERDICTS))
    fills = bare.page.evaluate(FILLS)
    for each in fills.values():
        assert min(contrast(behind, each["ink"]) for behind in each["behind"]) >= LEAST_CONTRAST
    bases = [each["behind"][0] for each in fills.values()]
    assert len(set(bases)) == len(VERDICTS)


def test_stale_tables_are_told_from_fresh_ones_without_colour_when_all_are_fitted(ws, shown):
    verdicts = [Fresh() if i < 22 else Stale([MOVED]) for i in range(NODES)]
    bare = shown(lineage_of(ws, named(verdicts), 10), "lineage", wide=1400)
    bare.shows("legend-stale")
    bare.click("fit")
    assert bare.page.evaluate(HUES, "stale") == 128 and bare.page.evaluate(HUES, "fresh") == 22
    fresh, stale = (
        "rgb({},{},{})".format(*bytes.fromhex(VERDICT_FILLS[word][0][1:]))
        for word in ("fresh", "stale")
    )
    assert contrast(fresh, stale) >= 2.9  # of lightness, which every eye sees
    assert bare.count(".jammi-far-sign:visible") == 128


def test_the_legend_counts_the_verdicts_explains_them_and_filters(ws, shown):
    bare = shown(lineage_of(ws, named([*VERDICTS, Fresh()]), 10), "lineage")
    bare.shows("legend-fresh")
    legend = bare.text("legend")
    assert "2 ✓ fresh" in legend and "1 ✕ damaged" in legend and "Δ changed" in legend
    for word in WORDS:
        assert len(bare.attribute(f"legend-{word}", "title")) > len(word) + 30
    bare.click("legend-damaged")
    bare.has(".jammi-node", 1)
    assert bare.panel.filter == "damaged"
    bare.click("legend-damaged")
    bare.has(".jammi-node", 7)
