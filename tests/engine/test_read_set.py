"""Which columns of which input a statement reads, and what it puts out."""

import pyarrow as pa
import pytest

from jammi_lab.core.errors import SqlError, StatementNotAllowed
from jammi_lab.engine import PreparedStatement
from jammi_lab.engine.sql import allowlist as gate
from tests.cases import pairs
from tests.engine.shelf import PAPERS

pytestmark = pytest.mark.one_engine

CASES = pairs("readset/readset.sql")
HOSTILE = [
    'a"b',
    "a\nb",
    "a\tb",
    "\u202eabc",
    "🦆",
    "é",
    "é",
    "x" * 300,
    "../../etc/passwd",
    "t[1]",
    "a.b",
    "a b",
    "select",
    "'; DROP TABLE x; --",
    "`",
    "\\",
    "$x",
    "*",
    "%s",
]


def read(prepared: PreparedStatement) -> str:
    return (
        " ".join(
            sorted(f"{i.relation.input.label}({','.join(i.columns)})" for i in prepared.inputs)
        )
        or "-"
    )


@pytest.mark.every_case
@pytest.mark.parametrize(("sql", "expected"), CASES, ids=range(len(CASES)))
def test_the_read_set_holds_the_columns_that_are_read(prepare, sql, expected):
    assert read(prepare(sql, **({"x": 1} if "$x" in sql else {}))) == expected


def test_the_schema_of_an_input_has_all_its_columns_in_order(
    prepare,
):
    [bound] = prepare("SELECT id FROM papers").inputs
    assert list(bound.schema.items()) == [
        ("id", "BIGINT"),
        ("venue", "VARCHAR"),
        ("year", "INTEGER"),
        ("cites", "DOUBLE"),
        ("tags", "VARCHAR[]"),
    ]


def test_an_input_under_two_names_is_one_input(prepare):
    assert len(prepare("SELECT * FROM Papers a, papers b, PAPERS c").inputs) == 1


def test_the_output_has_exact_names_and_types(prepare):
    prepared = prepare(
        "SELECT ID, id AS Id, count(*) AS \"N n\", sum(year) AS s, {'A': 1} AS st, 1.0 AS d FROM papers GROUP BY id"
    )
    assert prepared.output == [
        ("id", "BIGINT"), ("Id", "BIGINT"), ("N n", "BIGINT"), ("s", "HUGEINT"), ("st", "STRUCT(A INTEGER)"), ("d", "DECIMAL(2,1)"),
    ]  # fmt: skip


def test_a_field_of_a_struct_reads_its_column_even_beside_one_of_a_like_name(shelf, prepare):
    shelf.frame("odd", table=pa.table({"a": [{"b": {"c": 1}}], "a.b": [{"c": 2}], "z": [3]}))
    [bound] = prepare("SELECT o.a.b.c FROM odd o").inputs
    assert "a" in bound.columns
    assert "z" not in bound.columns
    shelf.frame("odder", table=pa.table({"a": [{"b": 1}], "a.b": [2], "z": [3]}))
    [bound] = prepare("SELECT o.a.b FROM odder o").inputs
    assert "a" in bound.columns
    assert "z" not in bound.columns


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT rowid FROM papers",
        "SELECT id FROM papers WHERE rowid > 1",
        "SELECT papers.rowid FROM papers",
    ],
)
def test_rowid_is_no_column(prepare, sql):
    with pytest.raises(SqlError):
        prepare(sql)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_column_name_is_read_and_told(shelf, prepare, name):
    shelf.frame("odd", table=pa.table({name: [1], "other": [2]}))
    quoted = '"' + name.replace('"', '""') + '"'
    prepared = prepare(f"SELECT {quoted} FROM odd")
    [bound] = prepared.inputs
    assert set(bound.columns) in ({name}, {name, "other"})
    assert prepared.run().table().to_pylist() == [{name: 1}]
    assert prepared.run_ordered([name]).table().to_pylist() == [{name: 1}]
    prepared.canonical()


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_table_name_is_read(shelf, prepare, name):
    shelf.frame(name, table=PAPERS)
    shelf.frame("jammi", name, table=PAPERS, kind="result")
    quoted = '"' + name.replace('"', '""') + '"'
    prepared = prepare(f"SELECT a.id FROM {quoted} a JOIN jammi.{quoted} b USING (id)")
    assert sorted(i.columns for i in prepared.inputs) == [("id",), ("id",)]
    assert len(prepared.run().table()) == 4
    prepared.canonical()


def test_a_source_called_like_a_system_view_is_the_source(shelf, rows):
    shelf.frame("duckdb_tables", table=pa.table({"mine": [1]}))
    assert rows("FROM duckdb_tables") == [{"mine": 1}]


@pytest.mark.parametrize("function", ["duckdb_settings", "duckdb_secrets", "pragma_version"])
def test_a_function_that_the_gate_let_through_is_refused_by_the_plan(
    prepare, monkeypatch, function
):
    monkeypatch.setattr(gate, "TABLE_FUNCTIONS", gate.TABLE_FUNCTIONS | {function})
    with pytest.raises(StatementNotAllowed, match=rf"{function}\(\) cannot be read from"):
        prepare(f"SELECT * FROM {function}()")
