"""Writes that a disk refuses: each is a typed error in the words of its cause, and nothing that was
acknowledged is lost."""

import subprocess
import sys

import pytest

import jammi_lab as jl
from tests.crash.explorer.record import needs_strace
from tests.sizes import thinned

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

ACT = """
import sys, jammi_lab as jl
MANY = "SELECT range AS k, md5(range::VARCHAR) AS v FROM range(400000)"
acts = {
    "table": lambda ws: ws.materialize("t", MANY, cache="bypass"),
    "small table": lambda ws: ws.materialize("t", "SELECT 1 AS k", cache="bypass"),
    "rows": lambda ws: ws.mutable["m"].insert([{"k": 2}]),
    "event": lambda ws: ws.topics.publish("e", [{"k": 2}]),
    "spill": lambda ws: sum(
        b.num_rows for b in ws.sql(MANY.replace("400000", "3000000") + " ORDER BY v").batches()
    ),
    "export": lambda ws: ws.sql(MANY).export("out.parquet"),
    "export as csv": lambda ws: ws.sql(MANY).export("out.csv"),
}
told = open("told", "w")
try:
    with jl.open("lab", settings={"engine.memory_limit": "60MB"}) as ws:
        acts[sys.argv[1]](ws)
        told.write("done")
except jl.JammiError as error:
    told.write(f"{type(error).__name__}: {error.message}")
except BaseException as error:
    told.write(f"not typed: {type(error).__name__}: {error}")
told.close()
"""
FAILURES = [
    ("table", "write", "1 5 40 90"),
    ("table", "pwrite64", "5 20 40 60"),
    ("table", "fsync", "1 2"),
    ("table", "fdatasync", "1 2 3 4"),
    ("small table", "write", "1 2"),
    ("small table", "fsync", "1 2"),
    ("rows", "pwrite64", "5 15 25"),
    ("rows", "fdatasync", "2 3 4"),
    ("event", "pwrite64", "5 15 25"),
    ("event", "fdatasync", "2 3 4"),
    ("spill", "pwrite64", "20 60"),
    ("export", "write", "1 5 20"),
    ("export", "fsync", "1"),
    ("export as csv", "write", "1 5"),
]
"""What is done, the call that fails, and which time."""


@pytest.mark.parametrize(
    ("act", "call", "time"),
    thinned([(act, call, time) for act, call, times in FAILURES for time in times.split()], 7),
)
def test_a_write_that_fails_is_typed_and_loses_nothing(tmp_path, act, call, time):
    needs_strace()
    with jl.open(tmp_path / "lab") as ws:
        ws.materialize("base", "SELECT 1 AS k")
        ws.mutable.create("m", {"k": "int64"}, primary_key=["k"]).insert([{"k": 1}])
        ws.topics.register("e", {"k": "int64"})
        ws.topics.publish("e", [{"k": 1}])
    inject = f"inject={call}:error=EIO:when={time}"
    command = [sys.executable, "-c", ACT, act]
    done = subprocess.run(
        ["strace", "-f", "-o", "trace", "-e", f"trace={call}", "-e", inject, *command],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told = (tmp_path / "told").read_text()
    assert told == "done" or told.startswith("ResourceExhausted: "), told
    if told != "done":
        assert "(INJECTED)" in (tmp_path / "trace").read_text()
        assert "disk error" in told or "Input/output error" in told
    with jl.open(tmp_path / "lab") as ws:
        assert not ws.recovery.damaged_log and not ws.recovery.unknown
        assert ws.verify("base") == jl.Match() and ws.staleness("base") == jl.Fresh()
        rows = ws.mutable["m"].read().arrow()["k"].to_pylist()
        events = [e.batch["k"].to_pylist() for e in ws.topics.replay("e")]
        assert rows[:1] == [1] and events[:1] == [[1]]
        if told == "done":
            assert act != "rows" or rows == [1, 2]
            assert act != "event" or events == [[1], [2]]
        assert "t" not in ws or ws.verify("t") == jl.Match()
        assert not ws.fsck(deep=True).damaged
