"""The lineage panel's kernel side: what is drawn, what is said of it, what a click does."""

import base64
import contextlib
import re
import sqlite3
from xml.etree import ElementTree

import networkx
import pytest
import traitlets
from hypothesis import given
from hypothesis import strategies as st

import jammi_lab as jl
from jammi_lab.core.html import Rendered
from jammi_lab.core.verdicts import Fresh, PossiblyStale
from jammi_widgets.lineage import LineageGraph, trace_column
from jammi_widgets.staleness import StalenessBoard
from tests.inside import lineage_of


def database(folder):
    """A database with two tables."""
    with contextlib.closing(sqlite3.connect(folder / "crm.db")) as at:
        at.executescript(
            "CREATE TABLE people (name TEXT); INSERT INTO people VALUES ('Ann'); CREATE TABLE orders (number INT)"
        )
    return folder / "crm.db"


def names(body):
    return {n["id"] for n in body["nodes"]}


def titles(body):
    """What the drawing says of each node."""
    nodes = ElementTree.fromstring(body["svg"]).iterfind(".//*[@class='jammi-node']")
    said = [str(node[0].text) for node in nodes]
    return dict(zip([n["id"] for n in body["nodes"]], said, strict=True))


def test_everything_is_drawn_from_left_to_right(ws, told):
    body = told(LineageGraph(ws)).answer("open")
    assert names(body) == {"papers", "notes", "recent", "venues", "noted", "summary"}
    left = {n["id"]: n["box"][0] for n in body["nodes"]}
    at = [n["id"] for n in body["nodes"]]
    assert all(left[at[a]] < left[at[b]] for a, b, _, _ in body["edges"])
    assert {(at[a], at[b]) for a, b, _, _ in body["edges"]} >= {
        ("papers", "recent"),
        ("recent", "venues"),
        ("venues", "summary"),
    }
    assert [entry[:3] for entry in body["legend"]] == [("fresh", 4, "✓")]


def test_a_named_node_is_drawn_with_what_is_within_two_hops(ws, told):
    panel = LineageGraph(ws, "VENUES")
    assert panel.focus == "venues"
    line = told(panel)
    assert names(line.answer("open")) == {"venues", "recent", "papers", "summary"}
    assert names(line.answer("show", node="venues", hops=1)) == {"venues", "recent", "summary"}
    assert len(names(line.answer("show", node=None, hops=None))) == 6
    assert panel.focus is None


def test_one_side_of_a_node_is_all_that_it_is_made_from_or_goes_into(ws, told):
    up = told(LineageGraph(ws, "venues", direction="up"))
    body = up.answer("open")
    assert names(body) == {"venues", "recent", "papers"} and (body["direction"], body["hops"]) == (
        "up",
        None,
    )
    assert names(up.answer("show", node="venues", hops=None, direction="down")) == {
        "venues",
        "summary",
    }
    assert names(told(LineageGraph(ws, "papers", direction="down")).answer("open")) == {
        "papers",
        "recent",
        "venues",
        "noted",
        "summary",
    }
    with pytest.raises(jl.InvalidArgument):
        LineageGraph(ws, "venues", direction="left")


def test_an_input_that_no_table_reads_is_not_in_the_lineage(ws, told, tmp_path):
    (tmp_path / "alone.csv").write_text("x\n1\n")
    ws.sources.add("alone", tmp_path / "alone.csv")
    with pytest.raises(jl.TableNotFound, match="the inputs that they read"):
        LineageGraph(ws, "ALONE")
    ws.materialize("read", "SELECT * FROM alone")
    panel = LineageGraph(ws, "ALONE")
    line = told(panel)
    assert panel.focus == "alone" and names(line.answer("open")) == {"alone", "read"}
    assert line.answer("details", node="alone")["columns"] == [["x", "BIGINT"]]
    ws.drop("read")
    assert "alone" not in names(line.answer("refresh")) and panel.focus is None


def test_the_physical_name_of_a_table_means_its_recipe(ws):
    first = ws.table("venues").table_name
    ws.materialize(
        "venues", "SELECT venue, count(*) AS n FROM jammi.recent GROUP BY ALL", cache="bypass"
    )
    assert [LineageGraph(ws, name).focus for name in (first, ws.table("venues").table_name)] == [
        "venues",
        "venues",
    ]


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
    assert set(line.answer("open")["lit"]) == {
        ("papers", "recent"),
        ("recent", "venues"),
        ("venues", "summary"),
        ("papers", "noted"),
        ("noted", "summary"),
    }


