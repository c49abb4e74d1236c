"""Checks on sources, which warn, and on mutable tables, which refuse a commit; and on every kind of
result table."""

import concurrent.futures
import contextlib
import sqlite3
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import jammi_lab as jl
from jammi_lab.core.errors import CheckFailed, InvalidArgument, TableNotFound
from tests.features.checks.rules import limit_rows


@pytest.fixture
def papers(ws: Any, tmp_path: Path) -> Path:
    """The file of the source `papers`, of which one row has no year."""
    path = tmp_path / "papers.csv"
    path.write_text("id,year,title\n1,2001,a\n2,,b\n")
    ws.sources.add("papers", path)
    return path


@pytest.fixture
def orders(ws: Any) -> Any:
    table = ws.mutable.create("orders", {"id": "int64", "amount": "int64"}, primary_key=["id"])
    table.insert([{"id": 1, "amount": 5}])
    ws.checks.add("positive", jl.checks.between("amount", 0), on="mutable.orders")
    return table


def order(orders: Any, id: int, amount: int) -> int:
    return orders.insert([{"id": id, "amount": amount}])


def test_a_check_on_a_source_warns_in_the_verdicts_of_what_is_made_from_it(ws, papers):
    ws.materialize("old", "SELECT * FROM papers WHERE year < 2010")
    ws.materialize("older", "SELECT * FROM jammi.old")
    ws.materialize("apart", "SELECT 1 AS x")
    check = ws.checks.add("years", jl.checks.not_null("year"), on="papers")
    assert (check.severity, check.table) == ("warn", "papers")
    assert ws.status()["old"].grounds == [], "nothing was run"
    [row] = ws.check("papers")
    assert (row.table, row.version, row.outcome, row.failing) == ("papers", None, "fail", 1)
    assert row.rows().to_pylist() == [{"id": 2, "year": None, "title": "b"}]
    warning = "1 row of papers fails the check years"
    assert ws.staleness("old").grounds == [warning]
    assert ws.staleness("older").grounds == [f"{warning}, by way of old"], "said once"
    assert warning not in ws.status()["apart"].grounds
    [shown] = ws.sql(
        "SELECT check_name, table_name, recipe, version, outcome FROM jammi_catalog.checks"
    ).fetchall()
    assert shown == ("years", "source:papers", "papers", None, "fail")
    papers.write_text("id,year,title\n1,2001,a\n2,2002,b\n")
    ws.materialize("old", "SELECT * FROM papers WHERE year < 2010")
    assert ws.staleness("old").grounds == [], "the result is on another state"
    [row] = ws.check("years")
    assert row.passes and row.previous == "before: 1 row failed; the data changed"
    ws.sources.remove("papers")
    assert not len(ws.checks)


def test_a_source_cannot_be_blocked_and_has_no_versions(ws, papers):
    with pytest.raises(InvalidArgument, match="cannot block"):
        ws.checks.add("years", jl.checks.not_null("year"), on="papers", severity="block")
    check = ws.checks.add("years", jl.checks.not_null("year"), on="papers")
    assert check.rows().arrow().num_rows == 1
    with pytest.raises(InvalidArgument, match="no versions"):
        check.rows(1)
    ws.materialize("old", "SELECT 1 AS x")
    with pytest.raises(InvalidArgument, match="is on 'papers'"):
        ws.checks.add("years", jl.checks.not_null("x"), on="old")
    with pytest.raises(TableNotFound):
        ws.checks.add("other", jl.checks.not_null("year"), on="mutable.papers")


def test_a_tenants_own_source_is_not_warned_about_by_the_shared_one(ws, papers, tmp_path):
    ws.checks.add("years", jl.checks.not_null("year"), on="papers")
    ws.check()
    own = tmp_path / "own.csv"
    own.write_text("id,year\n1,2001\n")
    with ws.tenant("acme"):
        ws.materialize("shared", "SELECT * FROM papers")
        assert ws.staleness("shared").grounds
        ws.sources.add("papers", own)
        ws.materialize("mine", "SELECT * FROM papers")
        assert not ws.staleness("mine").grounds


def test_a_commit_that_does_not_pass_a_blocking_check_is_refused(ws, orders):
    version = orders.version
    for change in (
        lambda: order(orders, 2, -1),
        lambda: orders.upsert([{"id": 1, "amount": -1}]),
        lambda: ws.sql("UPDATE mutable.orders SET amount = -1"),
        lambda: ws.sql("INSERT INTO mutable.orders SELECT 3, -3"),
    ):
        with pytest.raises(CheckFailed, match="was not changed") as caught:
            change()
        assert (caught.value.check, caught.value.table, caught.value.failing) == (
            "positive",
            "orders",
            1,
        )
        assert caught.value.sample[0]["amount"] < 0
    assert orders.version == version and orders.read().fetchall() == [(1, 5)]
    order(orders, 2, 7)
    ws.sql("DELETE FROM mutable.orders WHERE id = 1")
    [row] = ws.check("mutable.orders")
    assert (row.outcome, row.version, row.table) == ("pass", orders.version, "mutable.orders")
    ws.mutable.drop("orders")
    assert not len(ws.checks)


