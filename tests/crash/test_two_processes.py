"""A writer beside a writer: the living are spared, also when stopped; the dead are settled at the
next open."""

import contextlib
import os
import signal

import pytest

import jammi_lab as jl
from jammi_lab.core.verdicts import Match
from tests.crash.check import Promises, hold_true
from tests.inside import services_of
from tests.store.lab import statuses


@pytest.fixture
def child(server):
    """Starts a child and waits for its first line; it is killed in the end."""
    started = []

    def start(*argv):
        started.append(server.start(*argv))
        server.await_lines(1)
        return started[-1]

    yield start
    for each in started:
        with contextlib.suppress(ProcessLookupError):
            os.kill(each, signal.SIGKILL)
    server.drain()


def test_a_stopped_writers_row_is_spared_and_a_killed_ones_settled_at_the_next_open(
    child, server, tmp_path
):
    folder = tmp_path / "lab"
    writer = child("hold", folder)
    assert server.said() == "BUILDING\n"
    [held] = statuses(folder)
    os.kill(writer, signal.SIGSTOP)
    with jl.open(folder) as ws:
        assert ws.recovery.spared == [held] and not ws.recovery
        assert not ws.recover() and statuses(folder) == {held: "building"}
    os.kill(writer, signal.SIGKILL)
    with jl.open(folder) as ws:
        while not ws.recovery.failed and ws.recover().spared:
            pass  # the kernel is still taking it down
        assert statuses(folder) == {held: "failed"} and not ws.recover()


def test_a_waiter_takes_over_as_soon_as_the_one_it_waits_for_is_killed(child, tmp_path):
    folder = tmp_path / "lab"
    writer, waited = child("hold", folder), []

    def kill(progress):
        if progress.stage.startswith("waiting") and not waited:
            waited.append(os.kill(writer, signal.SIGKILL))

    with jl.open(folder) as ws:
        table = ws.materialize("held", "SELECT 1 AS x", progress=kill)
        assert (
            waited
            and table.outcome == "computed"
            and sorted(statuses(folder).values()) == ["failed", "ready"]
        )


def test_nobody_waits_for_ever_for_a_process_that_stands_still_and_both_results_stay(
    child, server, tmp_path, monkeypatch
):
    from jammi_lab.steps import single_flight as flight

    monkeypatch.setattr(flight, "STALE_HEARTBEAT_SECONDS", 0.5)
    folder = tmp_path / "lab"
    writer, waited = child("hold", folder), []
    os.kill(writer, signal.SIGSTOP)
    with jl.open(folder) as ws:
        table = ws.materialize("held", "SELECT 1 AS x", progress=lambda p: waited.append(p.stage))
        assert any(str(writer) in stage for stage in waited)  # it says for whom it waited
        assert table.outcome == "computed" and sorted(statuses(folder).values()) == [
            "building",
            "ready",
        ]
        assert table.verify() == Match()
    os.kill(writer, signal.SIGCONT)


def test_one_opens_looks_and_makes_while_another_makes_and_drops(child, server, tmp_path):
    folder = tmp_path / "lab"
    writer = child("forever", folder, 1)
    server.await_lines(3)
    before, kept = server.said().count("ACK"), []
    for turn in range(10):
        with jl.open(folder) as ws:
            assert not ws.recovery, ws.recovery
            ws.status()
            ws.plan()
            kept.append(ws.materialize(f"mine {turn % 3}", f"SELECT {turn} AS turn"))
            assert not (report := ws.recover()), report
            assert all(ws.table(t.name, t.version).verify() == Match() for t in kept)
    server.await_lines(server.said().count("\n") + 4)  # it has gone on all the while
    os.kill(writer, signal.SIGKILL)
    _, said = server.end()
    assert said.count("ACK") > before
    hold_true(folder, Promises().hear(said))


MANY = "SELECT i, 7 AS turn FROM range(1000000) t(i)"


def test_a_statement_whose_table_another_kernel_drops_before_it_runs_says_to_run_it_again(
    server, tmp_path
):
    folder = tmp_path / "lab"
    with jl.open(folder) as ws:
        path = ws.materialize("many", MANY).path
        [bound] = services_of(ws).engine.prepare("SELECT count(*) FROM jammi.many", {})
        assert server.run("drop", folder, "many")[0] == 0 and not path.exists()
        with pytest.raises(jl.TableNotFound, match="dropped by another kernel") as caught:
            bound.run().table()
        assert "Run the statement again" in str(caught.value)
        with pytest.raises(jl.TableNotFound, match="many"):
            ws.sql("SELECT count(*) FROM jammi.many")


def test_a_stream_that_has_begun_is_read_to_its_end_whatever_another_kernel_drops(server, tmp_path):
    folder = tmp_path / "lab"
    with jl.open(folder) as ws:
        ws.materialize("many", MANY)
        batches = iter(ws.sql("SELECT i FROM jammi.many").batches(1000))
        first = next(batches)
        assert server.run("drop", folder, "many")[0] == 0 and not list(
            (folder / "results").rglob("*.parquet")
        )
        assert first["i"][0].as_py() == 0
        assert sum(batch.num_rows for batch in batches) + first.num_rows == 1_000_000


def test_what_is_read_while_another_kernel_makes_and_drops_is_whole_or_not_there(
    child, server, tmp_path
):
    folder, whole, gone = tmp_path / "lab", 0, 0
    child("forever", folder, 2)
    server.await_lines(9)
    with jl.open(folder) as ws:
        while whole < 20:
            name = f"t{(whole + gone) % 4}"
            try:
                [[rows, last, turns]] = ws.sql(
                    f"SELECT count(*), max(i), count(DISTINCT turn) FROM jammi.{name}"
                ).fetchall()
                assert rows in (1, 10, 200_000) and last == rows - 1 and turns == 1
                whole += 1
            except jl.TableNotFound:
                gone += 1
