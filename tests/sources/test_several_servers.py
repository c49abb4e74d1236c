"""Several tables of several servers in one statement: where errors stand, and when a table goes
stale."""

from __future__ import annotations

import dataclasses
import secrets
import threading
from collections.abc import Iterator

import pytest

import jammi_lab
from jammi_lab.core.errors import SourceUnavailable, TableNotFound
from jammi_lab.sources.databases import server
from jammi_lab.sources.databases.mysql import MysqlConnector
from jammi_lab.sources.databases.postgres import PostgresConnector
from tests.services.servers import run_postgres
from tests.sources.servers import RUN, URLS

pytestmark = pytest.mark.services
BOTH = (PostgresConnector, MysqlConnector)
LONG = 20.0
"""Seconds after which a test that would wait for ever fails."""


@pytest.fixture
def urls(request) -> list[tuple[str, str]]:
    return [(kind, request.getfixturevalue(url)) for kind, url in URLS.items()]


@pytest.fixture
def table(urls) -> Iterator[str]:
    name = f"t_{secrets.token_hex(4)}"
    for kind, url in urls:
        RUN[kind](
            url,
            f"CREATE TABLE {name} (id integer, name varchar(9))",
            f"INSERT INTO {name} VALUES (1, 'a'), (2, 'b')",
        )
    yield name
    for kind, url in urls:
        RUN[kind](url, f"DROP TABLE IF EXISTS {name}")


@pytest.fixture
def ws(tmp_path, postgres_url, mysql_url) -> Iterator[jammi_lab.Workspace]:
    with jammi_lab.open(tmp_path / "ws") as opened:
        opened.sources.add("pg", postgres_url)
        opened.sources.add("my", mysql_url)
        yield opened


def joined(table: str) -> str:
    return f"SELECT p.id, m.name FROM pg.{table} p JOIN my.{table} m USING (id) ORDER BY p.id"


@pytest.mark.parametrize("missing", ["pg", "my"])
def test_a_table_that_is_not_there_is_told_at_its_own_place(ws, table, missing):
    text = joined(table).replace(f"{missing}.{table}", f"{missing}.nope")
    with pytest.raises(TableNotFound, match=f"There is no table nope in {missing}") as caught:
        ws.sql(text)
    assert caught.value.position == text.index(f"{missing}.nope")
    assert ws.sql(joined(table)).fetchall() == [(1, "a"), (2, "b")]


def test_a_name_that_cannot_be_read_is_told_at_its_own_place_beside_others_of_its_server(
    ws, table, postgres_url
):
    run_postgres(postgres_url, f'CREATE TABLE {table}_odd (a integer, "A" integer)')
    try:
        text = f"SELECT 1 FROM pg.{table} JOIN pg.{table}_odd ON true"
        with pytest.raises(SourceUnavailable, match="differ only by case") as caught:
            ws.sql(text)
        assert caught.value.position == text.index(f"pg.{table}_odd")
    finally:
        run_postgres(postgres_url, f"DROP TABLE {table}_odd")


@pytest.mark.parametrize("kind", BOTH, ids=["postgresql", "mysql"])
def test_a_definition_that_changes_while_two_servers_are_read_is_told(ws, table, kind, monkeypatch):
    times = []

    def inside(self, *said, asked=kind.table_infos):
        times.append(said)
        seen = asked(self, *said)
        if len(times) > 1:
            seen = {at: dataclasses.replace(info, marker="another") for at, info in seen.items()}
        return seen

    monkeypatch.setattr(kind, "table_infos", inside)
    with pytest.raises(SourceUnavailable, match="changed during the read"):
        ws.sql(joined(table))
    monkeypatch.undo()
    assert ws.sql(joined(table)).fetchall() == [(1, "a"), (2, "b")]


@pytest.mark.parametrize("hanging", BOTH, ids=["postgresql", "mysql"])
def test_one_server_that_does_not_answer_is_told_in_time_and_the_other_works_on(
    ws, table, hanging, monkeypatch
):
    release = threading.Event()
    monkeypatch.setattr(server, "QUERY_TIMEOUT_SECONDS", 2.0)
    monkeypatch.setattr(hanging, "table_infos", lambda *_: release.wait(LONG) and {})
    name, other = ("pg", "my") if hanging is PostgresConnector else ("my", "pg")
    try:
        with pytest.raises(
            SourceUnavailable,
            match=f"The source '{name}' cannot be read: the server does not respond",
        ):
            ws.sql(joined(table))
        monkeypatch.setattr(server, "QUERY_TIMEOUT_SECONDS", 30.0)
        assert ws.sql(f"SELECT count(*) FROM {other}.{table}").fetchall() == [(2,)]
    finally:
        release.set()
