"""The lineage panel's kernel side: what is drawn, what is said of it, what a click does."""

import contextlib
import sqlite3

import networkx
import pytest
import traitlets
from hypothesis import given
from hypothesis import strategies as st

import jammi_lab as jl
from jammi_lab.sensing.lineage import Node
from jammi_lab.values.records import Edge
from jammi_lab.values.verdicts import Fresh
from jammi_widgets import lineage
from jammi_widgets.catalog import CatalogBrowser
from jammi_widgets.columns import way_of
from jammi_widgets.graph import MOST_DRAWN, Snapshot, View
from jammi_widgets.lineage import LineageGraph


def database(folder):
    """A database with two tables."""
    with contextlib.closing(sqlite3.connect(folder / "crm.db")) as at:
        at.executescript("CREATE TABLE people (name TEXT); INSERT INTO people VALUES ('Ann'); CREATE TABLE orders (number INT)")
    return folder / "crm.db"


def names(body):
    return {n["id"] for n in body["nodes"]}


def test_everything_is_drawn_from_left_to_right(ws, told):
    body = told(LineageGraph(ws)).ask("open")["body"]
    assert names(body) == {"papers", "notes", "recent", "venues", "noted", "summary"}
    left = {n["id"]: n["box"][0] for n in body["nodes"]}
    at = [n["id"] for n in body["nodes"]]
    assert all(left[at[e["from"]]] < left[at[e["to"]]] for e in body["edges"])
    assert {(at[e["from"]], at[e["to"]]) for e in body["edges"]} >= {("papers", "recent"), ("recent", "venues"), ("venues", "summary")}
    assert body["counts"] == {"fresh": 4}


def test_a_named_node_is_drawn_with_what_is_within_two_hops(ws, told):
    panel = LineageGraph(ws, "VENUES")
    assert panel.focus == "venues"
    line = told(panel)
    assert names(line.ask("open")["body"]) == {"venues", "recent", "papers", "summary"}
    assert names(line.ask("show", node="venues", hops=1)["body"]) == {"venues", "recent", "summary"}
    assert len(names(line.ask("show", node=None, hops=None)["body"])) == 6
    assert panel.focus is None


def test_what_was_drawn_a_moment_ago_is_not_arranged_anew(ws, told, monkeypatch):
    panel, plain, arranged = LineageGraph(ws), lineage.arranged, []
    monkeypatch.setattr(lineage, "arranged", lambda *given: arranged.append(1) or plain(*given))
    line = told(panel)
    first = line.ask("open")["body"]
    panel.filter = "venues"
    assert len(arranged) == 2
    panel.filter = ""
    assert line.ask("open")["body"] == first and len(arranged) == 2


def test_an_unknown_name_is_a_typed_error_with_near_names(ws):
    with pytest.raises(jl.TableNotFound) as caught:
        LineageGraph(ws, "venue")
    assert "venues" in caught.value.near
    panel = LineageGraph(ws)
    with pytest.raises((jl.TableNotFound, traitlets.TraitError)):
        panel.selection = ["nothing"]
    assert panel.selection == []


def test_choosing_a_stale_table_lights_the_way_from_its_root_cause(ws, told, edited):
    edited()
    panel = LineageGraph(ws, "venues")
    line = told(panel)
    panel.selection = ["summary"]
    body = line.ask("open")["body"]
    at = [n["id"] for n in body["nodes"]]
    lit = {(at[e["from"]], at[e["to"]]) for e in body["edges"] if e["lit"]}
    assert lit == {("papers", "recent"), ("recent", "venues"), ("venues", "summary"), ("papers", "noted"), ("noted", "summary")}


def test_what_is_before_or_after_a_node_folds_and_unfolds(ws, told):
    line = told(LineageGraph(ws, "recent"))
    line.ask("show", node="recent", hops=1)
    opened = line.ask("unfold", node="venues", side="down", open=True)["body"]
    assert "summary" in names(opened)
    closed = line.ask("unfold", node="recent", side="down", open=False)["body"]
    assert names(closed) == {"papers", "recent"} | {"summary"} - {"summary"}
    assert next(n for n in closed["nodes"] if n["id"] == "recent")["below"] == 1


