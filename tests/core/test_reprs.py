"""How results, tables, verdicts, plans and reports read; each case fixes words that people rely
on."""

import re
from typing import Any

import pytest

from jammi_lab.core import forms as blocks
from jammi_lab.core import reprs as forms
from jammi_lab.core.anchors import Anchor, AnchorKind, source_input, unpinned_anchor
from jammi_lab.core.errors import SqlError, TableNotFound
from jammi_lab.core.forms import shown_type
from jammi_lab.core.records import RunStep, Step
from jammi_lab.core.verdicts import (
    Cause,
    Damaged,
    DefinitionChanged,
    Fresh,
    InputAdvanced,
    Match,
    MatchWithUnpinnedInputs,
    Mismatch,
    MissingBytes,
    MissingManifest,
    PossiblyStale,
    Stale,
    Undecidable,
)
from jammi_lab.features.outputs.badge import badge, unchecked_badge
from jammi_lab.freshness.plan import PlannedStep, StepKind
from jammi_lab.freshness.reports import Plan, RunReport, StatusRow, status_board
from jammi_lab.store.reports import FsckReport, RecoveryReport

HOSTILE = "<img src=x onerror=1>"
PAPERS = source_input("papers")


def row(name: str, verdict: Any) -> StatusRow:
    return StatusRow(name, 1, verdict, 3, 10, None)


def planned(*steps: Step, kind: StepKind = StepKind.CERTAIN) -> Plan:
    return Plan([PlannedStep(None, kind, step) for step in steps], [], [], lambda *_: None)


def anchor(value: str, rows: int, name: str = "papers") -> Anchor:
    return Anchor(
        input=source_input(name),
        kind=AnchorKind.SOURCE_VERSION,
        value=value,
        method="content",
        row_count=rows,
    )


def stale(name: str = "papers") -> Stale:
    return Stale([InputAdvanced(source_input(name), anchor("a", 10, name), anchor("b", 12, name))])


def test_the_board_counts_the_verdicts_gives_the_reasons_and_says_what_to_type():
    verdicts = [
        row("a", Fresh()),
        row("b", stale()),
        row("c", PossiblyStale([Cause(stale().reasons[0], ["b"])])),
    ]
    lines = status_board(verdicts).text.split("\n")
    assert lines[0] == "3 recipes: 1 fresh, 1 possibly stale, 1 stale"
    assert lines[4].endswith("papers changed, 10 → 12 rows (content)") and lines[5].endswith(
        "by way of b"
    )
    assert "ws.recompute()" in lines[-1]


def test_a_board_of_fresh_tables_gives_no_advice():
    text = status_board([row("a", Fresh())]).text
    assert "%jammi" not in text
    assert text.split("\n")[1].split() == ["name", "version", "verdict", "rows", "size"]


def test_what_is_not_known_is_said_with_the_reason_and_what_to_type():
    assert (
        unchecked_badge(["top venues"]).text
        == "top venues is not checked yet — ws.why('top venues')"
    )
    assert unchecked_badge([f"t{n}" for n in range(7)], "the disk is full").text == (
        "t0, t1, t2, t3, t4 and 2 more are not checked: the disk is full — ws.why('t0')"
    )


def test_there_is_no_badge_when_all_is_fresh():
    assert badge({"a": Fresh()}) is None and badge({}) is None


