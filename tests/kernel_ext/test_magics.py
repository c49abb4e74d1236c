"""`%jammi` in a real kernel: what each line says, and the object that it returns."""

import base64
import os
import re
import sqlite3
import sys

import pytest

from tests.cases import cases

WS = "__import__('jammi_lab').get_workspace()"
VENUES = "%%jammi -m venues --bypass -q\nSELECT venue, count(*) AS n FROM papers GROUP BY venue"
TEXTS = "%%jammi -m texts -q\nSELECT * FROM (VALUES (1, 'graph networks'), (2, 'error E17'), (3, 'Error e18')) t(id, text)"
EMBED = "%jammi embed v texts --key id --text text --model hashing"
CLICKS = f"""{WS}.topics.register('clicks', {{'page': 'string', 'n': 'int64'}})
for n in range(12):
    {WS}.topics.publish('clicks', [{{'page': '<b>', 'n': n}}, {{'page': 'b', 'n': n}}])"""
LABELS = f"{WS}.mutable.create('labels', {{'id': 'int64', 'label': 'string'}}, primary_key=['id']);"
EDIT = "with open('papers.csv', 'a') as f: f.write('5,B,2024\\n')"
CHECK = "%%jammi --check few --on venues\nSELECT * FROM jammi.venues WHERE n < 0"
NEGATIVE = VENUES.replace("count", "-count")


def said(kernel, cells):
    """What the last cell says: its text, or its error."""
    for code in cells[:-1]:
        assert kernel(code).ename in ("", "StepFailed"), code
    shown = kernel(cells[-1])
    return "\n".join([shown.ename, shown.text, *(shown.error or [])])


@pytest.fixture
def edited(chain):
    """`chain` with a row more in its source."""
    chain(EDIT)
    return chain


@pytest.fixture
def three(papers):
    """Three versions of `venues`."""
    assert said(papers, [VENUES] * 3) == "\n"
    return papers


@pytest.fixture
def vectors(papers):
    """An embedding table `v` of the table `texts`."""
    said(papers, [TEXTS, EMBED])
    return papers


@pytest.fixture
def clicks(cell):
    """A topic with twice twelve events."""
    cell(CLICKS)
    return cell


@pytest.mark.parametrize(
    ("fixture", "cells", "words"),
    cases("cells/said", "fixture", "cells", "says"),
    ids=lambda value: str(value)[-40:],
)
def test_a_line_says_what_it_did_or_what_is_to_be_done(kernel, request, fixture, cells, words):
    """What the last cell says: text, or an error. Of a word behind ! the opposite."""
    # `kernel` by name: made within the test, its threads would count as the test's.
    text = said(request.getfixturevalue(fixture), cells)
    for word in words:
        assert (word.removeprefix("!") in text) != word.startswith("!"), (word, text)


@pytest.mark.parametrize(
    ("line", "expression", "value"),
    [
        ("status", "type(_).__name__, _['top'].version, len(_)", "('Status', 1, 2)"),
        ("tables", "[(x.name, x.version) for x in _]", "[('top', 1), ('venues', 1)]"),
        ("what-if papers", "_['venues'].reasons", "['papers changed (what if)']"),
        ("why venues", "type(_.verdict).__name__", "'Fresh'"),
        ("", f"_ is {WS}", "True"),
        ("verify", "sorted(_), type(_['top']).__name__", "(['top', 'venues'], 'Match')"),
        ("schema venues", "_", "venues\ncolumn  type"),
        ("expire top", "len(_)", "0"),
        ("sources", "_['papers'].name", "'papers'"),
    ],
)
def test_a_line_returns_what_it_shows_once(chain, line, expression, value):
    assert len(chain(f"%jammi {line}").data) == 1
    assert chain.value(expression).startswith(value)
    assert chain(f"x = %jammi {line}").data == []


def test_the_first_use_opens_the_folder_jammi(cell, tmp_path):
    assert not (tmp_path / ".jammi").exists()
    cell("%jammi")
    assert (tmp_path / ".jammi" / "catalog.sqlite3").exists()


def test_the_first_use_takes_the_workspace_that_a_variable_holds(cell, tmp_path):
    cell("import jammi_lab as jl\nws = jl.open('lab')\nagain = ws\nframe = ws.sql('SELECT 1 AS n')")
    cell("ws.materialize('t', 'SELECT 7 AS n')")
    shown = cell("%%jammi\nSELECT n FROM jammi.t")
    assert shown.error is None and "7" in shown.text
    assert not (tmp_path / ".jammi").exists()
    # it is the variable's, and another one in its place does not close it
    cell.run("%jammi open other")
    assert cell.value("ws.table('t').row_count, jl.get_workspace().path") == "(1, 'other')"


def test_the_first_use_does_not_choose_between_two_workspaces(cell, tmp_path):
    cell("import jammi_lab as jl\na, b = jl.open('lab'), jl.open('labs')")
    assert "The cells have no workspace yet. Here are lab, labs." in cell("%jammi").error[0]


