"""The version that a new one takes rows over from, where it is damaged."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import jammi_lab as jl
from jammi_lab.core.verdicts import Damaged, Fresh
from tests.features.vectors.test_embedding import Counting
from tests.store.lab import DAMAGES

ROWS = 20


class Texts:
    """A workspace over texts, of which tables are made by a producer that keeps known rows."""

    def __init__(self, ws, folder, producer):
        self.ws, self._producer, self._path = ws, producer, folder / "texts.parquet"
        self.calls: list[str] = []
        self.write()
        ws.sources.add("texts", self._path)

    def write(self, *changed):
        texts = [f"text{n}{'x' * changed.count(n)}" for n in range(ROWS)]
        pq.write_table(pa.table({"id": range(ROWS), "text": texts}), self._path)

    def _length(self, text):
        self.calls.append(text)
        return {"length": len(text)}

    def make(self, name="t", **how):
        how["key"] = "id"
        match self._producer:
            case "row map":
                how |= {"inputs": "text", "version": "1"}
                return self.ws.map(name, lambda text: self._length(text), "texts", **how)
            case "embedding":
                return self.ws.embed(name, "texts", text="text", model=Counting(), **how)
            case _:
                return self.ws.lexical(name, "texts", text="text", **how)

    def check_bytes(self):
        """The rows are byte for byte those of a full computation."""
        full = self.make("full", cache="bypass")
        assert full.reuse.new == ROWS and self.ws.staleness("t") == Fresh()
        assert self.ws.table("t").manifest.artifact == full.manifest.artifact


@pytest.fixture
def texts(tmp_path, request):
    with jl.open(tmp_path / "lab") as ws:
        yield Texts(ws, tmp_path, request.param)


PRODUCERS = pytest.mark.parametrize("texts", ["row map", "embedding", "lexical"], indirect=True)


@PRODUCERS
@pytest.mark.parametrize("damage", DAMAGES)
def test_rows_of_a_version_that_was_damaged_after_the_plan_are_computed_again(texts, damage):
    made = texts.make()
    texts.write(3, 4)
    plan = texts.ws.plan()
    DAMAGES[damage](made.path)
    run = plan.apply()
    assert run.deviations == ["t took no rows over from version 1, which is damaged"]
    assert run.steps[0].reuse.new == ROWS
    texts.check_bytes()


@PRODUCERS
def test_a_plan_made_after_the_damage_counts_all_rows(texts):
    made = texts.make()
    texts.write(3, 4)
    DAMAGES["flipped"](made.path)
    plan = texts.ws.plan()
    [step] = plan.certain
    assert any(isinstance(reason, Damaged) for reason in step.reasons)
    assert step.estimate is None or step.estimate.rows_to_ask == ROWS
    run = plan.apply()
    assert not run.deviations and run.steps[0].reuse.new == ROWS


@PRODUCERS
def test_rows_are_taken_over_from_the_newest_version_that_is_not_damaged(texts):
    texts.make()
    texts.write(3)
    made = texts.make()
    texts.write(3, 4)
    plan = texts.ws.plan()
    texts.calls.clear()
    DAMAGES["cut off"](made.path)
    run = plan.apply()
    assert run.deviations == ["t took no rows over from version 2, which is damaged"]
    assert run.steps[0].reuse.changed == 2 and run.steps[0].reuse.unchanged == ROWS - 2
    assert texts.calls in ([], ["text3x", "text4x"])
    texts.check_bytes()
