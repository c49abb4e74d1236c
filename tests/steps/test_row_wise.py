"""The contract of row-wise work, over all that is computed so: embeddings, words of texts, row
maps. What is known is taken over, what is computed is kept until it is published, and the rows are
those of a full run."""

import os
import random
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import jammi_lab as jl
from jammi_lab.core import errors
from jammi_lab.core.records import Reuse
from jammi_lab.core.verdicts import Damaged, Fresh, Match
from jammi_lab.features.words import lexical_work
from jammi_lab.steps.checkpoint import Checkpoint
from jammi_lab.steps.row_wise import PreviousVersion
from jammi_lab.store.result_files import ResultFiles
from tests.sizes import sized, soak
from tests.store.lab import DAMAGES

DAY_SECONDS = 86_400


if TYPE_CHECKING:
    from collections.abc import Callable

COUNT = 300
BATCH_ROWS = 128
"""Rows that an embedding and words compute at a time; a row map computes one."""
Texts = dict[int, str | None]
TEXTS: Texts = {n: f"text {n}" for n in range(1, COUNT + 1)}


class Work:
    """A workspace over texts, of which tables are made by one kind of row-wise work."""

    dimensions, name, version = 2, "lengths", "1"

    def __init__(self, ws: Any, folder: Path, kind: str) -> None:
        self.ws, self.kind, self._path = ws, kind, folder / "texts.parquet"
        self.computed: list[str] = []
        self.before: Callable[[str], object] = lambda _: None
        """Called with each text before it is computed."""
        self.write(TEXTS)
        ws.sources.add("texts", self._path)

    def write(self, texts: Texts) -> None:
        """Replace the rows of the source."""
        kinds = pa.schema([("id", pa.int64()), ("text", pa.string())])
        columns = {"id": list(texts), "text": list(texts.values())}
        pq.write_table(pa.table(columns, schema=kinds), self._path)

    def compute(self, texts: list[str]) -> None:
        for text in texts:
            self.before(text)
        self.computed += texts

    def encode(self, texts: list[str]) -> Any:
        self.compute(texts)
        return np.array([[1, len(text)] for text in texts], np.float32)

    def _length(self, text: str) -> dict[str, int]:
        self.compute([text])
        return {"length": len(text)}

    def make(self, name: str = "t", over: str = "texts", **how: Any) -> Any:
        how["key"] = "id"
        match self.kind:
            case "row map":
                how |= {"inputs": "text", "version": "1", "schema": {"length": "bigint"}}
                return self.ws.map(name, lambda text: self._length(text), over, **how)
            case "embedding":
                return self.ws.embed(name, over, text="text", model=self, **how)
            case _:
                return self.ws.lexical(name, over, text="text", **how)

    def interrupt(self, name: str = "t", over: str = "texts", after: int = 200) -> Any:
        """Make a table whose run is interrupted after so many texts; returns the interrupt."""
        asked: list[str] = []

        def stop(text: str) -> None:
            if len(asked) >= after:
                raise KeyboardInterrupt
            asked.append(text)

        self.before = stop
        with pytest.raises(KeyboardInterrupt) as stopped:
            self.make(name, over)
        self.before = lambda _: None
        return stopped.value

    def checkpoints(self) -> list[Path]:
        return sorted((Path(self.ws.path) / "checkpoints").glob("*"))

    def check_is_full_run(self, name: str = "t") -> None:
        """The rows are byte for byte those of a full computation."""
        full = self.make("full", cache="bypass")
        assert full.reuse.new == full.row_count and self.ws.staleness(name) == Fresh()
        assert self.ws.table(name).path.read_bytes() == full.path.read_bytes()


@pytest.fixture(params=["row map", "embedding", "words"])
def work(ws: Any, tmp_path: Path, request: Any, monkeypatch: pytest.MonkeyPatch) -> Work:
    made = Work(ws, tmp_path, request.param)
    analyze = lexical_work.analyze_texts

    def spy(texts: list[str], analyzer: str) -> pa.RecordBatch:
        made.compute(texts)
        return analyze(texts, analyzer)

    monkeypatch.setattr(lexical_work, "analyze_texts", spy)
    monkeypatch.setattr(lexical_work, "BATCH_ROWS", BATCH_ROWS)
    return made


# -- what is computed ------------------------------------------------------------------------------


def test_rows_come_in_key_order_and_equal_texts_are_computed_once(work):
    work.write({3: "a", 10: "b", 1: "a", 2: "a"})
    table = work.make()
    assert table.read().arrow().column(0).to_pylist() == [1, 2, 3, 10]
    assert sorted(work.computed) == ["a", "b"]
    assert table.verify() == Match() and table.reuse == Reuse(4, 0, 0, 0)


