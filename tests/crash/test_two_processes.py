"""A writer beside a writer: the living are spared, also when stopped; the dead are settled at the next open."""

import contextlib
import os
import signal

import pytest

import jammi_lab as jl
from jammi_lab.values.verdicts import Match
from tests.crash.check import Promises, hold_true
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


def test_a_stopped_writers_row_is_spared_and_a_killed_ones_settled_at_the_next_open(child, server, tmp_path):
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
        assert waited and table.outcome == "computed" and sorted(statuses(folder).values()) == ["failed", "ready"]


def test_nobody_waits_for_ever_for_a_process_that_stands_still_and_both_results_stay(child, server, tmp_path, monkeypatch):
    from jammi_lab.producers import flight

    monkeypatch.setattr(flight, "_SILENT", 0.5)
    folder = tmp_path / "lab"
    writer, waited = child("hold", folder), []
    os.kill(writer, signal.SIGSTOP)
    with jl.open(folder) as ws:
        table = ws.materialize("held", "SELECT 1 AS x", progress=lambda p: waited.append(p.stage))
        assert any(str(writer) in stage for stage in waited)  # it says for whom it waited
        assert table.outcome == "computed" and sorted(statuses(folder).values()) == ["building", "ready"]
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
