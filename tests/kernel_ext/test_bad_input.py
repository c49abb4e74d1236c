"""What people and data do to cells that nobody planned for: hostile texts, huge results, names
twice, a workspace that is gone."""

import re
import shutil

import pytest

from tests.kernel_ext.conftest import Kernel

EVIL = "a\u202eb<img src=x onerror=1>\x1b[31m\x07'\"&"
QUOTED = EVIL.replace("'", "''")


def rows(shown):
    return shown.text.split("\n")


def cell_peak(kernel, code):
    """The peak of memory that a cell adds, in MiB."""
    kernel("import resource")
    before = int(kernel.value("resource.getrusage(resource.RUSAGE_SELF).ru_maxrss"))
    shown = kernel(code)
    return shown, (
        int(kernel.value("resource.getrusage(resource.RUSAGE_SELF).ru_maxrss")) - before
    ) / 1024


# -- hostile texts ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "code",
    [
        f"%%jammi\nSELECT error('{QUOTED}')",
        f"%%jammi\nSELECT CAST('{QUOTED}' AS INT)",
        '%%jammi\nSELECT "' + EVIL.replace('"', '""') + '" FROM papers',
        '%%jammi\nSELECT * FROM jammi."' + EVIL.replace('"', '""') + '"',
        "get_ipython().run_line_magic('jammi', 'tenant ' + __import__('shlex').quote(EVIL))",
        "get_ipython().run_line_magic('jammi', 'why ' + __import__('shlex').quote(EVIL))",
        "get_ipython().run_line_magic('jammi', 'add ' + __import__('shlex').quote(EVIL) + ' papers.csv')",
        "get_ipython().run_line_magic('jammi', 'config ' + __import__('shlex').quote(EVIL))",
        "get_ipython().run_cell_magic('jammi', '-m ' + __import__('shlex').quote(EVIL), 'SELECT 1 AS one')",
    ],
)
def test_an_error_over_a_hostile_text_is_short_and_holds_no_control_or_direction_character(
    papers, code
):
    papers(f"EVIL = {EVIL!r}")
    shown = papers(code)
    assert shown.error is not None and len(shown.error) <= 5
    assert not re.search(
        r"[\x00-\x08\x0b-\x1f\x7f\u202a-\u202e\u2066-\u2069]", "\n".join(shown.error)
    )


def test_hostile_values_and_column_names_are_written_out_in_both_forms(papers):
    shown = papers(
        f"value = {EVIL!r}\nget_ipython().run_cell_magic('jammi', '', 'SELECT $value AS \"' + value.replace('\"', '\"\"') + '\", [$value] AS l')"
    )
    assert (
        "\\u202e" in shown.text
        and "\\x1b[31m\\x07" in shown.text
        and "\u202e" not in shown.text + shown.html
        and "\x1b" not in shown.text
    )
    assert "<img" not in shown.html and shown.html.count("&lt;img src=x onerror=1&gt;") == 3


@pytest.mark.parametrize(
    "place",
    [
        "http://user:geheim123@127.0.0.1:9/x.csv",
        "postgresql://u:geheim123@127.0.0.1:9/x",
        "s3://geheim123:geheim123@b/x.csv",
    ],
)
def test_a_credential_in_a_location_is_not_printed(cell, place):
    shown = cell(f"%jammi add web {place}")
    assert (
        shown.error is not None
        and "geheim123" not in "\n".join(shown.error) + shown.stream + shown.ename
    )


# -- values ----------------------------------------------------------------------------------------


def test_null_is_told_from_the_empty_text_from_blanks_and_from_its_own_name(papers):
    shown = papers(
        "%%jammi\nSELECT '' AS a, NULL AS b, ' ' AS c, 'NULL' AS d, 'null' AS e, chr(9) AS f, [NULL, ''] AS g"
    )
    assert rows(shown)[3].split() == [
        "''",
        "NULL",
        "'",
        "'",
        "'NULL'",
        "null",
        "'\\t'",
        "[NULL,",
        "'']",
    ]
    assert shown.html.count("font-style:italic") == 1


# -- sizes -----------------------------------------------------------------------------------------


