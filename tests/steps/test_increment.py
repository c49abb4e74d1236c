"""Increments: what is computed over new files alone, what is not, and that the bytes are those of a
full computation."""

import contextlib
import itertools
import random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import jammi_lab as jl
from jammi_lab.core.errors import NotRecomputable, SourceUnavailable
from jammi_lab.core.verdicts import Match
from jammi_lab.freshness import reports
from jammi_lab.steps import increment
from jammi_lab.workspace.copy import copy_workspace
from tests.cases import lines
from tests.sizes import sized, soak, thinned
from tests.steps import append_histories as histories
from tests.store.lab import DAMAGES


@pytest.fixture(autouse=True)
def no_threshold(monkeypatch):
    monkeypatch.setattr(increment, "MIN_INPUT_ROWS", 0)
    monkeypatch.setattr(increment, "MAX_SHARE", 1e9)


def grow(ws, folder, seed=1):
    """Gives a workspace a folder of two files and a table that does not change; what adds files."""
    draw = random.Random(seed)
    (folder / "t").mkdir(parents=True)
    histories.write_small_table(folder / "small.parquet")

    def add(*names, rows=20):
        for name in names:
            (folder / "t" / name).parent.mkdir(exist_ok=True)
            histories.write_file(folder / "t" / name, draw, rows)

    add("b1.parquet", "b2.parquet")
    ws.sources.add("t", folder / "t")
    ws.sources.add("small", folder / "small.parquet")
    return add


@pytest.fixture
def add(ws, tmp_path):
    return grow(ws, tmp_path)


@contextlib.contextmanager
def growing_lab(folder, seed=1, **settings):
    """Such a workspace with settings."""
    with jl.open(folder / "lab", settings=settings) as ws:
        yield ws, grow(ws, folder, seed)


def computed_again(ws, statement, change):
    """The manifest of a statement that was computed, and again after a change."""
    ws.materialize("it", statement)
    change()
    table = ws.materialize("it", statement)
    assert ws.verify("it", recompute=True) == Match()
    return table.manifest


INSIDE = {
    "group by": "SELECT g, count(*) AS n, sum(x) AS s, min(d) AS m, avg(f) FROM t GROUP BY g",
    "distinct": "SELECT DISTINCT g, k FROM t",
    "rows": "SELECT t.g, small.name FROM t JOIN small USING (k)",
    "rows in order": "SELECT g, f, x + 1 AS y FROM t WHERE b",
}


@pytest.mark.parametrize("rule", INSIDE)
def test_only_new_files_are_computed_and_the_bytes_are_those_of_a_full_run(ws, add, rule):
    first = ws.materialize("it", INSIDE[rule]).manifest
    assert first.increment is None and list(first.input_files[0].files) == [
        "b1.parquet",
        "b2.parquet",
    ]
    add("b3.parquet")
    [step] = ws.plan().certain
    assert (step.action, step.increment) == ("increment", "1 of 3 files")
    assert not ws.recompute().deviations
    second = ws.table("it").manifest
    assert (second.increment.rule, second.increment.base, second.increment.delta) == (
        rule,
        first.table_name,
        ["b3.parquet"],
    )
    assert ws.verify("it", recompute=True) == Match()
    assert any("b3.parquet merged into" in line for line in ws.why("it").lines)
    full = ws.materialize("full", INSIDE[rule], cache="bypass").manifest
    assert full.increment is None and full.artifact == second.artifact


OUTSIDE = lines("statements/no_increments.sql")


@soak
def test_every_construct_outside_the_algebra_is_computed_in_full(ws, add):
    some = thinned(OUTSIDE, 3)
    for number, statement in enumerate(some):
        ws.materialize(f"s{number}", statement)
    add("b3.parquet")
    increments = {s.name for s in ws.plan().certain if s.action == "increment"}
    assert not increments
    ws.recompute()
    for number, statement in enumerate(some):
        assert ws.table(f"s{number}").manifest.increment is None, statement


