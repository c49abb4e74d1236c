"""PostgreSQL and MySQL as sources, against real servers: the suites that every kind runs, and what
is special about a server."""

from __future__ import annotations

import contextlib
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from jammi_lab.core.anchors import Cost
from jammi_lab.core.errors import SourceUnavailable, StatementNotAllowed, TableNotFound
from jammi_lab.core.verdicts import Fresh, Stale, Undecidable
from jammi_lab.sources import attach as attaching
from jammi_lab.sources.base import Connector
from jammi_lab.sources.databases import postgres
from tests import waiting
from tests.cases import cases
from tests.contracts.source import DictMemo, look, same_state
from tests.inside import services_of
from tests.services.proxy import listening
from tests.services.servers import free_port
from tests.sources.servers import RUN, URLS, connector_of, engine, table  # noqa: F401  fixtures
from tests.verdicts import doubt, is_fresh, is_stale

pytestmark = pytest.mark.services


@dataclass
class Server:
    """A database of ours on one of the servers."""

    kind: str
    url: str

    def sql(self, *statements: str) -> None:
        RUN[self.kind](self.url, *statements)


@pytest.fixture(params=["postgresql", "mysql"])
def server(request) -> Server:
    return Server(request.param, request.getfixturevalue(URLS[request.param]))


@pytest.fixture
def sql(server) -> Callable[..., None]:
    return server.sql


@pytest.fixture
def connect(engine) -> Callable[..., Connector]:
    return lambda server, **more: connector_of(engine, server.kind, server.url, **more)


def make(server: Server, table: str) -> None:
    server.sql(
        f"CREATE TABLE {table} (id integer PRIMARY KEY, name varchar(20), note varchar(20))",
        f"INSERT INTO {table} VALUES (1, 'a', 'x'), (2, 'b', 'x'), (3, 'c', 'x')",
    )


@pytest.fixture
def crm(ws, server) -> None:
    """The server is a source of the workspace."""
    ws.sources.add("crm", server.url)


# -- what is special about a server ----------------------------------------------------------------


@pytest.fixture
def filled(server, table) -> str:
    make(server, table)
    return table


def address(server: Server, port: int, password: str = "") -> str:
    return f"{server.kind}://someone{':' if password else ''}{password}@127.0.0.1:{port}/db"


def test_a_server_that_is_down_is_told_in_one_sentence_and_leaves_nothing_registered(ws, server):
    with pytest.raises(SourceUnavailable, match=r"cannot be (read|reached)") as caught:
        ws.sources.add("crm", address(server, free_port(), "hunter2000"))
    assert (
        "hunter2000" not in "".join(caught.value.rendered_lines())
        and len(caught.value.rendered_lines()) <= 5
    )
    assert "crm" not in ws.sources


def test_a_server_that_goes_down_makes_verdicts_undecidable_and_other_sources_work(
    ws, server, filled, tmp_path
):
    (tmp_path / "f.csv").write_text("a\n1\n")
    ws.sources.add("f", str(tmp_path / "f.csv"))
    ws.sources.add("crm", server.url)
    ws.materialize("t", f"SELECT id FROM crm.{filled}")
    ws.materialize("u", "SELECT a FROM f")
    ws.sources.add("crm", address(server, free_port()), check=False, replace=True)
    assert "cannot be" in doubt(ws)
    assert is_fresh(ws, "u")
    said = r"^The source 'crm' cannot be read: the server \S+: "
    with pytest.raises(SourceUnavailable, match=said) as caught:
        ws.sql(f"SELECT * FROM crm.{filled}")
    assert str(caught.value).count("cannot be") == 1
    assert ws.sql("SELECT a FROM f").fetchall() == [(1,)]
    ws.sources.add("crm", server.url, replace=True)
    assert is_fresh(ws), "the same address again: the anchors can be compared"


def test_a_server_that_says_no_word_is_told_before_the_extension_waits_for_it(
    ws, server, monkeypatch
):
    monkeypatch.setattr(attaching, "CONNECT_SECONDS", 1)
    monkeypatch.setattr(postgres, "CONNECT_SECONDS", 2)  # libpq counts less than two seconds as two
    with listening() as port:
        started = time.monotonic()
        with pytest.raises(SourceUnavailable, match="it does not respond"):
            ws.sources.add("crm", address(server, port))
        assert time.monotonic() - started < 8


