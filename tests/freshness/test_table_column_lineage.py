"""Column lineage: which columns each column of a table rests on, and that none is left out."""

import base64
import copy
import re
import sys
import xml.etree.ElementTree as ET
from collections import Counter

import duckdb
import pyarrow as pa
import pytest

import jammi_lab as jl
from jammi_lab.catalog.observations import COLUMN_LINEAGE_KIND
from jammi_lab.features.pictures.column_svg import column_lineage_svg
from jammi_lab.features.pictures.lineage_svg import MAX_COLUMNS
from jammi_lab.freshness.lineage import Node
from jammi_lab.freshness.node_states import NodeStates
from jammi_lab.freshness.table_column_lineage import ColumnEdge
from jammi_lab.storage.digests import observation_key
from jammi_lab.store import manifests
from tests.cases import lines
from tests.freshness.lab import Lab
from tests.inside import record_of, services_of

STATEMENTS = lines("columns/statements.sql")
A = {"id": [1, 2, 3, 4], "grp": ["x", "y", "x", None], "n": [5, 3, 3, 8], "w": [0.5, 1.5, 2.5, 0.5]}
B = {"id": [1, 2, 2, 5], "tag": ["p", "q", "r", "p"], "m": [7, 1, 2, 2]}
OTHER = {
    "id": [3, 1, 4, 2],
    "grp": ["y", "y", None, "x"],
    "n": [1, 9, 5, 4],
    "w": [9.5, 3.5, 0.5, 7.5],
    "tag": ["r", "p", "p", "q"],
    "m": [4, 4, 9, 0],
}


def edges(lab: Lab, name: str) -> set[tuple[str, str, str]]:
    return {
        (f"{e.input}.{e.input_column}", e.derived_column, "direct" if e.direct else "rows")
        for e in lab.lineage(name, columns=True).column_edges
    }


def columns(con: duckdb.DuckDBPyConnection, sql: str) -> list[Counter[str]]:
    """The values of each column, in no order."""
    found = con.execute(sql)
    rows = found.fetchall()
    return [Counter(repr(row[at]) for row in rows) for at in range(len(found.description))]


@pytest.fixture
def two(lab: Lab) -> Lab:
    lab.parquet("a", **A)
    lab.parquet("b", **B)
    return lab


@pytest.mark.parametrize("sql", STATEMENTS)
def test_a_column_that_no_edge_leads_from_changes_nothing(two, sql):
    """Every column of every input is replaced by other values in turn: only columns that an edge
    leads to may come out different."""
    two.materialize("t", sql)
    known = {
        (e.input, e.input_column, e.derived_column)
        for e in two.lineage("t", columns=True).column_edges
    }
    output = two.table("t").read().columns
    with duckdb.connect() as con:
        con.register("a", pa.table(A))
        con.register("b", pa.table(B))
        before = columns(con, sql)
        for source, frame in (("a", A), ("b", B)):
            for changed in frame:
                con.register(source, pa.table({**frame, changed: OTHER[changed]}))
                moved = {
                    c
                    for c, was, now in zip(output, before, columns(con, sql), strict=True)
                    if was != now
                }
                assert not [c for c in moved if (source, changed, c) not in known], (
                    f"{source}.{changed} changes more than its edges say"
                )
            con.register(source, pa.table(frame))


def test_there_are_enough_statements():
    assert len(STATEMENTS) >= 25


def test_values_are_told_from_what_filters_and_groups(papers):
    assert edges(papers, "titles") == {
        ("papers.id", "id", "direct"),
        ("papers.title", "title", "direct"),
        ("papers.year", "id", "rows"),
        ("papers.year", "title", "rows"),
        ("titles.id", "id", "direct"),
    }
    papers.materialize(
        "years",
        "SELECT year, count(*) AS n, max(title) AS t FROM papers GROUP BY year HAVING count(*) > 0",
    )
    own = edges(papers, "years")
    assert {
        ("papers.year", "year", "direct"),
        ("papers.year", "n", "rows"),
        ("papers.title", "t", "direct"),
        ("papers.year", "t", "rows"),
    } <= own


