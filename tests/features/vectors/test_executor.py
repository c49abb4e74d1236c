"""Batches run here or on a Dask cluster, and what comes out is the same."""

import os
import sys
from typing import Any

import numpy as np
import pytest

from jammi_lab.core.errors import ExtensionMissing, InvalidArgument, SourceUnavailable
from jammi_lab.features.vectors.encoders.base import encode_texts
from jammi_lab.steps.dask_executor import DaskExecutor
from jammi_lab.steps.executor import LocalExecutor, to_executor
from jammi_lab.steps.step_functions import StepFunction, step_failure
from tests.features.vectors.encoders import Broken, Dying, Where
from tests.features.vectors.test_batching import encode
from tests.steps.test_executors import client, cluster, thread_client

__all__ = ["client", "cluster", "thread_client"]

pytestmark = pytest.mark.leaves_behind(
    "threads that Dask keeps for its cluster and for other processes"
)
TEXTS = [f"text {i % 300}" for i in range(1000)]


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


def test_what_an_encoder_raises_on_a_worker_is_said_as_if_it_were_here(thread_client):
    with pytest.raises(SourceUnavailable, match="the model has a bug") as failed:
        encode(Broken(), TEXTS, run_batches=to_executor(thread_client).map)
    assert isinstance(failed.value.__cause__, OSError)


@pytest.mark.only_soak
def test_a_batch_whose_worker_dies_is_run_again_by_another_process(client, tmp_path):
    run = to_executor(client).map
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


def broken():
    raise ValueError("seven")


def test_an_error_from_another_process_is_marked_on_its_line():
    """Distributed sends tracebacks in a form whose columns are not those of the function."""
    tblib = pytest.importorskip("tblib")
    try:
        broken()
    except ValueError as error:
        sent = error.with_traceback(tblib.Traceback(error.__traceback__).as_traceback())
    line, caret = step_failure("words", StepFunction(broken), sent).excerpt.split("\n")
    assert line.index("raise") == caret.index("^")
