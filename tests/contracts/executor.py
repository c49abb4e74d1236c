"""What every executor must do: subclass `ExecutorSuite`, give it an `executor`, what `jl.open` takes
or None for this kernel, and its tests run against yours. What is computed by it has the bytes of
what this kernel computes."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import jammi_lab as jl
from jammi_lab.core.errors import StepFailed
from jammi_lab.core.verdicts import Fresh, Match
from jammi_lab.steps import increment, parts
from jammi_lab.steps.executor import to_executor
from tests.sizes import sized
from tests.steps import append_histories as histories
from tests.steps.part_faults import awaited, doubled, exiting, failing, place_of, recursing

STATEMENTS = {
    "group by": "SELECT g, count(*) AS n, sum(x) AS s, min(d) AS m, avg(f) FROM t GROUP BY g",
    "distinct": "SELECT DISTINCT g, k FROM t",
    "rows": "SELECT t.g, small.name FROM t JOIN small USING (k)",
    "rows in order": "SELECT g, f, x + 1 AS y FROM t WHERE b",
}
"""A statement for each rule of the algebra."""
ELSEWHERE = {
    "SELECT x, name FROM t LEFT JOIN small USING (k)": "LEFT JOIN in the statement",
    "SELECT x FROM t ORDER BY x, k LIMIT 3": "LIMIT in the statement",
    "SELECT g, count(*) AS n FROM t GROUP BY g HAVING count(*) > 1": "AGGREGATE AND GROUP BY in the statement",
    "SELECT random() AS r FROM t": "do not depend on the rows of its inputs alone",
    "SELECT name FROM small": "it is as quick",
    "SELECT 1 AS one": "it is as quick",
}
"""Statements that this kernel computes, and what is said of why."""


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A part is one small file."""
    monkeypatch.setattr(parts, "PART_BYTES", 1)
    monkeypatch.setattr(increment, "MIN_INPUT_ROWS", 0)
    monkeypatch.setattr(increment, "MAX_SHARE", 1e9)


def write_folder(folder: Path, draw: random.Random, files: int) -> Path:
    """A folder `t` of Parquet files, and the table `small`."""
    (folder / "t").mkdir(parents=True)
    for number in range(files):
        rows = draw.choice([0, 1, 20, 40])
        histories.write_file(folder / "t" / f"{number:03}.parquet", draw, rows)
    histories.write_small_table(folder / "small.parquet")
    return folder


def open_lab(folder: Path, data: Path, executor: Any = None) -> jl.Workspace:
    """A workspace over such a folder."""
    ws = jl.open(folder, executor=executor, settings={"engine.threads": 1})
    ws.sources.add("t", data / "t")
    ws.sources.add("small", data / "small.parquet")
    return ws


def check_same_table(here: jl.Workspace, there: jl.Workspace, statement: str) -> Any:
    """Compute a statement in both workspaces, with equal bytes; the manifest of the second."""
    expected = here.materialize("it", statement).manifest
    found = there.materialize("it", statement).manifest
    assert expected is not None and found is not None and expected.parts is None
    assert (found.artifact, found.leaves) == (expected.artifact, expected.leaves), statement
    assert found.definition_hash == expected.definition_hash
    assert found.input_files == expected.input_files
    assert found.anchors == expected.anchors
    assert bool(found.partial_sums) == bool(expected.partial_sums)
    return found


