"""Tenant columns of databases and lakehouse tables: the filter and the anchor work on whatever a
connector reads."""

import sqlite3

import duckdb
import pyarrow as pa
import pytest

import jammi_lab as jl
from jammi_lab.core.verdicts import Fresh, Stale

ROWS = [(1, "acme", "a"), (2, "globex", "b"), (3, None, "c"), (4, "Acme", "d")]


def values(rows=ROWS):
    return ", ".join(
        f"({i}, {'NULL' if owner is None else repr(owner)}, '{name}')" for i, owner, name in rows
    )


def sqlite(tmp_path, request):
    path = tmp_path / "d.sqlite"

    def run(sql):
        with sqlite3.connect(path) as db:
            db.execute(sql)
        db.close()

    run("CREATE TABLE orders (id INTEGER, owner TEXT, name TEXT)")
    run(f"INSERT INTO orders VALUES {values()}")
    return path, "db.orders", run


def duckdb_file(tmp_path, request):
    path = tmp_path / "d.duckdb"

    def run(sql):
        with duckdb.connect(str(path)) as db:
            db.execute(sql)

    run("CREATE TABLE orders (id INTEGER, owner TEXT, name TEXT)")
    run(f"INSERT INTO orders VALUES {values()}")
    return path, "db.orders", run


def delta(tmp_path, request):
    from deltalake import DeltaTable, write_deltalake

    path = tmp_path / "lake"
    write_deltalake(
        path,
        pa.table(
            {
                "id": [r[0] for r in ROWS],
                "owner": [r[1] for r in ROWS],
                "name": [r[2] for r in ROWS],
            }
        ),
    )

    def update(sql):
        column, value = sql.split(" SET ")[1].split(" WHERE ")[0].split(" = ")
        DeltaTable(path).update({column: value}, predicate=sql.split(" WHERE ")[1])

    return path, "db", update


def postgresql(tmp_path, request):
    from tests.services.servers import run_postgres

    url = request.getfixturevalue("fresh_postgres_url")
    run_postgres(
        url,
        "CREATE TABLE orders (id int, owner text, name text)",
        f"INSERT INTO orders VALUES {values()}",
    )
    return url, "db.orders", lambda sql: run_postgres(url, sql)


def mysql(tmp_path, request):
    from tests.services.servers import run_mysql

    url = request.getfixturevalue("mysql_url")
    run_mysql(
        url,
        "CREATE OR REPLACE TABLE orders (id int, owner text, name text)",
        f"INSERT INTO orders VALUES {values()}",
    )
    return url, "db.orders", lambda sql: run_mysql(url, sql)


@pytest.fixture(
    params=[
        sqlite,
        duckdb_file,
        delta,
        pytest.param(postgresql, marks=pytest.mark.services),
        pytest.param(mysql, marks=pytest.mark.services),
    ],
    ids=lambda make: make.__name__,
)
def made(request, tmp_path):
    return request.param(tmp_path, request)


def test_each_tenant_sees_and_is_told_of_its_own_rows(made, tmp_path):
    location, table, run = made
    with jl.open(tmp_path / "lab") as ws:
        ws.sources.add("db", str(location), tenant_column="owner")
        seen = {}
        for tenant in ("acme", "globex", None):
            with ws.tenant(tenant):
                seen[tenant] = [
                    row[0] for row in ws.sql(f"SELECT id FROM {table} ORDER BY id").fetchall()
                ]
                ws.materialize("t", f"SELECT id, name FROM {table}")
                assert ws.staleness("t") == Fresh()
        assert seen == {"acme": [1, 3, 4], "globex": [2, 3], None: [3]}
        run("UPDATE orders SET name = 'Z' WHERE id = 2")
        verdicts = {}
        for tenant in seen:
            with ws.tenant(tenant):
                verdicts[tenant] = type(ws.staleness("t"))
        assert verdicts == {"acme": Fresh, "globex": Stale, None: Fresh}
        run("UPDATE orders SET owner = 'acme' WHERE id = 2")
        with ws.tenant("acme"):
            assert isinstance(ws.staleness("t"), Stale)
            ws.recompute("t")
            assert ws.table("t").row_count == 4
