"""No error of a statement tells a value in a row of another tenant."""

import secrets
import sqlite3

import duckdb
import pyarrow as pa
import pyarrow.csv
import pyarrow.feather
import pyarrow.parquet as pq
import pytest

import jammi_lab as jl
from jammi_lab.core.errors import SourceUnavailable
from tests.cases import lines
from tests.sizes import SOAK, rotated, soak

OURS, THEIRS = "00000000-0000-0000-0000-000000000001", "ACMESECRET"
ROWS, MANY = 6000, 80_000
"""`MANY`: so many in one row group of a Parquet file that DuckDB, while it runs, finds out which
condition is the cheapest."""


def rows(number=ROWS):
    ours = [i % 1000 == 999 for i in range(number)]
    return pa.table(
        {
            "id": range(number),
            "owner": ["globex" if mine else "acme" for mine in ours],
            "v": [OURS if mine else THEIRS for mine in ours],
            "pay": [1 if mine else 723456 for mine in ours],
            "parts": [[OURS] if mine else [THEIRS] for mine in ours],
        }
    )


def flat():
    return rows().drop_columns("parts")


def csv(tmp_path, request):
    pa.csv.write_csv(flat(), tmp_path / "f.csv")
    return tmp_path / "f.csv", "src"


def parquet(tmp_path, request):
    pq.write_table(rows(MANY), tmp_path / "f.parquet")
    return tmp_path / "f.parquet", "src"


def arrow(tmp_path, request):
    pa.feather.write_feather(rows(), tmp_path / "f.arrow", compression="uncompressed")
    return tmp_path / "f.arrow", "src"


def frame(tmp_path, request):
    return rows(), "src"


def json(tmp_path, request):
    with duckdb.connect() as db:
        it = rows()
        db.register("it", it)
        db.execute(f"COPY it TO '{tmp_path / 'f.json'}' (FORMAT json)")
    return tmp_path / "f.json", "src"


def duckdb_file(tmp_path, request):
    with duckdb.connect(str(tmp_path / "f.duckdb")) as db:
        it = rows()
        db.register("it", it)
        db.execute("CREATE TABLE t AS FROM it")
    return tmp_path / "f.duckdb", "src.t"


def sqlite(tmp_path, request):
    with sqlite3.connect(tmp_path / "f.sqlite") as db:
        db.execute("CREATE TABLE t (id INTEGER, owner TEXT, v TEXT, pay INTEGER)")
        db.executemany(
            "INSERT INTO t VALUES (?, ?, ?, ?)", zip(*flat().to_pydict().values(), strict=True)
        )
    db.close()
    return tmp_path / "f.sqlite", "src.t"


def delta(tmp_path, request):
    from deltalake import write_deltalake

    write_deltalake(tmp_path / "lake", rows())
    return tmp_path / "lake", "src"


def _inserted(run, url, name, text):
    run(url, f"CREATE TABLE {name} (id int, owner varchar(20), v {text}, pay bigint)")
    said = ", ".join(
        f"({r['id']}, '{r['owner']}', '{r['v']}', {r['pay']})" for r in flat().to_pylist()
    )
    run(url, f"INSERT INTO {name} VALUES {said}")
    return url, f"src.{name}"


def postgresql(tmp_path, request):
    from tests.services.servers import run_postgres

    return _inserted(
        run_postgres, request.getfixturevalue("fresh_postgres_url"), "t_errors", "text"
    )


def mysql(tmp_path, request):
    from tests.services.servers import run_mysql

    url, name = request.getfixturevalue("mysql_url"), "t_" + secrets.token_hex(4)
    request.addfinalizer(lambda: run_mysql(url, f"DROP TABLE IF EXISTS {name}"))
    return _inserted(run_mysql, url, name, "varchar(60)")


KINDS = [csv, parquet, arrow, frame, json, sqlite, duckdb_file, delta, postgresql, mysql]


@pytest.fixture(
    params=[
        pytest.param(kind, marks=[pytest.mark.services] if kind in (postgresql, mysql) else [])
        for kind in KINDS
    ],
    ids=lambda make: make.__name__,
)
def made(request, tmp_path):
    return *request.param(tmp_path, request), KINDS.index(request.param)


STATEMENTS = lines("statements/of_values_of_others.sql")
NESTED = [
    "SELECT id FROM {t} WHERE (parts[1])::UUID IS NOT NULL",
    "SELECT id FROM {t} WHERE list_transform(parts, lambda x: x::UUID)[1] IS NOT NULL",
]


