"""Hints of errors as one types them in a cell."""

import re
from pathlib import Path

import pytest

from jammi_kernel_ext.arguments import VERBS
from jammi_kernel_ext.hints import in_cells, typed
from jammi_lab.errors import JammiError
from tests.kernel_ext.conftest import ROOT, Kernel


@pytest.mark.parametrize(
    ("python", "cell"),
    [
        ("ws.recompute('top') makes one.", "%jammi recompute top makes one."),
        ("ws.recompute('top') makes it again; ws.verify('top') says more.", "%jammi recompute top makes it again; %jammi verify top says more."),
        (
            "ws.sources.list() shows what there is; ws.sources.add(name, location) adds one.",
            "%jammi sources shows what there is; %jammi add NAME LOCATION adds one.",
        ),
        ("Add it as a source: ws.sources.add('name', 'a b.csv').", "Add it as a source: %jammi add NAME a b.csv."),
        ("Make a table with ws.materialize('name', 'SELECT …'), or %%jammi -m NAME in a cell.", "Make a table with %%jammi -m NAME."),
        ("Close it there first: ws.close(), %jammi close, or end the kernel.", "Close it there first: %jammi close, or end the kernel."),
        ("Unbind the tenant first: ws.bind_tenant(None).", "Unbind the tenant first: %jammi tenant --none."),
        ("ws.models shows what there is.", "%jammi models shows what there is."),
        ("ws.embed makes a table that has.", "%jammi embed makes a table that has."),
        ("Run p again and call ws.register('s', frame, …).", "Run p again and call jammi_lab.get_workspace().register('s', frame, …)."),
        ("Give it a name with AS.", "Give it a name with AS."),
        ("", ""),
    ],
)
def test_a_hint_says_the_line_where_there_is_one(python: str, cell: str) -> None:
    assert in_cells(python) == cell


def test_a_line_that_a_hint_says_is_one() -> None:
    said = re.findall(r"%jammi ([a-z]+)", Path(ROOT / "kernel_ext" / "jammi_kernel_ext" / "hints.py").read_text())
    assert said and not set(said) - {v.name for v in VERBS}


def test_an_error_that_leaves_a_magic_has_its_hint_changed_and_nothing_else() -> None:
    given = JammiError("It is gone.", near=["it"], hint="ws.tables() lists what there is.")
    with pytest.raises(JammiError) as caught, typed():
        raise given
    assert caught.value is given and given.lines() == ["It is gone.", "Did you mean it?", "%jammi tables lists what there is."]


def test_cells_say_lines_and_python_says_python(papers: Kernel) -> None:
    assert "%jammi sources shows what there is" in "\n".join(papers("%jammi remove nothing_like_it").error or [])
    python = papers("import jammi_lab\njammi_lab.get_workspace().sources.remove('nothing_like_it')").error or []
    assert "ws.sources.list() shows what there is" in "\n".join(python)
    assert "Make a table with %%jammi -m NAME." in (papers("%%jammi\nCREATE TABLE x AS SELECT 1").error or [])
