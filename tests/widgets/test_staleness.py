"""The staleness board's kernel side."""

import re
import time

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import jammi_lab as jl
from jammi_lab.core.verdicts import Fresh
from jammi_lab.steps import increment
from jammi_widgets.lineage import LineageGraph
from jammi_widgets.staleness import StalenessBoard
from tests.inside import runner_of


def rows(body):
    return {r["name"]: r for r in body["rows"]}


def test_every_recipe_is_a_row_the_worst_first(ws, told, edited):
    edited()
    body = told(StalenessBoard(ws)).answer("open")
    assert [r["verdict"] for r in body["rows"]] == [
        "stale",
        "stale",
        "possibly stale",
        "possibly stale",
    ]
    assert rows(body)["recent"]["reasons"] == ["papers changed, 3 → 4 rows"]
    assert rows(body)["recent"]["rows"] == "2" and rows(body)["recent"]["cost"].endswith(" s")
    assert body["counts"] == {"stale": 2, "possibly stale": 2}
    ws.materialize("alone", "SELECT 1 AS a")
    body = told(StalenessBoard(ws)).answer("open")
    assert list(body["counts"]) == ["stale", "possibly stale", "fresh"]


def test_rows_are_sorted_filtered_cut_and_grouped_by_cause_in_the_kernel(ws, told, edited, papers):
    papers.with_name("notes.csv").write_text("id,note\n1,ho\n")
    edited()
    panel = StalenessBoard(ws)
    line = told(panel)
    names = lambda **asked: [r["name"] for r in line.answer("rows", **asked)["rows"]]  # noqa: E731
    assert names(sort="name") == ["noted", "recent", "summary", "venues"]
    assert names(sort="name", descending=True, limit=2, offset=1) == ["summary", "recent"]
    causes = dict(line.answer("rows")["causes"])
    assert causes == {"papers changed": 4, "notes changed": 2}
    assert names(sort="name", group="notes changed") == ["noted", "summary"]
    panel.filter = "possibly stale"
    assert names(sort="name") == ["summary", "venues"]


def test_a_later_look_at_one_status_says_a_later_age(ws, told):
    line = told(StalenessBoard(ws))
    first, _ = line.answer("rows")["rows"][0]["seconds"], time.sleep(0.2)
    assert line.answer("rows")["rows"][0]["seconds"] >= first + 0.2


def test_a_plan_is_a_preview_and_runs_nothing(ws, told, edited):
    edited()
    body = told(StalenessBoard(ws)).act("plan", "summary")["body"]
    assert [(word, [s[0] for s in steps]) for word, steps in body["plan"]] == [
        ("recompute", ["noted", "recent"]),
        ("recompute if needed", ["venues", "summary"]),
    ]
    assert len(ws.tables()) == 4
    ws.recompute()
    ws.checks.add("few", jl.checks.row_count(max=2), on="venues", severity="warn")
    [(word, [[name, *_]])] = told(StalenessBoard(ws)).act("plan", "venues")["body"]["plan"]
    assert (word, name) == ("check", "few")


def test_an_increment_is_shown_in_the_plan_and_in_the_details_of_the_table(
    ws, told, tmp_path, monkeypatch
):
    monkeypatch.setattr(increment, "MIN_INPUT_ROWS", 0)
    monkeypatch.setattr(increment, "MAX_SHARE", 1e9)
    (folder := tmp_path / "sales").mkdir()
    pq.write_table(pa.table({"g": ["a"]}), folder / "1.parquet")
    ws.sources.add("sales", folder)
    base = ws.materialize("totals", "SELECT g, count(*) AS n FROM sales GROUP BY g").table_name
    pq.write_table(pa.table({"g": ["b"]}), folder / "2.parquet")
    [[_, [[name, why, _]]]] = told(StalenessBoard(ws)).act("plan", "totals")["body"]["plan"]
    assert name == "totals" and why.endswith("; increment: 1 of 2 files")
    ws.recompute("totals")
    facts = dict(told(LineageGraph(ws)).answer("details", node="totals")["facts"])
    assert facts["increment"] == f"2.parquet merged into {base} (rule: group by)"


def test_a_run_is_summed_up_with_durations_and_its_ticks_are_cleared(ws, told, edited):
    edited()
    line = told(panel := StalenessBoard(ws))
    panel.selection = ["recent", "noted"]
    done = line.act("recompute", "recent", "noted")["body"]
    assert re.fullmatch(r"2 computed in [\d.]+ s", done["summary"])
    assert sorted(step[:3] for step in done["steps"]) == [
        ["noted", "computed", "4"],
        ["recent", "computed", "3"],
    ]
    assert all(re.fullmatch(r"[\d.]+ s", step[3]) for step in done["steps"])
    assert panel.selection == []


