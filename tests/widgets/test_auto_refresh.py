"""Panels look again after cells, and work tells how it goes: who is looked at, when, and what
hinders it."""

import sys
import threading
import types

import pytest

import jammi_lab as jl
from jammi_widgets import auto_refresh as following
from jammi_widgets.catalog import CatalogBrowser
from jammi_widgets.lineage import LineageGraph
from jammi_widgets.staleness import StalenessBoard
from tests.inside import runner_of, wait_for_refresh


@pytest.fixture
def looks(ws, told):
    """A board on a page; its looks are counted, and wait while `held` is not set."""
    panel = StalenessBoard(ws)
    line = told(panel)
    line.ask("here", view=1)
    line.held, line.looked = threading.Event(), []
    look = panel._refresh_if_changed

    def counted():
        line.looked.append(threading.current_thread().name)
        assert line.held.wait(20)
        look()

    panel._refresh_if_changed = counted
    yield line
    line.held.set()
    panel.close()
    wait_for_refresh()


def look_again():
    """The look of the panels after a cell."""
    following.schedule_refresh()
    wait_for_refresh()


def test_a_cell_waits_for_no_look_and_many_cells_ask_for_one_more(looks):
    for _ in range(5):
        following.schedule_refresh()
    looks.held.set()
    wait_for_refresh()
    assert 1 <= len(looks.looked) <= 2 and set(looks.looked) == {"jammi-panel-follow"}


def test_what_a_cell_changed_is_told_and_what_it_left_is_not(ws, looks, edited):
    looks.held.set()
    look_again()
    assert not [m for m in looks.messages if m["kind"] == "changed"]
    edited()
    look_again()
    assert [m["body"]["counts"] for m in looks.messages if m["kind"] == "changed"] == [
        {"stale": 2, "possibly stale": 2}
    ]


def test_what_one_panel_recomputes_the_others_show(ws, looks, told, edited):
    edited()
    looks.held.set()
    lineage = told(LineageGraph(ws))
    lineage.ask("here", view=2)
    assert lineage.act("recompute", "recent")["kind"] == "done"
    wait_for_refresh()
    assert [m["body"]["counts"]["fresh"] for m in looks.messages if m["kind"] == "changed"] == [1]
    looked = len(looks.looked)
    lineage.act("what-if", "papers")
    wait_for_refresh()
    assert len(looks.looked) == looked
    lineage.panel.close()


@pytest.mark.parametrize("leave", ["gone", "follow", "close"])
def test_a_panel_that_no_page_shows_or_that_shall_not_follow_is_left_alone(looks, leave):
    looks.held.set()
    if leave == "gone":
        looks.ask("gone", view=1)
    elif leave == "follow":
        looks.panel.follow = False
    else:
        looks.panel.close()
    look_again()
    assert looks.looked == []


def test_what_hinders_a_look_is_said_once_and_taken_back(looks):
    looks.held.set()
    look = looks.panel._refresh_if_changed

    def failing():
        raise jl.SourceUnavailable("papers cannot be reached.")

    for how in (failing, failing, look):
        looks.panel._refresh_if_changed = how
        look_again()
    said = [m["lines"] for m in looks.messages if m["kind"] == "said"]
    assert len(said) == 2 and "papers cannot be reached" in said[0][0] and said[1] == []


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_look_that_breaks_does_not_end_the_looks_of_later_cells(looks):
    looks.held.set()
    look = looks.panel._refresh_if_changed
    looks.panel._refresh_if_changed = lambda: 1 / 0
    look_again()
    looks.panel._refresh_if_changed = look
    look_again()
    assert len(looks.looked) == 1


def test_a_closed_workspace_is_said_and_looked_at_no_more(ws, looks):
    looks.held.set()
    ws.close()
    look_again()
    look_again()
    assert len(looks.looked) == 1
    assert ["closed" in m["lines"][0] for m in looks.messages if m["kind"] == "said"] == [True]


def test_cells_of_a_kernel_are_heard_once_however_many_panels_there_are(ws, told, monkeypatch):
    heard = []
    events = types.SimpleNamespace(register=lambda *a: heard.append(a))

    class Shell:
        kernel = object()

    shell = Shell()
    shell.events = events
    monkeypatch.setattr(sys.modules["IPython"], "get_ipython", lambda: shell)
    for make in (LineageGraph, StalenessBoard, CatalogBrowser):
        panel = make(ws)
        told(panel).ask("here", view=1)
        panel.close()
    assert heard == [("post_run_cell", following.schedule_refresh)]


def test_a_message_that_breaks_a_panel_is_answered_and_not_waited_for(ws, told, monkeypatch):
    line = told(StalenessBoard(ws))
    monkeypatch.setattr(line.panel, "_body", lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        line.ask("rows")
    assert (
        line.messages[-1]["kind"] == "refused"
        and "ZeroDivisionError" in line.messages[-1]["lines"][0]
    )


@pytest.mark.parametrize("name", ["venues", "summary"])
def test_what_is_over_at_once_is_told_after_the_answer_that_it_began(ws, told, name):
    line = told(LineageGraph(ws))
    ws.drop("summary")

    def slow(content, buffers=None):
        if content["kind"] == "answer":
            runner_of(line.panel).wait(0.3)
        line.messages.append(content)

    line.panel.send = slow
    line.act("preview", name)
    assert [m["kind"] for m in line.messages] == [
        "answer",
        "done" if name == "venues" else "failed",
    ]


def test_what_is_gone_is_chosen_no_more_and_stands_no_more_in_the_middle(ws, told):
    graph, board = LineageGraph(ws, "summary"), StalenessBoard(ws)
    graph.selection = board.selection = ["summary"]
    told(board)
    line = told(graph)
    ws.drop("summary")
    graph.refresh()
    board.refresh()
    assert graph.selection == board.selection == [] and graph.focus is None
    assert {n["id"] for n in line.answer("open")["nodes"]} >= {"venues", "papers"}


def test_the_catalog_has_topics_sessions_models_and_mutable_tables(ws, told):
    ws.mutable.create("labels", {"id": "int64"}, primary_key=["id"]).insert([{"id": 1}])
    ws.topics.register("events", {"a": "int64"})
    ws.topics.publish("events", [{"a": 1}])
    ws.models.register(
        "mine", types.SimpleNamespace(name="mine", version="1", dimensions=8, encode=list)
    )
    with ws.tenant("acme"), ws.ephemeral(timeout=60) as session:
        line = told(CatalogBrowser(ws))
        body = line.answer("open")
        found = {
            g["name"]: [(p["name"], p["said"], p["insert"]) for p in g["parts"]]
            for g in body["groups"]
        }
        assert found["Mutable tables"] == [("labels", "version 1, 1 row", "mutable.labels")]
        assert ("events", "1 event", "topics.events") in found["Topics"]
        assert [name for name, _, _ in found["Sessions"]] == [session.id]
        along = [
            (f"{name}::1", f"{wide} dimensions, built in", f"'{name}'")
            for name, wide in (("minilm", 384), ("hashing", 256))
        ]
        assert found["Models"] == [("mine::1", "8 dimensions", "'mine'"), *along]
        [part] = [p for g in body["groups"] for p in g["parts"] if p["name"] == "labels"]
        below = line.answer("children", part=part["id"])["parts"]
        assert [(p["name"], p["said"]) for p in below] == [("id", "BIGINT")]
        assert line.act("preview", part["id"])["body"]["rows"] == [["1"]]