REASONS = {
    "SELECT g, avg(x) AS m FROM t GROUP BY g": "avg() of a BIGINT",
    "SELECT x, rank() OVER (ORDER BY x) AS r FROM t": "WINDOW in the statement",
    "SELECT stddev(x) AS s FROM t": "its rows depend on the order of its inputs",
    "SELECT sum(f) + 1 AS s FROM t": "AGGREGATE AND GROUP BY in the statement",
    "SELECT a.k FROM t a, t b": "a join of an input with itself",
}


def test_a_plan_says_why_a_step_is_no_increment(ws, add, monkeypatch):
    for number, statement in enumerate([*REASONS, INSIDE["group by"]]):
        ws.materialize(f"s{number}", statement)
    add("b3.parquet")
    monkeypatch.setattr(reports, "_SLOW_SECONDS", 0.0)
    plan = ws.plan()
    reasons = [step.full_run_reason for step in plan.certain]
    assert reasons == [*REASONS.values(), None]
    assert "s0 is computed in full: avg() of a BIGINT." in str(plan)


@pytest.mark.parametrize("merge_seconds", [1e-6, 1.0])
def test_rows_that_are_costlier_to_compute_than_to_merge_are_merged(
    ws, add, monkeypatch, merge_seconds
):
    monkeypatch.setattr(increment, "MAX_SHARE", 0.75)
    monkeypatch.setattr(increment, "_MERGE_SECONDS", merge_seconds)
    ws.materialize("it", INSIDE["rows in order"])
    for number in range(3, 6):
        add(f"b{number}.parquet", rows=5)
        [step] = ws.plan().certain
        is_increment = merge_seconds < 1
        assert (step.action == "increment") is is_increment
        assert (step.full_run_reason == "a full computation is as fast") is not is_increment
        ws.recompute()


def test_a_child_of_an_aggregate_is_computed_in_full(ws, add):
    ws.materialize("sums", "SELECT g, sum(x) AS s FROM t GROUP BY g")
    ws.materialize("child", "SELECT max(s) AS s FROM jammi.sums")
    add("b3.parquet")
    ws.recompute()
    assert ws.table("sums").manifest.increment and ws.table("child").manifest.increment is None
    assert ws.verify("child", recompute=True) == Match()


def _rewrite(folder):
    histories.write_file(folder / "t" / "b2.parquet", random.Random(5), 20)


