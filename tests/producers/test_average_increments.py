"""Increments of averages: from the sums and counts in a file beside the table, or in full where
that file is not the one that was published."""

import random
import shutil
from decimal import Decimal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import jammi_lab as jl
from jammi_lab.core.errors import CheckFailed, JammiError
from jammi_lab.core.verdicts import Match
from jammi_lab.engine import averages
from jammi_lab.producers import increment
from jammi_lab.store.sums_files import SUFFIX, sums_path
from jammi_lab.workspace.copy import copy_workspace
from tests.producers.test_increment import growing_lab, no_threshold  # noqa: F401  a fixture
from tests.store.lab import unpublish

STATEMENT = "SELECT avg(x) AS a, g, count(*) AS n, avg(d) FILTER (WHERE b) AS d FROM t GROUP BY g"


def is_increment(ws, name="it"):
    assert ws.verify(name, recompute=True) == Match()
    return ws.table(name).manifest.increment is not None


def sums_files(ws, name="it"):
    return list(ws.table(name).path.parent.glob(f"*{SUFFIX}"))


TYPES = (
    *("TINYINT UTINYINT SMALLINT USMALLINT INTEGER UINTEGER BIGINT UBIGINT".split()),
    *("DECIMAL(3,1) DECIMAL(4,4) DECIMAL(9,0) DECIMAL(18,6) DECIMAL(27,20) DECIMAL(38,36)".split()),
)


def test_averages_of_every_exact_type(tmp_path):
    columns = ", ".join(f"avg(k::{kind}) AS a{i}" for i, kind in enumerate(TYPES))
    with growing_lab(tmp_path) as (ws, add):
        statement = columns.replace("k::DECIMAL(4,4)", "(k / 10)::DECIMAL(4,4)")
        ws.materialize("it", f"SELECT {statement}, b FROM t GROUP BY b")
        add("b3.parquet")
        assert not ws.recompute().deviations
        assert is_increment(ws)


def test_an_average_is_merged_and_its_table_has_the_bytes_of_a_run_without_sums(tmp_path):
    with growing_lab(tmp_path) as (ws, add):
        ws.settings.set("recompute.incremental", "never")
        plain = ws.materialize("it", STATEMENT).manifest
        ws.settings.set("recompute.incremental", "auto")
        first = ws.materialize("it", STATEMENT, cache="bypass").manifest
        assert plain.sums is None and first.sums is not None
        assert (plain.artifact, plain.definition_hash) == (first.artifact, first.definition_hash)
        for name in ("b3.parquet", "a0.parquet"):
            add(name)
            assert ws.plan().certain[0].action == "increment"
            assert not ws.recompute().deviations
            assert is_increment(ws)
        assert ws.fsck(deep=True).indexes == []


def test_one_large_group_whose_quotient_of_doubles_is_another_number(tmp_path):
    total, rows = 137_331_314_872_963, 120_280  # 40 · 3 007
    folder = tmp_path / "t"
    folder.mkdir()

    def write(name, first, count):
        values = [first] + [0] * (count - 1)
        pq.write_table(pa.table({"x": pa.array(values, pa.int64())}), folder / name)

    write("a.parquet", total * 40 - 5, rows - 1_000)
    with jl.open(tmp_path / "lab") as ws:
        ws.sources.add("t", str(folder))
        ws.materialize("it", "SELECT avg(x) AS a, sum(x) AS s, count(x) AS n FROM t")
        write("b.parquet", 5, 1_000)
        ws.recompute()
        assert is_increment(ws)
        [[average, s, n]] = ws.sql("SELECT a, s, n FROM jammi.it").fetchall()
        assert (s, n) == (total * 40, rows) and average != float(total * 40) / rows


ORDERS = {
    "the average is the key": (STATEMENT, ["a"]),
    "the key is a part of the groups": (
        "SELECT avg(x) AS a, g, concat(g, k) AS id FROM t WHERE g IS NOT NULL GROUP BY ALL",
        ["id"],
    ),
    "no column is known to be a key": (
        "SELECT avg(x) AS a, upper(t.g) AS h FROM t GROUP BY upper(g)",
        None,
    ),
    "one row": ("SELECT avg(x) AS a, avg(d) AS d FROM t WHERE b", None),
    "no row has a value": ("SELECT g, avg(x) AS a FROM t WHERE x IS NULL GROUP BY g", None),
}


