"""A frame that is all rows of a table is that table in a stored statement, unless running the cells
again could give other rows than the statement."""

from collections.abc import Iterator
from pathlib import Path

import pytest

import jammi_lab as jl
from tests.freshness.lab import Lab
from tests.stateful.notebooks import notebook_lab, run_notebook

TYPES = """
SELECT id, x, id::INTEGER AS small, (id / 4)::DECIMAL(9, 2) AS price, 'n' || id AS name,
    DATE '2024-01-01' + id::INTEGER AS day, id > 1 AS flag, sum(id) OVER () AS total,
    nullif(id, 1)::INTEGER AS gap
FROM s0
"""


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    with notebook_lab(tmp_path / "lab") as made:
        yield made


def store(lab: Lab, *cells: str) -> str:
    """What the stored statement reads in place of the frame `a` that the cells make."""
    events = [*(("cell", cell) for cell in cells), ("store", "o0", "a")]
    run_notebook(events, lab)
    return lab.recipe("o0").definition.removeprefix("SELECT id, x FROM ")


@pytest.mark.parametrize(
    "cell",
    [
        "a = ws.table('s0').arrow()",
        "a = ws.table('s0').read().polars()",
        "a = ws.table('s0').scan()",
        "a = ws.sql('SELECT * FROM jammi.s0').polars()",
        "t = ws.table('s0')\nfirst = t.polars()\na = first",
    ],
)
def test_a_statement_over_a_frame_that_is_a_table_reads_the_table(lab, cell):
    assert store(lab, cell) == "jammi.s0 AS a"
    assert lab.staleness("o0") == jl.Fresh()
    lab.path("s0.csv").write_text("id,x\n1,5.5\n2,6.0\n3,7.0\n")
    lab.reopen()
    assert str(lab.staleness("o0")).endswith("by way of a ← s0")
    assert "a\n" in str(lab.why("o0")) and "s0" in str(lab.why("o0"))
    assert [step.outcome for step in lab.recompute("o0").steps] == ["computed", "computed"]
    assert lab.table("o0").row_count == 3
    assert lab.staleness("o0") == jl.Fresh()


def test_columns_of_a_pandas_frame_have_their_types_and_no_nan(lab):
    lab.materialize("wide", TYPES.replace("FROM s0", "FROM jammi.s0"))
    text = store(lab, "a = ws.table('wide').pandas()")
    assert "CAST(day AS TIMESTAMP) AS day" in text.replace('"', "")
    assert "nullif(x, 'NaN') AS x" in text.replace('"', "")
    assert [each.label for each in lab.table("o0").inputs] == ["wide"]
    frame = lab.table("wide").pandas()
    columns = ", ".join(frame.columns)
    assert lab.sql(f"SELECT {columns} FROM {text}").pandas().equals(frame)


@pytest.mark.parametrize(
    "values", ["[1, 2]", "nullif(id, 1)", "x::DECIMAL(30, 2)"], ids=["list", "ids", "decimal"]
)
def test_a_pandas_frame_that_sql_would_convert_otherwise_stays_a_frame(lab, values):
    lab.materialize("odd", f"SELECT id, x, {values} AS v FROM jammi.s0")
    assert store(lab, "a = ws.table('odd').pandas()") == "a"


@pytest.mark.parametrize(
    "cells",
    [
        ["a = ws.table('s0').pandas()", "a.drop(index=[], inplace=True)"],
        ["a = ws.table('s0').pandas()", "a = a[a.x > 0]"],
        ["a = ws.table('s0').pandas()", "vars()['a'].drop(index=[], inplace=True)"],
        ["a = ws.sql('SELECT * FROM jammi.s0 WHERE x > 0').pandas()"],
        ["a = ws.table('s0').read().preview(100)"],
        ["a = ws.table('s0').head(100).arrow()"],
        ["a = ws.table('s0', 1).arrow()"],
        ["a = ws.table('s0', 1).scan()"],
        ["a = ws.table('s0').arrow().to_pandas()"],
        ["a = ws.table('s0' if ws.table('s1').pandas().x.sum() > 0 else 's1').pandas()"],
        ["a = ws.table('s0').polars()", "ws.sources.add('a', a)"],
        [
            "a = ws.table('s0').polars()",
            "ws.materialize('s0', 'SELECT id, x + 1 AS x FROM s0_csv')",
        ],
        [
            "ws.materialize('o0', 'SELECT id, x FROM jammi.s0')",
            "ws.materialize('mid', 'SELECT id, x FROM jammi.o0')",
            "a = ws.table('mid').polars()",
        ],
    ],
    ids=[
        "changed in place",
        "filtered",
        "changed unseen",
        "of a statement",
        "first rows",
        "as many first rows as there are",
        "a version",
        "a lazy version",
        "converted",
        "chosen by another table",
        "registered",
        "older version",
        "made from the recipe itself",
    ],
)
def test_a_frame_that_may_differ_when_the_cells_run_again_stays_a_frame(lab, cells):
    assert store(lab, *cells) == "a"


def test_a_frame_is_replaced_wherever_a_statement_names_it(lab):
    values = {"a": lab.table("s0").arrow(), "b c": lab.table("s1").arrow()}
    lab.name_frames(values)
    text = 'WITH a2 AS (FROM  "a" ) SELECT q.id, a2.x FROM "b c" AS q JOIN a2 USING (id) WHERE q.id IN (SELECT "a".id FROM "a")'
    lab._services.materializer.materialize("joined", text, frames=True)
    assert lab.recipe("joined").definition == (
        "WITH a2 AS (FROM  jammi.s0 AS a ) SELECT q.id, a2.x FROM jammi.s1 AS q JOIN a2 USING (id) "
        'WHERE q.id IN (SELECT "a".id FROM jammi.s0 AS a)'
    )
    assert {each.name for each in lab.table("joined").inputs} == {"s0", "s1"}


@pytest.mark.parametrize("form", ["polars", "pandas", "arrow"])
def test_a_frame_that_a_script_adds_keeps_its_table(lab, form):
    lab.sources.add("f", getattr(lab.table("s0").read(), form)())
    lab.materialize("out", "SELECT id FROM f")
    assert isinstance(lab.staleness("out"), jl.Fresh)
    lab.path("s0.csv").write_text("id,x\n1,5.5\n")
    assert str(lab.staleness("out")).endswith("by way of f ← s0")