EDGES = {
    "SELECT n, id FROM a WHERE n > 3": {("a.n", "n", "direct"), ("a.n", "id", "rows"), ("a.id", "id", "direct")},
    "SELECT a.grp, b.m AS most FROM a JOIN b ON a.id = b.id": {
        ("a.grp", "grp", "direct"), ("b.m", "most", "direct"),
        *((f"{side}.id", column, "rows") for side in "ab" for column in ("grp", "most")),
    },
    "SELECT * FROM a": {(f"a.{column}", column, "direct") for column in A},
    "SELECT id, grp FROM a UNION ALL SELECT m, tag FROM b": {
        ("a.id", "id", "direct"), ("b.m", "id", "direct"), ("a.grp", "grp", "direct"), ("b.tag", "grp", "direct"),
    },
    "SELECT count(*) AS n FROM a": set(),
    "SELECT id + 1 AS id FROM a WHERE n > $least": {("a.id", "id", "direct"), ("a.n", "id", "rows")},
}  # fmt: skip


@pytest.mark.every_case
@pytest.mark.parametrize("sql", EDGES)
def test_the_edges_of_a_statement_are_these_and_no_others(two, sql):
    two.materialize("t", sql, params={"least": 2} if "$least" in sql else None)
    assert edges(two, "t") == EDGES[sql]


def test_a_statement_that_no_longer_binds_keeps_every_column_it_read(papers):
    papers.csv("papers", "id,name,year", "1,G,2020")
    assert {e[:2] for e in edges(papers, "titles")} == {
        (f"papers.{c}", d) for c in ("id", "title", "year") for d in ("id", "title")
    } | {("titles.id", "id")}


def test_it_is_asked_once_and_survives_a_restart(papers, monkeypatch):
    before = edges(papers, "titles")
    papers.reopen()
    monkeypatch.setattr(
        "jammi_lab.freshness.table_column_lineage.column_reads",
        lambda _: pytest.fail("asked again"),
    )
    assert edges(papers, "titles") == before


def test_the_relation_and_the_verb_say_the_same(papers):
    rows = papers.sql("SELECT * FROM jammi_catalog.column_lineage").fetchall()
    found = papers.lineage(columns=True).column_edges
    assert sorted(rows) == sorted(
        (e.input, e.input_column, e.derived, e.derived_column) for e in found
    )
    assert ("papers", "year", "titles", "id") in rows


def test_directions_and_depth_bound_the_columns_too(papers):
    found = papers.lineage("titles", direction="down", columns=True)
    assert {(e.input, e.derived) for e in found.column_edges} == {("titles", "first")}
    assert papers.lineage("titles").column_edges == []


# -- shown -----------------------------------------------------------------------------------------


def texts(html: str) -> list[str]:
    svg = ET.fromstring(base64.b64decode(re.search('base64,([^"]*)', html)[1]))
    return ["".join(t.itertext()) for t in svg.iter("{http://www.w3.org/2000/svg}text")]


def test_the_text_lists_what_each_column_is_made_from(papers):
    assert repr(papers.lineage("titles", direction="up", columns=True)).split("\n") == [
        "titles (sql, version 1): fresh",
        "  id    ← papers.id, by papers.year",
        "  title ← papers.title, by papers.year",
    ]


def test_the_picture_has_a_line_for_every_column(papers):
    html = papers.lineage("titles", direction="up", columns=True)._repr_html_()
    assert {"papers", "source", "titles", "sql, version 1", "id", "title", "year"} <= set(
        texts(html)
    )
    assert "papers.year" in html  # the words for those who do not see it


def test_what_would_not_be_readable_is_folded():
    nodes = [Node("source", "wide"), Node("sql", "narrow", 1)]
    found = [ColumnEdge("wide", f"c{i:02d}", "narrow", "x") for i in range(40)]
    shown = texts(column_lineage_svg(nodes, found, NodeStates()).html)
    assert len([t for t in shown if t.startswith("c")]) == MAX_COLUMNS - 1
    assert "… 27 more columns" in shown


def test_hostile_names_do_no_harm():
    nodes = [Node("source", "<b>&\n"), Node("sql", 'x"', 1)]
    form = column_lineage_svg(
        nodes, [ColumnEdge("<b>&\n", "<script>", 'x"', "\u202ey")], NodeStates()
    )
    assert "<script>" in texts(form.html) and "<script>" not in form.html
    assert "\n<" not in form.text and "\u202e" not in form.text


# -- as a graph of networkx ------------------------------------------------------------------------


