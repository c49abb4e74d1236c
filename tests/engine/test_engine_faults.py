"""Wrong answers of the pinned DuckDB (docs/engine-faults.md): each is still wrong there, and right in
a workspace. DuckDB 2 has mended those of `is_wrong`."""

import gzip
import lzma
import sqlite3

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import jammi_lab as jl
from jammi_lab.engine.sql import releases
from jammi_lab.sources.files import text_bytes
from tests.releases import IS_PINNED, ONLY_ON_1_5
from tests.sizes import product

PACKED = {"": bytes, ".gz": gzip.compress, ".xz": lzma.compress}

SHARED_JOIN = """
SELECT count(*) FROM (
    SELECT * FROM t2 LEFT JOIN t0 ON true
        WHERE NOT ((NOT t2.c0) AND (substring(t0.c1 FROM -4294967296) <> t0.c1))
    UNION ALL
    SELECT * FROM t2 LEFT JOIN t0 ON true
        WHERE ((NOT t2.c0) AND (substring(t0.c1 FROM -4294967296) <> t0.c1)) IS NULL)
"""
NULL_ORDER = """
SELECT * FROM (
    SELECT c0, row_number() OVER (PARTITION BY c0 ORDER BY NULL) AS c1
    FROM (VALUES (3), (3)) AS t(c0)
) AS u WHERE c1 <= 7 ORDER BY c1
"""


REPEATED_PARTITION = """
SELECT sum(v) OVER (PARTITION BY a, a), sum(v) OVER (PARTITION BY a, b)
FROM (VALUES (1, 1, 10), (1, 2, 20)) AS t(a, b, v) ORDER BY b
"""


def is_wrong(found: list[tuple[object, ...]], wrong: list[tuple[object, ...]]) -> bool:
    """Whether plain DuckDB answers as its release is known to: wrongly, but for 2."""
    return (found == wrong) is not releases.IS_2


def test_a_limit_on_row_numbers_keeps_rows_that_are_ordered_by_null(ws):
    if IS_PINNED:  # 1.5.6 has it mended
        assert duckdb.connect().sql(NULL_ORDER).fetchall() == []
    assert ws.sql(NULL_ORDER).fetchall() == [(3, 1), (3, 2)]


@ONLY_ON_1_5
def test_branches_that_share_a_join_have_their_own_rows(ws, tmp_path):
    with duckdb.connect(str(tmp_path / "x.duckdb")) as con:
        con.execute("CREATE TABLE t2 AS SELECT false AS c0; CREATE TABLE t0 AS SELECT 'a' AS c1")
        assert con.execute(SHARED_JOIN).fetchall() == [(0,)]
    ws.sources.add("s", tmp_path / "x.duckdb")
    statement = SHARED_JOIN.replace("FROM t2", "FROM s.t2 t2").replace("JOIN t0", "JOIN s.t0 t0")
    assert ws.sql(statement).fetchall() == [(1,)]


def test_bytes_with_a_dictionary_are_found(ws, tmp_path):
    path, value = tmp_path / "a.parquet", f"unhex('{'ab' * 32}')"
    duckdb.connect().sql(f"COPY (SELECT {value} AS k FROM range(5000)) TO '{path}'")
    found = duckdb.connect().sql(f"SELECT count(*) FROM '{path}' WHERE k = {value}")
    assert is_wrong(found.fetchall(), [(0,)])
    ws.sources.add("a", path)
    for condition in (f"k = {value}", f"k IN ({value}, 'x'::BLOB)"):
        assert ws.sql(f"SELECT count(*) FROM a WHERE {condition}").fetchall() == [(5000,)]
    joined = ws.sql(f"SELECT count(*) FROM a JOIN (SELECT {value} AS k) b ON a.k = b.k")
    assert joined.fetchall() == [(5000,)]


def test_conditions_on_columns_of_several_types(ws, tmp_path):
    pq.write_table(pa.table({"v": [1, 2]}), tmp_path / "0.parquet")
    pq.write_table(pa.table({"v": [2.5]}), tmp_path / "1.parquet")
    plain = f"SELECT v FROM read_parquet('{tmp_path}/*.parquet', union_by_name=true) WHERE v = 2.5"
    assert is_wrong(duckdb.connect().sql(plain).fetchall(), [(2.0,), (2.5,)])
    assert ws.sql(plain).fetchall() == [(2.5,)]


