"""Checks on sources and mutable tables, which warn; and on every kind of result table."""

import contextlib
import sqlite3
from pathlib import Path
from typing import Any

import pytest

import jammi_lab as jl
from jammi_lab.core.errors import InvalidArgument, TableNotFound


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


def test_a_source_and_a_mutable_table_cannot_be_blocked_and_have_no_versions(ws, papers, orders):
    for on, column in (("papers", "year"), ("mutable.orders", "amount")):
        with pytest.raises(InvalidArgument, match=rf"{on}' cannot block"):
            ws.checks.add("blocks", jl.checks.not_null(column), on=on, severity="block")
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


def test_a_check_on_a_mutable_table_lets_it_commit_and_warns(ws, orders):
    [row] = ws.check("mutable.orders")
    assert (row.outcome, row.version, row.table) == ("pass", orders.version, "mutable.orders")
    orders.insert([{"id": 2, "amount": -1}])
    ws.materialize("total", "SELECT sum(amount) AS total FROM mutable.orders")
    ws.check()
    assert ws.staleness("total").grounds == ["1 row of mutable.orders fails the check positive"]
    ws.mutable.drop("orders")
    assert not len(ws.checks)


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
