"""A status evaluates what changed, and says what an evaluation of everything would say."""

import contextlib
import os
import sqlite3
from pathlib import Path

import duckdb
import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import jammi_lab as jl
from jammi_lab.catalog.connection import Statement
from jammi_lab.core.anchors import FileState, Snapshot
from jammi_lab.freshness import evaluated_graph, recipe_graph
from jammi_lab.storage.digests import NO_STAT, CacheEntry
from jammi_lab.store.manifests import manifest_path
from jammi_lab.store.result_files import cache_key
from tests.inside import record_of, services_of
from tests.services.servers import run_postgres
from tests.templates import Template


def build(folder):
    with jl.open(folder / "lab") as ws:
        for name in ("a", "b"):
            (folder / f"{name}.csv").write_text("x\n1\n2\n")
            ws.sources.add(name, folder / f"{name}.csv")
        ws.materialize("of_a", "SELECT x FROM a")
        ws.materialize("of_b", "SELECT x FROM b")
        ws.materialize("child", "SELECT sum(x) AS x FROM jammi.of_a")
        ws.materialize("both", "SELECT x FROM jammi.child UNION ALL SELECT x FROM jammi.of_b")


TEMPLATES = {"ws": Template(build)}


@pytest.fixture
def ws(tmp_path):
    with jl.open(tmp_path / "lab") as ws:
        ws.status()
        yield ws


@pytest.fixture
def evaluated(monkeypatch):
    """The number of tables that were evaluated since it was last emptied."""
    counted = []
    evaluate = evaluated_graph.evaluate_table

    def count(evidence, parents=None):
        if parents is None:
            counted.append(evidence.recorded)
            return evaluate(evidence)
        return evaluate(evidence, parents)

    monkeypatch.setattr(evaluated_graph, "evaluate_table", count)
    return counted


def _verdicts(ws):
    return {row.name: (row.version, str(row.verdict)) for row in ws.status()}


def test_a_second_status_of_unchanged_tables_reads_none_of_them_from_the_catalog(ws, monkeypatch):
    ws.status()
    asked, fetch = [], Statement.fetch

    def note(statement, tx, parameters):
        asked.append(statement.text)
        return fetch(statement, tx, parameters)

    monkeypatch.setattr(Statement, "fetch", note)
    assert {str(row.verdict) for row in ws.status()} == {"fresh"}
    assert not [text for text in asked if "result_tables" in text]


def test_a_status_of_unchanged_tables_evaluates_nothing(ws, evaluated):
    ws.status()
    assert evaluated == []


def test_a_status_that_notes_observations_does_not_read_the_recipes_again(ws, monkeypatch):
    recipes, read = services_of(ws).catalog.recipes, []
    monkeypatch.setattr(recipes, "list", lambda *names: read.append(1) or [])
    cache = services_of(ws).results.cache
    for _ in range(2):
        cache.put("key", CacheEntry(NO_STAT, 1, {}))
        assert len(ws.status()) == 4
    assert read == []


def test_a_changed_input_evaluates_its_readers_alone(ws, evaluated, tmp_path):
    (tmp_path / "b.csv").write_text("x\n3\n")
    verdicts = _verdicts(ws)
    assert len(evaluated) == 2
    assert "b changed" in verdicts["of_b"][1]
    assert "of_b" in verdicts["both"][1]


def test_a_new_table_leaves_the_others_unevaluated(ws, evaluated):
    ws.materialize("new", "SELECT x + 1 AS x FROM b")
    evaluated.clear()
    ws.status()
    assert evaluated == []


def test_a_table_without_a_short_way_is_evaluated(ws, evaluated):
    ws.materialize("of_version", f"SELECT x FROM jammi.{ws.table('of_b').table_name}")
    evaluated.clear()
    assert str(ws.status()["of_version"].verdict) == "fresh"
    assert evaluated


def _nothing(ws, folder: Path):
    pass


def _edit(ws, folder: Path):
    (folder / "a.csv").write_text("x\n5\n")