def test_the_filter_finds_names_and_verdicts_with_their_neighbours(ws, told, edited):
    edited()
    panel = LineageGraph(ws)
    line = told(panel)
    panel.filter = "stale"
    said = titles(line.messages[-1]["body"])
    assert {name for name in said if said[name].endswith(", stale")} == {"recent", "noted"}
    panel.filter = "sum"
    assert names(line.messages[-1]["body"]) == {"summary", "venues", "noted"}
    panel.filter = "no such thing"
    assert line.messages[-1]["body"]["nodes"] == []


def test_details_say_what_a_table_is_made_from_and_why_it_is_stale(ws, told, edited):
    edited()
    known = told(LineageGraph(ws)).answer("details", node="recent")
    assert known["verdict"] == "stale" and "papers changed" in known["reasons"][0]
    assert (
        known["columns"][0] == ["id", "BIGINT"]
        and known["reads"] == ["papers"]
        and known["readBy"] == ["venues"]
    )
    assert known["anchors"][0][0] == "papers" and known["definition"].startswith(
        "SELECT * FROM papers"
    )


def test_the_way_of_a_column_leads_up_and_down(ws, told):
    line = told(LineageGraph(ws))
    assert line.answer("column", node="recent", column="venue")["lines"] == [
        ["papers", "venue", "recent", "venue", True],
        ["papers", "year", "recent", "venue", False],
        ["recent", "venue", "venues", "n", False],
        ["recent", "venue", "venues", "venue", True],
    ]
    source = line.answer("details", node="papers")
    assert ["title", "VARCHAR"] in source["columns"]
    way = line.answer("column", node="papers", column="title")["lines"]
    assert {to for _, _, to, _, _ in way} == {"recent", "noted"}


def test_columns_stand_in_the_nodes_with_lines_between_those_that_are_made_from_each_other(
    ws, told
):
    line = told(LineageGraph(ws, "venues", columns=True))
    body = line.answer("open")
    at = {n["id"]: n for n in body["nodes"]}
    assert (
        at["recent"]["columns"] == ["id", "title", "year", "venue"]
        and at["venues"]["columns"] == ["venue", "n"]
        and body["columns"]
    )
    ids = [n["id"] for n in body["nodes"]]
    parts = ElementTree.fromstring(body["svg"]).iter()
    groups = [part for part in parts if part.get("class", "").startswith("jammi-edges")]
    paths = [path.get("d") for group in groups for path in group]
    of_values = len(groups[-1])  # drawn on top
    lines = [(ids[a], x, ids[b], y) for a, b, x, y in body["edges"]]
    drawn = dict(zip(lines, paths, strict=True))
    assert ("papers", "title", "recent", "title") in lines[-of_values:]
    assert ("papers", "year", "recent", "title") in lines[:-of_values]
    assert ("papers", "title", "recent", "id") not in drawn and not any(
        "noted" in key for key in drawn
    )
    x, y, wide, high = at["papers"]["box"]
    row = at["papers"]["columns"].index("title")
    middle = y + high - 6 - 17 * (len(at["papers"]["columns"]) - row - 0.5)
    assert drawn["papers", "title", "recent", "title"].startswith(f"M{x + wide} {int(middle)}C")
    way = [step[:4] for step in line.answer("column", node="recent", column="title")["lines"]]
    assert ["papers", "title", "recent", "title"] in way
    assert ["recent", "title", "venues", "venue"] not in way
    plain = line.answer("columns", on=False)
    assert {x for _, _, x, _ in plain["edges"]} == {""} and high > plain["nodes"][0]["box"][3]


@given(
    st.lists(
        st.tuples(
            st.integers(0, 5),
            st.sampled_from("ab"),
            st.integers(0, 5),
            st.sampled_from("ab"),
            st.booleans(),
        ),
        max_size=20,
    ),
    st.integers(0, 5),
)
def test_a_way_is_every_column_from_which_or_to_which_edges_lead(edges, at):
    edges = [e for e in edges if e[0] < e[2]]
    graph = networkx.DiGraph([((a, x), (b, y)) for a, x, b, y, _ in edges])
    graph.add_node((at, "a"))
    wanted = (
        networkx.ancestors(graph, (at, "a")) | networkx.descendants(graph, (at, "a")) | {(at, "a")}
    )
    steps = trace_column(edges, (at, "a"))
    assert {end for step in steps for end in step} | {(at, "a")} == wanted


def test_recompute_from_the_panel_makes_the_table_true_and_tells_the_page(ws, told, edited):
    edited()
    panel = LineageGraph(ws)
    line = told(panel)
    assert line.act("recompute", "recent")["body"]["lines"] == ["recent: computed"]
    assert isinstance(ws.staleness("recent"), Fresh)
    changed = [m for m in line.messages if m["kind"] == "changed"][-1]["body"]
    assert "fresh" in titles(changed)["recent"]