def test_of_ten_million_rows_the_first_are_shown_and_no_more_is_held(papers):
    papers("%%jammi\nSELECT range AS n, 'x' || range AS t FROM range(1000)")
    shown, peak = cell_peak(
        papers, "%%jammi r\nSELECT range AS n, 'x' || range AS t FROM range(10000000)"
    )
    assert (
        rows(shown)[-1] == "first 20 rows"
        and rows(shown)[3].split() == ["0", "x0"]
        and len(shown.html) < 20_000
    )
    assert peak < 400  # all of them take more than 500 in Arrow alone; the engine reads some ahead


def test_of_two_thousand_columns_some_are_shown_and_the_others_counted(papers):
    papers("wide = 'SELECT ' + ', '.join(f'{i} AS c{i}' for i in range(2000)) + ' FROM range(30)'")
    shown = papers("r = get_ipython().run_cell_magic('jammi', '', wide)\nr")
    assert (
        len(shown.html) < 1_000_000
        and "and 1,800 more columns: c200, c201" in shown.html
        and "more columns: c18, c19" in shown.text
    )
    assert papers.value("len(r.columns)") == "2000"


def test_a_text_of_fifty_megabytes_is_cut_and_is_whole_in_the_result(papers):
    shown = papers("%%jammi r\nSELECT repeat('ä', 25000000) AS big")
    assert (
        "(25,000,000 characters)" in shown.html
        and len(shown.html) < 20_000
        and len(shown.text) < 400
    )
    assert papers.value("len(r.fetchall()[0][0])") == "25000000"


# -- workspaces ------------------------------------------------------------------------------------


def test_two_notebooks_on_one_workspace_see_what_the_other_does(papers, tmp_path, edited):
    other = Kernel()
    try:
        other(f"import os; os.chdir({str(tmp_path)!r})\n%load_ext jammi_lab")
        assert "papers" in other("%jammi").text
        assert other("%%jammi -m shared\nSELECT count(*) AS n FROM papers").text.startswith(
            "shared, version 1: computed"
        )
        assert papers("%%jammi -m shared\nSELECT count(*) AS n FROM papers").text.startswith(
            "shared, version 1: reused"
        )
        assert rows(papers("%%jammi r\nSELECT n FROM jammi.shared"))[3].strip() == "4"
        edited()
        other.run("%jammi recompute")
        assert rows(papers("%%jammi\nSELECT n FROM jammi.shared"))[3].strip() == "5"
        other.run("%jammi\n__import__('jammi_lab').get_workspace().drop('shared')")
        assert papers("%%jammi\nSELECT n FROM jammi.shared").ename == "TableNotFound"
        assert rows(papers("r"))[-1] == "1 row"  # what was read is read
    finally:
        other("%jammi close")
        other.close()


@pytest.mark.parametrize("how", ["removed", "moved", "replaced"])
def test_a_workspace_that_vanished_takes_nothing_any_more_says_so_and_is_opened_anew(
    chain, tmp_path, how
):
    chain("%%jammi r\nSELECT * FROM jammi.venues ORDER BY n")
    if how == "moved":
        (tmp_path / ".jammi").rename(tmp_path / "elsewhere")
    else:
        shutil.rmtree(tmp_path / ".jammi")
    if how == "replaced":
        chain.run("import jammi_lab as jl\njl.open('.jammi').close()")
    for code in (
        "%%jammi\nSELECT 1 AS one",
        "%%jammi -m late\nSELECT 1 AS one",
        "%jammi status",
        "%jammi",
        "%jammi add p papers.csv",
        "%%jammi_py s\n1",
    ):
        shown = chain(code)
        assert (
            shown.ename == "WorkspaceNotFound"
            and "'.jammi' was removed, moved or replaced" in shown.error[0]
            and "%jammi open" in shown.error[1]
        ), code
    assert rows(chain("r"))[-1] == "3 rows"
    opened = chain("%jammi open elsewhere" if how == "moved" else "%jammi open")
    assert opened.error is None
    assert ("venues" in chain("%jammi tables").text) == (how == "moved")
    assert chain("%%jammi -m late\nSELECT 1 AS one").text.startswith("late, version 1: computed")


def test_a_workspace_that_vanished_can_be_closed(chain, tmp_path):
    shutil.rmtree(tmp_path / ".jammi")
    assert chain("%jammi close").text == "The workspace is closed."
    assert "The workspace is empty" in chain("%jammi").text
