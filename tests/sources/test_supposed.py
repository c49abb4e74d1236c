"""Statements over a server that was asked a moment ago: it is asked once, after the rows were read, and what it says then counts."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest

import jammi_lab
from jammi_lab.engine.session import Engine
from jammi_lab.errors import JammiError, SourceUnavailable, SqlError, TableNotFound
from jammi_lab.sources import servers
from jammi_lab.sources.mysql import MysqlConnector
from jammi_lab.sources.postgres import PostgresConnector
from tests.services.servers import free_port, run_mysql, run_postgres

pytestmark = pytest.mark.services


@dataclass
class Kept:
    """A table on a server, and what it is asked."""

    kind: str
    url: str
    run: Callable[..., object]
    name: str = field(default_factory=lambda: f"t_{secrets.token_hex(4)}")

    def sql(self, *statements: str) -> None:
        self.run(self.url, *(statement.format(t=self.name) for statement in statements))


@pytest.fixture(params=["postgresql", "mysql"])
def kept(request) -> Iterator[Kept]:
    run, url = (run_postgres, "postgres_url") if request.param == "postgresql" else (run_mysql, "mysql_url")
    made = Kept(request.param, request.getfixturevalue(url), run)
    made.sql("CREATE TABLE {t} (id integer, name varchar(9))", "INSERT INTO {t} VALUES (1, 'a'), (2, 'b')")
    yield made
    made.sql("DROP TABLE IF EXISTS {t}")


@pytest.fixture
def ws(tmp_path, kept) -> Iterator[jammi_lab.Workspace]:
    with jammi_lab.open(tmp_path / "ws") as opened:
        opened.sources.add("s", kept.url)
        yield opened


@pytest.fixture
def asked(kept, monkeypatch) -> list[str]:
    """One entry for each time that the server is asked for a definition."""
    kind, asked = PostgresConnector if kept.kind == "postgresql" else MysqlConnector, list[str]()
    inside = kind.inside
    monkeypatch.setattr(kind, "inside", lambda self, asking, schema, name: asked.append(name) or inside(self, asking, schema, name))
    return asked


@pytest.fixture
def runs(monkeypatch) -> list[str]:
    """One entry for each time that a statement is run."""
    runs, pump = list[str](), Engine.pump
    monkeypatch.setattr(Engine, "pump", lambda self, tenant, sql, *more, **how: runs.append(sql) or pump(self, tenant, sql, *more, **how))
    return runs


def rows(ws, kept, text: str = "SELECT id, name FROM s.{t} ORDER BY id"):
    return ws.sql(text.format(t=kept.name)).fetchall()


def test_a_server_that_was_asked_a_moment_ago_is_asked_when_the_rows_were_read_and_not_before(ws, kept, asked):
    assert rows(ws, kept) == [(1, "a"), (2, "b")] and len(asked) == 2
    assert rows(ws, kept) == [(1, "a"), (2, "b")] and len(asked) == 3
    assert rows(ws, kept, "SELECT count(*) FROM s.{t}") == [(2,)] and len(asked) == 4, "of another statement, too"


def test_what_was_asked_longer_ago_is_asked_before_again(ws, kept, asked, monkeypatch):
    rows(ws, kept)
    monkeypatch.setattr(servers, "_SUPPOSED_SECONDS", 0.0)
    rows(ws, kept)
    assert len(asked) == 4


def test_rows_read_by_a_definition_that_was_another_are_never_given(ws, kept, runs):
    assert rows(ws, kept) == [(1, "a"), (2, "b")]
    real = "ALTER id TYPE real" if kept.kind == "postgresql" else "MODIFY id double"
    kept.sql(f"ALTER TABLE {{t}} {real}", "UPDATE {t} SET id = id + 0.5")
    runs.clear()
    assert rows(ws, kept) == [(1.5, "a"), (2.5, "b")]
    assert len(runs) == 2, "once by what was supposed, once by what is"


def test_a_star_puts_out_a_column_that_was_just_added(ws, kept):
    result = ws.sql(f"SELECT * FROM s.{kept.name}")
    assert result.columns == ["id", "name"]
    kept.sql("ALTER TABLE {t} ADD COLUMN more integer DEFAULT 7")
    result = ws.sql(f"SELECT * FROM s.{kept.name}")
    assert result.columns == ["id", "name", "more"] and len(result.fetchall()) == 2
    assert [each.columns for each in result.inputs] == [("id", "more", "name")]


def test_a_column_that_was_just_added_can_be_named(ws, kept):
    rows(ws, kept)
    kept.sql("ALTER TABLE {t} ADD COLUMN more integer DEFAULT 7")
    assert rows(ws, kept, "SELECT more FROM s.{t}") == [(7,), (7,)]
    with pytest.raises(SqlError, match="no column less"):
        rows(ws, kept, "SELECT less FROM s.{t}")


def test_a_column_or_table_that_was_just_dropped_is_told_at_its_place(ws, kept):
    text = f"SELECT id, name FROM s.{kept.name}"
    ws.sql(text)
    kept.sql("ALTER TABLE {t} DROP COLUMN name")
    with pytest.raises(SqlError, match="no column name") as caught:
        ws.sql(text)
    assert caught.value.position == text.index("name")
    assert ws.sql(f"SELECT id FROM s.{kept.name} ORDER BY id").fetchall() == [(1,), (2,)]
    kept.sql("DROP TABLE {t}")
    with pytest.raises(TableNotFound, match=kept.name) as gone:
        ws.sql(f"SELECT id FROM s.{kept.name}")
    assert gone.value.position == len("SELECT id FROM ")


def test_a_mistake_of_one_s_own_is_told_once_and_not_made_twice(ws, kept, runs):
    rows(ws, kept)
    runs.clear()
    with pytest.raises(JammiError, match="'a'"):
        rows(ws, kept, "SELECT name::INTEGER FROM s.{t}")
    assert len(runs) == 1


def test_of_what_a_table_is_made_nothing_is_supposed(ws, kept, asked):
    rows(ws, kept)
    before = len(asked)
    ws.materialize("made", f"SELECT id FROM s.{kept.name}", cache="bypass")
    assert len(asked) >= before + 2
    ws.sql(f"SELECT 1; SELECT id FROM s.{kept.name}")
    monitored = len(asked)
    ws.sql(f"SELECT 1; SELECT id FROM s.{kept.name}")
    assert len(asked) == monitored + 2, "nor of several statements"


def test_another_address_under_the_name_is_not_taken_for_the_former(ws, kept):
    rows(ws, kept)
    ws.sources.add("s", f"{kept.kind}://someone@127.0.0.1:{free_port()}/db", check=False, replace=True)
    with pytest.raises(SourceUnavailable, match="The source 's' cannot be read"):
        rows(ws, kept)