def test_no_rows_are_a_table_without_rows(work):
    work.write({})
    assert work.make().row_count == 0 and work.computed == []
    work.write({1: "a"})
    assert work.make().reuse.new == 1


@pytest.mark.parametrize(
    ("over", "error", "said"),
    [
        ("SELECT nullif(id, 7) AS id, text FROM texts", errors.SchemaMismatch, "1 of 300 rows"),
        ("SELECT id // 2 AS id, text FROM texts", errors.DuplicateKey, "not unique: 1, 2, 3, 4, 5"),
    ],
)
def test_keys_are_checked_before_anything_is_computed(work, over, error, said):
    with pytest.raises(error, match=said):
        work.make(over=over)
    assert work.computed == [] and "t" not in work.ws


def test_only_new_and_changed_texts_are_computed(work):
    work.make()
    work.computed.clear()
    work.write({k: t for k, t in TEXTS.items() if k != 9} | {7: "x", 8: "y", 999: "z"})
    table = work.make()
    assert sorted(work.computed) == ["x", "y", "z"]
    assert table.reuse == work.ws.table("t").reuse == Reuse(1, 2, 1, 297)
    work.check_is_full_run()
    work.computed.clear()
    work.write(TEXTS | {7: "other"})
    report = work.ws.recompute("t")
    assert sorted(work.computed) == ["other", "text 8", "text 9"]
    assert [step.reuse for step in report.steps if step.name == "t"] == [Reuse(1, 2, 1, 297)]


def test_bypass_takes_nothing_over(work):
    work.make()
    work.write(TEXTS | {1: "x"})
    work.interrupt(after=0)
    work.computed.clear()
    table = work.make(cache="bypass")
    assert (len(work.computed), table.reuse) == (300, Reuse(300, 0, 0, 0))
    work.computed.clear()
    again = work.make()
    assert (again.outcome, again.reuse) == ("reused", Reuse(0, 0, 0, 300)) and not work.computed


def test_a_definition_computes_nothing(work):
    work.make()
    work.computed.clear()
    work.write(TEXTS | {1: "x"})
    work.ws.staleness("t")
    plan = work.ws.plan()
    assert [step.name for step in plan.certain] == ["t"] and work.computed == []


# -- previous versions -----------------------------------------------------------------------------


@pytest.mark.parametrize("damage", DAMAGES)
def test_rows_of_a_version_that_was_damaged_after_the_plan_are_computed_again(work, damage):
    made = work.make()
    work.write(TEXTS | {3: "x"})
    plan = work.ws.plan()
    DAMAGES[damage](made.path)
    run = plan.apply()
    assert run.deviations == ["t took no rows over from version 1, which is damaged"]
    assert run.steps[0].reuse.new == COUNT
    work.check_is_full_run()


def test_a_plan_made_after_the_damage_counts_all_rows(work):
    made = work.make()
    work.write(TEXTS | {3: "x"})
    DAMAGES["flipped"](made.path)
    plan = work.ws.plan()
    [step] = plan.certain
    assert any(isinstance(reason, Damaged) for reason in step.reasons)
    assert step.estimate is None or step.estimate.rows_to_ask == COUNT
    run = plan.apply()
    assert not run.deviations and run.steps[0].reuse.new == COUNT


def test_rows_are_taken_over_from_the_newest_version_that_is_not_damaged(work):
    work.make()
    work.write(TEXTS | {3: "x"})
    made = work.make()
    work.write(TEXTS | {3: "x", 4: "y"})
    plan = work.ws.plan()
    work.computed.clear()
    DAMAGES["cut off"](made.path)
    run = plan.apply()
    assert run.deviations == ["t took no rows over from version 2, which is damaged"]
    assert run.steps[0].reuse == Reuse(0, 2, 0, 298) and work.computed == ["x", "y"]
    work.check_is_full_run()


@pytest.mark.parametrize("moment", ["columns", "batches"])
def test_a_version_that_goes_away_meanwhile_is_not_taken_over(work, moment, monkeypatch):
    first = work.make()
    work.write(TEXTS | {7: "x"})
    asked = getattr(PreviousVersion, moment)

    def gone(earlier: PreviousVersion, *names: Any) -> Any:
        first.path.unlink(missing_ok=True)  # as another kernel's drop or expire
        return asked(earlier, *names)

    work.computed.clear()
    with monkeypatch.context() as patched:
        patched.setattr(PreviousVersion, moment, gone)
        table = work.make()
    assert len(work.computed) == COUNT == table.row_count
    work.check_is_full_run()


