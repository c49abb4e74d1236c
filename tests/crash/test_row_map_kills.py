"""kill -9 at the fault points that a row map passes: a kill loses at most the call in flight, the
old version stays the newest or the new one is whole, and what is finished later equals a full
run."""

import shutil
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import jammi_lab as jl
from jammi_lab.core.verdicts import Match
from tests.crash.test_fault_points import cuts_of
from tests.sizes import soak, thinned

pytestmark = soak


def write_texts(folder: Path, count: int) -> list[str]:
    texts = ["x" * (number % 7) for number in range(count)]
    pq.write_table(pa.table({"id": range(count), "text": texts}), folder / "texts.parquet")
    return texts


def made(ws: Any) -> dict[int, int]:
    rows = ws.table("lengths").read().arrow()
    return dict(zip(rows["id"].to_pylist(), rows["length"].to_pylist(), strict=True))


@pytest.mark.timeout(900)
@pytest.mark.parametrize("is_first", [True, False])
def test_a_row_map_killed_at_any_fault_point_loses_at_most_the_call_in_flight(
    server, tmp_path, is_first
):
    base = tmp_path / "base"
    with jl.open(base) as ws:
        texts = write_texts(base, 3)
        ws.sources.add("texts", str(base / "texts.parquet"))
    known = set[str]()
    if not is_first:
        code, said = server.run("map", base, "-", 0)
        assert code == 0, said
        known = {*texts}
    (base / "calls").unlink(missing_ok=True)
    texts = write_texts(base, 12)
    code, said = server.run("map", shutil.copytree(base, whole := tmp_path / "whole"), "-", 0)
    assert code == 0 and "ACK computed" in said, said
    points = said.split("POINTS ")[1].split()
    asked = {*texts} - known
    assert points.count("output_log.appended") == len(asked)
    assert {"publish:building", "publish:sealed", "publish:manifest-durable"} <= {*points}
    with jl.open(whole) as ws:
        expected, body = made(ws), ws.table("lengths").path.read_bytes()
    versions = set()
    for number, (point, nth) in enumerate(thinned(cuts_of(points), 6)):
        folder = shutil.copytree(base, tmp_path / str(number))
        code, said = server.run("map", folder, point, nth)
        assert code == -signal.SIGKILL, (point, nth, code, said)
        with jl.open(folder) as ws:
            newest = ws.table("lengths") if "lengths" in ws else None
            versions.add(newest and newest.version)
            assert newest is None or newest.verify() == Match(), point
        code, said = server.run("map", folder, "-", 0)
        assert code == 0, (point, nth, said)
        with jl.open(folder) as ws:
            table = ws.table("lengths")
            assert made(ws) == expected and table.verify() == Match(), point
            assert table.path.read_bytes() == body, point
            if "ACK computed" in said:  # else recovery had promoted it
                assert not [*(folder / "checkpoints").glob("*")], point
        calls = Counter((folder / "calls").read_text().splitlines())
        assert {*calls} == asked, point
        assert calls.total() <= len(asked) + 1, f"{point} {nth}: {calls}"
        shutil.rmtree(folder)
    assert versions == ({None, 1} if is_first else {1, 2})
