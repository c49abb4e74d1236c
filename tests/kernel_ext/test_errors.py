"""What a cell shows when something is wrong: at most five lines, the stack on request, and the cell
fails."""

import pytest

from tests.cases import cases


@pytest.mark.parametrize(("code", "ename"), cases("cells/errors", "code", "ename"))
def test_an_error_is_at_most_five_lines_without_stack_or_inner_paths(papers, code, ename):
    shown = papers(code)
    assert shown.ename == ename and 1 <= len(shown.error) <= 5, shown
    assert shown.error[0].startswith(f"{ename}: ")
    assert not any(
        "Traceback" in line or "jammi_lab/" in line or "site-packages" in line
        for line in shown.error
    )


def test_the_line_of_the_statement_is_marked(papers):
    assert papers("%%jammi\nSELECT *\nFROM paprs").error[:4] == [
        "TableNotFound: There is no table paprs.",
        "FROM paprs",
        "     ^",
        "Did you mean papers?",
    ]


@pytest.mark.parametrize(
    ("before", "blank"),
    cases("cells/blanks", "before", "blank"),
)
def test_the_caret_stands_below_the_place_whatever_the_width_of_what_is_before_it(
    papers, before, blank
):
    assert (
        papers(f"%%jammi\nSELECT {before} AS t, venuee FROM papers").error[2]
        == f"       {blank}       ^"
    )


def test_tb_shows_the_stack(papers):
    papers("%%jammi\nSELECT * FROM paprs")
    shown = papers("%tb")
    stack = "\n".join(shown.error or [shown.stream])
    assert "Traceback" in stack and "run_cell" in stack and "TableNotFound" in stack
    assert len(papers("%%jammi\nSELECT * FROM paprs").error) <= 5


def test_full_tracebacks_can_be_asked_for_and_taken_back(papers):
    papers("%jammi config cells.traceback full")
    assert "Traceback" in papers("%%jammi\nSELECT * FROM paprs").error[0]
    papers("%jammi config cells.traceback short")
    assert len(papers("%%jammi\nSELECT * FROM paprs").error) <= 5


def test_a_failing_line_stops_the_cell(papers):
    shown = papers("%jammi why nothing\nprint('went on')")
    assert shown.error and "went on" not in shown.stream
