"""Sources that are read by a connection of the user: one contract over drivers."""

import contextlib
import datetime
import secrets
import signal
import sqlite3
import threading
import time
from decimal import Decimal

import duckdb
import pytest

import jammi_lab
from jammi_lab.core.errors import (
    InvalidArgument,
    SourceExists,
    SourceUnavailable,
    TableNotFound,
)
from jammi_lab.core.identifiers import quote_identifier
from jammi_lab.core.verdicts import Fresh, Stale, Undecidable
from jammi_lab.sources.databases import connection as connections
from tests.services.servers import run_mysql, run_postgres

STATE = "SELECT count(*) AS n, max(id) AS top, sum(amount) AS total FROM {table}"
UTC = datetime.UTC
TYPES = {
    "id": "INTEGER",
    "no te": "VARCHAR(40)",
    "amount": "DECIMAL(10, 2)",
    "day": "DATE",
    "at": "TIMESTAMP",
    "moment": "TIMESTAMP WITH TIME ZONE",
    "flag": "BOOLEAN",
    "raw": "BLOB",
}
ODD = "a'b\"c\\d\né ×"
ROWS = [
    (1, ODD, Decimal("1.50"), datetime.date(2024, 2, 3), datetime.datetime(2024, 2, 3, 4, 5, 6, 7)),
    (2, "B", Decimal("-2.25"), datetime.date(2024, 2, 4), datetime.datetime(2024, 2, 4)),
    (3, "b", Decimal("99.99"), datetime.date(1969, 1, 1), datetime.datetime(1969, 12, 31, 23)),
    (4, None, None, None, None),
]
MOMENT = datetime.datetime(2024, 2, 3, 4, 5, 6, tzinfo=UTC)


class Driver:
    """A table behind a connection; `run` writes it by another one."""

    types = TYPES
    has_dates = has_instants = True

    def __init__(self, name):
        self.name = name

    def named(self, name):
        return quote_identifier(name)

    def make(self, get):
        self.table = f"o'd \"x`y {secrets.token_hex(4)}"
        self.start(get)
        columns = ", ".join(f"{self.named(n)} {kind}" for n, kind in self.types.items())
        self.run(f"CREATE TABLE {self.named(self.table)} ({columns})")
        for row in reversed(ROWS):
            self.insert(row)

    def insert(self, row):
        moment = MOMENT.isoformat(sep=" ") if self.has_instants else MOMENT.isoformat(" ")[:19]
        values = [*row, *((moment, "true", None) if row[1] else (None,) * 3)]
        texts = ", ".join("NULL" if v is None else self.literal(v) for v in values)
        self.run(f"INSERT INTO {self.named(self.table)} VALUES ({texts})")

    def literal(self, value):
        if isinstance(value, int | Decimal) or value == "true":
            return str(value)
        return "'" + str(value).replace("'", "''") + "'"

    def end(self):
        self.run(f"DROP TABLE IF EXISTS {self.named(self.table)}")
        self.connection.close()


class Postgres(Driver):
    types = TYPES | {"raw": "BYTEA"}

    def start(self, get):
        self.url = get("postgres_url")
        module, to = pytest.importorskip(self.name), self.url
        if self.name == "adbc_driver_postgresql":
            module = pytest.importorskip("adbc_driver_postgresql.dbapi")
        self.connection = module.connect(to)

    def run(self, *statements):
        run_postgres(self.url, *statements)


class Engine(Postgres):
    def start(self, get):
        self.url = get("postgres_url")
        sqlalchemy = pytest.importorskip("sqlalchemy")
        url = self.url.replace("postgresql://", "postgresql+psycopg://")
        self.connection = sqlalchemy.create_engine(url)

    def end(self):
        self.connection.dispose()
        self.run(f"DROP TABLE IF EXISTS {self.named(self.table)}")


class Mysql(Driver):
    types = TYPES | {"at": "DATETIME(6)", "moment": "DATETIME"}
    has_instants = False

    def start(self, get):
        self.url = get("mysql_url")
        pymysql = pytest.importorskip("pymysql")
        import sqlalchemy

        url = sqlalchemy.make_url(self.url)
        self.connection = pymysql.connect(
            host=url.host, user=url.username, password=url.password or "", database=url.database,
            port=url.port or 3306,
        )  # fmt: skip

    def named(self, name):
        return "`" + name.replace("`", "``") + "`"

    def literal(self, value):
        return super().literal(value).replace("\\", "\\\\")

    def run(self, *statements):
        run_mysql(self.url, *statements)


