"""Rows of a catalog that somebody else wrote: values of types that no release stores."""

import contextlib
import json
import sqlite3
import threading

import pytest

import jammi_lab as jl
from jammi_lab.cli import main
from tests.store.test_links import limit


@pytest.fixture
def lab(tmp_path):
    with jl.open(tmp_path / "lab") as ws:
        ws.materialize("t", "SELECT 42 AS n")
    return tmp_path / "lab"


def change(lab, statement, values=()):
    with contextlib.closing(sqlite3.connect(lab / "catalog.sqlite3")) as db, db:
        db.execute(statement, values)


@pytest.mark.parametrize("last", ["x", 2**63 - 1])
def test_a_counter_of_versions_that_counts_no_further_is_damage(lab, last):
    change(lab, "UPDATE version_counters SET last = ?", [last])
    with jl.open(lab) as ws, pytest.raises(jl.errors.TableDamaged, match="The catalog is damaged"):
        ws.materialize("t", "SELECT 43 AS n")


def test_a_count_of_commits_that_is_no_number_is_a_loss(lab):
    change(lab, "UPDATE meta SET value = 'x' WHERE key = 'commits'")
    (lab / "catalog.sqlite3-commits").write_bytes(b"00000000000000000003")
    with jl.open(lab) as ws:
        assert ws.recovery.damaged_log


ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT"


@pytest.mark.parametrize(
    "statements",
    f"""ALTER TABLE recipes RENAME TO r; CREATE VIEW recipes AS {ENDLESS} r.* FROM r, n
CREATE TRIGGER w AFTER INSERT ON writers BEGIN {ENDLESS} i FROM n; END
DROP TABLE models; CREATE VIRTUAL TABLE models USING fts5(x)
DROP TABLE aliases; CREATE TABLE aliases (name TEXT, target TEXT AS (instr(name, 'x')))
CREATE INDEX i ON writers (instr(host, 'x'))
CREATE INDEX i ON writers (host) WHERE instr(host, 'x')
CREATE TABLE x (host TEXT, CHECK (instr(host, 'x')))""".splitlines(),
)
@pytest.mark.product
def test_a_catalog_that_runs_code_in_place_of_reading_rows_is_refused(lab, statements):
    with contextlib.closing(sqlite3.connect(lab / "catalog.sqlite3")) as db:
        db.executescript(statements)
    for read_only in True, False:
        with pytest.raises(jl.errors.WorkspaceNotFound, match="a database of another program"):
            jl.open(lab, read_only=read_only)
    jl.rebuild(lab)
    with jl.open(lab) as ws:
        assert ws.sql("FROM jammi.t").fetchall() == [(42,)]


CONTRADICTIONS = [
    "UPDATE result_tables SET table_fold = 'x' || table_fold",
    'UPDATE result_tables SET anchors = replace(anchors, \'"name":"v"\', \'"name":"p"\')',
]


@pytest.mark.every_case
@pytest.mark.parametrize("statement", CONTRADICTIONS)
def test_rows_that_contradict_each_other_keep_nothing_in_a_loop(tmp_path, statement):
    """The name of a table is found and its row is not; vectors were propagated from themselves."""
    texts, edges = "SELECT 1 AS id, 'a fox' AS body", "SELECT 1 AS src, 1 AS dst"
    with jl.open(tmp_path / "lab") as ws:
        ws.materialize("t", texts)
        ws.embed("v", "jammi.t", key="id", text="body", model="hashing")
        ws.propagate("p", "v", edges)
    change(tmp_path / "lab", statement)
    with limit(), jl.open(tmp_path / "lab") as ws:
        for use in (
            lambda: ws.sql("FROM jammi.t").fetchall(),
            lambda: ws.search("p", "fox", k=1).arrow(),
            lambda: ws.materialize("t", texts),
            lambda: ws.materialize("other", texts),
        ):
            with contextlib.suppress(jl.JammiError):
                use()


OPTIONS = [
    {"files": 7}, {"files": [7]}, {"files": ["a\0"]}, {"skip": "x"}, {"quote": 7}, {"types": 7}, {"encoding": "x"}
]  # fmt: skip


@pytest.mark.parametrize("options", OPTIONS)
def test_options_of_a_source_that_no_call_could_give_are_refused(lab, tmp_path, options):
    (tmp_path / "a.csv").write_text("id\n1\n")
    with jl.open(lab) as ws:
        ws.sources.add("a", str(tmp_path / "a.csv"))
    change(lab, "UPDATE sources SET options = ?", [json.dumps(options)])
    with jl.open(lab) as ws, pytest.raises(jl.errors.InvalidArgument, match=r"option|encoding"):
        ws.sql("FROM a").fetchall()


TEXTS = [
    ("checks", "name", "status", []),
    ("result_tables", "kind", "lineage", []),
    ("models", "name", "rebuild", ["--force"]),
]


@pytest.mark.parametrize(("table", "column", "command", "flags"), TEXTS)
def test_a_text_of_a_catalog_is_text_in_a_terminal(lab, capsys, table, column, command, flags):
    with jl.open(lab) as ws:
        ws.checks.add("c", jl.checks.unique("n"), on="t")
        ws.models.register("m", lambda texts: [[1.0]] * len(texts), weights="1", dimensions=1)
    change(lab, f"UPDATE {table} SET {column} = char(27, 10) || {column}")
    main([command, str(lab), *flags])
    shown = "".join(capsys.readouterr())
    assert "\x1b" not in shown and r"\x1b\n" in shown


ODD = "\x1b[2J\x00\x7f\u202e\u2028\u3000\U000e0041"


def test_json_has_every_character_that_cannot_be_seen_as_an_escape(lab, capsys):
    with jl.open(lab) as ws:
        ws.materialize("odd", f"SELECT '{ODD.replace(chr(0), '')}' AS text")
        ws.checks.add("c", jl.checks.unique("n"), on="t")
    main(["sql", str(lab), "SELECT * FROM jammi.odd", "--json"])
    change(lab, "UPDATE checks SET name = ?", [ODD])
    main(["check", str(lab), "--json"])
    shown = capsys.readouterr().out
    rows, [check] = map(json.loads, shown.split("\n")[:2])
    assert rows == [{"text": ODD.replace("\0", "")}] and check["check"] == ODD
    assert shown.replace("\n", "").isprintable()


@pytest.mark.every_case
@pytest.mark.parametrize("text", ["nothing", '{"a":' * 100_000 + "1" + "}" * 100_000], ids=len)
def test_an_open_that_fails_leaves_no_thread_and_no_lock(lab, text):
    change(lab, "UPDATE recipes SET descriptor = ?", [text])
    own = {thread.name for thread in threading.enumerate()}
    with pytest.raises(jl.errors.TableDamaged, match="a row contains invalid data"):
        jl.open(lab.rename(lab.with_name("a stranger's")))
    assert {thread.name for thread in threading.enumerate()} <= own


@pytest.mark.parametrize(
    ("table", "column"),
    [("recipes", "descriptor"), ("result_tables", "anchors"), ("result_tables", "columns")],
)
@pytest.mark.parametrize("value", ["[" * 100_000 + "]" * 100_000, "{"], ids=["deep", "cut"])
def test_a_catalog_with_such_a_row_is_rebuilt_without_force(lab, capsys, table, column, value):
    """In a trusted folder, which is opened without a look at recipes."""
    change(lab, f"UPDATE {table} SET {column} = ?", [value])
    assert main(["rebuild", str(lab)]) == 0, capsys.readouterr()
    with jl.open(lab) as ws:
        assert ws.sql("FROM jammi.t").fetchall() == [(42,)]
