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
from jammi_lab.steps.executor import to_executor
from tests.steps import append_histories as histories
from tests.steps.sent_work import awaited, doubled, exiting, failing, place_of, recursing

STATEMENT = "SELECT g, count(*) AS n, sum(x) AS s, avg(f) FROM t JOIN small USING (k) GROUP BY g"
"""SQL is computed by this kernel, whatever the executor."""


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

    def test_a_statement_is_computed_by_this_kernel(self, labs: Any) -> None:
        here, there = labs
        expected = here.materialize("it", STATEMENT).manifest
        found = there.materialize("it", STATEMENT).manifest
        assert (found.artifact, found.leaves) == (expected.artifact, expected.leaves)
        assert found.definition_hash == expected.definition_hash
        assert there.staleness("it") == Fresh()
        assert there.verify("it", recompute=True) == Match()

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