class Sqlite(Driver):
    """Its dates are texts, its decimals floats."""

    types = TYPES | {"amount": "REAL", "moment": "TEXT"}
    has_dates = has_instants = False

    def start(self, get):
        self.path = get("tmp_path") / "own.db"
        self.connection = sqlite3.connect(self.path, check_same_thread=False)

    def run(self, *statements):
        with contextlib.closing(sqlite3.connect(self.path)) as own, own:
            for statement in statements:
                own.execute(statement)


class Duckdb(Driver):
    """A database that has a DB-API of its own, and no source of a server's kind."""

    def start(self, get):
        self.connection = duckdb.connect()

    def run(self, *statements):
        with self.connection.cursor() as own:
            for statement in statements:
                own.execute(statement)


DRIVERS = [
    pytest.param(Postgres("psycopg"), marks=pytest.mark.services, id="psycopg"),
    pytest.param(Postgres("adbc_driver_postgresql"), marks=pytest.mark.services, id="adbc"),
    pytest.param(Engine("sqlalchemy"), marks=pytest.mark.services, id="engine"),
    pytest.param(Mysql("pymysql"), marks=pytest.mark.services, id="pymysql"),
    pytest.param(Sqlite("sqlite3"), id="sqlite3"),
    pytest.param(Duckdb("duckdb"), id="duckdb"),
]


@pytest.fixture(params=DRIVERS)
def driver(request):
    made = request.param
    made.make(request.getfixturevalue)
    yield made
    made.end()


@pytest.fixture
def ws(tmp_path, driver):
    with jammi_lab.open(tmp_path / "ws") as opened:
        opened.sources.add("wh", driver.connection, state=STATE)
        yield opened


@pytest.fixture
def lab(tmp_path):
    """A workspace without a source."""
    with jammi_lab.open(tmp_path / "lab") as opened:
        yield opened


@pytest.fixture
def own(tmp_path):
    """A connection to a file of its own."""
    path = tmp_path / "own.db"
    with contextlib.closing(sqlite3.connect(path, check_same_thread=False)) as connection:
        yield connection


@pytest.fixture
def sent(monkeypatch):
    """The statements that a connection is given."""
    log = []
    fetch = connections.HeldConnection.fetch

    def logged(self, sql, types=None):
        log.append(sql)
        return fetch(self, sql, types)

    monkeypatch.setattr(connections.HeldConnection, "fetch", logged)
    return log


@pytest.fixture
def address(driver):
    return f"wh.{quote_identifier(driver.table)}"


def test_values_are_what_the_server_has(ws, driver, address):
    rows = ws.sql(f"SELECT * FROM {address} ORDER BY id").fetchall()
    texts = [(1, ODD), (2, "B"), (3, "b"), (4, None)]
    assert [row[:2] for row in rows] == texts
    assert rows[3][1:] == (None,) * 7 and all(row[7] is None for row in rows)
    if driver.has_dates:
        assert [row[2:5] for row in rows] == [row[2:] for row in ROWS]
        moment = MOMENT if driver.has_instants else MOMENT.replace(tzinfo=None)
        assert [row[5] for row in rows] == [moment] * 3 + [None]
    else:
        assert [row[2] for row in rows] == [1.5, -2.25, 99.99, None]
    assert [row[6] in (True, "1", 1) for row in rows[:3]] == [True] * 3


def test_tables_are_named_as_the_server_has_them(ws, driver):
    [table] = [name for name in ws.sources["wh"].tables() if driver.table in name]
    assert table.split(".", 1)[1] == driver.table
    assert [c.name for c in ws.sources["wh"].columns(table)] == [*TYPES]
    with pytest.raises(TableNotFound) as caught:
        ws.sql("FROM wh.nothing_of_that_name")
    assert caught.value.message