def test_open_takes_another_folder_and_the_same_folder_again_is_the_same_workspace(
    papers, tmp_path
):
    papers("a = %jammi open lab\nb = %jammi open ./lab\nc = %jammi open")
    assert papers.value("a is b, a is c, a.path, c.path") == "(True, False, 'lab', '.jammi')"
    assert (tmp_path / "lab").is_dir()


def test_add_takes_the_column_that_says_whose_a_row_is(cell, tmp_path):
    (tmp_path / "orders.csv").write_text("id,owner\n1,acme\n2,globex\n3,\n")
    cell("%jammi add orders orders.csv --tenant-column owner\n%jammi tenant acme")
    ids = cell("%%jammi\nSELECT string_agg(id::VARCHAR, ' ' ORDER BY id) AS ids FROM orders")
    assert ids.text.splitlines()[3].strip() == "1 3"
    assert "rows by owner" in cell("%jammi sources").text


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        ("semi.txt", "--kind csv --option delimiter=;", "zip     varchar\nn       bigint"),
        (
            "codes.csv",
            """--option 'types={"zip": "VARCHAR"}' --option 'null=["-"]' """,
            "zip     varchar",
        ),
        ("codes.csv", "--option types=zip", """--option 'types={"zip": "VARCHAR"}'."""),
        ("codes.txt", "", "Set --option 'delim=;', or --kind text to"),
        ("tabs.txt", r"--option 'delim=\t'", "zip;n   varchar"),
    ],
)
def test_add_passes_options_on(cell, tmp_path, name, options, says):
    (tmp_path / name).write_text("zip;n\n-0;1\n")
    assert says in said(cell, [f"%jammi add codes {name} {options}\n%jammi schema codes"])


def test_schema_of_a_database_lists_its_tables_and_of_one_of_them_its_columns(cell, tmp_path):
    with sqlite3.connect(tmp_path / "crm.db") as file:
        file.execute("CREATE TABLE customers(id INTEGER, name TEXT)")
        file.execute("CREATE TABLE orders(a REAL)")
    file.close()
    assert "tables    customers, orders" in cell("%jammi add crm crm.db").text
    assert cell("%jammi schema crm").text == (
        "crm\ntable\n─────\ncustomers\norders\n2 tables; %jammi schema crm.customers shows the columns of one"
    )
    assert "\nid      bigint\nname    varchar\n" in cell("%jammi schema crm.customers").text


def test_edit_of_what_no_cell_makes_names_what_shows_its_definition(papers):
    papers("import jammi_lab\n%jammi embed v papers --key id --text venue --model hashing")
    shown = papers("%jammi edit v")
    assert shown.error[-1] == "jammi_lab.get_workspace().recipe('v') shows its definition."
    assert "embedding" in papers.value(shown.error[-1].removesuffix(" shows its definition."))


def test_why_gives_the_verdict_with_its_reasons(edited):
    top, way, cause = edited("%jammi why top").text.split("\n")
    assert (top, way) == ("top: possibly stale", "└─ venues")
    assert re.fullmatch(
        r"   └─ papers changed, 4 → 5 rows \(read .* UTC, seen .* UTC\), columns read: venue",
        cause,
    )


def test_a_drawing_is_an_image_in_both_forms_of_a_notebook(vectors):
    vectors("found = %jammi map v")
    html = vectors("print(found._repr_html_())").text
    [image] = re.findall(r'<img [^>]*src="data:image/svg\+xml;base64,([^"]+)"', html)
    drawing = base64.b64decode(image).decode()
    assert drawing.count("h0") == 3
    assert "<div" in html and "<script" not in html + drawing


def test_python_and_cells_see_one_workspace(papers):
    papers(f"{WS}.materialize('venues', 'SELECT DISTINCT venue FROM papers')")
    assert papers("%jammi tables").text.endswith("1 result table")


@pytest.mark.parametrize("how", ["failed", "rejected", "rejected at first"])
def test_a_recompute_with_a_failed_step_fails_its_cell_and_shows_the_report(three, how):
    name = "never" if how == "rejected at first" else "venues"
    if how == "failed":
        three("%%jammi -m venues\nSELECT CAST(venue AS INTEGER) AS a FROM papers WHERE id > 4")
        three("with open('papers.csv', 'a') as f: f.write('5,x,2024\\n')")
    elif how == "rejected":
        said(three, [CHECK, NEGATIVE])
    else:
        three(f"{WS}.define('never', 'SELECT -1 AS n')")
        three(CHECK.replace("venues", "never"))
    shown = three(f"%jammi recompute {name}")
    word = how.partition(" ")[0]
    assert shown.ename == "StepFailed" and f"1 step {word}: {name}" in shown.error[0]
    assert f"Run: 1 {word}" in shown.text
    assert ("shows the failing rows" in shown.error[-1]) == (word == "rejected")
    assert (word in three(f"%jammi history {name}").text) == (word == "rejected")


def test_a_relative_path_means_the_file_of_its_definition_wherever_the_kernel_is(cell, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "papers.csv").write_text("id,venue,year\n9,wrong,1900\n")
    cell.run("%%jammi -m t\nSELECT min(year) AS y FROM 'papers.csv'")
    cell("import os; os.chdir('elsewhere')")
    assert "fresh" in cell("%jammi status").text
    (tmp_path / "papers.csv").write_text("id,venue,year\n1,A,2001\n")
    assert "stale" in cell("%jammi status").text
    cell("%jammi recompute t")
    assert "2001" in cell("%%jammi\nSELECT y FROM jammi.t").text


