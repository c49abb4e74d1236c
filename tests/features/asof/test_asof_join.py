"""As-of joins: against a search row by row and against polars, with every kind of time, and as
tables like any other."""

import contextlib
import datetime as dt
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import jammi_lab as jl
from jammi_lab.core import errors
from jammi_lab.features.asof import asof_rows
from jammi_lab.features.asof.asof_rows import AsofMatcher, MatchRule
from jammi_lab.sources.scratch_duckdb import open_bare
from tests.cases import cases
from tests.sizes import examples

DAY = dt.timedelta(days=1)


def day(number: int) -> dt.datetime:
    return dt.datetime(2020, 1, number)


def naive(spine: list[Any], facts: list[Any], rule: MatchRule, ties: bool) -> list[Any]:
    """For each (group, time) the number of its fact, None, or 'tied'."""
    found: list[Any] = []
    for group, time in spine:
        best: list[tuple[Any, ...]] = []
        for number, (other, when, tie) in enumerate(facts):
            if (
                None in (group, time, other, when)
                or group != other
                or (when == time and not rule.inclusive)
            ):
                continue
            if (rule.direction == "backward" and when > time) or (
                rule.direction == "forward" and when < time
            ):
                continue
            if rule.tolerance is not None and abs(when - time) > rule.tolerance:
                continue
            best.append((abs(when - time), when, number, tie))
        if not best:
            found.append(None)
            continue
        _, when, *_ = min(best, key=lambda b: (b[0], b[1]))
        there = [
            (tie is not None, tie if tie is not None else 0, number)
            for _, w, number, tie in best
            if w == when
        ]
        top = max(t[:2] for t in there)
        winners = [t for t in there if t[:2] == top] if ties else there
        found.append(winners[0][2] if len(winners) == 1 else "tied")
    return found


def matches(
    rule: MatchRule,
    spine_keys: list[list[Any]],
    spine_times: pa.ChunkedArray,
    facts_keys: list[list[Any]],
    facts_times: pa.ChunkedArray,
    ties: list[int | None] | None = None,
) -> list[Any]:
    """For each row of the spine the number of its fact, None, or 'tied'."""
    columns = [
        [pa.chunked_array([keys], pa.int64()) for keys in side] for side in (spine_keys, facts_keys)
    ]
    tie_column = None if ties is None else pa.chunked_array([ties], pa.int64())
    with open_bare() as connection:
        matcher = AsofMatcher(connection, rule, columns[1], facts_times, tie_column)
        found = matcher.match(columns[0], spine_times).to_pylist()
    return ["tied" if (row["ties"] or 0) > 1 else row["fact"] for row in found]


times = st.one_of(st.none(), st.integers(-4, 4), st.sampled_from([-(2**63), 2**63 - 1]))
groups = st.one_of(st.none(), st.integers(0, 2))


@settings(max_examples=examples(250), deadline=None)
@given(
    st.lists(st.tuples(groups, times), max_size=12), st.lists(st.tuples(groups, times, st.one_of(st.none(), st.integers(0, 2))), max_size=14),
    st.sampled_from(["backward", "forward", "nearest"]), st.booleans(), st.one_of(st.none(), st.integers(0, 5), st.just(2**64)), st.booleans(),
)  # fmt: skip
def test_every_row_gets_the_fact_that_a_search_row_by_row_finds(
    spine,
    facts,
    direction,
    inclusive,
    tolerance,
    ties,
):
    rule = MatchRule(direction, inclusive, tolerance)
    kind = pa.int64()
    found = matches(
        rule,
        [[group for group, _ in spine]],
        pa.chunked_array([[time for _, time in spine]], kind),
        [[group for group, _, _ in facts]],
        pa.chunked_array([[time for _, time, _ in facts]], kind),
        [tie for _, _, tie in facts] if ties else None,
    )
    assert found == naive(spine, facts, rule, ties)


SPINE = pa.table(
    {
        "id": [3, 1, 2, 4, 5],
        "who": ["a", "b", "a", None, "a"],
        "t": [day(3), day(5), day(1), day(9), None],
    }
)
FACTS = pa.table(
    {
        "who": ["a", "a", "b", "b", None],
        "t": [day(3), day(2), day(4), day(4), day(1)],
        "v": [1, 2, 3, 4, 5],
        "n": [1, 1, 2, 1, 9],
    }
)


@pytest.fixture
def two(ws: Any) -> Any:
    ws.sources.add("spine", SPINE)
    ws.sources.add("facts", FACTS)
    return ws