def test_the_filter_finds_names_and_verdicts_with_their_neighbours(ws, told, edited):
    edited()
    panel = LineageGraph(ws)
    line = told(panel)
    panel.filter = "stale"
    assert {n["id"] for n in line.messages[-1]["body"]["nodes"] if n["verdict"] == "stale"} == {"recent", "noted"}
    panel.filter = "sum"
    assert names(line.messages[-1]["body"]) == {"summary", "venues", "noted"}
    panel.filter = "no such thing"
    assert line.messages[-1]["body"]["nodes"] == []


def test_details_say_what_a_table_is_made_from_and_why_it_is_stale(ws, told, edited):
    edited()
    known = told(LineageGraph(ws)).ask("details", node="recent")["body"]
    assert known["verdict"] == "stale" and "papers changed" in known["reasons"][0]
    assert known["columns"][0] == ["id", "BIGINT"] and known["reads"] == ["papers"] and known["readBy"] == ["venues"]
    assert known["anchors"][0][0] == "papers" and known["definition"].startswith("SELECT * FROM papers")


def test_the_way_of_a_column_leads_up_and_down(ws, told):
    line = told(LineageGraph(ws))
    body = line.ask("column", node="recent", column="venue")["body"]
    columns = dict(body["columns"])
    assert columns["papers"] == ["venue", "year"] and columns["recent"] == ["venue"] and columns["venues"] == ["n", "venue"]
    edges = {(a, b): direct for a, b, direct in body["edges"]}
    assert edges["papers", "recent"] is True and edges["recent", "venues"] is True and ("notes", "noted") not in edges
    source = line.ask("details", node="papers")["body"]
    assert ["title", "VARCHAR"] in source["columns"]
    way = dict(line.ask("column", node="papers", column="title")["body"]["columns"])
    assert way["noted"] == ["title"] and "venues" not in way


def test_a_column_that_is_not_there_leads_nowhere(ws, told):
    body = told(LineageGraph(ws)).ask("column", node="recent", column="nothing")["body"]
    assert (body["columns"], body["edges"]) == ([["recent", ["nothing"]]], [])


@given(
    st.lists(st.tuples(st.integers(0, 5), st.sampled_from("ab"), st.integers(0, 5), st.sampled_from("ab"), st.booleans()), max_size=20),
    st.integers(0, 5),
)
def test_a_way_is_every_column_from_which_or_to_which_edges_lead(edges, at):
    edges = [e for e in edges if e[0] < e[2]]
    graph = networkx.DiGraph([((a, x), (b, y)) for a, x, b, y, _ in edges])
    graph.add_node((at, "a"))
    wanted = networkx.ancestors(graph, (at, "a")) | networkx.descendants(graph, (at, "a")) | {(at, "a")}
    assert {(table, column) for table, columns in way_of(edges, (at, "a"))[0].items() for column in columns} == wanted


def test_recompute_from_the_panel_makes_the_table_true_and_tells_the_page(ws, told, edited):
    edited()
    panel = LineageGraph(ws)
    line = told(panel)
    assert line.act("recompute", "recent")["body"]["lines"] == ["recent: computed"]
    assert isinstance(ws.staleness("recent"), Fresh)
    changed = [m for m in line.messages if m["kind"] == "changed"][-1]["body"]
    assert next(n for n in changed["nodes"] if n["id"] == "recent")["verdict"] == "fresh"


def test_verify_what_if_and_preview_answer_without_changing_anything(ws, told):
    line = told(LineageGraph(ws))
    assert line.act("verify", "recent")["body"]["lines"] == ["match"]
    assert set(line.act("what-if", "papers")["body"]["names"]) == {"recent", "venues", "noted", "summary"}
    found = line.act("preview", "papers")["body"]
    assert found["columns"] == ["id", "title", "year", "venue"] and found["rows"][0] == ["1", "a", "2020", "X"]
    assert len(ws.tables()) == 4


