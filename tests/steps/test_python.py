"""The producer `python`: what a function gets and gives, what becomes of its rows, what it leaves
behind when it fails."""

import functools
import sqlite3
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import jammi_lab as jl
from jammi_lab.core.errors import (
    DependencyCycle,
    DuplicateKey,
    InvalidArgument,
    NameInvalid,
    SchemaMismatch,
    StepFailed,
    TableNotFound,
)
from jammi_lab.core.records import Progress
from tests.steps.modules import write
from tests.store.lab import files, statuses

__all__ = ["write"]

ROWS = {"id": [3, 1, 2], "score": [0.5, None, 2.5]}


def same(papers: Any) -> Any:
    return papers


def years(papers: Any, *, least: int = 2020) -> pl.DataFrame:
    return papers.polars().filter(pl.col("year") >= least)


# -- what it gets ----------------------------------------------------------------------------------


def test_a_function_gets_a_result_for_each_input_in_order_and_params_as_keywords(lab):
    lab.materialize("venues", "SELECT venue, count(*) AS n FROM papers GROUP BY venue")
    got = []

    def step(papers, venues, *, least, names):
        got.append((type(papers), type(venues), least, names))
        return papers.polars().join(venues.polars(), on="venue").filter(pl.col("n") >= least)

    table = lab.compute(
        "busy", step, inputs=["papers", "venues"], params={"least": 2, "names": ("a",)}
    )
    assert got == [(jl.Result, jl.Result, 2, ["a"])]
    assert table.kind == "python" and table.outcome == "computed" and table.verify() == jl.Match()
    assert table.read().arrow()["id"].to_pylist() == [1, 3] and sorted(
        i.label for i in table.inputs
    ) == ["papers", "venues"]
    assert table.source_id == "papers" and table.derived_from == "venues"


@pytest.mark.parametrize(
    "asked",
    [
        "papers",
        "PAPERS",
        "SELECT * FROM papers WHERE year > 2020",
        "  SELECT id, year FROM papers; -- all",
        "copied",
    ],
)
def test_an_input_is_a_source_a_recipe_or_sql(lab, asked):
    lab.materialize("copied", "SELECT * FROM papers")
    assert lab.compute("t", same, inputs=asked).row_count in (2, 3)


def test_one_input_may_be_a_text_and_none_is_allowed(lab):
    assert lab.compute("one", same, inputs="papers").row_count == 3

    def constant():
        return pl.DataFrame({"a": [1]})

    table = lab.compute("none", constant)
    assert (
        table.inputs == []
        and table.staleness() == jl.Fresh()
        and lab.compute("none", constant).outcome == "reused"
    )


def test_an_input_may_be_read_twice_and_in_part(lab):
    def step(papers):
        assert papers.preview(1).num_rows == 1
        assert len(papers.pandas()) == len(papers.polars()) == papers.arrow().num_rows == 3
        return papers.polars()

    assert lab.compute("t", step, inputs="papers").row_count == 3


def test_the_rows_of_an_input_come_in_one_order_whatever_the_number_of_threads(lab, tmp_path):
    lab.materialize("many", "SELECT i, i % 7 AS g FROM range(200000) t(i)")
    seen = []

    def step(joined):
        seen.append(joined.arrow())
        return joined.arrow().slice(0, 1)

    for _ in range(2):
        lab.compute(
            "t",
            step,
            inputs="SELECT a.i, b.i AS j FROM jammi.many a JOIN jammi.many b ON a.i = b.i + 1",
            version="1",
            cache="bypass",
        )
    assert seen[0].equals(seen[1])


def test_the_rows_of_a_database_come_in_a_total_order(lab, tmp_path):
    with sqlite3.connect(tmp_path / "shop.db") as shop:
        shop.execute("CREATE TABLE items (id INTEGER, name TEXT)")
        shop.executemany("INSERT INTO items VALUES (?, ?)", [(3, "c"), (1, "a"), (2, "b")])
    shop.close()
    lab.sources.add("shop", f"sqlite:///{tmp_path}/shop.db")
    seen = []

    def step(items):
        seen.append(items.arrow()["id"].to_pylist())
        return items

    table = lab.compute("t", step, inputs="shop.items", version="1")
    assert seen == [[1, 2, 3]] and table.staleness() == jl.Fresh()


