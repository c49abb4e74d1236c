"""kill -9 at the fault points that an increment passes: the old version stays the newest, or the
new one is whole."""

import shutil
import signal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import write_deltalake

import jammi_lab as jl
from jammi_lab.core.verdicts import Match
from jammi_lab.producers import increment
from tests.crash.test_fault_points import cuts_of
from tests.sizes import soak, thinned

pytestmark = soak
STATEMENT = "SELECT g, count(*) AS n, sum(x) AS s, avg(x) AS a FROM t GROUP BY g"


def append(folder, kind, number):
    rows = pa.table({"g": [f"g{i % 3}" for i in range(20)], "x": [i * number for i in range(20)]})
    if kind == "delta":
        write_deltalake(folder, rows, mode="append")
    else:
        folder.mkdir(parents=True, exist_ok=True)
        pq.write_table(rows, folder / f"{number}.parquet")


@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", ["folder", "delta"])
def test_an_increment_killed_at_any_fault_point_leaves_the_old_version_or_the_new_one(
    server, tmp_path, monkeypatch, kind
):
    base = tmp_path / "base"
    # A folder is copied with the workspace, so that each run reads files as new as the first did.
    # A copied Delta table has data files that are newer than its commits.
    data = (base if kind == "folder" else tmp_path) / "data"
    append(data, kind, 1)
    append(data, kind, 2)
    monkeypatch.setattr(increment, "MIN_INPUT_ROWS", 0)
    monkeypatch.setattr(increment, "MAX_SHARE", 1e9)
    with jl.open(base) as ws:
        ws.sources.add("t", str(data))
        ws.materialize("it", STATEMENT)
    append(data, kind, 3)
    code, said = server.run("increment", shutil.copytree(base, tmp_path / "whole"), "-", 0)
    assert code == 0 and "ACK computed" in said, said
    points = said.split("POINTS ")[1].split()
    assert {"publish:building", "publish:sealed", "publish:manifest-durable"} <= set(points)
    versions = set()
    for number, (point, nth) in enumerate(thinned(cuts_of(points), 6)):
        folder = shutil.copytree(base, tmp_path / str(number))
        code, said = server.run("increment", folder, point, nth)
        if code == 0 and said.split("POINTS ")[1].split().count(point) < nth:
            shutil.rmtree(folder)  # the files are old enough by now to be observed in fewer commits
            continue
        assert code == -signal.SIGKILL, (point, nth, code, said)
        with jl.open(folder) as ws:
            table = ws.table("it")
            versions.add(table.version)
            assert (table.version == 1) == (table.manifest.increment is None), point
            assert table.verify() == Match(), point
            ws.recompute()
            assert ws.table("it").manifest.increment is not None, point
            assert ws.verify("it", recompute=True) == Match(), point
            assert not ws.fsck(repair=True, grace=0, deep=True).orphans, point
        shutil.rmtree(folder)
    assert versions == {1, 2}
