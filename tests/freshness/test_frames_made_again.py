"""The second opinion on frames: a cell that makes a frame again gives its rows in another order,
and the tables made from them are as true as before."""

from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest

import jammi_lab as jl
from tests.freshness.lab import Lab
from tests.inside import services_of

ROWS = {"id": [1, 2, 3, 3], "a": [0.5, 0.0, None, 2.5], "t": ["x", "y", "z", None]}
SUMMED = "SELECT a, count(*) AS n, max(id) AS m FROM given GROUP BY a"


def backwards(rows: dict[str, list[Any]]) -> dict[str, list[Any]]:
    return {name: values[::-1] for name, values in rows.items()}


def give(lab: Lab, rows: Any, name: str = "given") -> None:
    lab.ws.sources.add(name, rows, replace=name in lab.ws.sources)


@pytest.mark.parametrize("kind", [pa.table, pl.DataFrame, lambda rows: pa.table(rows).to_pandas()])
def test_rows_in_another_order_leave_a_table_fresh_and_it_says_why(lab: Lab, kind: Any) -> None:
    give(lab, kind(ROWS))
    lab.ws.materialize("summed", SUMMED)
    lab.reopen()
    assert lab.verdict("summed") == "undecidable"  # the frame is gone with its kernel
    give(lab, kind(backwards(ROWS)))
    assert lab.ws.staleness("summed") == jl.Fresh()
    assert (
        str(lab.ws.staleness("summed"))
        == "fresh*, as far as the frame given goes, given has other bytes and equal rows"
    )
    assert {row.name: row.verdict for row in lab.ws.status()} == {"summed": jl.Fresh()}
    assert not lab.ws.plan()


@pytest.mark.parametrize(
    "columns",
    [
        {"a": [0.5, -0.0, None, 2.5]},
        {"id": [2, 1, 3, 3]},  # each column holds what it held, the rows do not
        {"a": [0.5, 0.0, None, None]},
        {"id": [1, 2, 3, 3, 3], "a": [0.5, 0.0, None, 2.5, 2.5], "t": ["x", "y", "z", None, None]},
        {"id": pa.array([1, 2, 3, 3], pa.int32())},
    ],
    ids=["sign of a zero", "shuffled against the others", "null", "twice", "type"],
)
def test_other_rows_make_it_stale(lab: Lab, columns: dict[str, Any]) -> None:
    give(lab, pa.table(ROWS))
    lab.ws.materialize("summed", SUMMED)
    give(lab, pa.table({**ROWS, **columns}))
    assert lab.verdict("summed") == "stale"
    assert lab.verdict("summed") == "stale"  # and not by what the first look remembers


def test_columns_in_another_order_make_what_goes_by_their_order_stale(lab: Lab) -> None:
    give(lab, pa.table({"p": [1, 2], "q": [2, 1]}))
    lab.ws.materialize("first", "SELECT x, count(*) AS n FROM given t(x, y) GROUP BY x")
    give(lab, pa.table({"q": [2, 1], "p": [1, 2]}))
    assert lab.verdict("first") == "stale"


def test_what_depends_on_the_order_of_rows_is_stale(lab: Lab) -> None:
    give(lab, pa.table(ROWS))
    lab.ws.materialize("some", "SELECT id FROM given LIMIT 2")
    give(lab, pa.table(backwards(ROWS)))
    assert lab.verdict("some") == "stale"


def test_a_frame_that_is_changed_in_place_is_compared_as_it_is_now(lab: Lab) -> None:
    frame = pa.table(ROWS).to_pandas()
    give(lab, frame)
    lab.ws.materialize("summed", SUMMED)
    frame.loc[:, "id"] = [3, 2, 1, 3]
    assert lab.verdict("summed") == "stale"
    frame.loc[:, "id"] = [1, 2, 3, 3]
    assert lab.verdict("summed") == "fresh"


def test_a_frame_in_a_variable_is_compared_like_a_registered_one(lab: Lab) -> None:
    variables = {"given": pa.table(ROWS)}
    lab.ws.frames_from(lambda: variables)
    services_of(lab.ws).materializer.materialize("summed", jl.Sql(SUMMED), frames=True)
    variables["given"] = pa.table(backwards(ROWS))
    assert lab.verdict("summed") == "fresh"
    variables["given"] = pa.table({**ROWS, "id": [9, 9, 9, 9]})
    assert lab.verdict("summed") == "stale"


def test_what_a_board_would_not_read_has_no_second_opinion(tmp_path: Path) -> None:
    lab = Lab(tmp_path, **{"look.scan_rows": 3})
    give(lab, pa.table(ROWS))
    lab.ws.materialize("summed", SUMMED)
    give(lab, pa.table(backwards(ROWS)))
    assert lab.verdict("summed") == "stale"
    lab.ws.close()
