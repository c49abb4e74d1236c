"""Types of servers at the edges of DuckDB's: the server's name of a type, conditions, values."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from datetime import date, time
from decimal import Decimal
from typing import Any

import msgspec
import pytest

import jammi_lab
from jammi_lab.core.anchors import Anchor, Snapshot, source_input
from jammi_lab.core.errors import SourceUnavailable
from jammi_lab.core.verdicts import Fresh, Stale
from tests.cases import cases
from tests.sizes import product
from tests.sources.servers import RUN, URLS
from tests.verdicts import is_fresh, is_stale

pytestmark = pytest.mark.services


class Server:
    """A database of ours on one of the servers, as the source `s` of a workspace."""

    def __init__(self, kind: str, url: str, ws: jammi_lab.Workspace) -> None:
        self.kind, self.url, self.ws = kind, url, ws
        self.table = f"t_{secrets.token_hex(4)}"
        ws.sources.add("s", url)

    def run(self, *statements: str) -> list[tuple[object, ...]]:
        return RUN[self.kind](self.url, *(s.replace("{t}", self.table) for s in statements))

    def sql(self, statement: str) -> list[tuple[object, ...]]:
        return self.ws.sql(statement.replace("{t}", f"s.{self.table}")).fetchall()


def server_of(*kinds: str) -> Any:
    @pytest.fixture(params=kinds)
    def server(request, ws) -> Iterator[Server]:
        made = Server(request.param, request.getfixturevalue(URLS[request.param]), ws)
        yield made
        made.run("DROP TABLE IF EXISTS {t}")

    return server


server, postgres, mysql = server_of(*URLS), server_of("postgresql"), server_of("mysql")


# -- the server's name of a type


def test_another_type_on_the_server_is_an_advance_of_those_who_read_the_column(server, ws):
    server.run("CREATE TABLE {t} (id integer, v text)", "INSERT INTO {t} VALUES (1, 'a')")
    ws.materialize("reads", f"SELECT v FROM s.{server.table}")
    ws.materialize("reads_not", f"SELECT id FROM s.{server.table}")
    change = "ALTER v TYPE varchar(9)" if server.kind == "postgresql" else "MODIFY v varchar(9)"
    server.run(f"ALTER TABLE {{t}} {change}")
    verdict = ws.staleness("reads")
    assert isinstance(verdict, Stale) and "changed its columns" in str(verdict)
    assert is_fresh(ws, "reads_not")
    ws.recompute()
    assert is_fresh(ws, "reads")


@pytest.mark.parametrize(
    ("base", "values", "read_as", "kind"),
    [
        ("integer", (9, 10), [10, 9], "INTEGER"),
        ("numeric(10, 2)", (9, "10.5"), [Decimal("10.50"), Decimal("9.00")], "DECIMAL(10,2)"),
        ("numeric", (9, "10.5"), [Decimal("10.5"), Decimal(9)], "DECIMAL(38,10)"),
        ("date", ("'2024-01-02'", "'2024-01-10'"), [date(2024, 1, 10), date(2024, 1, 2)], "DATE"),
        ("text", ("'9'", "'10'"), ["9", "10"], "VARCHAR"),
    ],
)
def test_a_domain_is_what_it_is_made_of(postgres, base, values, read_as, kind):
    name = f"made_{postgres.table}"
    rows = ", ".join(f"({value})" for value in values)
    postgres.run(
        f"CREATE DOMAIN {name} AS {base}",
        f"CREATE TABLE {{t}} (v {name})",
        f"INSERT INTO {{t}} VALUES {rows}",
    )
    try:
        found = postgres.sql("SELECT v, typeof(v) FROM {t} ORDER BY v DESC")
        assert found == [(value, kind) for value in read_as]
        assert postgres.sql("SELECT max(v), min(v) FROM {t}") == [tuple(read_as)]
    finally:
        postgres.run("DROP TABLE {t}", f"DROP DOMAIN {name}")


def test_an_anchor_of_an_earlier_release_is_compared_as_before():
    snapshot = Snapshot(
        columns={"v": "VARCHAR"}, whole="1", method="m", server_types={"v": "citext"}
    )
    anchor = snapshot.anchor(source_input("s"))
    former = msgspec.structs.replace(anchor, server_types=msgspec.UNSET)
    assert b"server_types" not in msgspec.json.encode(former)
    assert anchor.same_state(msgspec.json.decode(msgspec.json.encode(former), type=Anchor))
    assert not anchor.same_state(msgspec.structs.replace(anchor, server_types=("text",)))


# -- conditions


@pytest.mark.parametrize(
    ("kind", "values"),
    cases("sources/postgres_texts", "kind", "values"),
)
def test_conditions_compare_the_text_that_is_read(postgres, kind, values):
    name = f"{kind}_{postgres.table}" if kind in ("mood", "insensitive") else kind
    if kind == "citext":
        postgres.run("CREATE EXTENSION IF NOT EXISTS citext")
    if kind == "mood":
        postgres.run(f"CREATE TYPE {name} AS ENUM ('sad', 'ok', 'fine')")
    if kind == "insensitive":
        collation = "(provider = icu, locale = 'und-u-ks-level2', deterministic = false)"
        postgres.run(
            f'CREATE COLLATION "{name}" {collation}',
            f'CREATE DOMAIN {name} AS text COLLATE "{name}"',
        )
    try:
        postgres.run(f"CREATE TABLE {{t}} (v {name})")
        for value in values:
            postgres.run(f"INSERT INTO {{t}} VALUES ('{value}')")
        texts = [text for (text,) in postgres.sql("SELECT v::VARCHAR FROM {t}")]
        for text in texts:
            quoted = "'" + text.replace("'", "''") + "'"
            for sign, compare in (
                ("=", text.__eq__),
                ("<", text.__gt__),
                (">", text.__lt__),
                ("<>", text.__ne__),
            ):
                found = postgres.sql(f"SELECT v::VARCHAR FROM {{t}} WHERE v {sign} {quoted}")
                assert sorted(found) == sorted((t,) for t in texts if compare(t)), (sign, text)
    finally:
        postgres.run("DROP TABLE IF EXISTS {t}")
        if kind == "mood":
            postgres.run(f"DROP TYPE {name}")
        if kind == "insensitive":
            postgres.run(f"DROP DOMAIN {name}", f'DROP COLLATION "{name}"')


CONDITIONS = {
    "id = 5": "(\"id\" = '5')",
    "id IN (2, 4, 90) AND t <> 'it''s'": None,
    "t = 'it''s' AND day >= DATE '2020-01-03'": "(\"t\" = 'it''s' COLLATE \"C\" AND "
    "\"day\" >= '2020-01-03')",
    "p > 1.5 AND made < TIMESTAMP '2020-01-05 00:00:00'": "(\"p\" > '1.50' AND "
    "\"made\" < '2020-01-05 00:00:00')",
    "day IS NULL": '("day" IS NULL)',
    "t IS NOT NULL AND id <> 3": None,
    "n = '5.0'": "",
    "n <> '5'": "",
    "length(t) = 2": "",
    "t = 'a' || chr(10) || 'id=7' || chr(10) || 'b'": "",
    "id = 1 OR t = 'x3'": "",
    "id BETWEEN 3 AND 5 AND n::DOUBLE > 3": "(\"id\" >= '3' AND \"id\" <= '5')",
}


def fill(server: Server) -> None:
    numeric = "numeric" if server.kind == "postgresql" else "decimal(50,1)"
    rows = []
    for i in range(1, 9):
        day = "NULL" if i % 3 == 0 else f"'2020-01-0{i}'"
        text = "'it''s'" if i % 2 else f"'x{i}'"
        rows.append(f"({i}, {i}.0, {text}, {day}, {i}.25, '2020-01-0{i} 00:00:00')")
    server.run(
        f"CREATE TABLE {{t}} (id integer PRIMARY KEY, n {numeric}, t varchar(20), day date, "
        "p numeric(5, 2), made timestamp NULL)",
        f"INSERT INTO {{t}} VALUES {', '.join(rows)}",
    )


@pytest.mark.parametrize("condition", CONDITIONS)
def test_a_query_with_text_of_numbers_takes_conditions_along(server, condition, sent):
    fill(server)
    every = "(SELECT * FROM {t} LIMIT 1000 OFFSET 0)"
    expected = server.sql(f"SELECT id, n FROM {every} WHERE {condition} ORDER BY id")
    sent.clear()
    assert server.sql(f"SELECT id, n FROM {{t}} WHERE {condition} ORDER BY id") == expected
    [query] = [
        q for q in sent if q.startswith("SELECT") and server.table in q and '"n"::text' in q
    ][-1:] or [None]
    wanted = CONDITIONS[condition]
    if server.kind == "postgresql" and wanted is not None:
        assert query.partition(" WHERE ")[2] == wanted


def test_conditions_of_joins_parameters_and_limits_are_sent(postgres, sent):
    fill(postgres)
    ws, t = postgres.ws, f"s.{postgres.table}"

    def last() -> str:
        return [q for q in sent if '"n"::text' in q][-1]

    rows = ws.sql(f"SELECT n FROM {t} WHERE id = $i", params={"i": 3}).fetchall()
    assert rows == [(Decimal("3.0"),)] and last().endswith("(\"id\" = '3')")
    rows = ws.sql(f"SELECT a.n, b.n FROM {t} a JOIN {t} b ON a.id = b.id - 1 WHERE a.id = 2")
    assert rows.fetchall() == [(Decimal("2.0"), Decimal("3.0"))]
    rows = ws.sql(f"SELECT a.n FROM {t} a, {t} b WHERE a.id = 2 AND b.id = 3 AND b.n = '3.0'")
    assert rows.fetchall() == [(Decimal("2.0"),)] and " OR " in last()
    assert len(ws.sql(f"SELECT * FROM {t} LIMIT 3").fetchall()) == 3
    assert last().endswith(" LIMIT 3")
    assert len(ws.sql(f"SELECT n FROM {t} WHERE id > 1 LIMIT 2 OFFSET 1").fetchall()) == 2
    assert last().endswith(" LIMIT 3")
    assert ws.sql(f"SELECT n FROM {t} WHERE length(t) = 2 LIMIT 2").fetchall() == [
        (Decimal("2.0"),),
        (Decimal("4.0"),),
    ]
    assert "LIMIT" not in last()
    made = ws.materialize("few", f"SELECT id, n FROM {t} LIMIT 2")
    assert made.arrow().column("id").to_pylist() == [1, 2] and "LIMIT" not in last()


# -- values


@pytest.mark.parametrize(
    ("kind", "value", "what"),
    [
        ("timestamp", "'294276-12-31 23:59:59'", "timestamp after the year 294246"),
        ("timestamptz", "'294276-12-31 23:59:59+00'", "timestamp after the year 294246"),
        ("timestamp[]", "'{294276-12-31}'", "timestamp after the year 294246"),
        ("numeric(5, 2)", "'NaN'", "NaN"),
        ("numeric(5, 2)[]", "'{1,NaN}'", "NaN"),
    ],
)
def test_a_value_that_duckdb_cannot_hold_is_refused_by_its_column(postgres, kind, value, what):
    postgres.run(
        f"CREATE TABLE {{t}} (id integer, v {kind})",
        f"INSERT INTO {{t}} VALUES (1, NULL), (2, {value})",
    )
    for statement in ("SELECT v FROM {t}", "SELECT * FROM {t} LIMIT 5", "SELECT count(v) FROM {t}"):
        with pytest.raises(SourceUnavailable, match=f"'v' of s.{postgres.table} contains a {what}"):
            postgres.sql(statement)
    with pytest.raises(SourceUnavailable, match="contains a"):
        postgres.ws.materialize("t", f"SELECT v FROM s.{postgres.table}")
    assert postgres.sql("SELECT id FROM {t} ORDER BY id") == [(1,), (2,)]
    assert postgres.sql("SELECT v FROM {t} WHERE id = 1") == [(None,)]


def test_infinite_and_early_timestamps_are_read(postgres):
    postgres.run(
        "CREATE TABLE {t} (v timestamp)",
        "INSERT INTO {t} VALUES ('infinity'), ('-infinity'), ('4713-01-01 BC'), ('290000-01-01')",
    )
    assert postgres.sql("SELECT v::VARCHAR FROM {t}") == [
        ("infinity",),
        ("-infinity",),
        ("4713-01-01 (BC) 00:00:00",),
        ("290000-01-01 00:00:00",),
    ]


def test_open_paths_and_empty_characters_are_read_as_the_server_writes_them(postgres):
    postgres.run(
        'CREATE TABLE {t} (id integer, c "char", p path)',
        "INSERT INTO {t} VALUES (1, '', '((0,0),(1,1))'), (2, 'a', '[(0,0),(1,1)]')",
    )
    assert postgres.sql("SELECT * FROM {t} ORDER BY id") == [
        (1, "", "((0,0),(1,1))"),
        (2, "a", "[(0,0),(1,1)]"),
    ]
    assert postgres.sql("SELECT id FROM {t} WHERE c = '' AND id < 9") == [(1,)]


def test_dots_in_the_names_of_schema_and_table_are_no_change(postgres):
    schema = f"{postgres.table}.a"
    postgres.run(
        f'CREATE SCHEMA "{schema}"',
        f'CREATE TABLE "{schema}"."b.c" AS SELECT 1 AS id',
    )
    try:
        ws = postgres.ws
        ws.materialize("t", f'SELECT id FROM s."{schema}"."b.c"')
        assert is_fresh(ws)
        postgres.run(f'INSERT INTO "{schema}"."b.c" VALUES (2)')
        assert is_stale(ws)
    finally:
        postgres.run(f'DROP SCHEMA "{schema}" CASCADE')


@product
@pytest.mark.parametrize("kind", ["date", "datetime", "datetime(6)", "timestamp NULL"])
@pytest.mark.parametrize("value", ["0000-00-00", "2024-00-00", "2024-01-00"])
def test_an_incomplete_date_is_refused_by_its_column(mysql, kind, value):
    if kind.startswith("timestamp") and value != "0000-00-00":
        value = "0000-00-00"
    mysql.run(f"CREATE TABLE {{t}} (id integer, v {kind})", "INSERT INTO {t} VALUES (1, NULL)")
    assert mysql.sql("SELECT v FROM {t}") == [(None,)]
    insert = f"INSERT INTO {mysql.table} VALUES (2, '{value}')"
    mysql.run(f"BEGIN NOT ATOMIC SET sql_mode = ''; {insert}; END")
    for statement in (
        "SELECT v FROM {t}",
        "SELECT * FROM {t} LIMIT 5",
        "SELECT count(v) FROM {t}",
        "SELECT id FROM {t} WHERE v IS NOT NULL",
        "SELECT id FROM {t} WHERE v IS NULL",
        "SELECT id FROM {t} WHERE v IS NULL LIMIT 5",
    ):
        with pytest.raises(SourceUnavailable, match=f"'v' of s.{mysql.table} contains a date"):
            mysql.sql(statement)
    with pytest.raises(SourceUnavailable, match="contains a date"):
        mysql.ws.materialize("t", f"SELECT v FROM s.{mysql.table}")
    assert mysql.sql("SELECT v FROM {t} WHERE id = 1") == [(None,)]
    assert mysql.sql("SELECT id FROM {t} WHERE id = 1 AND v IS NULL") == [(1,)]
    assert mysql.sql("SELECT id FROM {t} ORDER BY id") == [(1,), (2,)]


def test_a_time_is_a_time_whatever_is_read_beside_it(mysql):
    mysql.run(
        "CREATE TABLE {t} (id integer, v time(6), n decimal(50, 1))",
        "INSERT INTO {t} VALUES (1, '10:00:00', 1), (2, '23:59:59.999999', 2), (3, NULL, 3)",
        "INSERT INTO {t} VALUES (4, '9:30:00.5', 4), (5, '0:00:00', 5)",
    )
    alone = [
        (time(10),),
        (time(23, 59, 59, 999999),),
        (None,),
        (time(9, 30, 0, 500000),),
        (time(),),
    ]
    assert mysql.sql("SELECT v FROM {t} ORDER BY id") == alone
    assert [(v,) for v, _ in mysql.sql("SELECT v, n FROM {t} ORDER BY id")] == alone
    assert mysql.sql("SELECT id FROM {t} WHERE v = '10:00:00.000000'") == [(1,)]
    assert mysql.sql("SELECT max(v), min(v) FROM {t} WHERE id <> 2") == [(time(10), time())]
    assert mysql.sql("SELECT id FROM {t} WHERE v > '9:15:00' ORDER BY v DESC") == [(2,), (1,), (4,)]


@pytest.mark.parametrize("value", ["24:00:00", "100:00:00", "-00:00:01", "838:59:59"])
def test_a_time_that_is_none_of_a_day_is_refused_by_its_column(mysql, value):
    mysql.run(
        "CREATE TABLE {t} (id integer, v time, n decimal(50, 1))",
        f"INSERT INTO {{t}} VALUES (1, '9:00:00', 1), (2, '{value}', 2)",
    )
    for statement in (
        "SELECT v FROM {t}",
        "SELECT v, n FROM {t}",
        "SELECT max(v) FROM {t}",
        "SELECT id FROM {t} ORDER BY v",
    ):
        with pytest.raises(SourceUnavailable, match=r"'v' of .* contains a time that is none of a"):
            mysql.sql(statement)
    assert mysql.sql("SELECT v, n FROM {t} WHERE id = 1") == [(time(9), Decimal(1))]
    assert mysql.sql("SELECT id FROM {t} WHERE id = 2") == [(2,)]


def test_money_is_a_number(postgres):
    postgres.run(
        "CREATE TABLE {t} (id integer, v money)",
        "INSERT INTO {t} VALUES (1, 9.5), (2, 100.5), (3, -3), (4, NULL), (5, 10)",
        "INSERT INTO {t} VALUES (6, '92233720368547758.07')",
    )
    assert postgres.sql("SELECT v FROM {t} ORDER BY id LIMIT 3") == [
        (Decimal("9.50"),),
        (Decimal("100.50"),),
        (Decimal("-3.00"),),
    ]
    assert postgres.sql("SELECT max(v) FROM {t}") == [(Decimal("92233720368547758.07"),)]
    assert postgres.sql("SELECT min(v), arg_max(id, v) FROM {t} WHERE id < 6") == [
        (Decimal("-3.00"), 2)
    ]
    assert postgres.sql("SELECT id FROM {t} WHERE v > 9.75 ORDER BY v") == [(5,), (2,), (6,)]
    assert postgres.sql("SELECT id FROM {t} WHERE v BETWEEN 9 AND 10 ORDER BY id") == [(1,), (5,)]


@pytest.fixture
def view(postgres) -> Iterator[str]:
    """The name of a view of {t}, which is dropped with it."""
    yield f"s.{postgres.table}_v"
    postgres.run(f"DROP VIEW IF EXISTS {postgres.table}_v")


def test_averages_of_a_view_are_exact_numbers(postgres, view):
    postgres.run(
        "CREATE TABLE {t} (k integer, amount numeric(10, 2))",
        "INSERT INTO {t} VALUES (1, 10), (1, 10), (1, 11), (2, 0.5), (2, 0.25), (2, 0.25)",
        "CREATE VIEW {t}_v AS SELECT k, avg(amount) AS mean, sum(amount) AS total FROM {t} "
        "GROUP BY k",
    )
    ws = postgres.ws
    assert {c.name: c.type for c in ws.sources["s"].columns(f"{postgres.table}_v")} == {
        "k": "INTEGER",
        "mean": "DECIMAL(38,20)",
        "total": "DECIMAL(38,10)",
    }
    ws.materialize("m", f"SELECT k, mean FROM {view} WHERE total > 1 OR mean < 1")
    assert ws.sql("SELECT mean FROM jammi.m ORDER BY mean DESC").fetchall() == [
        (Decimal("10.3333333333333333"),),
        (Decimal("0.33333333333333333333"),),
    ]
    assert is_fresh(ws, "m")
    postgres.run("INSERT INTO {t} VALUES (3, 0.0001), (3, 0), (3, 0)")
    assert is_stale(ws, "m")
    ws.recompute("m")
    assert is_fresh(ws, "m")


def test_numbers_of_a_view_that_no_decimal_holds_are_rounded_and_the_verdict_says_so(
    postgres, view
):
    postgres.run(
        "CREATE TABLE {t} (v numeric)",
        "INSERT INTO {t} VALUES (15e30), (0.12345678901)",
        "CREATE VIEW {t}_v AS SELECT v FROM {t}",
    )
    ws = postgres.ws
    ws.materialize("m", f"SELECT v FROM {view}")
    assert sorted(ws.table("m").arrow()["v"].to_pylist()) == [0.12345678901, 1.5e31]
    verdict = ws.staleness("m")
    assert isinstance(verdict, Fresh)
    assert verdict.grounds == [f"{view} by numbers rounded to DOUBLE"]
