"""What is special about MySQL and MariaDB: collations, types, what lies beside a transaction,
rights."""

from __future__ import annotations

import dataclasses
import itertools
import secrets
from collections.abc import Callable, Iterator
from datetime import time
from decimal import Decimal

import pytest

from jammi_lab.core.anchors import Cost
from jammi_lab.core.errors import SourceUnavailable
from jammi_lab.core.identifiers import fold
from jammi_lab.core.verdicts import Stale
from jammi_lab.sources.databases import mysql
from jammi_lab.sources.databases.mysql import MysqlConnector
from jammi_lab.steps.single_flight import SingleFlight
from tests.contracts.source import DictMemo, look, same_state
from tests.sources.servers import as_user, crm, engine, sql, table, url, ws  # noqa: F401  fixtures
from tests.verdicts import doubt, is_fresh, is_stale

SERVER = "mysql"

pytestmark = pytest.mark.services


WORDS = ["t3a", "T3B", "T3a", "é", "e", "a", "a ", "ß", "ss"]


@pytest.mark.parametrize(
    "condition",
    [
        "w = 't3a'",
        "w LIKE 't3%'",
        "w < 'a'",
        "w IN ('E', 'A')",
        "w BETWEEN 'A' AND 'b'",
        "w = 'a' AND id > 0",
        "w <> 'e' OR id = 1",
        "f = 0.1::FLOAT",
    ],
)
def test_comparisons_mean_what_they_mean_without_a_server(ws, sql, table, condition):
    rows = ", ".join(f"({n}, '{word}', 0.1)" for n, word in enumerate(WORDS))
    sql(
        f"CREATE TABLE {table} (id integer, w varchar(9) COLLATE utf8mb4_general_ci, f float)",
        f"INSERT INTO {table} VALUES {rows}",
    )
    ws.sql(f"SELECT id, w, f FROM crm.{table}")
    here = ws.materialize("here", f"SELECT id, w, f FROM crm.{table}", key=["id"])
    assert here.row_count == len(WORDS)
    for text in (
        f"SELECT id FROM {{}} WHERE {condition} ORDER BY id",
        f"SELECT w, count(*) AS n FROM {{}} WHERE {condition} GROUP BY w ORDER BY w",
        f"SELECT max(w), min(w), count(DISTINCT w) FROM {{}} WHERE {condition}",
        "SELECT w FROM {} ORDER BY w DESC LIMIT 3",
    ):
        assert (
            ws.sql(text.format(f"crm.{table}")).fetchall()
            == ws.sql(text.format("jammi.here")).fetchall()
        )


def test_types_keep_their_values_for_a_tenant_too(ws, sql, table, url):
    sql(
        f"CREATE TABLE {table} (tiny tinyint(1), wide decimal(50, 3), d decimal(10, 2), big bigint unsigned, e enum('x', 'é'), b bit(9), "
        "t time(2), dt datetime(6), ts timestamp NULL, j json, bl blob, s set('x','y'), lt longtext, tb text COLLATE utf8mb4_bin, y year, f float, "
        "owner varchar(9) COLLATE utf8mb4_bin)",
        f"INSERT INTO {table} VALUES (5, 12345678901234567890123456789012345.125, 1.25, 18446744073709551615, 'é', b'100000001', "
        "'5:00:01.25', '2020-01-01 00:00:00.000001', '2020-01-01 00:00:00', '[1]', x'00ff', 'x,y', 'tä', 'ü', 2020, 1.5, 'acme')",
    )
    [row] = ws.sql(
        f"SELECT tiny, wide, d::VARCHAR, big, e, t, dt::VARCHAR, j, s, lt, tb, y, f FROM crm.{table}"
    ).fetchall()
    assert row == (
        5,
        Decimal("12345678901234567890123456789012345.125"),
        "1.25",
        2**64 - 1,
        "é",
        time(5, 0, 1, 250_000),
        "2020-01-01 00:00:00.000001",
        "[1]",
        "x,y",
        "tä",
        "ü",
        2020,
        1.5,
    )
    assert ws.sql(f"SELECT bl, hex(b) FROM crm.{table} WHERE tiny = 5").fetchall() == [
        (b"\x00\xff", "0101")
    ]
    ws.materialize("t", f"SELECT * FROM crm.{table}")
    assert is_fresh(ws)
    ws.sources.add("own", url, tenant_column="owner")
    every = ws.sql(f"SELECT * FROM crm.{table}")
    with ws.tenant("acme"):
        own = ws.sql(f"SELECT * FROM own.{table}")
        assert own.columns == every.columns and own.fetchall() == every.fetchall()


