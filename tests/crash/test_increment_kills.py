"""kill -9 at the fault points that an increment passes: the old version stays the newest, or the new
one is whole."""

import shutil
import signal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import jammi_lab as jl
from jammi_lab.core.verdicts import Match
from jammi_lab.producers import increment
from tests.crash.test_fault_points import cuts_of
from tests.sizes import soak, thinned

pytestmark = soak
STATEMENT = "SELECT g, count(*) AS n, sum(x) AS s FROM t GROUP BY g"


def write_file(folder, number):
    rows = {"g": [f"g{i % 3}" for i in range(20)], "x": [i * number for i in range(20)]}
    pq.write_table(pa.table(rows), folder / f"{number}.parquet")


@pytest.mark.timeout(900)
def test_an_increment_killed_at_any_fault_point_leaves_the_old_version_or_the_new_one(
    server, tmp_path, monkeypatch
):
    base = tmp_path / "base"
    with jl.open(base) as ws:
        (base / "data").mkdir()
        write_file(base / "data", 1)
        write_file(base / "data", 2)
        ws.sources.add("t", str(base / "data"))
        ws.materialize("it", STATEMENT)
    write_file(base / "data", 3)
    code, said = server.run("increment", shutil.copytree(base, tmp_path / "whole"), "-", 0)
    assert code == 0 and "ACK computed" in said, said
    points = said.split("POINTS ")[1].split()
    assert {"funnel:building", "funnel:sealed", "funnel:manifest-durable"} <= set(points)
    monkeypatch.setattr(increment, "MIN_INPUT_ROWS", 0)
    monkeypatch.setattr(increment, "MAX_SHARE", 1e9)
    versions = set()
    for number, (point, nth) in enumerate(thinned(cuts_of(points), 2)):
        folder = shutil.copytree(base, tmp_path / str(number))
        code, said = server.run("increment", folder, point, nth)
        assert code == -signal.SIGKILL, (point, nth, code, said)
        with jl.open(folder) as ws:
            table = ws.table("it")
            versions.add(table.version)
            assert (table.version == 1) == (table.manifest.increment is None), point
            assert table.verify() == Match(), point
            ws.recompute()
            assert ws.table("it").manifest.increment is not None, point
            assert ws.verify("it", recompute=True) == Match(), point
        shutil.rmtree(folder)
    assert versions == {1, 2}