def test_board_and_lineage_open_what_changed_in_a_table(ws, told, edited):
    edited()
    ws.recompute("recent")
    for panel in (StalenessBoard(ws), LineageGraph(ws)):
        opened = told(panel).answer("difference", node="recent")["widget"]
        inner = panel._inner
        assert (inner.model_id, str(inner.summary)) == (opened, "1 row added")
        panel.close()
        assert inner.comm is None


def test_a_recompute_that_fails_midway_says_which_step_failed_and_shows_what_is_left(
    ws, told, papers
):
    papers.write_text("other\n1\n")
    line = told(StalenessBoard(ws))
    done = line.act("recompute", "summary")
    assert any("recent: failed" in text for text in done["body"]["lines"])
    assert {r["verdict"] for r in line.answer("refresh")["rows"]} >= {"stale"}


def test_work_can_be_stopped_and_finished_tables_stay(ws, told, edited):
    edited()
    panel = StalenessBoard(ws)
    line = told(panel)
    sent = panel.send

    def stopping(content, buffers=None):
        sent(content, buffers)
        if content["kind"] == "progress":
            runner_of(panel).cancel()

    panel.send = stopping
    assert line.act("recompute", "recent", "noted", "venues", "summary")["kind"] == "stopped"
    assert {r.name for r in ws.status() if not isinstance(r.verdict, Fresh)}
    panel.send = sent
    assert line.act("recompute", "recent", "noted", "venues", "summary")["kind"] == "done"
    assert all(isinstance(r.verdict, Fresh) for r in ws.status())


def test_only_one_thing_runs_at_a_time(ws, told, monkeypatch):
    panel = StalenessBoard(ws)
    line = told(panel)
    held = ws.plan
    monkeypatch.setattr(ws, "plan", lambda names, **how: (time.sleep(0.3), held(names, **how))[1])
    assert line.answer("act", action="plan", names=["recent"]) == {"begun": True}
    assert line.answer("act", action="plan", names=["recent"]) == {"begun": False}
    runner_of(panel).wait(10)


def test_a_recipe_that_is_dropped_while_it_is_shown_is_refused_and_gone_after_a_look(ws, told):
    line = told(StalenessBoard(ws))
    ws.drop("summary")
    for action in ("recompute", "plan"):
        assert "summary" in line.act(action, "summary")["lines"][0]
    assert [r["name"] for r in line.answer("refresh")["rows"]] == ["noted", "recent", "venues"]


def test_choosing_what_is_not_there_is_a_typed_error(ws):
    panel = StalenessBoard(ws)
    panel.selection = ["recent"]
    with pytest.raises(jl.TableNotFound, match="recnt"):
        panel.selection = ["recnt"]
    assert panel.selection == ["recent"]


def test_what_a_fresh_table_rests_on_stands_in_its_row(ws, told, papers):
    ws.sources.add("by_id", papers, anchor="column:id")
    ws.materialize("late", "SELECT id FROM by_id")
    row = rows(told(StalenessBoard(ws)).answer("open"))["late"]
    assert row["reasons"] == ["by_id by column:id alone"] and row["verdict"].startswith("fresh")


def test_choosing_all_takes_what_is_not_fresh_of_what_is_found(ws, told, edited):
    edited()
    ws.recompute("noted")
    panel = StalenessBoard(ws)
    line = told(panel)
    line.ask("rows", sort="name", limit=1)
    line.ask("choose-all")
    assert sorted(panel.selection) == ["recent", "summary", "venues"]
    panel.filter = "ven"
    line.ask("choose-all")
    assert panel.selection == ["venues"]


def test_the_board_has_a_column_for_checks_when_there_are_any(ws, told):
    line = told(StalenessBoard(ws))
    assert not line.answer("rows")["checks"]
    ws.checks.add("few", jl.checks.row_count(max=0), on="recent", severity="warn")
    ws.checks.add("some", jl.checks.row_count(min=1), on="venues")
    ws.check()
    line.ask("refresh")
    body = line.answer("rows", sort="checks")
    assert body["checks"]
    found = [(row["name"], row["checks"] and row["checks"]["text"]) for row in body["rows"]]
    assert found[:2] == [("recent", "1 of 1 fails"), ("venues", "1 pass")]
    assert {checks for _, checks in found[2:]} == {None}
    assert line.answer("details", node="recent")["checks"][0]["rows"] == [["2"]]


def test_a_held_recipe_is_marked_on_the_board(ws, told):
    ws.hold("recent", note="checked by hand")
    rows = {row["name"]: row for row in told(StalenessBoard(ws)).answer("open")["rows"]}
    assert rows["recent"]["held"].endswith(": checked by hand") and rows["venues"]["held"] == ""