@pytest.mark.parametrize("kind", ["varchar(9)", "text", "char(3)"])
def test_the_same_bytes_in_another_character_set_are_other_letters(crm, sql, table, kind):
    sql(
        f"CREATE TABLE {table} (id integer, w {kind} CHARACTER SET latin1)",
        f"INSERT INTO {table} VALUES (1, 'é')",
    )
    before = crm.observe(table, look())
    sql(
        f"ALTER TABLE {table} MODIFY w varbinary(9)",
        f"ALTER TABLE {table} MODIFY w varchar(9) CHARACTER SET cp1251",
    )
    assert not same_state(before, crm.observe(table, look()))


def test_what_is_written_and_put_back_moves_the_stamp(crm, sql, table):
    sql(f"CREATE TABLE {table} (v integer)", f"INSERT INTO {table} VALUES (1)")
    before = crm.observe(table, look())
    sql(f"UPDATE {table} SET v = 2", f"UPDATE {table} SET v = 1")
    after = crm.observe(table, look())
    assert same_state(before, after) and before.stamp != after.stamp


def test_what_the_log_does_not_tell_of_is_digested_each_time(crm, sql, table):
    sql(f"CREATE TABLE {table} (v integer) ENGINE=MyISAM", f"INSERT INTO {table} VALUES (1)")
    memo = DictMemo()
    first, second = (crm.observe(table, look(memo, racy_seconds=0.0)) for _ in range(2))
    assert first.cost is Cost.SCAN and second.cost is Cost.SCAN
    assert memo == {} and same_state(first, second)


@pytest.fixture
def reader(sql, mysql_url) -> Iterator[str]:
    name = f"reader_{secrets.token_hex(4)}"
    sql(
        f"CREATE USER {name}@'%' IDENTIFIED BY 'l0ngpassw0rd'",
        f"CREATE USER {name}@'localhost' IDENTIFIED BY 'l0ngpassw0rd'",
    )
    yield name
    sql(f"DROP USER {name}@'%'", f"DROP USER {name}@'localhost'")


@pytest.fixture
def rights(sql, reader) -> Callable[[str], None]:
    """Gives rights to the reader, or takes them."""
    return lambda said: sql(*(f"{said} {reader}@'{host}'" for host in ("%", "localhost")))


def test_rights_and_passwords_are_told_without_the_password(
    ws, sql, table, reader, rights, mysql_url
):
    sql(f"CREATE TABLE {table} (v integer)", f"INSERT INTO {table} VALUES (1)")
    rights(f"GRANT SELECT, INSERT ON {table} TO")
    with pytest.raises(SourceUnavailable, match="login failed") as caught:
        ws.sources.add("mine", as_user(mysql_url, reader, "wr0ngpassw0rd"))
    assert "wr0ng" not in "".join(caught.value.rendered_lines())
    source = ws.sources.add("mine", as_user(mysql_url, reader, "l0ngpassw0rd"))
    assert "l0ng" not in repr(source) + source.location
    ws.materialize("t", f"SELECT v FROM mine.{table}")
    assert is_fresh(ws)
    rights(f"REVOKE SELECT ON {table} FROM")
    # A revoke leaves the log as it was, which may tell without a read that no row changed.
    sql(f"INSERT INTO {table} VALUES (2)")
    assert "permission denied" in doubt(ws)
    rights(f"REVOKE INSERT ON {table} FROM")
    assert not is_fresh(ws)  # the server hides the table


def test_names_are_sent_as_they_are(ws, sql, table):
    names = {f"{table}\\": 1, f"{table}` -- x": 2, table.upper(): 3, table: 4}
    quoted = {name: name.replace("`", "``") for name in names}
    try:
        for name, number in names.items():
            sql(f"CREATE TABLE `{quoted[name]}` AS SELECT {number} AS `ba\\ck`, 5 AS `a``b`")
        assert {name for name in ws.sources["crm"].tables() if fold(table) in fold(name)} == {
            *names
        }
        for name, number in names.items():
            assert ws.sql(f'SELECT "ba\\ck", "a`b" FROM crm."{name}"').fetchall() == [(number, 5)]
        ws.materialize("t", f"SELECT * FROM crm.{table}")
        sql(f"UPDATE {table.upper()} SET `a``b` = 6")
        assert is_fresh(ws)
    finally:
        for name in names:
            sql(f"DROP TABLE IF EXISTS `{quoted[name]}`")


def test_a_table_that_was_just_written_is_pinned_though_others_are_written_all_the_time(
    ws, sql, table, monkeypatch
):
    """Of a write in this second the server tells no more than its log does, which moves with every
    write to whatever table. So a rest is taken before the last try; here the log is still from then
    on."""
    sql(f"CREATE TABLE {table} (v integer)", f"INSERT INTO {table} VALUES (1)")
    monkeypatch.setattr(
        mysql, "WRITTEN_RECENTLY", mysql.WRITTEN_RECENTLY.replace("2 SECOND", "1 HOUR")
    )  # whatever this machine takes for a try
    rested, gate, positions = [], MysqlConnector.log_position, itertools.count()

    def moving(self, asking):
        return dataclasses.replace(
            gate(self, asking), position=["" if rested else str(next(positions))]
        )

    monkeypatch.setattr(MysqlConnector, "log_position", moving)
    monkeypatch.setattr(SingleFlight, "wait_for_distinct_timestamps", lambda _: rested.append(1))
    ws.materialize("t", f"SELECT v FROM crm.{table}")
    assert is_fresh(ws) and rested == [1]


