"""The executors keep the contract, and what is particular to workers of a cluster."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

import jammi_lab as jl
from jammi_lab.core.errors import SourceUnavailable
from jammi_lab.steps import dask_executor
from jammi_lab.steps.executor import to_executor
from tests.contracts.executor import ExecutorSuite
from tests.steps import sent_work
from tests.steps.sent_work import doubled, faulty, place_of
from tests.waiting import until

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


def test_work_that_a_worker_cannot_load_is_an_error_at_once(client):
    with pytest.raises(ModuleNotFoundError):
        list(to_executor(client).map(sent_work.Unloadable(), range(3)))


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


SOURCE = "SELECT range AS n FROM range(200)"
"""Rows for a function, more than one batch."""


def test_a_worker_that_is_killed_in_the_middle_leaves_the_same_rows(ws, client, tmp_path):
    mark = tmp_path / "mark"
    client.run(sent_work.die_once, str(mark), 3)
    try:
        made = ws.materialize("it", jl.RowMap(faulty, SOURCE, key="n", inputs="n"), executor=client)
        assert made.arrow()["value"].to_pylist() == [2 * n for n in range(200)]
        assert mark.stat().st_size > 200
    finally:
        client.run(sent_work.mend)


@pytest.mark.only_soak
@pytest.mark.parametrize("loss", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "frozen"])
def test_a_lost_scheduler_is_a_typed_error_and_leaves_nothing(tmp_path, monkeypatch, loss):
    pytest.importorskip("distributed")
    from distributed import Client

    monkeypatch.setattr(dask_executor, "LOST_AFTER_SECONDS", 5)
    monkeypatch.setattr(dask_executor, "CONNECT_TIMEOUT_SECONDS", 2)

    process = subprocess.Popen(
        [sys.executable, "-m", "tests.steps.lost_cluster"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert process.stdout is not None and process.stdin is not None
    address, mark = process.stdout.readline().strip(), tmp_path / "mark"
    with process, jl.open(tmp_path / "lab", executor=address) as ws:
        with Client(address, set_as_default=False) as client:
            client.run(sent_work.take_long, str(mark))

        def lose() -> None:
            until(mark.exists)
            process.send_signal(loss)

        thread = threading.Thread(target=lose)
        thread.start()
        with pytest.raises(SourceUnavailable, match=r"Dask cluster (was lost|has resp)"):
            ws.map("it", faulty, SOURCE, key="n", inputs="n")
        thread.join()
        process.kill()
        assert not list(ws.recipes())
        assert ws.materialize("it", SOURCE).row_count == 200


def test_an_interrupt_gives_up_the_calls_and_leaves_nothing(ws, client, tmp_path):
    import _thread

    mark = tmp_path / "mark"
    client.run(sent_work.take_long, str(mark))

    def interrupt() -> None:
        until(mark.exists)
        _thread.interrupt_main()

    row_map = jl.RowMap(faulty, SOURCE, key="n", inputs="n")
    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        ws.materialize("it", row_map, executor=client)
    thread.join()
    client.run(sent_work.mend)
    until(lambda: not client.run_on_scheduler(lambda dask_scheduler: len(dask_scheduler.tasks)))
    assert not list(ws.recipes())
    assert ws.materialize("it", row_map, executor=client).row_count == 200


def test_one_call_names_its_own_executor(ws, cluster):
    row_map = jl.RowMap(place_of, SOURCE, key="n", inputs="n")
    made = ws.materialize("it", row_map, executor=cluster.scheduler_address)
    assert place_of(0) not in made.arrow()["value"].to_pylist()
    made = ws.materialize("it", row_map, cache="bypass")
    assert set(made.arrow()["value"].to_pylist()) == {place_of(0)}