@pytest.mark.usefixtures("small_parts")
class ExecutorSuite:
    @pytest.fixture
    def executor(self) -> Any:
        raise pytest.UsageError("give the suite an executor")

    @pytest.fixture
    def labs(self, tmp_path: Path, executor: Any) -> Iterator[tuple[jl.Workspace, jl.Workspace]]:
        """A workspace of this kernel alone, and one with the executor, over the same files."""
        data = write_folder(tmp_path / "data", random.Random(1), 5)
        with (
            open_lab(tmp_path / "here", data) as here,
            open_lab(tmp_path / "there", data, executor) as there,
        ):
            yield here, there

    def test_results_come_in_the_order_of_their_batches(self, executor: Any) -> None:
        run = to_executor(executor)
        assert run.threads >= 1
        assert list(run.map(doubled, range(40))) == [2 * n for n in range(40)]
        run.close()

    def test_an_error_comes_in_place_of_its_result(self, executor: Any) -> None:
        run = to_executor(executor)
        results = run.map(failing, [0, 1, 2])
        assert next(results) == 0
        with pytest.raises(ZeroDivisionError):
            next(results)
        run.close()

    @pytest.mark.parametrize(("work", "said"), [(recursing, "recursion"), (exiting, "7")])
    def test_what_cannot_be_sent_is_an_error(self, executor: Any, work: Any, said: str) -> None:
        run = to_executor(executor)
        with pytest.raises((Exception, SystemExit), match=said):
            next(run.map(work, [7]))
        run.close()

    def test_what_is_closed_gives_up_the_rest(self, executor: Any) -> None:
        run = to_executor(executor)
        results = run.map(doubled, range(1000))
        assert next(results) == 0
        results.close()
        assert list(results) == []
        run.close()

    @pytest.mark.parametrize("rule", STATEMENTS)
    def test_a_statement_has_the_bytes_of_this_kernel(self, labs, executor, rule):
        found = check_same_table(*labs, STATEMENTS[rule])
        if executor is not None:
            names = [f"{number:03}.parquet" for number in range(5)]
            assert (found.parts.rule, found.parts.source) == (rule, "t")
            assert [name for files in found.parts.files for name in files] == names
            assert len(found.parts.files) > 1
        there = labs[1]
        assert there.staleness("it") == Fresh()
        assert there.verify("it", recompute=True) == Match()

    @pytest.mark.parametrize("statement", ELSEWHERE)
    def test_what_workers_cannot_compute_is_computed_here_and_the_plan_says_why(
        self, labs, executor, statement
    ):
        here, there = labs
        there.define("it", statement)
        [step] = there.plan().certain
        assert step.parts is None
        if executor is not None:
            assert ELSEWHERE[statement] in step.local_reason
            assert f"it is computed in this kernel: {step.local_reason}." in str(there.plan())
        if "random" not in statement:
            assert check_same_table(here, there, statement).parts is None

    def test_random_statements_over_random_files_have_the_bytes_of_this_kernel(
        self, tmp_path, executor, monkeypatch
    ):
        counts = {True: 0, False: 0}
        for seed in range(sized(2, 40)):
            draw = random.Random(f"parts {seed}")
            data = write_folder(tmp_path / f"{seed}", draw, draw.randrange(2, 8))
            monkeypatch.setattr(parts, "PART_BYTES", draw.choice([1, 3000, 5000]))
            with (
                open_lab(data / "here", data) as here,
                open_lab(data / "there", data, executor) as there,
            ):
                for number in range(sized(3, 12)):
                    statement, is_inside = histories.statement(draw)
                    statement += f" -- {number}"
                    found = check_same_table(here, there, statement)
                    assert is_inside or found.parts is None, statement
                    counts[found.parts is not None] += 1
                    histories.write_file(data / "t" / f"a{number}.parquet", draw, 10)
                    found = check_same_table(here, there, statement)
                    counts[found.parts is not None] += 1
        assert counts[False] and bool(counts[True]) == (executor is not None)

    def test_errors_are_those_of_this_kernel(self, labs):
        said = []
        for ws in labs:
            with pytest.raises(jl.SqlError) as failed:
                ws.materialize("it", "SELECT CAST(g AS INTEGER) AS n FROM t")
            said.append(str(failed.value))
            assert not list(ws.recipes())
        assert said[0] == said[1]

    def test_row_maps_and_embeddings_have_the_rows_of_this_kernel(self, labs, executor):
        source = "SELECT DISTINCT k AS n, 'text ' || k AS text FROM small"
        options: dict[str, Any] = {"key": "n", "inputs": "n"}
        tables = []
        for ws in labs:
            made = [
                ws.map("doubles", doubled, source, **options),
                ws.map("awaited", awaited, source, concurrency=8, **options),
                ws.map("recorded", failing, source, on_error="record", **options),
                ws.embed("vectors", source, key="n", text="text", model="hashing"),
            ]
            tables.append([(t.definition_hash, t.manifest.artifact, t.arrow()) for t in made])
            with pytest.raises(StepFailed, match="for the row 1"):
                ws.map("failed", failing, source, **options)
        assert tables[0] == tables[1]
        places = labs[1].map("places", place_of, source, **options).arrow()["value"].to_pylist()
        assert (set(places) == {place_of(0)}) == (executor is None)
