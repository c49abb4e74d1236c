"""Whether the result of a check still holds: stale tables that it read, versions that recovery
promoted, the version before; and who reports a check that fails."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

import jammi_lab as jl
from jammi_lab.core.errors import CheckFailed, InvalidArgument
from jammi_lab.core.verdicts import Fresh, InputAdvanced, PossiblyStale
from tests.features.checks.rules import limit_rows
from tests.shell import run_shell
from tests.templates import Template

KNOWN = "SELECT * FROM jammi.sales WHERE area NOT IN (SELECT id FROM jammi.areas)"


def build(folder: Path) -> None:
    (folder / "areas.csv").write_text("id\n1\n2\n")
    with jl.open(folder / "lab") as ws:
        ws.sources.add("area_file", folder / "areas.csv")
        ws.materialize("areas", "SELECT id FROM area_file")
        ws.materialize("sales", "SELECT 1 AS area, 5 AS amount")
        ws.checks.add("known", KNOWN, on="sales", description="area is known")
        ws.check()


TEMPLATES = {"ws": Template(build)}


@pytest.fixture
def areas(tmp_path: Path) -> Path:
    return tmp_path / "areas.csv"


@pytest.fixture
def ws(tmp_path: Path) -> Iterator[Any]:
    """`sales` with a check that reads `areas`, a table over a file."""
    with jl.open(tmp_path / "lab") as ws:
        yield ws


def checked(ws: Any, name: str, version: int | None = None) -> dict[str, tuple[str, int | None]]:
    return {row.check: (row.outcome, row.failing) for row in ws.table(name, version).checks}


def test_a_result_is_possibly_stale_with_a_table_that_it_read(ws, areas):
    assert isinstance(ws.table("sales").checks["known"].verdict, Fresh)
    areas.write_text("id\n2\n")
    for results in (ws.check("known"), ws.table("sales").checks):
        verdict = results["known"].verdict
        assert isinstance(verdict, PossiblyStale) and verdict.causes[0].path == ["areas"]
        assert isinstance(verdict.causes[0].reason, InputAdvanced)
        assert "by way of areas" in results["known"].note
    assert ws.status()["sales"].checks == "1 due" and isinstance(ws.staleness("sales"), Fresh)
    told = ws.sql("SELECT outcome, verdict FROM jammi_catalog.checks").fetchall()
    assert told == [("pass", "possibly_stale")]
    assert "1 due" in str(ws.lineage("sales"))
    assert [step.name for step in ws.plan().checks] == ["known"]
    report = ws.recompute()
    assert [(step.name, step.outcome) for step in report.steps][-1] == ("known", "fail")
    assert ws.status()["sales"].checks == "1 of 1 fails"


KILLED = """
import os, signal, sys
import jammi_lab as jl
from jammi_lab.storage import files
ws = jl.open(sys.argv[1])
def hook(name):
    if name == "publish:manifest-durable":
        os.kill(os.getpid(), signal.SIGKILL)
files._fault_hook = hook
ws.materialize("sales", "SELECT 2 AS area, 7 AS amount")
"""


def test_a_version_that_recovery_promotes_keeps_its_results(ws, tmp_path):
    limit_rows(ws, "few", "sales", 0, severity="warn")
    ws.close()
    process = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "lab")], check=False)
    assert process.returncode == -9
    with jl.open(tmp_path / "lab") as again:
        assert len(again.recovery.promoted) == 1
        assert checked(again, "sales", 2) == {"known": ("pass", 0), "few": ("fail", 1)}
        assert again.status()["sales"].checks == "1 of 2 fails"


def test_a_version_without_results_names_the_checks_that_were_not_run(ws):
    limit_rows(ws, "few", "sales", 5)
    assert "Not run on this version: few." in repr(ws.table("sales").checks)
    ws.checks.remove("known")
    shown = repr(ws.table("sales").checks)
    assert shown.startswith("Not run on this version: few.") and "No checks" not in shown
    ws.check()
    assert "Not run" not in repr(ws.table("sales").checks)


# -- the version before ---------------------------------------------------------------------------

SHRINKS = """
    SELECT s.area FROM jammi.sales s JOIN previous p ON p.area = s.area WHERE s.amount < p.amount
