"""`jl.widgets`: the panels by name, and their front-end modules as they are put together."""

import itertools
import re
from importlib import resources

import pytest

import jammi_lab as jl
import jammi_widgets
from jammi_lab.core.anchors import AnchorKind
from jammi_lab.core.checks import CheckStatus
from jammi_lab.core.html import VERDICT_ICONS
from jammi_lab.core.input_kinds import MODEL_KIND
from jammi_lab.core.records import RunStep
from jammi_lab.freshness.reports import outcome_text
from jammi_lab.workspace.recipe_values import RECIPES
from jammi_widgets import assets
from jammi_widgets.staleness import StalenessBoard
from tests.cases import cases
from tests.sizes import product

MODULES = sorted(
    p.name.removesuffix(".js")
    for p in resources.files("jammi_widgets").joinpath("static").iterdir()
    if p.name.endswith(".js")
)
PUBLIC = jammi_widgets.__all__
SHARED = {"kit", "nodes", "terms"}
"""What panels take in: no panels themselves."""


@pytest.fixture
def make(ws):
    """Makes a panel over papers, their vectors `v`, or a row."""
    ws.embed("v", "papers", key="id", text="title", model="hashing")
    arguments = {
        "NeighborExplorer": [ws, "v"],
        "EmbeddingMap": [ws, "v"],
        "ResultView": [ws.sql("SELECT 1 AS a")],
    }
    return lambda name: getattr(jammi_widgets, name)(*arguments.get(name, [ws]))


def test_the_panels_are_there_by_their_names_and_an_unknown_one_names_them():
    assert jl.widgets is jammi_widgets
    assert [getattr(jammi_widgets, name).__name__ for name in PUBLIC] == PUBLIC
    with pytest.raises(AttributeError, match=r"LineageGraph"):
        _ = jammi_widgets.LineagGraph


@pytest.mark.parametrize("name", MODULES)
def test_a_module_is_whole_small_and_asks_nothing_of_the_network(name):
    text = assets.module(name)
    assert len(text.encode()) < 100_000
    assert not re.search(r"^import ", text, re.MULTILINE) and text.count("export default") == (
        name not in SHARED
    )
    assert not re.search(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|https?://(?!www\.w3\.org/2000/svg)",
        text,
    )
    assert "document.querySelector" not in text and "document.getElementById" not in text


def test_words_of_the_field_are_explained():
    terms = set(re.findall(r'"([^"]+)": "', assets.module("terms")))
    outcomes = ["computed", "reused", "cut_off", "failed", "blocked", "rejected", "skipped"]
    steps = [RunStep(name="t", outcome=o, meanwhile=m) for o in outcomes for m in (False, True)]
    words = {
        *(recipe.kind for recipe in RECIPES),
        *AnchorKind,
        *CheckStatus,
        *map(outcome_text, steps),
    }
    inputs = {"source", "frame", "mutable", "topic", "clock", MODEL_KIND, "recipe"}
    assert sorted((words | inputs) - terms) == []


PANELS = ["LineageGraph", "StalenessBoard", "NeighborExplorer", "EmbeddingMap", "CatalogBrowser"]
ASKED = cases("cells/panel_messages_refused", "message")


@product
@pytest.mark.parametrize("name", PANELS)
@pytest.mark.parametrize("page", [True, False], ids=["on a page", "without one"])
def test_a_message_that_a_panel_does_not_know_is_refused_at_once(ws, make, told, name, page):
    line = told(make(name))
    if page:
        line.ask("here", view=1)
    for (message,) in ASKED:
        before = len(line.messages)
        line.give(message)
        [refused] = line.messages[before:]
        assert (
            refused["kind"] == "refused"
            and "different releases" in refused["lines"][0]
            and not line.waits
        ), message
    assert line.ask("open")["kind"] == "answer" and {t.name for t in ws.tables()} == {
        "recent",
        "venues",
        "noted",
        "summary",
        "v",
    }


def test_a_verdict_has_one_sign_and_one_colour_in_cells_and_in_panels():
    for word, (sign, colour) in VERDICT_ICONS.items():
        assert all(f'"{word}": "{sign}"' in assets.module(name) for name in ("kit", "lineage"))
        mark = re.search(
            rf"\.jammi-{word.replace(' ', '-')} {{ --j-mark: var\((--j-\w+)\)", assets.style()
        )
        assert f"{mark[1]}: {colour};" in assets.style()


@pytest.mark.parametrize("name", [*PANELS, "ResultView"])
def test_what_a_page_sets_and_cannot_be_is_said_there_and_python_never_has_it(make, told, name):
    line = told(make(name))
    panel, seen = line.panel, []
    wrong = {
        "selection": [7] if name == "CatalogBrowser" else ["nothing"],
        "filter": 7,
        "focus": "nothing",
        "color": "nothing",
        "k": 0,
    }
    panel.observe(
        lambda change: seen.append(change["new"]),
        names=[trait for trait in wrong if trait in panel.keys],
    )
    for trait, value in wrong.items():
        if trait in panel.keys:
            before = getattr(panel, trait)
            panel.set_state({trait: value})
            assert (getattr(panel, trait), seen) == (before, []), trait
            assert line.messages[-1]["kind"] == "said" and len(line.messages[-1]["lines"]) > 0, (
                trait
            )
    panel.set_state({"filter": "a"})
    assert panel.filter == "a" and {"v": 1, "kind": "said", "lines": []} in line.messages


@pytest.mark.parametrize(
    ("name", "one"),
    [
        ("LineageGraph", "recent"),
        ("StalenessBoard", "recent"),
        ("NeighborExplorer", "2"),
        ("EmbeddingMap", "2"),
    ],
)
def test_of_what_a_linked_panel_chose_python_has_what_is_here_and_the_page_keeps_its_own(
    make, told, name, one
):
    line = told(make(name))
    sent = []
    line.panel.send_state = lambda key=None: sent.append(key)
    line.panel.set_state({"selection": ["nothing", one]})
    assert line.panel.selection == [one] and "selection" not in sent
    assert any(m["kind"] == "said" and "nothing" in m["lines"][0] for m in line.messages)


def test_a_page_sets_no_code_no_style_and_no_layout(ws):
    panel = StalenessBoard(ws)
    before = (panel._esm, panel._css, panel.layout)
    panel.set_state(
        {"_esm": "alert(1)", "_css": "* {}", "_view_name": "x", "layout": None, "filter": "a"}
    )
    assert (panel._esm, panel._css, panel.layout) == before
    assert panel.filter == "a" and panel._view_name != "x"


def test_the_saved_panel_names_the_time_of_its_look(ws, monkeypatch):
    displayed = []
    monkeypatch.setattr("IPython.display.display", lambda data, **_: displayed.append(data))
    minutes = itertools.count(10)
    monkeypatch.setattr("jammi_widgets.panel.utc_now", lambda: f"2026-01-01 10:{next(minutes)}:00")
    panel = StalenessBoard(ws)
    first = panel._looked_at
    panel._ipython_display_()
    assert f"Panel as of {first} UTC" in displayed[-1]["text/html"]
    panel.refresh()
    assert panel._looked_at > first
    panel._ipython_display_()
    assert f"Panel as of {panel._looked_at} UTC" in displayed[-1]["text/html"]