@pytest.mark.parametrize(("action", "node"), [("verify", "recent"), ("what-if", "papers"), ("preview", "noted"), ("recompute", "summary")])
def test_what_an_action_gave_says_of_which_node_it_is(ws, told, action, node):
    assert told(LineageGraph(ws)).act(action, node.upper())["body"]["node"] == node


def test_a_preview_shows_dates_that_python_does_not_have(ws, told):
    ws.materialize("far", "SELECT TIMESTAMP 'infinity' AS a, TIMESTAMP '290000-01-01' AS b, NULL AS c")
    for line, part in ((told(LineageGraph(ws)), "far"), (told(CatalogBrowser(ws)), "far")):
        parts = [p for g in line.ask("open")["body"].get("groups", []) for p in g["parts"]]
        body = line.act("preview", next((p["id"] for p in parts if p["name"] == part), part))["body"]
        assert (body["columns"], body["rows"]) == (["a", "b", "c"], [["infinity", "290000-01-01 00:00:00", "NULL"]])


def test_a_preview_is_offered_where_there_are_rows_and_gives_them(ws, told, tmp_path):
    ws.mutable.create("labels", {"id": "int64"}, primary_key=["id"]).insert([{"id": 7}])
    ws.topics.register("events", {"a": "int64"})
    ws.topics.publish("events", [{"a": 5}])
    ws.sources.add("crm", str(database(tmp_path)))
    ws.materialize("all", "SELECT now() AS t, l.id, e.a, p.name FROM mutable.labels l, topics.events e, crm.people p")
    line = told(LineageGraph(ws))
    for node, first in (("labels", "7"), ("events", "5"), ("crm.people", "Ann")):
        known = line.ask("details", node=node)["body"]
        assert known["actions"] == ["what-if", "preview"] and known["columns"]
        assert line.act("preview", node)["body"]["rows"][0][0] == first
    assert line.ask("details", node="now()")["body"]["actions"] == ["what-if"]
    assert line.act("preview", "now()")["kind"] == "failed"


def test_details_tell_what_the_manifest_attests(ws, told):
    manifest = ws.table("recent").manifest
    facts = dict(told(LineageGraph(ws)).ask("details", node="recent")["body"]["facts"])
    assert facts["definition"] == manifest.definition_hash[:12] and facts["artifact"] == f"sha256 {manifest.artifact.digest[:12]}"
    assert facts["made by"] == f"jammi_lab {manifest.engine_version}, run {manifest.produced_by[:12]}"
    assert facts["made at"] == manifest.produced_at[:19].replace("T", " ") + " UTC"


def test_the_middle_is_a_result_table_or_a_source_with_several_tables_too(ws, told, tmp_path):
    ws.sources.add("crm", str(database(tmp_path)))
    ws.materialize("both", "SELECT * FROM crm.people, crm.orders")
    ws.materialize("after", "SELECT * FROM jammi.both")
    assert LineageGraph(ws, ws.table("venues")).focus == "venues"
    panel = LineageGraph(ws, "CRM")
    line = told(panel)
    assert panel.focus == "crm" and names(line.ask("open")["body"]) == {"crm.people", "crm.orders", "both", "after"}
    assert names(line.ask("show", node="crm", hops=1)["body"]) == {"crm.people", "crm.orders", "both"}
    panel.refresh()
    assert panel.focus == "crm"
    panel.focus = None
    assert len(names(line.ask("open")["body"])) == 10
    with pytest.raises(jl.TableNotFound):
        LineageGraph(ws, "cr")


def test_a_table_that_was_dropped_meanwhile_is_a_word_and_no_crash(ws, told):
    line = told(LineageGraph(ws))
    ws.drop("summary")
    ended = line.act("recompute", "summary")
    assert ended["kind"] == "failed" and "summary" in ended["lines"][0]
    assert "summary" not in names(line.ask("refresh")["body"])