"""


def test_previous_is_the_newest_ready_version_before_the_one_that_is_checked(ws):
    ws.checks.add("shrinks", SHRINKS, on="sales")
    assert checked(ws, "sales") == {"known": ("pass", 0)}
    assert ws.check("shrinks")["shrinks"].outcome == "pass"
    ws.materialize("sales", "SELECT 1 AS area, 6 AS amount")
    with pytest.raises(CheckFailed, match="shrinks"):
        ws.materialize("sales", "SELECT 1 AS area, 5 AS amount, 'other' AS word")
    # the rejected version is not the one before
    ws.materialize("sales", "SELECT 1 AS area, 6 AS amount, 'other' AS word")
    assert checked(ws, "sales")["shrinks"] == ("pass", 0)
    assert ws.checks["shrinks"].rows(3).fetchall() == [(1,)]
    with pytest.raises(CheckFailed, match="shrinks"):
        ws.materialize("sales", "SELECT 1 AS area, 4 AS amount, 'other' AS word")
    with pytest.raises(CheckFailed, match="shrinks"):
        ws.materialize("sales", "SELECT 1 AS area, 5 AS amount, 'more' AS word")


@pytest.mark.parametrize(
    ("rule", "words", "passes", "breaks"),
    [
        (
            jl.checks.drift("amount"),
            "the mean of amount changes by at most 10 %",
            ["(4.5), (NULL)", "(5.5)"],
            ["(4.4)", "(5.6)", "('nan')", "(NULL)"],
        ),
        (
            jl.checks.row_count(change=0.5),
            "the number of rows changes by at most 50 %",
            ["(1)", "(1), (2), (3)"],
            ["(1), (2), (3), (4)"],
        ),
        (
            jl.checks.row_count(min=2, change=0.5),
            "the table has at least 2 rows and the number of rows changes by at most 50 %",
            ["(1), (2), (3)"],
            ["(1)", "(1), (2), (3), (4)"],
        ),
    ],
)
def test_rules_compare_with_the_version_before(ws, rule, words, passes, breaks):
    assert str(rule) == words
    rows = "SELECT amount::DOUBLE AS amount FROM (VALUES {}) t(amount)"
    for number, values in enumerate([*passes, *breaks]):
        name, moved = f"daily_{number}", f"moved_{number}"
        ws.define(name, rows.format("(5), (5)"))
        ws.checks.add(moved, rule, on=name)
        ws.materialize(name, rows.format("(5), (5)"))
        assert checked(ws, name) == {moved: ("pass", 0)}
        if values in passes:
            ws.materialize(name, rows.format(values))
            assert checked(ws, name) == {moved: ("pass", 0)}
        else:
            with pytest.raises(CheckFailed, match=re.escape(words)):
                ws.materialize(name, rows.format(values))


@pytest.mark.parametrize("share", [-0.1, float("nan"), float("inf"), True, "0.1"])
def test_a_share_is_a_finite_number_from_0(share):
    with pytest.raises(InvalidArgument, match="finite number from 0"):
        jl.checks.drift("amount", rel=share)
    with pytest.raises(InvalidArgument, match="finite number from 0"):
        jl.checks.row_count(change=share)


def test_a_drift_of_texts_says_that_a_mean_is_one_of_numbers(ws):
    for amount in (5, 6):
        ws.materialize("sales", f"SELECT 1 AS area, {amount} AS amount, 'a' AS word")
    ws.checks.add("moved", jl.checks.drift("word"), on="sales", severity="warn")
    found = ws.check("moved")["moved"]
    assert found.outcome == "error"
    assert "The column word is VARCHAR: a mean is one of numbers" in (found.error or "")


def test_previous_has_no_rows_at_the_first_version(ws):
    ws.define("first", "SELECT 1 AS x")
    ws.checks.add("none", "SELECT p.* FROM previous p, jammi.first", on="first")
    assert ws.materialize("first", "SELECT 1 AS x").version == 1


def test_a_result_does_not_hold_for_a_table_whose_new_column_changes_the_statement(ws):
    ws.materialize("codes", "SELECT 1 AS area, 1 AS code")
    join = "SELECT s.area FROM jammi.sales s NATURAL JOIN jammi.codes c"
    ws.checks.add("coded", join, on="sales", severity="warn")
    assert ws.check("coded")["coded"].failing == 1
    ws.materialize("codes", "SELECT 1 AS area, 1 AS code, 9 AS amount")
    assert not isinstance(ws.table("sales").checks["coded"].verdict, Fresh)
    assert ws.check("coded")["coded"].failing == 0
    ws.materialize("codes", "SELECT 1 AS area, 1 AS code, 9 AS amount, 'x' AS word")
    row = ws.check("coded")["coded"]
    assert row.passes and isinstance(row.verdict, Fresh)


def test_an_old_version_made_the_newest_again_is_checked_against_the_last_one(ws):
    ws.checks.add("shrinks", SHRINKS, on="sales")
    ws.materialize("sales", "SELECT 1 AS area, 6 AS amount")
    with pytest.raises(CheckFailed, match=r"That table cannot become the newest .*shrinks"):
        ws.table("sales", 1).restore()
    with pytest.raises(CheckFailed, match="shrinks"):
        ws.materialize("sales", "SELECT 1 AS area, 5 AS amount")
    assert ws.table("sales").version == 2


# -- who reports it -------------------------------------------------------------------------------


@pytest.fixture
def failing(ws: Any, tmp_path: Path) -> str:
    """`sales` fails one check of each severity."""
    limit_rows(ws, "few", "sales", 0, severity="warn")
    limit_rows(ws, "none", "sales", 0)
    ws.check()
    ws.close()
    return str(tmp_path / "lab")


def status(*words: str) -> Any:
    return run_shell("status", *words)


def test_status_fails_for_checks_that_block_and_if_asked_for_those_that_warn(failing, tmp_path):
    junit, sarif = str(tmp_path / "a.xml"), str(tmp_path / "a.sarif")
    plain = status(failing, "--fail", "--junit", junit, "--sarif", sarif)
    assert plain.exit_code == 1
    assert "sales fails the check none: the table has at most 0 rows: 1 row fails." in plain.output
    cases = list(ElementTree.parse(junit).getroot())
    assert [(case.get("classname"), case.get("name"), len(case)) for case in cases] == [
        ("status", "areas", 0),
        ("status", "sales", 0),
        ("check", "few", 0),
        ("check", "known", 0),
        ("check", "none", 1),
    ]
    [result] = json.loads(Path(sarif).read_text())["runs"][0]["results"]
    assert (result["ruleId"], result["level"]) == ("check", "error")
    status(failing, "--fail=warn", "--junit", junit, "--sarif", sarif)
    root = ElementTree.parse(junit).getroot()
    assert root.get("failures") == "2"
    results = json.loads(Path(sarif).read_text())["runs"][0]["results"]
    assert sorted(result["level"] for result in results) == ["error", "warning"]


def test_status_fails_for_a_blocking_check_that_passed_on_rows_that_are_there_no_more(
    ws, areas, tmp_path
):
    """The board says that it is due; a build says no less."""
    areas.write_text("id\n2\n")
    ws.recompute("areas")
    assert all(isinstance(row.verdict, Fresh) for row in ws.status())
    assert ws.status()["sales"].checks == "1 due"
    junit, sarif = tmp_path / "a.xml", tmp_path / "a.sarif"
    told = status(ws.path, "--fail", "--junit", junit, "--sarif", sarif)
    assert told.exit_code == 1 and "The check known on sales is due: stale: areas" in told.output
    assert ElementTree.parse(junit).getroot().get("failures") == "1"
    [result] = json.loads(sarif.read_text())["runs"][0]["results"]
    assert (result["ruleId"], result["level"]) == ("check", "warning")
    ws.checks.remove("known")
    ws.checks.add("known", KNOWN, on="sales", severity="warn")
    ws.check()
    areas.write_text("id\n1\n2\n")
    ws.recompute("areas")
    assert status(ws.path, "--fail").exit_code == 0
    assert status(ws.path, "--fail=warn").exit_code == 1


def test_status_fails_for_a_blocking_check_that_was_never_run(ws, areas, tmp_path):
    ws.checks.add("new", jl.checks.row_count(min=1), on="areas", severity="block")
    assert ws.status()["areas"].checks == "1 due"
    told = status(ws.path, "--fail", "--junit", tmp_path / "a.xml")
    assert told.exit_code == 1
    assert "The check new on areas is due: it was not run." in told.output
    cases = ElementTree.parse(tmp_path / "a.xml").getroot()
    assert {case.get("name") for case in cases.iter("testcase")} >= {"areas", "known", "new"}
    ws.check()
    assert status(ws.path, "--fail").exit_code == 0


def test_a_run_names_the_checks_that_its_tables_fail(ws, areas):
    limit_rows(ws, "few", "areas", 2, severity="warn")
    ws.check()
    areas.write_text("id\n1\n2\n3\n")
    report = ws.recompute()
    outcomes = [(step.name, step.outcome, step.error) for step in report.steps]
    assert ("few", "fail", "the table has at most 2 rows: 1 row fails") in outcomes
    assert [name for name, _, _ in outcomes].count("few") == 1
    assert "1 computed, 1 pass, 1 fail" in repr(report) and ws.table("areas").version == 2