def _edit_and_undo(ws, folder: Path):
    _edit(ws, folder)
    ws.status()
    (folder / "a.csv").write_text("x\n1\n2\n")


def _recompute_a_parent(ws, folder: Path):
    _edit(ws, folder)
    ws.recompute("of_a")


def _redefine(ws, folder: Path):
    ws.define("of_a", "SELECT x + 1 AS x FROM a")


def _rename_and_take_the_name(ws, folder: Path):
    ws.rename("of_a", "moved")
    ws.status()
    ws.unalias("of_a")
    ws.materialize("of_a", "SELECT 7 AS x")


def _damage(ws, folder: Path):
    path = Path(ws.table("of_b").path)
    body = bytearray(path.read_bytes())
    body[len(body) // 2] ^= 1
    path.chmod(0o644)
    path.write_bytes(body)


def _remove_bytes(ws, folder: Path):
    os.remove(ws.table("child").path)


def _drop_a_parent(ws, folder: Path):
    ws.drop("of_b", force=True)


def _remove_a_source(ws, folder: Path):
    ws.sources.remove("a")


def _hide_by_a_tenant(ws, folder: Path):
    ws.bind_tenant("acme")
    ws.status()
    ws.materialize("of_a", "SELECT 9 AS x")


@pytest.mark.parametrize(
    "change",
    [
        _nothing,
        _edit,
        _edit_and_undo,
        _recompute_a_parent,
        _redefine,
        _rename_and_take_the_name,
        _damage,
        _remove_bytes,
        _drop_a_parent,
        _remove_a_source,
        _hide_by_a_tenant,
    ],
)
def test_a_status_says_what_an_evaluation_of_everything_says(ws, tmp_path, change, monkeypatch):
    ws.status()
    change(ws, tmp_path)
    repeated = _verdicts(ws)
    with jl.open(tmp_path / "lab", tenant=ws.current_tenant) as other:
        assert repeated == _verdicts(other)
    assert repeated == _verdicts(ws)
    evaluated = services_of(ws).evaluator.evaluate()
    monkeypatch.setattr(evaluated_graph.EvaluatedGraph, "_is_unchanged", lambda *_: False)
    in_full = services_of(ws).evaluator.evaluate()
    assert evaluated.verdicts == in_full.verdicts
    assert evaluated.own_verdicts == in_full.own_verdicts
    for node in in_full.graph.nodes.values():
        assert evaluated.states(evaluated.graph.nodes[node.key]) == in_full.states(node)


def _in_order(kind, folder, columns):
    """Write a table with these columns in this order, each with its own values."""
    rows = pa.table({name: [ord(name), 1] for name in columns})
    listed = ", ".join(f"{name} INTEGER" for name in columns)
    values = [tuple(row.values()) for row in rows.to_pylist()]
    if kind == "parquet":
        pq.write_table(rows, folder / "s.parquet")
    elif kind == "csv":
        lines = [",".join(columns), *(",".join(map(str, row)) for row in values)]
        (folder / "s.csv").write_text("\n".join([*lines, ""]))
    else:
        connect = sqlite3.connect if kind == "sqlite" else duckdb.connect
        with contextlib.closing(connect(folder / f"s.{kind}")) as database:
            database.execute("DROP TABLE IF EXISTS t")
            database.execute(f"CREATE TABLE t ({listed})")
            database.executemany(f"INSERT INTO t VALUES ({', '.join('?' * len(columns))})", values)
            database.commit()


@pytest.mark.every_case
@pytest.mark.parametrize("kind", ["parquet", "csv", "sqlite", "duckdb"])
def test_columns_that_changed_places_are_another_state(ws, tmp_path, kind):
    _in_order(kind, tmp_path, "abc")
    name = "s.t" if kind in ("sqlite", "duckdb") else "s"
    ws.sources.add("s", tmp_path / f"s.{kind}")
    ws.materialize("all", f"SELECT * FROM {name}")
    ws.status(deep=True)
    _in_order(kind, tmp_path, "acb")
    for _ in range(2):
        assert isinstance(ws.status(deep=True)["all"].verdict, jl.Stale)


@pytest.mark.services
def test_columns_of_a_server_that_changed_places_are_another_state(ws, fresh_postgres_url):
    """The digests of the rows are by the names of the columns."""
    run_postgres(
        fresh_postgres_url,
        "CREATE TABLE t (a integer, b integer DEFAULT 7, c integer)",
        "INSERT INTO t VALUES (1, 7, 2)",
    )
    ws.sources.add("s", fresh_postgres_url)
    ws.materialize("all", "SELECT * FROM s.t")
    ws.materialize("one", "SELECT a FROM s.t")
    ws.status(deep=True)
    run_postgres(
        fresh_postgres_url, "ALTER TABLE t DROP b", "ALTER TABLE t ADD b integer DEFAULT 7"
    )
    for _ in range(2):
        status = ws.status(deep=True)
        assert isinstance(status["all"].verdict, jl.Stale)
        assert isinstance(status["one"].verdict, jl.Fresh)


def test_equal_observations_have_their_columns_and_files_in_the_same_order():
    files = {"a": FileState(digest="1", rows=1), "b": FileState(digest="2", rows=1)}
    state = Snapshot(columns={"a": "INTEGER", "b": "INTEGER"}, whole="w", method="m", files=files)
    assert state == Snapshot(columns=dict(state.columns), whole="w", method="m", files=dict(files))
    for field in ("columns", "files"):
        turned = dict(reversed(getattr(state, field).items()))
        assert state != msgspec.structs.replace(state, **{field: turned})


def _say_other_bytes(ws, record):
    """What a deep check would note of bytes that changed under an equal stat."""
    cache = services_of(ws).results.cache
    seen = cache.get(cache_key(record))
    cache.put(cache_key(record), msgspec.structs.replace(seen, payload={"digest": "0" * 64}))


def _damage_and_say_nothing(ws, record):
    _damage(ws, Path())


def _edit_its_manifest(ws, record):
    manifest = manifest_path(Path(ws.table("of_b").path))
    manifest.chmod(0o644)
    manifest.write_text(manifest.read_text().replace('"recipe"', '"recipe" '))


def _remove_its_bytes(ws, record):
    os.remove(ws.table("of_b").path)


@pytest.mark.parametrize(
    "change", [_say_other_bytes, _damage_and_say_nothing, _edit_its_manifest, _remove_its_bytes]
)
def test_files_known_to_be_intact_are_so_until_their_stats_or_anybody_says_otherwise(
    ws, monkeypatch, change
):
    results, record = services_of(ws).results, record_of(ws.table("of_b"))
    monkeypatch.setattr(results, "racy_seconds", -1e6)  # as if all had been written long ago
    verdicts = [_verdicts(ws), _verdicts(ws)]
    node = services_of(ws).evaluator.evaluate().graph.find("of_b", None)
    assert verdicts[0] == verdicts[1] and results.are_known_intact(node.record)
    change(ws, record)
    assert not results.are_known_intact(node.record)
    assert _verdicts(ws)["of_b"][1].lower().startswith("damaged")


def test_a_state_with_something_to_say_is_evaluated(ws, monkeypatch):
    """As of an input whose content is known and whose rows cannot be read."""
    graph = services_of(ws).evaluator.evaluate()
    node = graph.graph.find("of_a", None)
    [read] = node.record.anchors
    state = Snapshot(
        columns=dict(zip(read.columns, read.types, strict=True)), whole="w", method="m"
    )
    for fault, expected in (("", True), ("no codec", False)):
        observed = msgspec.structs.replace(state, fault=fault)
        anchors = [state.anchor(read.input)]
        record = msgspec.structs.replace(node.record, anchors=anchors)
        monkeypatch.setattr(graph, "observe", lambda *_, observed=observed: observed)
        read_again = recipe_graph.RecipeNode("of_a", None, node.recipe, node.version, record)
        assert graph._is_unchanged(read_again, record.definition_hash) is expected
