"""Statements extended by the sums and counts behind their averages."""

import duckdb
import pytest

from jammi_lab.engine.averages import AveragedType
from jammi_lab.engine.sql.average_sums import Average, with_sums
from jammi_lab.engine.sql.syntax_tree import tree_of

KIND = AveragedType.of_decimal(8, 2)


def extended(text, positions, names):
    with duckdb.connect() as connection:
        tree = tree_of(connection, text)
        output = [(name, "DOUBLE") for name in names]
        averages = [Average(position, KIND) for position in positions]
        return with_sums(connection, text, tree, output, averages)


EXTENDED = {
    "SELECT g, avg(x) AS a FROM t GROUP BY g": [1],
    "SELECT mean( x+1 ) FILTER (WHERE b), g FROM t GROUP BY ALL": [0],
    'WITH t AS (SELECT 1 AS x FROM u) SELECT avg(x), Avg("x") -- from here\n FROM t': [0, 1],
    "SELECT ä IS DISTINCT FROM b AS c, avg(x) FROM t GROUP BY ALL": [1],
    "SELECT avg(extract(year FROM d)), main.avg($p) FROM t": [0, 1],
}


@pytest.mark.parametrize("text", EXTENDED)
def test_sums_and_counts_come_after_the_columns_of_the_statement(text):
    positions = EXTENDED[text]
    result = extended(text, positions, "ab"[: 1 + (", " in text)])
    end = result.offset + result.length
    assert (result.text.encode()[: result.offset] + result.text.encode()[end:]).decode() == text
    added = result.tree["select_list"][-2 * len(positions) :]
    assert [node["alias"] for node in added] == [
        f"__jammi_{what}_{position}" for position in positions for what in ("sum", "count")
    ]


def test_a_sum_and_a_count_have_argument_and_filter_of_the_average():
    result = extended("SELECT avg(x + 1) FILTER (WHERE b) FROM t", [0], "a")
    assert "CAST(sum((x + 1)) FILTER (WHERE b) AS DECIMAL(38,2))" in result.text
    assert "count((x + 1)) FILTER (WHERE b)" in result.text


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("FROM t SELECT avg(x)", "a"),
        ("SELECT avg(x), FROM t", "a"),
        ("SELECT avg(x) + 1 FROM t", "a"),
        ("SELECT * FROM t", "a"),
        ("SELECT avg(x), * FROM t", "abc"),
        ("SELECT avg(x) FROM t UNION ALL SELECT avg(x) FROM t", "a"),
        ("SELECT avg(x) AS __jammi_sum_0 FROM t", ["__jammi_sum_0"]),
    ],
)
def test_other_select_lists_are_not_extended(text, names):
    assert extended(text, [0], names) is None