@pytest.mark.parametrize("order", ORDERS)
def test_merged_rows_are_in_the_order_of_a_full_run(tmp_path, order):
    statement, key = ORDERS[order]
    with growing_lab(tmp_path) as (ws, add):
        ws.materialize("it", statement, key=key)
        for number in range(3, 6):
            add(f"b{number}.parquet")
            ws.recompute()
            assert is_increment(ws)


def _remove(path, other):
    path.unlink()


def _cut(path, other):
    path.write_bytes(path.read_bytes()[:-9])


def _flip(path, other):
    body = bytearray(path.read_bytes())
    body[len(body) // 2] ^= 1
    path.write_bytes(body)


def _replace(path, other):
    shutil.copy(sums_path(other), path)


@pytest.mark.parametrize(
    ("harm", "reason"),
    [(_remove, "missing"), (_cut, "damaged"), (_flip, "damaged"), (_replace, "damaged")],
)
def test_without_its_sums_a_full_run_writes_the_next(tmp_path, harm, reason):
    with growing_lab(tmp_path) as (ws, add):
        # The same rows of the table, from other sums.
        other = ws.materialize("other", "SELECT avg(x) AS a, count(*) AS n FROM t WHERE k = 1")
        table = ws.materialize("it", "SELECT avg(x) AS a, count(*) AS n FROM t")
        harm(sums_path(table.path), other.path)
        assert ws.fsck(deep=True).indexes == [f"{table.table_name}: sums {reason}"]
        assert ws.verify("it") == Match() and str(ws.staleness("it")) == "fresh"
        add("b3.parquet")
        run = ws.recompute()
        assert any(
            f"computed in full: the sums of version 1 of it are {reason}" in d
            for d in run.deviations
        ) == (reason != "missing")  # what is missing is seen by the plan
        assert not is_increment(ws)
        add("b4.parquet")
        ws.recompute()
        assert is_increment(ws)


def test_a_table_of_an_earlier_release_is_computed_in_full_once(tmp_path):
    with growing_lab(tmp_path, **{"recompute.incremental": "never"}) as (ws, add):
        ws.materialize("it", STATEMENT)
        ws.settings.set("recompute.incremental", "auto")
        assert not sums_files(ws) and b'"sums"' not in (
            ws.table("it").path.with_suffix(".materialization.json").read_bytes()
        )
        for number, expected in ((3, False), (4, True)):
            add(f"b{number}.parquet")
            ws.recompute()
            assert is_increment(ws) == expected


def test_a_platform_that_rounds_otherwise_computes_in_full(tmp_path, monkeypatch):
    monkeypatch.setattr(averages, "TRIED", {})
    monkeypatch.setattr(averages, "try_cases", lambda *_: False)
    with growing_lab(tmp_path) as (ws, add):
        ws.materialize("it", f"{STATEMENT} -- a text whose rule is not known yet")
        assert not sums_files(ws)
        add("b3.parquet")
        ws.recompute()
        assert not is_increment(ws)


def test_small_inputs_and_other_statements_have_no_sums(tmp_path, monkeypatch):
    monkeypatch.setattr(increment, "MIN_INPUT_ROWS", 161)
    monkeypatch.setattr(increment, "MAX_SHARE", 0.75)
    with growing_lab(tmp_path) as (ws, add):  # 40 rows, which may become 161 of which 3/4 are new
        ws.materialize("small", STATEMENT)
        add("b3.parquet", rows=1)
        ws.materialize("large", STATEMENT)
        ws.materialize("sums", "SELECT g, sum(x) AS s FROM t GROUP BY g")
        ws.materialize("frame", "SELECT g, avg(n) AS a FROM jammi.large GROUP BY g")
        assert [t.name for t in ws.tables() if t.manifest.sums] == ["large"]


def test_the_file_goes_with_its_table(tmp_path):
    with growing_lab(tmp_path) as (ws, add):
        ws.materialize("it", STATEMENT)
        add("b3.parquet")
        ws.recompute()
        assert len(sums_files(ws)) == 2
        ws.expire("it", keep=1)
        assert [p.stem for p in sums_files(ws)] == [ws.table("it").table_name]
        folder = ws.table("it").path.parent
        ws.drop("it")
        assert not list(folder.iterdir()) and not ws.fsck(repair=True, grace=0).orphans


def test_copies_and_rebuilt_catalogs_continue_with_increments(tmp_path):
    with growing_lab(tmp_path) as (ws, add):
        ws.materialize("it", STATEMENT)
        add("b3.parquet")
        copy_workspace(ws, tmp_path / "copy")
    jl.rebuild(tmp_path / "lab")
    for folder in ("copy", "lab"):
        with jl.open(tmp_path / folder) as ws:
            if folder == "lab":
                ws.sources.add("t", str(tmp_path / "t"))
            ws.recompute()
            assert is_increment(ws)
            assert not ws.fsck(deep=True)


@pytest.mark.parametrize("harm", [None, _remove, _cut])
def test_recovery_publishes_a_build_with_its_sums_or_not_at_all(tmp_path, harm):
    with growing_lab(tmp_path) as (ws, _):
        table = ws.materialize("it", STATEMENT)
        folder, path = table.path.parent, sums_path(table.path)
    unpublish(tmp_path / "lab", table.table_name)
    if harm is not None:
        harm(path, None)
    with jl.open(tmp_path / "lab") as ws:
        assert ws.recovery.promoted == ([] if harm else [table.table_name])
        assert ws.recovery.failed == ([table.table_name] if harm else [])
        assert not ws.fsck(deep=True) and len(list(folder.iterdir())) == (0 if harm else 3)


def test_a_rejected_version_has_no_sums(tmp_path):
    with growing_lab(tmp_path) as (ws, add):
        ws.materialize("it", STATEMENT)
        few = "SELECT * FROM jammi.it WHERE n > 50"
        ws.checks.add("few", few, on="it", severity="block")
        add("b3.parquet", rows=500)
        with pytest.raises(CheckFailed):
            ws.materialize("it", STATEMENT)
        assert len(sums_files(ws)) == 1 and not ws.fsck(repair=True, grace=0).orphans


def test_an_error_has_the_position_in_the_statement_as_written(tmp_path):
    wrong = "SELECT g, avg(x) AS a FROM t WHERE CAST(concat('ä', g) AS INTEGER) > 1 GROUP BY g"
    with growing_lab(tmp_path) as (ws, _):
        ws.settings.set("recompute.incremental", "never")
        with pytest.raises(JammiError) as plain:
            ws.materialize("it", wrong)
        ws.settings.set("recompute.incremental", "auto")
        with pytest.raises(JammiError) as extended:
            ws.materialize("it", wrong)
        assert extended.value.position == plain.value.position == wrong.index("CAST")


def test_sums_that_a_decimal_cannot_hold(tmp_path):
    """DuckDB adds decimals as integers of 128 bits, and so does the merge."""
    with growing_lab(tmp_path) as (ws, add):
        wide = "CASE WHEN k IS NULL THEN 5e37::DECIMAL(38,0) ELSE k * d END"
        statement = f"SELECT b, avg({wide}) AS a, count(*) AS n FROM t WHERE g = 'a' GROUP BY b"
        add("b1.parquet", "b2.parquet", rows=8)
        ws.materialize("it", statement)
        add("b3.parquet", rows=4)
        ws.recompute()
        assert is_increment(ws)


def test_sums_beyond_64_bits(tmp_path):
    folder = tmp_path / "t"
    folder.mkdir()
    draw = random.Random(3)

    def write(name):
        rows = {
            "g": [draw.randrange(3) for _ in range(500)],
            "x": pa.array([draw.randrange(2**62, 2**63) for _ in range(500)], pa.int64()),
            "y": pa.array([-draw.randrange(2**62, 2**63) for _ in range(500)], pa.int64()),
            "d": pa.array(
                [Decimal(draw.randrange(-(10**26), 10**27)).scaleb(-9) for _ in range(500)],
                pa.decimal128(27, 9),
            ),
        }
        pq.write_table(pa.table(rows), folder / name)

    write("a.parquet")
    with jl.open(tmp_path / "lab") as ws:
        ws.sources.add("t", str(folder))
        ws.materialize("it", "SELECT g, avg(x) AS x, avg(y) AS y, avg(d) AS d FROM t GROUP BY g")
        for name in ("b.parquet", "c.parquet"):
            write(name)
            ws.recompute()
            assert is_increment(ws)