# -- what it gives ---------------------------------------------------------------------------------

GIVEN = {
    "arrow": lambda: pa.table(ROWS),
    "polars": lambda: pl.DataFrame(ROWS),
    "lazy polars": lambda: pl.LazyFrame(ROWS),
    "pandas": lambda: pd.DataFrame(ROWS),
    "a batch": lambda: pa.RecordBatch.from_pydict(ROWS),
    "a reader": lambda: pa.table(ROWS).to_reader(),
    "dicts": lambda: [{"id": 3, "score": 0.5}, {"id": 1}, {"id": 2, "score": 2.5}],
    "an iterator of frames": lambda: iter([pl.DataFrame(ROWS)[:1], pl.DataFrame(ROWS)[1:]]),
    "an iterator of batches": lambda: iter(pa.table(ROWS).to_batches(max_chunksize=1)),
    "a list of tables": lambda: [pa.table(ROWS).slice(0, 2), pa.table(ROWS).slice(2)],
    "an iterator of dicts": lambda: iter(
        [[{"id": 3, "score": 0.5}, {"id": 1, "score": None}], [{"id": 2, "score": 2.5}]]
    ),
    "batches with their columns in another order": lambda: iter(
        [pa.table(ROWS).slice(0, 2), pa.table(ROWS).slice(2).select(["score", "id"])]
    ),
}


@pytest.mark.parametrize("kind", GIVEN)
def test_rows_of_any_kind_become_one_table(lab, kind):
    table = lab.compute("t", lambda: GIVEN[kind](), version=kind)
    assert table.read().arrow().to_pydict() == {"id": [1, 2, 3], "score": [None, 2.5, 0.5]}


def test_what_yields_is_read_batch_by_batch(lab):
    def step(papers):
        for batch in papers.batches(1):
            yield {"id": batch["id"].to_pylist()} and pa.table(batch.select(["id"]))

    assert lab.compute("t", step, inputs="papers").read().fetchall() == [(1,), (2,), (3,)]


@pytest.mark.only_soak
def test_batches_are_not_held_in_memory(lab):
    size = 500_000

    def step():
        for at in range(16):
            yield pa.table({"i": pa.array(np.arange(at * size, (at + 1) * size))})
            assert pa.total_allocated_bytes() - before < 4 * size * 8

    before = pa.total_allocated_bytes()
    assert lab.compute("t", step, version="1").row_count == 16 * size


def test_rows_are_in_the_order_of_the_key_and_then_of_the_other_columns(lab):
    def step():
        return pl.DataFrame({"a": [2, 1, 2, 1], "id": [1, 4, 3, 2], "b": ["x", "y", "z", "w"]})

    assert lab.compute("t", step, key="id").read().arrow()["id"].to_pylist() == [1, 2, 3, 4]
    assert lab.compute("u", step).read().arrow()["b"].to_pylist() == ["w", "y", "x", "z"]


def test_the_same_rows_in_another_order_are_the_same_bytes(lab):
    one = lab.compute("t", lambda: pl.DataFrame({"a": [1, 2], "b": [[1], None]}), version="1")
    other = lab.compute("t", lambda: pl.DataFrame({"a": [2, 1], "b": [None, [1]]}), version="2")
    assert (one.version, other.version) == (
        1,
        2,
    ) and one.manifest.artifact.digest == other.manifest.artifact.digest


def test_a_frame_without_rows_keeps_its_columns(lab):
    table = lab.compute(
        "t", lambda: pl.DataFrame(schema={"id": pl.Int64, "title": pl.String}), version="1"
    )
    assert table.row_count == 0 and [c.name for c in table.manifest.columns] == ["id", "title"]


