"""kill -9 at the fault points that a row map passes: a kill loses at most the call in flight, the
old version stays the newest or the new one is whole, and what is finished later equals a full
run."""

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import jammi_lab as jl
from jammi_lab.core.verdicts import Match
from tests.crash.check import check_calls, check_newest, copy_workspace, killed_copies, run_uncut
from tests.crash.child import ROW_MAP, map_texts
from tests.crash.test_fault_points import cuts_of
from tests.sizes import every_case, soak, thinned

pytestmark = soak


def write_texts(
    folder: Path, count: int, distinct: int = 7, changed: Sequence[int] = ()
) -> set[str]:
    """Write so many texts to a workspace, of which as many are distinct, and some others at a few
    positions; the distinct ones."""
    texts = ["x" * (number % distinct) for number in range(count)]
    for number in changed:
        texts[number] = "y" * number
    pq.write_table(pa.table({"id": range(count), "text": texts}), folder / "texts.parquet")
    return {*texts}


def make_workspace(folder: Path) -> None:
    """A workspace over its texts."""
    with jl.open(folder) as ws:
        write_texts(folder, 3)
        ws.sources.add("texts", folder / "texts.parquet")


CHANGES = {
    "none before": (0, {}, {"count": 12}),
    "keys added": (1, {"count": 3}, {"count": 12}),
    "1 % changed": (
        1,
        {"count": 200, "distinct": 20},
        {"count": 200, "distinct": 20, "changed": (90, 150)},
    ),
}


@every_case
@pytest.mark.timeout(900)
@pytest.mark.parametrize("change", CHANGES)
def test_a_row_map_killed_at_any_fault_point_loses_at_most_the_call_in_flight(
    server, tmp_path, change
):
    former, before, after = CHANGES[change]
    base, known = tmp_path / "base", set[str]()
    make_workspace(base)
    if former:
        known = write_texts(base, **before)
        run_uncut(server, "map", base)
        (base / "calls").unlink()
    asked = write_texts(base, **after) - known
    points = run_uncut(server, "map", whole := copy_workspace(base, tmp_path / "whole"))
    assert points.count("checkpoint.appended") == len(asked)
    assert {"publish:building", "publish:sealed", "publish:manifest-durable"} <= {*points}
    check_calls(whole, asked)
    with jl.open(whole) as ws:
        expected = ws.table(ROW_MAP).path.read_bytes()
        assert ws.verify(ROW_MAP) == Match()
    versions = set()
    for cut, folder in killed_copies(server, "map", base, thinned(cuts_of(points), 10)):
        with jl.open(folder) as ws:
            version = ws.table(ROW_MAP).version if ROW_MAP in ws else 0
            versions.add(version)
            if version:
                check_newest(ws, ROW_MAP, is_new=version > former)
            made = map_texts(ws, folder)
            check_newest(ws, ROW_MAP, is_new=True)
            assert made.path.read_bytes() == expected, cut
            if made.outcome == "computed":  # else recovery had promoted it
                assert not [*(folder / "checkpoints").glob("*")], cut
        check_calls(folder, asked)
    assert versions == {former, former + 1}
