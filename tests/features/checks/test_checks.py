"""Checks: rules about the rows of a table, kept results, and versions that are rejected."""

import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest

import jammi_lab as jl
from jammi_lab.core.errors import (
    CheckFailed,
    CheckNotFound,
    InvalidArgument,
    LostOwnership,
    SqlError,
    StatementNotAllowed,
    TableNotFound,
    TenantForbidden,
    WorkspaceReadOnly,
)
from jammi_lab.core.verdicts import Fresh, InputAdvanced, Match, Mismatch, MissingBytes, Stale
from jammi_lab.engine.prepared_statement import PreparedStatement
from jammi_lab.features.checks.runner import CheckRunner
from tests.features.pictures.test_openlineage import written
from tests.store.lab import catalog, files, flip, statuses, unpublish

GOOD = "SELECT * FROM (VALUES (1, 5, 'new'), (2, 7, 'paid')) t(id, amount, state)"
BAD = "SELECT * FROM (VALUES (1, 5, 'new'), (1, -7, 'lost'), (NULL, -8, NULL)) t(id, amount, state)"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "lab"


@pytest.fixture
def statements(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The statements that were run."""
    ran: list[str] = []
    run = PreparedStatement._run

    def counted(self: PreparedStatement, sql: str, *rest: Any, **more: Any) -> Any:
        ran.append(sql)
        return run(self, sql, *rest, **more)

    monkeypatch.setattr(PreparedStatement, "_run", counted)
    return ran


def sales(ws: Any, statement: str = GOOD) -> Any:
    return ws.materialize("sales", statement)


def forbid_negative(ws: Any, **how: Any) -> Any:
    return ws.checks.add("no_negative", jl.checks.between("amount", 0), on="sales", **how)


def forbid_repeated(ws: Any, **how: Any) -> Any:
    return ws.checks.add("ids", jl.checks.unique("id"), on="sales", **how)


def require_known(ws: Any) -> Any:
    return ws.checks.add("known", jl.checks.references("state", "jammi.states"), on="sales")


def reject(ws: Any) -> None:
    with pytest.raises(CheckFailed):
        sales(ws, BAD)


def outcomes(results: Any) -> dict[str, tuple[str, int | None]]:
    return {row.check: (row.outcome, row.failing) for row in results}


RULES = [
    ("SELECT * FROM jammi.sales WHERE amount < 0; -- below", 2, "SELECT * FROM jammi.sales WHERE amount < 0"),
    (jl.checks.unique("id"), 2, "id is unique"),
    (jl.checks.unique("id", "amount"), 0, "id, amount are together unique"),
    (jl.checks.not_null("id"), 1, "id is never NULL"),
    (jl.checks.between("amount", 0), 2, "amount is at least 0"),
    (jl.checks.between("amount", -7, 4), 2, "amount is between -7 and 4"),
    (jl.checks.accepted("state", ["new", "paid"]), 1, "state is one of 'new', 'paid'"),
    (jl.checks.references("state", "jammi.states", "word"), 1, "state occurs in jammi.states.word"),
    (jl.checks.row_count(1, 2), 1, "the table has between 1 and 2 rows"),
    (jl.checks.row_count(max=3), 0, "the table has at most 3 rows"),
]  # fmt: skip


def test_a_rule_counts_and_shows_the_rows_that_break_it(ws):
    ws.materialize("states", "SELECT unnest(['new', 'paid']) AS word")
    sales(ws, BAD)
    for rule, failing, words in RULES:
        check = ws.checks.add("rule", rule, on="sales")
        [row] = ws.check()
        assert (row.outcome, row.failing) == ("fail" if failing else "pass", failing), words
        assert check.rule == words
        assert check.rows().arrow().num_rows == failing


EXACT = [
    (jl.checks.accepted("zip", ["1"]), 1),
    (jl.checks.accepted("zip", [1]), None),
    (jl.checks.accepted("n", [1, 9007199254740993]), 0),
    (jl.checks.accepted("n", [1.0, 9007199254740992.0]), 1),
    (jl.checks.accepted("x", [0.5, 1]), 0),
    (jl.checks.between("n", None, 9007199254740992.0), 1),
    (jl.checks.between("n", None, float("inf")), 0),
    (jl.checks.between("n", -1e300, 1e300), 0),
    (jl.checks.between("x", 0.5, 1.0), 0),
]


def test_values_are_compared_as_what_they_are(ws):
    ws.materialize(
        "codes",
        "SELECT * FROM (VALUES ('1', 1, 0.5::DOUBLE), ('01', 9007199254740993, 1.0)) v(zip, n, x)",
    )
    for rule, failing in EXACT:
        ws.checks.add("rule", rule, on="codes", severity="warn")
        [row] = ws.check()
        assert row.failing == failing, rule
        if failing is None:
            assert row.outcome == "error" and "zip is VARCHAR" in row.error


def test_a_version_that_does_not_pass_a_blocking_check_is_rejected(ws, folder):
    first = sales(ws)
    forbid_negative(ws)
    forbid_repeated(ws)
    with pytest.raises(CheckFailed) as caught:
        sales(ws, BAD)
    error = caught.value
    assert (error.check, error.table, error.failing) == ("ids", "sales", 2)
    assert [row["id"] for row in error.sample] == [1, 1]
    assert "2 rows fail the check 'ids' (id is unique); it also fails 'no_negative'" in str(error)
    assert ws.table("sales").table_name == first.table_name
    rejected = ws.table("sales", 2)
    assert rejected.status == "rejected" and rejected.row_count == 3
    assert rejected.read().arrow().num_rows == 3 and rejected.diff().added.num_rows == 2
    assert outcomes(rejected.checks) == {"ids": ("fail", 2), "no_negative": ("fail", 2)}
    assert "ws.checks['ids'].rows(2) shows" in str(rejected.checks)
    failing = ws.checks["no_negative"].rows(2).arrow()
    assert sorted(failing["amount"].to_pylist()) == [-8, -7]
    assert [t.version for t in ws.tables()] == [1]
    assert [t.version for t in ws.tables(status="rejected")] == [2]
    assert len(files(folder)) == 3, "a rejected table has no manifest"
    assert not ws.fsck().orphans and not ws.recover()


def test_a_rejected_version_is_no_input_and_is_never_reused(ws):
    sales(ws)
    forbid_negative(ws)
    for version in (2, 3):
        reject(ws)
        assert ws.table("sales", version).status == "rejected"
    physical = ws.table("sales", 2).table_name
    for statement in (f'FROM jammi."{physical}"', "FROM jammi_version('sales', 2)"):
        with pytest.raises(TableNotFound):
            ws.sql(statement)
    with pytest.raises(CheckFailed, match="cannot become the newest"):
        ws.table("sales", 2).restore()
    assert ws.materialize("other", BAD).version == 1, "without checks on it"


def test_a_table_of_another_recipe_is_reused_only_if_it_passes(ws):
    sales(ws)
    forbid_negative(ws)
    bad, good = ws.materialize("bad", BAD), ws.materialize("good", f"{GOOD} WHERE id = 1")
    reject(ws)
    assert ws.table("sales", 2).table_name != bad.table_name
    reused = sales(ws, f"{GOOD} WHERE id = 1")
    assert reused.outcome == "reused" and reused.table_name == good.table_name
    assert outcomes(reused.checks) == {"no_negative": ("pass", 0)}


def test_a_check_that_cannot_be_run_is_an_error_and_blocks(ws):
    sales(ws)
    forbid_repeated(ws)
    with pytest.raises(CheckFailed, match="could not be run") as caught:
        sales(ws, "SELECT 1 AS other")
    assert caught.value.failing is None
    assert outcomes(ws.table("sales", 2).checks) == {"ids": ("error", None)}


def test_a_blocking_check_that_fails_now_unpublishes_nothing(ws):
    made = sales(ws, BAD)
    forbid_negative(ws)
    assert outcomes(ws.check()) == {"no_negative": ("fail", 2)}
    assert sales(ws, BAD).table_name == made.table_name, "it is the newest already"


def test_a_first_version_that_fails_leaves_the_recipe(ws):
    ws.define("sales", BAD)
    forbid_negative(ws)
    with pytest.raises(CheckFailed):
        ws.recompute("sales").steps  # noqa: B018
        sales(ws, BAD)
    assert "sales" not in ws and [r.name for r in ws.recipes()] == ["sales"]
    assert {t.status for t in ws.tables(status=None)} == {"rejected"}


def test_a_result_is_not_computed_again_while_the_columns_read_are_equal(ws, statements):
    sales(ws)
    forbid_negative(ws)
    ws.checks.add("one", jl.checks.row_count(1), on="sales", severity="warn")
    ws.check()
    statements.clear()
    results = ws.check()
    assert outcomes(results) == {"no_negative": ("pass", 0), "one": ("pass", 0)}
    assert all(isinstance(row.verdict, Fresh) for row in results) and not statements
    made = sales(ws, GOOD.replace("paid", "sent"))
    assert len(statements) == 1, "only the table itself"
    assert outcomes(made.checks) == {"no_negative": ("pass", 0), "one": ("pass", 0)}
    sales(ws, GOOD.replace("7", "8"))
    assert len(statements) == 3, "the table, and the check of the column that changed"


def test_a_failing_check_says_what_it_was_before_and_what_changed(ws):
    sales(ws)
    forbid_negative(ws, severity="warn")
    assert ws.check()["no_negative"].previous == ""
    made = sales(ws, BAD)
    assert outcomes(made.checks) == {"no_negative": ("fail", 2)}, "published, with a warning"
    [row] = ws.check().failed
    assert row.previous == "version 1: pass; the data changed"
    ws.checks.add("no_negative", jl.checks.between("amount", 6), on="sales", severity="warn")
    row = ws.check()["no_negative"]
    assert (row.failing, row.previous) == (3, "version 1: pass; the rule changed")
    ws.checks.add("no_negative", "FROM jammi.sales WHERE amount < -7", on="sales", severity="warn")
    assert ws.check()["no_negative"].failing == 1
    ws.checks.add("no_negative", "FROM jammi.sales WHERE amount < -8", on="sales", severity="warn")
    row = ws.check()["no_negative"]
    assert (row.failing, row.previous) == (0, ""), "another statement, without values"


def test_a_step_that_is_rejected_stops_what_reads_it(ws, tmp_path):
    source = tmp_path / "p.csv"
    source.write_text("amount\n1\n")
    ws.sources.add("p", source)
    sales(ws, "SELECT amount FROM p")
    ws.materialize("total", "SELECT sum(amount) AS s FROM jammi.sales")
    forbid_negative(ws)
    source.write_text("amount\n-100\n")
    report = ws.recompute()
    assert {s.name: s.outcome for s in report.steps} == {"sales": "rejected", "total": "skipped"}
    assert report.rejected == ["sales"] and report.executed == ["sales"]
    assert "no_negative" in report.steps[0].error and ".rows(2)" in report.steps[0].hint
    assert ws.table("total").version == 1


def test_rejected_versions_are_removed_by_expire_and_after_a_week(ws, folder):
    made = sales(ws)
    forbid_negative(ws)
    for _ in range(2):
        reject(ws)
    newer = ws.table("sales", 3).table_name
    week_ago = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=8)
    with catalog(folder) as db:
        db.execute(
            "UPDATE result_tables SET completed_at = ? WHERE version = 2",
            [week_ago.strftime("%Y-%m-%dT%H:%M:%S.000000Z")],
        )
    ws.recover()
    assert set(statuses(folder)) == {made.table_name, newer} and len(files(folder)) == 3
    assert ws.expire("sales") == [newer]
    assert set(statuses(folder)) == {made.table_name} and len(files(folder)) == 2
    with catalog(folder) as db:
        assert not db.execute("SELECT * FROM check_results").fetchall()


def test_a_check_follows_a_rename_and_goes_with_its_recipe(ws, statements):
    sales(ws)
    check = ws.checks.add("no_negative", "SELECT * FROM jammi.sales WHERE amount < 0", on="sales")
    ws.check()
    ws.rename("sales", "orders")
    statements.clear()
    assert outcomes(ws.check("orders")) == {"no_negative": ("pass", 0)} and not statements
    assert ws.checks["NO_NEGATIVE"].table == "orders" and check.name in ws.checks
    with pytest.raises(CheckFailed):
        ws.materialize("orders", BAD)
    assert ws.checks["no_negative"].rows(2).arrow().num_rows == 2
    ws.drop("orders")
    assert not len(ws.checks)


def test_adding_again_changes_nothing_and_another_table_is_refused(ws):
    sales(ws)
    rule = jl.checks.unique("id")
    assert ws.checks.add("ids", rule, on="sales").severity == "block"
    ws.checks.add("ids", rule, on="sales")
    ws.materialize("other", GOOD)
    with pytest.raises(InvalidArgument, match="is on 'sales'"):
        ws.checks.add("ids", rule, on="other")
    assert [c.name for c in ws.checks.list(on="sales")] == ["ids"] and not ws.checks.list(
        on="other"
    )
    ws.checks.remove("ids")
    with pytest.raises(CheckNotFound):
        ws.checks.remove("ids")
    with pytest.raises(KeyError):
        ws.checks["ids"]


def test_a_check_that_cannot_be_is_refused_when_it_is_added(ws):
    sales(ws)
    for rule, options, error in (
        ("SELECT nothing FROM jammi.sales", {}, SqlError),
        ("SELECT 1; SELECT 2", {}, StatementNotAllowed),
        ("DESCRIBE jammi.sales", {}, StatementNotAllowed),
        ("SELECT 1", {"on": "nothing"}, TableNotFound),
        ("SELECT 1", {"severity": "fatal"}, InvalidArgument),
        (7, {}, InvalidArgument),
    ):
        with pytest.raises(error):
            ws.checks.add("c", rule, **{"on": "sales", **options})
    assert "c" not in ws.checks


def test_a_check_on_a_shared_table_is_not_a_tenants_to_change(ws):
    sales(ws)
    forbid_repeated(ws)
    with ws.tenant("acme"):
        assert [c.name for c in ws.checks] == ["ids"] and outcomes(ws.check())["ids"][0] == "pass"
        for change in (
            lambda: ws.checks.add("ids", jl.checks.not_null("id"), on="sales"),
            lambda: ws.checks.remove("ids"),
        ):
            with pytest.raises(TenantForbidden):
                change()
        sales(ws, BAD)
        ws.checks.add("own", jl.checks.unique("id"), on="sales", severity="warn")
    assert [c.name for c in ws.checks] == ["ids"] and ws.table("sales").version == 1


def test_a_tenant_learns_nothing_of_a_file_by_a_check_on_a_shared_table(ws, tmp_path):
    sales(ws)
    (tmp_path / "found.csv").write_text("secret\n1\n")
    with ws.tenant("acme"):
        for file in ("found.csv", "missing.csv"):
            with pytest.raises(TenantForbidden):
                ws.checks.add("c", f"SELECT other FROM '{tmp_path}/{file}'", on="sales")


def test_a_copy_and_a_read_only_workspace_know_checks_and_a_rebuilt_one_no_rejected_version(
    ws, folder, tmp_path
):
    from jammi_lab.workspace.copy import copy_workspace

    sales(ws)
    forbid_negative(ws)
    reject(ws)
    copy_workspace(ws, tmp_path / "copy")
    with jl.open(tmp_path / "copy", read_only=True) as copy:
        assert copy.table("sales", 2).read().arrow().num_rows == 3
        with pytest.raises(WorkspaceReadOnly):
            copy.check()
    ws.check()
    ws.close()
    with jl.open(folder, read_only=True) as again:
        assert outcomes(again.check()) == {"no_negative": ("pass", 0)}
    jl.rebuild(folder)
    with jl.open(folder) as again:
        assert [(t.version, t.status) for t in again.tables(status=None)] == [(1, "ready")]


def test_status_and_sql_show_what_checks_found(ws):
    sales(ws)
    ws.materialize("other", GOOD)
    forbid_repeated(ws, severity="warn")
    forbid_negative(ws, severity="warn")
    assert (ws.status()["sales"].checks, ws.status()["other"].checks) == ("2 due", None)
    ws.check("ids")
    assert ws.status()["sales"].checks == "1 pass, 1 due"
    sales(ws, BAD.replace("1, -7", "3, -7"))
    assert ws.status()["sales"].checks == "1 of 2 fails" and "1 of 2 fails" in str(ws.status())
    shown = ws.sql(
        "SELECT check_name, recipe, version, severity, outcome, failing, verdict "
        "FROM jammi_catalog.checks ORDER BY ALL"
    ).fetchall()
    assert shown == [
        ("ids", "sales", 1, "warn", "pass", 0, "fresh"),
        ("ids", "sales", 2, "warn", "pass", 0, "fresh"),
        ("no_negative", "sales", 2, "warn", "fail", 2, "fresh"),
    ]
    [(checks,)] = ws.sql("SELECT checks FROM jammi_catalog.status WHERE name = 'sales'").fetchall()
    assert checks == "1 of 2 fails"


def test_a_check_that_is_due_is_a_step_of_plans_and_runs(ws, statements):
    ws.materialize("states", "SELECT unnest(['new', 'paid']) AS state")
    sales(ws)
    assert not ws.plan()
    forbid_repeated(ws, severity="warn")
    require_known(ws)
    plan = ws.plan()
    assert plan and {s.name: s.action for s in plan.checks} == {"ids": "check", "known": "check"}
    assert "2 to check" in str(plan) and not plan.certain
    report = plan.apply()
    assert {s.name: s.outcome for s in report.steps} == {"ids": "pass", "known": "pass"}
    assert not ws.plan() and not ws.plan().checks
    statements.clear()
    assert not ws.recompute().steps and not statements
    ws.materialize("states", "SELECT 'new' AS state")
    [step] = ws.plan("sales").checks
    assert step.name == "known" and str(step.reasons[0]).startswith("states changed")
    [step] = ws.recompute().steps
    assert (step.name, step.outcome) == ("known", "fail")
    assert step.error == "state occurs in jammi.states.state: 1 row fails"
    assert not ws.plan(), "it was run"


def test_a_check_that_reads_a_table_of_the_plan_is_run_after_it(ws, tmp_path):
    words = tmp_path / "words.csv"
    words.write_text("state\nnew\npaid\n")
    ws.sources.add("words", words)
    ws.materialize("states", "SELECT state FROM words")
    sales(ws)
    require_known(ws)
    ws.checks.add("many", jl.checks.row_count(1), on="states")
    ws.check()
    words.write_text("state\nnew\n")
    plan = ws.plan()
    assert [s.name for s in plan.certain] == ["states"]
    assert [(s.name, s.reasons) for s in plan.checks] == [("known", ["states is recomputed first"])]
    outcomes = {s.name: s.outcome for s in plan.apply().steps}
    assert outcomes == {"states": "computed", "known": "fail"}
    assert not ws.plan("states")


@pytest.mark.parametrize(
    ("rule", "severity", "before", "outcome", "after"),
    [
        (lambda: jl.checks.row_count(0, 1), "block", "possible", "rejected", "certain"),
        (lambda: jl.checks.row_count(1, 2), "block", "possible", "reused", "reused"),
        (lambda: jl.checks.row_count(0, 1), "warn", "reused", "reused", "reused"),
    ],
)
def test_a_plan_promises_a_reuse_only_of_a_table_that_passes(
    ws, tmp_path, rule, severity, before, outcome, after
):
    words = tmp_path / "words.csv"

    def write(*states: str) -> None:
        words.write_text("\n".join(["state", *states, ""]))

    write("new", "paid")
    ws.sources.add("words", words)
    ws.materialize("states", "SELECT state FROM words")
    write("new")
    ws.recompute("states")
    ws.checks.add("many", rule(), on="states", severity=severity)
    ws.check()
    for kind in (before, after):  # the second time the result on the table of two rows is known
        write("new", "paid")
        plan = ws.plan()
        kinds = ("certain", "possible", "reused")
        assert [k for k in kinds if getattr(plan, k)] == [kind]
        report = plan.apply()
        assert {s.name: s.outcome for s in report.steps}["states"] == outcome
        assert not report.deviations
        write("new")
        ws.recompute("states")


def test_a_result_over_a_table_says_that_its_checks_fail(ws):
    sales(ws, BAD)
    forbid_repeated(ws, severity="warn")
    assert "fail" not in str(ws.sql("SELECT count(*) AS n FROM jammi.sales"))
    ws.check()
    assert "sales is fresh, 1 check fails" in str(ws.sql("SELECT count(*) AS n FROM jammi.sales"))


def test_openlineage_tells_the_results_as_assertions(ws, tmp_path):
    sales(ws)
    forbid_repeated(ws, severity="warn")
    forbid_negative(ws)
    ws.check()
    reject(ws)
    events = written(SimpleNamespace(export_openlineage=ws.export_openlineage, data=tmp_path))
    found = {}
    for event in events:
        if event["job"]["name"] == "sales.checks" and event["eventType"] == "COMPLETE":
            [dataset] = event["inputs"]
            version = dataset["facets"]["version"]["datasetVersion"]
            facet = dataset["inputFacets"]["dataQualityAssertions"]
            found[version] = {
                a["name"]: (a["success"], a["severity"], a["actual"]) for a in facet["assertions"]
            }
    assert found == {
        "1": {"ids": (True, "warn", "0"), "no_negative": (True, "error", "0")},
        "2": {"ids": (False, "warn", "2"), "no_negative": (False, "error", "2")},
    }


def test_a_statement_that_reads_the_table_by_an_alias_is_about_the_version_that_is_checked(ws):
    sales(ws)
    ws.rename("sales", "orders")
    by_alias = "SELECT * FROM jammi.sales WHERE amount < 0"
    on_alias = ws.checks.add("on_alias", by_alias, on="sales")
    ws.checks.add("by_alias", by_alias, on="orders")
    assert on_alias.table == "orders"
    for name in ("sales", "jammi.sales", "orders"):
        assert [row.check for row in ws.check(name)] == ["by_alias", "on_alias"]
        assert len(ws.checks.list(on=name)) == 2
    with pytest.raises(CheckFailed, match="it also fails 'on_alias'"):
        ws.materialize("orders", BAD)
    ws.unalias("sales")
    ws.materialize("sales", "SELECT 1 AS amount")
    with pytest.raises(CheckFailed, match="does not read 'orders'"):
        ws.materialize("orders", GOOD.replace("5", "6"))
    assert ws.checks["on_alias"].rows(2).arrow().num_rows == 2, "`jammi.<on>` stays the version"


def test_results_of_a_check_under_another_name_of_its_table_are_not_taken_over(ws):
    sales(ws)
    statement = "SELECT * FROM jammi.sales WHERE amount < 0"
    ws.checks.add("no_negative", statement, on="sales")
    ws.check()
    ws.rename("sales", "orders")
    ws.checks.add("no_negative", statement, on="orders")
    with pytest.raises(CheckFailed, match="2 rows fail"):
        ws.materialize("orders", BAD)


def test_a_statement_that_does_not_read_what_it_is_to_check_is_refused(ws):
    sales(ws)
    ws.materialize("other", GOOD)
    with pytest.raises(InvalidArgument, match="does not read"):
        ws.checks.add("c", "SELECT * FROM jammi.other WHERE amount < 0", on="sales")
    ws.define("later", "SELECT 1 AS amount")
    ws.checks.add("c", "SELECT * FROM jammi.other WHERE amount < 0", on="later")
    with pytest.raises(CheckFailed, match="could not be run") as caught:
        ws.materialize("later", "SELECT 1 AS amount")
    assert "ws.checks.remove('c')" in caught.value.hint


def test_a_check_reads_a_frame_but_not_one_that_was_made_from_a_table(ws):
    sales(ws)
    ws.sources.add("known", pa.table({"id": [1, 2]}))
    ws.sources.add("made", ws.table("sales").arrow())
    for frame in ("known", "made"):
        ws.checks.add(frame, jl.checks.references("id", frame), on="sales", severity="warn")
    known, made = ws.check()
    assert (known.outcome, made.outcome) == ("pass", "error")
    assert "reads the frame 'made', which was made from 'sales'" in made.error


def test_a_result_that_holds_again_is_what_every_surface_shows(ws, statements):
    ws.materialize("states", "SELECT unnest(['new', 'paid']) AS state")
    made = sales(ws)
    check = require_known(ws)
    assert [(i.kind, i.name) for i in check.inputs] == [("result", "sales"), ("result", "states")]
    ws.check()
    for number, expected in enumerate(("fail", "pass", "fail", "pass")):
        ws.materialize(
            "states", f"SELECT unnest(['new', '{'paid' if number % 2 else 'lost'}']) AS state"
        )
        if number == 0:
            verdict = made.checks["known"].verdict
            assert isinstance(verdict, Stale) and isinstance(verdict.reasons[0], InputAdvanced)
        if number > 1:
            statements.clear()
        assert [row.outcome for row in ws.check()] == [expected]
        assert number < 2 or not statements
        assert [row.outcome for row in made.checks] == [expected]
        assert ws.status()["sales"].checks == ("1 pass" if number % 2 else "1 of 1 fails")


def test_a_check_with_another_value_each_time_is_run_each_time_and_keeps_few_results(ws, folder):
    sales(ws)
    ws.checks.add("lucky", "SELECT * FROM jammi.sales WHERE random() < 0", on="sales")
    for _ in range(20):
        [row] = ws.check()
        assert row.outcome == "pass" and "random()" in row.note
    with catalog(folder) as db:
        [(number,)] = db.execute("SELECT count(*) FROM check_results").fetchall()
    assert number <= 16
    sales(ws, GOOD.replace("5", "6"))


@pytest.mark.parametrize(
    "make",
    [
        lambda: jl.checks.between("amount", 5, 1),
        lambda: jl.checks.between("amount"),
        lambda: jl.checks.row_count(3, 2),
        lambda: jl.checks.row_count("1"),
        lambda: jl.checks.row_count(max=1.5),
        lambda: jl.checks.accepted("state", []),
        lambda: jl.checks.accepted("state", None),
        lambda: jl.checks.unique(),
    ],
)
def test_a_rule_that_no_row_can_keep_is_refused(make):
    with pytest.raises(InvalidArgument):
        make()


def test_checks_on_a_table_without_a_version_are_named(ws):
    ws.define("later", "SELECT 1 AS x")
    ws.checks.add("positive", jl.checks.between("x", 0), on="later")
    assert str(ws.check()) == "Not run, because the table has no version yet: positive."
    sales(ws)
    forbid_repeated(ws)
    assert "has no version yet: positive" in str(ws.check())
    assert not len(ws.check("later"))
    for name in ("jammi.sales", "sales", "ids", "IDS"):
        assert [row.check for row in ws.check(name)] == ["ids"]
    with pytest.raises(TableNotFound, match="no check or table 'idz'") as caught:
        ws.check("idz")
    assert caught.value.near == ("ids",)


@pytest.mark.parametrize("statement", [GOOD.replace("5", "6"), BAD])
def test_a_check_that_is_removed_while_it_runs_leaves_no_result(ws, folder, monkeypatch, statement):
    sales(ws)
    forbid_negative(ws)
    count_failing = CheckRunner.count_failing

    def count_and_remove(self: CheckRunner, *arguments: Any) -> Any:
        ws.checks.remove("no_negative")
        return count_failing(self, *arguments)

    monkeypatch.setattr(CheckRunner, "count_failing", count_and_remove)
    if statement == BAD:
        with pytest.raises(CheckFailed):
            sales(ws, statement)
    else:
        sales(ws, statement)
    with catalog(folder) as db:
        assert not db.execute("SELECT * FROM check_results").fetchall()


def test_a_blocking_check_that_is_added_while_a_version_is_checked_is_not_passed_by(
    ws, monkeypatch
):
    sales(ws)
    forbid_repeated(ws)
    count_failing = CheckRunner.count_failing

    def count_and_add(self: CheckRunner, *arguments: Any) -> Any:
        monkeypatch.undo()
        forbid_negative(ws)
        return count_failing(self, *arguments)

    monkeypatch.setattr(CheckRunner, "count_failing", count_and_add)
    with pytest.raises(LostOwnership, match="check was added"):
        sales(ws, GOOD.replace("5", "-5").replace("1,", "3,"))
    assert ws.table("sales").version == 1


def test_recovery_does_not_promote_what_a_later_check_did_not_see(ws, folder):
    for name in ("checked", "warned", "late"):
        ws.define(name, f"SELECT '{name}' AS name, 1 AS amount")
    rule = jl.checks.between("amount", 0)
    ws.checks.add("checked", rule, on="checked")
    physical = {
        name: ws.materialize(name, f"SELECT '{name}' AS name, 1 AS amount").table_name
        for name in ("checked", "warned", "late")
    }
    ws.checks.add("warned", rule, on="warned", severity="warn")
    ws.checks.add("late", rule, on="late")
    ws.close()
    for table_name in physical.values():
        unpublish(folder, table_name)
    with jl.open(folder) as again:
        assert sorted(again.recovery.promoted) == [physical["checked"], physical["warned"]]
        assert again.recovery.failed == [physical["late"]]


def test_verify_and_fsck_attest_a_rejected_version(ws):
    sales(ws)
    forbid_negative(ws)
    reject(ws)
    rejected = ws.table("sales", 2)
    assert rejected.verify() == Match()
    assert rejected.verify(expected=rejected.definition_hash) == Match()
    assert rejected.verify(expected="0" * 64).what == "definition"
    assert not (report := ws.fsck(deep=True)).damaged and not report.missing
    path = rejected.path
    flip(path)
    assert isinstance(rejected.verify(), Mismatch) and rejected.verify().what == "bytes"
    assert ws.fsck(deep=True).damaged == [rejected.table_name]
    path.unlink()
    assert rejected.verify() == MissingBytes()
    assert ws.fsck().missing == [rejected.table_name]


def test_a_table_that_a_check_reads_is_dropped_only_by_force(ws):
    ws.materialize("states", "SELECT unnest(['new', 'paid']) AS state")
    sales(ws)
    require_known(ws)
    ws.check()
    ws.rename("states", "words")
    with pytest.raises(InvalidArgument, match="1 check on other tables reads it: known"):
        ws.drop("words")
    ws.drop("words", force=True)
    assert outcomes(ws.check()) == {"known": ("error", None)}
    [step] = ws.plan().checks
    assert step.reasons == ["it could not be run"] and ".apply()" in str(ws.plan())
    ws.drop("sales")


def test_an_interrupt_during_a_check_leaves_nothing(ws, folder, monkeypatch):
    sales(ws)
    forbid_repeated(ws)

    def interrupt(*_: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(CheckRunner, "count_failing", interrupt)
    with pytest.raises(KeyboardInterrupt) as caught:
        sales(ws, GOOD.replace("1,", "3,"))
    assert "nothing was left behind" in caught.value.__notes__[0]
    with pytest.raises(KeyboardInterrupt):
        ws.check()
    assert sorted(statuses(folder).values()) == ["failed", "ready"] and len(files(folder)) == 2
    with catalog(folder) as db:
        assert not db.execute("SELECT * FROM check_results").fetchall()
    monkeypatch.undo()
    assert outcomes(ws.check()) == {"ids": ("pass", 0)}


def test_a_check_of_many_failing_rows_counts_them_and_shows_few(ws):
    sales(ws)
    many = "SELECT a.range AS i FROM range(1_000_000) a, jammi.sales WHERE id = 1"
    ws.checks.add("many", many, on="sales", severity="warn")
    [row] = ws.check()
    assert row.failing == 1_000_000 and row.rows().num_rows == 5
    assert "showing 5 of 1,000,000 rows" in str(ws.check())
    ws.checks.add("many", many, on="sales")
    with pytest.raises(CheckFailed) as caught:
        sales(ws, f"{GOOD} WHERE amount < 6")
    assert caught.value.failing == 1_000_000 and len(caught.value.sample) == 5


def test_a_version_is_checked_against_what_the_same_run_makes_of_the_tables_that_it_is_checked_with(
    ws, tmp_path
):
    words, orders = tmp_path / "words.csv", tmp_path / "orders.csv"

    def put(*states: str) -> None:
        for path in (words, orders):
            path.write_text("\n".join(["state", *states]) + "\n")

    put("new")
    ws.sources.add("words", words)
    ws.sources.add("orders", orders)
    ws.materialize("z_words", "SELECT state FROM words")
    ws.materialize("z_known", "SELECT upper(state) AS word, state FROM jammi.z_words")
    ws.materialize("a_sales", "SELECT state FROM orders")
    ws.materialize("a_total", "SELECT count(*) AS n FROM jammi.a_sales")
    ws.checks.add("known", jl.checks.references("state", "jammi.z_known"), on="a_sales")
    # what reads a table cannot be made before it, and of two that read each other one is first
    total = "SELECT n FROM jammi.a_total, jammi.a_sales WHERE n < 0"
    ws.checks.add("total", total, on="a_sales")
    back = jl.checks.references("state", "jammi.a_sales")
    ws.checks.add("back", back, on="z_known", severity="warn")
    ws.check()
    put("new", "paid")
    plan = ws.plan()
    assert [step.name for step in plan.certain] == ["z_words", "a_sales"]
    report = plan.apply()
    names = [step.name for step in report.steps if step.outcome == "computed"]
    assert sorted(names) == ["a_sales", "a_total", "z_known", "z_words"] and not report.rejected
    assert names.index("z_known") < names.index("a_sales") < names.index("a_total")
    assert len(ws.table("a_sales").read().arrow()) == 2
