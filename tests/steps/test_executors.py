"""The executors keep the contract, and what is particular to workers of a cluster."""

import contextlib
import importlib
import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import jammi_lab as jl
from jammi_lab.core.errors import SourceUnavailable
from jammi_lab.core.verdicts import Fresh
from jammi_lab.sources.base import ReadFile
from jammi_lab.sources.files import remote_files
from jammi_lab.steps import dask_executor, parts
from jammi_lab.steps.executor import to_executor
from tests.cases import cases
from tests.contracts.executor import (
    STATEMENTS,
    ExecutorSuite,
    check_same_table,
    open_lab,
    small_parts,
    write_folder,
)
from tests.services import stores
from tests.steps import append_histories as histories
from tests.steps import part_faults
from tests.steps.part_faults import doubled
from tests.waiting import until

__all__ = ["small_parts"]
pytestmark = pytest.mark.leaves_behind(
    "threads that Dask keeps for its cluster and for other processes"
)
OPTIONS: dict[str, Any] = {
    "n_workers": 2,
    "threads_per_worker": 1,
    "dashboard_address": None,
    "memory_limit": None,
}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Two workers, each a process that can import the tests."""
    pytest.importorskip("distributed")
    from distributed import LocalCluster

    before = os.environ.get("PYTHONPATH", "")
    os.environ["PYTHONPATH"] = os.pathsep.join(sys.path)
    try:
        with LocalCluster(processes=True, **OPTIONS) as made:
            yield made
    finally:
        os.environ["PYTHONPATH"] = before


@pytest.fixture
def client(cluster: Any) -> Iterator[Any]:
    from distributed import Client

    with Client(cluster, set_as_default=False) as made:
        made.wait_for_workers(2)
        yield made


@pytest.fixture(scope="module")
def thread_client() -> Iterator[Any]:
    pytest.importorskip("distributed")
    from distributed import Client, LocalCluster

    with (
        LocalCluster(processes=False, **OPTIONS) as made,
        Client(made, set_as_default=False) as client,
    ):
        yield client


class TestExecutors(ExecutorSuite):
    @pytest.fixture(params=["this kernel", "threads", "processes by address"])
    def executor(self, request: pytest.FixtureRequest) -> Any:
        if request.param == "threads":
            return request.getfixturevalue("thread_client")
        if request.param == "processes by address":
            return request.getfixturevalue("cluster").scheduler_address
        return None


@pytest.fixture
def labs(tmp_path: Path, client: Any, small_parts: None) -> Iterator[Any]:
    data = write_folder(tmp_path / "data", random.Random(2), 6)
    with (
        open_lab(tmp_path / "here", data) as here,
        open_lab(tmp_path / "there", data, client) as there,
    ):
        yield here, there


def test_work_that_a_worker_cannot_load_is_an_error_at_once(client):
    with pytest.raises(ModuleNotFoundError):
        list(to_executor(client).map(part_faults.Unloadable(), range(3)))


@pytest.fixture
def losing() -> Iterator[Any]:
    """A cluster that has lost its only worker, and results of which all but the first are to
    come."""
    pytest.importorskip("distributed")
    from distributed import Client, LocalCluster

    options = OPTIONS | {"n_workers": 1, "processes": False}
    with LocalCluster(**options) as made, Client(made, set_as_default=False) as client:
        results = to_executor(client).map(doubled, range(40))
        assert next(results) == 0
        made.scale(0)
        until(lambda: not made.scheduler.workers)
        yield made, results


def test_a_cluster_without_workers_is_a_typed_error_within_a_limit(losing, monkeypatch):
    monkeypatch.setattr(dask_executor, "LOST_AFTER_SECONDS", 1)
    with pytest.raises(
        SourceUnavailable, match="No worker of the Dask cluster has responded for 1 s"
    ):
        list(losing[1])


def test_workers_that_come_back_within_the_limit_go_on(losing):
    cluster, results = losing
    timer = threading.Timer(0.5, cluster.scale, [1])
    timer.start()
    assert list(results) == [2 * n for n in range(1, 40)]
    timer.join()


@pytest.mark.parametrize(
    ("sizes", "threads", "files_of_parts"),
    cases("statements/shares_of_parts", "sizes", "threads", "files"),
)
def test_parts_have_equal_shares_and_keep_all_threads_busy(
    monkeypatch, sizes, threads, files_of_parts
):
    monkeypatch.setattr(parts, "PART_BYTES", 64)
    files = [ReadFile(f"{number}", "", size) for number, size in enumerate(sizes)]
    divided = parts.divide(files, threads)
    assert [file for part in divided for file in part] == files
    assert [len(part) for part in divided] == files_of_parts


def test_files_of_other_columns_are_read_by_this_kernel(labs, tmp_path):
    here, there = labs
    other = histories.new_rows(random.Random(4), 3)
    narrow = pa.array([1, 2, 3], pa.int32())
    other = other.set_column(other.column_names.index("x"), "x", narrow)
    pq.write_table(other, tmp_path / "data" / "t" / "other.parquet")
    there.define("it", "SELECT x, k FROM t WHERE x > 0")
    [step] = there.plan().certain
    assert step.local_reason == "some files alone have other columns or types"
    assert check_same_table(here, there, "SELECT x, k FROM t WHERE x > 0").parts is None


def test_a_worker_that_is_killed_in_the_middle_leaves_the_same_bytes(labs, client, tmp_path):
    mark = tmp_path / "mark"
    client.run(part_faults.die_once, str(mark), 3)
    try:
        for statement in STATEMENTS.values():
            assert check_same_table(*labs, statement).parts is not None
        assert mark.stat().st_size > 3
    finally:
        client.run(part_faults.mend)


@pytest.mark.only_soak
@pytest.mark.parametrize("loss", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "frozen"])
def test_a_lost_scheduler_is_a_typed_error_and_leaves_nothing(
    tmp_path, small_parts, monkeypatch, loss
):
    pytest.importorskip("distributed")
    from distributed import Client

    monkeypatch.setattr(dask_executor, "LOST_AFTER_SECONDS", 5)
    monkeypatch.setattr(dask_executor, "CONNECT_TIMEOUT_SECONDS", 2)

    data = write_folder(tmp_path / "data", random.Random(2), 6)
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.steps.lost_cluster"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert process.stdout is not None and process.stdin is not None
    address, mark = process.stdout.readline().strip(), tmp_path / "mark"
    with process, open_lab(tmp_path / "there", data, address) as there:
        with Client(address, set_as_default=False) as client:
            client.run(part_faults.take_long, str(mark))

        def lose() -> None:
            until(mark.exists)
            process.send_signal(loss)

        thread = threading.Thread(target=lose)
        thread.start()
        with pytest.raises(SourceUnavailable, match=r"Dask cluster (was lost|has resp)"):
            there.materialize("it", STATEMENTS["distinct"])
        thread.join()
        process.kill()
        assert not list(there.recipes())
        assert there.materialize("it", STATEMENTS["distinct"]).manifest.parts is None


def test_an_interrupt_gives_up_the_parts_and_leaves_nothing(labs, client, tmp_path):
    import _thread

    mark, there = tmp_path / "mark", labs[1]
    client.run(part_faults.take_long, str(mark))

    def interrupt() -> None:
        until(mark.exists)
        _thread.interrupt_main()

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        there.materialize("it", STATEMENTS["rows"])
    thread.join()
    client.run(part_faults.mend)
    until(lambda: not client.run_on_scheduler(lambda dask_scheduler: len(dask_scheduler.tasks)))
    assert not list(there.recipes())
    assert check_same_table(*labs, STATEMENTS["rows"]).parts is not None


def test_progress_is_told_by_part(labs):
    seen: list[Any] = []
    labs[1].materialize("it", STATEMENTS["distinct"], progress=seen.append)
    percents = [each.done for each in seen if each.unit == "percent"]
    assert percents == sorted(percents) and percents[-1] == 100 and len(percents) == 6


def test_a_file_that_changes_under_the_workers_is_read_again(labs, tmp_path, monkeypatch):
    """The second look is that of every build; what a worker sees must be what was observed."""
    here, there = labs
    gather, changed = parts.gather, tmp_path / "data" / "t" / "003.parquet"
    calls = []

    def changing(*arguments: Any) -> Any:
        calls.append(1)
        rows = gather(*arguments)
        if len(calls) == 1:
            histories.write_file(changed, random.Random(9), 30)
        return rows

    monkeypatch.setattr(parts, "gather", changing)
    made = there.materialize("it", STATEMENTS["group by"]).manifest
    assert made.artifact == here.materialize("it", STATEMENTS["group by"]).manifest.artifact
    assert len(calls) == 2 and there.staleness("it") == Fresh()


def test_a_file_that_a_worker_sees_otherwise_is_read_by_this_kernel(labs, monkeypatch):
    here, there = labs
    monkeypatch.setattr(parts, "stat_of", lambda path: None)
    there.define("it", STATEMENTS["rows"])
    plan = there.plan()
    assert plan.certain[0].parts == 6
    [said] = plan.apply().deviations
    assert said.startswith("it was computed in this kernel: a worker does not see 00")
    assert check_same_table(here, there, STATEMENTS["rows"]).parts is None


def test_a_worker_of_another_release_computes_nothing(labs, monkeypatch):
    monkeypatch.setattr(parts, "RELEASE", ("0.0.9", "1.5.5"))
    there = labs[1]
    there.define("it", STATEMENTS["rows"])
    [said] = there.recompute().deviations
    assert said == (
        "it was computed in this kernel: a worker has another release of jammi_lab or DuckDB"
    )


def test_a_cluster_with_fewer_threads_than_this_kernel_is_not_used(tmp_path, client, small_parts):
    data = write_folder(tmp_path / "data", random.Random(2), 6)
    with jl.open(tmp_path / "lab", executor=client, settings={"engine.threads": 3}) as ws:
        ws.sources.add("t", data / "t")
        ws.define("it", STATEMENTS["distinct"])
        [step] = ws.plan().certain
        assert step.local_reason == "the cluster has fewer threads than this kernel"


def test_one_call_names_its_own_executor(tmp_path, cluster, small_parts):
    data = write_folder(tmp_path / "data", random.Random(2), 6)
    with open_lab(tmp_path / "lab", data) as ws:
        statement = STATEMENTS["distinct"]
        table = ws.materialize("it", statement, executor=cluster.scheduler_address)
        assert len(table.manifest.parts.files) == 6
        assert ws.materialize("it", statement, cache="bypass").manifest.parts is None


def test_other_inputs_are_read_by_each_worker_or_not_at_all(labs):
    here, there = labs
    for ws in labs:
        ws.materialize("names", "SELECT DISTINCT k, name FROM small")
    joined = "SELECT g, n.name, count(*) AS n FROM t JOIN jammi.names n USING (k) GROUP BY ALL"
    assert check_same_table(here, there, joined).parts is not None
    for ws in labs:
        schema = pa.schema({"k": pa.int32(), "label": pa.string()})
        ws.mutable.create("labels", schema, primary_key=["k"])
    joined = "SELECT g, label FROM t JOIN mutable.labels USING (k)"
    there.define("other", joined)
    [step] = there.plan("other").certain
    assert "only this kernel can read" in step.local_reason
    made = there.materialize("other", joined).manifest
    assert made.parts is None
    assert made.artifact == here.materialize("other", joined).manifest.artifact


@pytest.mark.parametrize("kind", ["Delta", "Iceberg"])
def test_a_lakehouse_table_is_read_by_its_data_files(tmp_path, thread_client, small_parts, kind):
    tables = importlib.import_module("tests.steps.test_increment_of_tables")
    with (
        contextlib.closing(getattr(tables, kind)(tmp_path)) as table,
        jl.open(tmp_path / "here") as here,
        jl.open(
            tmp_path / "there", executor=thread_client, settings={"engine.threads": 1}
        ) as there,
    ):
        histories.write_small_table(tmp_path / "small.parquet")
        for ws in (here, there):
            ws.sources.add("t", table.path, kind=kind.lower())
            ws.sources.add("small", tmp_path / "small.parquet")
        found = check_same_table(here, there, STATEMENTS["group by"])
        assert len(found.parts.files) == len(table.data_files()) == 2
        assert all(path.endswith(".parquet") for files in found.parts.files for path in files)
        assert check_same_table(here, there, STATEMENTS["rows"]).parts is not None
        in_order = "SELECT g, x + 1 AS y FROM t WHERE b"
        assert (check_same_table(here, there, in_order).parts is None) == (kind == "Delta")
        if kind == "Delta":
            there.define("it", f"{in_order} AND x > 0")
            [step] = there.plan().certain
            assert step.local_reason == "the order of its files is not known"
        table.delete()
        check_same_table(here, there, STATEMENTS["group by"])
        assert there.staleness("it") == Fresh()


def test_a_store_is_read_with_its_credentials_which_are_written_nowhere(
    tmp_path, client, small_parts, monkeypatch
):
    pytest.importorskip("duckdb_extension_httpfs")
    monkeypatch.setattr(remote_files, "MAX_PART_BYTES", 0)  # else they are read here, at once
    draw = random.Random(3)
    with stores.s3_server() as endpoint:
        bucket = stores.bucket_of(endpoint)
        for number in range(4):
            histories.write_file(tmp_path / "file", draw, 30)
            bucket.put(f"t/{number}.parquet", (tmp_path / "file").read_bytes())
        with (
            jl.open(tmp_path / "here") as here,
            jl.open(tmp_path / "there", executor=client, settings={"engine.threads": 1}) as there,
        ):
            for ws in (here, there):
                ws.sources.add("t", bucket.url("t/"), options=bucket.options)
            for rule in ("group by", "distinct", "rows in order"):
                found = check_same_table(here, there, STATEMENTS[rule])
                assert [name for [name] in found.parts.files] == [f"{n}.parquet" for n in range(4)]
            # a part that fails is what Dask logs
            monkeypatch.setattr(parts, "RELEASE", ("0.0.9", "1.5.5"))
            there.materialize("it", STATEMENTS["distinct"], cache="bypass")
            monkeypatch.undo()
    written = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    written += [repr(client.get_worker_logs()).encode(), repr(client.get_scheduler_logs()).encode()]
    assert b"another release" in written[-2]
    for secret in (stores.KEY, stores.SECRET):
        assert not any(secret.encode() in text for text in written)
