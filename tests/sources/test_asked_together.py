"""Several tables of several servers in one statement: who is asked when, and whose error it is."""

from __future__ import annotations

import dataclasses
import secrets
import threading
from collections.abc import Iterator

import pytest

import jammi_lab
from jammi_lab.engine.session import Engine
from jammi_lab.errors import SourceUnavailable, TableNotFound
from jammi_lab.sources import servers
from jammi_lab.sources.mysql import MysqlConnector
from jammi_lab.sources.postgres import PostgresConnector
from jammi_lab.values.verdicts import Fresh, Stale
from tests.services.servers import run_mysql, run_postgres

pytestmark = pytest.mark.services
BOTH = (PostgresConnector, MysqlConnector)
LONG = 20.0
"""Seconds after which a test that would wait for ever fails."""


@pytest.fixture
def table(postgres_url, mysql_url) -> Iterator[str]:
    name = f"t_{secrets.token_hex(4)}"
    for run, url in ((run_postgres, postgres_url), (run_mysql, mysql_url)):
        run(url, f"CREATE TABLE {name} (id integer, name varchar(9))", f"INSERT INTO {name} VALUES (1, 'a'), (2, 'b')")
    yield name
    for run, url in ((run_postgres, postgres_url), (run_mysql, mysql_url)):
        run(url, f"DROP TABLE IF EXISTS {name}")


@pytest.fixture
def ws(tmp_path, postgres_url, mysql_url) -> Iterator[jammi_lab.Workspace]:
    with jammi_lab.open(tmp_path / "ws") as opened:
        opened.sources.add("pg", postgres_url)
        opened.sources.add("my", mysql_url)
        yield opened


def joined(table: str) -> str:
    return f"SELECT p.id, m.name FROM pg.{table} p JOIN my.{table} m USING (id) ORDER BY p.id"


def test_two_servers_are_asked_at_once_before_a_statement_and_after_it(ws, table, monkeypatch):
    meeting = threading.Barrier(2, timeout=LONG)
    met = []
    for kind in BOTH:

        def inside(self, *said, asked=kind.inside):
            met.append(meeting.wait())  # passed only when the other server is being asked, too
            return asked(self, *said)

        monkeypatch.setattr(kind, "inside", inside)
    assert ws.sql(joined(table)).fetchall() == [(1, "a"), (2, "b")]
    assert len(met) == 4, "each before it was bound, and when the rows were read"


def test_all_tables_of_one_server_are_one_question(ws, table, monkeypatch):
    questions = []
    put = Engine._put
    monkeypatch.setattr(Engine, "_put", lambda self, *said: questions.append(said) or put(self, *said))
    rows = ws.sql(f"SELECT a.id FROM pg.{table} a JOIN pg.public.{table} b USING (id) JOIN pg.{table} c USING (id) ORDER BY 1").fetchall()
    assert rows == [(1,), (2,)] and len(questions) == 1


@pytest.mark.parametrize("missing", ["pg", "my"])
def test_a_table_that_is_not_there_is_told_at_its_own_place(ws, table, missing):
    text = joined(table).replace(f"{missing}.{table}", f"{missing}.nope")
    with pytest.raises(TableNotFound, match=f"There is no table nope in {missing}") as caught:
        ws.sql(text)
    assert caught.value.position == text.index(f"{missing}.nope")
    assert ws.sql(joined(table)).fetchall() == [(1, "a"), (2, "b")]


def test_a_name_that_cannot_be_read_is_told_at_its_own_place_beside_others_of_its_server(ws, table, mysql_url):
    run_mysql(mysql_url, f"CREATE TABLE {table}_odd (`ba\\ck` integer)")
    try:
        text = f"SELECT 1 FROM my.{table} JOIN my.{table}_odd ON true"
        with pytest.raises(SourceUnavailable, match="holds a backtick or a backslash") as caught:
            ws.sql(text)
        assert caught.value.position == text.index(f"my.{table}_odd")
    finally:
        run_mysql(mysql_url, f"DROP TABLE {table}_odd")


@pytest.mark.parametrize("kind", BOTH, ids=["postgresql", "mysql"])
def test_a_definition_that_changes_while_two_servers_are_read_is_told(ws, table, kind, monkeypatch):
    times = []

    def inside(self, *said, asked=kind.inside):
        times.append(said)
        seen = asked(self, *said)
        return seen if len(times) == 1 else dataclasses.replace(seen, marker="another")

    monkeypatch.setattr(kind, "inside", inside)
    with pytest.raises(SourceUnavailable, match="changed while it was read"):
        ws.sql(joined(table))
    monkeypatch.undo()
    assert ws.sql(joined(table)).fetchall() == [(1, "a"), (2, "b")]


@pytest.mark.parametrize("hanging", BOTH, ids=["postgresql", "mysql"])
def test_one_server_that_does_not_answer_is_told_in_time_and_the_other_works_on(ws, table, hanging, monkeypatch):
    release = threading.Event()
    monkeypatch.setattr(servers, "_SECONDS", 2.0)
    monkeypatch.setattr(hanging, "inside", lambda *_: release.wait(LONG) and None)
    name, other = ("pg", "my") if hanging is PostgresConnector else ("my", "pg")
    try:
        with pytest.raises(SourceUnavailable, match=f"The source '{name}' cannot be read: the server does not answer"):
            ws.sql(joined(table))
        monkeypatch.setattr(servers, "_SECONDS", 30.0)
        assert ws.sql(f"SELECT count(*) FROM {other}.{table}").fetchall() == [(2,)]
    finally:
        release.set()


def test_an_error_at_one_name_leaves_no_question_behind(ws, table, monkeypatch):
    release, dropped = threading.Event(), threading.Event()
    monkeypatch.setattr(MysqlConnector, "inside", lambda *_: release.wait(LONG) and None)
    forgo = MysqlConnector.forgo
    monkeypatch.setattr(MysqlConnector, "forgo", lambda self: dropped.set() or forgo(self))
    with pytest.raises(TableNotFound, match="nope"):
        ws.sql(f"SELECT 1 FROM pg.nope JOIN my.{table} ON true")
    assert dropped.is_set() and not release.is_set(), "nobody waited for the answer"
    release.set()
    monkeypatch.undo()
    assert ws.sql(joined(table)).fetchall() == [(1, "a"), (2, "b")]


def test_a_table_made_of_both_goes_stale_with_either(ws, table, postgres_url, mysql_url):
    ws.materialize("both", joined(table))
    assert isinstance(ws.staleness("both"), Fresh)
    for run, url in ((run_postgres, postgres_url), (run_mysql, mysql_url)):
        run(url, f"UPDATE {table} SET {'id = id + 10' if run is run_postgres else 'name = upper(name)'}")
        assert isinstance(ws.staleness("both"), Stale)
        ws.recompute("both")
        assert isinstance(ws.staleness("both"), Fresh)
