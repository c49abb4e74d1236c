"""The producer `row_map`: what a function receives and returns, which rows it is asked for, and
what is kept when a run ends early."""

import asyncio
import random
import threading
import time
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import jammi_lab as jl
from jammi_lab.core.errors import (
    InvalidArgument,
    NameInvalid,
    SchemaMismatch,
    StepFailed,
    TableNotFound,
)
from jammi_lab.core.records import CallEstimate
from jammi_lab.steps.row_wise import ERROR_COLUMN
from tests.inside import services_of
from tests.sizes import sized, soak
from tests.steps.modules import write

__all__ = ["write"]


class Asked:
    """A function of one row that records what it was asked. Its version is fixed."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.fail_on: set[str] = set()

    def __call__(self, text: str) -> dict[str, Any]:
        self.texts.append(text)
        if text in self.fail_on:
            raise ValueError(f"no answer to {text}")
        return {"upper": text.upper(), "length": len(text)}


SCHEMA = {"upper": "varchar", "length": "bigint"}


@pytest.fixture
def asked() -> Asked:
    return Asked()


@pytest.fixture
def reviews(ws: Any, tmp_path: Path) -> Any:
    """Replaces the rows of the source `reviews`."""

    def put(rows: dict[Any, str]) -> None:
        path = tmp_path / "reviews.parquet"
        pq.write_table(
            pa.table({"id": [*rows], "text": [*rows.values()], "n": [0] * len(rows)}), path
        )
        if "reviews" not in ws.sources:
            ws.sources.add("reviews", path)

    put({3: "c", 1: "a", 2: "b"})
    return put


def run(ws: Any, function: Any, **how: Any) -> Any:
    options = {"key": "id", "inputs": "text", "version": "1", **how}
    return ws.map("labels", function, "reviews", **options)


def rows(table: Any) -> list[tuple[Any, ...]]:
    """The rows without their digests."""
    return table.read().arrow().drop_columns(["_input_digest"]).to_pylist()


# -- what it receives and returns ------------------------------------------------------------------


def test_rows_come_in_key_order_with_the_outputs_of_a_dict(ws, reviews, asked):
    table = run(ws, asked)
    assert rows(table) == [
        {"id": 1, "upper": "A", "length": 1},
        {"id": 2, "upper": "B", "length": 1},
        {"id": 3, "upper": "C", "length": 1},
    ]
    assert (table.kind, table.key, table.outcome, table.source_id) == (
        "row_map",
        ["id"],
        "computed",
        "reviews",
    )
    assert table.verify() == jl.Match()
    [anchor] = table.manifest.anchors
    assert anchor.columns == ("id", "text")


def test_one_value_is_the_column_of_the_schema_or_value(ws, reviews):
    def length(text, more):
        return len(text) + more

    assert rows(run(ws, length, params={"more": 2}))[0] == {"id": 1, "value": 3}
    assert rows(run(ws, length, params={"more": 2}, schema={"n": "integer"}))[0] == {
        "id": 1,
        "n": 3,
    }


def test_values_keep_the_types_of_the_schema(ws, reviews):
    def price(text):
        return {"price": Decimal("1.50"), "tags": [text]}

    table = run(ws, price, schema={"price": "decimal(9, 2)", "tags": "VARCHAR[]", "none": "date"})
    assert [c.type for c in table.manifest.columns][1:4] == ["DECIMAL(9,2)", "VARCHAR[]", "DATE"]
    assert rows(table)[0] == {"id": 1, "price": Decimal("1.50"), "tags": ["a"], "none": None}


@pytest.mark.parametrize("how", ["dict", "list"])
def test_an_object_that_the_function_fills_each_time_has_the_values_of_each_row(ws, reviews, how):
    kept: Any = {} if how == "dict" else []

    def step(text):
        if how == "dict":
            kept["value"] = text
            return kept
        kept[:] = [text]
        return {"value": kept}

    values = [row["value"] for row in rows(run(ws, step))]
    assert values == (["a", "b", "c"] if how == "dict" else [["a"], ["b"], ["c"]])


@pytest.mark.parametrize("how", [{}, {"batch": 2}, {"concurrency": 3}])
def test_a_parameter_that_the_function_changes_is_that_of_the_next_call_unchanged(ws, reviews, how):
    def step(text, words):
        words.append("more")
        count = len(words)
        return count if isinstance(text, str) else [count] * text.num_rows

    table = run(ws, step, params={"words": ["one"]}, **how)
    assert [row["value"] for row in rows(table)] == [2, 2, 2]


def test_a_batch_is_an_arrow_table_of_so_many_rows(ws, reviews):
    sizes = []

    def upper(batch):
        sizes.append(batch.num_rows)
        return pa.table({"upper": [text.upper() for text in batch["text"].to_pylist()]})

    assert [row["upper"] for row in rows(run(ws, upper, batch=2))] == ["A", "B", "C"]
    assert sizes == [2, 1]


def test_equal_inputs_are_asked_once_and_null_is_an_input(ws, reviews, asked):
    reviews({1: "a", 2: None, 3: "a", 4: None, 5: ""})

    def step(text):
        return asked(text or "nothing") if text is not None else None

    table = run(ws, step)
    assert [row["length"] for row in rows(table)] == [1, None, 1, None, 7]
    assert asked.texts == ["a", "nothing"] and table.manifest.counts["calls"] == 3


def test_a_table_without_rows_has_the_columns_of_its_schema(ws, reviews, asked):
    ws.materialize("none", "SELECT id, text FROM reviews WHERE id > 9")
    table = ws.map("labels", asked, "none", key="id", inputs="text", version="1", schema=SCHEMA)
    assert table.read().columns == ["id", "upper", "length", "_input_digest"] and asked.texts == []


# -- which rows are asked --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changed",
    [
        {"version": "2"},
        {"schema": {**SCHEMA, "more": "varchar"}},
        {"params": {"more": 1}},
        {"inputs": ["text", "n"]},
        {"cache": "bypass"},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_another_definition_asks_all_rows(ws, reviews, changed):
    calls = []

    def step(text, more=0, n=0):
        calls.append(text)
        return {"upper": text.upper(), "length": 1}

    run(ws, step, schema=SCHEMA)
    calls.clear()
    assert run(ws, step, **{"schema": SCHEMA, **changed}).outcome == "computed"
    assert sorted(calls) == ["a", "b", "c"]


def test_settings_that_change_no_row_are_no_part_of_the_definition(ws, reviews, asked):
    run(ws, asked)
    assert run(ws, asked, concurrency=4, cost=0.5).outcome == "reused"
    assert asked.texts == ["a", "b", "c"]


def test_another_over_or_key_asks_only_for_other_inputs(ws, reviews, asked):
    run(ws, asked)
    asked.texts.clear()
    statement = "SELECT id + 10 AS nr, text FROM reviews UNION ALL SELECT 1, 'new'"
    table = ws.map("labels", asked, statement, key="nr", inputs=["text"], version="1")
    assert asked.texts == ["new"] and [row["nr"] for row in rows(table)] == [1, 11, 12, 13]


def test_another_type_of_an_input_asks_all_rows(ws, reviews):
    asked: list[Any] = []

    def step(n):
        asked.append(n)
        return {"n": str(n)}

    over = "SELECT id, id::{} AS n FROM reviews"
    ws.map("m", step, over.format("INTEGER"), key="id", inputs="n", version="1")
    ws.map("m", step, over.format("DOUBLE"), key="id", inputs="n", version="1")
    assert [type(n) for n in asked] == [int] * 3 + [float] * 3
    assert [row["n"] for row in rows(ws.table("m"))] == ["1.0", "2.0", "3.0"]


@soak
@pytest.mark.parametrize("seed", range(sized(1, 40)))
@pytest.mark.parametrize("how", [{}, {"batch": 4}, {"concurrency": 3}], ids=str)
def test_histories_with_errors_and_early_ends_equal_full_runs(ws, reviews, how, seed):
    rng = random.Random(f"{seed} {how}")
    broken, left, calls = set[str](), [0], list[str]()

    def one(text: str) -> dict[str, Any]:
        calls.append(text)
        left[0] -= 1
        if left[0] == 0:
            raise KeyboardInterrupt
        if text in broken:
            raise ValueError(text)
        return {"upper": text.upper(), "length": len(text)}

    def step(text: str) -> dict[str, Any]:
        return one(text)

    def batched(rows: pa.Table) -> list[dict[str, Any]]:
        return [one(text) for text in rows["text"].to_pylist()]

    options = {"key": "id", "inputs": "text", "version": "1", "schema": SCHEMA}
    options |= {"on_error": "record", **how}
    function = batched if "batch" in how else step
    state = {i: rng.choice("abcdefgh") * rng.randrange(1, 4) for i in range(30)}
    answered = set[str]()
    for _ in range(6):
        for _ in range(rng.randrange(6)):
            state[rng.randrange(45)] = rng.choice("abcdefghijk") * rng.randrange(1, 4)
        for key in rng.sample([*state], rng.randrange(3)):
            del state[key]
        new = sorted({*state.values()} - answered)
        broken = set() if "batch" in how else {*rng.sample(new, min(3, len(new)))}
        reviews(dict(rng.sample([*state.items()], len(state))))
        calls.clear()
        left[0] = rng.randrange(1, 12) if rng.random() < 0.5 else 0
        try:
            ws.map("labels", function, "reviews", **options)
        except KeyboardInterrupt:
            left[0] = 0
            ws.map("labels", function, "reviews", **options)
        if "batch" not in how:  # a batch that was interrupted is asked again as a whole
            twice = [text for text in {*calls} if calls.count(text) > 1 and text not in broken]
            assert len(twice) <= how.get("concurrency", 1), "only the calls in flight are lost"
            assert not {*calls} & answered
        left[0] = 0
        table = ws.table("labels")
        whole = ws.map("whole", function, "reviews", **options, cache="bypass")
        assert table.path.read_bytes() == whole.path.read_bytes()
        answered = {*state.values()} - broken


def test_without_a_schema_types_are_widened_and_not_asked_again(ws, reviews):
    answers: dict[str, Any] = {"a": 1, "b": None, "c": 3, "d": 0.5}
    calls = []

    def step(text):
        calls.append(text)
        return answers[text]

    reviews({1: "b"})
    run(ws, step)
    reviews({1: "a", 2: "b", 3: "c"})
    assert [row["value"] for row in rows(run(ws, step))] == [1, None, 3]
    reviews({1: "a", 2: "b", 3: "c", 4: "d"})
    assert [row["value"] for row in rows(run(ws, step))] == [1.0, None, 3.0, 0.5]
    assert calls == ["b", "a", "c", "d"]


# -- what is refused -------------------------------------------------------------------------------


def no_text(other):
    return other


def test_what_cannot_be_is_refused_before_a_call(ws, reviews, asked):
    for how, error, words in (
        ({"inputs": []}, InvalidArgument, "at least one input column"),
        ({"inputs": "txt", "function": lambda txt: txt}, SchemaMismatch, "no column 'txt'"),
        ({"key": ["id"]}, InvalidArgument, "one column name"),
        ({"batch": 0}, InvalidArgument, "batch must be an integer of at least 1, got 0"),
        ({"concurrency": 1.5}, InvalidArgument, "concurrency must be"),
        ({"on_error": "skip"}, InvalidArgument, "on_error must be"),
        ({"cost": -1}, InvalidArgument, "cost must be"),
        ({"version": 1}, InvalidArgument, "A version must be a string"),
        ({"params": {1: 2}}, InvalidArgument, "params must be a dict of values by name"),
        ({"schema": {"id": "integer"}}, NameInvalid, "reserved"),
        ({"schema": {"x": "no_type"}}, SchemaMismatch, "unknown type 'no_type'"),
        ({"function": no_text}, InvalidArgument, "cannot be called with text"),
        ({"function": 3}, InvalidArgument, "must be a function"),
        ({"over": "reviewz"}, TableNotFound, "reviewz"),
    ):
        options = {
            "function": asked,
            "over": "reviews",
            "key": "id",
            "inputs": "text",
            "version": "1",
        }
        with pytest.raises(error, match=words):
            ws.map("labels", **{**options, **how})
        assert asked.texts == [] and "labels" not in ws


def returns(value: Any) -> Any:
    return lambda text: value


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"id": 1}, "a name that the table has already"),
        ({"_input_digest": b""}, "a name that the table has already"),
        ({1: 2}, "which is not a column name"),
        ({"": "t"}, "a column without a name"),
        ({"x": object()}, "no common SQL type"),
        (pa.table({"x": [1]}), "a frame for one row"),
    ],
)
def test_an_output_that_cannot_be_stored_is_an_error(ws, reviews, value, words):
    with pytest.raises(SchemaMismatch, match=words):
        run(ws, returns(value))
    assert "labels" not in ws
    assert rows(run(ws, returns({"t": 1})))[0] == {"id": 1, "t": 1}  # nothing of it was kept


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"upper": 1, "length": 1}, "not type string"),
        ({"uper": "A"}, "Did you mean upper"),
        ("A", "not a dict of upper, length"),
    ],
)
def test_an_output_that_is_not_of_the_schema_is_an_error(ws, reviews, value, words):
    with pytest.raises(SchemaMismatch, match=words):
        run(ws, returns(value), schema=SCHEMA)


def test_an_output_that_cannot_be_stored_is_told_with_its_row(ws, reviews):
    """Among thousands of calls, the value alone does not lead to it."""
    answers = {"a": 1, "b": 10**30, "c": 3}
    with pytest.raises(SchemaMismatch, match=r"too large.*, for the row 2\.\n") as told:
        run(ws, lambda text: answers[text])
    assert told.value.key == 2


@pytest.mark.parametrize("how", [{}, {"on_error": "record"}], ids=str)
def test_types_without_anything_in_common_end_the_run_at_the_first_such_row(ws, reviews, how):
    """No later row mends that, and each call may cost money."""
    reviews({n: f"{n:02}" for n in range(40)})
    calls = []

    def step(text):
        time.sleep(0.011)  # each call is converted and saved by itself
        calls.append(text)
        return "many" if text == "03" else int(text)

    for _ in range(2):  # what was paid for is kept, and its types still have nothing in common
        with pytest.raises(SchemaMismatch, match="no common SQL type"):
            run(ws, step, **how)
        assert calls == ["00", "01", "02", "03"]


def test_a_batch_function_must_return_as_many_rows(ws, reviews):
    with pytest.raises(SchemaMismatch, match="1 rows for a batch of 3"):
        run(ws, lambda rows: [{"x": 1}], batch=8)


def test_an_exception_is_told_with_its_row(ws, reviews, asked):
    asked.fail_on = {"b"}
    with pytest.raises(
        StepFailed, match=r"'labels' raised ValueError for the row 2: no answer to b"
    ) as failed:
        run(ws, asked)
    assert isinstance(failed.value.__cause__, ValueError) and "labels" not in ws
    assert failed.value.hint == (
        'on_error="record" stores errors in their rows and goes on. '
        "1 of 3 rows are computed and saved for the next run."
    )


# -- errors ----------------------------------------------------------------------------------------


def test_recorded_errors_are_in_their_rows_and_asked_again(ws, reviews, asked):
    asked.fail_on = {"b"}
    table = run(ws, asked, on_error="record")
    assert rows(table) == [
        {"id": 1, "upper": "A", "length": 1, "_error": None},
        {"id": 2, "upper": None, "length": None, "_error": "ValueError: no answer to b"},
        {"id": 3, "upper": "C", "length": 1, "_error": None},
    ]
    assert str(table.reuse).endswith("; 1 row with an error")
    assert (
        table.manifest.counts["errors"] == 1
        and table.read().schema.field("_error").type == pa.string()
    )
    asked.texts.clear()
    asked.fail_on.clear()
    table = run(ws, asked, on_error="record")
    assert asked.texts == ["b"] and {row["_error"] for row in rows(table)} == {None}
    assert run(ws, asked, on_error="record").outcome == "reused" and asked.texts == ["b"]


def test_recorded_errors_are_those_of_outputs_too(ws, reviews):
    answers = {"a": {"n": 1}, "b": {"n": "two"}, "c": {"m": 3}}
    table = run(ws, lambda text: answers[text], on_error="record", schema={"n": "bigint"})
    assert [row["n"] for row in rows(table)] == [1, None, None]
    assert [(row["_error"] or "")[:14] for row in rows(table)] == [
        "",
        "SchemaMismatch",
        "SchemaMismatch",
    ]


class Silent(Exception):
    def __str__(self) -> str:
        raise RuntimeError


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (FileNotFoundError("\udcff.jpg"), "FileNotFoundError: \\udcff.jpg"),
        (Silent(), "Silent: "),
    ],
)
def test_an_error_without_a_proper_message_is_recorded_and_told(ws, reviews, error, text):
    """The name of a file that is no text is one that cannot be stored."""

    def step(text):
        raise error

    assert [row[ERROR_COLUMN] for row in rows(run(ws, step, on_error="record"))] == [text] * 3
    with pytest.raises(StepFailed, match=type(error).__name__) as told:
        run(ws, step)
    str(told.value).encode()


def test_all_rows_may_fail(ws, reviews, asked):
    asked.fail_on = {"a", "b", "c"}
    assert [list(row) for row in rows(run(ws, asked, on_error="record"))] == [["id", "_error"]] * 3


def test_recording_errors_asks_nothing_again(ws, reviews, asked):
    run(ws, asked)
    asked.texts.clear()
    assert run(ws, asked, on_error="record").outcome == "computed" and asked.texts == []


# -- calls at a time -------------------------------------------------------------------------------


@pytest.mark.parametrize("concurrency", [1, 2, 8])
def test_coroutines_are_awaited_so_many_at_a_time(ws, reviews, concurrency):
    running = most = 0

    async def step(text):
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.01)
        running -= 1
        return {"upper": text.upper()}

    reviews({i: chr(97 + i) for i in range(20)})
    table = run(ws, step, concurrency=concurrency)
    assert most == concurrency
    assert [row["upper"] for row in rows(table)] == [chr(65 + i) for i in range(20)]


def test_a_function_runs_in_so_many_threads_with_the_tenant_of_the_caller(ws, reviews):
    barrier = threading.Barrier(3, timeout=20)
    tenants = []

    def step(text):
        tenants.append(ws.current_tenant)
        barrier.wait()
        return text

    with ws.tenant("acme"):
        values = [row["value"] for row in rows(run(ws, step, concurrency=3))]
    assert tenants == ["acme"] * 3 and values == ["a", "b", "c"]


def test_the_first_error_of_several_at_a_time_ends_the_run_and_the_others_are_kept(ws, reviews):
    calls = []

    async def step(text):
        calls.append(text)
        await asyncio.sleep(0 if text == "b" else 0.05)
        if text == "b" and len(calls) < 4:
            raise ValueError("no")
        return text

    with pytest.raises(StepFailed, match="for the row 2"):
        run(ws, step, concurrency=3)
    assert len(checkpoints(ws)) == 1
    run(ws, step, concurrency=3)
    assert sorted(calls) == ["a", "b", "b", "c"] and checkpoints(ws) == []


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt()])
def test_an_exit_from_a_coroutine_ends_the_run_and_the_others_are_kept(ws, reviews, error):
    calls = []

    async def step(text):
        calls.append(text)
        if text == "b" and calls.count("b") == 1:
            await asyncio.sleep(0.05)
            raise error
        return text

    with pytest.raises(type(error)) as raised:
        run(ws, step, concurrency=2, on_error="record")
    assert raised.value is error and len(checkpoints(ws)) == 1
    run(ws, step, concurrency=2, on_error="record")
    assert calls.count("a") == 1 and checkpoints(ws) == []


# -- what is kept ----------------------------------------------------------------------------------


def checkpoints(ws: Any) -> list[Path]:
    return sorted((Path(services_of(ws).folder) / "checkpoints").glob("*"))


# -- what a plan and progress say ------------------------------------------------------------------


def test_a_plan_says_how_many_calls_and_what_they_cost(ws, reviews, asked):
    reviews({i: f"text {i}" for i in range(10)})
    run(ws, asked, cost=0.25)
    reviews({i: f"text {i}" for i in range(7, 14)})
    before = checkpoints(ws), len(asked.texts)
    [step] = ws.plan().certain
    assert (step.calls, step.cost, step.estimate.rows) == (4, 1.0, 7)
    assert str(step.estimate) == "4 of 7 rows to compute, about 1 s, cost 1.00"
    assert "labels: 4 of 7 rows to compute, about 1 s, cost 1.00." in str(ws.plan())
    assert (checkpoints(ws), len(asked.texts)) == before
    assert str(CallEstimate(2, 9, 2, cost=0.002)) == "2 of 9 rows to compute, cost below 0.01"
    assert ws.recompute("labels").executed == ["labels"] and len(asked.texts) == 14


def test_a_plan_counts_what_is_kept_of_an_interrupted_run_and_batches(ws, reviews):
    def step(batch):
        if "e" in batch["text"].to_pylist():
            raise ValueError
        return pa.table({"n": range(batch.num_rows)})

    reviews(dict(enumerate("abcde")))
    with pytest.raises(StepFailed):
        run(ws, step, batch=2)
    ws.define("labels", jl.RowMap(step, "reviews", key="id", inputs="text", version="1", batch=2))
    [plan] = ws.plan().certain
    assert str(plan.estimate) == "1 of 5 rows to compute" and plan.cost is None
    ws.define("all", jl.RowMap(step, "reviews", key="id", inputs="text", version="1", batch=2))
    assert str(ws.plan(["all"]).certain[0].estimate) == "5 of 5 rows to compute in 3 calls"


def test_a_plan_without_calls_says_neither_time_nor_cost(ws, reviews, asked):
    run(ws, asked, cost=0.5)
    reviews({1: "a", 2: "b"})
    [step] = ws.plan("labels").certain
    assert (step.calls, step.cost) == (0, 0.0)
    assert str(step.estimate) == "0 of 2 rows to compute"


def test_calls_of_a_step_below_another_are_not_known_before(ws, reviews, asked):
    ws.materialize("few", "SELECT id, text FROM reviews WHERE id < 9")
    ws.map("labels", asked, "few", key="id", inputs="text", version="1")
    reviews({1: "x"})
    [step] = [step for step in ws.plan().possible if step.name == "labels"]
    assert step.calls is None and step.cost is None


def test_progress_has_a_rate_and_the_time_that_remains(ws, reviews):
    reviews({i: f"text {i}" for i in range(30)})
    told = []

    def step(text):
        time.sleep(0.005)
        return text

    run(ws, step, progress=told.append)
    maps = [p for p in told if p.stage == "map labels"]
    assert maps[-1].done == maps[-1].total == 30 and maps[-1].seconds_left == 0
    assert 0 < maps[0].rate <= 200 and maps[0].seconds_left > 0


def test_the_definition_of_its_recipe_is_the_source_of_the_function(ws, reviews):
    def length(text):
        return len(text)

    run(ws, length, version=None)
    assert ws.recipes()["labels"].definition.strip().startswith("def length(text):")
    [(shown,)] = ws.sql("SELECT definition FROM jammi_catalog.recipes").fetchall()
    assert shown == ws.recipes()["labels"].definition
