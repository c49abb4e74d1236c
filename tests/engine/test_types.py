"""Types as texts: those that DuckDB writes are taken word for word, and nothing else gets into a
statement."""

import duckdb
import pytest

from jammi_lab.core.errors import SchemaMismatch
from jammi_lab.engine.sql.syntax_tree import column_definitions, sql_type

VALUES = [
    "1",
    "1.5",
    "NULL",
    "now()",
    "'{}'::JSON",
    "1::HUGEINT",
    "TIMESTAMP_NS '2020-01-01'",
    "[[1.5]]::DECIMAL(38,2)[][]",
    "[1, 2, 3]::FLOAT[3]",
    """{'a b': 1, 'select': [{'it''s "q"': 1.5}], 'x); DROP TABLE t; --': 'y'}""",
    "MAP {'a': {'b': [1]}}",
    "'x'::ENUM('x', 'o''q, y', 'z); --')",
]


@pytest.mark.parametrize("value", VALUES)
def test_a_type_that_describe_tells_is_read_as_that_very_text(value):
    with duckdb.connect() as connection:
        told = connection.execute(f"DESCRIBE SELECT {value} AS v").fetchall()[0][1]
        assert sql_type(told) == told
        connection.execute(f"CREATE TABLE t ({column_definitions({'v': told})})")
        assert connection.execute("DESCRIBE t").fetchall()[0][1] == told


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nonsense",
        "VARCHAR)",
        "VARCHAR); COPY (SELECT 42) TO 'taken.csv'; CREATE TABLE z(a INT",
        "VARCHAR; SELECT 1",
        "VARCHAR\0",
        "STRUCT(" * 500,
    ],
)
def test_what_is_no_type_is_refused_with_its_column(text):
    assert sql_type(text) is None
    with pytest.raises(SchemaMismatch) as caught:
        column_definitions({"n": "BIGINT", "it's": text})
    assert caught.value.column == "it's"


@pytest.mark.parametrize(
    "text", ["VARCHAR, n BIGINT", "VARCHAR DEFAULT (getenv('HOME'))", "VARCHAR PRIMARY KEY", "text"]
)
def test_of_a_text_that_says_more_than_a_type_the_type_alone_is_declared(text):
    assert sql_type(text) != text and column_definitions({"v": text}) == '"v" VARCHAR'
