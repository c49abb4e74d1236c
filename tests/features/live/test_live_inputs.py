"""Topics and mutable tables as inputs: their readers go stale exactly when something was committed,
whoever did it, and never look fresh when they are not."""

import shutil
from types import SimpleNamespace

import pytest

import jammi_lab as jl
from jammi_lab.core.errors import TableNotFound
from jammi_lab.core.verdicts import Fresh, InputAdvanced, InputVanished, Stale

SCHEMA = {"n": "int64"}


def topic_of(ws):
    return SimpleNamespace(
        create=lambda: ws.topics.register("live", SCHEMA),
        write=lambda n: ws.topics.publish("live", [{"n": n}]),
        drop=lambda: ws.topics.drop("live"),
        relation="topics.live",
        edge=("live", "copy", "source_version"),
    )


def table_of(ws):
    return SimpleNamespace(
        create=lambda: ws.mutable.create("live", SCHEMA, primary_key=["n"]),
        write=lambda n: ws.mutable["live"].insert([{"n": n}]),
        drop=lambda: ws.mutable.drop("live"),
        relation="mutable.live",
        edge=("live", "copy", "mutable_version"),
    )


KINDS = pytest.mark.parametrize("live_of", [topic_of, table_of])


@pytest.fixture
def live(ws, live_of):
    made = live_of(ws)
    made.create()
    made.write(1)
    ws.materialize("copy", f"SELECT n FROM {made.relation}")
    return made


@KINDS
def test_it_is_the_beginning_of_the_lineage(ws, live):
    [anchor] = ws.table("copy").manifest.anchors
    kind = live.relation.partition(".")[0].removesuffix("s")
    assert (anchor.input.kind, anchor.input.name, anchor.kind) == (kind, "live", live.edge[2])
    edges = [(e.input, e.derived, e.kind) for e in ws.lineage("copy").edges]
    assert edges == [live.edge]
    assert ws.sql("SELECT input, derived, kind FROM jammi_catalog.lineage").fetchall() == edges
    assert [e.derived for e in ws.derives_from("live")] == ["copy"]


@KINDS
@pytest.mark.parametrize("by_another_kernel", [False, True])
def test_a_commit_makes_readers_stale_and_recompute_makes_them_fresh(
    ws, live, live_of, by_another_kernel
):
    assert ws.staleness("copy") == Fresh()
    with jl.open(ws.path) as other:
        live_of(other if by_another_kernel else ws).write(2)
        for each in (ws, other):
            verdict = each.staleness("copy")
            assert isinstance(verdict, Stale) and isinstance(verdict.reasons[0], InputAdvanced)
    assert [step.name for step in ws.plan().certain] == ["copy"]
    assert ws.recompute("copy").executed == ["copy"] and ws.staleness("copy") == Fresh()
    assert ws.table("copy").read().fetchall() == [(1,), (2,)]
    assert ws.materialize("copy", f"SELECT n FROM {live.relation}").outcome == "reused"


@KINDS
def test_one_that_was_dropped_has_vanished_and_one_made_again_is_another_one(ws, live):
    live.drop()
    verdict = ws.staleness("copy")
    assert isinstance(verdict, Stale) and isinstance(verdict.reasons[0], InputVanished)
    live.create()
    live.write(1)
    assert isinstance(ws.staleness("copy"), Stale)
    assert ws.materialize("copy", f"SELECT n FROM {live.relation}").outcome == "computed"


@KINDS
def test_an_own_one_that_begins_to_hide_a_shared_one_is_an_advance(ws, live):
    with ws.tenant("acme"):
        ws.materialize("mine", f"SELECT n FROM {live.relation}")
        assert ws.staleness("mine") == Fresh()
        live.create()
        live.write(1)
        assert isinstance(ws.staleness("mine"), Stale)
    assert ws.staleness("copy") == Fresh()


@KINDS
def test_a_result_that_is_read_again_has_the_same_rows(ws, live):
    found = ws.sql(f"SELECT n FROM {live.relation}")
    live.write(9)
    assert found.fetchall() == found.fetchall() == [(1,)]


@KINDS
def test_a_python_step_reads_it(ws, live):
    ws.compute("step", lambda live: live.polars(), inputs=[live.relation], version="1")
    assert ws.staleness("step") == Fresh()
    live.write(9)
    assert isinstance(ws.staleness("step"), Stale)


@KINDS
def test_a_name_that_is_none_misses_with_near_names(ws, live):
    with pytest.raises(TableNotFound) as caught:
        ws.sql(f"SELECT * FROM {live.relation}s")
    assert caught.value.near == (live.relation,)
    with pytest.raises(TableNotFound):
        ws.sql(f"SELECT * FROM {live.relation.replace('.', '.main.')}")


@KINDS
def test_a_commit_after_a_restore_is_not_the_one_of_its_number_before(tmp_path, live_of):
    """A figure that was saved before a catalog was put back from a backup shows other rows."""

    def state(ws):
        result = ws.sql(f"SELECT n FROM {live_of(ws).relation}")
        result.fetchall()
        return [each.anchor for each in result._stamp().sources]

    folder, backup = tmp_path / "lab", tmp_path / "backup.sqlite3"
    with jl.open(folder) as ws:
        live_of(ws).create()
        live_of(ws).write(1)
        ws.materialize("copy", f"SELECT n FROM {live_of(ws).relation}")
        ws.backup(backup)
        live_of(ws).write(2)
        before = state(ws)
        assert before == state(ws)
    shutil.copy(backup, folder / "catalog.sqlite3")
    with jl.open(folder) as ws:
        assert ws.staleness("copy") == Fresh()
        live_of(ws).write(3)
        assert ws.staleness("copy") != Fresh() and state(ws) != before
        assert ws.sql(f"SELECT n FROM {live_of(ws).relation}").fetchall() == [(1,), (3,)]
