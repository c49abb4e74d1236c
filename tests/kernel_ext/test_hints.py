"""Hints of errors as one types them in a cell."""

import re

import pytest

from jammi_kernel_ext.hints import cell_syntax_hints, to_cell_syntax
from jammi_lab.commands.table import LINE, commands
from jammi_lab.core import foreign_errors
from jammi_lab.core.errors import JammiError
from tests.cases import cases
from tests.processes import ROOT


@pytest.mark.parametrize(
    ("python", "cell"),
    cases("cells/hints", "python", "cell"),
)
def test_a_hint_says_the_line_where_there_is_one(python, cell):
    assert to_cell_syntax(python) == cell


def test_a_line_that_a_hint_says_is_one():
    said = re.findall(
        r"%jammi (?!has no verb)([a-z]+)",
        (ROOT / "jammi_lab" / "core" / "suggestions.toml").read_text(encoding="utf-8"),
    )
    assert said and not set(said) - {v.name for v in commands(LINE)}


def test_an_error_that_leaves_a_magic_has_its_hint_changed_and_nothing_else():
    given = JammiError("It is gone.", near=["it"], hint="ws.tables() lists what there is.")
    with pytest.raises(JammiError) as caught, cell_syntax_hints():
        raise given
    assert caught.value is given and given.lines() == [
        "It is gone.",
        "Did you mean it?",
        "%jammi tables lists what there is.",
    ]


@pytest.mark.parametrize(
    ("statement", "remark"),
    [
        ("-- why\nSELECT * FROM t WHERE x = NULL OR x <> null", "IS NULL"),
        ("SELECT '= NULL' FROM f(x := NULL)", ""),
        ("UPDATE mutable.t SET x = NULL", ""),
        ("SELECT * FROM t WHERE x NOT IN (1, NULL)", "NOT IN"),
        ("SELECT * FROM t WHERE x NOT IN ('NULL', f(x))", ""),
        ("SELECT * FROM t WHERE x LIKE 'a*'", "LIKE"),
        ("SELECT * FROM t WHERE x LIKE 'a*%'", ""),
        ("SELECT * FROM t WHERE day = '{day}'", "$name"),
        ("SELECT * FROM t WHERE day > 'since {{ day }}'", "$name"),
        (r"SELECT regexp_matches(x, '\p{Lu}[0-9]{3}'), format('{0}', x), {'a': x}, 'it''s'", ""),
    ],
)
def test_a_remark_is_made_on_what_runs_and_cannot_be_meant(statement, remark):
    found = foreign_errors.explain("remarks", statement).hint
    assert remark in found and bool(remark) == bool(found)
