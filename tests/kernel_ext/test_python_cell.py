"""`%%jammi_py` in a real kernel: a cell's text as a Python step."""

import pytest

from jammi_kernel_ext.cell_lines import parse_step
from jammi_lab.core.errors import InvalidArgument
from jammi_lab.steps.cell_step import build_step
from tests.cases import cases
from tests.kernel_ext.conftest import Kernel

STEP = "%%jammi_py scored --inputs papers --key id\nrows = papers.polars()\nrows.select('id', s=double(pl.col('id')))"
NAMES = "import polars as pl\nRATE = 2\ndef double(x):\n    return x * RATE"


@pytest.fixture
def steps(papers: Kernel) -> Kernel:
    """A notebook with what the cell `STEP` names."""
    papers.run(NAMES)
    return papers


def test_a_cell_becomes_a_recipe_and_shows_its_table(steps):
    shown = steps(STEP)
    assert (
        "scored, version 1: computed" in shown.text
        and "made from papers" in shown.text
        and "scored" in shown.html
    )
    assert steps.value("_.read().fetchall()") == "[(1, 2), (2, 4), (3, 6), (4, 8)]"
    assert "1 recipe" in steps("%jammi status").text and "fresh" in steps("%jammi status").text


def test_its_variables_stay_inside_and_its_inputs_are_no_variables(steps):
    steps(STEP)
    assert (
        steps.value("'rows' in globals() or 'papers' in globals() or 'scored' in globals()")
        == "False"
    )


def test_run_again_it_is_reused_whatever_its_comments_and_layout(steps):
    steps(STEP)
    assert (
        "version 1: reused"
        in steps(STEP.replace("rows = papers", "# all of them\n\nrows  =  papers")).text
    )


@pytest.mark.parametrize(
    "change",
    ["RATE = 3", "def double(x):\n    return x * RATE + 0"],
    ids=["a variable", "a function"],
)
def test_a_changed_variable_or_function_of_the_notebook_makes_it_stale_and_recompute_makes_it_true(
    steps, change
):
    steps(STEP)
    steps(change)
    assert (
        "definition changed" in steps("%jammi why scored").text
        and "scored" in steps("%jammi plan").text
    )
    assert (
        "computed" in steps("%jammi recompute").text
        and "on its source; imported modules and files that it opens are not followed"
        in steps("%jammi why scored").text
    )


def test_an_input_may_be_sql_a_recipe_or_a_frame_of_the_notebook(steps):
    steps(STEP)
    steps("frame = pl.DataFrame({'id': [1]})")
    shown = steps(
        '%%jammi_py joined --inputs scored frame late="SELECT id FROM papers WHERE year > 2021"\n'
        "scored.polars().join(pl.concat([frame.polars(), late.polars()]), on='id')"
    )
    assert shown.error is None and " · 3 rows, " in shown.text


def test_it_may_yield_batches_or_return_early(steps):
    assert (
        "3 rows"
        in steps(
            "%%jammi_py some --inputs papers\nfor at in range(3):\n    yield papers.arrow().slice(at, 1)"
        ).text
    )
    assert (
        "4 rows"
        in steps(
            "%%jammi_py all --inputs papers\nif RATE:\n    return papers\npapers.polars().head(1)"
        ).text
    )


def test_quiet_shows_nothing_and_keeps_the_table(steps):
    assert steps(STEP.replace("--key id", "--key id -q")).text == ""
    assert steps.value("_.name") == "'scored'"


def test_after_a_restart_it_is_undecidable_until_its_cell_is_run_again(steps, tmp_path):
    steps(STEP)
    steps("%jammi close")
    after = Kernel()
    try:
        after(f"import os; os.chdir({str(tmp_path)!r})")
        after("%load_ext jammi_lab")
        assert "its cell was not run in this kernel" in after("%jammi why scored").text
        assert (
            "blocked" in after("%jammi plan scored").text
            and "its cell was not run" in after("%jammi plan scored").text
        )
        after(NAMES)
        assert "version 1: reused" in after(STEP).text
        assert "fresh" in after("%jammi why scored").text
    finally:
        after("%jammi close")
        after.close()


@pytest.mark.parametrize(("code", "words"), cases("cells/python_failing", "code", "words"))
def test_a_cell_that_fails_says_where_in_at_most_five_lines(steps, code, words):
    steps("frame = pl.LazyFrame({'id': [1]})")
    shown = steps(f"%%jammi_py broken --inputs papers\nx = 1\n{code}")
    assert shown.error is not None and len(shown.error) <= 5
    assert [word for word in words if word not in "\n".join(shown.error)] == []
    assert steps.value("'broken' in __import__('jammi_lab').get_workspace()") == "False"


def test_the_whole_stack_is_there_when_asked_for(steps):
    steps("%%jammi_py broken --inputs papers\npapers.polars().select('nope')")
    stack = steps("%tb").error or []
    assert any("<jammi_py broken>" in line for line in stack) and any(
        "papers.polars().select('nope')" in line for line in stack
    )


