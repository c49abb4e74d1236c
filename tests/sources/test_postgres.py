"""What is special about PostgreSQL: its types, its transactions, its log, its rights, its
passwords."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from decimal import Decimal
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest

import jammi_lab
from jammi_lab.core.anchors import Cost
from jammi_lab.core.errors import SecretMissing, SourceUnavailable
from tests.cases import cases
from tests.contracts.source import DictMemo, look, same_state
from tests.inside import services_of
from tests.services.servers import run_postgres
from tests.sources.servers import as_user, connector_of, crm, engine, sql, table, url, ws  # noqa: F401  fixtures
from tests.verdicts import doubt, is_fresh, is_stale

pytestmark = pytest.mark.services
SERVER = "postgres"


def test_a_table_without_columns_is_refused(ws, sql, table):
    sql(f"CREATE TABLE {table} ()")
    with pytest.raises(jammi_lab.SourceUnavailable, match=f"{table} has no columns"):
        ws.sql(f"SELECT count(*) FROM crm.{table}")


# -- types -----------------------------------------------------------------------------------------


def test_a_number_without_precision_is_an_exact_number(ws, sql, table):
    sql(
        f"CREATE TABLE {table} (id integer, n numeric, wide numeric(50, 3), far numeric(50, 40))",
        f"INSERT INTO {table} VALUES (1, 12345678901234567890.1234567890, 1.5, 2.25)",
        f"INSERT INTO {table} VALUES (2, 9, 9, 0), (3, 10, 10, 0), (4, 100.5, 100.5, 0)",
    )
    assert [c.type for c in ws.sources["crm"].columns(table)] == [
        "INTEGER", "DECIMAL(38,10)", "DECIMAL(38,3)", "DECIMAL(38,10)"
    ]  # fmt: skip
    assert ws.sql(f"SELECT n, wide, far FROM crm.{table} WHERE id = 1").fetchall() == [
        (Decimal("12345678901234567890.123456789"), Decimal("1.5"), Decimal("2.25"))
    ]
    largest = f"SELECT id FROM crm.{table} WHERE id > 1 ORDER BY n DESC LIMIT 1"
    assert ws.sql(largest).fetchall() == [(4,)]
    assert ws.sql(f"SELECT max(n), sum(wide) FROM crm.{table} WHERE n < 1000").fetchall() == [
        (Decimal("100.5"), Decimal("119.5"))
    ]
    assert ws.sql(f"SELECT id FROM crm.{table} WHERE n = 9.0").fetchall() == [(2,)]


@pytest.mark.parametrize("value", ["15e30", "0.12345678901", "'NaN'", "'Infinity'", "1e-20"])
def test_a_number_that_no_decimal_holds_is_refused_with_the_option_that_helps(
    ws, sql, table, value
):
    sql(f"CREATE TABLE {table} (id integer, n numeric)", f"INSERT INTO {table} VALUES (1, {value})")
    with pytest.raises(SourceUnavailable, match=r"'n' .* beyond DECIMAL\(38,10\)") as told:
        ws.sql(f"SELECT max(n) FROM crm.{table}").fetchall()
    assert 'options={"numeric": "double"}' in told.value.hint
    assert ws.sql(f"SELECT id FROM crm.{table}").fetchall() == [(1,)]
    ws.sources.add("crm", ws.sources["crm"].location, options={"numeric": "double"}, replace=True)
    [(read,)] = ws.sql(f"SELECT n FROM crm.{table}").fetchall()
    assert str(read) == str(float(value.strip("'")))


def test_numbers_of_a_table_that_its_values_decide(ws, sql, table):
    sql(
        f"CREATE TABLE {table} (id integer, n numeric, far numeric)",
        f"INSERT INTO {table} VALUES (1, 0.12345678901, 1e-40), (2, 9, 1), (3, 10, NULL)",
    )
    location = ws.sources["crm"].location
    ws.sources.add("crm", location, options={"numeric": "values"}, replace=True)
    assert {c.name: c.type for c in ws.sources["crm"].columns(table)} == {
        "id": "INTEGER", "n": "DECIMAL(38,11)", "far": "DOUBLE"
    }  # fmt: skip
    assert ws.sql(f"SELECT n, far FROM crm.{table} ORDER BY n").fetchall() == [
        (Decimal("0.12345678901"), 1e-40), (Decimal(9), 1.0), (Decimal(10), None)
    ]  # fmt: skip


def test_arrays_of_numbers_are_arrays_of_numbers(ws, sql, table):
    sql(
        f"CREATE TABLE {table} (id integer, a numeric[])",
        f"INSERT INTO {table} VALUES (1, '{{9,NULL}}'), (2, '{{10}}'), (3, '{{100.5}}'), (4, NULL)",
    )
    in_order = f"SELECT id FROM crm.{table} WHERE a IS NOT NULL ORDER BY a"
    assert ws.sql(in_order).fetchall() == [(1,), (2,), (3,)]
    assert ws.sql(f"SELECT a FROM crm.{table} WHERE id < 3 ORDER BY id").fetchall() == [
        ([Decimal(9), None],), ([Decimal(10)],)
    ]  # fmt: skip
    assert ws.sql(f"SELECT id FROM crm.{table} WHERE a = [10::DECIMAL(38, 10)]").fetchall() == [
        (2,)
    ]
    for number, value in enumerate(("{1,0.12345678901}", "{NaN}", "{{1,2}}")):
        sql(f"UPDATE {table} SET a = '{value}' WHERE id = 3")
        with pytest.raises(SourceUnavailable, match=r"'a' .* beyond DECIMAL\(38,10\)\[\]"):
            ws.sql(f"SELECT max(a) FROM crm.{table} -- {number}").fetchall()


def test_types_of_its_own_come_as_text_and_zones_as_instants(ws, sql, table):
    sql(f"DROP TYPE IF EXISTS mood_{table}", f"CREATE TYPE mood_{table} AS ENUM ('sad', 'ok')")
    try:
        sql(
            f"CREATE TABLE {table} (j jsonb, m mood_{table}, b bit(3), z timestamptz, i inet, a integer[], u uuid)",
            f"INSERT INTO {table} VALUES ('{{\"a\": 1}}', 'ok', B'101', '2020-01-01 00:00+02', '10.0.0.1', '{{1,2}}', "
            "'00000000-0000-0000-0000-000000000001')",
        )
        found = ws.sql(
            f"SELECT j, m::VARCHAR, b, z::VARCHAR, i, a, u::VARCHAR FROM crm.{table}"
        ).fetchall()
        assert found == [
            (
                '{"a": 1}',
                "ok",
                "101",
                "2019-12-31 22:00:00+00",
                "10.0.0.1/32",
                [1, 2],
                "00000000-0000-0000-0000-000000000001",
            )
        ]
        made = ws.materialize("t", f"SELECT * FROM crm.{table}")
        assert made.row_count == 1 and is_fresh(ws)
        sql(f"ALTER TYPE mood_{table} ADD VALUE 'fine'", f"UPDATE {table} SET m = 'fine'")
        assert ws.sql(f"SELECT m::VARCHAR FROM crm.{table}").fetchall() == [("fine",)]
        assert is_stale(ws)
    finally:
        sql(f"DROP TABLE {table}", f"DROP TYPE mood_{table}")


@pytest.mark.parametrize(
    "said",
    [
        "id, row_number() OVER () AS place",
        "first(id) AS id",
        "list(id) AS ids",
        "arg_max(id, g) AS id",
        "max(lasts)::VARCHAR AS longest",
        "count(*) AS n, list(DISTINCT lasts)::VARCHAR AS l",
    ],
)
def test_rows_that_depend_on_an_order_are_made_of_the_bag_that_their_anchor_speaks_of(
    ws, sql, table, said
):
    sql(
        f"CREATE TABLE {table} (id integer, g integer, lasts interval)",
        f"INSERT INTO {table} VALUES (1, 1, '30 days'), (2, 1, '1 month')",
    )
    made = ws.materialize("m", f"SELECT {said} FROM crm.{table}")
    sql(f"DELETE FROM {table}", f"INSERT INTO {table} VALUES (2, 1, '1 month'), (1, 1, '30 days')")
    assert made.manifest.order_sensitive and is_fresh(ws, "m")
    again = ws.materialize("m", f"SELECT {said} FROM crm.{table}", cache="bypass")
    assert again.manifest.artifact == made.manifest.artifact


def test_the_role_s_own_settings_change_no_digest(postgres_url, crm, engine, sql, table):
    sql(
        f"CREATE TABLE {table} (z timestamptz, f double precision)",
        f"INSERT INTO {table} VALUES ('2020-01-01 00:00+00', 0.1)",
    )
    before = crm.observe(table, look())
    name = urlsplit(postgres_url).path.lstrip("/")
    sql(
        f"""ALTER DATABASE "{name}" SET TimeZone = 'Asia/Tokyo'""",
        f"""ALTER DATABASE "{name}" SET extra_float_digits = 0""",
    )
    try:
        again = connector_of(engine, "postgresql", postgres_url, name="again")
        assert same_state(before, again.observe(table, look()))
    finally:
        sql(f"""ALTER DATABASE "{name}" RESET ALL""")


# -- the log as the gate ---------------------------------------------------------------------------


def test_while_another_transaction_is_open_the_log_proves_nothing(crm, sql, table, postgres_url):
    sql(f"CREATE TABLE {table} (v integer)", f"INSERT INTO {table} VALUES (1)")
    memo = DictMemo()
    with psycopg.connect(postgres_url) as other:
        other.execute(f"UPDATE {table} SET v = 2")
        before = crm.observe(table, look(memo))
        [entry] = memo.values()
        assert entry.payload["sound"] is False
    assert not same_state(before, crm.observe(table, look(memo)))


def test_a_copy_of_the_server_s_files_that_is_put_back_has_another_log_position(crm, sql, table):
    sql(f"CREATE TABLE {table} (v integer)", f"INSERT INTO {table} VALUES (1)")
    memo = DictMemo()
    crm.observe(table, look(memo))
    [entry] = memo.values()
    [(began,)] = sql("SET TimeZone = 'UTC'", "SELECT pg_postmaster_start_time()::text")
    assert began in entry.payload["gate"], (
        "an image of a container writes other rows up to the same position"
    )


@pytest.mark.parametrize(("said", "why"), cases("sources/postgres_views", "said", "why"))
def test_a_view_has_a_state_that_its_rows_tell_or_says_why_not(ws, sql, table, said, why):
    """Another session may see other settings; ours keeps those that it began with."""
    reads = "SELECT current_setting('app.limit', true)"
    sql(
        f"CREATE TABLE {table} (v integer)",
        f"INSERT INTO {table} VALUES (1), (2)",
        f"CREATE MATERIALIZED VIEW {table}_m AS SELECT v, random() AS r FROM {table}",
        f"CREATE FUNCTION {table}_any(integer) RETURNS integer LANGUAGE sql AS 'SELECT $1'",
        f"CREATE FUNCTION {table}_f() RETURNS text LANGUAGE sql STABLE AS $${reads}$$",
        f"CREATE FUNCTION {table}_calls_f() RETURNS text LANGUAGE plpgsql IMMUTABLE "
        f"AS $$BEGIN RETURN {table}_f(); END$$",
        f"CREATE FUNCTION {table}_tree() RETURNS text LANGUAGE sql STABLE BEGIN ATOMIC {reads}; END",
        f"CREATE FUNCTION {table}_count() RETURNS bigint LANGUAGE sql STABLE "
        f"AS $$SELECT count(*) FROM {table}$$",
        f"CREATE VIEW {table}_in AS SELECT {said.format(t=table)}",
        f"CREATE VIEW {table}_v AS SELECT * FROM {table}_in",
    )
    try:
        ws.materialize("t", f"SELECT * FROM crm.{table}_v")
        if why:
            assert why in doubt(ws)
        else:
            assert is_fresh(ws)
            sql(f"INSERT INTO {table} VALUES (0)", f"REFRESH MATERIALIZED VIEW {table}_m")
            assert is_stale(ws)
    finally:
        names = ", ".join(f"{table}_{each}" for each in ("any", "f", "calls_f", "tree", "count"))
        sql(f"DROP TABLE {table} CASCADE", f"DROP FUNCTION {names} CASCADE")


def test_what_a_view_takes_from_a_foreign_table_is_held_by_no_transaction(crm, sql, table):
    sql(
        f"CREATE FOREIGN DATA WRAPPER {table}_w",
        f"CREATE SERVER {table}_s FOREIGN DATA WRAPPER {table}_w",
    )
    try:
        sql(
            f"CREATE FOREIGN TABLE {table}_f (v integer) SERVER {table}_s",
            f"CREATE VIEW {table}_v AS SELECT v FROM {table}_f",
        )
        assert (
            crm.relation(f"{table}_v").consistency.witness is None
            and crm.relation(f"{table}_f").consistency.witness is None
        )
        sql(f"CREATE TABLE {table} (v integer)")
        assert crm.relation(table).consistency.witness is not None
    finally:
        sql(f"DROP FOREIGN DATA WRAPPER {table}_w CASCADE")


@pytest.mark.parametrize("shape", ["view", "unlogged", "secured", "inherited by a foreign table"])
def test_what_the_log_does_not_tell_of_is_digested_each_time(crm, sql, table, shape):
    sql(
        f"CREATE {'UNLOGGED' if shape == 'unlogged' else ''} TABLE {table} (v integer)",
        f"INSERT INTO {table} VALUES (1)",
    )
    name = table
    if shape == "view":
        name = f"{table}_v"
        sql(f"CREATE VIEW {name} AS SELECT v, current_timestamp AS seen FROM {table}")
    if shape == "secured":
        sql(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
    if shape.startswith("inherited"):
        sql(f"CREATE UNLOGGED TABLE {table}_child () INHERITS ({table})")
    memo = DictMemo()
    first, second = (crm.observe(name, look(memo, racy_seconds=0.0)) for _ in range(2))
    assert first.cost is Cost.SCAN and second.cost is Cost.SCAN and memo == {}
    assert same_state(first, second) is (shape != "view"), "a view over a clock moves by itself"


def test_a_partitioned_table_is_one_table_whose_parts_are_seen(crm, sql, table):
    sql(
        f"CREATE TABLE {table} (id integer, v integer) PARTITION BY RANGE (id)",
        f"CREATE TABLE {table}_1 PARTITION OF {table} FOR VALUES FROM (0) TO (10)",
        f"CREATE TABLE {table}_2 PARTITION OF {table} FOR VALUES FROM (10) TO (20)",
        f"INSERT INTO {table} SELECT i, i FROM generate_series(0, 19) i",
    )
    assert table in crm.tables() and f"{table}_1" not in crm.tables()
    before = crm.observe(table, look())
    assert before.row_count == 20
    sql(f"UPDATE {table}_2 SET v = 0 WHERE id = 12")
    assert not same_state(before, crm.observe(table, look()))


def test_truncate_and_a_new_table_of_the_name_are_seen(crm, sql, table):
    sql(f"CREATE TABLE {table} (v integer)", f"INSERT INTO {table} VALUES (1)")
    memo = DictMemo()
    before = crm.observe(table, look(memo))
    sql(f"TRUNCATE {table}")
    assert crm.observe(table, look(memo)).row_count == 0
    sql(
        f"DROP TABLE {table}",
        f"CREATE TABLE {table} (v integer)",
        f"INSERT INTO {table} VALUES (2)",
    )
    assert not same_state(before, crm.observe(table, look(memo)))
    sql(f"UPDATE {table} SET v = 1")
    assert same_state(before, crm.observe(table, look(memo))), "the same rows are the same state"


# -- rights and passwords --------------------------------------------------------------------------


@pytest.fixture
def reader(sql) -> Iterator[str]:
    name = f"reader_{secrets.token_hex(4)}"
    sql(f"CREATE ROLE {name} LOGIN")
    yield name
    sql(f"DROP OWNED BY {name}", f"DROP ROLE {name}")


def test_what_may_not_be_read_is_undecidable_and_said(ws, sql, table, reader, postgres_url):
    sql(
        f"CREATE TABLE {table} (v integer, hidden integer)",
        f"INSERT INTO {table} VALUES (1, 2)",
        f"GRANT SELECT (v) ON {table} TO {reader}",
    )
    ws.sources.add("mine", as_user(postgres_url, reader))
    ws.materialize("t", f"SELECT v FROM mine.{table}")
    assert is_fresh(ws)
    with pytest.raises(
        SourceUnavailable,
        match=f"The table {table} of the source 'mine' cannot be read: permission denied",
    ):
        ws.sql(f"SELECT hidden FROM mine.{table}")
    sql(f"REVOKE ALL ON {table} FROM {reader}")
    assert "permission denied" in doubt(ws)


def test_a_password_that_is_given_in_another_way_is_used_and_verdicts_go_on(
    tmp_path, strict_postgres_url, monkeypatch
):
    password = urlsplit(strict_postgres_url).password
    run_postgres(
        strict_postgres_url,
        "CREATE TABLE IF NOT EXISTS papers (id integer)",
        "INSERT INTO papers VALUES (1)",
    )
    with jammi_lab.open(tmp_path / "ws") as ws:
        ws.sources.add("crm", strict_postgres_url)
        ws.materialize("t", "SELECT id FROM crm.papers")
        assert is_fresh(ws)
    with jammi_lab.open(tmp_path / "ws") as ws:
        assert "was added with a credential, which is not stored" in doubt(ws)
        with pytest.raises(SecretMissing, match="replace=True"):
            ws.sql("SELECT * FROM crm.papers")
        monkeypatch.setenv("CRM_PASSWORD", password)
        ws.sources.add("crm", ws.sources["crm"].location, secret="CRM_PASSWORD", replace=True)
        assert is_fresh(ws), "the anchors of before can be compared"
        ws.sources.add("crm", ws.sources["crm"].location, secret=lambda: password, replace=True)
        assert is_fresh(ws)


def test_a_wrong_password_is_told_without_it_and_a_right_one_takes_its_place(
    ws, strict_postgres_url
):
    parts = urlsplit(strict_postgres_url)
    wrong = urlunsplit(
        parts._replace(netloc=f"{parts.username}:wr0ngwr0ng@{parts.hostname}:{parts.port}")
    )
    with pytest.raises(SourceUnavailable, match="login failed") as caught:
        ws.sources.add("strict", wrong)
    assert (
        "wr0ng" not in "".join(caught.value.rendered_lines())
        and len(caught.value.rendered_lines()) <= 5
    )
    answers = iter(["wr0ngwr0ng", parts.password])
    open_address = urlunsplit(
        parts._replace(netloc=f"{parts.username}@{parts.hostname}:{parts.port}")
    )
    ws.sources.add("strict", open_address, secret=lambda: next(answers), check=False)
    with pytest.raises(SourceUnavailable, match="login failed"):
        ws.sources["strict"].tables()
    assert isinstance(ws.sources["strict"].tables(), list), (
        "a function is asked again when its answer was refused"
    )


def test_a_database_that_would_hand_out_credentials_is_refused_and_nothing_of_it_stays(
    ws, fresh_postgres_url
):
    run_postgres(
        fresh_postgres_url,
        "CREATE TABLE duckdb_secrets (secret_name text, serialized_secret bytea)",
    )
    with pytest.raises(SourceUnavailable, match="duckdb_secrets"):
        ws.sources.add("other", fresh_postgres_url)
    cursor = services_of(ws).engine.instances_of(None).main.cursor()
    assert {
        storage
        for (storage,) in cursor.execute("SELECT DISTINCT storage FROM duckdb_secrets()").fetchall()
    } <= {"memory"}
    run_postgres(fresh_postgres_url, "DROP TABLE duckdb_secrets")
    ws.sources.add("other", fresh_postgres_url)


def test_what_the_server_takes_before_its_first_row_counts_as_time_that_the_table_took(
    ws, fresh_postgres_url
):
    run_postgres(
        fresh_postgres_url,
        "CREATE VIEW slow AS SELECT g AS id FROM generate_series(1, 3) g, pg_sleep(0.4)",
    )
    ws.sources.add("late", fresh_postgres_url, anchor="none")
    assert ws.materialize("t", "SELECT count(*) AS n FROM late.slow").manifest.seconds >= 0.4
    assert ws.plan("t").seconds_at_most >= 0.4


def test_a_view_has_no_state_while_new_sessions_have_other_settings(
    ws, sql, table, reader, postgres_url
):
    """Our session keeps those that it began with."""
    sql(
        f"CREATE TABLE {table} (v text)",
        f"INSERT INTO {table} VALUES ('running')",
        f"CREATE VIEW {table}_v AS SELECT to_tsvector(v)::text AS words FROM {table}",
        f'ALTER ROLE {reader} SET search_path = public, "$user"',
        f"ALTER ROLE {reader} SET default_text_search_config = simple",
        f"GRANT SELECT ON {table}, {table}_v TO {reader}",
    )
    ws.sources.add("own", as_user(postgres_url, reader))
    ws.materialize("t", f"SELECT words FROM own.{table}_v")
    assert is_fresh(ws)
    for change in (
        "SET default_text_search_config = english",
        "RESET search_path",
        "SET transform_null_equals = true",
        "SET standard_conforming_strings = 0",
    ):
        sql(f"ALTER ROLE {reader} {change}")
        assert "settings of new sessions" in doubt(ws)
        sql(
            f"ALTER ROLE {reader} SET transform_null_equals = false",
            f"ALTER ROLE {reader} RESET standard_conforming_strings",
            f"ALTER ROLE {reader} SET default_text_search_config = simple",
            f'ALTER ROLE {reader} SET search_path = public, "$user"',
        )
        assert is_fresh(ws)


def test_names_that_follow_the_search_path_have_no_state_while_new_sessions_have_another(
    ws, fresh_postgres_url
):
    run_postgres(
        fresh_postgres_url,
        "CREATE SCHEMA apart",
        "CREATE TABLE named (object regclass)",
        "INSERT INTO named VALUES ('named')",
    )
    ws.sources.add("own", fresh_postgres_url)
    assert ws.materialize("t", "SELECT object FROM own.named").read().fetchall() == [("named",)]
    assert is_fresh(ws)
    run_postgres(
        fresh_postgres_url,
        "DO $$ BEGIN EXECUTE 'ALTER DATABASE ' || current_database() "
        "|| ' SET search_path = apart'; END $$",
    )
    assert "settings of new sessions changed (search_path)" in doubt(ws)


def test_row_security_over_settings_of_the_session_has_no_state(
    ws, sql, table, reader, postgres_url
):
    sql(
        f"CREATE TABLE {table} (v integer, owner text)",
        f"INSERT INTO {table} VALUES (1, 'a')",
        f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY",
        f"CREATE POLICY p ON {table} USING (owner = current_setting('app.owner', true))",
        f"GRANT SELECT ON {table} TO {reader}",
    )
    # Whoever is above the policies reads all rows, whatever the settings.
    ws.materialize("all", f"SELECT v FROM crm.{table}")
    assert is_fresh(ws, "all")
    ws.sources.add("policed", as_user(postgres_url, reader))
    ws.materialize("t", f"SELECT v FROM policed.{table}")
    assert "its row security uses" in doubt(ws)