def test_a_check_on_a_mutable_table_sees_the_rows_of_the_others(ws, orders):
    limit_rows(ws, "few", "orders", 3)
    ws.materialize("known", "SELECT unnest([1, 2, 3, 4]) AS id")
    ws.checks.add("known", jl.checks.references("id", "jammi.known"), on="orders")
    orders.insert([{"id": 2, "amount": 1}, {"id": 3, "amount": 1}])
    with pytest.raises(CheckFailed, match="at most 3 rows"):
        order(orders, 4, 1)
    orders.delete("id = 1")
    with pytest.raises(CheckFailed, match=r"occurs in jammi\.known"):
        order(orders, 5, 1)


def test_a_warning_on_a_mutable_table_lets_it_commit_and_warns(ws, orders):
    ws.checks.add("positive", jl.checks.between("amount", 0), on="orders", severity="warn")
    order(orders, 2, -1)
    ws.materialize("total", "SELECT sum(amount) AS total FROM mutable.orders")
    ws.check()
    assert ws.staleness("total").grounds == ["1 row of mutable.orders fails the check positive"]


def test_writers_side_by_side_cannot_pass_a_check_that_only_both_break(ws, orders):
    limit_rows(ws, "few", "orders", 5)

    def insert(number: int) -> bool:
        try:
            order(orders, number, 1)
        except CheckFailed:
            return False
        return True

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        inserted = list(pool.map(insert, range(10, 20)))
    assert sum(inserted) == 4 and len(orders.read()) == 5


def test_a_check_that_another_kernel_adds_holds_for_the_next_commit(ws, orders, tmp_path):
    with jl.open(tmp_path / "lab") as other:
        limit_rows(other, "few", "mutable.orders", 1)
        with pytest.raises(CheckFailed, match="at most 1 row"):
            order(orders, 2, 1)
        other.checks.remove("few")
    assert order(orders, 2, 1) == 1


def vectors(ws: Any) -> None:
    rows = pa.table({"id": [1, 2], "vector": [[1.0, 0.0], [0.0, 0.5]]})
    ws.import_embeddings("points", rows)


def test_embeddings_and_graphs_are_checked(ws):
    ws.materialize("texts", "SELECT unnest([1, 2, 3]) AS id")
    vectors(ws)
    rules = {
        "width": "SELECT key FROM jammi.points WHERE len(vector) <> 2",
        "norm": "SELECT key FROM jammi.points WHERE abs(list_inner_product(vector, vector) - 1) > 1e-3",
        "missing": "SELECT id FROM jammi.texts WHERE id NOT IN (SELECT key FROM jammi.points)",
    }
    for name, statement in rules.items():
        ws.checks.add(name, statement, on="points", severity="warn")
    found = {row.check: (row.outcome, row.failing) for row in ws.check("points")}
    assert found == {"width": ("pass", 0), "norm": ("fail", 1), "missing": ("fail", 1)}
    ws.neighbor_graph("near", "points", k=1)
    limit_rows(ws, "few", "near", 1)
    assert [(row.outcome, row.failing) for row in ws.check("near")] == [("fail", 1)]


def double(id: int) -> dict[str, int]:
    return {"n": id * 2}


def triple(id: int) -> dict[str, int]:
    return {"n": id * 3}


def test_python_steps_and_row_maps_are_rejected_like_statements(ws):
    ws.materialize("texts", "SELECT unnest([1, 2, 3]) AS id")
    ws.map("mapped", double, "jammi.texts", key="id", inputs="id")
    ws.compute("made", lambda texts: texts.arrow(), inputs=["texts"], version="1")
    ws.checks.add("six", jl.checks.between("n", high=6), on="mapped")
    limit_rows(ws, "few", "made", 3)
    assert [row.outcome for row in ws.check()] == ["pass", "pass"]
    with pytest.raises(CheckFailed) as caught:
        ws.map("mapped", triple, "jammi.texts", key="id", inputs="id")
    assert (caught.value.failing, caught.value.sample[0]["n"]) == (1, 9)
    with pytest.raises(CheckFailed):
        ws.compute("made", lambda texts: pa.table({"id": range(4)}), inputs=["texts"], version="2")
    assert (ws.table("mapped").version, ws.table("made").version) == (1, 1)


def test_a_check_of_commits_that_cannot_be_run_says_how_to_get_rid_of_it(ws, orders):
    ws.materialize("known", "SELECT unnest([1, 2]) AS id")
    ws.checks.add("known", jl.checks.references("id", "jammi.known"), on="orders")
    order(orders, 2, 1)
    ws.drop("known", force=True)
    with pytest.raises(CheckFailed, match="could not be run") as caught:
        orders.delete("id = 1")
    assert caught.value.sample == [] and "ws.checks.remove('known')" in caught.value.hint
    ws.checks.remove("known")
    assert orders.delete("id = 1") == 1


def test_checks_on_the_tables_of_a_source_go_with_it(ws, tmp_path):
    for name in ("shop", "sho"):
        with contextlib.closing(sqlite3.connect(tmp_path / f"{name}.db")) as database:
            database.execute("CREATE TABLE orders (id INTEGER)")
            database.execute("CREATE TABLE others (id INTEGER)")
        ws.sources.add(name, tmp_path / f"{name}.db")
        ws.checks.add(f"in_{name}", jl.checks.not_null("id"), on=f"{name}.orders")
    assert [row.outcome for row in ws.check()] == ["pass", "pass"]
    ws.sources.remove("sho")
    assert [check.table for check in ws.checks] == ["shop.orders"]
