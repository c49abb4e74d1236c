"""The table of verbs and flags: what is parsed, what is refused, what is suggested."""

import pytest

from jammi_kernel_ext.cell_lines import parse_cell
from jammi_kernel_ext.magics import Magics
from jammi_lab.commands.help import Help
from jammi_lab.commands.table import CELL, LINE, OWN_COMMANDS, STEP, commands
from jammi_lab.commands.words import parse_line
from jammi_lab.core.errors import InvalidArgument
from jammi_lab.workspace.workspace import Workspace
from tests.cases import cases, plain


def given(values):
    return {k: v for k, v in values.items() if v not in (None, [], False)}


@pytest.mark.parametrize(
    ("line", "verb", "values"),
    cases("cells/lines", "line", "verb", "values"),
)
def test_a_line_is_a_verb_with_its_words_and_flags(line, verb, values):
    found, parsed = parse_line(line)
    assert (found.name, plain(given(parsed))) == (verb, values)


@pytest.mark.parametrize(
    ("line", "values"),
    cases("cells/first_lines", "line", "values"),
)
def test_the_first_line_of_a_cell_is_a_variable_and_flags(line, values):
    assert given(parse_cell(line)) == values


@pytest.mark.parametrize(
    ("line", "says", "near"),
    cases("cells/lines_refused", "line", "says", "near"),
)
def test_a_line_that_does_not_fit_is_refused_with_a_hint_or_near_words(line, says, near):
    with pytest.raises(InvalidArgument) as refused:
        parse_line(line)
    assert says in refused.value.message and list(refused.value.near) == near
    assert refused.value.hint or "takes" in says


@pytest.mark.parametrize(
    ("line", "says"),
    cases("cells/first_lines_refused", "line", "says"),
)
def test_a_cell_line_that_does_not_fit_is_refused(line, says):
    with pytest.raises(InvalidArgument, match=says):
        parse_cell(line)


def test_every_verb_is_a_method_here_or_of_the_workspace():
    for verb in commands(LINE):
        name = (verb.name or "where").replace("-", "_")
        assert hasattr(Magics, f"_{name}") or hasattr(Workspace, name)


def test_help_names_every_verb_and_every_flag_of_the_cell():
    text = repr(Help("all"))
    assert all(
        verb.synopsis in text and verb.help.partition(". ")[0] in text for verb in commands(LINE)
    )
    assert all(spelled in text for flag in (*CELL.flags, *STEP.flags) for spelled in flag.spellings)


def test_the_first_page_of_help_has_twelve_lines_and_names_every_verb_once():
    lines = repr(Help(None)).splitlines()
    assert len(lines) <= 12
    words = " ".join(lines).split()
    for verb in commands(LINE):
        assert words.count(verb.name or "%jammi") >= 1
    chapters = [line.split()[0] for line in lines if line.startswith("  ")]
    assert chapters == ["make", "look", "keep", "search", "live", "workspace"]
    meanings = repr(Help("verdicts"))
    assert all(word in meanings for word in ("possibly stale", "undecidable", "damaged"))


def test_k_may_be_nought_and_the_text_of_a_search_several_words():
    values = parse_line("search v neural nets -k 0")[1]
    assert values["TEXT"] == ["neural", "nets"] and values["k"] == 0
    with pytest.raises(InvalidArgument, match="non-negative integer"):
        parse_line("search v x -k 1.5")


def test_every_flag_of_the_table_says_what_it_is_for():
    assert [flag for verb in OWN_COMMANDS for flag in verb.flags if not flag.help] == []