def test_the_badge_of_what_cannot_be_decided_asks_why():
    doubt = Undecidable([unpinned_anchor(PAPERS, "2024", "the server is down")])
    assert badge({"a": doubt}).text == "a is undecidable: papers: the server is down — ws.why('a')"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Fresh(), "t: fresh"),
        (stale(), "t: stale: papers changed, 10 → 12 rows (content)"),
        (
            Stale([*stale().reasons, DefinitionChanged("a" * 64, "b" * 64)]),
            "t: stale\n  - papers changed, 10 → 12 rows (content)\n  - definition changed",
        ),
        (Damaged(None), "t: damaged: its bytes are gone"),
        (MissingManifest(), "t: no manifest"),
        (
            Undecidable([unpinned_anchor(PAPERS, "2024", "the server is down")]),
            "t: undecidable: papers: the server is down",
        ),
        (
            Undecidable([unpinned_anchor(PAPERS, "2024", "down")], stale().reasons),
            "t: undecidable\n  - papers changed, 10 → 12 rows (content)\n  - papers: down",
        ),
        (Match(), "t: match"),
        (
            Mismatch("a" * 64, "b" * 64),
            "t: mismatch of bytes: expected aaaaaaaaaaaa, found bbbbbbbbbbbb",
        ),
        (MissingBytes(), "t: its bytes are gone"),
        (
            MatchWithUnpinnedInputs([unpinned_anchor(PAPERS, "2024", "down")]),
            "t: match, with unpinned inputs: papers: down",
        ),
    ],
)
def test_a_verdict_reads_as_a_sentence_with_its_reasons(value, text):
    assert value._rendered("t").text == text


def test_a_notebook_shows_a_verdict_as_its_sentence_in_both_forms():
    class Printer:
        text = said = staticmethod(lambda text: shown.append(text))

    shown: list[str] = []
    stale()._repr_pretty_(Printer(), False)
    assert (
        shown == ["stale: papers changed, 10 → 12 rows (content)"]
        and "papers changed" in stale()._repr_html_()
    )


def test_a_plan_of_blocked_steps_does_not_offer_to_run_them():
    plan = planned(Step("e", "blocked", []), kind=StepKind.BLOCKED)
    assert repr(plan).endswith("None of these steps can be run here.")


def test_a_plan_of_steps_that_never_ran_tells_no_time():
    text = repr(planned(Step("b", "recompute", stale().reasons)))
    assert "never ran" in text and "Estimated time" not in text and "Dry run" in text


def test_an_empty_plan_says_that_there_is_nothing_to_do():
    assert repr(planned()) == "Nothing to do: no table is known to be stale."


def test_a_plan_is_shown_equal_after_runs_that_took_different_times():
    def shown(took: float) -> str:
        plan = planned(Step("b", "recompute", stale().reasons, took))
        return repr(plan) + plan._repr_html_()

    assert shown(0.1) == shown(0.5312)
    assert shown(12.3) == shown(19.1) != shown(0.1)
    assert re.sub(r"\d+ ?(s|min|h)\b", "TIME", shown(0.1)) == re.sub(
        r"\d+ ?(s|min|h)\b", "TIME", shown(12345.6)
    )


def test_a_run_says_how_long_each_step_took():
    took = [0.3184, 12345.6, 0.0004, None]
    report = RunReport([RunStep(f"b{n}", "computed", each, 3) for n, each in enumerate(took)], [])
    lines = repr(report).splitlines()[3:]
    shown = [line.split(maxsplit=3)[3:] for line in lines]
    assert shown == [["0.32 s"], ["12345.6 s"], ["0.01 s"], []]


def test_two_runs_of_one_work_have_steps_and_rows_of_one_repr():
    def told(took: float, table_name: str) -> str:
        parts = [
            Step("b", "recompute", [], took),
            RunStep("b", "computed", took, 3, table_name),
            StatusRow("b", 2, stale(), 3, 411, took),
        ]
        return repr(parts)

    assert (
        told(0.1, "b__sql__1")
        == told(12.3, "b__sql__2")
        != told(0.1, "b__sql__1").replace("rows=3", "rows=4")
    )


def test_the_moment_of_an_unpinned_state_is_no_part_of_its_repr():
    anchor = Anchor(
        source_input("papers"),
        AnchorKind.UNPINNED,
        "2026-11-20T09:30:00.000001Z",
        "none",
    )
    assert (
        "2026" not in repr(anchor)
        and "papers" in repr(anchor)
        and anchor.value in str(anchor.to_dict())
    )


