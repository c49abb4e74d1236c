"""What people type where it does not belong is answered with where it does; and a cell of which
only the first line is there."""

import pytest

from jammi_kernel_ext.cell_lines import parse_cell
from jammi_lab.commands.table import LINE, commands
from jammi_lab.commands.words import parse_line
from jammi_lab.core.errors import InvalidArgument
from jammi_lab.core.packaged_tables import packaged_table
from jammi_lab.core.suggestions import by_guess

FIRST_LINES = ["SELECT 1", "select * from papers", "WITH a AS (SELECT 1) SELECT * FROM a"]


def test_verbs_of_other_tools_are_answered_with_ours():
    verbs = {v.name for v in commands(LINE)}
    synonyms = by_guess(packaged_table("suggestions")[LINE]["synonyms"])
    assert synonyms and not set(synonyms) & verbs
    for word, ours in synonyms.items():
        with pytest.raises(InvalidArgument) as refused:
            parse_line(f"{word} x")
        assert refused.value.near == tuple(ours.split()) and verbs >= {*refused.value.near}


def test_what_cells_do_is_answered_with_the_cell():
    for word, cell in (("materialize", "%%jammi -m NAME"), ("compute", "%%jammi_py NAME")):
        with pytest.raises(InvalidArgument) as refused:
            parse_line(f"{word} top SELECT 1")
        assert refused.value.hint.startswith(cell)


@pytest.mark.parametrize("line", FIRST_LINES)
def test_a_statement_on_the_first_line_of_a_cell_is_told_to_go_below(line):
    with pytest.raises(InvalidArgument) as refused:
        parse_cell(line)
    assert (
        refused.value.message == "The statement is on the first line of the cell."
        and "below" in refused.value.hint
    )


def test_a_variable_may_be_called_like_a_word_of_sql_or_of_ours(cell):
    assert parse_cell("values -n 3")["NAME"] == "values"
    assert (
        cell("%%jammi status -n 3\nSELECT 1 AS one").error is None
        and cell.value("status.fetchall()") == "[(1,)]"
    )


@pytest.mark.parametrize(
    ("code", "line"),
    [("status", "status"), ("why 'my table'\n", "why 'my table'"), ("plan\n\n", "plan")],
)
def test_a_line_that_is_written_as_a_cell_is_told_so(cell, tmp_path, code, line):
    shown = cell(f"%%jammi {code}")
    assert shown.error == [
        f"InvalidArgument: {line.split()[0]} is a line command, not a cell command.",
        f"Write it with one %: %jammi {line}",
    ]
    assert not (tmp_path / ".jammi").exists()


def test_the_name_of_a_table_in_place_of_a_verb_is_answered_with_what_shows_it(chain):
    assert chain("%jammi venues").error == [
        "InvalidArgument: Unknown command: %jammi venues.",
        "venues is a table: %jammi preview venues shows its rows.",
    ]
    assert (
        chain("%jammi PAPERS").error[1]
        == "papers is a source: %jammi preview papers shows its rows."
    )
    assert "Did you mean status" in chain("%jammi statu").error[1]


# -- cells of one line -----------------------------------------------------------------------------


@pytest.mark.parametrize("code", ["%%jammi", "%%jammi x", "%%jammi -m x\n"])
def test_a_cell_without_a_statement_says_where_it_goes(cell, tmp_path, code):
    shown = cell(code)
    assert (
        shown.error[0] == "InvalidArgument: The cell contains no statement."
        and "below the first line" in shown.error[1]
    )
    assert not (tmp_path / ".jammi").exists()


def test_a_cell_of_one_line_with_its_statement_there_is_told_to_put_it_below(cell):
    assert "is on the first line of the cell" in cell("%%jammi SELECT").error[0]


def test_a_step_without_python_says_so(cell):
    assert cell("%%jammi_py x").error[0] == "InvalidArgument: The cell contains no Python code."


def test_other_cells_of_one_line_are_left_to_ipython(cell):
    assert (
        "cell body is empty" in cell("%%timeit").stream
        and "`%%jammix` not found" in cell("%%jammix").stream
    )
    assert cell("%%jammi?").error is None and cell("%%jammi?").data == []


def test_a_terminal_still_waits_for_the_lines_below_the_first(cell):
    ask = "get_ipython().input_transformer_manager.check_complete"
    assert cell.value(
        f"{ask}('%%jammi')[0], {ask}('%%jammi -m x\\n')[0], {ask}('%%jammi\\nSELECT 1\\n\\n')[0]"
    ) == ("('incomplete', 'incomplete', 'complete')")