def test_verify_what_if_and_preview_answer_without_changing_anything(ws, told):
    line = told(LineageGraph(ws))
    assert line.act("verify", "recent")["body"]["lines"] == ["match"]
    assert set(line.act("what-if", "papers")["body"]["names"]) == {
        "recent",
        "venues",
        "noted",
        "summary",
    }
    found = line.act("preview", "papers")["body"]
    assert found["columns"] == ["id", "title", "year", "venue"] and found["rows"][0] == [
        "1",
        "a",
        "2020",
        "X",
    ]
    assert len(ws.tables()) == 4


def test_a_preview_is_offered_where_there_are_rows_and_gives_them(ws, told, tmp_path):
    ws.mutable.create("labels", {"id": "int64"}, primary_key=["id"]).insert([{"id": 7}])
    ws.topics.register("events", {"a": "int64"})
    ws.topics.publish("events", [{"a": 5}])
    ws.sources.add("crm", database(tmp_path))
    ws.materialize(
        "all",
        "SELECT now() AS t, 0.1e0 + 0.2e0 AS d, l.id, e.a, p.name FROM mutable.labels l, topics.events e, crm.people p",
    )
    line = told(LineageGraph(ws))
    for node, first in (("labels", "7"), ("events", "5"), ("crm.people", "Ann")):
        known = line.answer("details", node=node)
        assert known["actions"] == ["what-if", "preview"] and known["columns"]
        assert line.act("preview", node)["body"]["rows"][0][0] == first
    shown = line.act("preview", "all")["body"]["rows"][0]
    assert shown[1:] == ["0.3", "7", "5", "Ann"]  # as people write them
    assert line.answer("details", node="now()")["actions"] == ["what-if"]
    assert line.act("preview", "now()")["kind"] == "failed"


def test_a_table_that_was_dropped_meanwhile_is_a_word_and_no_crash(ws, told):
    line = told(LineageGraph(ws))
    ws.drop("summary")
    ended = line.act("recompute", "summary")
    assert ended["kind"] == "failed" and "summary" in ended["lines"][0]
    assert "summary" not in names(line.answer("refresh"))


def test_a_panel_sees_what_the_tenant_saw_who_made_it(ws, told):
    with ws.tenant("acme"):
        ws.materialize("secret", "SELECT title FROM papers")
        panel = LineageGraph(ws, columns=True)
    line = told(panel)
    panel.filter = "secret"
    assert ["title"] in [
        node["columns"] for node in line.messages[-1]["body"]["nodes"] if node["id"] == "secret"
    ]
    panel.filter = ""
    assert "secret" in names(line.answer("refresh"))
    assert "secret" not in names(told(LineageGraph(ws)).answer("open"))


def test_a_source_that_is_called_like_a_recipe_has_an_id_of_its_own(ws, told):
    ws.materialize("papers", "SELECT * FROM notes")
    ws.materialize("both", "SELECT * FROM jammi.papers")
    body = told(LineageGraph(ws)).answer("open")
    assert {"papers", "source:papers"} <= names(body)


def test_of_too_many_nodes_those_near_what_is_not_fresh_and_the_chosen_ones_are_drawn(ws, told):
    tables = {f"t{i}": PossiblyStale([]) if i == 4_003 else Fresh() for i in range(10_000)}
    panel = lineage_of(ws, tables, 1_000)
    line = told(panel)
    body = line.answer("open")
    assert body["shown"] == 10_000 and len(body["nodes"]) == 300
    assert {"t4003", "t3003", "t5003", "t9003"} <= names(body) and "t977" not in names(body)
    panel.selection = ["t4007"]
    body = line.messages[-1]["body"]
    assert {"t4003", "t4007", "t3007", "t5007"} <= names(body) and len(body["nodes"]) < 310
    panel.selection, panel.filter = [], "t977"
    body = line.messages[-1]["body"]
    assert {"t977", "t1977"} <= names(body) and body["shown"] == len(body["nodes"]) < 50


def test_a_saved_lineage_and_a_saved_board_mark_what_is_held(ws):
    ws.hold("venues", note="checked by hand")
    panel, plain, board = LineageGraph(ws), ws.lineage(), StalenessBoard(ws)
    for shown in (panel.saved_as(), Rendered(plain._repr_html_(), str(plain))):
        picture = base64.b64decode(re.search('base64,([^"]*)', shown.html)[1]).decode()
        assert picture.count("‖") == 1
        assert "checked by hand. A recompute of everything leaves it as it is" in picture
        [line] = [line for line in shown.text.splitlines() if "checked by hand" in line]
        assert "venues (" in line and "held since" in line
    assert board.saved_as().html.count("checked by hand") == 1
    assert "checked by hand" in str(board)
    ws.unhold("venues")
    assert "held" not in str(StalenessBoard(ws)) + str(LineageGraph(ws)) + str(ws.lineage())