def test_a_run_report_names_outcomes_errors_and_what_moved_meanwhile():
    steps = [
        RunStep("a", "computed", 1.0, 12),
        RunStep("b", "cut_off"),
        RunStep("c", "failed", error="SqlError: no such column"),
    ]
    lines = repr(RunReport(steps, ["papers changed after the plan was made"])).split("\n")
    assert lines[0] == "Run: 1 computed, 1 not needed, 1 failed"
    assert (
        "not needed: inputs came out equal" in lines[4] and "SqlError: no such column" in lines[5]
    )
    assert lines[-1] == "  - papers changed after the plan was made"


def test_an_error_has_at_most_five_lines_and_marks_the_place():
    error = TableNotFound(
        "There is no table paprs.", near=["papers"], hint="%jammi sources lists them."
    ).with_position("SELECT *\nFROM paprs", 14)
    assert forms.error(error).text.split("\n") == [
        "TableNotFound: There is no table paprs.",
        "FROM paprs",
        "     ^",
        "Did you mean papers?",
        "%jammi sources lists them.",
    ]


def every_form(name: str) -> list[Any]:
    doubt, moved = (
        Undecidable([unpinned_anchor(source_input(name), name, name)], stale(name).reasons),
        stale(name),
    )
    step = Step(name, "recompute", moved.reasons)
    rows = [
        row(name, moved),
        row(name, doubt),
        row(name, PossiblyStale([Cause(moved.reasons[0], [name])] * 2)),
    ]
    plan = Plan([PlannedStep(None, kind, step) for kind in StepKind], [], [name], lambda *_: None)
    return [
        forms.preview([name], [name], [(name,)], caption=name),
        blocks.form(name, facts=[(name, name)], table=blocks.listing_table([name], [[name]], aligned="l", note=name), notes=[name]),
        doubt._rendered(name),
        MatchWithUnpinnedInputs(doubt.unpinned)._rendered(name),
        Mismatch(name, name, name)._rendered(name),
        status_board(rows),
        badge({name: moved}),
        badge({name: moved, name * 2: doubt}),
        unchecked_badge([name], name),
        plan._rendered(),
        RunReport([RunStep(name, name, error=name, table_name=name)], [name])._rendered(),
        RecoveryReport(errors=[name])._rendered(),
        FsckReport(errors=[name], missing=[name])._rendered(),
        forms.error(SqlError(name, near=[name], hint=name).with_position(name, 0)),
    ]  # fmt: skip


@pytest.mark.parametrize("name", [HOSTILE, '"><script>1</script>', "' onclick='x"])
def test_a_hostile_name_acts_in_no_form(name):
    for form in every_form(name):
        assert (
            "<img" not in form.html and "<script" not in form.html and "onclick='" not in form.html
        )
        assert not re.search(r"<[^>]*\son\w+\s*=", re.sub(r'"[^"]*"', '""', form.html)), form.html


def test_no_form_has_an_id_or_a_colour_of_its_own_page():
    for form in every_form("x"):
        assert (
            " id=" not in form.html
            and "<style" not in form.html
            and "background" not in form.html.replace("color:#fff;background-color", "")
        )


@pytest.mark.parametrize(
    ("kind", "shown"),
    [
        ("DECIMAL(10,2)[]", "decimal(10,2)[]"),
        ("TIMESTAMP WITH TIME ZONE", "timestamp with time zone"),
        (
            'STRUCT(Path VARCHAR, ID BIGINT[], "At Time" TIMESTAMP WITH TIME ZONE)',
            'struct(Path varchar, ID bigint[], "At Time" timestamp with time zone)',
        ),
        (
            "STRUCT(Start TIME, Zone TIME WITH TIME ZONE)",
            "struct(Start time, Zone time with time zone)",
        ),
        ("MAP(VARCHAR, ENUM('North', 'A)'))", "map(varchar, enum('North', 'A)'))"),
        ("list<element: string>", "list<element: string>"),
    ],
)
def test_a_type_is_shown_in_lower_case_with_the_names_in_it_as_they_are(kind, shown):
    assert shown_type(kind) == shown