def test_a_source_whose_server_hangs_can_be_replaced_and_removed_at_once(ws):
    """A server that begins to speak and goes silent: DuckDB's reader of MySQL waits for it without
    a limit."""
    ws.settings.set("look.timeout_seconds", 1)
    ended = threading.Event()

    def use(location: str) -> None:
        with contextlib.suppress(SourceUnavailable):
            ws.sources.add("crm", location)
        started = time.monotonic()
        ws.sources.add("crm", location, check=False)
        ws.sources.remove("crm")
        if time.monotonic() - started < 3:
            ended.set()

    with listening(b"J") as port:
        user = threading.Thread(target=use, args=[f"mysql://someone@127.0.0.1:{port}/db"])
        user.start()
        in_time = ended.wait(30)
    user.join()
    assert in_time


def test_tables_are_addressed_by_name_in_the_default_schema_else_by_schema(ws, server, filled):
    other = f"s_{secrets.token_hex(4)}"
    server.sql(
        f"CREATE SCHEMA {other}",
        f"CREATE TABLE {other}.{filled} (x integer)",
        f"CREATE TABLE {other}.alone_{other} (x integer)",
    )
    try:
        home = "public" if server.kind == "postgresql" else server.url.rsplit("/", 1)[1]
        ws.sources.add(
            "crm", server.url, options={"schemas": [home, other]} if server.kind == "mysql" else {}
        )
        assert {filled, f"{other}.{filled}", f"{other}.alone_{other}"} <= set(
            ws.sources["crm"].tables()
        )
        count = "SELECT count(*) FROM"
        assert ws.sql(f"{count} crm.{filled}").fetchall() == [(3,)]
        assert ws.sql(f"{count} crm.{home}.{filled}").fetchall() == [(3,)]
        assert ws.sql(f"{count} crm.{other}.{filled}").fetchall() == [(0,)]
        for name in (f"alone_{other}", f"{other}.ALONE_{other}"):
            with pytest.raises(TableNotFound) as caught:
                ws.sql(f"{count} crm.{name}")
            assert caught.value.near == (f"crm.{other}.alone_{other}",)
        if server.kind == "postgresql":
            ws.materialize("v", f"SELECT x FROM crm.{other}.{filled}")
            server.sql(f'CREATE TABLE "{other}.{filled}" (x integer)')
            with pytest.raises(TableNotFound, match="Several tables"):
                ws.sql(f"{count} crm.{other}.{filled}")
            assert is_stale(ws, "v")
            server.sql(f'DROP TABLE "{other}.{filled}"')
        assert ws.sql(
            f"SELECT {filled}.id, o.x FROM crm.{home}.{filled} LEFT JOIN crm.{other}.{filled} o ON o.x = id ORDER BY 1 LIMIT 1"
        ).fetchall() == [(1, None)]
        ws.materialize("t", f"SELECT id FROM crm.{home}.{filled}")
        ws.materialize("u", f"SELECT id FROM crm.{filled}")
        assert ws.table("t").inputs == ws.table("u").inputs
        with pytest.raises(TableNotFound, match="is a database, not a table"):
            ws.sql("SELECT * FROM crm")
    finally:
        server.sql(
            f"DROP TABLE {other}.{filled}",
            f"DROP TABLE {other}.alone_{other}",
            f"DROP SCHEMA {other}",
        )


def test_no_statement_reaches_the_attached_server(ws, server, filled, crm):
    ws.sql(f"SELECT * FROM crm.{filled}").fetchall()
    [alias] = [
        a
        for s in services_of(ws).engine.instances_by_tenant.values()
        for a in s.attachments.aliases
    ]
    for text in (
        f"SELECT * FROM postgres_query('{alias}', 'SELECT 1')",
        f"SELECT * FROM mysql_query('{alias}', 'SELECT 1')",
        f"CALL postgres_execute('{alias}', 'COMMIT')",
        f"SELECT * FROM postgres_configure_pool(catalog_name='{alias}', max_connections=0)",
        f"SELECT * FROM {alias}.{filled}",
        f"SELECT * FROM {alias}.public.{filled}",
    ):
        with pytest.raises((StatementNotAllowed, TableNotFound)):
            ws.sql(text)


def test_conditions_limits_and_no_other_columns_are_sent(ws, server, table, sent, crm):
    last, first = ('"last name"', '"x AND y"')
    if server.kind == "mysql":
        last, first = "`last name`", "`x AND y`"
    server.sql(
        f"CREATE TABLE {table} (id integer, {last} integer, {first} integer, note integer)",
        f"INSERT INTO {table} VALUES (1, 2, 3, 0), (2, 2, 4, 0), (3, 5, 3, 0)",
    )
    statement = f'SELECT id FROM crm.{table} WHERE "last name" = 2 AND "x AND y" >= 4 LIMIT 3'
    assert ws.sql(statement).fetchall() == [(2,)]
    [(select, where)] = [q.split(" WHERE ") for q in sent if q.endswith(" LIMIT 3")]
    assert where == f"({last} = '2' AND {first} >= '4') LIMIT 3" and "note" not in select


