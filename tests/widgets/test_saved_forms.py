"""Static forms of panels: their stamps, and how they are renewed while the panel lives."""

import sys
from types import SimpleNamespace

import pytest

from jammi_lab.core.html import plain_text
from jammi_widgets import CatalogBrowser, DiffView, LineageGraph, StalenessBoard, Workbench
from jammi_widgets import panel as panels
from tests.widgets.conftest import Told

VIEW = "application/vnd.jupyter.widget-view+json"
VERDICT_PANELS = [StalenessBoard, LineageGraph, CatalogBrowser, Workbench]


@pytest.fixture
def outputs(monkeypatch):
    """The outputs with static forms, by display id; each new state of one is appended."""
    shown = {}

    def display(data, *, metadata, display_id=None, raw):
        shown.setdefault(display_id, []).append((data, metadata))

    monkeypatch.setattr("IPython.display.display", display)
    monkeypatch.setattr("IPython.display.update_display", display)
    return shown


def states(outputs):
    """The states of the only static form. Live panels have no display id."""
    [only] = (states for display_id, states in outputs.items() if display_id is not None)
    return only


@pytest.mark.parametrize("make", VERDICT_PANELS)
def test_a_panel_of_verdicts_is_stamped_with_the_tables_and_verdicts_that_it_shows(
    ws, outputs, edited, make
):
    panel = make(ws)
    panel.refresh()
    assert not outputs  # it was not displayed
    edited()  # after the look: the form shows what was true before
    panel._ipython_display_()
    [(data, metadata)] = states(outputs)
    assert "stale" not in data["text/html"]
    assert 'class="jammi-saved jammi-verdicts"' in data["text/html"]
    stamp = metadata["jammi"]
    assert {table["name"] for table in stamp["tables"]} == {"recent", "venues", "noted", "summary"}
    assert stamp["verdict"] == "fresh"
    panel.refresh()
    data, metadata = states(outputs)[-1]
    assert "stale" in data["text/html"]
    count = len(states(outputs))
    panel.refresh()
    assert len(states(outputs)) == count > 1  # nothing changed
    assert metadata["jammi"]["verdict"].startswith(("noted is stale", "recent is stale"))


def test_a_panel_of_very_many_verdicts_has_no_stamp(ws, outputs, monkeypatch):
    monkeypatch.setattr(panels, "MAX_STAMPED_TABLES", 3)
    StalenessBoard(ws)._ipython_display_()
    [(_, metadata)] = states(outputs)
    assert metadata == {}


def test_a_difference_is_stamped_while_it_is_that_of_the_newest_version(ws, outputs, papers):
    with papers.open("a") as file:
        file.write("4,d,2023,Z\n")
    ws.recompute("recent")
    DiffView(ws, "recent")._ipython_display_()
    with papers.open("a") as file:
        file.write("5,e,2023,Z\n")
    ws.recompute("recent")
    DiffView(ws, "recent", 1, 2)._ipython_display_()
    outputs.pop(None)
    [[(_, newest)], [(_, former)]] = outputs.values()
    [table] = newest["jammi"]["tables"]
    assert (table["name"], table["version"]) == ("recent", 2) and former == {}


def test_the_form_of_a_workbench_is_renewed_with_each_of_its_panels(ws, outputs, edited):
    bench = Workbench(ws)
    bench._ipython_display_()
    edited()
    for count, panel in ((2, bench.board), (3, bench.lineage)):
        assert panel.refresh_quietly()
        assert len(states(outputs)) == count
    shown = states(outputs)[-1][0]["text/plain"]
    assert "noted (sql, version 1): stale" in shown


def test_the_form_of_a_value_stays_until_the_panel_shows_something_else(ws, outputs, edited):
    panel = StalenessBoard(ws)
    panel.saved_as = lambda: plain_text("the value")
    panel._ipython_display_()
    panel.refresh()
    [(first, _)] = states(outputs)
    assert "the value" in first["text/html"]
    edited()
    assert panel.refresh_quietly()
    _, (last, _) = states(outputs)
    assert "the value" not in last["text/html"] and "stale" in last["text/html"]
    panel.refresh()
    assert len(states(outputs)) == 2


def test_the_saved_form_is_renewed_by_cells_clicks_and_runs(ws, outputs, edited):
    panel = StalenessBoard(ws)
    told = Told(panel)
    panel._ipython_display_()
    edited()
    assert panel.refresh_quietly()
    assert len(states(outputs)) == 2
    told.ask("rows", sort="name")  # the form does not hang on it
    assert len(states(outputs)) == 2
    panel._act("recompute", ["recent"], lambda _: None)
    assert len(states(outputs)) == 3 and "recent</" in states(outputs)[-1][0]["text/html"]
    edited()
    told.ask("refresh")
    assert len(states(outputs)) == 4


def test_a_panel_displayed_again_has_one_form_in_all_its_outputs(ws, outputs, edited):
    panel = StalenessBoard(ws)
    panel._ipython_display_()
    panel._ipython_display_()
    assert len(outputs) == 2  # that of the live views, and one that Jupyter updates in both
    StalenessBoard(ws)._ipython_display_()
    assert len(outputs) == 3


def test_nothing_stands_twice_and_nothing_is_left_that_cannot_be_renewed(ws, outputs, edited):
    panel = StalenessBoard(ws)
    panel._ipython_display_()
    edited()
    panel.refresh()
    [(live, _)], saved = outputs.pop(None), states(outputs)[-1][0]
    assert live.keys() == {VIEW, *saved} and not any("recent" in live[kind] for kind in saved)
    assert all("stale" in saved[kind] and "Panel as of" in saved[kind] for kind in saved)


def test_a_closed_workspace_leaves_the_saved_form_as_it_is(ws, outputs):
    panel = StalenessBoard(ws)
    panel._ipython_display_()
    ws.close()
    panel.refresh_quietly()
    assert len(states(outputs)) == 1


@pytest.mark.parametrize("make", [StalenessBoard, LineageGraph, CatalogBrowser])
def test_marimo_gets_the_panel_and_its_form_folded(ws, monkeypatch, make):
    interface = SimpleNamespace(anywidget=lambda widget: widget)
    marimo = SimpleNamespace(Html=str, vstack=list, ui=interface)
    monkeypatch.setitem(sys.modules, "marimo", marimo)
    panel = make(ws)
    live, form = panel._display_()
    assert live is panel
    assert form.startswith('<details class="jammi-saved') and "Panel as of" in form
    assert "recent" in form
