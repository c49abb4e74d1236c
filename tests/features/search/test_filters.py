"""RowFilter over the rows behind a table: answered from memory once its rows lie there, as the
source itself would answer."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pytest

import jammi_lab as jl
from jammi_lab.core import errors
from jammi_lab.features.search import column_cache as selected
from jammi_lab.features.search.filters import RowFilter
from tests.inside import record_of, services_of
from tests.sizes import soak, thinned

N = 24
HOSTILE = """
    SELECT i AS id,
        [1.5, 'nan', 'inf', '-inf', -0.0, 0.0, NULL, 1e308][1 + i % 8]::DOUBLE AS x,
        ['nan', '7', NULL, '-1.25'][1 + i % 4]::FLOAT AS f,
        ['a', 'A', 'ä', 'a' || chr(0) || 'b', '', NULL, chr(128512), 'O''Brien %_'][1 + i % 8] AS s,
        ['-170141183460469231731687303715884105728', '5', NULL][1 + i % 3]::HUGEINT AS h,
        [18446744073709551615, 0, NULL][1 + i % 3]::UBIGINT AS u,
        (i - 12)::DECIMAL(38, 10) / 4 AS d,
        ['infinity', '-infinity', '2020-02-29', NULL][1 + i % 4]::DATE AS day,
        ['infinity', '1900-01-01 00:00:00.000001', '9999-12-31 23:59:59', NULL][1 + i % 4]::TIMESTAMP AS moment,
        ['2020-02-29 12:00:00+02', NULL][1 + i % 2]::TIMESTAMPTZ AS zoned,
        to_months(i::INT) + to_days(40) AS span,
        ('00000000-0000-0000-0000-0000000000' || lpad(i::VARCHAR, 2, '0'))::UUID AS uid,
        ['b', 'a', NULL][1 + i % 3]::ENUM ('b', 'a') AS e,
        ('\\x0' || (i % 8)::VARCHAR)::BLOB AS raw,
        ['1', '0101', NULL][1 + i % 3]::BIT AS bits,
        ['23:59:59', '00:00:00', NULL][1 + i % 3]::TIME AS t,
        [[1, NULL], [], NULL][1 + i % 3] AS list,
        {'year': i % 4, 'name': 'n' || i} AS st,
        MAP {'k': i} AS m,
        i % 2 = 0 AS "select",
        i AS "odd "" name",
        ['{"a": 1}', 'null', NULL][1 + i % 3]::JSON AS j
    FROM range(0, 24) r(i)
"""
SAID = [
    "x > 1", "x < 1", "x = 'nan'", "x >= 'nan'", "x <> 1.5", "x BETWEEN 1 AND 'nan'", "x = 0", "NOT x > 1", "x IS NULL", "x IN (1.5, 'nan')",
    "f > 5", "f <= 'nan'", "f = 0", "s = 'a'", "s > 'a'", "s ILIKE 'A%'", "s LIKE '%\\%%' ESCAPE '\\'", "s = ''", "s COLLATE NOCASE = 'a'", "length(s) = 3",
    "s || NULL IS NULL", "contains(s, chr(0))", "h < 0", "h + 1 > 5", "u > 5", "u = 18446744073709551615", "d > 0.25", "d = -3", "day > '2021-01-01'",
    "day = 'infinity'", "isfinite(day)", "moment < '1950-01-01'", "moment = 'infinity'", "zoned > '2020-02-29 10:00:00+00'", "hour(zoned) = 10",
    "span > INTERVAL 1 YEAR", "span = INTERVAL '40 days'", "uid > '00000000-0000-0000-0000-000000000010'", "e > 'b'", "e = 'a'", "e IS NULL", "raw > '\\x03'::BLOB",
    "bits = '1'::BIT", "bit_count(bits::BIT) = 1", "t > '12:00'", "list IS NULL", "len(list) = 0", "list[2] IS NULL", "st.year = 3", "st.name LIKE 'n1%'", "m['k'] > 20",
    '"select"', '"SELECT" AND id > 3', '"odd "" name" > 20', "j->>'a' = '1'", "json_type(j) = 'NULL'", "key > 20", "KEY = 3 OR id = 4", "true", "NULL", "false",
    "#1 > 20", "COLUMNS(c -> c IN ('id', 'u')) IS NOT NULL", "list_has_any(list, [1])", "len(list_filter(list, y -> y > 0)) = 1", "(SELECT max(id) FROM twice) = id",
    "id IN (SELECT id / 2 FROM twice)", "EXISTS (FROM twice o WHERE o.id = x)", "unnamed_subquery::VARCHAR LIKE '%n11%'", "unnamed_subquery.id = 5",
    "id > 3 -- and so on", "year(current_date) > 2000", "typeof(e) LIKE 'ENUM%' AND typeof(j) = 'JSON'", "hash(s) % 2 = 0", "hash(h, u, st) % 2 = 0",
]  # fmt: skip
WRONG = [
    "s::INT > 1",
    "nothing > 1",
    "st.nothing = 1",
    "x > ",
    "s",
    "id = (SELECT id FROM twice)",
    "error(s)",
    "x > $least",
    "id IN (FROM __jammi_given)",
]


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was read once lies there for the next question, however few rows there are, and is asked
    for however long that takes."""
    monkeypatch.setattr(selected, "ROW_LOAD_SECONDS", 0.0)
    monkeypatch.setattr(selected, "_READ_PER_LOAD_RATIO", 0.0)
    monkeypatch.setattr(selected.ColumnSelection, "record_check", lambda *_: None)


