"""kill -9 at the fault points that an increment passes: the old version stays the newest, or the
new one is whole."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import write_deltalake

import jammi_lab as jl
from jammi_lab.steps import increment
from tests.crash.check import Server, check_newest, copy_workspace, killed_copies, run_uncut
from tests.crash.test_fault_points import cuts_of
from tests.sizes import every_case, soak, thinned

pytestmark = soak
STATEMENT = "SELECT g, count(*) AS n, sum(x) AS s, avg(x / 7) AS m FROM {} GROUP BY g"
Growth = tuple[str, Callable[[], Any]]
"""What a statement reads, and the change that makes it stale."""


def new_rows(number: int) -> pa.Table:
    return pa.table(
        {
            "id": range(number * 20, number * 20 + 20),
            "g": [f"g{i % 3}" for i in range(20)],
            "x": [i * number for i in range(20)],
        }
    )


def folder_of_files(_: Server, base: Path) -> Growth:
    # It is copied with the workspace, so that each run reads files as new as the first did.
    data = base / "data"
    data.mkdir(parents=True)

    def append(number: int) -> None:
        pq.write_table(new_rows(number), data / f"{number}.parquet")

    return add_source(base, data, append)


def delta_table(_: Server, base: Path) -> Growth:
    # It is not copied: that would give data files that are newer than their commits.
    data = base.with_name("data")

    def append(number: int) -> None:
        write_deltalake(data, new_rows(number), mode="append")

    return add_source(base, data, append)


def add_source(base: Path, data: Path, append: Callable[[int], None]) -> Growth:
    append(1)
    append(2)
    with jl.open(base) as ws:
        ws.sources.add("t", data)
    return "t", functools.partial(append, 3)


INPUTS = {
    "folder": folder_of_files,
    "delta": delta_table,
}


@pytest.fixture(autouse=True)
def no_threshold(monkeypatch):
    monkeypatch.setattr(increment, "MIN_INPUT_ROWS", 0)
    monkeypatch.setattr(increment, "MAX_SHARE", 1e9)


@every_case
@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", INPUTS)
def test_an_increment_killed_at_any_fault_point_leaves_the_old_version_or_the_new_one(
    server, tmp_path, kind
):
    base = tmp_path / "base"
    rows, change = INPUTS[kind](server, base)
    with jl.open(base) as ws:
        ws.materialize("it", STATEMENT.format(rows))
    change()
    points = run_uncut(server, "increment", whole := copy_workspace(base, tmp_path / "whole"))
    assert {"publish:building", "publish:sealed", "publish:manifest-durable"} <= set(points)
    with jl.open(whole, settings={"recompute.incremental": "never"}) as ws:
        full = ws.materialize("full", STATEMENT.format(rows), cache="bypass").manifest
        assert full.increment is None
    seen = set()
    for cut, folder in killed_copies(server, "increment", base, thinned(cuts_of(points), 10)):
        with jl.open(folder) as ws:
            version = ws.table("it").version
            seen.add(version)
            check_newest(ws, "it", is_new=version > 1)
            assert ws.table("it").manifest.increment is None or version > 1, cut
            ws.recompute()
            check_newest(ws, "it", is_new=True)
            manifest = ws.table("it").manifest
            assert manifest.increment is not None, cut
            assert manifest.artifact == full.artifact, cut
            assert not ws.fsck(repair=True, grace=0, deep=True).orphans, cut
    assert seen == {1, 2}
