"""Evaluations beside another kernel."""

from typing import Any

import pytest

import jammi_lab as jl
from jammi_lab.inputs.observation import Observation


@pytest.mark.parametrize("look", ["staleness", "status"])
def test_a_version_that_another_kernel_supersedes_and_expires_is_not_called_damaged(
    tmp_path, monkeypatch, look
):
    words = tmp_path / "words.csv"
    words.write_text("x\n1\n")
    with jl.open(tmp_path / "lab") as ws, jl.open(tmp_path / "lab") as other:
        ws.sources.add("words", words)
        ws.materialize("t", "SELECT * FROM words")
        observe_all = Observation.observe_all
        turns = iter([True])

        def after_an_expiry(self: Observation, *inputs: Any) -> None:
            if next(turns, False):  # between the graph and the stat of its files
                words.write_text("x\n2\n")
                other.materialize("t", "SELECT * FROM words")
                other.expire("t", keep=1)
            observe_all(self, *inputs)

        monkeypatch.setattr(Observation, "observe_all", after_an_expiry)
        verdict = ws.staleness("t") if look == "staleness" else ws.status()["t"].verdict
        assert verdict == jl.Fresh()
        ws.table("t").path.unlink()
        assert ws.staleness("t") == jl.Damaged(None), "one that is ready is"
