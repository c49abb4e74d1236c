"""Frames that remember their tables, in a real kernel: table → frame → a few lines of Python →
table."""

import pytest

from tests.kernel_ext.conftest import Kernel

NAMES = "import jammi_lab, pandas as pd, polars as pl\nws = jammi_lab.get_workspace()"
LATE = "%%jammi -m late -q\nSELECT id, year FROM papers"


@pytest.fixture
def late(papers: Kernel) -> Kernel:
    """A notebook with the table `late`."""
    papers.run(NAMES, LATE)
    return papers


def verdict(kernel: Kernel, name: str) -> str:
    return kernel.value(f"str(ws.staleness({name!r}))").strip("'\"")


def test_a_table_made_by_cells_from_a_frame_keeps_the_tables_above_it(late, edited):
    late.run(
        "df = ws.table('late').pandas()",
        "ages = df.assign(age=2026 - df.year)",
        "%%jammi -m out -q\nSELECT * FROM ages",
        "%%jammi -m same -q\nSELECT * FROM df",
        "ws.register('given', ages.groupby('age').size().reset_index(name='n'), producer='cells')",
    )
    assert verdict(late, "same") == "fresh"  # the very object that was read, so it is the table
    assert "jammi.late AS df" in late.value("ws.recipe('same').definition")
    assert "as far as the frame ages goes: made in cells [" in verdict(late, "out")
    assert "fresh*" in late("%jammi status").text
    edited()
    assert verdict(late, "out").endswith("by way of ages ← late")
    assert verdict(late, "same").endswith("by way of df ← late")
    late("ws.materialize('after', 'SELECT * FROM jammi.out')")
    assert "ages, made in cells [" in late.value("' '.join(ws.why('after').lines)")
    assert verdict(late, "given").startswith("possibly stale: papers changed")
    assert late.value("ws.sql('SELECT * FROM jammi.out').verdict").startswith("'out is possibly")
    assert "late is stale" in late("%%jammi\nSELECT * FROM ages").text
    late.run("ws.recompute('late')")
    assert "late changed, version 1 → 2" in verdict(late, "out")
    plan = late.value("ws.plan()._repr_html_()")  # a text leaves columns out that are too wide
    assert "blocked" in plan and "run cells [" in plan
    assert late.value("[s.outcome for s in ws.recompute('out').steps]") == "['blocked']"
    assert "out" in late.value("[n.name for n in ws.lineage('late').nodes]")
    late.run("df = ws.table('late').pandas()", "ages = df.assign(age=2026 - df.year)")
    late.run("ws.recompute('out')")
    assert verdict(late, "out").startswith("fresh")
    assert late.value("ws.table('out').row_count") == "5"


@pytest.mark.parametrize(
    ("code", "ground"),
    [
        ("exec('out_frame = df.copy()')", "uses exec, which is not followed"),
        (
            (
                "import threading\nworker = threading.Thread(target=lambda: df.insert(0, 'z', 1))\n"
                "worker.start(); worker.join()\nout_frame = df.copy()"
            ),
            "uses threading, which is not followed",
        ),
        (
            (
                "open('helper.py', 'w').write('def change(d): return d.copy()')\nimport sys\n"
                "sys.path.insert(0, '')\nimport helper\nout_frame = helper.change(df)"
            ),
            "uses the module helper, which is not followed",
        ),
        ("out_frame = pd.DataFrame({'id': [1]})", "as far as the frame out_frame goes"),
        (
            (
                "import sqlite3\nwith sqlite3.connect('notes.db') as db: "
                "db.execute('CREATE TABLE notes (id INTEGER)')\ndb.close()\n"
                "ws.sources.add('filed', 'notes.db')\n"
                "out_frame = ws.sql('FROM filed.notes').pandas()"
            ),
            "was not recorded",
        ),
    ],
    ids=["exec", "thread", "module", "elsewhere", "database"],
)
def test_what_cannot_be_followed_is_a_ground(late, code, ground):
    late.run("df = ws.table('late').pandas()", code, "%%jammi -m out -q\nSELECT id FROM out_frame")
    assert verdict(late, "out").startswith("fresh*, ") and ground in verdict(late, "out")


