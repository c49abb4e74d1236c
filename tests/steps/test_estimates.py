"""The estimated duration of a step, from the rows that it will compute."""

import json
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import jammi_lab as jl
from jammi_lab.core.records import CallEstimate
from jammi_widgets.staleness import _plan_message
from tests.shell import run_shell


class Slow:
    """An encoder that needs two milliseconds a text."""

    name, version, dimensions = "slow", "1", 4

    def __init__(self) -> None:
        self.texts = 0

    def encode(self, texts: list[str]) -> np.ndarray:
        self.texts += len(texts)
        time.sleep(0.002 * len(texts))
        return np.array([[len(t), 1, 1, hash(t) % 7] for t in texts], np.float32)


def write_texts(path: Path, edited: int) -> None:
    texts = [f"text {i}{' edited' * (i < edited)}" for i in range(1000)]
    pq.write_table(pa.table({"id": list(range(1000)), "text": texts}), path)


def test_an_embedding_is_estimated_from_the_texts_to_encode_on_every_surface(ws, tmp_path):
    write_texts(tmp_path / "texts.parquet", 0)
    ws.sources.add("texts", tmp_path / "texts.parquet")
    encoder = Slow()
    full = ws.embed("vectors", "texts", key="id", text="text", model=encoder)
    write_texts(tmp_path / "texts.parquet", 10)
    before = sorted(p for p in Path(ws.path).rglob("*") if p.is_file())
    plan = ws.plan()
    [step] = plan.certain
    assert step.estimate == CallEstimate(10, 1000, 10, step.seconds, unit="text")
    assert str(step.estimate).startswith("10 of 1,000 texts to encode, about ")
    assert step.calls == 10
    assert step.seconds < full.seconds / 3, "one text in a hundred"
    assert encoder.texts == 1000, "nothing was encoded"
    assert sorted(p for p in Path(ws.path).rglob("*") if p.is_file()) == before

    assert "vectors: 10 of 1,000 texts to encode" in str(plan)
    bounds = str(plan).splitlines()[-1].split(". ")[0]
    message = _plan_message(plan)
    assert message["bounds"] == bounds and bounds.startswith("Estimated time: 0 s to ")
    duration = message["plan"][0][1][0][2]
    assert f"  {duration}\n" in str(plan)

    plan.apply()
    assert encoder.texts == 1010
    write_texts(tmp_path / "texts.parquet", 20)
    assert ws.plan().certain[0].estimate.rows_to_ask == 10


def test_a_statement_is_estimated_by_its_last_run(ws, tmp_path):
    pq.write_table(pa.table({"x": range(1000)}), tmp_path / "t.parquet")
    ws.sources.add("t", tmp_path / "t.parquet")
    full = ws.materialize("m", "SELECT median(x) AS x FROM t")
    pq.write_table(pa.table({"x": range(10_000)}), tmp_path / "t.parquet")
    assert ws.plan().certain[0].seconds == full.seconds


def test_the_command_line_prints_the_same_figures(tmp_path):
    (tmp_path / "a.csv").write_text("x\n1\n")
    with jl.open(tmp_path / "lab") as ws:
        ws.sources.add("a", tmp_path / "a.csv")
        ws.materialize("b", "SELECT x + 1 AS y FROM a")
        (tmp_path / "a.csv").write_text("x\n2\n")
        plan = ws.plan()
    printed = run_shell("plan", str(tmp_path / "lab"), "--json")
    value = json.loads(printed.output)
    assert value["seconds_at_least"] == plan.seconds_at_least == value["certain"][0]["seconds"]
    assert value["seconds_at_most"] == plan.seconds_at_most