@soak
def test_no_statement_of_a_tenant_meets_a_value_of_another(ws, made):
    """Of the statements each kind meets a third, in a soak all."""
    location, table, kind = made
    ws.sources.add(
        "src",
        location if isinstance(location, pa.Table) else str(location),
        tenant_column="owner",
    )
    with ws.tenant("globex"):
        assert sorted(ws.sql(f"SELECT id FROM {table}").fetchall()) == [
            (i,) for i in range(999, MANY if "parquet" in str(location)[-7:] else ROWS, 1000)
        ]
        nested = NESTED if "parts" in ws.sql(f"SELECT * FROM {table} LIMIT 0").columns else []
        statements = STATEMENTS + nested
        for number, statement in enumerate(statements):
            if not (SOAK or rotated(kind, number, len(statements))):
                continue
            try:
                ws.sql(statement.format(t=table)).fetchall()
            except jl.JammiError as error:
                said = "\n".join(error.lines())
                assert THEIRS not in said and "723456" not in said, statement


def test_a_value_that_cannot_be_read_is_not_told(ws, tmp_path):
    with sqlite3.connect(tmp_path / "f.sqlite") as db:
        db.execute("CREATE TABLE t (id INTEGER, owner TEXT, n INTEGER, d DATE)")
        db.execute(
            "INSERT INTO t VALUES (1, 'acme', 'ACMESECRET', '2020-01-01'), (2, 'globex', 3, '2020-01-01'), (3, 'acme', 3, 'ACMESECRET')"
        )
    db.close()
    ws.sources.add("src", str(tmp_path / "f.sqlite"), tenant_column="owner")
    with ws.tenant("globex"):
        for column, told in (("n", "column 'n'"), ("d", "declared as date")):
            with pytest.raises(SourceUnavailable, match=told) as caught:
                ws.sql(f"SELECT max({column}) FROM src.t").fetchall()
            assert THEIRS not in "\n".join(caught.value.lines())
        assert ws.sql("SELECT id FROM src.t").fetchall() == [(2,)]
        with sqlite3.connect(tmp_path / "other.sqlite") as db:
            db.execute("CREATE TABLE t (id INTEGER)")
            db.execute("INSERT INTO t VALUES (1)")
        db.close()
        ws.sources.add("another", str(tmp_path / "other.sqlite"))
        for both in ("another.t a, src.t b", "src.t b, another.t a"):
            with pytest.raises(SourceUnavailable) as caught:
                ws.sql(f"SELECT max(b.n), max(a.id) FROM {both}").fetchall()
            assert THEIRS not in "\n".join(caught.value.lines())
        assert THEIRS not in str(ws.sources.list())


@pytest.mark.parametrize(
    "text",
    [
        "CSV Error on Line: 3\nOriginal Line: acme,ACMESECRET\nsomething new",
        'Error when converting column "v". Could not convert string "ACMESECRET" to \'BIGINT\'',
        "JSON transform error in file \"f.json\", in record/value 3: Failed to cast value: Could not convert string 'ACMESECRET' to INT64",
        "read_xlsx: Failed to parse cell \"C5\": Could not convert string 'ACMESECRET' to 'DOUBLE'",
    ],
)
@pytest.mark.parametrize("kind", ["csv", "json"])
def test_what_a_reader_says_of_a_value_is_said_without_it(tmp_path, text, kind):
    from jammi_lab.core.records import SourceRecord
    from jammi_lab.sources.registry import connector_for
    from jammi_lab.sources.row_security import TenantFilteredConnector

    path = tmp_path / f"f.{kind}"
    path.write_text("owner,v\nacme,1\n" if kind == "csv" else '{"owner": "acme", "v": 1}\n')
    view = TenantFilteredConnector(
        connector_for(SourceRecord(name="s", kind=kind, location=str(path))),
        "owner",
        "globex",
        "x",
    )
    said = view.relation(None).explain(text)
    assert said is not None and THEIRS not in "\n".join(said.lines())


@pytest.mark.parametrize(
    ("broken", "options"),
    [
        ("owner,v\nglobex,1\nacme,ACMESECRET,3\n", {}),
        ('owner,v\nglobex,1\nacme,"ACMESECRET" x\n', {}),
        ("owner,v\nglobex,1\nacme,ACMESECRET\n", {"types": {"v": "BIGINT"}}),
        ("owner,v\nglobex,1\nacme,ACMESECRET" + "x" * 2_200_000 + "\n", {}),
    ],
)
def test_a_line_that_cannot_be_read_is_not_shown_to_another_tenant(ws, tmp_path, broken, options):
    (tmp_path / "f.csv").write_text("owner,v\nglobex,1\nacme,2\n")
    ws.sources.add("src", tmp_path / "f.csv", tenant_column="owner", options=options)
    with ws.tenant("globex"):
        ws.materialize("t", "SELECT v FROM src")
        assert ws.sources["src"].notes == []
    (tmp_path / "f.csv").write_text(broken)
    with ws.tenant("globex"):
        with pytest.raises(SourceUnavailable, match=r"f\.csv, line 3") as caught:
            ws.sql("FROM src").fetchall()
        said = ["\n".join(caught.value.lines()), str(ws.staleness("t")), str(ws.sources.list())]
        assert not any(THEIRS in each for each in said)