def test_numbers_of_which_the_statistics_of_a_file_leave_nan_out(ws, tmp_path):
    path = tmp_path / "a.parquet"
    pq.write_table(
        pa.table({"v": [1.0, float("nan")], "s": [{"v": 1.0}, {"v": float("nan")}]}), path
    )
    ws.sources.add("a", path)
    for value in ("v", "s.v"):
        above = f"SELECT count(*) FROM {{}} AS a JOIN (SELECT 'nan'::DOUBLE AS n) ON {value} = n"
        assert duckdb.connect().sql(above.format(f"'{path}'")).fetchall() == [(0,)]
        assert ws.sql(above.format("a")).fetchall() == [(1,)]
        assert ws.sql(f"SELECT max({value}) = 'nan' FROM a WHERE {value} > 1").fetchall() == [
            (True,)
        ]


def test_list_reduce_from_a_value_reads_other_columns_of_its_own_row(ws):
    rows = "FROM (VALUES ([1], 10), ([1, 2], 30)) AS t(l, v)"
    reduced = f"SELECT list_reduce(l, lambda a, x: a + x + v, 0) {rows}"
    assert is_wrong(duckdb.connect().sql(reduced).fetchall(), [(11,), (43,)])
    if not releases.IS_2:
        with pytest.raises(jl.StatementNotAllowed, match="list_prepend"):
            ws.sql(reduced)
    advised = f"SELECT list_reduce(list_prepend(0, l), lambda a, x: a + x + v) {rows}"
    assert ws.sql(advised).fetchall() == [(11,), (63,)]


def test_two_sqlite_tables_with_the_same_columns(ws, tmp_path):
    with sqlite3.connect(tmp_path / "x.db") as con:
        con.executescript(
            "CREATE TABLE a(id INT, v INT); CREATE TABLE b(id INT, v INT);"
            "INSERT INTO a VALUES (1, 10), (2, 20); INSERT INTO b VALUES (7, 70), (8, 80);"
        )
    con.close()
    ws.sources.add("s", f"sqlite:///{tmp_path / 'x.db'}")
    sums = "SELECT (SELECT sum(v) FROM s.a WHERE v > 0), (SELECT sum(v) FROM s.b WHERE v > 0)"
    assert ws.sql(sums).fetchall() == [(30, 150)]


def test_windows_that_repeat_an_expression_are_refused(ws):
    assert is_wrong(duckdb.connect().sql(REPEATED_PARTITION).fetchall(), [(30, 30), (30, 30)])
    with pytest.raises(jl.StatementNotAllowed, match="expression twice"):
        ws.sql(REPEATED_PARTITION)
    once = ws.sql(REPEATED_PARTITION.replace("a, a", "a"))
    assert once.fetchall() == [(30, 10), (30, 20)]


def test_a_stream_of_arrow_batches_keeps_its_rows_in_a_window(ws):
    rows = pa.table({"g": [1, 1, 2], "n": [1, 2, 3]})
    windowed = "SELECT *, sum(n) OVER (PARTITION BY g) AS s FROM a ORDER BY n"
    with duckdb.connect() as con:
        con.register("a", rows.to_reader())
        assert is_wrong(con.execute(windowed).fetchall(), [])
    ws.sources.add("a", rows.to_reader())
    assert ws.sql(windowed).fetchall() == [(1, 1, 3), (1, 2, 3), (2, 3, 3)]


def test_the_first_rows_of_a_table_are_joined_and_not_the_first_of_those_that_match(ws, tmp_path):
    """In plain DuckDB the joined rows depend on the threads."""
    duckdb.connect().sql(
        f"COPY (SELECT i, (i * 7) % 1000 AS k FROM range(200000) t(i)) TO '{tmp_path}/a.parquet'"
    )
    ws.sources.add("a", tmp_path / "a.parquet")
    first = "(SELECT * FROM a ORDER BY i LIMIT 100 OFFSET 50)"
    joined = f"SELECT count(*) FROM {first} JOIN (SELECT unnest([998, 999]) AS k) USING (k)"
    assert [ws.sql(joined).fetchall() for _ in range(5)] == [[(0,)]] * 5


