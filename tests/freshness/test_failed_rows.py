"""Rows of a row map that were recorded with an error: the verdict and the plan count them, and a
recompute computes them again."""

from pathlib import Path
from typing import Any

import pytest

import jammi_lab as jl
from tests.freshness.lab import Lab


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    """While this file exists, the function fails for 5."""
    path = tmp_path / "broken"
    path.touch()
    return path


@pytest.fixture
def calls(lab: Lab, broken: Path) -> list[int]:
    """`labels` over three rows, one of which fails, `total` over it; the arguments of each call."""
    asked: list[int] = []

    def tenfold(x: int) -> int:
        asked.append(x)
        if x == 5 and broken.exists():
            raise ValueError("no label")
        return x * 10

    lab.csv("notes", "id,x", "1,2", "2,5", "3,6")
    options: dict[str, Any] = {"key": "id", "inputs": ["x"], "schema": {"y": "bigint"}}
    lab.map("labels", tenfold, over="notes", on_error="record", version="1", **options)
    lab.materialize("total", "SELECT sum(y)::BIGINT AS y FROM jammi.labels")
    asked.clear()
    return asked


FAILED = "1 row with an error"


def test_verdict_and_plan_count_them(lab, calls):
    ws = lab.ws
    assert ws.staleness("labels") == jl.Fresh() and ws.staleness("labels").grounds[0] == FAILED
    assert ws.staleness("total").grounds[0].startswith(f"{FAILED}, by way of labels")
    assert FAILED in repr(ws.status()) and FAILED in repr(ws.sql("FROM jammi.labels"))
    table = ws.table("labels").table_name
    for version in ("jammi_version('labels', 1)", f'jammi."{table}"'):
        ws.materialize("kept", f"SELECT y FROM {version}", cache="bypass")
        assert ws.staleness("kept").grounds == [f"{FAILED}, by way of {table}"]
    ws.drop("kept")
    plan = ws.plan()
    assert [(step.name, step.reasons) for step in plan.certain] == [("labels", [FAILED])]
    assert [step.name for step in plan.possible] == ["total"]
    assert plan.steps == [*plan.certain, *plan.possible]
    assert plan.certain[0].calls == 1 and not calls, "a plan runs nothing"


def test_a_recompute_computes_them_again(lab, calls, broken):
    report = lab.recompute()
    outcomes = [(step.name, step.outcome) for step in report.steps]
    assert outcomes == [("labels", "computed"), ("total", "cut_off")] and calls == [5]
    broken.unlink()
    report = lab.recompute("total")
    assert [(step.name, step.outcome) for step in report.steps] == [
        ("labels", "computed"),
        ("total", "computed"),
    ]
    assert calls == [5, 5] and lab.table("total").read().fetchall() == [(130,)]
    assert lab.staleness("labels").grounds == ["on its version 1"]
    assert not lab.recompute().steps and not lab.plan().certain


def test_a_held_table_is_left_as_it_is(lab, calls):
    lab.hold("labels")
    plan = lab.plan()
    assert [step.name for step in plan.blocked] == ["labels"] and not plan.possible
    assert [step.outcome for step in lab.recompute().steps] == ["blocked"] and not calls
    lab.recompute("labels")
    assert calls == [5]
