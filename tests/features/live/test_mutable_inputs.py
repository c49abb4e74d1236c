"""A mutable table as an input: its readers go stale exactly when a commit happened, whoever made
it, and never look fresh when they are not."""

import datetime
import shutil

import pyarrow as pa
import pytest

import jammi_lab as jl
from jammi_lab.core.verdicts import Fresh, InputAdvanced, InputVanished, PossiblyStale, Stale
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


def test_the_anchor_is_of_the_kind_of_a_version_and_names_the_table(lab):
    [anchor] = lab.table("counted").manifest.anchors
    assert (anchor.input.kind, anchor.input.name, anchor.kind, anchor.version) == (
        "mutable",
        "labels",
        "mutable_version",
        1,
    )
    assert lab.sql("SELECT input, input_kind, kind FROM jammi_catalog.anchors").fetchall() == [
        ("labels", "mutable", "mutable_version")
    ]
    assert lab.sql("SELECT input, derived, kind FROM jammi_catalog.lineage").fetchall() == [
        ("labels", "counted", "mutable_version")
    ]


@pytest.mark.parametrize(
    "change",
    [
        "INSERT INTO mutable.labels VALUES (3, 'c')",
        "UPDATE mutable.labels SET label = 'x' WHERE id = 1",
        "DELETE FROM mutable.labels WHERE id = 2",
    ],
)
def test_a_commit_makes_a_reader_stale_and_recomputing_makes_it_fresh(lab, change):
    assert lab.staleness("counted") == Fresh()
    lab.sql(change)
    verdict = lab.staleness("counted")
    assert isinstance(verdict, Stale) and isinstance(verdict.reasons[0], InputAdvanced)
    assert (verdict.reasons[0].recorded.version, verdict.reasons[0].current.version) == (1, 2)
    assert [step.name for step in lab.plan().certain] == ["counted"]
    assert lab.recompute("counted").executed == ["counted"] and lab.staleness("counted") == Fresh()


def anchors(ws, statement):
    """The states of what a statement reads, as a result that is saved carries them."""
    result = ws.sql(statement)
    result.fetchall()
    return [(each.name, each.anchor) for each in result._stamp().sources]


def test_a_commit_after_a_restore_is_not_the_one_of_its_number_before(tmp_path):
    """A figure that was saved before a catalog was put back from a backup shows other rows."""
    folder, backup = tmp_path / "lab", tmp_path / "backup.sqlite3"
    with jl.open(folder) as ws:
        labels = ws.mutable.create("labels", SCHEMA, primary_key=["id"])
        labels.insert([{"id": 1, "label": "a"}])
        ws.topics.register("t", {"n": "int64"})
        ws.topics.publish("t", [{"n": 1}])
        ws.materialize("kept", "SELECT label, n FROM mutable.labels, topics.t")
        ws.backup(backup)
        labels.upsert([{"id": 1, "label": "before"}])
        ws.topics.publish("t", [{"n": 2}])
        read = ("SELECT label FROM mutable.labels", "SELECT n FROM topics.t")
        before = [anchors(ws, statement) for statement in read]
        assert before == [anchors(ws, statement) for statement in read]
    shutil.copy(backup, folder / "catalog.sqlite3")
    with jl.open(folder) as ws:
        assert ws.staleness("kept") == Fresh()
        labels = ws.mutable["labels"]
        labels.upsert([{"id": 1, "label": "after"}])
        ws.topics.publish("t", [{"n": 3}])
        assert labels.version == 2 and ws.staleness("kept") != Fresh()
        assert len(labels.changes(since=2)) == 0  # who had read version 2 has other rows
        after = [anchors(ws, statement) for statement in read]
        assert all(one != other for one, other in zip(before, after, strict=True))


def test_what_commits_nothing_leaves_a_reader_fresh(lab):
    lab.sql("UPDATE mutable.labels SET label = label")
    lab.sql("DELETE FROM mutable.labels WHERE false")
    lab.mutable["labels"].upsert([{"id": 1, "label": "a"}])
    with pytest.raises(jl.DuplicateKey):
        lab.mutable["labels"].insert([{"id": 1}])
    assert (
        lab.staleness("counted") == Fresh()
        and lab.materialize("counted", COUNTED).outcome == "reused"
    )


def test_a_change_and_its_undoing_are_two_commits(lab):
    lab.sql(
        "UPDATE mutable.labels SET label = 'x' WHERE id = 1; UPDATE mutable.labels SET label = 'a' WHERE id = 1"
    )
    assert isinstance(lab.staleness("counted"), Stale)


def test_a_commit_of_another_kernel_counts(lab, tmp_path):
    with jl.open(tmp_path / "lab") as other:
        other.mutable["labels"].insert([{"id": 9, "label": "z"}])
    assert isinstance(lab.staleness("counted"), Stale)


def test_a_dropped_table_has_vanished_and_one_made_again_is_another_one(lab):
    lab.mutable.drop("labels")
    verdict = lab.staleness("counted")
    assert isinstance(verdict, Stale) and isinstance(verdict.reasons[0], InputVanished)
    lab.mutable.create("labels", SCHEMA, primary_key=["id"]).insert(
        [{"id": 1, "label": "a"}, {"id": 2, "label": "b"}]
    )
    assert lab.mutable["labels"].version == 1 and isinstance(
        lab.staleness("counted"), Stale
    )  # the version is the same, the table is not
    assert lab.materialize("counted", COUNTED).outcome == "computed"


def test_it_travels_and_is_a_node_of_the_lineage(lab):
    lab.materialize("top", "SELECT max(n) AS n FROM jammi.counted")
    lab.mutable["labels"].delete("id = 1")
    verdict = lab.staleness("top")
    assert isinstance(verdict, PossiblyStale) and verdict.causes[0].path == ["counted"]
    assert [(e.input, e.derived) for e in lab.derives_from_closure("labels")] == [
        ("labels", "counted"),
        ("counted", "top"),
    ]
    assert "labels" in str(lab.lineage("top"))


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


def test_rows_of_a_table_come_in_one_order_whatever_led_there(lab, tmp_path):
    labels = lab.mutable["labels"]
    labels.insert([{"id": 0, "label": "0"}, {"id": -3, "label": "n"}])
    labels.delete("id = 1")
    labels.insert([{"id": 1, "label": "back"}])
    first = lab.materialize("some", "SELECT * FROM mutable.labels LIMIT 3")
    with jl.open(tmp_path / "lab") as other:
        again = other.materialize("again", "SELECT * FROM mutable.labels LIMIT 3", cache="bypass")
        assert again.read().arrow().to_pylist() == first.read().arrow().to_pylist() == [
            {"id": -3, "label": "n"}, {"id": 0, "label": "0"}, {"id": 1, "label": "back"},
        ]  # fmt: skip


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
