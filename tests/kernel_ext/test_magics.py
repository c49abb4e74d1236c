"""`%jammi` in a real kernel: each verb shows what it says and returns the object that it shows."""

import re
import sqlite3

import pytest


@pytest.fixture
def edited(chain, tmp_path):
    with (tmp_path / "papers.csv").open("a") as file:
        file.write("5,B,2024\n")
    return chain


def test_the_first_use_opens_the_folder_jammi_and_says_where_one_is(cell, tmp_path):
    assert not (tmp_path / ".jammi").exists()
    shown = cell("%jammi")
    assert (tmp_path / ".jammi" / "catalog.sqlite3").exists()
    assert (
        shown.text
        == "Workspace .jammi\nThe workspace is empty: %jammi add NAME LOCATION registers a source."
    )


def test_where_names_the_sources_and_counts_the_verdicts(chain):
    assert (
        chain("%jammi").text == "Workspace .jammi\n  sources  papers\n  tables   2 recipes: 2 fresh"
    )
    assert (
        chain.value(
            "__import__('jammi_lab').get_workspace() is get_ipython().run_line_magic('jammi', '')"
        )
        == "True"
    )


def test_open_takes_another_folder_and_the_same_folder_again_is_the_same_workspace(
    papers, tmp_path
):
    papers("a = %jammi open lab\nb = %jammi open ./lab\nc = %jammi open")
    assert papers.value("a is b, a is c, a.path, c.path") == "(True, False, 'lab', '.jammi')"
    assert (tmp_path / "lab").is_dir()


def test_open_read_only_refuses_changes(chain):
    chain("%jammi close\n%jammi open --read-only")
    assert chain("%%jammi -m x\nSELECT 1 AS one").ename == "WorkspaceReadOnly"
    assert "open     read-only" in chain("%jammi").text


def test_close_closes_and_the_next_use_opens_again(chain):
    chain("ws = %jammi")
    assert chain("%jammi close").text == "The workspace is closed."
    assert chain("%jammi close").text == "No workspace is open."
    assert chain("ws").text == "Workspace('.jammi', closed)"
    assert chain("%jammi").text.endswith("2 recipes: 2 fresh")


def test_a_workspace_closed_in_python_is_opened_again_on_the_next_use(papers):
    papers("import jammi_lab as jl; jl.get_workspace().close()")
    assert "papers" in papers("%jammi sources").text


def test_add_shows_the_source_and_sources_lists_it_and_remove_forgets_it(cell):
    shown = cell("s = %jammi add papers papers.csv --anchor content\ns")
    assert (
        shown.text.startswith("papers\n  kind      csv\n")
        and "id bigint, venue varchar, year bigint" in shown.text
    )
    assert cell("%jammi sources").text.endswith("1 source") and cell.value("s.name") == "'papers'"
    assert "tables computed from it stay" in cell("%jammi remove papers").text
    assert cell("%jammi sources").text == "No sources yet: %jammi add NAME LOCATION registers one."


def test_remove_takes_the_tables_made_from_it_along_when_that_is_said(chain):
    assert (
        chain("%jammi remove papers --tables").text
        == "Removed the source papers and 1 table computed from it."
    )
    assert chain("%jammi tables").text.endswith("1 result table") and chain(
        "%jammi why top"
    ).text.startswith("top: stale")


def test_add_takes_the_column_that_says_whose_a_row_is(cell, tmp_path):
    (tmp_path / "orders.csv").write_text("id,owner\n1,acme\n2,globex\n3,\n")
    cell("%jammi add orders orders.csv --tenant-column owner")
    cell("%jammi tenant acme")
    assert (
        cell("%%jammi\nSELECT string_agg(id::VARCHAR, ' ' ORDER BY id) AS ids FROM orders")
        .text.splitlines()[3]
        .strip()
        == "1 3"
    )
    assert "rows by owner" in cell("%jammi sources").text


def test_add_passes_options_of_the_kind_on(cell, tmp_path):
    (tmp_path / "semi.txt").write_text("a;b\n1;2\n")
    cell("%jammi add semi semi.txt --kind csv --option delimiter=;")
    assert cell("%jammi schema semi").text.startswith(
        "semi\ncolumn  type\n──────  ────\na       bigint\nb       bigint"
    )


@pytest.mark.parametrize(
    "options",
    [
        """--option 'types={"zip": "VARCHAR"}' """,
        """--option header=True --option 'types={"zip": "VARCHAR"}' --option 'null=["-"]' """,
    ],
)
def test_add_takes_options_that_are_dicts_and_lists(cell, tmp_path, options):
    (tmp_path / "codes.csv").write_text("zip,n\n01234,1\n")
    cell(f"%jammi add codes codes.csv {options}")
    assert "zip     varchar" in cell("%jammi schema codes").text