CHANGES = {
    "a file was rewritten": lambda folder, add: (add("b3.parquet"), _rewrite(folder)),
    "a file was removed": lambda folder, add: (
        add("b3.parquet"),
        (folder / "t" / "b1.parquet").unlink(),
    ),
    "a file was renamed": lambda folder, add: (
        add("b3.parquet"),
        (folder / "t" / "b1.parquet").rename(folder / "t" / "b0.parquet"),
    ),
    "the other input moved": lambda folder, add: (
        add("b3.parquet"),
        pq.write_table(pq.read_table(folder / "small.parquet").slice(1), folder / "small.parquet"),
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_that_is_no_append_is_computed_in_full(ws, add, tmp_path, change):
    statement = "SELECT name, count(*) AS n FROM t JOIN small USING (k) GROUP BY name"
    manifest = computed_again(ws, statement, lambda: CHANGES[change](tmp_path, add))
    assert manifest.increment is None


def test_a_source_that_is_read_otherwise_is_computed_in_full(ws, add, tmp_path):
    def change():
        add("b3.parquet")
        ws.sources.remove("t")
        ws.sources.add("t", tmp_path / "t", options={"union_by_name": True})

    assert computed_again(ws, INSIDE["group by"], change).increment is None


def test_a_new_file_that_sorts_first_is_an_append_only_where_rows_are_sorted(ws, add):
    assert computed_again(ws, INSIDE["rows in order"], lambda: add("a.parquet")).increment is None
    assert computed_again(ws, INSIDE["group by"], lambda: add("a0.parquet")).increment


@pytest.mark.parametrize("new_type", ["int32", "float64"])
def test_new_files_with_other_types_are_computed_in_full(ws, tmp_path, new_type):
    (tmp_path / "t").mkdir()
    for name, kind in (("b1", "int64"), ("b2", "int64")):
        pq.write_table(pa.table({"x": pa.array([1, 2], kind)}), tmp_path / "t" / f"{name}.parquet")
    ws.sources.add("t", tmp_path / "t")
    values = pa.array([3, 4]).cast(new_type)
    manifest = computed_again(
        ws,
        "SELECT x, count(*) AS n FROM t GROUP BY x",
        lambda: pq.write_table(pa.table({"x": values}), tmp_path / "t" / "c.parquet"),
    )
    assert manifest.increment is None


def test_files_in_partition_folders_are_an_append(ws, add, tmp_path):
    for name in ("b1.parquet", "b2.parquet"):
        (tmp_path / "t" / name).unlink()
    add("day=1/a.parquet", "day=2/a.parquet")
    manifest = computed_again(
        ws,
        "SELECT day, count(*) AS n FROM t GROUP BY day",
        lambda: add("day=1/b.parquet", "day=3/a.parquet"),
    )
    assert manifest.increment.delta == ["day=1/b.parquet", "day=3/a.parquet"]


def test_text_files_are_computed_in_full(ws, tmp_path):
    (tmp_path / "t").mkdir()
    (tmp_path / "t" / "a.csv").write_text("day,n\n01/02/2024,1\n")
    ws.sources.add("t", tmp_path / "t")
    manifest = computed_again(
        ws,
        "SELECT day, count(*) AS n FROM t GROUP BY day",
        lambda: (tmp_path / "t" / "b.csv").write_text("day,n\n13/02/2024,1\n"),
    )
    assert manifest.increment is None and manifest.input_files == []


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_base_leads_to_a_full_run_that_says_so(ws, add, damage):
    files = (f"b{number}.parquet" for number in itertools.count(3))
    histories.check_damaged_base(ws, lambda: add(next(files)), INSIDE["group by"], DAMAGES[damage])


def test_an_unreadable_new_file_is_an_error_of_its_source_and_the_old_version_stays(
    ws, add, tmp_path
):
    ws.materialize("it", INSIDE["group by"])
    add("b3.parquet", rows=5_000)
    body = bytearray((tmp_path / "t" / "b3.parquet").read_bytes())
    body[200:400] = b"\xff" * 200
    (tmp_path / "t" / "b3.parquet").write_bytes(body)
    with pytest.raises(SourceUnavailable, match=r"^The source t cannot be read: "):
        ws.materialize("it", INSIDE["group by"])
    assert ws.table("it").version == 1


FLOAT_SUMS = "SELECT g, sum(f) AS s, avg(f) AS m, max(f) AS top FROM t GROUP BY g"


@pytest.mark.parametrize("damage", DAMAGES)
def test_without_its_partial_sums_a_table_is_no_base(ws, add, damage):
    made = ws.materialize("it", FLOAT_SUMS)
    add("b3.parquet")
    plan = ws.plan(["it"])
    assert [step.action for step in plan.certain] == ["increment"]
    DAMAGES[damage](made.path.with_suffix(".sums.arrow"))
    [deviation] = plan.apply().deviations
    assert deviation.endswith("the partial sums of version 1 of it are damaged or gone")
    assert histories.is_increment(ws, FLOAT_SUMS, lambda: add("b4.parquet"))


def test_partial_sums_are_copied_rebuilt_and_removed_with_their_table(tmp_path):
    with growing_lab(tmp_path) as (ws, add):
        path = ws.materialize("it", FLOAT_SUMS).path
        assert [f.name for f in path.parent.glob("*.sums.arrow")] == [f"{path.stem}.sums.arrow"]
        assert not ws.fsck(deep=True).orphans
        copy_workspace(ws, tmp_path / "copied")
    (tmp_path / "lab" / "catalog.sqlite3").unlink()
    jl.rebuild(tmp_path / "lab")
    add("b3.parquet")
    for folder, has_sources in (("copied", True), ("lab", False)):
        with jl.open(tmp_path / folder) as ws:
            if not has_sources:
                ws.sources.add("t", tmp_path / "t")
            assert ws.materialize("it", FLOAT_SUMS).manifest.increment is not None, folder
            assert ws.verify("it", recompute=True) == Match()
            ws.drop("it")
            assert not [*(tmp_path / folder / "results").rglob("*.arrow")]


def test_a_table_of_very_many_rows_has_no_partial_sums(ws, add, monkeypatch):
    monkeypatch.setattr(increment, "_MAX_PARTIAL_ROWS", 4)
    assert not ws.materialize("it", FLOAT_SUMS).manifest.partial_sums  # it has five rows
    add("b3.parquet")
    [step] = ws.plan().certain
    assert step.full_run_reason == "version 1 of it has no partial sums"


def test_sums_of_the_engine_are_computed_in_full(tmp_path):
    with growing_lab(tmp_path, **{"engine.float_sums": "fast"}) as (ws, add):
        ws.materialize("it", FLOAT_SUMS)
        add("b3.parquet")
        manifest = ws.materialize("it", FLOAT_SUMS).manifest
        assert manifest.increment is None and not manifest.partial_sums
        assert isinstance(ws.verify("it", recompute=True), Match)  # last bits may differ


def test_a_missing_manifest_leads_to_a_full_run(ws, add):
    table = ws.materialize("it", INSIDE["group by"])
    table.path.with_name(f"{table.table_name}.materialization.json").unlink()
    add("b3.parquet")
    assert ws.materialize("it", INSIDE["group by"]).manifest.increment is None


def test_the_setting_and_small_inputs_lead_to_full_runs(tmp_path, monkeypatch):
    with growing_lab(tmp_path, **{"recompute.incremental": "never"}) as (ws, add):
        assert computed_again(ws, INSIDE["group by"], lambda: add("b3.parquet")).increment is None
        ws.settings.set("recompute.incremental", "auto")
        assert computed_again(ws, INSIDE["group by"], lambda: add("b4.parquet")).increment
        monkeypatch.setattr(increment, "MIN_INPUT_ROWS", 1_000)
        assert computed_again(ws, INSIDE["group by"], lambda: add("b5.parquet")).increment is None


def test_verify_by_recomputation_finds_other_rows_and_refuses_changed_inputs(ws, add, monkeypatch):
    ws.materialize("it", INSIDE["group by"])
    add("b3.parquet")
    # A merge that forgets rows: the bytes are those that were published, and yet wrong.
    original = increment.AppendRule.merging_statement
    monkeypatch.setattr(
        increment.AppendRule,
        "merging_statement",
        lambda *rows: f"SELECT * FROM ({original(*rows)}) WHERE n > 8",
    )
    ws.recompute()
    assert ws.verify("it") == Match()
    assert ws.verify("it", recompute=True).what == "recomputation"
    add("b4.parquet")
    with pytest.raises(NotRecomputable, match="have changed since"):
        ws.verify("it", recompute=True)


STATEMENTS, APPENDS = sized((10, 2), (60, 10))


@soak
@pytest.mark.timeout(0)
def test_random_append_histories_give_the_bytes_of_full_runs(tmp_path):
    """Each statement meets each append: 32 histories, 600 in a soak. Many more, without files and
    versions, are in `engine/test_append_histories.py`."""
    draw = random.Random(3)
    statements = [histories.statement(draw) for _ in range(STATEMENTS)]
    with growing_lab(tmp_path, seed=4) as (ws, add):
        for number, (statement, _) in enumerate(statements):
            ws.materialize(f"s{number}", statement)
        for append in range(APPENDS):
            add(
                *(f"c{append:02}{n}.parquet" for n in range(draw.randrange(1, 3))),
                rows=draw.randrange(9),
            )
            run = ws.recompute()
            assert not run.deviations
            computed = {s.name for s in run.steps if s.outcome == "computed"}
            for number, (statement, is_inside) in enumerate(statements):
                if (name := f"s{number}") in computed:
                    assert (ws.table(name).manifest.increment is not None) == is_inside, statement
                    assert ws.verify(name, recompute=True) == Match(), statement
