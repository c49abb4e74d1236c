"""Columns of the rows behind the hits, which are read, or taken from where they were laid out: the
answer is the same."""

import datetime
import decimal
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.parquet as pq
import pytest

from jammi_lab.core import errors
from jammi_lab.features.search import column_cache as selected
from jammi_lab.features.search.source_rows import SourceRows
from tests.inside import record_of, services_of
from tests.sizes import product

N = 40
DAY = datetime.date(2020, 1, 1)


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Columns that were read once are loaded by the next search, and checked by each, however long
    that takes."""
    monkeypatch.setattr(selected, "ROW_LOAD_SECONDS", 0.0)
    monkeypatch.setattr(selected, "_READ_PER_LOAD_RATIO", 0.0)
    monkeypatch.setattr(selected.ColumnSelection, "record_check", lambda *_: None)


def write(path: Path, **others: Any) -> None:
    """Rows in an order that is not that of the keys; `others` replace columns."""
    keys = [(7 * i) % N for i in range(N)]
    columns = {
        "id": keys,
        "title": [f"title {k}" for k in keys],
        "year": [1970 + k for k in keys],
        "price": [decimal.Decimal(k) / 4 if k % 5 else None for k in keys],
        "tags": [["a", str(k)][: k % 3] for k in keys],
        "day": [DAY + datetime.timedelta(k) for k in keys],
    }
    pq.write_table(pa.table(columns | others), path)


def vectors(ids: list[Any]) -> pa.Table:
    drawn = np.random.default_rng(1).normal(size=(len(ids), 4)).astype(np.float32)
    return pa.table(
        {"id": ids, "vector": pa.FixedSizeListArray.from_arrays(pa.array(drawn.reshape(-1)), 4)}
    )


@pytest.fixture
def papers(tmp_path: Path) -> Path:
    write(tmp_path / "papers.parquet")
    return tmp_path / "papers.parquet"


@pytest.fixture
def lab(ws: Any, papers: Path) -> Any:
    ws.sources.add("papers", papers)
    ws.import_embeddings("v", vectors([*range(0, N, 2), 777]), source="papers")
    return ws


def never_read(patched: pytest.MonkeyPatch) -> None:
    patched.setattr(SourceRows, "join_with_source", lambda *_: pytest.fail("the source was read"))


def both(ws: Any, monkeypatch: pytest.MonkeyPatch, *args: Any, **options: Any) -> tuple[Any, Any]:
    """The answer that is read, and the one that is taken from where the columns were laid out."""
    read = ws.search(*args, **options)
    ws.search(*args, **options).arrow()
    with monkeypatch.context() as patched:
        never_read(patched)
        return read, ws.search(*args, **options)


@product
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"k": 0},
        {"k": 10**9},
        {"where": "year < 1990 AND key <> 4"},
        {"where": "false"},
    ],
)
@pytest.mark.parametrize("query", [[1, 2, 3, 4], [[1, 0, 0, 0], [0, 1, 2, 0]], None])
def test_what_was_laid_out_is_what_is_read(
    lab: Any, monkeypatch: pytest.MonkeyPatch, query: Any, options: dict[str, Any]
) -> None:
    asked = {"row": 4} if query is None else {"query": query}
    select = ["Year", "title", "tags", "price", "id", "day", "year"]
    read, taken = both(lab, monkeypatch, "v", **asked, **options, select=select)
    assert taken.arrow() == read.arrow() and taken.schema == read.schema
    assert taken.inputs == read.inputs and repr(taken) == repr(read)


@pytest.mark.parametrize(
    "keys",
    [
        ["b", "a", "ü", ""],
        [b"\x00\xff", b"a", b"", b"b"],
        [uuid.UUID(int=n) for n in (5, 1, 2**100, 3)],
        [
            DAY,
            DAY + datetime.timedelta(1),
            DAY - datetime.timedelta(9),
            DAY + datetime.timedelta(7),
        ],
        [
            decimal.Decimal("1.50"),
            decimal.Decimal("-2.25"),
            decimal.Decimal("0.00"),
            decimal.Decimal("9.75"),
        ],
        pa.array([3, 1, 2, 9], pa.uint8()),
        pa.array([3, 1, 2, 2**63], pa.uint64()),
    ],
    ids=["text", "binary", "uuid", "date", "decimal", "uint8", "uint64"],
)
def test_keys_of_every_type_meet_their_rows_where_they_were_laid_out(
    ws: Any, monkeypatch: pytest.MonkeyPatch, keys: Any
) -> None:
    column = (
        pa.array([k.bytes for k in keys], pa.binary(16)).cast(pa.binary(16))
        if isinstance(keys[0], uuid.UUID)
        else pa.array(keys)
    )
    column = (
        pa.ExtensionArray.from_storage(pa.uuid(), column)
        if isinstance(keys[0], uuid.UUID)
        else column
    )
    ws.sources.add("s", pa.table({"id": column, "n": [10, 20, 30, 40]}).slice(0, 3))
    ws.import_embeddings("v", vectors([1, 2, 3, 4]).set_column(0, "id", column), source="s")
    read, taken = both(ws, monkeypatch, "v", [1, 2, 3, 4], select="n")
    assert taken.arrow() == read.arrow() and repr(taken) == repr(read)
    assert sorted(taken.arrow()["source_missing"].to_pylist()) == [False, False, False, True]


@pytest.mark.parametrize("kind", ["parquet", "csv"])
def test_an_edit_of_a_selected_column_is_seen_by_the_next_search(
    ws: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    path = tmp_path / f"s.{kind}"

    def put(years: list[int]) -> None:
        table = pa.table({"id": [1, 2], "year": years})
        pq.write_table(table, path) if kind == "parquet" else pc.write_csv(table, path)

    put([1, 2])
    ws.sources.add("s", path)
    ws.import_embeddings("v", vectors([1, 2]), source="s")
    for years in ([1, 2], [3, 4], [1, 2]):
        put(years)
        for _ in range(3):
            rows = ws.search("v", [1, 1, 1, 1], select="year").arrow()
            assert dict(
                zip(rows["key"].to_pylist(), rows["year"].to_pylist(), strict=True)
            ) == dict(zip([1, 2], years, strict=True))
    both(ws, monkeypatch, "v", [1, 1, 1, 1], select="year")


def test_rows_that_came_and_went_are_seen_by_the_next_search(
    lab: Any, papers: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    both(lab, monkeypatch, "v", [1, 2, 3, 4], k=99, select="title")
    table = pq.read_table(papers)
    pq.write_table(
        pa.concat_tables(
            [
                table.filter(pa.compute.field("id") != 4),
                table.slice(0, 1).set_column(0, "id", pa.array([777])),
            ]
        ),
        papers,
    )
    rows = {
        r["key"]: r for r in lab.search("v", [1, 2, 3, 4], k=99, select="title").arrow().to_pylist()
    }
    assert (
        rows[4]["source_missing"] and rows[4]["title"] is None and not rows[777]["source_missing"]
    )


def test_a_column_of_another_type_or_gone_is_seen_by_the_next_search(
    lab: Any, papers: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    both(lab, monkeypatch, "v", [1, 2, 3, 4], select="year")
    write(papers, year=[str(i) for i in range(N)])
    read, taken = both(lab, monkeypatch, "v", [1, 2, 3, 4], select="year")
    assert (
        repr(taken) == repr(read)
        and "varchar" in repr(taken).lower()
        and taken.schema.field("year").type == pa.string()
    )
    pq.write_table(pq.read_table(papers).drop_columns(["year"]), papers)
    with pytest.raises(errors.SchemaMismatch, match="year"):
        lab.search("v", [1, 2, 3, 4], select="year")
    lab.sources.remove("papers")
    with pytest.raises(errors.TableNotFound, match="papers"):
        lab.search("v", [1, 2, 3, 4], select="year")


def test_a_frame_that_is_changed_in_place_is_seen_by_the_next_search(
    ws: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pandas as pd

    frame = pd.DataFrame({"id": [1, 2], "year": [1, 2]})
    ws.sources.add("s", frame)
    ws.import_embeddings("v", vectors([1, 2]), source="s")
    both(ws, monkeypatch, "v", [1, 1, 1, 1], select="year")
    frame.loc[:, "year"] = 9
    assert ws.search("v", [1, 1, 1, 1], select="year").arrow()["year"].to_pylist() == [9, 9]


def test_a_source_that_moved_since_is_read_once_for_what_is_missing(
    lab: Any, papers: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(papers, id=[i if i != 4 else 4000 for i in range(N)])
    read, taken = both(lab, monkeypatch, "v", [1, 2, 3, 4], k=99)
    assert taken.arrow() == read.arrow()
    assert [r["key"] for r in taken.arrow().to_pylist() if r["source_missing"]] == [
        r for r in taken.arrow()["key"].to_pylist() if r in (4, 777)
    ]


def test_rows_that_differ_from_run_to_run_and_those_on_somebodys_word_are_read_each_time(
    ws: Any, papers: Path
) -> None:
    ws.sources.add("papers", papers)
    ws.sources.add("told", papers, anchor="column:year")
    for source in (
        "SELECT id, random() AS title FROM papers",
        "told",
        "SELECT id, current_date AS title FROM papers",
    ):
        ws.import_embeddings("v", vectors([0, 2]), source=source)
        for _ in range(3):
            ws.search("v", [1, 2, 3, 4], select="title").arrow()
        selection = next(reversed(services_of(ws).search.context.columns._selections.values()))
        assert not selection.was_loaded


def test_what_is_too_large_is_read_each_time_and_tried_once(
    lab: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    laid_out, lay_out = [], SourceRows._load
    monkeypatch.setattr(selected, "MAX_CACHED_BYTES", 10)
    monkeypatch.setattr(SourceRows, "_load", lambda *args: laid_out.append(1) or lay_out(*args))
    answers = [lab.search("v", [1, 2, 3, 4], select="title").arrow() for _ in range(4)]
    assert answers[1:] == answers[:-1] and len(laid_out) == 1


def test_a_state_that_takes_longer_to_tell_than_the_rows_to_read_is_asked_for_less_and_less_often(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.undo()
    selection = selected.ColumnSelection([], [], [], read_seconds=1, last_read_seconds=0.01)
    looks = 0
    for _ in range(200):
        if selection.should_check(10):
            selection.record_check(0.5)
            looks += 1
    assert looks == 8
    selection.checks_to_skip = 0
    selection.record_check(0.001)
    assert selection.should_check(10) and selection.should_check(10)


def test_what_somebody_waits_for_is_laid_out_at_once_unless_to_look_for_changes_takes_longer_than_to_read(
    lab: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    search, record = services_of(lab).search, record_of(lab.table("v"))
    keys = search.matrix(record).keys
    monkeypatch.undo()
    behind = search.source_rows(record)
    monkeypatch.setattr(
        selected.ColumnSelection,
        "record_check",
        lambda self, _: setattr(self, "last_skip_count", 0),
    )
    behind.load(["title"], keys)
    assert behind.cached_columns(["title"], keys) is not None
    monkeypatch.setattr(
        selected.ColumnSelection,
        "record_check",
        lambda self, _: setattr(self, "last_skip_count", 1),
    )
    behind.load(["year"], keys)
    asked = []
    monkeypatch.setattr(SourceRows, "state_of", lambda *_: asked.append(1))
    behind.load(["year"], keys)
    assert not asked


def test_columns_are_laid_out_once_as_much_was_spent_on_reading_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.undo()
    selection = selected.ColumnSelection([], [], [], read_seconds=0.04, last_read_seconds=0.04)
    assert not selection.should_check(100_000) and selection.should_check(1_000)
    selection.read_seconds = 0.06
    assert selection.should_check(100_000)
    selection.record_load(0.5)  # of a source that is much larger than the table, say
    for _ in range(10):
        selection.read_seconds += 0.06
        assert selection.load_is_due(100_000) is (selection.read_seconds > 0.5)


def test_each_tenant_is_given_its_own_rows_where_they_were_laid_out(
    ws: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pq.write_table(
        pa.table({"id": [1, 2], "year": [1, 2], "owner": ["acme", "zeta"]}), tmp_path / "s.parquet"
    )
    ws.sources.add("s", tmp_path / "s.parquet", tenant_column="owner")
    ws.import_embeddings("v", vectors([1, 2]), source="s")
    seen = {}
    for tenant in ("acme", "zeta", None):
        with ws.tenant(tenant):
            _, taken = both(ws, monkeypatch, "v", [1, 1, 1, 1], select="year")
            seen[tenant] = {r["key"]: r["year"] for r in taken.arrow().to_pylist()}
    assert seen == {"acme": {1: 1, 2: None}, "zeta": {1: None, 2: 2}, None: {1: None, 2: None}}


def test_imported_vectors_mean_the_table_that_they_were_of_whatever_is_called_so_since(
    ws: Any, papers: Path, tmp_path: Path
) -> None:
    ws.sources.add("papers", papers)
    ws.materialize("old", "SELECT * FROM papers")
    ws.import_embeddings("v", vectors([0, 2]), source="old")
    assert sorted(ws.search("v", [1, 2, 3, 4], select="year").arrow()["year"].to_pylist()) == [
        1970,
        1972,
    ]
    write(tmp_path / "other.parquet", year=[0] * N)
    ws.sources.add("old", tmp_path / "other.parquet")
    assert sorted(ws.search("v", [1, 2, 3, 4], select="year").arrow()["year"].to_pylist()) == [
        1970,
        1972,
    ]