def test_networkx_gets_nodes_and_edges_by_name(papers):
    papers.materialize("papers", "SELECT id FROM papers")
    graph = papers.lineage().to_networkx()
    assert set(graph.successors("titles")) == {"first"}
    assert graph.nodes["titles"] == {"kind": "sql", "version": 1}
    assert graph.nodes["source:papers"] == {"kind": "source", "version": None}
    assert {edge: graph.edges[edge] for edge in graph.edges} == {
        ("source:papers", "papers"): {"kind": "source_version"},
        ("source:papers", "titles"): {"kind": "source_version"},
        ("titles", "first"): {"kind": "result_digest"},
    }


def test_without_networkx_the_error_says_what_to_do(papers, monkeypatch):
    monkeypatch.setitem(sys.modules, "networkx", None)
    with pytest.raises(jl.ExtensionMissing) as missing:
        papers.lineage().to_networkx()
    assert "jammi-lab[networkx]" in str(missing.value)


def test_a_flowchart_keeps_a_source_and_a_recipe_of_one_name_apart(papers):
    papers.materialize("papers", "SELECT id FROM papers")
    chart = papers.lineage("papers", direction="up").to_mermaid()
    assert chart.split("\n") == [
        "flowchart LR",
        '  n0[("papers")]',
        '  n1["✓ papers"]:::fresh',
        "  n0 --> n1",
        "  classDef fresh fill:#35664f,color:#fff",
    ]


def test_a_wide_table_has_the_edges_of_each_column(lab):
    frame = pa.table({f"c{number}": [number] for number in range(120)})
    lab.sources.add("wide", frame)
    lab.materialize("t", "SELECT *, c1 + c2 AS total FROM wide WHERE c3 > 0 ORDER BY c4")
    found: dict[str, dict[str, bool]] = {}
    for edge in lab.lineage("t", columns=True).column_edges:
        found.setdefault(edge.derived_column, {})[edge.input_column] = edge.direct
    # c3 decides which rows there are; c4, which only orders them, is told of every column
    others = {"c3": False, "c4": False}
    assert found == {
        **{f"c{number}": {**others, f"c{number}": True} for number in range(120)},
        "total": {**others, "c1": True, "c2": True},
    }


def test_a_table_of_many_columns_has_no_column_lineage(lab):
    """Bound one by one they took minutes."""
    lab.sources.add("wide", pa.table({f"c{number}": [number] for number in range(300)}))
    lab.materialize("t", "SELECT * FROM wide")
    lab.materialize("u", "SELECT c1, c2 FROM jammi.t")
    edges = lab.lineage("u", columns=True).column_edges
    assert {(e.input, e.input_column, e.derived_column) for e in edges} == {
        ("t", "c1", "c1"),
        ("t", "c2", "c2"),
    }


def altered(value):
    """A JSON value with one of its texts replaced, for each of them."""
    if isinstance(value, str):
        yield "no such column"
    elif isinstance(value, dict | list):
        for place in value if isinstance(value, dict) else range(len(value)):
            for other in altered(value[place]):
                changed = copy.copy(value)
                changed[place] = other
                yield changed


def test_an_altered_definition_that_names_other_columns_has_some_edges(ws, monkeypatch):
    rows = pa.table({"id": [1, 2], "at": [1, 2], "text": ["a fox", "a whale"]})
    ws.sources.add("rows", rows)
    ws.asof_join(
        "joined", "rows", "rows", spine_time="at", facts_time="at", by="id", project=["text"]
    )
    ws.embed("vectors", "rows", key="id", text="text", model="hashing")
    ws.map(
        "mapped",
        lambda text: len(text),
        "rows",
        key="id",
        inputs=["text"],
        schema={"n": "bigint"},
        version="1",
    )
    ws.compute("passed", lambda rows: rows.arrow(), inputs=["rows"], version="1")
    parse = manifests.parse
    for name in ("joined", "vectors", "mapped", "passed"):
        for descriptor in altered(ws.table(name).manifest.descriptor):
            monkeypatch.setattr(
                manifests, "parse", lambda body, d=descriptor: parse(body).with_values(descriptor=d)
            )
            services_of(ws).observation_cache.discard(
                [observation_key(COLUMN_LINEAGE_KIND, record_of(ws.table(name)).table_name)]
            )
            assert ws.lineage(name, columns=True).column_edges
            monkeypatch.undo()
