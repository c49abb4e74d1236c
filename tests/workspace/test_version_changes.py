"""Changes between two versions: the numbers equal those of `ResultTable.diff`, whatever was
skipped."""

import random

import pyarrow as pa
import pytest

from jammi_lab.core.verdicts import reasons_of
from jammi_lab.freshness.explain import verdict_on_former
from jammi_lab.storage import parquet
from tests.inside import record_of
from tests.sizes import examples


def comparison(table, number=None):
    return table._comparison(number)[0]


def two_versions(ws, name, old, new, key="id"):
    ws.materialize(name, f"SELECT * FROM ({old}) t", key=key)
    return ws.materialize(name, f"SELECT * FROM ({new}) t", key=key)


def test_changed_cells_are_counted_by_column_and_equal_columns_are_not_read(ws):
    rows = "SELECT i AS id, {} AS price, 'n' || i AS name FROM range(1000) r(i)"
    table = two_versions(
        ws, "prices", rows.format("i"), rows.format("CASE WHEN i IN (3, 500) THEN -1 ELSE i END")
    )
    found = comparison(table)
    assert str(found.summary) == "2 rows changed"
    assert [(c.name, c.rows) for c in found.summary.columns] == [("price", 2)]
    assert found.summary.skipped_columns == ["id", "name"]
    labels, old, new, differs = found.changed_rows(10)
    assert labels.to_pydict() == {"id": [3, 500], "name": ["n3", "n500"]}
    assert (old["price"].to_pylist(), new["price"].to_pylist()) == ([3, 500], [-1, -1])
    assert differs["price"].to_pylist() == [True, True]


def test_rows_without_a_key_are_matched_by_position_when_a_column_stayed(ws):
    rows = "SELECT 'x' AS c, i AS n, {} AS price FROM range(1000) r(i)"
    table = two_versions(ws, "plain", rows.format("i"), rows.format("i + (i = 7)::INT"), key=None)
    found = comparison(table)
    assert (found.summary.compared_by, str(found.summary)) == ("position", "1 row changed")
    labels, old, new, differs = found.changed_rows(10)
    assert labels.to_pydict() == {"row": [8], "c": ["x"], "n": [7]}
    assert (old["price"].to_pylist(), new["price"].to_pylist()) == ([7], [8])
    assert differs["price"].to_pylist() == [True]


MOVED = "SELECT i % 2 AS shelf, {} AS price, 'n' || i AS name FROM range(20) r(i) ORDER BY {}"


def test_a_column_of_another_type_is_not_compared(ws):
    table = two_versions(
        ws, "raised", MOVED.format("i", "i"), MOVED.format("i + 0.5", "i"), key=None
    )
    summary = comparison(table).summary
    assert summary.columns_added == ["price"] and summary.changed == 0
    table = two_versions(ws, "raised", MOVED.format("i", "i"), MOVED.format("i + 1", "i"), None)
    assert comparison(table).summary.compared_by == "position"
    assert [(c.name, c.rows) for c in comparison(table).summary.columns] == [("price", 20)]


def test_rows_without_a_key_are_whole_rows_when_only_a_constant_column_stayed(ws):
    table = two_versions(
        ws,
        "shifted",
        "SELECT 'x' AS c, i AS n FROM range(10) r(i)",
        "SELECT 'x' AS c, i + 1 AS n FROM range(10) r(i)",
        key=None,
    )
    found = comparison(table)
    assert found.summary.compared_by == "row"
    assert str(found.summary) == "1 row added, 1 row removed"
    assert found.rows("added", 5).to_pylist() == [{"c": "x", "n": 10}]
    assert found.rows("removed", 5).to_pylist() == [{"c": "x", "n": 0}]


def test_equal_first_row_groups_are_skipped_and_the_numbers_stay_the_same(ws, monkeypatch):
    monkeypatch.setattr(parquet, "ROW_GROUP_ROWS", 100)
    rows = "SELECT i AS id, i * i AS v, 'n' || i AS t FROM range({}) r(i)"
    table = two_versions(ws, "growing", rows.format(950), rows.format(1_020))
    found = comparison(table)
    assert found._skipped_rows == 900
    assert str(found.summary) == "70 rows added"
    assert found.rows("added", 100)["id"].to_pylist() == [*range(950, 1_020)]
    plain = two_versions(ws, "growing_plain", rows.format(950), rows.format(1_020), key=None)
    assert str(comparison(plain).summary) == "70 rows added"


