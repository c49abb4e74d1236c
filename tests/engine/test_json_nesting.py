"""JSON of any depth: the functions of DuckDB that recurse refuse what would end the process."""

import pytest

import jammi_lab as jl
from jammi_lab.engine.duckdb_instances import MAX_JSON_DEPTH

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
        with pytest.raises(jl.SqlError, match=f"nested deeper than {MAX_JSON_DEPTH:,} levels"):
            ws.sql(f"SELECT {call} AS x", t=nested(300_000)).fetchall()
    assert ws.sql("SELECT 1").fetchall() == [(1,)]


def test_the_limit_counts_levels_and_neither_brackets_nor_strings(ws):
    wide = "[" + ",".join(['{"a":"[[[{{{"}'] * (MAX_JSON_DEPTH + 1)) + "]"
    rows = ws.sql("SELECT json_structure($t)", t=wide).fetchall()
    assert rows == [('[{"a":"VARCHAR"}]',)]
    assert ws.sql("SELECT json_contains($t, '1')", t=nested(MAX_JSON_DEPTH)).fetchall() == [(True,)]
    with pytest.raises(jl.SqlError):
        ws.sql("SELECT json_contains($t, '1')", t=nested(MAX_JSON_DEPTH + 1)).fetchall()


def test_shallow_values_are_answered_as_before(ws):
    answer = ws.sql(
        "SELECT json_structure('{\"a\": [1]}'), json_structure(NULL), json_contains('[1]', '1'), "
        "json_pretty('[]')"
    ).fetchall()
    assert answer == [('{"a":["UBIGINT"]}', None, True, "[]")]
    table = ws.materialize("structures", "SELECT json_structure('[1]') AS s")
    assert str(table.verify()) == "match" and str(table.staleness()) == "fresh"
