"""The second opinion: a parent that came out with other bytes and equal rows does not make its
children stale, and the verdict says so."""

import datetime
from typing import Any

import pyarrow as pa
import pytest

import jammi_lab as jl
from jammi_lab.inputs import row_comparison as equal_rows
from jammi_lab.inputs.row_comparison import RowComparison
from tests.cases import cases
from tests.freshness.lab import Lab, said

ROWS = {"id": [1, 2, 3, 4], "a": [5, 5, 7, 1], "t": ["x", "y", "x", None]}


@pytest.fixture(autouse=True)
def each_byte_of_a_text_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is made of a text file is made again when its rows come in another order: no opinion is
    given on so large a file."""
    monkeypatch.setattr(equal_rows, "MAX_WHOLE_BYTES", 0)


@pytest.fixture
def family(lab: Lab) -> Lab:
    """`parent` keeps the order of its source, a text file; `child` reads two of its three columns
    and sums."""
    text(lab, **ROWS)
    lab.materialize("parent", "SELECT id, a, t FROM rows")
    lab.materialize("child", "SELECT a, count(*) AS n, max(id) AS m FROM jammi.parent GROUP BY a")
    return lab


def text(lab: Lab, **columns: list[Any]) -> None:
    """`rows` as these columns."""
    lab.csv(
        "rows",
        ",".join(columns),
        *(
            ",".join("" if v is None else str(v) for v in row)
            for row in zip(*columns.values(), strict=True)
        ),
    )


def backwards() -> dict[str, list[Any]]:
    return {name: values[::-1] for name, values in ROWS.items()}


def test_a_plan_leaves_the_child_out_and_a_run_that_meant_to_make_it_stops_above_it(
    family,
):
    text(family, **backwards())
    plan = family.plan()
    assert ([s.name for s in plan.certain], [s.name for s in plan.possible]) == (
        ["parent"],
        ["child"],
    )
    report = plan.apply()
    assert {s.name: s.outcome for s in report.steps} == {"parent": "computed", "child": "cut_off"}
    assert not family.plan()
    assert family.table("child").version == 1


@pytest.mark.parametrize(
    "columns", ["id, a, t, 1 AS more", "1 AS more, id, a, t", "t, id, a", "id, a"]
)
def test_a_parent_in_another_order_and_with_other_columns_leaves_fresh_what_does_not_read_these(
    family, columns
):
    family.materialize(
        "by place", "SELECT p, q, count(*) AS n FROM jammi.parent AS x(p, q) GROUP BY p, q"
    )
    family.materialize("parent", f"SELECT {columns} FROM rows ORDER BY t DESC, id DESC")
    assert family.staleness("child") == jl.Fresh()
    assert (family.verdict("by place") == "fresh") is columns.startswith("id")


def test_a_parent_whose_columns_changed_places_has_no_equal_rows(family):
    family.materialize(
        "by place", "SELECT p, q, count(*) AS n FROM jammi.parent AS x(p, q) GROUP BY p, q"
    )
    family.materialize("parent", "SELECT a, id, t FROM rows ORDER BY t DESC, id DESC")
    assert said(family.staleness("by place")) == ["advanced parent"]


@pytest.mark.every_case
@pytest.mark.parametrize(
    ("was", "now"),
    [
        (pa.array([0.0, 1.0]), pa.array([1.0, -0.0])),
        (pa.array([0.0, 1.0], pa.float32()), pa.array([1.0, -0.0], pa.float32())),
        (pa.array([0.1, 1.0]), pa.array([1.0, 0.1 + 1e-17])),
        (pa.array(["1", None]), pa.array([None, "01"])),
    ],
    ids=["sign of zero", "sign of zero, small", "the same number", "a text"],
)
def test_floats_are_compared_by_bits(lab, was, now):
    lab.parquet("rows", x=was)
    lab.materialize("parent", "SELECT x FROM rows")
    lab.materialize("child", "SELECT max(x::VARCHAR) AS x FROM jammi.parent")
    lab.parquet("rows", x=now)
    lab.materialize("parent", "SELECT x FROM rows")
    expected = sorted(map(repr, was.to_pylist())) == sorted(map(repr, now.to_pylist()))
    assert (lab.staleness("child") == jl.Fresh()) is expected


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ([True, None], []),
        ([datetime.date(2020, 1, 1), datetime.date(1900, 1, 1)], []),
        ([datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC), None], []),
        ([b"\0\xff", b""], []),
        ([float("nan"), 1.5], []),
        ([[1], [2]], ["advanced parent"]),
        ([{"f": 1}, {"f": 2}], ["advanced parent"]),
    ],
    ids=["boolean", "date", "timestamp with zone", "blob", "nan", "list", "struct"],
)
def test_other_types_are_compared_but_for_nested_ones(lab, values, told):
    lab.parquet("rows", x=values)
    lab.materialize("parent", "SELECT x FROM rows")
    lab.materialize("child", "SELECT count(DISTINCT x) AS n FROM jammi.parent")
    lab.parquet("rows", x=values[::-1])
    lab.materialize("parent", "SELECT x FROM rows")
    verdict = lab.staleness("child")
    assert said(verdict) == told and (verdict == jl.Fresh()) is (not told)


@pytest.mark.parametrize("is_damaged", [False, True])
def test_without_the_version_that_was_read_or_with_its_bytes_damaged_there_is_no_opinion(
    family, is_damaged
):
    text(family, **backwards())
    family.recompute("parent")
    read = family.table("parent", version=1)
    read.path.write_bytes(b"not Parquet") if is_damaged else read.drop()
    assert said(family.staleness("child")) == ["advanced parent"]


def test_an_equal_table_asks_for_no_opinion(family, monkeypatch):
    monkeypatch.setattr(RowComparison, "has_same_rows", lambda *_, **__: pytest.fail("asked"))
    assert family.staleness("child") == jl.Fresh()


@pytest.mark.every_case
@pytest.mark.parametrize(
    ("rows", "statement", "fresh"),
    cases("statements/values_of_other_orders", "rows", "statement", "fresh"),
)
def test_rows_in_another_order_may_give_another_of_equal_values(lab, rows, statement, fresh):
    lab.parquet("rows", x=rows)
    lab.materialize("picked", statement)
    lab.parquet("rows", x=rows[::-1])
    assert (lab.verdict("picked") == "fresh") is fresh
