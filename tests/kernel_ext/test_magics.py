"""`%jammi` in a real kernel: what each line says, and the object that it returns."""

import base64
import os
import re
import sqlite3
import sys

import pytest

WS = "__import__('jammi_lab').get_workspace()"
VENUES = "%%jammi -m venues --bypass -q\nSELECT venue, count(*) AS n FROM papers GROUP BY venue"
TEXTS = "%%jammi -m texts -q\nSELECT * FROM (VALUES (1, 'graph networks'), (2, 'error E17'), (3, 'Error e18')) t(id, text)"
EMBED = "%jammi embed v texts --key id --text text --model hashing"
WORDS = "%jammi lexical w texts --key id --text text"
CLICKS = f"""{WS}.topics.register('clicks', {{'page': 'string', 'n': 'int64'}})
for n in range(12):
    {WS}.topics.publish('clicks', [{{'page': '<b>', 'n': n}}, {{'page': 'b', 'n': n}}])"""
LABELS = f"{WS}.mutable.create('labels', {{'id': 'int64', 'label': 'string'}}, primary_key=['id']);"
EDIT = "with open('papers.csv', 'a') as f: f.write('5,B,2024\\n')"
CHECK = "%%jammi --check few --on venues\nSELECT * FROM jammi.venues WHERE n < 0"
NEGATIVE = VENUES.replace("count", "-count")

