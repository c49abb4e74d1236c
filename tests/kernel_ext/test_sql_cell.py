"""`%%jammi` in a real kernel: rows, binding, parameters, recipes, the badge."""

import pytest

from jammi_kernel_ext.statement_parameters import parameter_names, parameters
from jammi_lab.core.errors import InvalidArgument, ParameterMissing
from tests.cases import cases


@pytest.mark.parametrize(
    ("sql", "names"),
    cases("statements/parameters_found", "sql", "names"),
)
def test_only_real_parameters_of_a_statement_are_found(sql, names):
    assert parameter_names(sql) == names


def test_a_missing_variable_is_named_with_near_ones_and_its_place():
    with pytest.raises(ParameterMissing) as missing:
        parameters("SELECT\n $min_yeer", {"min_year": 1, "min_frame": object(), "_": 1})
    assert missing.value.parameter == "min_yeer" and missing.value.near == ("min_year",)
    assert missing.value.excerpt == " $min_yeer\n ^"


def test_a_variable_that_is_no_value_is_refused_by_name():
    with pytest.raises(InvalidArgument, match=r"\$x: A value of type object cannot be bound"):
        parameters("SELECT $x", {"x": object()})


def test_a_cell_shows_rows_with_types_and_the_variable_and_underscore_hold_the_result(papers):
    shown = papers("%%jammi r\nSELECT id, venue FROM papers ORDER BY id")
    assert shown.text.split("\n") == [
        "    id  venue",
        "bigint  varchar",
        "──────  ───────",
        "     1  A",
        "     2  B",
        "     3  A",
        "     4  NULL",
        "4 rows",
    ]
    assert len(shown.data) == 1 and "<table" in shown.html and "bigint" in shown.html
    assert papers.value("_ is r, r.columns, len(r)") == "(True, ['id', 'venue'], 4)"


def test_n_limits_what_is_shown_and_the_result_is_whole(papers):
    shown = papers("%%jammi r -n 2\nSELECT range AS n FROM range(1000)")
    assert shown.text.endswith("     0\n     1\nfirst 2 rows")
    assert papers.value("r.arrow().num_rows") == "1000"


def test_the_setting_says_how_many_rows_are_shown_without_n(papers):
    papers("%jammi config cells.limit 3")
    assert papers("%%jammi\nSELECT range AS n FROM range(1000)").text.endswith("first 3 rows")


@pytest.mark.parametrize("kind", ["arrow", "polars", "pandas"])
def test_as_binds_and_shows_a_frame(papers, kind):
    papers(f"%%jammi r -t {kind}\nSELECT id FROM papers")
    module = {"arrow": "pyarrow.lib", "polars": "polars.dataframe.frame", "pandas": "pandas"}[kind]
    assert papers.value("type(r).__module__, len(r), _ is r").startswith(f"('{module}")
    assert papers.value("len(r), _ is r") == "(4, True)"


def test_quiet_shows_nothing_and_underscore_has_the_result(papers):
    shown = papers("%%jammi -q\nSELECT 1 AS one")
    assert (shown.data, shown.stream, shown.error) == ([], "", None)
    assert papers.value("_.fetchall()") == "[(1,)]"


def test_several_statements_run_in_order_and_the_last_is_shown(papers):
    shown = papers("%%jammi\nSELECT 1 AS one;\nSELECT 2 AS two;")
    assert "two" in shown.text and "one" not in shown.text
    for form in (shown.text, shown.html):
        assert "the rows of 1 statement before it are not shown" in form


def test_one_statement_and_changes_before_it_hide_no_rows(papers):
    papers(
        "import jammi_lab as jl; jl.get_workspace().mutable.create('labels', {'id': 'int64'}, primary_key=['id'])"
    )
    for text in (
        "SELECT 1 AS one;",
        "INSERT INTO mutable.labels VALUES (1); SELECT * FROM mutable.labels",
    ):
        assert "not shown" not in papers(f"%%jammi\n{text}").text


def test_parameters_are_bound_never_pasted(papers):
    papers('year, name = 2021, "x\' OR 1=1 --"')
    papers.run("%%jammi r\nSELECT id FROM papers WHERE year > $year")
    assert papers.value("r.fetchall()") == "[(3,), (4,)]"
    papers("%%jammi r -q\nSELECT $name AS name, '{name} $name' AS text")
    assert papers.value("r.fetchall()") == """[("x' OR 1=1 --", '{name} $name')]"""


def test_m_makes_a_version_and_says_computed_then_reused(papers):
    sql = "SELECT venue, count(*) AS n FROM papers WHERE venue IS NOT NULL GROUP BY venue"
    first, again = (
        papers(f"%%jammi t -m venues --key venue\n{sql}"),
        papers(f"%%jammi -m venues --key venue\n{sql}"),
    )
    assert (
        first.text.startswith("venues, version 1: computed · ")
        and " · key venue · made from papers\n" in first.text
    )
    assert again.text.startswith("venues, version 1: reused · ")
    assert (
        papers.value("t.version, t.outcome, t.key, t.read().arrow().num_rows")
        == "(1, 'computed', ['venue'], 2)"
    )