# -- repairs ---------------------------------------------------------------------------------------


def test_fsck_names_what_it_found_and_repair_mends_it(three, tmp_path):
    results = tmp_path / ".jammi" / "results" / "_global"
    place = next(results.glob("*.json"))
    place.unlink()
    (results / "<b>.txt").write_text("not ours")
    shown = three("report = %jammi fsck\nreport")
    assert place.name in shown.text and "orphans" in shown.text
    assert "&lt;b&gt;.txt" in shown.html and "<b>.txt" not in shown.html
    assert three.value("report.orphans") == "['results/_global/<b>.txt']"
    assert "repaired" in three("%jammi fsck --repair --deep").text and place.exists()


def test_recover_shows_its_report_and_gives_it(three, tmp_path):
    next((tmp_path / ".jammi" / "results" / "_global").glob("*.json")).unlink()
    shown = three("report = %jammi recover\nreport")
    assert "1 table whose manifest was restored from the catalog" in shown.text
    assert "Recovery" in shown.html and three.value("len(report.healed)") == "1"


KILLED = """
import os, jammi_lab as jl
from jammi_lab.storage.files import install_fault_hook
ws = jl.open('.jammi')
install_fault_hook(lambda name: os._exit(9) if name == 'publish:sealed' else None)
ws.materialize('lost', 'SELECT 1 AS one')
"""


@pytest.mark.parametrize("first", ["%jammi", "%%jammi\nSELECT 1 AS one"])
def test_the_first_cell_says_what_opening_settled_and_the_next_does_not(
    cell, tmp_path, monkeypatch, first
):
    monkeypatch.chdir(tmp_path)
    paths = {"PYTHONPATH": cell.value("__import__('os').environ['PYTHONPATH']").strip("'")}
    command = [sys.executable, "-c", KILLED]
    assert os.spawnve(os.P_WAIT, sys.executable, command, {**os.environ, **paths}) == 9
    shown = cell(first)
    assert shown.text.count("1 table started but never finished, marked failed") == 1
    assert "Recovery" not in cell("%%jammi\nSELECT 1 AS one").text


# -- topics, sessions, changes ---------------------------------------------------------------------


def test_events_are_escaped(clicks):
    html = clicks("%jammi tail clicks -n 2").html
    assert "<b>" not in html and "&lt;b&gt;" in html


def test_a_session_is_opened_listed_and_closed(cell):
    cell("%jammi tenant acme")
    assert "No ephemeral session is open" in cell("%jammi ephemeral list").text
    cell("s = %jammi ephemeral open --timeout 60")
    cell("s.create('notes', {'id': 'int64'}, primary_key=['id']);")
    assert "Ephemeral session of acme: open" in cell("s").text
    assert "notes" in cell("%jammi ephemeral list").text
    assert "1 session closed" in cell("%jammi ephemeral close").text
    assert cell("s.count_rows('notes')").ename == "SessionClosed"


def test_a_change_in_a_cell_says_what_it_did_and_the_variable_holds_its_rows(papers):
    papers(f"{LABELS}\nimport polars\nmine = polars.DataFrame({{'id': [7, 8]}})\nthreshold = 1")
    for code, words in (
        ("r\nINSERT INTO mutable.labels SELECT id, venue FROM papers", "4 rows inserted into"),
        ("\nUPDATE mutable.labels SET label = 'x' WHERE id > $threshold", "3 rows updated in"),
        ("\nINSERT INTO mutable.labels SELECT id, NULL FROM mine", "2 rows inserted into"),
        ("\nINSERT INTO mutable.labels SELECT id, NULL FROM mine", "DuplicateKey"),
        ("\nDELETE FROM mutable.labels; SELECT count(*) AS n FROM mutable.labels", "0\n1 row"),
    ):
        assert words in said(papers, [f"%%jammi {code}"])
    assert papers.value("r.fetchall()") == "[(4,)]"


def test_check_text_reads_the_open_notebook_as_saved(papers):
    papers("%%jammi -m counted\nSELECT 36.4e0 + count(*) AS n FROM papers")
    unknown = papers("%jammi check-text").error
    assert unknown is not None and "The file of this notebook is not known here." in str(unknown)
    shown = papers(
        "import json, os\n"
        "text = {'cell_type': 'markdown', 'source': ['There are 40.4 and 0.7777.']}\n"
        "with open('n.ipynb', 'w') as file: json.dump({'cells': [text]}, file)\n"
        "os.environ['JPY_SESSION_NAME'] = os.path.abspath('n.ipynb')\n"
        "found = %jammi check-text\n"
        "del os.environ['JPY_SESSION_NAME']\n"
        "print([(each.cell, each.number, each.outcome) for each in found])"
    )
    assert shown.stream == "[(1, '40.4', 'backed'), (1, '0.7777', 'unfound')]\n"
