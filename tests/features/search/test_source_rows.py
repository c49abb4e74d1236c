"""The rows behind a table: what a condition lets pass, and the columns that hits are shown with, as
they are now."""

from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pytest

from jammi_lab.core import errors
from tests.inside import record_of, services_of


def vectors(ids: list[Any]) -> pa.Table:
    drawn = np.random.default_rng(1).normal(size=(len(ids), 4)).astype(np.float32)
    return pa.table(
        {"id": ids, "vector": pa.FixedSizeListArray.from_arrays(pa.array(drawn.reshape(-1)), 4)}
    )


def keys(ws: Any, where: str, params: Any = None, table: str = "v") -> Any:
    """The keys that a condition lets pass, in order; or what is said."""
    rows = services_of(ws).search.source_rows(record_of(ws.table(table)))
    try:
        found = rows.matching_keys(where, params)
    except errors.JammiError as error:
        return type(error), str(error), error.hint, error.position
    return found.type, sorted(found.to_pylist(), key=repr)


def selected(ws: Any, column: str) -> dict[Any, Any]:
    """A column of the source by the keys of all hits."""
    rows = ws.search("v", [1, 2, 3, 4], k=99, select=column).arrow()
    return dict(zip(rows["key"].to_pylist(), rows[column].to_pylist(), strict=True))


def csv(path: Path, rows: list[tuple[Any, ...]], head: str = "id,year,venue") -> None:
    path.write_text("\n".join([head, *(",".join(map(str, row)) for row in rows)]) + "\n")


@pytest.fixture
def papers(ws: Any, tmp_path: Path) -> Path:
    csv(tmp_path / "p.csv", [(i, 2000 + i, "ab"[i % 2]) for i in range(6)])
    ws.sources.add("p", tmp_path / "p.csv")
    ws.import_embeddings("v", vectors(list(range(6))), source="p")
    return tmp_path / "p.csv"


def test_rows_and_columns_that_came_or_went_or_turned_into_another_type_are_seen(ws, papers):
    assert keys(ws, "year > 2003")[1] == [4, 5] and keys(ws, "key = 3")[1] == [3]
    csv(papers, [(3, 2010, "a"), (3, 2003, "b"), (9, 2010, "a")])
    assert keys(ws, "year = 2010")[1] == [3, 9] and keys(ws, "venue = 'b'")[1] == [
        3
    ]  # a key that stands twice satisfies both
    csv(papers, [(1, "x2010", "a"), (2, "x1", "b")])
    assert keys(ws, "year > 'x1'")[1] == [1]
    assert keys(ws, "year > 3")[0] is errors.SqlError
    csv(papers, [(1, 5), (2, 6)], "id,key")
    assert keys(ws, "key = 5")[1] == [1]  # the source's own column of that name
    assert keys(ws, "year > 3")[0] is errors.SqlError
    papers.unlink()
    assert keys(ws, "key = 5")[0] is errors.SourceUnavailable


def test_each_tenant_is_answered_for_its_own_rows(ws, tmp_path):
    csv(tmp_path / "s.csv", [(1, 5, "acme"), (2, 5, "zeta")], "id,year,owner")
    ws.sources.add("s", tmp_path / "s.csv", tenant_column="owner")
    ws.import_embeddings("v", vectors([1, 2]), source="s")
    for tenant, own in (("acme", [1]), ("zeta", [2]), (None, [])):
        with ws.tenant(tenant):
            assert keys(ws, "year = 5")[1] == own
            assert selected(ws, "year") == {key: 5 if key in own else None for key in (1, 2)}


@pytest.mark.every_case
@pytest.mark.parametrize(
    "kind",
    [
        "VARCHAR",
        "SMALLINT",
        "UTINYINT",
        "UBIGINT",
        "DOUBLE",
        "DECIMAL(9, 2)",
        "DATE",
        "UUID",
        "BLOB",
    ],
)
def test_keys_of_another_type_than_the_tables_meet_them(ws, tmp_path, kind):
    made = {
        "DATE": "DATE '2020-01-01' + i::INT",
        "UUID": "lpad(i::VARCHAR, 32, '0')::UUID",
        "UBIGINT": "(i::HUGEINT + 9223372036854775808)::UBIGINT",
    }.get(kind, f"i::VARCHAR::{kind}")
    duckdb.execute(
        f"COPY (SELECT {made} AS id, i AS n FROM range(6) r(i) ORDER BY -i) TO '{tmp_path}/k.parquet'"
    )
    ws.sources.add("k", tmp_path / "k.parquet")
    own = duckdb.execute(f"SELECT {made} AS id FROM range(7) r(i)").arrow().read_all()["id"]
    texts = pa.array(list(map(str, range(7))))
    found = {}
    for name, ids in (("own", own), ("other", texts)):
        rows = vectors(list(range(7))).set_column(0, "id", ids)
        ws.import_embeddings(name, rows, source="k")
        found[name] = keys(ws, "n > 3", table=name)[1]
    hits = ws.search("own", [1, 2, 3, 4], select="n").arrow().to_pylist()
    assert kind != "UUID" or {type(hit["key"]) for hit in hits} == {str}
    numbers = dict(zip(map(str, own.to_pylist()), [*range(6), None], strict=True))
    assert {str(hit["key"]): hit["n"] for hit in hits} == numbers
    assert [hit["n"] for hit in hits if hit["source_missing"]] == [None]
    assert len(found["own"]) == 2
    met = kind in ("VARCHAR", "SMALLINT", "UTINYINT", "BLOB")
    assert found["other"] == (["4", "5"] if met else [])


def test_imported_vectors_mean_the_table_that_they_were_of_whatever_is_called_so_since(
    ws, papers, tmp_path
):
    ws.materialize("old", "SELECT * FROM p")
    ws.import_embeddings("v", vectors([0, 2]), source="old")
    assert selected(ws, "year") == {0: 2000, 2: 2002}
    csv(tmp_path / "other.csv", [(i, 0, "a") for i in range(6)])
    ws.sources.add("old", tmp_path / "other.csv")
    assert selected(ws, "year") == {0: 2000, 2: 2002}