def vectors(ids: list[Any]) -> pa.Table:
    drawn = np.random.default_rng(1).normal(size=(len(ids), 4)).astype(np.float32)
    return pa.table(
        {"id": ids, "vector": pa.FixedSizeListArray.from_arrays(pa.array(drawn.reshape(-1)), 4)}
    )


NO_FILE_HOLDS = "SELECT * REPLACE ((h / 10)::HUGEINT AS h, e::ENUM ('b', 'a') AS e, bits::BIT AS bits, d::DECIMAL(38, 10) AS d, u::UHUGEINT AS u) FROM s"


@pytest.fixture(params=["s", NO_FILE_HOLDS], ids=["file", "SQL"])
def lab(ws: Any, tmp_path: Path, request: pytest.FixtureRequest) -> Any:
    duckdb.execute(f"COPY ({HOSTILE}) TO '{tmp_path}/s.parquet'")
    ws.sources.add("s", tmp_path / "s.parquet")
    ws.sources.add("twice", pa.table({"id": [2 * i for i in range(N)]}))
    ws.import_embeddings("v", vectors([*range(0, N, 2), 777]), source=request.param)
    return ws


def asked(ws: Any, table: str = "v") -> RowFilter:
    return RowFilter(services_of(ws).search.source_rows(record_of(ws.table(table))))


def keys(ws: Any, where: str, params: Any = None, table: str = "v") -> Any:
    """The keys, in order; or what is said."""
    try:
        found = asked(ws, table).matching_keys(where, params)
    except errors.JammiError as error:
        return type(error), str(error), error.hint, error.position
    return found.type, sorted(found.to_pylist(), key=repr)