def test_a_table_is_fresh_until_the_state_changes(ws, driver, address):
    ws.materialize("t", f'SELECT id, "no te" FROM {address}')
    assert isinstance(ws.staleness("t"), Fresh)
    [ground] = ws.staleness("t").grounds
    assert ground.endswith(" by result of the statement for the state alone")
    driver.run(f"UPDATE {driver.named(driver.table)} SET amount = 5 WHERE id = 2")
    verdict = ws.staleness("t")
    assert isinstance(verdict, Stale) and "result of the statement for the state" in str(verdict)
    assert ws.recompute("t").executed == ["t"] and isinstance(ws.staleness("t"), Fresh)
    driver.run(f"DROP TABLE {driver.named(driver.table)}")
    assert isinstance(ws.staleness("t"), (Stale, Undecidable))


def test_an_added_column_is_seen(ws, driver, address):
    ws.materialize("t", f"SELECT * FROM {address}")
    table = driver.named(driver.table)
    driver.run(f"ALTER TABLE {table} ADD COLUMN extra INTEGER")
    assert isinstance(ws.staleness("t"), Stale)
    ws.recompute("t")
    assert "extra" in ws.table("t").columns


def test_without_a_statement_the_state_is_unknown_and_the_rows_are_read(ws, driver, address):
    ws.sources.add("wh", driver.connection, replace=True)
    ws.materialize("t", f"SELECT id FROM {address}")
    verdict = ws.staleness("t")
    assert isinstance(verdict, Undecidable) and "state=" in str(verdict)


def test_a_new_kernel_is_told_how_to_add_it_again(ws, driver, address, tmp_path):
    ws.materialize("t", f"SELECT id FROM {address}")
    ws.close()
    with jammi_lab.open(tmp_path / "ws") as again:
        verdict = again.staleness("t")
        assert isinstance(verdict, Undecidable) and "is not in this kernel" in str(verdict)
        with pytest.raises(SourceUnavailable, match="is not in this kernel") as caught:
            again.sql(f"FROM {address}")
        assert f"ws.sources.add('wh', connection, state={STATE!r})" in caught.value.hint
        assert "absent: not in this kernel" in repr(again.sources)
        again.sources.add("wh", driver.connection, state=STATE)
        assert isinstance(again.staleness("t"), Fresh)


def test_only_columns_and_rows_that_are_needed_are_sent(ws, driver, address, sent):
    def rows_of(condition):
        del sent[:]
        rows = ws.sql(f"SELECT id FROM {address} WHERE {condition} ORDER BY id").fetchall()
        [statement] = [s for s in sent if s.startswith("SELECT ") and driver.named("id") in s]
        return [row[0] for row in rows], statement.partition(" WHERE ")

    ids, (select, _, where) = rows_of("id IN (1, 3)")
    assert ids == [1, 3] and "IN (1, 3)" in where
    assert select.startswith(f"SELECT {driver.named('id')} FROM ")
    ids, (*_, where) = rows_of("id >= 2 AND \"no te\" = 'b'")
    assert ids == [3] and ">= 2" in where and "'b'" not in where
    ids, (*_, where) = rows_of("id IS NULL")
    assert ids == [] and "IS NULL" in where
    if driver.has_dates:
        ids, (*_, where) = rows_of("day > DATE '2024-02-03'")
        assert ids == [2] and "CAST('2024-02-03' AS DATE)" in where
        assert rows_of("day < DATE '0044-03-15 (BC)'") == rows_of("day = DATE '-infinity'")
        ids, (*_, where) = rows_of("amount <= 1.5")
        assert ids == [1, 2] and "AS DECIMAL(" in where
        ids, (*_, where) = rows_of("\"at\" = TIMESTAMP '2024-02-03 04:05:06.000007'")
        assert ids == [1] and ("AS TIMESTAMP)" in where or driver.name == "pymysql")
    else:
        ids, (*_, where) = rows_of("amount > 0")
        assert ids == [1, 3] and not where


def test_dates_of_sqlite_are_texts_and_no_condition_on_them_is_sent(tmp_path, sent):
    """`CAST('2024-02-03' AS DATE)` is 2024 there."""
    own = sqlite3.connect(
        tmp_path / "own.db", check_same_thread=False, detect_types=sqlite3.PARSE_DECLTYPES
    )
    with contextlib.closing(own), jammi_lab.open(tmp_path / "ws") as ws:
        own.executescript("CREATE TABLE t(d TEXT); INSERT INTO t VALUES ('2024-02-03')")
        ws.sources.add("wh", own)
        rows = ws.sql("SELECT d FROM wh.t WHERE d > '2024-02-02'").fetchall()
        assert rows == [("2024-02-03",)] and not any("2024" in each for each in sent)