@pytest.mark.parametrize("code", ["df", "out_frame"], ids=["as-read", "changed"])
@pytest.mark.parametrize(
    "statement",
    [
        "SELECT id, year FROM papers",
        "SELECT x.id, y.year FROM (SELECT id FROM papers) x JOIN (SELECT id, year FROM papers) y USING (id)",
        "SELECT y.year, x.id FROM (SELECT id, year FROM papers) y JOIN (SELECT id FROM papers) x USING (id)",
    ],
    ids=["one", "narrow-first", "narrow-last"],
)
def test_a_table_made_by_cells_from_a_frame_of_a_file_is_stale_when_the_file_changes(
    late, tmp_path, statement, code
):
    cells = (
        f"%%jammi df --as pandas -q\n{statement}",
        "out_frame = df.assign(age=2026 - df.year)",
        f"%%jammi -m out -q\nSELECT year FROM {code}",
    )
    late.run(*cells)
    assert verdict(late, "out").startswith("fresh")
    papers = tmp_path / "papers.csv"
    papers.write_text(papers.read_text().replace("20", "19"))  # of the same size
    told = verdict(late, "out")
    assert told.startswith("possibly stale: papers changed") and told.endswith(
        f"by way of {code} ← papers"
    )
    assert late.value("[s.outcome for s in ws.recompute('out').steps]") == "['blocked']"
    late.run(*cells)
    assert verdict(late, "out").startswith("fresh")


def test_a_table_that_adds_to_itself_rests_on_what_it_was_first_made_from(late, edited):
    late.run(
        "%%jammi -m log -q\nSELECT * FROM jammi.late",
        "more = pd.concat([ws.table('log').pandas(), pd.DataFrame({'id': [9], 'year': [2000]})])",
        "%%jammi -m log -q\nSELECT * FROM more",
    )
    assert verdict(late, "log").startswith("fresh")
    edited()
    assert verdict(late, "log").endswith("by way of more ← late")


def test_a_cell_that_ran_several_times_is_named_once(late):
    late.run("df = ws.table('late').pandas()", *["df = df.assign(n=exec('1'))"] * 8)
    late.run("%%jammi -m out -q\nSELECT id FROM df")
    told = verdict(late, "out")
    cells = told.rpartition("made in cells ")[2].split(", ")
    assert len(cells) == 2 and told.count("uses exec") == 1, told
    assert int(cells[1].strip("[]")) - int(cells[0].strip("[]")) == 8  # as it ran last


def test_a_frame_that_is_too_large_to_be_compared_is_a_ground_unless_it_is_a_table(
    late,
):
    late.run(
        "import jammi_lab.sources.frames as f\nlimit, f.MAX_COMPARED_VALUES = f.MAX_COMPARED_VALUES, 7",
        "df = ws.sql('SELECT * FROM jammi.late WHERE id > 0').pandas()",
        "whole = ws.table('late').pandas()",
        "%%jammi -m out -q\nSELECT * FROM df",
        "%%jammi -m same -q\nSELECT * FROM whole",
        "f.MAX_COMPARED_VALUES = limit",
    )
    assert "too large to be compared with what was read" in verdict(late, "out")
    assert verdict(late, "same") == "fresh"


@pytest.mark.parametrize(
    "cells",
    [
        ("box = {'a': other}", "box = {'a': df}", "other['n'] = 1"),
        ("import math\nf = lambda d: d.assign(n=other.id.sum())", "n = math.sqrt(2)\ndf['n'] = n"),
        ("def f(df):\n    other = df.copy()\n    return other.assign(n=1)", "df = f(df)"),
        ("n = [other for other in [1, 2]]", "df['n'] = len(n)"),
    ],
    ids=["rebound", "late names of a module", "names of a function", "names of a comprehension"],
)
def test_what_a_cell_does_not_use_is_no_cause(late, tmp_path, edited, cells):
    (tmp_path / "others.csv").write_text("id\n1\n")
    late.run("%jammi add others others.csv", "%%jammi -m other -q\nFROM others")
    late.run("df = ws.table('late').pandas()", "other = ws.table('other').pandas()", *cells)
    late.run("%%jammi -m out -q\nSELECT * FROM df")
    with (tmp_path / "others.csv").open("a") as file:
        file.write("2\n")
    assert verdict(late, "out").startswith("fresh")
    edited()
    assert verdict(late, "out").endswith("by way of df ← late")


def test_nothing_is_kept_alive(late):
    late.run(
        "df = ws.table('late').pandas()",
        "import weakref, gc\nalive = weakref.ref(df)\nboxed = weakref.ref(df.assign(n=1))",
        "del df",
    )
    assert late.value("gc.collect() >= 0 and (alive(), boxed())") == "(None, None)"


def test_a_frame_read_again_by_a_cell_forgets_the_table_it_was_read_from_before(late, edited):
    cells = (
        "ws.recompute('late')",
        "%%jammi df --as pandas\nSELECT * FROM jammi.late",  # `_` holds the frame, too
        "%%jammi -m out -q\nSELECT year FROM df",
    )
    late.run(*cells)
    assert verdict(late, "out") == "fresh"
    edited()
    assert verdict(late, "out").endswith("by way of df ← late")
    late.run(*cells)
    assert verdict(late, "out") == "fresh"