NO_ROWS = {
    "nothing": lambda: None,
    "a number": lambda: 3,
    "a text": lambda: "papers",
    "a series": lambda: pl.Series("a", [1]),
    "an empty list": list,
    "no batch": lambda: iter([]),
    "no columns": lambda: pl.DataFrame(),
    "one name twice": lambda: pa.table([[1], [2]], names=["a", "a"]),
    "names that differ in case": lambda: pa.table({"a": [1], "A": [2]}),
    "batches of several schemas": lambda: iter([pa.table({"a": [1]}), pa.table({"b": [1]})]),
    "batches of several types": lambda: iter([pa.table({"a": [1]}), pa.table({"a": ["x"]})]),
    "values of several types": lambda: [{"a": 1}, {"a": "x"}],
    "a batch that is none": lambda: iter([pa.table({"a": [1]}), 7]),
    "python objects": lambda: pl.DataFrame({"o": pl.Series([object()], dtype=pl.Object)}),
}


@pytest.mark.parametrize("what", NO_ROWS)
def test_what_is_no_table_is_a_schema_error_that_names_the_step_and_leaves_nothing(
    lab, folder, what
):
    with pytest.raises(SchemaMismatch) as caught:
        lab.compute("broken", lambda: NO_ROWS[what](), version="1")
    assert (
        "broken" in caught.value.message
        and files(folder) == []
        and "ready" not in statuses(folder).values()
        and "broken" not in lab
    )
    assert [r.name for r in lab.recipes()] == []


def test_a_key_is_checked(lab, folder):
    with pytest.raises(DuplicateKey) as caught:
        lab.compute("t", lambda: pa.table({"id": [1, 1]}), version="1", key="id")
    assert caught.value.keys == [1] and files(folder) == []
    with pytest.raises(SchemaMismatch) as missing:
        lab.compute("t", lambda: pa.table({"ident": [1]}), version="1", key="idnt")
    assert "ident" in str(missing.value) and files(folder) == []


# -- failing ---------------------------------------------------------------------------------------


def test_what_the_function_raises_is_the_cause_with_its_line_and_nothing_is_left(lab, folder):
    def step(papers):
        rows = papers.polars()
        return rows / {}["nothing"]

    with pytest.raises(StepFailed) as caught:
        lab.compute("broken", step, inputs="papers")
    error = caught.value
    assert (
        isinstance(error.__cause__, KeyError)
        and error.step == "broken"
        and "KeyError: 'nothing'" in error.message
    )
    assert (
        error.excerpt.split("\n")[0].strip() == 'return rows / {}["nothing"]'
        and "test_python.py" in error.hint
        and len(error.lines()) <= 5
    )
    assert error.excerpt.split("\n")[1].index("^") == error.excerpt.split("\n")[0].index("return")
    assert (
        files(folder) == []
        and list(statuses(folder).values()) == ["failed"]
        and [r.name for r in lab.recipes()] == []
    )


def test_what_an_iterator_raises_half_way_is_told_like_that(lab, folder):
    def step(papers):
        yield pa.table({"a": [1]})
        raise OSError("the disk of the function")

    with pytest.raises(StepFailed) as caught:
        lab.compute("broken", step, inputs="papers")
    assert isinstance(caught.value.__cause__, OSError) and files(folder) == []


def test_an_error_in_a_helper_is_told_at_the_line_of_the_helper(lab, write):
    code = write("def helper(x):\n    return x + ''\ndef step(papers):\n    return helper(1)\n")
    with pytest.raises(StepFailed) as caught:
        lab.compute("broken", code.module.step, inputs="papers")
    assert caught.value.line == 2 and "return x + ''" in caught.value.excerpt


def test_an_error_about_an_input_says_so_itself(lab, papers):
    def step(source):
        papers.unlink()
        return lab.sql("SELECT * FROM nowhere").arrow()

    with pytest.raises(TableNotFound):
        lab.compute("t", step, inputs="papers", version="1")


# -- what cannot be called -------------------------------------------------------------------------


async def asynchronous(papers: Any) -> Any:
    return papers