def test_an_empty_table_has_its_types(ws, driver, address):
    before = ws.sources["wh"].columns(driver.table)
    driver.run(f"DELETE FROM {driver.named(driver.table)}")
    assert ws.sources["wh"].columns(driver.table) == before
    assert ws.sql(f"SELECT count(*) FROM {address}").fetchall() == [(0,)]
    assert ws.sql(f"FROM {address}").fetchall() == []


def test_rows_whose_order_counts_are_sorted(ws, driver, address):
    for _ in range(2):
        ws.materialize("t", f"SELECT first(id) AS a, list(id) AS l FROM {address}", cache="bypass")
        assert ws.sql("FROM jammi.t").fetchall() == [(1, [1, 2, 3, 4])]


def test_a_failed_query_is_a_typed_error_and_the_next_one_runs(ws, driver, address):
    with pytest.raises(SourceUnavailable, match="cannot be read"):
        ws.sources.add("bad", driver.connection, state="SELECT nothing FROM nowhere")
    assert "bad" not in ws.sources
    assert ws.sql(f"SELECT count(*) FROM {address}").fetchall() == [(4,)]


def test_a_change_during_the_read_is_seen(ws, driver, address, monkeypatch):
    """The first read falls between two states, so the build reads once more."""
    fetch, writes = connections.HeldConnection.fetch, []

    def fetch_and_write(self, sql, types=None):
        rows = fetch(self, sql, types)
        if driver.named("no te") in sql and not writes:
            writes.append(sql)
            driver.run(f"UPDATE {driver.named(driver.table)} SET amount = 7 WHERE id = 1")
        return rows

    monkeypatch.setattr(connections.HeldConnection, "fetch", fetch_and_write)
    ws.materialize("t", f'SELECT amount, "no te" FROM {address} WHERE id = 1')
    assert writes and ws.sql("SELECT amount FROM jammi.t").fetchall() == [(Decimal(7),)]
    assert isinstance(ws.staleness("t"), Fresh)


def test_what_others_commit_is_seen_whatever_the_isolation(ws, driver, address):
    """In a transaction that stays open MySQL shows the rows of its beginning."""
    ws.materialize("t", f"SELECT id FROM {address}")
    driver.insert(
        (9, "z", Decimal("1.00"), datetime.date(2024, 1, 1), datetime.datetime(2024, 1, 1))
    )
    assert isinstance(ws.staleness("t"), Stale)


def test_an_open_transaction_is_refused_and_kept(own, lab):
    own.executescript("CREATE TABLE t(a INTEGER)")
    lab.sources.add("wh", own, state="SELECT count(*) FROM t")
    own.execute("INSERT INTO t VALUES (1)")
    with pytest.raises(SourceUnavailable, match="has an open transaction"):
        lab.sql("FROM wh.t")
    own.commit()
    assert lab.sql("FROM wh.t").fetchall() == [(1,)]


def test_a_value_that_is_not_of_its_type_is_named(own, lab):
    own.executescript("CREATE TABLE t(a INTEGER, b TEXT); INSERT INTO t VALUES ('x', 'y')")
    lab.sources.add("wh", own)
    with pytest.raises(SourceUnavailable, match="Column 'a' contains a value"):
        lab.sql("FROM wh.t")
    assert lab.sql("SELECT b FROM wh.t").fetchall() == [("y",)]


def test_a_catalog_that_names_no_type_has_texts(own, lab):
    own.executescript("""ATTACH ':memory:' AS information_schema; CREATE TABLE t AS SELECT 7 AS a;
        CREATE TABLE information_schema.tables AS SELECT 'main' table_schema, 't' table_name;
        CREATE TABLE information_schema.columns AS SELECT *, 'a' column_name, NULL data_type,
        NULL numeric_precision, NULL numeric_scale, 1 ordinal_position FROM tables""")
    lab.sources.add("wh", own)
    assert lab.sql("FROM wh.t").fetchall() == [("7",)]


