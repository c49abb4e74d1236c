"""Pipelines that are written down before anything of them is run."""

import inspect
import sys
from typing import Any

import pyarrow as pa
import pytest

import jammi_lab as jl


@pytest.fixture
def notes(ws: Any) -> Any:
    """The workspace with the frame `notes`."""
    texts = {"id": [1, 2, 3], "text": ["red apple", "red pear", "blue sky"], "moment": [10, 20, 30]}
    ws.sources.add("notes", pa.table(texts))
    return ws


def test_a_statement_reads_a_recipe_that_has_no_version(notes):
    notes.define("lower", "SELECT id, moment FROM notes")
    notes.define("upper", "SELECT count(*) AS n, max(moment) AS last FROM jammi.lower")
    assert notes.recipe("upper").newest_version is None and notes.tables() == []
    with pytest.raises(jl.TableNotFound, match=r"'lower' has no ready version yet"):
        notes.sql("FROM jammi.lower")
    assert [(step.name, step.action) for step in notes.plan().certain] == [
        ("lower", "recompute"),
        ("upper", "recompute"),
    ]
    assert [(step.name, step.outcome) for step in notes.recompute().steps] == [
        ("lower", "computed"),
        ("upper", "computed"),
    ]
    assert notes.table("upper").read().fetchall() == [(3, 30)]


def length_of(text: str, factor: int = 1) -> dict[str, int]:
    return {"length": factor * len(text)}


def all_rows(rows: Any) -> Any:
    return rows.arrow()


def test_every_recipe_value_reads_recipes_that_have_no_version(notes):
    notes.define("texts", "SELECT * FROM notes")
    notes.define("vectors", jl.Embedding("texts", key="id", text="text", model="hashing"))
    notes.define("words", jl.Lexical("texts", key="id", text="text"))
    notes.define("graph", jl.NeighborGraph("vectors", k=1))
    notes.define("smooth", jl.Propagation("vectors", "graph", output="concat"))
    members = "SELECT src AS target, dst AS member FROM jammi.graph"
    notes.define("context", jl.ContextSet("smooth", members=members))
    notes.define("points", jl.Projection("context"))
    notes.define(
        "joined",
        jl.AsofJoin("texts", "texts", spine_time="moment", facts_time="moment", by=["id"]),
    )
    notes.define(
        "lengths",
        jl.RowMap(
            length_of,
            over="joined",
            key="id",
            inputs=["text"],
            schema={"length": "bigint"},
            on_error="record",
        ),
    )
    notes.define("step", jl.PythonStep(all_rows, inputs=["lengths"]))
    notes.define(
        "top",
        "SELECT l.id, l.length, l._error, p.x IS NULL AS lost, j.text_facts, w.length AS terms "
        "FROM jammi.lengths l JOIN jammi.points p ON p.key = l.id "
        "JOIN jammi.joined j ON j.id = l.id JOIN jammi.words w ON w.key = l.id",
    )
    before = {recipe.name: recipe.definition_hash for recipe in notes.recipes()}
    assert {step.outcome for step in notes.recompute().steps} == {"computed"}
    assert notes.table("top").read().fetchall() == [
        (1, 9, None, False, "red apple", 2),
        (2, 8, None, False, "red pear", 2),
        (3, 8, None, False, "blue sky", 2),
    ]
    assert notes.table("smooth").dimensions == 768
    # what was bound on definitions is what is bound on tables
    assert {recipe.name: recipe.definition_hash for recipe in notes.recipes()} == before
    assert all(isinstance(row.verdict, jl.Fresh) for row in notes.status())


def test_a_statement_reads_the_columns_of_a_recipe_as_it_is_defined_now(notes):
    notes.materialize("lower", "SELECT id AS old FROM notes")
    notes.materialize("middle", "SELECT * FROM jammi.lower")
    notes.define("lower", "SELECT id, text FROM notes")
    for name in ("lower", "middle"):
        with pytest.raises(jl.SqlError, match="old"):
            notes.define("upper", f"SELECT max(old) FROM jammi.{name}")
        notes.define("upper", f"SELECT max(id) AS n FROM jammi.{name}")
    notes.define("words", jl.Lexical("middle", key="id", text="text"))
    assert {step.outcome for step in notes.recompute(["upper", "words"]).steps} == {"computed"}
    assert notes.table("upper").read().fetchall() == [(3,)]
    notes.define("lower", "SELECT id AS other FROM notes")
    notes.materialize("upper", "SELECT max(other) AS n FROM jammi.middle", refresh="inputs")
    assert notes.table("upper").read().fetchall() == [(3,)]


def test_of_a_redefined_step_the_newest_version_tells_the_columns(notes):
    notes.compute("lower", all_rows, inputs=["notes"])
    notes.define("lower", jl.PythonStep(lambda rows: rows.arrow(), inputs=["notes"], version="2"))
    notes.define("upper", "SELECT max(id) AS n FROM jammi.lower")
    with pytest.raises(jl.SqlError, match="nowhere"):
        notes.define("other", "SELECT max(nowhere) AS n FROM jammi.lower")
    assert "other" not in [row.name for row in notes.status()]