@pytest.mark.parametrize("end", ["", " LIMIT 1"])
def test_a_repeated_statement_has_the_columns_of_now(ws, server, table, end, crm):
    server.sql(
        f"CREATE TABLE {table} (id integer, v integer)", f"INSERT INTO {table} VALUES (1, 2)"
    )
    statement = f"SELECT * FROM crm.{table}{end}"
    assert [ws.sql(statement).fetchall() for _ in range(2)] == [[(1, 2)]] * 2
    if server.kind == "postgresql":
        server.sql(f"ALTER TABLE {table} ALTER v TYPE varchar(9)")
    else:
        server.sql(f"ALTER TABLE {table} MODIFY v varchar(9)")
    assert ws.sql(statement).fetchall() == [(1, "2")]
    assert ws.sources["crm"].columns(table)[1].type == "VARCHAR"
    if server.kind == "postgresql":
        server.sql(f"ALTER TABLE {table} ALTER v TYPE integer USING v::integer")
    else:
        server.sql(f"ALTER TABLE {table} MODIFY v integer")
    assert ws.sql(statement).fetchall() == [(1, 2)]


def test_nothing_is_held_on_the_server_when_the_call_has_returned(ws, server, filled, crm):
    server.sql(
        *(
            f"INSERT INTO {filled} SELECT id + {3 * 2**n}, name, note FROM {filled}"
            for n in range(14)
        )
    )
    result = ws.sql(f"SELECT * FROM crm.{filled}")
    server.sql(f"ALTER TABLE {filled} ADD COLUMN more integer")  # would wait for whoever reads it
    assert result.arrow().num_rows == 3 * 2**14


def test_a_shallow_look_scans_no_large_table_and_says_what_would(ws, server, filled):
    ws.sources.add("crm", server.url, anchor="content")
    ws.materialize("t", f"SELECT id, name FROM crm.{filled}")
    ws.settings.set("look.scan_rows", 0)
    server.sql(
        f"INSERT INTO {filled} VALUES (9, 'q', 'x')",
        f"ANALYZE {'' if server.kind == 'postgresql' else 'TABLE '}{filled}",
    )
    verdict = ws.status()["t"].verdict
    assert (
        isinstance(verdict, Undecidable)
        and "would scan about" in str(verdict)
        and "ws.status(deep=True)" in str(verdict)
    )
    assert is_stale(ws) and isinstance(ws.status(deep=True)["t"].verdict, Stale)


def test_a_log_that_stands_still_makes_the_second_look_cheap(server, filled, connect):
    memo = DictMemo()
    one = connect(server)
    seen = [one.observe(filled, look(memo, racy_seconds=0.0))]
    assert seen[0].cost is Cost.SCAN

    def is_cheap() -> bool:
        seen.append(one.observe(filled, look(memo, racy_seconds=0.0)))
        return seen[-1].cost is Cost.METADATA

    assert waiting.until(is_cheap), "other tests write to the server, but not for a minute"
    assert same_state(seen[0], seen[-1])
    server.sql(f"UPDATE {filled} SET name = 'z' WHERE id = 1")
    assert not same_state(seen[0], one.observe(filled, look(memo, racy_seconds=0.0)))


@pytest.mark.every_case
def test_one_row_twice_is_not_two_other_rows_twice(server, table, connect):
    server.sql(
        f"CREATE TABLE {table} (id integer, name varchar(20))",
        f"INSERT INTO {table} VALUES (1, 'a'), (1, 'a')",
    )
    before = connect(server).observe(table, look())
    server.sql(f"UPDATE {table} SET name = 'b'")
    assert not same_state(before, connect(server).observe(table, look()))


@pytest.mark.parametrize(
    ("server", "kind", "before", "after", "moves"),
    cases("sources/server_values", "on", "kind", "before", "after", "moves"),
    indirect=["server"],
)
def test_the_smallest_change_of_a_value_is_seen(server, connect, table, kind, before, after, moves):
    server.sql(f"CREATE TABLE {table} (v {kind})", f"INSERT INTO {table} VALUES ({before})")
    connector = connect(server)
    one = connector.observe(table, look())
    assert same_state(one, connector.observe(table, look()))
    server.sql(f"UPDATE {table} SET v = {after}")
    assert same_state(one, connector.observe(table, look())) is not moves