@pytest.mark.services
def test_a_number_of_more_digits_than_sql_has_here_is_text(tmp_path, postgres_url):
    own = pytest.importorskip("psycopg").connect(postgres_url, autocommit=True)
    with own, jammi_lab.open(tmp_path / "ws") as ws:
        own.execute("CREATE TABLE wide AS SELECT repeat('9', 60)::numeric(60, 0) AS n")
        ws.sources.add("wh", own)
        assert ws.sql("FROM wh.wide").fetchall() == [("9" * 60,)]
        own.execute("DROP TABLE wide")


def test_a_connection_that_is_bound_to_its_thread_is_refused_at_once(tmp_path):
    own = sqlite3.connect(tmp_path / "own.db")
    with contextlib.closing(own), jammi_lab.open(tmp_path / "ws") as ws:
        with pytest.raises(SourceUnavailable, match="same thread"):
            ws.sources.add("wh", own)
        assert "wh" not in ws.sources


def test_an_interrupt_ends_a_long_statement(own, lab):
    own.executescript(
        "CREATE TABLE t(a INTEGER); CREATE VIEW v AS WITH RECURSIVE c(n) AS (SELECT 1 UNION "
        "ALL SELECT n + 1 FROM c WHERE n < 400000000) SELECT count(*) AS n FROM c"
    )
    lab.sources.add("wh", own)
    started, main = time.monotonic(), threading.main_thread().ident
    timer = threading.Timer(0.5, lambda: signal.pthread_kill(main, signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        lab.sql("SELECT n FROM wh.v")
    timer.join()
    assert time.monotonic() - started < 10
    assert lab.sql("SELECT count(*) FROM wh.t").fetchall() == [(0,)]


def test_what_a_connection_does_not_take_is_refused(lab):
    with contextlib.closing(duckdb.connect()) as own:
        for options in ({"anchor": "column:a"}, {"tenant_column": "a"}):
            with pytest.raises(InvalidArgument, match="its state is the result"):
                lab.sources.add("wh", own, **options)
        with pytest.raises(InvalidArgument, match="no option 'schemas'"):
            lab.sources.add("wh", own, state="SELECT 1", options={"schemas": ["a"]})
        with pytest.raises(InvalidArgument, match="must be a connection"):
            lab.sources.add("wh", "papers.csv", state="SELECT 1")
        lab.sources.add("wh", own, state="SELECT 1")
        lab.sources.add("wh", own, state="SELECT 1")
        with pytest.raises(SourceExists):
            lab.sources.add("wh", own, state="SELECT 2")


@pytest.mark.services
def test_of_a_url_nothing_is_stored(postgres_url, tmp_path):
    table = f"t_{secrets.token_hex(4)}"
    run_postgres(postgres_url, f"CREATE TABLE {table} AS SELECT 1 AS a")
    location = postgres_url.replace("postgresql://", "postgresql+psycopg://")
    head, _, rest = location.partition("@")
    scheme, user = head.split("://")
    with_password = f"{scheme}://{user.partition(':')[0]}:s3cretword@{rest}"
    with jammi_lab.open(tmp_path / "ws") as ws:
        for _ in range(2):
            ws.sources.add("wh", with_password, state=f"SELECT max(a) AS a FROM {table}")
        ws.materialize("t", f"SELECT a FROM wh.{table}")
        assert isinstance(ws.staleness("t"), Fresh)
        assert ws.sources["wh"].location == "connection://sqlalchemy"
    run_postgres(postgres_url, f"DROP TABLE {table}")
    stored = [f.read_bytes() for f in (tmp_path / "ws").rglob("*") if f.is_file()]
    assert stored and not any(b"s3cretword" in each for each in stored)


@pytest.mark.parametrize(
    "url", ["postgresql://u:a@h:hidden", "postgresql://[::hidden/db", "hidden"]
)
def test_an_address_that_is_no_url_is_refused_and_not_repeated(lab, url):
    pytest.importorskip("sqlalchemy")
    with pytest.raises(InvalidArgument, match="an SQLAlchemy URL") as caught:
        lab.sources.add("wh", url, state="SELECT 1")
    assert "hidden" not in "".join(caught.value.rendered_lines())