def test_types_of_columns_are_those_that_are_stored(notes):
    notes.define(
        "lower",
        "SELECT id::HUGEINT AS h, NULL AS nothing, 'x'::ENUM('x', 'y') AS e, "
        "TIMESTAMP_S '2020-01-01 00:00:00' AS s, [id] AS list FROM notes",
    )
    notes.define("upper", "SELECT * FROM jammi.lower")
    planned = notes.recipe("upper").definition_hash
    notes.recompute()
    assert notes.recipe("upper").definition_hash == planned


@pytest.mark.parametrize(
    ("recipe", "kind"),
    [
        (jl.PythonStep(all_rows, inputs=["notes"]), "it is a Python step"),
        (
            jl.RowMap(length_of, over="notes", key="id", inputs=["text"]),
            "it is a row map without schema=",
        ),
    ],
)
def test_a_recipe_whose_columns_are_not_known_is_named(notes, recipe, kind):
    notes.define("lower", recipe)
    with pytest.raises(jl.TableNotFound, match=f"columns of 'lower' .*{kind}"):
        notes.define("upper", "SELECT * FROM jammi.lower")
    assert "upper" not in [recipe.name for recipe in notes.recipes()]


def test_inputs_without_a_version_are_computed_first(notes):
    notes.define("lower", "SELECT id, moment FROM notes")
    notes.define("middle", "SELECT moment FROM jammi.lower WHERE id > 1")
    with pytest.raises(jl.TableNotFound, match="'middle' has no ready version"):
        notes.materialize("upper", "SELECT sum(moment) AS s FROM jammi.middle")
    made = notes.materialize("upper", "SELECT sum(moment) AS s FROM jammi.middle", refresh="inputs")
    assert made.read().fetchall() == [(50,)]
    assert [notes.recipe(name).newest_version for name in ("lower", "middle")] == [1, 1]
    notes.define("vectors", jl.Embedding("notes", key="id", text="text", model="hashing"))
    assert notes.neighbor_graph("graph", "vectors", k=1, refresh="inputs").row_count == 3
    notes.define("base", "SELECT 1 AS one")
    frame = pa.table({"a": [1]})
    assert notes.register("given", frame, inputs=["base"], producer="job", refresh="inputs")
    assert notes.recipe("base").newest_version == 1


def test_an_input_that_cannot_be_computed_is_told(notes):
    notes.define("lower", "SELECT (1 / id)::INTEGER AS i, error('no') AS e FROM notes")
    with pytest.raises(jl.JammiError, match="'lower' could not be updated"):
        notes.materialize("upper", "SELECT i FROM jammi.lower", refresh="inputs")
    assert "upper" not in [recipe.name for recipe in notes.recipes()]


def test_a_cycle_of_recipes_without_versions_is_refused(notes):
    notes.define("a", "SELECT id FROM notes")
    notes.define("b", "SELECT id FROM jammi.a")
    notes.define("c", "SELECT id FROM jammi.b")
    before = notes.recipe("a").definition_hash
    for statement in ("SELECT id FROM jammi.c", "SELECT id FROM jammi.a"):
        with pytest.raises(jl.DependencyCycle):
            notes.define("a", statement)
    with pytest.raises(jl.DependencyCycle):
        notes.materialize("a", "SELECT id FROM jammi.c", refresh="inputs")
    assert notes.recipe("a").definition_hash == before and notes.tables() == []


def test_an_alias_and_a_what_if_read_a_recipe_without_a_version(notes):
    notes.define("lower", "SELECT id FROM notes")
    notes.rename("lower", "base")
    notes.define("upper", "SELECT count(*) AS n FROM jammi.lower")
    notes.define("other", "SELECT 1 AS one")
    after = notes.what_if(redefine={"other": "SELECT max(id) AS m FROM jammi.base"})
    assert isinstance(after["other"].verdict, jl.Stale)
    assert [step.outcome for step in notes.recompute("upper").steps] == ["computed", "computed"]
    assert notes.table("upper").read().fetchall() == [(3,)]


def test_a_tenants_recipe_reads_a_shared_one_without_a_version(notes):
    notes.define("shared", "SELECT id FROM notes")
    with notes.tenant("acme"):
        notes.define("own", "SELECT max(id) AS m FROM jammi.shared")
    notes.recompute()
    with notes.tenant("acme"):
        notes.recompute()
        assert notes.table("own").read().fetchall() == [(3,)]


def test_a_chain_of_definitions_that_is_too_long_is_refused(ws):
    ws.define("t0", "SELECT 1 AS a")
    usual = sys.getrecursionlimit()
    try:
        sys.setrecursionlimit(len(inspect.stack(0)) + 300)
        with pytest.raises(jl.ResourceExhausted, match="rest on each other"):
            for number in range(1, 60):
                ws.define(f"t{number}", f"SELECT a FROM jammi.t{number - 1}")
    finally:
        sys.setrecursionlimit(usual)
    ws.recompute()
    assert ws.table("t1").read().fetchall() == [(1,)]