def test_a_correlated_subquery_that_selects_a_column_from_outside(ws):
    rows = "(VALUES (1, 100, 10), (2, 150, 20), (4, 7, 30)) AS t(id, views, likes)"
    statement = f"""
        WITH posts AS (SELECT * FROM {rows}) SELECT count(*) FROM posts AS a WHERE EXISTS (
            SELECT 1 FROM (SELECT a.id AS c, views FROM posts b WHERE a.likes > b.likes) AS s
            WHERE s.views <> a.likes)"""
    assert is_wrong(duckdb.connect().sql(statement).fetchall(), [(0,)])
    assert ws.sql(statement).fetchall() == [(2,)]


@pytest.mark.parametrize(
    "form", ["t PIVOT ({} FOR k IN ('x', 'y'))", "(PIVOT t ON k IN ('x', 'y') USING {})"]
)
def test_a_filter_in_pivot_is_refused(ws, form):
    rows = "WITH t AS (FROM (VALUES ('x', 2), ('y', 3), ('y', 4)) AS t(k, v)) FROM "
    filtered = rows + form.format("count(v) FILTER (v = 3)")
    assert is_wrong(duckdb.connect().sql(filtered).fetchall(), [(1, 2)])
    with pytest.raises(jl.StatementNotAllowed, match="ignores FILTER"):
        ws.sql(filtered)
    advised = rows + form.format("count(CASE WHEN v = 3 THEN v END)")
    assert ws.sql(advised).fetchall() == [(0, 1)]


def test_the_first_value_after_a_lone_carriage_return_is_lost(tmp_path):
    (tmp_path / "t.csv").write_bytes(b"a,b\r\n1,2\r3,4\n")
    how = "header=true, strict_mode=false, columns={'a': 'INT', 'b': 'INT'}, auto_detect=false"
    rows = duckdb.connect().execute(f"FROM read_csv('{tmp_path}/t.csv', {how})").fetchall()
    assert rows == [(1, 2), (None, 4)]


@product
@pytest.mark.parametrize("suffix", PACKED)
@pytest.mark.parametrize("blank", [0, 1, 3_000])
def test_blank_lines_at_the_end_of_a_csv_file_are_no_long_line(
    ws, tmp_path, suffix, blank, monkeypatch
):
    """Also at the ends of the blocks that are read."""
    monkeypatch.setattr(text_bytes, "BLOCK_BYTES", 1 << 10)
    packed, options = PACKED[suffix], {"max_line_size": 2_000}
    for size in (1 << 10, (1 << 10) - 5, 1_998):
        text = b"a\n" + b"x" * 1_900 + b"\n" + b"y" * size + b"\n" * blank
        (tmp_path / f"long.csv{suffix}").write_bytes(packed(text))
        ws.sources.add("s", tmp_path / f"long.csv{suffix}", replace=True, options=options)
        rows = ws.sql("SELECT length(a) FROM s WHERE a IS NOT NULL").fetchall()
        assert rows == [(1_900,), (size,)]
    text = b"a,b\n1,2\n3," + b"x" * 2_000 + b"\n" * blank
    (tmp_path / f"long.csv{suffix}").write_bytes(packed(text))
    with pytest.raises(jl.SourceUnavailable, match=r"the (last )?line has"):
        ws.sources.add("s", tmp_path / f"long.csv{suffix}", replace=True, options=options)


def test_a_long_last_line_of_a_csv_file_is_refused_and_not_left_out(ws, tmp_path):
    path = tmp_path / "long.csv"
    path.write_bytes(b"a,b\n1,2\n3," + b"x" * 33_000_000 + b"\n")
    read = (
        f"FROM read_csv('{path}', auto_detect=false, header=true, columns={{a: 'INT', b: 'TEXT'}})"
    )
    assert duckdb.connect().sql(f"SELECT count(*) {read}").fetchall() == [(1,)]
    with pytest.raises(jl.SourceUnavailable, match="the last line has more than 2,000,000"):
        ws.sources.add("s", path)