def join(ws: Any, spine: str = "spine", facts: str = "facts", **told: Any) -> Any:
    options = {"by": "who", "spine_time": "t", "facts_time": "t", "tie_break": "n"} | told
    return ws.asof_join("j", spine, facts, **options)


def joined(ws: Any, column: str = "v", **told: Any) -> list[Any]:
    return join(ws, **told).read().arrow()[column].to_pylist()


# -- which fact ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("told", "found"), cases("statements/asof_found", "told", "found"))
def test_each_row_gets_the_fact_of_its_time(two, told, found):
    if "tolerance" in told:
        told = told | {"tolerance": dt.timedelta(seconds=told["tolerance"])}
    assert joined(two, **told) == found


def test_every_row_of_the_spine_stays_in_its_order(two):
    assert joined(two, "id") == [3, 1, 2, 4, 5]
    assert joined(two, "id", spine="SELECT * FROM spine ORDER BY id DESC") == [5, 4, 3, 2, 1]


def test_at_equal_distance_the_earlier_fact_is_the_nearest(two):
    assert joined(
        two, spine="SELECT 'a' AS who, TIMESTAMP '2020-01-02 12:00' AS t", direction="nearest"
    ) == [2]


def test_facts_need_not_be_sorted_and_parts_of_the_spine_are_one(two, monkeypatch):
    monkeypatch.setattr(asof_rows, "_ROWS_PER_JOIN", 100_000)
    spine = "SELECT i AS id, 'x' AS who, make_timestamp(i * 1000000) AS t FROM range(200000) r(i) ORDER BY hash(i)"
    facts = "SELECT 'x' AS who, make_timestamp((i * 10) * 1000000) AS t, i AS v, 0 AS n FROM range(20000) r(i) ORDER BY hash(i)"
    table = join(two, spine, facts, tie_break=None, project="v").read().arrow()
    assert (
        table.num_rows == 200_000
        and [i // 10 for i in table["id"].to_pylist()] == table["v"].to_pylist()
    )
    assert table["id"].to_pylist() == [r[0] for r in two.sql(spine).fetchall()]


def test_an_empty_spine_and_no_facts_keep_all_columns(two):
    assert joined(two, spine="SELECT * FROM spine WHERE false") == []
    assert joined(two, facts="SELECT * FROM facts WHERE false") == [None] * 5
    assert two.table("j").read().columns == ["id", "who", "t", "t_facts", "v", "n"]


# -- ties ------------------------------------------------------------------------------------------


def test_a_tie_that_is_matched_is_an_error_that_names_it(two):
    with pytest.raises(errors.AmbiguousMatch, match="2020-01-04 00:00:00 for who = 'b'") as tied:
        joined(two, tie_break=None)
    assert isinstance(tied.value, ValueError) and "tie_break=" in tied.value.hint
    assert not list(two.recipes()) and not two.tables()


def test_a_tie_that_nothing_matches_is_none(two):
    assert joined(two, tie_break=None, spine="SELECT * FROM spine WHERE who = 'a'") == [
        1,
        None,
        None,
    ]
    assert joined(two, tie_break=None, direction="forward") == [1, None, 2, None, None]
    assert joined(two, tie_break=None, tolerance=dt.timedelta(hours=1)) == [
        1,
        None,
        None,
        None,
        None,
    ]


def test_what_the_tie_breaker_leaves_equal_is_an_error(two):
    with pytest.raises(errors.AmbiguousMatch, match="Several rows") as tied:
        joined(two, facts="SELECT who, t, v, 1 AS n FROM facts")
    assert "share the greatest n" in tied.value.hint


@pytest.mark.parametrize(
    ("first", "second", "wins"),
    [
        *[
            ("NULL", "-1", 2),
            ("'nan'::DOUBLE", "1e300::DOUBLE", 1),
            ("'b'", "'a'", 1),
            ("false", "true", 2),
        ],
        *[
            ("'mid'::ENUM('low', 'mid', 'high')", "'high'::ENUM('low', 'mid', 'high')", 2),
            ("NULL::ENUM('b', 'a')", "'b'::ENUM('b', 'a')", 2),
        ],
    ],
)
def test_the_greatest_tie_breaker_wins_and_null_is_the_least(two, first, second, wins):
    facts = f"SELECT 'a' AS who, DATE '2020-01-01' AS t, 1 AS v, {first} AS n UNION ALL SELECT 'a', DATE '2020-01-01', 2, {second}"
    assert joined(two, facts=facts, spine="SELECT 'a' AS who, DATE '2020-01-01' AS t") == [wins]


# -- times and keys of other kinds -----------------------------------------------------------------


def kinds(ws: Any, one: str, other: str, **told: Any) -> Any:
    [found] = joined(
        ws, spine=f"SELECT {one} AS t", facts=f"SELECT {other} AS t, 1 AS v, 1 AS n", by=[], **told
    )
    return found


@pytest.mark.parametrize(
    ("one", "other", "found"),
    cases("statements/asof_times", "one", "other", "found"),
)
def test_times_and_integers_of_other_widths_are_compared_exactly(two, one, other, found):
    assert kinds(two, one, other) == found


def test_times_that_do_not_compare_are_refused_with_both_kinds(two):
    for one, other in cases("statements/asof_times_refused", "one", "other"):
        with pytest.raises(errors.SchemaMismatch) as refused:
            kinds(two, one, other)
        assert (
            refused.value.column == "t"
            and refused.value.table
            and refused.value.expected
            and refused.value.actual
            and refused.value.hint
        )
        assert not list(two.recipes())


def test_distances_that_int64_does_not_hold_are_exact(two):
    assert kinds(two, "9223372036854775807", "-9223372036854775808", tolerance=2**64 - 1) == 1
    assert kinds(two, "9223372036854775807", "-9223372036854775808", tolerance=2**64 - 2) is None


def test_a_tolerance_between_two_steps_is_rounded_down(two):
    nanoseconds = "TIMESTAMP_NS '2020-01-01 00:00:00.00000100"
    for time, other, tolerance, found in (
        ("DATE '2020-01-02'", "DATE '2020-01-01'", dt.timedelta(hours=47), 1),
        ("DATE '2020-01-02'", "DATE '2020-01-01'", dt.timedelta(hours=23), None),
        (f"{nanoseconds}0'", "TIMESTAMP_NS '2020-01-01'", dt.timedelta(microseconds=1), 1),
        (f"{nanoseconds}1'", "TIMESTAMP_NS '2020-01-01'", dt.timedelta(microseconds=1), None),
    ):
        assert kinds(two, time, other, tolerance=tolerance) == found


def test_a_tolerance_of_the_wrong_kind_is_refused(two):
    for time, tolerance in (
        ("1", DAY),
        ("DATE '2020-01-01'", 1),
        ("1", 1.5),
        ("1", True),
        ("1", -1),
        ("DATE '2020-01-01'", -DAY),
        ("1", "1"),
        ("DATE '2020-01-01'", np.timedelta64(1, "D")),
        ("1", np.timedelta64(1, "ns")),
        ("TIMESTAMP_NS '2020-01-01'", pd.Timedelta(1500, "ns")),
    ):
        with pytest.raises(errors.InvalidArgument, match="tolerance"):
            kinds(two, time, time, tolerance=tolerance)


@pytest.mark.parametrize(
    ("one", "other", "found"),
    cases("statements/asof_keys", "one", "other", "found"),
)  # fmt: skip
def test_keys_of_other_widths_are_equal_when_their_values_are(two, one, other, found):
    assert joined(
        two,
        spine=f"SELECT 1 AS t, {one} AS a",
        facts=f"SELECT 1 AS t, {other} AS b, 1 AS v, 1 AS n",
        by=[("a", "b")],
    ) == [found]


def test_keys_that_cannot_be_equal_are_refused(two):
    for one, other in cases("statements/asof_keys_refused", "one", "other"):
        with pytest.raises(errors.SchemaMismatch, match="cannot be compared") as refused:
            joined(
                two,
                spine=f"SELECT 1 AS t, {one} AS a",
                facts=f"SELECT 1 AS t, {other} AS b, 1 AS v, 1 AS n",
                by=[("a", "b")],
            )
        assert (refused.value.table.startswith("SELECT"), refused.value.column) == (True, "b")


# -- columns ---------------------------------------------------------------------------------------


def test_colliding_columns_are_renamed_and_never_dropped(two):
    spine = 'SELECT 1 AS t, 1 AS v, 2 AS v_facts, 3 AS "V_facts_2"'
    table = join(two, spine, "SELECT 1 AS t, 7 AS v, 8 AS w", by=[], tie_break=None)
    assert table.read().columns == ["t", "v", "v_facts", "V_facts_2", "t_facts", "v_facts_3", "w"]
    assert table.read().fetchall() == [(1, 1, 2, 3, 1, 7, 8)]


def test_a_facts_own_column_of_that_name_keeps_it(two):
    facts = "SELECT 1 AS t, 7 AS v, 8 AS v_facts"
    table = join(two, "SELECT 1 AS t, 1 AS V", facts, by=[], tie_break=None)
    assert table.read().columns == ["t", "V", "t_facts", "v_facts_2", "v_facts"]


@pytest.mark.parametrize(
    ("project", "columns"),
    cases("statements/asof_columns", "project", "columns"),
)
def test_columns_of_facts_are_chosen(two, project, columns):
    table = join(two, project=project)
    assert table.read().columns == columns and table.row_count == 5


def test_only_columns_that_are_read_are_anchored(two):
    table = join(two, project=["v"])
    assert {a.input.name: a.columns for a in table.manifest.anchors} == {
        "spine": ("id", "t", "who"),
        "facts": ("n", "t", "v", "who"),
    }
    spine = "SELECT who, t FROM spine WHERE t < TIMESTAMP '2020-01-04'"
    table = join(two, spine, tie_break=None, project=["v"])
    assert {a.input.name: a.columns for a in table.manifest.anchors} == {
        "spine": ("t", "who"),
        "facts": ("t", "v", "who"),
    }


def test_a_column_that_is_not_there_is_named(two):
    for told, column in cases("statements/asof_columns_missing", "told", "column"):
        with pytest.raises(errors.SchemaMismatch, match=f"no column '{column}'") as missed:
            joined(two, **told)
        assert missed.value.column == column


def test_what_makes_no_sense_is_refused(two):
    for told in (
        {"direction": "back"},
        {"boundary": "closed"},
        {"by": [("a", "b", "c")]},
        {"by": [1]},
        {"by": [""]},
        {"by": 5},
        {"project": 5},
        {"spine_time": None},
    ):
        with pytest.raises(errors.InvalidArgument):
            joined(two, **told)


# -- as a table like any other ---------------------------------------------------------------------


def test_how_a_column_is_spelt_and_what_comes_to_the_same_is_one_definition(two):
    one = join(two)
    again = join(two, "SPINE", spine_time="T", facts_time="T", by=[("WHO", "Who")], tie_break="N")
    assert again.outcome == "reused" and again.definition_hash == one.definition_hash


def test_the_key_of_the_spine_is_the_key_of_the_join(two):
    two.materialize("keyed", "SELECT * FROM spine", key="id")
    assert (join(two, "keyed").key, join(two).key) == (["id"], [])


def test_a_database_on_either_side_is_read_to_its_end(ws, tmp_path):
    import sqlite3

    with contextlib.closing(sqlite3.connect(tmp_path / "x.db", isolation_level=None)) as db:
        db.executescript(
            "CREATE TABLE s(id INTEGER, t INTEGER); INSERT INTO s VALUES (2, 20), (1, 10); CREATE TABLE f(t INTEGER, v TEXT); INSERT INTO f VALUES (9, 'a'), (15, 'b')"
        )
    ws.sources.add("db", f"sqlite:///{tmp_path}/x.db")
    table = ws.asof_join("j", "db.s", "db.f", spine_time="t", facts_time="t", project=["v"])
    assert sorted(table.read().fetchall()) == [(1, 10, "a"), (2, 20, "b")]
    with contextlib.closing(sqlite3.connect(tmp_path / "x.db", isolation_level=None)) as db:
        db.execute("UPDATE f SET v = 'c' WHERE t = 15")
    assert [r.input.table for r in ws.staleness("j").reasons] == ["f"]


def test_a_spine_whose_rows_come_in_another_order_makes_the_join_and_what_takes_its_order_stale(
    ws, tmp_path
):
    rows = pl.DataFrame({"id": [1, 2, 3], "tm": [1, 2, 3]})
    rows.write_parquet(tmp_path / "s.parquet")
    ws.sources.add("s", tmp_path / "s.parquet")
    ws.sources.add("f", pl.DataFrame({"tm": [0, 2], "w": ["a", "b"]}))
    ws.asof_join("j", "s", "f", spine_time="tm", facts_time="tm")
    ws.materialize("first", "SELECT first(id) AS id FROM jammi.j")
    rows.reverse().write_parquet(tmp_path / "s.parquet")
    assert isinstance(ws.staleness("j"), jl.Stale) and ws.staleness("first") != jl.Fresh()
    ws.recompute()
    assert ws.table("j").read().arrow()["id"].to_pylist() == [3, 2, 1] and ws.table(
        "first"
    ).read().fetchall() == [(3,)]
    assert ws.staleness("j") == jl.Fresh() == ws.staleness("first")
