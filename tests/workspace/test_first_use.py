"""Parts of a workspace are built when they are first used, once."""

import threading
import time

import jammi_lab as jl
from jammi_lab.producers.single_flight import SingleFlight


def test_several_threads_that_ask_first_get_one_part(tmp_path, monkeypatch):
    built = []
    build = SingleFlight.__init__

    def build_slowly(self, *arguments):
        built.append(self)
        time.sleep(0.02)
        build(self, *arguments)

    monkeypatch.setattr(SingleFlight, "__init__", build_slowly)
    with jl.open(tmp_path / "lab") as ws:
        begin, tables = threading.Barrier(4), []

        def materialize():
            begin.wait()
            tables.append(ws.materialize("t", "SELECT 1 AS a"))

        threads = [threading.Thread(target=materialize) for _ in range(4)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        assert len(built) == 1
        assert [each.version for each in tables] == [1] * 4


def test_a_workspace_that_ran_nothing_closes(tmp_path):
    for read_only in (False, True):
        jl.open(tmp_path / "lab", read_only=read_only).close()
    with jl.open(tmp_path / "lab") as ws:
        assert ws.sql("SELECT count(*) FROM jammi_catalog.writers WHERE alive").fetchall() == [(1,)]
