"""Hints of errors as one types them in a cell."""

import re

import pytest

from jammi_kernel_ext.hints import cell_syntax_hints, to_cell_syntax
from jammi_lab.commands.table import LINE, commands
from jammi_lab.core.errors import JammiError
from tests.processes import ROOT


@pytest.mark.parametrize(
    ("python", "cell"),
    [
        ("ws.recompute('top') computes one.", "%jammi recompute top computes one."),
        (
            "ws.recompute('top') rebuilds its newest version; ws.verify('top') shows details.",
            "%jammi recompute top rebuilds its newest version; %jammi verify top shows details.",
        ),
        (
            "ws.sources.list() shows the registered ones; ws.sources.add(name, location) adds one.",
            "%jammi sources shows the registered ones; %jammi add NAME LOCATION adds one.",
        ),
        (
            "Add it as a source: ws.sources.add('name', 'a b.csv').",
            "Add it as a source: %jammi add NAME 'a b.csv'.",
        ),
        (
            "Create a table with ws.materialize('name', 'SELECT …').",
            "Create a table with %%jammi -m NAME.",
        ),
        (
            "Close it there first: ws.close(), %jammi close, or end the kernel.",
            "Close it there first: %jammi close, or end the kernel.",
        ),
        (
            "Unbind the tenant first: ws.bind_tenant(None).",
            "Unbind the tenant first: %jammi tenant --none.",
        ),
        ("ws.models lists the models.", "%jammi models lists the models."),
        ("ws.embed makes a table that has.", "%jammi embed makes a table that has."),
        (
            "Run p again and call ws.register('s', frame, …).",
            "Run p again and call jammi_lab.get_workspace().register('s', frame, …).",
        ),
        ("ws.recompute('my top') computes one.", "%jammi recompute 'my top' computes one."),
        (
            "Add the source with secret=, ws.sources.add('crm', 'postgresql://u@h/d', secret='CRM').",
            "Add the source with --secret, %jammi add crm 'postgresql://u@h/d' --secret CRM.",
        ),
        (
            "ws.sources.add('crm', 'x', options={'text': 'a b'}, replace=True) restores it.",
            "jammi_lab.get_workspace().sources.add('crm', 'x', options={'text': 'a b'}, replace=True) restores it.",
        ),
        (
            "Call ws.sources.add('s', 'x', secret=your_function).",
            "Call jammi_lab.get_workspace().sources.add('s', 'x', secret=your_function).",
        ),
        (
            "Give a frame a name: ws.sources.add(name, frame).",
            "Give a frame a name: jammi_lab.get_workspace().sources.add(name, frame).",
        ),
        (
            'Say what it is: options={"encoding": "latin-1"} or options={"encoding": "utf-16"}.',
            "Say what it is: --option encoding=latin-1 or --option encoding=utf-16.",
        ),
        ("Drop those first, or pass force=True; …", "Drop those first, or use --force; …"),
        (
            "Use an SQL type: options={'types': {'zip': 'VARCHAR'}}.",
            """Use an SQL type: --option 'types={"zip": "VARCHAR"}'.""",
        ),
        ('Say which: options={"sheet": …}.', "Say which: --option sheet=…."),
        ("Options are a, b: options={…}.", "Options are a, b: --option KEY=VALUE."),
        (
            'Give options={"region": …} or {"url": …}, and secret= too.',
            "Give --option region=… or --option url=…, and --secret too.",
        ),
        (
            "Read it as text: options={\"text\": True}, or options={'null': 'NA'}.",
            "Read it as text: --option text=True, or --option null=NA.",
        ),
        (
            "Add columns to key=, or aggregate the rows first.",
            "Add columns to --key, or aggregate the rows first.",
        ),
        ("For example where='year > 2020'.", "For example --where 'year > 2020'."),
        (
            "Read it from a source: inputs=['crm.customers'].",
            "Read it from a source: --inputs crm.customers.",
        ),
        (
            'Bind one first: with ws.tenant("name"): … or ws.bind_tenant("name").',
            "Bind one first: %jammi tenant NAME.",
        ),
        ("jl.open(path) creates one.", "%jammi open PATH creates one."),
        (
            "Open it without catalog= and without catalog.url.",
            "Open it without --catalog and without catalog.url.",
        ),
        (
            'Close it, and open it with settings={"engine.threads": …} or a line in jammi.toml.',
            "%jammi close, then %jammi config engine.threads VALUE, or a line in jammi.toml; it takes effect at the next open.",
        ),
        ("ws.table('top') is the newest one.", "jammi.top is the newest one."),
        (
            "Write a table to a file with ws.table('name').export('path').",
            "Write a table to a file with %jammi export name PATH.",
        ),
        (
            "Write $name, and pass name=value.",
            "Write $name; its value is the notebook variable of that name.",
        ),
        (
            "ws.sources, ws.mutable and ws.recipes() list the existing names.",
            "%jammi catalog and %jammi models list the existing names.",
        ),
        (
            "Pass the condition to ws.search(…, where=…).",
            "Pass the condition to %jammi search TABLE TEXT --where SQL.",
        ),
        ("ws.settings shows them all.", "%jammi config shows them all."),
        ("Give it a name with AS.", "Give it a name with AS."),
        ("", ""),
    ],
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


def test_cells_say_lines_and_python_says_python(papers):
    assert "%jammi sources shows the registered ones" in "\n".join(
        papers("%jammi remove nothing_like_it").error or []
    )
    python = (
        papers(
            "import jammi_lab\njammi_lab.get_workspace().sources.remove('nothing_like_it')"
        ).error
        or []
    )
    assert "ws.sources.list() shows the registered ones" in "\n".join(python)
    assert "Create a table with %%jammi -m NAME." in (
        papers("%%jammi\nCREATE TABLE x AS SELECT 1").error or []
    )