@pytest.mark.parametrize("key", ["id", None])
def test_numbers_equal_those_of_the_full_difference(ws, key):
    draw = random.Random(7)

    def register_random_rows():
        rows = [(draw.randrange(4), draw.choice([None, 0.0, -0.0, 1.5])) for _ in range(5)]
        columns = zip(*(dict(rows).items() if key else rows), strict=True)
        values = dict(zip(["id", "v"], columns, strict=True))
        return ws.register("random", pa.table(values), key=key, producer="test")

    register_random_rows()
    for _ in range(examples(12)):
        table = register_random_rows()
        found, full = comparison(table).summary, table.diff()
        counts = [full.added.num_rows, full.removed.num_rows, full.changed.num_rows]
        if found.compared_by == "position":  # a row added and one removed
            assert [found.changed] * 2 == counts[:2]
        else:
            assert [found.added, found.removed, found.changed] == counts


def test_the_inputs_that_changed_are_named_with_versions_and_rows(ws, tmp_path):
    path = tmp_path / "papers.csv"
    path.write_text("id,title\n1,a\n")
    ws.sources.add("papers", path)
    ws.materialize("base", "SELECT * FROM papers", key="id")
    ws.materialize("top", "SELECT * FROM jammi.base", key="id")
    path.write_text("id,title\n1,a\n2,b\n")
    ws.recompute("top")
    top, base = ws.table("top"), ws.table("base")
    changes = [verdict_on_former(record_of(t.history()[1]), record_of(t)) for t in (top, base)]
    assert [reasons_of(verdict) for verdict in changes] == [
        ["base changed, version 1 → 2"],
        ["papers changed"],
    ]
    ws.define("base", "SELECT id FROM papers")
    ws.recompute("base")
    redefined = verdict_on_former(record_of(base), record_of(ws.table("base")))
    assert reasons_of(redefined) == ["definition changed", "papers changed its columns"]


def test_a_difference_is_shown_with_the_types_of_sql(ws):
    for price in ("1.50", "1.75"):
        ws.materialize(
            "t",
            f"SELECT 'a' AS k, DATE '2024-01-01' AS day, {price}::DECIMAL(6, 2) AS price",
            key="k",
        )
    shown = str(ws.table("t").diff()).splitlines()
    assert shown[3].split() == ["varchar", "date", "decimal(6,2)"]


def test_digits_that_a_person_does_not_write_are_shown_where_nothing_else_differs(ws):
    rows = "SELECT * FROM (VALUES (1, 0.1 + {}, 10.0), (2, {}, 1.5)) AS t(id, x, y)"
    for first, second in (("2e-1", "1e0"), ("12e-1", "1.00000000004e0")):
        ws.materialize("t", rows.format(first, second), key="id")
    [one, two] = [line.split() for line in str(ws.table("t").diff()).splitlines()[5:7]]
    assert one == ["1", "0.3", "→", "1.3", "10.0"]
    assert two == ["2", "1.0", "→", "1.00000000004", "1.5"]


def test_a_diff_says_when_the_keys_differ(ws):
    table = two_versions(ws, "t", "SELECT 1 AS id, 5 AS n", "SELECT 1 AS id, 7 AS n")
    keyless = ws.materialize("t", "SELECT 1 AS id, 7 AS n")
    assert "keys differ" in str(keyless.diff())
    assert "keys differ" not in str(table.diff())


def test_a_handle_of_a_former_version_says_so(ws):
    former = ws.materialize("t", "SELECT 1 AS id")
    assert str(former).splitlines()[0] == "t, version 1: computed"
    newest = ws.materialize("t", "SELECT 2 AS id")
    assert str(former).splitlines()[0] == "t, version 1 of 2: computed"
    assert str(newest).splitlines()[0] == "t, version 2: computed"
    ws.close()
    assert str(former).splitlines()[0] == "t, version 1: computed"