def test_a_cell_that_stores_a_table_shows_its_first_rows(papers):
    shown = papers("%%jammi t -m many\nSELECT range AS n FROM range(1000)")
    first, heading = shown.text.split("\n")[:2]
    assert first.startswith("many, version 1: computed · 1,000 rows, ")
    assert heading.strip() == "n"  # one line, then the rows
    assert shown.text.endswith("     0\n     1\n     2\n     3\n     4\nfirst 5 rows")
    assert "<td" in shown.html and shown.html.index("1,000 rows") < shown.html.index("first 5 rows")
    again = papers("%%jammi -m many -n 2\nSELECT range AS n FROM range(1000)")
    assert again.text.startswith("many, version 1: reused")
    assert again.text.endswith("     0\n     1\nfirst 2 rows")
    assert papers("%%jammi -m few\nSELECT 1 AS n").text.endswith("1 row")
    assert (
        "first 5 rows"
        not in papers("import jammi_lab as jl; jl.get_workspace().table('many')").text
    )
    assert papers.value("t.arrow().num_rows") == "1000"


def test_explain_shows_the_engines_plan_and_runs_nothing(papers):
    shown = papers("%%jammi -e\nSELECT * FROM papers")
    assert "READ_CSV" in shown.text and "<pre" in shown.html
    assert "Total Time" in papers("%%jammi -e --analyze\nSELECT * FROM papers").text


def test_a_statement_that_fails_while_it_runs_fails_the_cell(papers):
    shown = papers("%%jammi r\nSELECT CAST(venue AS INTEGER) AS v FROM papers")
    assert shown.ename == "SqlError" and len(shown.error) <= 5 and shown.data == []
    assert papers.value("'r' in globals()") == "False"


@pytest.mark.parametrize("kind", ["arrow", "polars", "pandas"])
def test_a_limit_bounds_what_is_shown_of_a_frame_and_not_the_frame(papers, kind):
    shown = papers(f"%%jammi rows --as {kind} -n 2\nSELECT id + 1000 AS id FROM papers ORDER BY id")
    assert "1002" in shown.text and "1003" not in shown.text
    assert papers.value("(len(rows), len(_))") == "(4, 4)"
    assert (
        "1004"
        in papers(f"%%jammi --as {kind} -n 4\nSELECT id + 1000 AS id FROM papers ORDER BY id").text
    )


def test_the_first_chart_says_that_it_is_drawn(cell):
    chart = "%%jammi --plot bar v n\nSELECT * FROM (VALUES ('a', 1), ('b', 2)) t(v, n)"
    # The library itself cannot be loaded a second time by the kernel that tests share.
    not_loaded = "import sys, types; from jammi_kernel_ext import sql_cell\n"
    cell.run(f"{not_loaded}sql_cell.sys = types.SimpleNamespace(modules={{}})")
    shown = cell(chart)
    cell.run("sql_cell.sys = sys")
    said = [each.get("data", {}).get("text/plain") for each in shown.displays]
    assert "Drawing the chart …" in said
    cleared = shown.displays[said.index("Drawing the chart …") + 1]  # it goes
    assert not cleared.get("data")
    assert said[-1] == "bar chart of n by v, 2 rows"
    assert "Drawing" not in str(cell(chart).displays)


def test_plot_shows_a_chart_and_binds_the_rows(cell):
    shown = cell("%%jammi rows --plot bar v n\nSELECT * FROM (VALUES ('a', 1), ('b', 2)) t(v, n)")
    assert (
        shown.error is None
        and "bar chart of n by v, 2 rows" in shown.text
        and "data:image/png;base64," in shown.html
    )
    assert cell("print(rows.fetchall(), _ is rows)").text == "[('a', 1), ('b', 2)] True\n"
    assert "pie" in "\n".join(cell("%%jammi --plot pie\nSELECT 1 AS a, 2 AS b").error)


def test_braces_and_dollars_of_a_line_are_not_filled_in_by_the_kernel(papers):
    papers("x = 'papers'")
    for line in ("%jammi why {x}", "%jammi why $x"):
        assert f"'{line.split()[-1]}'" in papers(line).error[0]


@pytest.mark.parametrize("kind", ["pandas", "arrow"])
def test_a_reused_table_that_is_shown_as_a_frame_says_so(papers, kind):
    cell = f"%%jammi -m venues --as {kind}\nSELECT venue, count(*) AS n FROM papers GROUP BY venue"
    assert "reused" not in papers(cell).text
    assert "venues, version 1: reused" in str(papers(cell).displays) + papers(cell).text
    assert "reused" not in papers(cell.replace("-m", "-q -m")).text


def test_an_array_and_a_series_of_the_notebook_are_bound_as_in_python(papers):
    papers(
        "import numpy as np, polars as pl, pandas as pd\nids, names, none = np.array([1, 3]), pl.Series(['A']), pd.NA"
    )
    shown = papers(
        "%%jammi\nSELECT count(*) AS n FROM papers WHERE id IN (SELECT unnest($ids)) AND venue IN (SELECT unnest($names)) AND $none IS NULL"
    )
    assert shown.error is None and shown.text.split("\n")[3].strip() == "2"
    papers("late = pd.Timedelta(1)")
    refused = papers("%%jammi\nSELECT $late")
    assert (
        refused.ename == "InvalidArgument"
        and "finer than a microsecond" in refused.error[0]
        and refused.error[2].endswith("^")
    )


def test_a_check_cell_that_warns_shows_the_failing_rows(papers):
    papers("%%jammi -m stored\nFROM papers")
    shown = papers(
        "%%jammi --check venues --on stored --warn\nSELECT * FROM jammi.stored WHERE venue IS NULL"
    ).text
    assert "1 check: 1 fail" in shown and "NULL" in shown
    refused = papers("%%jammi --check more --on papers\nSELECT * FROM papers WHERE venue IS NULL")
    assert "on the versions of a table" in refused.error[0]
