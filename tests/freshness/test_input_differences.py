"""Which columns and rows of an input changed is said where it is known, and nowhere else."""

from typing import Any

import polars as pl
import pytest

from jammi_lab.workspace.workspace import Workspace
from tests.freshness.lab import Lab

SALES = {"id": [1, 2, 3], "price": [10.0, 20.0, 30.0], "name": ["a", "b", "c"]}
WRITERS = {"parquet": pl.DataFrame.write_parquet, "csv": pl.DataFrame.write_csv}


class Sales:
    """A file of sales, a table that keeps its rows, and one over that."""

    def __init__(self, lab: Lab, kind: str) -> None:
        self.lab, self._path = lab, lab.data / f"sales.{kind}"
        self.write()
        self.ws.sources.add("sales", self._path)
        self.ws.materialize("kept", "SELECT * FROM sales", key="id")
        self.ws.materialize("total", "SELECT sum(price) AS total FROM jammi.kept")

    @property
    def ws(self) -> Workspace:
        return self.lab.ws

    def write(self, **columns: list[Any]) -> None:
        WRITERS[self._path.suffix[1:]](pl.DataFrame({**SALES, **columns}), self._path)

    def reasons(self, name: str) -> list[str]:
        return self.ws.status()[name].reasons


@pytest.fixture
def sales(lab: Lab, request: pytest.FixtureRequest) -> Sales:
    return Sales(lab, request.param)


both = pytest.mark.parametrize("sales", ["parquet", "csv"], indirect=True)


@pytest.mark.parametrize("sales", ["parquet"], indirect=True)
def test_the_column_that_changed_in_a_file_is_named(sales):
    sales.write(price=[10.0, 21.0, 31.0])
    assert sales.reasons("kept") == ["sales changed, only price"]
    assert sales.reasons("total") == ["sales changed, only price, by way of kept"]
    assert sales.ws.why("kept").lines[1].startswith("└─ sales changed, only price (read")
    sales.lab.reopen()
    assert sales.reasons("kept") == ["sales changed, only price"]


@both
def test_nothing_is_said_when_all_columns_changed(sales):
    sales.write(id=[1, 2, 4], price=[1.0, 2.0, 3.0], name=["x", "y", "z"])
    assert sales.reasons("kept") == ["sales changed"]


@both
def test_rows_that_came_are_counted(sales):
    more = {name: [*values, values[0]] for name, values in SALES.items()}
    sales.write(**{**more, "id": [1, 2, 3, 4]})
    assert sales.reasons("kept") == ["sales changed, 3 → 4 rows"]


@pytest.mark.parametrize("sales", ["parquet"], indirect=True)
def test_rows_of_tables_are_counted_in_the_history_and_a_look_names_the_columns(sales):
    sales.write(price=[10.0, 21.0, 31.0])
    sales.ws.recompute("kept")
    assert "price: 2 of 3 rows" in str(sales.ws.table("kept").history())
    [line] = sales.ws.why("total").lines[1:]
    assert line.startswith("└─ kept changed, version 1 → 2 (read")  # total reads this column alone
    sales.ws.recompute("total")
    assert "1 row added, 1 row removed" in str(sales.ws.table("total").history())


@pytest.mark.parametrize("sales", ["parquet"], indirect=True)
def test_versions_of_a_large_table_are_not_compared(sales):
    sales.write(price=[10.0, 21.0, 31.0])
    sales.ws.settings["look.scan_rows"] = 2
    sales.ws.recompute("kept")
    assert "of 3 rows" not in str(sales.ws.table("kept").history())


@pytest.mark.parametrize("sales", ["parquet"], indirect=True)
def test_rows_without_a_key_are_counted_by_position_or_as_whole_rows(sales):
    ws = sales.ws
    ws.materialize("raised", "SELECT name, price + 1 AS price FROM sales")
    ws.materialize("sorted", "SELECT price > 0 AS sold, price FROM sales ORDER BY sold, price")
    ws.materialize("shelf", "SELECT id > 1 AS top, price FROM sales ORDER BY top, price")
    sales.write(price=[11.0, 50.0, 31.0])
    ws.recompute()
    changes = {name: ws.table(name).history().changes[2] for name in ("raised", "sorted", "shelf")}
    assert changes == {
        "raised": "price: 3 of 3 rows",
        "sorted": "3 rows added, 3 rows removed",
        "shelf": "price: 3 of 3 rows",
    }