def test_an_interrupt_is_one_line_and_leaves_nothing(steps):
    shown = steps(
        "%%jammi_py slow --inputs papers\nimport time\nprint('begun', flush=True)\ntime.sleep(30)\npapers",
        interrupt_when=lambda said: "begun" in said,
    )
    assert shown.error is not None and shown.error == [
        "Interrupted. 'slow' was not computed; nothing was left behind."
    ]
    assert "slow" not in steps("%jammi tables").text


@pytest.mark.parametrize(
    ("line", "inputs"),
    [
        ("t", {}),
        ("t --inputs papers venues", {"papers": "papers", "venues": "venues"}),
        ("t --inputs crm.public.customers --key a b", {"customers": "crm.public.customers"}),
        ("t --inputs p=my-papers", {"p": "my-papers"}),
        (
            't --inputs "late=SELECT * FROM papers WHERE year = 2021"',
            {"late": "SELECT * FROM papers WHERE year = 2021"},
        ),
    ],
)
def test_inputs_are_variables_with_addresses(line, inputs):
    assert parse_step(line)["inputs"] == inputs


@pytest.mark.parametrize(
    "line",
    [
        "",
        "--inputs papers",
        "t --inputs my-papers",
        "t --inputs class",
        "t --inputs papers papers",
        "t --inputs a.b c.b",
        "t u",
        "t --nope",
        "t --inputs 'a b'",
    ],
)
def test_a_line_that_cannot_be_is_refused(line):
    with pytest.raises(InvalidArgument):
        parse_step(line)


@pytest.mark.parametrize(
    ("text", "gives"),
    [
        ("a + 1", 2),
        ("b = a\nb", 1),
        ("if a:\n    return 5\n6", 5),
        ("def f():\n    return 3\nf()", 3),
        ("a; a", 1),
    ],
)
def test_the_last_expression_is_what_the_step_gives(text, gives):
    assert build_step("t", ["a"], text, {}).function(1) == gives


@pytest.mark.parametrize(
    "text",
    ["", "# nothing", "a = 1", "def f():\n    return 1", "a +", "await a", "for x in a:\n    pass"],
)
def test_a_text_that_gives_nothing_is_refused(text):
    with pytest.raises(InvalidArgument):
        build_step("t", ["a"], text, {})


# -- row by row ------------------------------------------------------------------------------------

MAP = "%%jammi_py doubled --map papers --key id --inputs id\n{'twice': double(id)}"


def test_a_cell_runs_for_each_row_and_again_only_for_changed_ones(steps):
    assert (
        steps(MAP.replace("doubled", "doubled --dry-run")).text.strip()
        == "doubled: 4 of 4 rows to compute."
    )
    assert "4 new, 0 changed" in steps(MAP).text
    assert steps.value("[r[:2] for r in _.read().fetchall()]") == "[(1, 2), (2, 4), (3, 6), (4, 8)]"
    assert "reused" in steps(MAP + "  # again").text
    more = MAP.replace("papers", "'SELECT id FROM papers UNION ALL SELECT 9'").replace(
        "doubled", "doubled --cost 0.5"
    )
    assert "1 of 5 rows to compute" in steps(more.replace("--map", "--dry-run --map")).text
    assert "5 rows" in steps(more).text


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("x --map papers --key id", "--map needs --key with one column, and --inputs"),
        ("x --map papers --inputs id", "--map needs --key"),
        ("x --map papers --inputs id --key id year", "--map needs --key with one column"),
        ("x --dry-run", "--dry-run needs --map OVER"),
        ("x --on-error record", "--on-error needs --map OVER"),
        ("x --map papers --cost much", "a non-negative number"),
    ],
)
def test_flags_of_a_map_go_together(line, words):
    with pytest.raises(InvalidArgument, match=words):
        parse_step(line)


TWICE = "def twice(id):\n    return {'n': 2 * id}\n\njammi_lab.get_workspace()"
ROWS = "def rows(papers):\n    return papers.arrow()\n\njammi_lab.get_workspace()"
EDITED = [
    "%%jammi -m made --key id\nSELECT id FROM papers",
    "%%jammi_py made --inputs papers --key id\npapers.arrow()",
    "%%jammi_py made --inputs papers --version 2\npapers.arrow()",
    "%%jammi_py made --inputs papers\npapers.arrow()",
    "%%jammi_py made --inputs rows=papers 'few=SELECT id FROM papers'\nrows.arrow()",
    "%%jammi_py made --key id --inputs id --map papers\n{'n': id}",
    "%%jammi_py made --key id --inputs id --on-error record --cost 0.5 --map papers\n{'n': id}",
    TWICE + ".map('made', twice, over='papers', key='id', inputs=['id'], batch=1)",
    ROWS + ".compute('made', rows, inputs=['papers'], key=['id'])",
]


@pytest.mark.parametrize("text", EDITED)
def test_the_cell_that_makes_a_table_is_given_as_it_was(papers, text):
    papers("import jammi_lab\nget_ipython().set_next_input = lambda text: print(text, end='')")
    papers.run(text)
    given = papers("%jammi edit made;").stream
    papers("del get_ipython().set_next_input")  # other tests have the same kernel
    assert given.strip() == text.replace(", batch=1", "")
    assert "reused" in papers(given).text