def test_options_of_a_wrong_type_are_told_with_an_example(cell, tmp_path):
    (tmp_path / "codes.csv").write_text("zip,n\n01234,1\n")
    said = cell("%jammi add codes codes.csv --option types=zip").error
    assert said[-1] == """Use an SQL type: --option 'types={"zip": "VARCHAR"}'."""


def test_models_lists_what_is_registered_and_what_comes_along(cell):
    assert cell("%jammi models").text.endswith(
        "0 registered versions; minilm and hashing come with jammi_lab"
    )
    cell(
        "m = %jammi models\nmine = m.register('mine', lambda texts: [[1.0, 2.0]] * len(texts), version=1)"
    )
    assert (
        "mine           1           2" in cell("%jammi models").text
        and cell.value("m.get('mine').key") == "'mine::1'"
    )


def test_tables_lists_versions_newest_first(chain):
    chain("t = %jammi tables")
    assert chain.value("[(x.name, x.version) for x in t]") == "[('top', 1), ('venues', 1)]"
    assert chain("t").text.endswith("2 result tables")


@pytest.mark.parametrize("name", ["venues", "VENUES", "jammi.venues"])
def test_schema_and_preview_take_result_tables(chain, name):
    assert (
        "venue   varchar\nn       bigint" in chain(f"%jammi schema {name}").text
        or "venue   string" in chain(f"%jammi schema {name}").text
    )
    assert chain(f"%jammi preview {name} -n 2").text.endswith("first 2 rows")


def test_schema_and_preview_take_sources(papers):
    assert (
        papers("%jammi schema papers").text
        == "papers\ncolumn  type\n──────  ────\nid      bigint\nvenue   varchar\nyear    bigint\n3 columns"
    )
    assert papers("r = %jammi preview papers -n 1\nr").text.endswith(
        "     1  A          2020\nfirst row"
    )


def test_schema_of_a_database_lists_its_tables_and_of_one_of_them_its_columns_in_sql_s_types(
    cell, tmp_path
):
    with sqlite3.connect(tmp_path / "crm.db") as file:
        file.execute("CREATE TABLE customers(id INTEGER, name TEXT)")
        file.execute("CREATE TABLE orders(a REAL)")
    file.close()
    assert "tables    customers, orders" in cell("%jammi add crm crm.db").text
    assert cell("%jammi schema crm").text == (
        "crm\ntable\n─────\ncustomers\norders\n2 tables; %jammi schema crm.customers shows the columns of one"
    )
    assert (
        cell("%jammi schema crm.customers").text
        == "crm.customers\ncolumn  type\n──────  ────\nid      bigint\nname    varchar\n2 columns"
    )


def test_schema_of_an_unknown_name_suggests_one(chain):
    shown = chain("%jammi schema venue")
    assert shown.ename == "TableNotFound" and "Did you mean venues?" in shown.error


def test_status_shows_every_recipe_and_is_the_object(edited):
    shown = edited("s = %jammi status\ns")
    assert shown.text.startswith("2 recipes: 1 possibly stale, 1 stale")
    assert "by way of venues" in shown.text and "<table" in shown.html
    assert edited.value("type(s).__name__, s['top'].version, len(s)") == "('Status', 1, 2)"


def test_a_line_as_the_last_expression_is_shown_once(chain):
    assert len(chain("%jammi status").data) == 1
    assert chain("x = %jammi status").data == []


def test_stale_shows_only_what_is_not_fresh(chain, tmp_path):
    assert chain("%jammi stale").text == "Nothing is stale: 2 of 2 recipes are fresh."
    (tmp_path / "papers.csv").write_text("id,venue,year\n1,A,2020\n")
    chain("%%jammi -m other -q\nSELECT 1 AS one")
    text = chain("%jammi stale").text
    assert "venues" in text and "other" not in text


def test_why_gives_the_verdict_with_its_reasons(edited):
    top, way, cause = edited("%jammi why top").text.split("\n")
    assert (top, way) == ("top: possibly stale", "└─ venues")
    assert re.fullmatch(
        r"   └─ papers changed, 4 → 5 rows \(read .* UTC, seen .* UTC\), columns read: venue",
        cause,
    )
    assert (
        edited.value("type(get_ipython().run_line_magic('jammi', 'why venues').verdict).__name__")
        == "'Stale'"
    )