# -- what DuckDB remembers of a server -------------------------------------------------------------


def test_a_table_that_moves_while_a_result_is_open_is_read_all_the_same(ws, sql, table):
    sql(f"CREATE TABLE {table} (id integer, v varchar(9))", f"INSERT INTO {table} SELECT 1, 'a'")
    try:
        sql(
            f"CREATE TABLE {table}_large (id integer, v varchar(200))",
            f"INSERT INTO {table}_large SELECT seq, repeat('x', 200) FROM seq_1_to_600000",
        )
        ws.sql(f"SELECT * FROM crm.{table}").fetchall()
        batches = ws.sql(f"SELECT * FROM crm.{table}_large").batches()
        first = next(batches)
        sql(
            f"ALTER TABLE {table} MODIFY v blob, ADD w integer",
            f"UPDATE {table} SET w = 2",
            f"CREATE TABLE {table}_new AS SELECT 3 AS x",
        )
        asked = ws.sql(f"SELECT id, v, w FROM crm.{table} WHERE w = 2 AND v = 'a'::BLOB")
        assert asked.fetchall() == [(1, b"a", 2)] and ws.sql(
            f"SELECT sum(x) FROM crm.{table}_new"
        ).fetchall() == [(3,)]
        ws.materialize("moved", f"SELECT * FROM crm.{table}")
        assert is_fresh(ws, "moved")
        assert first.num_rows + sum(batch.num_rows for batch in batches) == 600_000
        assert ws.sql(f"SELECT v, w FROM crm.{table}").fetchall() == [(b"a", 2)] and is_fresh(
            ws, "moved"
        )
    finally:
        sql(f"DROP TABLE IF EXISTS {table}_large", f"DROP TABLE IF EXISTS {table}_new")


# -- views, and several tables ---------------------------------------------------------------------


@pytest.fixture
def behind(sql, table) -> Iterator[str]:
    """A table with rows. A test may make a view `{t}_a` and a table `{t}_2` over it."""
    sql(
        f"CREATE TABLE {table} (id integer PRIMARY KEY, v integer, KEY (v))",
        f"INSERT INTO {table} VALUES (1, 30), (2, 20), (3, 10)",
    )
    yield table
    sql(f"DROP VIEW IF EXISTS {table}_a", f"DROP TABLE IF EXISTS {table}_2")


def test_a_view_is_read_and_has_a_state_by_the_anchor_of_a_column(ws, sql, behind, mysql_url):
    sql(f"CREATE VIEW {behind}_a AS SELECT v FROM {behind} WHERE id < 3")
    ws.materialize("t", f"SELECT sum(v) FROM crm.{behind}_a")
    assert ws.table("t").read().fetchall() == [(50,)]
    assert 'of a view the server does not tell when its rows change; set anchor="column' in doubt(
        ws
    )
    ws.sources.add("by_v", mysql_url, anchor="column:v")
    ws.materialize("u", f"SELECT sum(v) FROM by_v.{behind}_a")
    assert is_fresh(ws, "u")
    sql(f"UPDATE {behind} SET v = 31 WHERE id = 1")
    assert is_stale(ws, "u")


def test_a_virtual_column_that_a_function_computes_has_no_state(ws, sql, table):
    sql(f"CREATE TABLE {table} (v integer, w integer AS ((v + 1) * 2) VIRTUAL)")
    ws.materialize("t", f"SELECT * FROM crm.{table}")
    assert is_fresh(ws)
    sql(f"ALTER TABLE {table} ADD g double AS (rand()) VIRTUAL")
    assert "its column g is computed at each read: rand()" in doubt(ws)


def test_tables_of_one_server_are_looked_up_by_one_query(ws, sql, behind, sent):
    sql(f"CREATE TABLE {behind}_2 AS SELECT id, v FROM {behind}")
    names = [behind, f"{behind}_2"]
    for number, name in enumerate(names):
        ws.materialize(f"d{number}", f"SELECT v FROM crm.{name}")
    sent.clear()
    assert {str(row.verdict) for row in ws.status(deep=True)} == {"fresh"}
    literals = [f"x'{name.encode().hex()}'" for name in names]
    looked_up = [query for query in sent if all(each in query for each in literals)]
    assert len(looked_up) == 1
    sql(f"DROP TABLE {behind}_2", f"UPDATE {behind} SET v = 31 WHERE id = 1")
    words = {row.name: type(row.verdict) for row in ws.status(deep=True)}
    assert words == {"d0": Stale, "d1": Stale}