FORGED_DIGESTS = {
    "lists": pa.list_(pa.int64()),
    "structs": pa.struct([("a", pa.int64())]),
    "numbers": pa.int8(),
}
"""Types of forged digests."""


def with_digests(rows: pa.Table, kind: pa.DataType | None) -> pa.Table:
    """The rows with other digests, or with none."""
    name = rows.column_names[-1]
    rows = rows.drop_columns(name)
    if kind is None:
        return rows
    value = {"list": [1], "struct": {"a": 1}, "int8": 1, "null": None}
    digests = pa.array([value.get(str(kind).split("<")[0], b"abc")] * len(rows), kind)
    return rows.append_column(name, digests)


@pytest.mark.parametrize("kind", [None, *FORGED_DIGESTS.values()], ids=str)
def test_a_version_of_other_columns_that_was_forged_with_its_digest_is_damage(
    work, kind, monkeypatch
):
    made = work.make()
    pq.write_table(with_digests(pq.read_table(made.path), kind), made.path)
    monkeypatch.setattr(ResultFiles, "is_intact", lambda *_: True)
    work.write(TEXTS | {7: "x"})
    with pytest.raises(errors.TableDamaged, match="earlier runs of 't'"):
        work.make()
    assert work.make(cache="bypass").row_count == COUNT


def test_forged_outputs_are_damage(work, monkeypatch):
    made = work.make()
    rows = pq.read_table(made.path)
    monkeypatch.setattr(ResultFiles, "is_intact", lambda *_: True)
    work.write(TEXTS | {7: "x"})
    name = rows.column_names[1]
    pq.write_table(rows.set_column(1, name, pa.array([[["x"]]] * len(rows))), made.path)
    with pytest.raises(errors.JammiError):
        work.make()
    if work.kind != "row map":  # whose outputs may be missing
        pq.write_table(rows.drop_columns(name), made.path)
        with pytest.raises(errors.TableDamaged):
            work.make()


@pytest.mark.parametrize("kind", [pa.binary(3), pa.null()], ids=str)
def test_a_version_with_the_digests_of_no_row_is_computed_again(work, kind, monkeypatch):
    made = work.make()
    pq.write_table(with_digests(pq.read_table(made.path), kind), made.path)
    monkeypatch.setattr(ResultFiles, "is_intact", lambda *_: True)
    work.write(TEXTS | {7: "x"})
    assert work.make().reuse == Reuse(0, COUNT, 0, 0)


@pytest.mark.parametrize("kind", ["none", "lists", "structs"])
def test_a_checkpoint_of_other_columns_that_was_forged_with_its_digests_is_damage(work, kind):
    work.interrupt(after=140)
    [path] = work.checkpoints()
    parts = list(Checkpoint(path).load())
    path.unlink()
    checkpoint = Checkpoint(path)
    for part in parts:
        checkpoint.append(with_digests(part, FORGED_DIGESTS.get(kind)))
    checkpoint.close()
    with pytest.raises(errors.TableDamaged, match="earlier runs of 't'"):
        work.make()
    assert work.make(cache="bypass").row_count == COUNT and work.checkpoints() == []


# -- what an early end keeps -----------------------------------------------------------------------


def test_interrupts_lose_nothing_of_what_was_computed_before(work):
    words = {
        "row map": "rows are computed",
        "embedding": "texts are encoded",
        "words": "texts are analysed",
    }
    for _ in range(2):
        [note] = work.interrupt(after=140).__notes__
        saved = f"{len(work.computed)} of 300 {words[work.kind]} and saved for the next run"
        assert note == f"'t' was not computed; {saved}."
        assert len(work.checkpoints()) == 1 and "t" not in work.ws
    kept = len(work.computed)
    table = work.make()
    assert 0 < kept < 300 == len(work.computed) and sorted(work.computed) == sorted(TEXTS.values())
    assert work.checkpoints() == [] and table.reuse == Reuse(300, 0, 0, 0, encoded_before=kept)
    assert str(table.reuse).endswith(f"; {kept} taken over from an unfinished run")
    work.check_is_full_run()


def test_an_interrupt_while_rows_are_written_keeps_all(work):
    def stop(progress: Any) -> None:
        if progress.unit == "rows" and progress.stage != "map t" and progress.done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        work.make(progress=stop)
    assert len(work.checkpoints()) == 1 and len(work.computed) == 300
    work.make()
    assert len(work.computed) == 300 and work.checkpoints() == []


def test_a_version_that_a_check_rejects_is_not_computed_again(work):
    work.make()
    work.ws.checks.add("few", jl.checks.row_count(max=300), on="t")
    work.write(TEXTS | {301: "x"})
    work.computed.clear()
    with pytest.raises(errors.CheckFailed):
        work.make()
    work.ws.checks.remove("few")
    assert work.make().row_count == 301 and work.computed == ["x"]