def test_what_if_shows_the_status_as_it_would_be_and_changes_nothing(chain):
    text = chain("s = %jammi what-if papers\ns").text
    assert text.startswith("2 recipes: 1 possibly stale, 1 stale") and text.endswith(
        "hypothetical; nothing was changed"
    )
    assert chain.value("s['venues'].reasons") == "['papers changed (what if)']"
    assert chain("%jammi what-if venues").text.startswith("2 recipes: 1 fresh, 1 stale")
    assert chain("%jammi stale").text == "Nothing is stale: 2 of 2 recipes are fresh."
    assert chain("%jammi what-if").ename == "InvalidArgument"
    shown = chain("%jammi what-if paper")
    assert shown.ename == "TableNotFound" and "Did you mean papers?" in shown.error


def test_lineage_by_column_names_the_columns(chain):
    shown = chain("%jammi lineage top --up --columns")
    assert (
        "venues (sql, version 1): fresh" in shown.text
        and "  n     ← by papers.venue" in shown.text.split("\n")
    )
    assert 'src="data:image/svg+xml;base64,' in shown.html and "papers.venue" in shown.html


def test_sql_reads_what_the_workspace_knows(edited):
    shown = edited("%%jammi\nSELECT name, verdict FROM jammi_catalog.status ORDER BY name")
    assert "possibly_stale" in shown.text and "2 rows" in shown.text
    assert "jammi_catalog.lineage" in edited("%%jammi -n 50\nSHOW TABLES").text


def test_verify_answers_for_one_or_for_all(chain):
    assert chain("%jammi verify top").text == "match"
    assert (
        chain("%jammi verify").text
        == "name    result\n──────  ──────\ntop     match\nvenues  match"
    )


def test_lineage_is_a_picture_and_a_tree_with_verdict_words(edited):
    shown = edited("%jammi lineage top")
    assert shown.text.split("\n")[:-1] == [  # and the time of the look
        "papers (source): changed: 4 → 5 rows",
        "└─ venues (sql, version 1): stale",
        "   └─ top (sql, version 1): possibly stale ←",
    ]
    assert 'src="data:image/svg+xml;base64,' in shown.html and "possibly stale" in shown.html
    assert (
        "top" not in edited("%jammi lineage venues --up").text
        and "papers" not in edited("%jammi lineage venues --down").text
    )
    assert edited("%jammi lineage venues --up --down").ename == "InvalidArgument"


def test_plan_runs_nothing_and_recompute_makes_everything_fresh(edited):
    assert edited("%jammi plan").text.startswith("Plan: 1 to recompute, 1 to recompute if needed")
    assert edited("%jammi recompute --dry-run").text.startswith("Plan: ")
    assert edited.value("get_ipython().run_line_magic('jammi', 'status')['venues'].version") == "1"
    assert edited("r = %jammi recompute\nr").text.startswith("Run: 2 computed")
    assert edited.value("r.executed") == "['venues', 'top']"
    assert edited("%jammi plan").text == "Nothing to do: no table is known to be stale."


def test_recompute_takes_names(edited):
    edited("%%jammi -m other -q\nSELECT count(*) AS n FROM papers WHERE year < 1000")
    edited("r = %jammi recompute venues other")
    assert edited.value("r.executed") == "['venues']"
    assert edited("%jammi recompute nothing").ename == "TableNotFound"


def test_a_setting_that_is_given_while_nothing_is_open_holds_for_what_is_opened_next(cell):
    cell("%jammi open")
    assert "%jammi close, then %jammi config engine.threads VALUE" in "".join(
        cell("%jammi config engine.threads 1").error
    )
    cell("%jammi close")
    assert "Did you mean engine.threads" in cell("%jammi config engine.thread 1").error[1]
    assert cell("%jammi config engine.threads 1").text.endswith("1")
    assert cell("%jammi open\n%jammi config engine.threads").text.endswith("1")
    cell("%jammi close")
    assert cell("%jammi open\n%jammi config engine.threads").text.endswith("engine default"), (
        "until it is closed"
    )


def test_config_shows_sets_and_refuses(cell):
    assert "cells.limit" in cell("%jammi config").text
    assert cell("%jammi config cells.limit 7").text.endswith("7") and cell(
        "%jammi config cells.limit"
    ).text.endswith("7")
    assert "Did you mean cells.limit" in cell("%jammi config cells.limits 7").error[1]
    assert "takes an integer of at least 1" in cell("%jammi config cells.limit many").error[0]
    assert "short or full" in cell("%jammi config cells.traceback long").error[0]


def test_help_lists_what_can_be_typed(cell):
    text = cell("%jammi help").text
    assert (
        "%jammi recompute [NAME …]" in text
        and "--materialize" in text
        and "\n· Vectors\n%jammi embed NAME SOURCE" in text
    )
    assert (
        "--dry-run" in cell("%jammi help recompute").text
        and "number of rows to show" in cell("%jammi help -n").text
    )