def test_what_changed_is_marked_with_how_much_and_when(ws, told, papers):
    ws.materialize("many", "SELECT range AS n FROM range(3)")
    ws.materialize("sum_of_many", "SELECT sum(n) AS n FROM jammi.many")
    ws.materialize("many", "SELECT range AS n FROM range(4)")
    papers.write_text(papers.read_text() + "4,d,2023,Z\n")
    line = told(panel := LineageGraph(ws))
    body = line.answer("open")
    changed = {
        n: said.split("changed: ")[1] for n, said in titles(body).items() if "changed: " in said
    }
    assert changed == {"papers": "3 → 4 rows", "many": "version 1 → 2, 3 → 4 rows"}
    assert ("changed", 2, "Δ") in [entry[:3] for entry in body["legend"]]
    [known] = line.answer("details", node="many")["changes"]
    assert known.startswith("many changed, version 1 → 2, 3 → 4 rows (read 20")
    assert known.endswith(", columns read: n; read by sum_of_many") and ", seen 20" in known
    panel.filter = "changed"
    assert {"many", "papers"} <= names(panel._body())
    picture = base64.b64decode(
        re.search('base64,([^"]*)', panel._repr_mimebundle_()[0]["text/html"])[1]
    ).decode()
    assert "Δ version 1 → 2, 3 → 4 rows" in picture and "#ff9340" in picture
    for number in range(7):
        ws.materialize(f"sum_{number}", "SELECT sum(n) AS n FROM jammi.many")
    ws.materialize("many", "SELECT range AS n FROM range(5)")
    line.ask("refresh")
    changes = line.answer("details", node="many")["changes"]
    assert any(each.endswith(" and 2 more") and each.count("sum_") == 5 for each in changes)


def test_the_drawing_is_exported_as_svg_and_as_mermaid_in_the_colours_of_the_verdicts(
    ws, told, edited
):
    edited()
    line = told(panel := LineageGraph(ws, "venues"))
    picture = line.answer("export", form="svg")["text"]
    assert ElementTree.fromstring(picture).tag.endswith("svg") and "#ff9340" in picture
    chart = line.answer("export", form="mermaid")["text"]
    assert '["● recent"]:::stale' in chart and "classDef stale fill:#ff9340" in chart
    assert (panel.to_svg(), panel.to_mermaid()) == (picture, chart)
    [source] = [n for n, said in titles(line.answer("open")).items() if "changed: " in said]
    [at] = re.findall(rf'n(\d+)\[\("{source}<br>Δ [^"]*"\)\]', chart)
    assert re.findall(r"style n(\d+) stroke:#e4572e", chart) == [at]


def test_an_empty_workspace_is_an_empty_panel(tmp_path, told):
    with jl.open(tmp_path / "empty") as ws:
        panel = LineageGraph(ws)
        body = told(panel).answer("open")
        assert (body["nodes"], body["total"]) == ([], 0)
        assert repr(panel) == "No lineage yet."


def test_checks_are_marks_on_their_nodes_and_open_with_the_failing_rows(ws, told):
    ws.checks.add("few", jl.checks.row_count(max=0), on="recent", severity="warn")
    ws.checks.add("some", jl.checks.row_count(min=1), on="recent")
    ws.check()
    line = told(panel := LineageGraph(ws))
    nodes = titles(line.answer("open"))
    checks = {n: said.split("checks: ")[1] for n, said in nodes.items() if "checks: " in said}
    assert checks == {"recent": "1 of 2 fails"}
    ws.hold("venues", note="checked by hand")
    panel.refresh()
    for word, sign, marked in (("checked", "✕", {"recent"}), ("held", "‖", {"venues"})):
        panel.filter = word
        body = line.answer("open")
        assert marked <= names(body) < set(nodes)
        assert (word, len(marked), sign) in [entry[:3] for entry in body["legend"]]
    checks = {c["name"]: c for c in line.answer("details", node="recent")["checks"]}
    few, some = checks["few"], checks["some"]
    assert (few["outcome"], few["severity"]) == ("fail", "warn")
    assert few["said"] == "the table has at most 0 rows: 1 row fails"
    assert (few["columns"], few["rows"]) == (["row_count"], [["2"]])
    assert some["columns"] == [] and some["outcome"] == "pass"
    assert "recent (sql, version 1): fresh, checks: 1 of 2 fails" in repr(LineageGraph(ws))
    ws.materialize("years", "SELECT 2020 AS year")
    ws.checks.add("known", jl.checks.references("year", "jammi.years"), on="recent")
    ws.check()
    ws.materialize("years", "SELECT 2021 AS year")
    checks = {c["name"]: c for c in line.answer("details", node="recent")["checks"]}
    assert "stale: years changed" in checks["known"]["previous"]
    assert line.answer("details", node="papers")["checks"] == []
