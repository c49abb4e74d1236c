"""No error of a statement tells a value in a row of another tenant."""

import copy

import pyarrow as pa
import pytest

import jammi_lab as jl
from jammi_lab.core.errors import SourceUnavailable
from tests.cases import lines
from tests.sizes import SOAK, rotated, soak
from tests.sources.kinds import (
    Database,
    Delta,
    Duckdb,
    Frame,
    LocalFile,
    Mysql,
    Postgres,
    Sqlite,
    write_sqlite,
)

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


KINDS = [
    *map(LocalFile, ("csv", "parquet", "arrow", "json")),
    *(kind() for kind in (Frame, Sqlite, Duckdb, Delta)),
    *(pytest.param(kind(), marks=pytest.mark.services) for kind in (Postgres, Mysql)),
]


@pytest.fixture(params=KINDS, ids=str)
def made(request, tmp_path):
    kind = copy.copy(request.param)
    held = rows(MANY if kind.kind == "parquet" else ROWS)
    if kind.kind == "csv" or isinstance(kind, Database):
        held = held.drop_columns("parts")
    kind.first = held.to_pydict()
    kind.types = {"id": "INTEGER", "owner": "VARCHAR(20)", "v": "VARCHAR(60)", "pay": "BIGINT"}
    (tmp_path / "there").mkdir()
    kind.make(tmp_path / "there", request.getfixturevalue)
    yield kind, request.param_index
    kind.end()


STATEMENTS = lines("statements/of_values_of_others.sql")
NESTED = [
    "SELECT id FROM {t} WHERE (parts[1])::UUID IS NOT NULL",
    "SELECT id FROM {t} WHERE list_transform(parts, lambda x: x::UUID)[1] IS NOT NULL",
]


@soak
def test_no_statement_of_a_tenant_meets_a_value_of_another(made, ws):
    """Of the statements each kind meets a third, in a soak all."""
    kind, number_of_kind = made
    kind.add(ws, "src", tenant_column="owner")
    table = kind.address_in("src")
    with ws.tenant("globex"):
        ids = ws.sql(f"SELECT id FROM {table} ORDER BY id").fetchall()
        assert ids == [(i,) for i in range(999, len(kind.first["id"]), 1000)]
        nested = NESTED if "parts" in ws.sql(f"SELECT * FROM {table} LIMIT 0").columns else []
        statements = STATEMENTS + nested
        for number, statement in enumerate(statements):
            if not (SOAK or rotated(number_of_kind, number, len(statements))):
                continue
            try:
                ws.sql(statement.format(t=table)).fetchall()
            except jl.JammiError as error:
                said = "\n".join(error.lines())
                assert THEIRS not in said and "723456" not in said, statement


def test_a_value_that_cannot_be_read_is_not_told(ws, tmp_path):
    write_sqlite(
        tmp_path / "f.sqlite",
        "CREATE TABLE t (id INTEGER, owner TEXT, n INTEGER, d DATE)",
        "INSERT INTO t VALUES (1, 'acme', 'ACMESECRET', '2020-01-01'), (2, 'globex', 3, '2020-01-01'), (3, 'acme', 3, 'ACMESECRET')",
    )
    ws.sources.add("src", str(tmp_path / "f.sqlite"), tenant_column="owner")
    with ws.tenant("globex"):
        for column, told in (("n", "column 'n'"), ("d", "declared as date")):
            with pytest.raises(SourceUnavailable, match=told) as caught:
                ws.sql(f"SELECT max({column}) FROM src.t").fetchall()
            assert THEIRS not in "\n".join(caught.value.lines())
        assert ws.sql("SELECT id FROM src.t").fetchall() == [(2,)]
        other = ("CREATE TABLE t (id INTEGER)", "INSERT INTO t VALUES (1)")
        write_sqlite(tmp_path / "other.sqlite", *other)
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