# Fixture, cells, and what the last cell says: text, or an error. Of a word behind ! the opposite.
SAID = [
    ("cell", ["%jammi"], ["Workspace .jammi\nThe workspace is empty: %jammi add NAME LOCATION"]),
    ("chain", ["%jammi"], ["Workspace .jammi\n  sources  papers\n  tables   2 recipes: 2 fresh"]),
    ("papers", [LABELS, CLICKS, "%jammi"], ["mutable  labels", "topics   clicks"]),
    ("chain", ["%jammi close", "%jammi open --read-only"], ["open     read-only"]),
    (
        "chain",
        ["%jammi close", "%jammi open --read-only", "%%jammi -m x\nSELECT 1 AS one"],
        ["WorkspaceReadOnly"],
    ),
    ("chain", ["%jammi recompute --detach"], ["Nothing to do"]),
    ("chain", ["%jammi recompute nothing --detach"], ["TableNotFound"]),
    ("chain", ["%jammi stop"], ["No detached run is under way."]),
    (
        "chain",
        [EDIT, "%jammi recompute venues --detach"],
        ["Recompute runs in process ", "report is in .jammi/recompute.log"],
    ),
    ("papers", ["%jammi close"], ["The workspace is closed."]),
    ("papers", ["%jammi close", "%jammi close"], ["No workspace is open."]),
    ("papers", ["ws = %jammi", "%jammi close", "ws"], ["Workspace('.jammi', closed)"]),
    ("chain", ["%jammi close", "%jammi"], ["2 recipes: 2 fresh"]),
    ("papers", [f"{WS}.close()", "%jammi sources"], ["papers"]),
    ("cell", ["%jammi add papers papers.csv"], ["papers\n  kind      csv\n", "venue varchar"]),
    ("papers", ["%jammi sources"], ["papers", "1 source"]),
    ("cell", ["%jammi sources"], ["No sources yet: %jammi add NAME LOCATION registers one."]),
    ("papers", ["%jammi remove papers"], ["tables computed from it stay"]),
    ("chain", ["%jammi remove papers --tables"], ["source papers and 1 table computed from it."]),
    ("chain", ["%jammi remove papers --tables", "%jammi why top"], ["top: stale"]),
    ("chain", ["%jammi remove venues"], ["%jammi drop venues"]),
    ("cell", ["%jammi models"], ["0 registered versions; minilm and hashing come with jammi_lab"]),
    (
        "cell",
        [f"{WS}.models.register('mine', lambda texts: [[1.0, 2.0]], version=1)", "%jammi models"],
        ["mine           1           2"],
    ),
    ("chain", ["%jammi tables"], ["top", "2 result tables"]),
    ("chain", ["%jammi schema VENUES"], ["venue   varchar\nn       bigint"]),
    ("chain", ["%jammi schema jammi.venues"], ["venue   varchar\nn       bigint"]),
    ("chain", ["%jammi schema venue"], ["TableNotFound", "Did you mean jammi.venues?"]),
    ("papers", ["%jammi schema papers"], ["papers\ncolumn  type", "year    bigint\n3 columns"]),
    ("papers", ["%jammi preview papers -n 1"], ["     1  A          2020\nfirst row"]),
    ("chain", ["%jammi preview VENUES -n 2"], ["first 2 rows"]),
    ("chain", [f"venues = {WS}.table('venues')\n%jammi preview venues -n 2"], ["first 2 rows"]),
    ("edited", ["%jammi status"], ["2 recipes: 1 possibly stale, 1 stale", "by way of venues"]),
    ("chain", ["%jammi stale"], ["Nothing is stale: 2 of 2 recipes are fresh."]),
    (
        "edited",
        ["%%jammi -m other -q\nSELECT 1 AS one", "%jammi stale"],
        ["venues", "!other"],
    ),
    ("chain", ["%jammi what-if papers"], ["1 possibly stale, 1 stale", "nothing was changed"]),
    ("chain", ["%jammi what-if venues"], ["2 recipes: 1 fresh, 1 stale"]),
    ("chain", ["%jammi what-if paper"], ["TableNotFound", "Did you mean papers?"]),
    ("chain", ["%jammi verify top"], ["match"]),
    ("chain", ["%jammi verify"], ["name    result\n──────  ──────\ntop     match\nvenues  match"]),
    ("edited", ["%jammi lineage venues --up"], ["papers", "!top"]),
    ("edited", ["%jammi lineage venues --down"], ["top", "!papers"]),
    ("edited", ["%jammi lineage top"], ["└─ venues (sql, version 1): stale\n   └─ top (sql, "]),
    ("chain", ["%jammi lineage top --up --columns"], ["  n     ← by papers.venue"]),
    ("edited", ["%jammi plan"], ["Plan: 1 to recompute, 1 to recompute if needed"]),
    ("edited", ["%jammi recompute --dry-run"], ["Plan: 1 to recompute"]),
    ("edited", ["%jammi recompute"], ["Run: 2 computed"]),
    (
        "edited",
        ["%jammi recompute", "%jammi plan"],
        ["Nothing to do: no table is known to be stale."],
    ),
    ("edited", ["r = %jammi recompute venues", "r.executed"], ["['venues']"]),
    ("edited", ["%jammi recompute nothing"], ["TableNotFound"]),
    # settings
    ("cell", ["%jammi config"], ["cells.limit"]),
    ("cell", ["%jammi config cells.limit 7", "%jammi config cells.limit"], ["cells.limit  7"]),
    ("cell", ["%jammi config cells.limits 7"], ["Did you mean cells.limit"]),
    ("cell", ["%jammi config cells.limit 0"], ["cells.limit takes an integer from 1 to"]),
    ("cell", ["%jammi config cells.badge weit"], ["Did you mean wait?"]),
    (
        "cell",
        ["%jammi open", "%jammi config engine.threads 1"],
        ["%jammi close, then %jammi config engine.threads VALUE"],
    ),
    (
        "cell",
        ["%jammi config engine.threads 1", "%jammi open", "%jammi config engine.threads"],
        ["engine.threads  1"],
    ),
    (
        "cell",
        [
            "%jammi config engine.threads 1",
            "%jammi open\n%jammi close",
            "%jammi open",
            "%jammi config engine.threads",
        ],
        ["engine default"],
    ),
    # help
    ("cell", ["%jammi help"], ["keep true", "recompute", "%jammi help all"]),
    (
        "cell",
        ["%jammi help all"],
        ["%jammi recompute [NAME …]", "--materialize", "\n· Keep true\n"],
    ),
    ("cell", ["%jammi help verdicts"], ["possibly stale"]),
    ("cell", ["%jammi help -n"], ["number of rows to show"]),
    *(
        ("cell", [line], [line.split()[0]])
        for line in ("%jammi recompute x -h", "%jammi --help", "%%jammi --help\n ", "%%jammi_py -h")
    ),
    # vectors and words
    ("papers", [TEXTS, EMBED], ["v, version 1: computed", " new, 0 changed, 0 removed"]),
    ("papers", [TEXTS, EMBED, EMBED], ["reused", "0 new, 0 changed"]),
    ("papers", ["%jammi embed v papers --key year --text"], ["--key K --text C …"]),
    (
        "papers",
        [TEXTS, EMBED, "%jammi search v 'error E17' -k 1 --select text"],
        ["error E17", "!graph"],
    ),
    (
        "papers",
        [TEXTS, EMBED, "%jammi search v error --where 'id > 2' --select text"],
        ["e18", "!E17"],
    ),
    (
        "papers",
        [TEXTS, EMBED, WORDS, "%jammi search v E17 --words w -k 1 --select text"],
        ["rank_words", "error E17"],
    ),
    (
        "papers",
        [TEXTS, f"{WORDS} --analyzer exact", "%jammi search w E17 --select text"],
        ["E17", "!e18"],
    ),
    ("papers", [f"{WORDS} --analyzer fast"], ["takes english, simple or exact, not 'fast'"]),
    (
        "chain",
        ["%jammi search venues kyoto"],
        ["%jammi embed NAME venues --key K --text C", "%jammi lexical"],
    ),
    ("vectors", ["%jammi graph g v -k 2"], ["kind       neighbor_graph", "6 rows"]),
    ("vectors", ["%jammi graph g v -k 2", "%jammi graph g v -k 2"], ["reused"]),
    ("vectors", ["%jammi graph g v", "%jammi graph g v --bypass"], ["computed"]),
    (
        "vectors",
        ["n = %jammi neighbors v 3 -k 2 --select text", "print(n)"],
        ["Nearest to 3 in v", "error E17"],
    ),
    ("vectors", ["n = %jammi neighbors v", "print(n)"], ["Nearest to 1 in v\n"]),
    (
        "vectors",
        ["m = %jammi map v", "print(m)"],
        ["key", "3 rows of v along the two directions"],
    ),
    ("vectors", ["%jammi neighbors v 99"], ["RowNotFound"]),
    ("vectors", ["%jammi graph g v --min-similarity high"], ["takes a number, not 'high'"]),
    ("vectors", ["%jammi graph g v", "%jammi map g"], ["SchemaMismatch", "neighbor_graph"]),
    # versions
    ("three", ["%jammi expire venues --keep 2"], ["venues: 1 table removed."]),
    (
        "three",
        ["%jammi expire venues", "%jammi expire venues"],
        ["venues: there are no versions to remove."],
    ),
    ("three", ["%jammi expire venue"], ["TableNotFound", "Did you mean venues?"]),
    ("three", ["%jammi history venues"], ["3 versions; %jammi diff venues 2 3 shows the rows"]),
    ("three", ["%jammi diff venues"], ["venues, version 2 → 3: no row differs"]),
    ("three", ["%jammi diff venues 1"], ["version 1 → 3"]),
    ("three", ["%jammi diff venues 1 2"], ["version 1 → 2"]),
    ("three", ["%jammi restore venues 1"], ["version 4"]),
    ("three", ["%jammi restore venues x"], ["V of %jammi restore takes a positive integer"]),
    ("three", ["%jammi export venues venues.csv"], ["venues.csv"]),
    ("three", ["%jammi rename venues places"], ["venues is now called places."]),
    ("three", ["%jammi drop venues"], ["Removed the recipe venues and its versions."]),
    ("three", ["%jammi edit papers"], ["TableNotFound", "'papers' is a source, not a recipe"]),
    ("three", [CHECK, NEGATIVE], ["CheckFailed"]),
    # upkeep
    ("three", ["%jammi fsck"], ["No problems found"]),
    ("three", ["%jammi recover"], ["recovery: nothing to do"]),
    # tenants, topics, sessions
    ("cell", ["%jammi tenant"], ["No tenant is bound: only objects shared by all tenants"]),
    ("cell", ["%jammi tenant acme"], ["The bound tenant is acme."]),
    ("cell", ["%jammi tenant acme", "%jammi tenant --none"], ["No tenant"]),
    ("cell", ["%jammi tenant _x"], ["NameInvalid"]),
    ("cell", ["%jammi topics"], ["No topics yet"]),
    ("cell", [CLICKS, "%jammi topics"], ["clicks", "page string, n int64", "12"]),
    ("cell", [CLICKS, "%jammi tail clicks -n 2"], ["11", "! 9 "]),
    ("cell", [CLICKS, "%jammi tail click"], ["TopicNotFound", "clicks"]),
    ("cell", ["%jammi ephemeral open"], ["NoTenantBinding"]),
    ("cell", ["%jammi ephemeral close"], ["No session is open here"]),
]


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


@pytest.mark.parametrize(("fixture", "cells", "words"), SAID, ids=lambda value: str(value)[-40:])
def test_a_line_says_what_it_did_or_what_is_to_be_done(kernel, request, fixture, cells, words):
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


@pytest.mark.parametrize(
    ("line", "rectangles", "circles"), [("neighbors v 3 -k 2", 2, 0), ("map v", 0, 3)]
)
def test_a_drawing_is_an_image_in_both_forms_of_a_notebook(vectors, line, rectangles, circles):
    vectors(f"found = %jammi {line}")
    html = vectors("print(found._repr_html_())").text
    [image] = re.findall(r'<img [^>]*src="data:image/svg\+xml;base64,([^"]+)"', html)
    drawing = base64.b64decode(image).decode()
    assert (drawing.count("<rect"), drawing.count("h0")) == (rectangles, circles)
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
    assert cell("%%jammi -m t\nSELECT min(year) AS y FROM 'papers.csv'").error is None
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


def test_events_are_escaped(cell):
    cell(CLICKS)
    html = cell("%jammi tail clicks -n 2").html
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