def test_null_and_empty_and_quotes_are_told_apart(server, table, connect):
    server.sql(
        f"CREATE TABLE {table} (id integer, name varchar(20))",
        f"INSERT INTO {table} VALUES (1, NULL)",
    )
    states = []
    for value in (
        "''",
        "'N'",
        "'NULL'",
        "','",
        "'\"'",
        "'\"\"'",
        "'()'",
        "' '",
        "'a'",
        "'A'",
        "'a '",
    ):
        states.append(connect(server).observe(table, look()))
        server.sql(f"UPDATE {table} SET name = {value}")
    states.append(connect(server).observe(table, look()))
    assert len({state.whole for state in states}) == len(states)


def test_a_table_written_while_it_is_read_is_anchored_on_what_was_read(ws, server, table, crm):
    server.sql(
        f"CREATE TABLE {table} (id integer PRIMARY KEY, v integer, filler varchar(200))",
        f"INSERT INTO {table} VALUES (1, 0, repeat('x', 150))",
    )
    server.sql(
        *(f"INSERT INTO {table} SELECT id + {2**n}, 0, filler FROM {table}" for n in range(15))
    )
    stop, problems = threading.Event(), []

    def write() -> None:
        try:
            while not stop.is_set():
                server.sql(f"UPDATE {table} SET v = v + 1")
        except Exception as error:
            problems.append(error)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        made = [
            ws.materialize(
                f"t{n}", f"SELECT min(v) AS low, max(v) AS high, count(*) AS n FROM crm.{table}"
            )
            for n in range(3)
        ]
    finally:
        stop.set()
        writer.join()
    assert not problems
    for n in range(len(made)):
        [(low, high, count)] = ws.sql(f"SELECT low, high, n FROM jammi.t{n}").fetchall()
        assert low == high and count == 2**15, "the rows are of several states"
        server.sql(f"UPDATE {table} SET v = {low + 1}")
        assert not is_fresh(ws, f"t{n}")
        server.sql(f"UPDATE {table} SET v = {low}")
        verdict = ws.staleness(f"t{n}")
        assert isinstance(verdict, Fresh if server.kind == "postgresql" else Fresh | Undecidable), (
            verdict
        )


def test_a_source_that_is_removed_or_replaced_is_detached(ws, server, filled, tmp_path):
    (tmp_path / "f.csv").write_text("a\n1\n")
    for detach in (
        lambda: ws.sources.remove("crm"),
        lambda: ws.sources.add("crm", tmp_path / "f.csv", replace=True),
    ):
        ws.sources.add("crm", server.url)
        ws.sql(f"SELECT * FROM crm.{filled}").fetchall()
        [session] = services_of(ws).engine.instances_by_tenant.values()
        assert len(session.attachments.aliases) == 1
        detach()
        assert session.attachments.aliases == []
    assert ws.sql("SELECT a FROM crm").fetchall() == [(1,)]


@pytest.mark.parametrize(("tenant", "ids"), [("acme", [1, 2, 4]), ("globex", [3, 4]), (None, [4])])
def test_the_server_sends_a_tenant_s_rows_and_not_the_table(ws, server, table, sent, tenant, ids):
    server.sql(
        f"CREATE TABLE {table} (id integer, owner varchar(20), wide numeric(50, 2), label varchar(20))",
        f"INSERT INTO {table} VALUES (1, 'acme', 1.5, 'a'), (2, 'AcMe', 2.5, 'é'), (3, 'globex', 3.5, 'c'), (4, NULL, 4.5, 'd')",
    )
    ws.sources.add("crm", server.url, tenant_column="owner")
    for columns in ("id", "id, wide::DOUBLE"):
        sent.clear()
        with ws.tenant(tenant):
            rows = ws.sql(f"SELECT {columns} FROM crm.{table} ORDER BY id").fetchall()
        assert [row[0] for row in rows] == ids
        asked = [query for query in sent if " IS NULL" in query][-1]
        where = asked.split(" WHERE ")[1]
        assert "owner" in where and "label" not in asked
        compared = "translate(" if server.kind == "postgresql" else "COLLATE utf8mb4_general_ci"
        assert tenant is None or compared in where
        # without a clause of its own, sql_select_limit would hold
        assert server.kind == "postgresql" or "LIMIT 184467440737" in where


def test_a_tenant_s_number_is_compared_as_a_text(ws, server, table, sent):
    server.sql(
        f"CREATE TABLE {table} (id integer, owner integer)",
        f"INSERT INTO {table} VALUES (1, 7), (2, 8), (3, NULL)",
    )
    ws.sources.add("crm", server.url, tenant_column="owner")
    for tenant, rows in {"7": [(1,), (3,)], "acme": [(3,)]}.items():
        with ws.tenant(tenant):
            assert ws.sql(f"SELECT id FROM crm.{table} ORDER BY id").fetchall() == rows
        asked = [query for query in sent if " IS NULL" in query][-1]
        assert "owner" in asked.split(" WHERE ")[1]