def test_python_and_cells_see_one_workspace(papers):
    papers(
        "import jammi_lab as jl; ws = jl.get_workspace(); ws.materialize('venues', 'SELECT DISTINCT venue FROM papers')"
    )
    assert papers("%jammi tables").text.endswith("1 result table")


def test_embed_makes_vectors_and_says_what_was_new(papers, tmp_path):
    papers("%%jammi -m texts\nSELECT id, 'paper ' || id AS text FROM papers")
    shown = papers("t = %jammi embed v texts --key id --text text --model hashing\nt")
    assert (
        "v, version 1: computed" in shown.text
        and " new, 0 changed, 0 removed, 0 unchanged" in shown.text
    )
    again = papers("%jammi embed v texts --key id --text text --model hashing")
    assert "reused" in again.text and "0 new, 0 changed" in again.text


def test_embed_without_key_or_text_says_what_it_needs(papers):
    for line in (
        "embed v papers --text venue",
        "embed v papers --key year",
        "embed v papers --key year --text",
    ):
        shown = papers(f"%jammi {line}")
        assert shown.ename == "InvalidArgument" and "--key K --text C …" in "".join(shown.error)


def test_search_shows_the_most_similar_rows(papers):
    papers(
        "%%jammi -m texts\nSELECT * FROM (VALUES (1, 'graph networks'), (2, 'tomato sauce'), (3, 'more tomatoes')) t(id, text)"
    )
    papers("%jammi embed v texts --key id --text text --model hashing")
    shown = papers("%jammi search v 'tomato sauce' -k 2 --select text")
    assert (
        "tomato sauce" in shown.text and "more tomatoes" in shown.text and "graph" not in shown.text
    )
    assert (
        "more tomatoes"
        in papers("%jammi search v tomato sauce --where 'id > 2' --select text").text
    )
    assert papers("%jammi search v x -k many").ename == "InvalidArgument"
    assert papers("%jammi search w x").ename == "TableNotFound"


def test_lexical_indexes_words_which_search_finds_alone_and_beside_vectors(papers):
    papers(
        "%%jammi -m texts\nSELECT * FROM (VALUES (1, 'graph networks'), (2, 'error E17'), (3, 'Error e18')) t(id, text)"
    )
    shown = papers("%jammi lexical w texts --key id --text text --analyzer exact")
    assert not shown.ename and "w" in papers("%jammi tables").text
    assert "reused" in papers("%jammi lexical w texts --key id --text text --analyzer exact").text
    assert "E17" in papers("%jammi search w E17 --select text").text
    assert "e18" not in papers("%jammi search w E17 --select text").text
    papers("%jammi embed v texts --key id --text text --model hashing")
    both = papers("%jammi search v E17 --words w -k 1 --select text").text
    assert "rank_words" in both and "error E17" in both
    assert papers("%jammi lexical w texts --key id").ename == "InvalidArgument"
    assert (
        papers("%jammi lexical w texts --key id --text text --analyzer fast").ename
        == "InvalidArgument"
    )


@pytest.mark.parametrize(
    "line",
    [
        "%jammi embed --help",
        "%jammi recompute x -h",
        "%jammi --help",
        "%%jammi --help\n ",
        "%%jammi_py --help\n ",
    ],
)
def test_every_line_explains_itself_when_asked(cell, line):
    shown = cell(line)
    assert shown.error is None and line.split()[0] in shown.text


def test_a_recompute_with_a_failed_step_fails_its_cell_and_shows_the_report(cell, tmp_path):
    (tmp_path / "n.csv").write_text("a\n1\n")
    cell("%jammi add n n.csv")
    cell("%%jammi -m t\nSELECT CAST(a AS INTEGER) AS a FROM n")
    (tmp_path / "n.csv").write_text("a\nx\n")
    shown = cell("r = %jammi recompute")
    assert shown.ename == "StepFailed" and "1 step failed: t" in "\n".join(shown.error)
    assert "Run: 1 failed" in shown.text


def test_a_relative_path_means_the_file_of_its_definition_wherever_the_kernel_is(cell, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "papers.csv").write_text("id,venue,year\n9,wrong,1900\n")
    assert cell("%%jammi -m t\nSELECT min(year) AS y FROM 'papers.csv'").error is None
    cell("import os; os.chdir('elsewhere')")
    assert "fresh" in cell("%jammi status").text
    (tmp_path / "papers.csv").write_text("id,venue,year\n1,A,2001\n")
    assert "stale" in cell("%jammi status").text
    cell("%jammi recompute t")
    assert "2001" in cell("%%jammi\nSELECT y FROM jammi.t").text