@contextlib.contextmanager
def counted(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The conditions that were answered from memory meanwhile."""
    told, said = RowFilter._evaluate_cached, list[str]()

    def tell(self: RowFilter, lying: Any, where: str, *rest: Any) -> Any:
        found = told(self, lying, where, *rest)
        said.extend([] if found is None else [where])
        return found

    with monkeypatch.context() as patched:
        patched.setattr(RowFilter, "_evaluate_cached", tell)
        yield said


@pytest.fixture(params=["whole", "some columns"])
def lying(lab: Any, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Rows that lie in memory with all their columns; or only with those that a condition names,
    since all are too large."""
    if request.param == "whole":
        asked(lab).load("true")
    else:
        small = selected.read_within_limit
        monkeypatch.setattr(
            "jammi_lab.features.search.filters.read_within_limit",
            lambda prepared: small(prepared) if len(prepared.output) < 6 else None,
        )
    return lab, request.param


@soak
def test_a_condition_is_answered_from_memory_as_from_the_source(
    lying: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab, how = lying
    conditions = thinned(SAID, 6)
    with monkeypatch.context() as patched:
        patched.setattr(RowFilter, "_find_rows", lambda *_, **__: None)
        read = {where: keys(lab, where) for where in [*conditions, *WRONG]}
    failed = {where: said for where, said in read.items() if not isinstance(said[0], pa.DataType)}
    assert failed.keys() == {*WRONG}
    for where in [*conditions, *WRONG]:
        if how != "whole":
            asked(lab).load(where)
        assert keys(lab, where) == read[where], where
    with counted(monkeypatch) as told:
        for where in conditions:
            keys(lab, where)
    assert len(told) > 0.6 * len(conditions), set(conditions) - set(told)


def test_parameters_hold_in_memory_too(lab: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    asked(lab).load("true")
    with counted(monkeypatch) as told:
        assert keys(lab, "id > $least AND id < $most", {"least": 3, "most": 7})[1] == [4, 5, 6]
    assert told
    assert keys(lab, "id > $least")[0] is errors.ParameterMissing


def csv(path: Path, rows: list[tuple[Any, ...]], head: str = "id,year,venue") -> None:
    path.write_text("\n".join([head, *(",".join(map(str, row)) for row in rows)]) + "\n")


@pytest.fixture
def papers(ws: Any, tmp_path: Path) -> Path:
    csv(tmp_path / "p.csv", [(i, 2000 + i, "ab"[i % 2]) for i in range(6)])
    ws.sources.add("p", tmp_path / "p.csv")
    ws.import_embeddings("v", vectors(list(range(6))), source="p")
    return tmp_path / "p.csv"


def test_a_source_that_moved_is_answered_for_as_it_is_now(
    ws: Any, papers: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for shift in (0, 10, 20, 0):  # of one length, and back to what was there before
        csv(papers, [(i, 2000 + shift + i, "ab"[i % 2]) for i in range(6)])
        for _ in range(3):
            assert keys(ws, "year = 2014")[1] == ([4] if shift == 10 else [])
        with counted(monkeypatch) as told:
            keys(ws, "year > 0")
        assert told


def test_rows_that_were_written_while_they_were_read_are_not_taken_for_those_of_before(
    ws: Any, papers: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = [[(i, year + i, "a") for i in range(6)] for year in (2000, 3000)]
    csv(papers, old)
    small = selected.read_within_limit

    def overtaken(prepared: Any) -> Any:
        csv(papers, new)
        return small(prepared)

    with monkeypatch.context() as patched:
        patched.setattr("jammi_lab.features.search.filters.read_within_limit", overtaken)
        asked(ws).load("true")
    for rows, year in ((old, 2004), (new, 3004), (old, 2004)):
        csv(papers, rows)
        for _ in range(3):
            assert keys(ws, f"year = {year}")[1] == [4]


def test_rows_and_columns_that_came_or_went_or_turned_into_another_type_are_seen(
    ws: Any, papers: Path
) -> None:
    for _ in range(3):
        assert keys(ws, "year > 2003")[1] == [4, 5] and keys(ws, "key = 3")[1] == [3]
    csv(papers, [(3, 2010, "a"), (3, 2003, "b"), (9, 2010, "a")])
    for _ in range(3):
        assert keys(ws, "year = 2010")[1] == [3, 9] and keys(ws, "venue = 'b'")[1] == [
            3
        ]  # a key that stands twice satisfies both
    csv(papers, [(1, "x2010", "a"), (2, "x1", "b")])
    for _ in range(3):
        assert keys(ws, "year > 'x1'")[1] == [1]
        assert keys(ws, "year > 3")[0] is errors.SqlError
    csv(papers, [(1, 5), (2, 6)], "id,key")
    for _ in range(3):
        assert keys(ws, "key = 5")[1] == [1]  # the source's own column of that name
        assert keys(ws, "year > 3")[0] is errors.SqlError
    papers.unlink()
    assert keys(ws, "key = 5")[0] is errors.SourceUnavailable


@pytest.mark.parametrize("source", ["jammi.t", "SELECT * FROM jammi.t"])
def test_a_column_that_came_beside_columns_that_stayed_is_seen(ws: Any, source: str) -> None:
    ws.materialize("t", "SELECT i AS id, i + 2000 AS year FROM range(6) r(i)")
    ws.import_embeddings("v", vectors(list(range(6))), source=source)
    for _ in range(3):
        assert keys(ws, "key = 3")[1] == [3] and keys(ws, "COLUMNS(*) IS NOT NULL")[1] == list(
            range(6)
        )
    ws.materialize(
        "t",
        "SELECT i AS id, i + 2000 AS year, CASE WHEN i > 1 THEN 5 - i END AS key FROM range(6) r(i)",
    )
    assert keys(ws, "COLUMNS(*) IS NOT NULL")[1] == [2, 3, 4, 5]
    ws.materialize("t", "SELECT i AS id, i + 2000 AS year FROM range(6) r(i)")
    for _ in range(3):
        assert keys(ws, "key = 3")[1] == [3]
    ws.materialize("t", "SELECT i AS id, i + 2000 AS year, 5 - i AS key FROM range(6) r(i)")
    assert keys(ws, "key = 3")[1] == [2]  # the source's own column of that name


def test_a_row_that_nobody_embedded_says_the_same_error_from_memory(ws: Any, papers: Path) -> None:
    csv(papers, [*((i, 2000 + i, 7) for i in range(6)), (99, 1, "no number")])
    said = [keys(ws, "venue::INT = 7") for _ in range(3)]
    assert said[0][0] is errors.SqlError and said[1:] == said[:-1]


@pytest.mark.parametrize(
    "source",
    [
        "SELECT id, random() AS year FROM p",
        "SELECT id, current_date AS year FROM p",
        "SELECT id, venue COLLATE nocase AS year FROM p",
        "frame",
        "base.t",
    ],
    ids=["volatile", "today", "collation", "frame", "database"],
)
def test_what_memory_would_not_answer_alike_is_read_each_time(
    ws: Any, papers: Path, tmp_path: Path, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with duckdb.connect(tmp_path / "base.duckdb") as base:
        base.execute(
            "CREATE TABLE t (id INT, year VARCHAR COLLATE NOCASE); INSERT INTO t VALUES (1, 'a'), (2, 'A')"
        )
    ws.sources.add("base", f"duckdb:///{tmp_path}/base.duckdb")
    ws.sources.add("frame", pa.table({"id": [1, 2], "year": [1.5, float("nan")]}))
    ws.import_embeddings("w", vectors([1, 2]), source=source)
    asked(ws, "w").load("true")
    with counted(monkeypatch) as told:
        for _ in range(3):
            found = keys(
                ws, "year::VARCHAR = 'a'" if source != "base.t" else "year = 'a'", table="w"
            )
    # the collation of the column is read away, as in every statement
    assert not told and (source != "base.t" or found[1] == [1])


def test_each_tenant_is_answered_for_its_own_rows(
    ws: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    csv(tmp_path / "s.csv", [(1, 5, "acme"), (2, 5, "zeta")], "id,year,owner")
    ws.sources.add("s", tmp_path / "s.csv", tenant_column="owner")
    ws.import_embeddings("v", vectors([1, 2]), source="s")
    for tenant, own in (("acme", [1]), ("zeta", [2]), (None, [])):
        with ws.tenant(tenant), counted(monkeypatch) as told:
            assert [keys(ws, "year = 5")[1] for _ in range(3)] == [own] * 3
            assert told


@pytest.mark.parametrize(
    "kind", ["VARCHAR", "SMALLINT", "DOUBLE", "DECIMAL(9, 2)", "DATE", "UUID", "BLOB"]
)
def test_keys_of_another_type_than_the_tables_meet_them_from_memory(
    ws: Any, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = {"DATE": "DATE '2020-01-01' + i::INT", "UUID": "lpad(i::VARCHAR, 32, '0')::UUID"}.get(
        kind, f"i::VARCHAR::{kind}"
    )
    duckdb.execute(
        f"COPY (SELECT {made} AS id, i AS n FROM range(6) r(i)) TO '{tmp_path}/k.parquet'"
    )
    ws.sources.add("k", tmp_path / "k.parquet")
    for name, ids in (
        ("own", duckdb.execute(f"SELECT {made} FROM range(6) r(i)").arrow().read_all().column(0)),
        ("other", list(map(str, range(6)))),
    ):
        ws.import_embeddings(
            name,
            vectors(list(range(6))).set_column(
                0, "id", pa.array(ids) if isinstance(ids, list) else ids
            ),
            source="k",
        )
        first = keys(ws, "n > 3", table=name)
        with counted(monkeypatch) as told:
            keys(ws, "n > 3", table=name)
            assert keys(ws, "n > 3", table=name) == first
        assert told and (name == "other" or len(first[1]) == 2)


def test_rows_that_are_too_large_are_read_once_for_the_columns_that_a_condition_names(
    ws: Any, papers: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        selected, "MAX_CACHED_BYTES", 6 * 17
    )  # bytes: of two numbers in each row, and not of all columns
    for _ in range(4):
        assert keys(ws, "year > 2003")[1] == [4, 5]
    with counted(monkeypatch) as told:
        assert keys(ws, "year = 2001 AND key < 3")[1] == [1] and keys(ws, "COLUMNS(*) IS NOT NULL")[
            1
        ] == list(range(6))
    assert told == ["year = 2001 AND key < 3"]


def test_a_search_with_a_condition_reads_nothing_once_the_rows_lie_in_memory(
    ws: Any, papers: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = [
        ws.search("v", [1, 2, 3, 4], where="year > 2002", select="venue").arrow() for _ in range(4)
    ]
    assert read[1:] == read[:-1]
    with counted(monkeypatch) as told:
        assert ws.search("v", [1, 2, 3, 4], where="venue = 'b'").arrow()["key"].to_pylist()
    assert told == ["venue = 'b'"]


def test_what_lies_there_of_one_workspace_is_not_found_in_another(
    tmp_path: Path, ws: Any, papers: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked(ws).load("true")
    with jl.open(tmp_path / "second") as other:
        other.sources.add("p", papers)
        other.import_embeddings("v", vectors([1]), source="p")
        with counted(monkeypatch) as told:
            keys(other, "true")
        assert not told