def test_a_call_that_cannot_be_is_refused_before_anything_is_begun(lab, folder):
    for function, given in (
        (lambda papers: papers, {}),
        (functools.partial(years, least=2), {}),
        (same, {"inputs": []}),
        (same, {"params": {"least": 1}}),
        (years, {"params": {"most": 1}}),
        (asynchronous, {}),
        ("SELECT 1", {}),
        (None, {}),
        (same, {"version": 3}),
        (same, {"inputs": [pl.DataFrame({"a": [1]})]}),
        (same, {"inputs": ["papers", "papers"]}),
        (same, {"params": {"least": object()}}),
        (same, {"cache": "perhaps"}),
    ):
        with pytest.raises(InvalidArgument):
            lab.compute("t", function, **{"inputs": ["papers"], **given})
        assert statuses(folder) == {} and len(lab.recipes()) == 0


@pytest.mark.parametrize(
    "function",
    [
        lambda papers: papers,
        functools.partial(same),
        type("Model", (), {"__call__": lambda _, papers: papers})(),
    ],
    ids=["lambda", "partial", "object"],
)
def test_with_a_version_anything_that_can_be_called_is_a_step(lab, function):
    assert lab.compute("t", function, inputs="papers", version="1").row_count == 3


def test_a_definition_that_cannot_be_told_says_why_and_what_to_do(lab):
    with pytest.raises(InvalidArgument) as caught:
        lab.compute("t", lambda papers: papers, inputs="papers")
    assert "lambda" in caught.value.message
    assert caught.value.message.endswith('pass version="…".')


def test_unknown_inputs_and_names_that_nothing_may_have_are_refused(lab, folder):
    with pytest.raises(TableNotFound) as caught:
        lab.compute("t", same, inputs="paper")
    assert "papers" in caught.value.near
    with pytest.raises(NameInvalid):
        lab.compute("", same, inputs="papers")
    assert statuses(folder) == {}


@pytest.mark.parametrize("through", ["lab", "link"])
def test_a_step_that_asks_another_handle_for_itself_is_a_circle(lab, folder, through):
    (folder.parent / "link").symlink_to(folder)

    def step(papers):
        with jl.open(folder.parent / through, settings={"flight.wait_seconds": 1}) as other:
            return other.compute("t", same, inputs="papers", version="1").read().arrow()

    with pytest.raises(DependencyCycle):
        lab.compute("t", step, inputs="papers", version="1")
    assert list(statuses(folder).values()) == ["failed"]


# -- the cache -------------------------------------------------------------------------------------


def test_one_version_of_two_recipes_is_two_definitions(lab):
    one = lab.compute("a", lambda: pa.table({"x": [1]}), version="1")
    other = lab.compute("b", lambda: pa.table({"x": [2]}), version="1")
    assert one.definition_hash != other.definition_hash and other.read().fetchall() == [(2,)]


def test_one_function_for_two_recipes_is_computed_once(lab):
    one, other = lab.compute("a", years, inputs="papers"), lab.compute("b", years, inputs="papers")
    assert (other.outcome, other.table_name) == ("reused", one.table_name)


def test_a_volatile_input_is_never_answered(lab):
    for expected in (1, 2):
        table = lab.compute("t", same, inputs="SELECT *, random() AS r FROM papers")
        assert (table.outcome, table.version) == ("computed", expected)
    assert isinstance(table.staleness(), jl.Undecidable)


# -- around it -------------------------------------------------------------------------------------


def test_progress_is_told_before_the_function_is_called(lab):
    told: list[Progress] = []

    def step(papers):
        assert [p.stage for p in told][-1] == "compute t"
        return papers

    lab.compute("t", step, inputs="papers", version="1", progress=told.append)
    assert told[-1].done == 3


def test_the_manifest_holds_the_source_and_no_value_that_it_names(lab, write):
    code = write(
        "PASSWORD = 'hunter2'\ndef step(papers):\n    use = PASSWORD\n    return papers  # all of it\n"
    )
    table = lab.compute("t", code.module.step, inputs="papers")
    assert table.manifest.descriptor["source"].endswith(
        "return papers  # all of it\n"
    ) and "hunter2" not in str(table.manifest.to_dict())
    assert (
        table.manifest.descriptor["function"] == f"{code.name}:step"
        and table.manifest.order_sensitive
    )
    assert "return papers" in next(iter(lab.recipes())).definition
