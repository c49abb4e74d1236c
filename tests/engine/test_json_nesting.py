"""JSON of any depth: the functions of DuckDB that recurse refuse what would end the process."""

import pytest

import jammi_lab as jl
from jammi_lab.engine.duckdb_instances import MAX_JSON_PARTS

CALLS = (
    "json_structure($t)",
    "json_contains($t, '1')",
    "json_contains('1', $t)",
    "json_pretty($t)",
    "json_group_structure($t::JSON)",
)


@pytest.fixture
def ws(tmp_path):
    with jl.open(tmp_path / "lab") as opened:
        yield opened


def nested(depth):
    return "[" * depth + "1" + "]" * depth


def test_a_text_that_is_nested_300_000_deep_is_an_error(ws):
    for call in CALLS:
        with pytest.raises(jl.SqlError, match=f"more than {MAX_JSON_PARTS:,} arrays and objects"):
            ws.sql(f"SELECT {call} AS x", t=nested(300_000)).fetchall()
    assert ws.sql("SELECT 1").fetchall() == [(1,)]


def test_the_limit_counts_arrays_and_objects(ws):
    assert ws.sql("SELECT json_contains($t, '1')", t=nested(MAX_JSON_PARTS)).fetchall() == [(True,)]
    with pytest.raises(jl.SqlError):
        ws.sql("SELECT json_contains($t, '1')", t=nested(MAX_JSON_PARTS + 1)).fetchall()


def test_shallow_values_are_answered_as_before(ws):
    answer = ws.sql(
        "SELECT json_structure('{\"a\": [1]}'), json_structure(NULL), json_contains('[1]', '1'), "
        "json_pretty('[]')"
    ).fetchall()
    assert answer == [('{"a":["UBIGINT"]}', None, True, "[]")]
    table = ws.materialize("structures", "SELECT json_structure('[1]') AS s")
    assert str(table.verify()) == "match" and str(table.staleness()) == "fresh"
