"""Recipes as values: `define` keeps one, `materialize` runs it, each verb is the latter."""

import dataclasses
import datetime
import json
import re

import pytest

import jammi_lab as jl


def test_a_value_compares_by_its_fields_and_cannot_be_changed():
    assert jl.NeighborGraph("v", k=3) == jl.NeighborGraph("v", k=3) != jl.NeighborGraph("v")
    with pytest.raises(dataclasses.FrozenInstanceError):
        jl.NeighborGraph("v").k = 5  # type: ignore[misc]


def test_a_value_takes_a_table_by_its_handle(ws):
    ws.materialize("docs", "SELECT range AS id, 'text ' || range AS text FROM range(4)", key="id")
    vectors = ws.embed("v", "jammi.docs", key="id", text="text", model="hashing")
    value = jl.NeighborGraph(vectors, k=1)
    assert value.to_dict()["table"] == "v"
    graph = ws.materialize("g", value)
    assert graph.outcome == "computed"
    assert ws.neighbor_graph("g", "v", k=1).outcome == "reused"


def test_what_a_value_holds_is_not_given_beside_it(ws):
    with pytest.raises(jl.InvalidArgument, match="apply to a SQL string only"):
        ws.materialize("one", jl.Sql("SELECT 1 AS x"), key="x")


def test_what_is_no_recipe_is_refused(ws):
    with pytest.raises(jl.InvalidArgument, match="got int"):
        ws.define("one", 1)


def test_a_name_where_none_belongs_is_told_the_verb_for_it(ws):
    for verb, hint in (
        ("status", "ws.staleness('name') == 'fresh'"),
        ("fsck", "ws.verify(name)"),
        ("recover", "ws.recompute(name)"),
        ("sessions", "Write ws.sessions()."),
    ):
        with pytest.raises(TypeError, match=re.escape(hint)):
            getattr(ws, verb)("papers")


def test_collections_are_called_and_indexed(ws):
    for name in ("sources", "models", "checks", "mutable", "topics", "recipes", "recordings"):
        collection = getattr(ws, name)
        assert type(collection()) is type(collection), name
    ws.define("later", "SELECT 1 AS a")
    assert ws.recipes("later").name == "later"
    with pytest.raises(jl.TableNotFound, match=r"ws\.sources\[name\]"):
        ws.recipes("papers")


@pytest.mark.parametrize(
    ("value", "expected", "sentence"),
    [
        (
            jl.Sql("SELECT $x AS x", {"x": 1}, key="x"),
            {"kind": "sql", "text": "SELECT $x AS x", "params": {"x": 1}, "key": "x"},
            "The rows of a SELECT statement: text 'SELECT $x AS x', params {'x': 1}, key 'x'.",
        ),
        (
            jl.NeighborGraph("v", k=3),
            {
                "kind": "neighbor_graph",
                "table": "v",
                "k": 3,
                "min_similarity": None,
                "mutual": False,
                "exact": None,
            },
            "The k most similar rows of each row of an embedding table: table 'v', k 3.",
        ),
        (
            jl.ContextSet("v", members="m"),
            {"kind": "context_set", "table": "v", "members": "m", "pool": "mean"},
            "One vector for each target, pooled from those of its members: table 'v', members 'm'.",
        ),
        (
            jl.PythonStep(dataclasses.replace, inputs=["a"], version="2"),
            {
                "kind": "python_step",
                "function": "replace",
                "inputs": ["a"],
                "params": None,
                "version": "2",
                "key": None,
            },
            "The rows that a Python function returns: function 'replace', inputs ['a'], version '2'.",
        ),
    ],
)
def test_a_value_has_a_dict_and_a_sentence(value, expected, sentence):
    assert value.to_dict() == expected and json.loads(json.dumps(value.to_dict())) == expected
    assert str(value) == sentence


def test_every_value_has_them():
    minute = datetime.timedelta(minutes=1)
    join = jl.AsofJoin("a", "b", spine_time="t", facts_time="u", by=["k"], tolerance=minute)
    assert join.to_dict()["kind"] == "asof_join" and join.to_dict()["tolerance"] == "0:01:00"
    row_map = jl.RowMap(len, "a", key="id", inputs="text", schema={"n": "bigint"})
    assert row_map.to_dict()["schema"] == {"n": "bigint"} and "function 'len'" in str(row_map)
