"""Batches run here or on a Dask cluster, and what comes out is the same."""

import os
import sys
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import jammi_lab as jl
from jammi_lab.core.errors import ExtensionMissing, InvalidArgument, SourceUnavailable, StepFailed
from jammi_lab.features.vectors.encoders.base import encode_texts
from jammi_lab.steps.dask_executor import DaskExecutor
from jammi_lab.steps.executor import LocalExecutor, to_executor
from jammi_lab.steps.step_functions import StepFunction, step_failure
from tests.features.vectors.encoders import Broken, Dying, Where
from tests.features.vectors.test_batching import encode

pytestmark = pytest.mark.leaves_behind(
    "threads that Dask keeps for its cluster and for other processes"
)
TEXTS = [f"text {i % 300}" for i in range(1000)]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Two workers, as threads of this process."""
    pytest.importorskip("distributed")
    from distributed import LocalCluster

    with LocalCluster(
        n_workers=2,
        threads_per_worker=1,
        processes=False,
        dashboard_address=None,
        memory_limit=None,
    ) as made:
        yield made


@pytest.fixture
def processes(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A client of two workers, each a process that can import the tests."""
    pytest.importorskip("distributed")
    from distributed import Client, LocalCluster

    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    options = {
        "n_workers": 2,
        "threads_per_worker": 1,
        "processes": True,
        "dashboard_address": None,
        "memory_limit": None,
    }
    with LocalCluster(**options) as made, Client(made, set_as_default=False) as client:
        yield client


@pytest.fixture(scope="module")
def client(cluster: Any) -> Iterator[Any]:
    from distributed import Client

    with Client(cluster, set_as_default=False) as made:
        yield made


def test_without_a_word_batches_run_here_and_only_when_they_are_asked_for():
    seen: list[int] = []
    coming = to_executor(None).map(lambda n: seen.append(n) or n * 2, [1, 2, 3])
    assert (
        seen == []
        and next(coming) == 2
        and seen == [1]
        and isinstance(to_executor(None), LocalExecutor)
    )


@pytest.mark.parametrize("given", [7, object()])
def test_what_runs_no_batches_is_refused(given):
    with pytest.raises(InvalidArgument, match=r"distributed\.Client"):
        to_executor(given)


def test_a_missing_package_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ExtensionMissing, match=r"jammi-lab\[dask\]"):
        to_executor("tcp://127.0.0.1:1")


def test_a_scheduler_that_does_not_answer_is_typed(monkeypatch):
    pytest.importorskip("distributed")
    monkeypatch.setattr("jammi_lab.steps.dask_executor.CONNECT_TIMEOUT_SECONDS", 0.5)
    with pytest.raises(SourceUnavailable, match="No Dask scheduler responds"):
        to_executor("tcp://127.0.0.1:1")


def test_what_an_encoder_raises_on_a_worker_is_said_as_if_it_were_here(client):
    with pytest.raises(SourceUnavailable, match="the model has a bug") as failed:
        encode(Broken(), TEXTS, run_batches=to_executor(client).map)
    assert isinstance(failed.value.__cause__, OSError)


@pytest.mark.only_soak
def test_a_batch_whose_worker_dies_is_run_again_by_another_process(processes, tmp_path):
    run = to_executor(processes).map
    encoder = Dying(str(tmp_path / "died"), times=1)
    assert np.array_equal(
        encode(encoder, TEXTS, batch=50, run_batches=run),
        encode_texts(Where(), TEXTS)[:, :1] * np.ones((1, 2)),
    )
    assert (tmp_path / "died").read_text() == "x"
    assert os.getpid() not in {int(made[0, 1]) for made in run(Where().encode, [["a"], ["b"]])}


@pytest.mark.parametrize(
    ("error", "said"),
    [
        ("KilledWorker", "while running the same batch"),
        ("FutureCancelledError", "was lost"),
        ("OSError", "was lost"),
    ],
)
def test_a_cluster_that_fails_a_batch_is_a_typed_error(error, said):
    from distributed.client import FutureCancelledError
    from distributed.scheduler import KilledWorker

    raised = {
        "KilledWorker": KilledWorker("task", None, 3),
        "FutureCancelledError": FutureCancelledError("task", "lost"),
        "OSError": OSError("closed"),
    }

    class Lost:
        status = "lost"

        def done(self) -> bool:
            return True

        def result(self, timeout: float) -> Any:
            raise raised[error]

    with pytest.raises(SourceUnavailable, match=said):
        DaskExecutor(object()).wait_for_result(Lost())


@pytest.mark.parametrize("how", ["client", "address"])
def test_embed_gives_the_same_table_on_a_cluster_as_here(cluster, client, tmp_path, how):
    (tmp_path / "papers.csv").write_text(
        "id,title\n" + "\n".join(f"{i},{text}" for i, text in enumerate(TEXTS)) + "\n"
    )
    tables = []
    for name, executor in (
        ("here", None),
        ("there", client if how == "client" else cluster.scheduler_address),
    ):
        with jl.open(tmp_path / name, executor=executor) as ws:
            ws.sources.add("papers", tmp_path / "papers.csv")
            made = ws.embed("vectors", "papers", key="id", text="title", model="hashing")
            tables.append(
                (made.manifest.artifact.digest, made.definition_hash, made.read().arrow())
            )
            assert ws.staleness("vectors") == jl.Fresh()
    assert tables[0] == tables[1]
    assert client.status == "running", "a client that was given stays open"


def first_words(text: str) -> dict[str, Any]:
    """The function of a row map, which runs on the cluster."""
    if text == "text 7":
        raise ValueError("seven")
    return {"word": text.split(maxsplit=1)[0], "thread": threading.current_thread().name}


async def awaited(text: str) -> str:
    return text.upper()


def test_map_gives_the_same_rows_on_a_cluster_as_here(client, tmp_path):
    pq.write_table(pa.table({"id": range(100), "text": TEXTS[:100]}), tmp_path / "texts.parquet")
    tables = []
    for name, executor in (("here", None), ("there", client)):
        with jl.open(tmp_path / name, executor=executor) as ws:
            ws.sources.add("texts", tmp_path / "texts.parquet")
            options = {"key": "id", "inputs": "text", "on_error": "record"}
            rows = ws.map("words", first_words, "texts", **options).read().arrow()
            upper = ws.map("upper", awaited, "texts", concurrency=8, **options).read().arrow()
            threads = {*rows["thread"].to_pylist()} - {None}
            assert (threads == {threading.current_thread().name}) == (name == "here")
            with pytest.raises(StepFailed, match="for the row 7: seven"):
                ws.map("raised", first_words, "texts", key="id", inputs="text")
            tables.append((rows.drop_columns(["thread"]), upper))
    assert tables[0] == tables[1] and tables[0][0]["_error"][7].as_py() == "ValueError: seven"


def test_an_error_from_another_process_is_marked_on_its_line():
    """Distributed sends tracebacks in a form whose columns are not those of the function."""
    tblib = pytest.importorskip("tblib")
    try:
        first_words("text 7")
    except ValueError as error:
        sent = error.with_traceback(tblib.Traceback(error.__traceback__).as_traceback())
    line, caret = step_failure("words", StepFunction(first_words), sent).excerpt.split("\n")
    assert line.index("raise") == caret.index("^")