def test_a_closed_workspace_is_said_and_the_static_form_says_it_too(ws, told):
    panel = LineageGraph(ws)
    line = told(panel)
    ws.close()
    answer = line.ask("refresh")
    assert answer["kind"] == "refused" and "closed" in answer["lines"][0]
    assert "venues" in repr(panel)


@pytest.mark.parametrize(
    "message",
    [
        {"v": 1, "ask": 1, "kind": "sql", "text": "SELECT 1"},
        {"v": 2, "ask": 1, "kind": "open"},
        {"v": 1, "ask": 1, "kind": "details", "node": 7},
        {"v": 1, "ask": 1, "kind": "details", "node": "venues", "path": "/etc/passwd"},
        {"v": 1, "ask": 1, "kind": "act", "action": "drop", "names": ["venues"]},
        {"v": 1, "ask": 1, "kind": "act", "action": "recompute", "names": []},
        "open",
        None,
    ],
)
def test_a_message_the_protocol_does_not_know_is_refused(ws, told, message):
    line = told(LineageGraph(ws))
    line.panel._heard(line.panel, message, [])
    assert line.messages[-1]["kind"] == "refused"
    assert len(ws.tables()) == 4


def test_a_panel_sees_what_the_tenant_saw_who_made_it(ws, told):
    with ws.tenant("acme"):
        ws.materialize("secret", "SELECT 1 AS a")
        panel = LineageGraph(ws)
    line = told(panel)
    assert "secret" in names(line.ask("refresh")["body"])
    assert "secret" not in names(told(LineageGraph(ws)).ask("open")["body"])


def test_a_source_that_is_called_like_a_recipe_has_an_id_of_its_own(ws, told):
    ws.materialize("papers", "SELECT * FROM notes")
    ws.materialize("both", "SELECT * FROM jammi.papers")
    body = told(LineageGraph(ws)).ask("open")["body"]
    assert {"papers", "source:papers"} <= names(body)


def chain(wide, deep):
    nodes = [Node("sql", f"t{i}", 1) for i in range(wide * deep)]
    return Snapshot(nodes, [Edge(f"t{i}", f"t{i + wide}", "result_digest") for i in range(wide * (deep - 1))], {n.name: Fresh() for n in nodes})


def test_too_many_nodes_are_drawn_as_groups_and_those_asked_for_by_themselves():
    snapshot = chain(1000, 10)
    shown = snapshot.shown(View(), "", [])
    drawn, ids, pairs = snapshot.grouped(shown, ["t4007"])
    assert len(shown) == 10_000 and len(drawn) <= 30
    assert {"t4007", "t3007", "t5007"} <= set(ids)
    assert sum(len(n.members) for n in drawn if hasattr(n, "members")) <= 10 * 500
    assert all(a != b for a, b in pairs)


def test_up_to_a_thousand_nodes_are_drawn_one_by_one():
    snapshot = chain(MOST_DRAWN // 10, 10)
    drawn, _, _ = snapshot.grouped(snapshot.shown(View(), "", []), [])
    assert len(drawn) == MOST_DRAWN and all(isinstance(n, Node) for n in drawn)


def test_the_saved_form_is_a_picture_and_a_tree_without_script(ws, edited):
    edited()
    ws.materialize('<img src=x onerror="alert(1)">', "SELECT note FROM notes")
    data, _ = LineageGraph(ws)._repr_mimebundle_()
    assert "summary (sql, version 1): possibly stale" in data["text/plain"]
    assert 'src="data:image/svg+xml;base64,' in data["text/html"] and "<script" not in data["text/html"] and "<img src=x" not in data["text/html"]


def test_an_empty_workspace_is_an_empty_panel(tmp_path, told):
    with jl.open(tmp_path / "empty") as ws:
        panel = LineageGraph(ws)
        body = told(panel).ask("open")["body"]
        assert (body["nodes"], body["total"]) == ([], 0)
        assert repr(panel) == "No lineage yet."
