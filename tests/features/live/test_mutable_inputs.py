"""A mutable table as an input: its readers go stale exactly when a commit happened, whoever made
it, and never look fresh when they are not."""

import datetime

import pyarrow as pa
import pytest

import jammi_lab as jl
from jammi_lab.core.verdicts import Fresh, Stale
from tests.inside import services_of

SCHEMA = {"id": "int64", "label": "string"}
COUNTED = "SELECT label, count(*) AS n FROM mutable.labels GROUP BY label"


@pytest.fixture
def lab(ws):
    ws.mutable.create("labels", SCHEMA, primary_key=["id"]).insert(
        [{"id": 1, "label": "a"}, {"id": 2, "label": "b"}]
    )
    ws.materialize("counted", COUNTED)
    return ws


def test_a_change_and_its_undoing_are_two_commits(lab):
    lab.sql(
        "UPDATE mutable.labels SET label = 'x' WHERE id = 1; UPDATE mutable.labels SET label = 'a' WHERE id = 1"
    )
    assert isinstance(lab.staleness("counted"), Stale)


def test_what_if_asks_about_a_table_that_is_read_and_one_that_is_not(lab):
    lab.mutable.create("unread", SCHEMA, primary_key=["id"])
    assert lab.what_if(changed=["labels"])["counted"].verdict != Fresh()
    assert (
        lab.what_if(changed=["unread"])["counted"].verdict == Fresh()
        and lab.staleness("counted") == Fresh()
    )
    with pytest.raises(jl.TableNotFound) as missing:
        lab.what_if(changed=["lables"])
    assert "labels" in missing.value.near


def test_a_statement_reads_one_snapshot_while_others_commit(lab):
    labels = lab.mutable["labels"]
    labels.insert(
        pa.table(
            {"id": pa.array(range(10, 100_010), pa.int64()), "label": pa.array(["x"] * 100_000)}
        )
    )
    result = lab.sql("SELECT id, label FROM mutable.labels")
    assert result.preview(5).num_rows == 5
    labels.delete("true")
    assert result.arrow().num_rows == 100_002 and len(labels) == 0


def test_what_is_built_while_the_table_moves_is_anchored_on_what_was_read(lab, monkeypatch):
    pump, moved = services_of(lab).engine.create_worker, []

    def late(*args, **options):
        if not moved:
            moved.append(lab.mutable["labels"].insert([{"id": 50, "label": "late"}]))
        return pump(*args, **options)

    monkeypatch.setattr(services_of(lab).engine, "create_worker", late)
    made = lab.materialize("built", "SELECT count(*) AS n FROM mutable.labels")
    [anchor] = made.manifest.anchors
    rows = {1: 2, 2: 3}[anchor.version]
    assert made.read().fetchall() == [(rows,)]
    assert isinstance(lab.staleness("built"), Fresh if anchor.version == 2 else Stale)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("int64", 3.5),
        ("date32[day]", datetime.datetime(2020, 1, 1, 5)),
        ("float", 1e300),
        ("timestamp[s]", datetime.datetime(2020, 1, 1, 0, 0, 0, 5)),
    ],
)
def test_a_value_that_the_type_would_change_is_refused_and_nothing_is_written(ws, kind, value):
    held = ws.mutable.create("m", {"id": "int64", "x": kind}, primary_key=["id"])
    with pytest.raises(jl.SchemaMismatch, match="Column 'x'"):
        held.insert([{"id": 1, "x": None}, {"id": 2, "x": value}])
    held.insert([{"id": 1, "x": None}])
    with pytest.raises(jl.SchemaMismatch, match="Column 'x'"):
        held.update({"x": value}, "id = 1")
    assert held.read().fetchall() == [(1, None)] and held.version == 1
    ws.topics.register("t", {"x": kind})
    with pytest.raises(jl.SchemaMismatch, match="Column 'x'"):
        ws.topics.publish("t", [{"x": value}])
    assert list(ws.topics.replay("t")) == []