def test_an_input_that_moves_meanwhile_is_read_again_and_only_the_difference_computed(
    work,
):
    def move(_: str) -> None:
        work.before = lambda _: None
        work.write(TEXTS | {5: "moved"})

    work.before = move
    work.make()
    assert len(work.computed) == 301 and work.computed[-1] == "moved"
    assert work.checkpoints() == []
    work.check_is_full_run()


def test_nothing_is_said_to_be_saved_where_nothing_can_be(work, monkeypatch):
    monkeypatch.setattr("jammi_lab.steps.checkpoint.Checkpoint.append", lambda *_: False)
    stopped = work.interrupt()
    assert stopped.__notes__ == ["'t' was not computed; nothing was left behind."]


def test_a_damaged_checkpoint_counts_up_to_the_damage(work):
    work.interrupt()
    [path] = work.checkpoints()
    whole = path.read_bytes()
    work.computed.clear()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    table = work.make()
    assert len(work.computed) == 300 - table.reuse.encoded_before > 100
    work.check_is_full_run()


def test_every_tenant_has_a_checkpoint_of_its_own(work):
    with work.ws.tenant("acme"):
        work.interrupt()
    left = work.checkpoints()
    for tenant in ("bolt", None):
        with work.ws.tenant(tenant):
            assert work.make().reuse.encoded_before == 0
        assert work.checkpoints() == left
    with work.ws.tenant("acme"):
        assert work.make().reuse.encoded_before > 0
    assert work.checkpoints() == []


def test_a_checkpoint_goes_with_the_tables_whose_values_it_may_hold(work):
    rows = [{"id": key, "text": text} for key, text in TEXTS.items()]
    for name in ("one", "two"):
        columns = {"id": "int64", "text": "string"}
        work.ws.mutable.create(name, columns, primary_key=["id"]).insert(rows)
        work.interrupt(f"of {name}", f"mutable.{name}")
    assert len(work.checkpoints()) == 2
    work.ws.mutable.drop("one")
    assert len(work.checkpoints()) == 1
    assert work.make("of two", "mutable.two").reuse.encoded_before and not work.checkpoints()

    def drop(text: str) -> None:
        if text == TEXTS[200]:
            work.ws.mutable.drop("two")
            raise KeyboardInterrupt

    work.before = drop
    with pytest.raises(KeyboardInterrupt):
        work.make("again", "mutable.two", cache="bypass")
    assert work.checkpoints() == []


@pytest.mark.parametrize("over", ["{}", "(SELECT s.id, s.text FROM {} s, texts t WHERE t.id = 1)"])
def test_values_of_a_session_are_in_no_checkpoint(work, over):
    with work.ws.tenant("acme"), work.ws.ephemeral() as session:
        session.create("secret", {"id": "int64", "text": "string"}, primary_key="id")
        session.insert("secret", [{"id": key, "text": text} for key, text in TEXTS.items()])
        work.interrupt(over=over.format(session.table_ref("secret")))
        assert work.checkpoints() == []


def test_checkpoints_are_removed_after_a_week(work):
    folder = Path(work.ws.path) / "checkpoints"
    folder.mkdir(exist_ok=True)
    for name, days in (("old", 7.1), ("young", 6.9)):
        (folder / f"{name}.log").write_bytes(b"what was computed")
        os.utime(folder / f"{name}.log", (time.time() - days * DAY_SECONDS,) * 2)
    work.make()
    assert [path.name for path in work.checkpoints()] == ["young.log"]


# -- histories -------------------------------------------------------------------------------------


@soak
@pytest.mark.parametrize("seed", range(sized(1, 20)))
def test_histories_with_early_ends_equal_full_runs(work, seed):
    draw = random.Random(seed)
    texts = {key: draw.choice("abcdefgh") * draw.randrange(4) for key in range(30)}
    known = set[str | None]()
    for _ in range(6):
        for _ in range(draw.randrange(6)):
            texts[draw.randrange(45)] = draw.choice("abcdefghijk") * draw.randrange(1, 4)
        for key in draw.sample([*texts], draw.randrange(3)):
            del texts[key]
        work.write(dict(draw.sample([*texts.items()], len(texts))))
        todo = {*texts.values()} - known
        if todo and draw.random() < 0.5:
            work.interrupt(after=draw.randrange(len(todo)))
        work.computed.clear()
        table = work.make()
        assert len(work.computed) + table.reuse.encoded_before == len(todo)
        assert {*work.computed} <= todo
        work.check_is_full_run()
        known = {*texts.values()}