@pytest.mark.parametrize(
    "code",
    [
        "%%jammi joined --as pandas\nSELECT id, $k AS k FROM jammi.late",
        "joined = ws.sql('SELECT id, $k AS k FROM jammi.late', {'k': k}).pandas()",
        "joined = ws.sql('SELECT id, $k AS k FROM jammi.late', params=dict(k=k)).pandas()",
        "k = k + 1\njoined = ws.sql('SELECT id, $k AS k FROM jammi.late', {'k': k}).pandas()",
        "given = {'k': k}\njoined = ws.sql('SELECT id, $k AS k FROM jammi.late', given).pandas()",
        "text = f'SELECT id, {k} AS k FROM jammi.late'\njoined = ws.sql(text).pandas()",
        "joined = ws.sql(f'SELECT id, {k} AS k FROM jammi.late').pandas()",
        (
            "def read(n):\n    return ws.sql(f'SELECT id, {n} AS k FROM jammi.late').pandas()\n"
            "joined = read(k)"
        ),
        "def read():\n    return ws.sql(f'SELECT id, {k} AS k FROM jammi.late').pandas()\njoined = read()",
    ],
)
def test_a_frame_rests_on_what_the_parameters_of_its_statement_were_made_from(late, tmp_path, code):
    (tmp_path / "other.csv").write_text("n\n1\n2\n")
    late.run(
        f"ws.sources.add('other', {str(tmp_path / 'other.csv')!r})",
        "%%jammi -m others -q\nFROM other",
        "k = int(ws.table('others').pandas().n.sum())",
        code,
        "%%jammi -m kept -q\nSELECT * FROM joined",
        "m = 7",
        "plain = ws.sql('SELECT id, $m AS m FROM jammi.late', {'m': m}).pandas()",
        "%%jammi -m unlike -q\nSELECT * FROM plain",
    )
    assert verdict(late, "unlike") == "fresh"
    (tmp_path / "other.csv").write_text("n\n1\n2\n3\n")
    assert verdict(late, "kept").endswith("by way of joined ← others"), verdict(late, "kept")
    assert verdict(late, "unlike") == "fresh"


READ = "ws.sql(f'SELECT id, {k} AS k FROM jammi.late')"


@pytest.mark.parametrize(
    "code",
    [
        f"joined = {READ}.pandas()\nws.register('kept', joined, producer='cells')",
        f"joined = {READ}.arrow()\nws.register('kept', joined, producer='cells')",
        f"ws.register('kept', {READ}.pandas(), producer='cells')",
        f"ws.register('kept', {READ}.arrow(), producer='cells')",
        f"joined = {READ}.polars()\nws.sources.add('kept_rows', joined)\nws.materialize('kept', 'FROM kept_rows')",
        f"n = k * 2\njoined = {READ.replace('{k}', '{n}')}.arrow()\nws.register('kept', joined, producer='cells')",
        f"for joined in [{READ}.arrow()]:\n    ws.register('kept', joined, producer='cells')",
    ],
)
def test_a_frame_that_is_stored_by_the_cell_that_reads_it_rests_on_its_statement(
    late, tmp_path, code
):
    (tmp_path / "other.csv").write_text("n\n1\n2\n")
    late.run(
        f"ws.sources.add('other', {str(tmp_path / 'other.csv')!r})",
        "%%jammi -m others -q\nFROM other",
        "k = int(ws.table('others').pandas().n.sum())",
        code,
        code.replace("kept", "unlike").replace("{k}", "3").replace("k * 2", "6"),
    )
    (tmp_path / "other.csv").write_text("n\n1\n2\n3\n")
    assert verdict(late, "kept").startswith("possibly stale: other changed"), verdict(late, "kept")
    if ".arrow()" in code:  # other frames the call that stores them could change
        assert verdict(late, "unlike").startswith("fresh"), verdict(late, "unlike")


def test_rows_of_a_frame_are_embedded_and_searched_by_its_name(late):
    late.run(
        "notes = pl.DataFrame({'k': [1, 2], 'text': ['apple pie', 'blue sky']})",
        "%jammi embed vectors notes --key k --text text --model hashing",
        "hits = ws.search('notes', 'blue', select='text', where=\"text <> 'apple pie'\")",
    )
    assert late.value("hits.fetchall()[0][:2]") == "(2, 1)"
    assert late.value("hits.arrow()['text'].to_pylist()") == "['blue sky']"
    late.run(
        "%jammi drop vectors",
        "words = ws.lexical('words', 'notes', key='k', text='text')",
        "notes = pl.DataFrame({'k': [1, 2], 'text': ['apple pie', 'apple tree']})",
    )
    assert verdict(late, "words").startswith("stale: notes changed")
    late.run("ws.recompute('words')", "%jammi search notes tree")
    assert late.value("_.arrow()['key'].to_pylist()") == "[2]"
