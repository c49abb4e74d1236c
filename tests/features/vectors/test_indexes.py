"""The life of an index: it follows its table, heals, comes and goes with it, and search is right at
every moment."""

import concurrent.futures
import contextlib
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import jammi_lab as jl
from jammi_lab.core import errors
from jammi_lab.core.records import Progress
from jammi_lab.core.verdicts import Match
from jammi_lab.features.vectors.index import files as index_files
from jammi_lab.features.vectors.index import hnsw as ann
from jammi_lab.features.vectors.index import indexes
from jammi_lab.features.vectors.matrix import Matrix
from jammi_lab.store.sidecars import (
    GRAPH_SUFFIX,
    INDEX_SUFFIXES,
    MANIFEST_SUFFIX,
    sidecar_path,
)
from tests.features.vectors.test_index_files import altered
from tests.inside import record_of, services_of
from tests.store.lab import DEAD, catalog
from tests.waiting import until

ROWS_OF_TABLE, WIDTH = 400, 12
TITLES = [
    f"{a} {b}"
    for a in ("graph", "pasta", "protein", "football", "tomato")
    for b in ("network", "sauce", "folding", "result", "of the day")
]


def vectors(rows: int = ROWS_OF_TABLE, seed: int = 0) -> Any:
    return np.random.default_rng(seed).standard_normal((rows, WIDTH)).astype(np.float32)


def given(found: Any, first: int = 0) -> Any:
    column = pa.FixedSizeListArray.from_arrays(
        pa.array(np.ascontiguousarray(found).reshape(-1)), WIDTH
    )
    return pa.table(
        {
            "id": [f"k{i:05d}" for i in range(first, first + len(found))],
            "vector": column,
            "n": list(range(len(found))),
        }
    )


def put(ws: Any, found: Any = None, **how: Any) -> Any:
    """The table `v` of these vectors."""
    return ws.import_embeddings("v", given(vectors() if found is None else found), **how)


def five(ws: Any, exact: bool | None = None) -> Any:
    """What is found of `v` for five queries."""
    return ws.search("v", vectors(5, seed=1), exact=exact).arrow()


def finds_the_same(ws: Any, table: Any, queries: Any) -> bool:
    """Whether a search through the index of a table gives what one without it gives."""
    through, without = (ws.search(table, queries, exact=exact).arrow() for exact in (False, True))
    return bool(through == without)


def paths(table: Any) -> dict[str, Path]:
    parquet = table._services.results.parquet(
        record_of(table)
    )  # `table.path` refuses one that is damaged or gone
    return {suffix: sidecar_path(parquet, suffix) for suffix in INDEX_SUFFIXES}


def there(table: Any) -> set[str]:
    return {suffix for suffix, path in paths(table).items() if path.exists()}


def state(ws: Any, table: Any) -> Any:
    return services_of(ws).vectors.state(record_of(table))


def loaded(ws: Any, table: Any) -> Any:
    return services_of(ws).vectors.index(record_of(table))


def settled(ws: Any, table: Any, word: str = "ready") -> bool:
    return bool(until(lambda: state(ws, table).status == word, 10))


@pytest.fixture
def table(ws: Any) -> Any:
    return put(ws)


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes every index wait at its first step until it is let go."""
    go, begun, plain = threading.Event(), threading.Event(), ann.build_index

    def build(exact: Any, parameters: Any, oversample: int, advance: Any) -> Any:
        def wait(done: int) -> None:
            begun.set()
            while not go.wait(0.01):
                advance(done)
            advance(done)

        return plain(exact, parameters, oversample, wait)

    monkeypatch.setattr(ann, "build_index", build)
    yield go, begun
    go.set()


# -- it follows its table --------------------------------------------------------------------------


def test_an_index_is_there_when_the_call_returns_with_progress(ws):
    told: list[Progress] = []
    table = put(ws, progress=told.append)
    assert there(table) == {GRAPH_SUFFIX, MANIFEST_SUFFIX} and state(ws, table).status == "ready"
    assert [(p.done, p.total, p.unit) for p in told if p.stage == "index v"][-1] == (
        ROWS_OF_TABLE,
        ROWS_OF_TABLE,
        "vectors",
    )


def test_embedded_texts_have_an_index_too_and_tables_without_vectors_none(ws):
    ws.sources.add("papers", pa.table({"id": range(25), "title": TITLES}))
    made = ws.embed("v", "papers", key="id", text="title", model="hashing", precision="f16")
    plain = ws.materialize("m", "SELECT * FROM papers")
    assert loaded(ws, made).shape.parameters.precision == "f16" and there(plain) == set()
    assert {row.name: row.index for row in ws.status()} == {"v": "f16, 100 %", "m": None}
    assert ws.sql("SELECT \"index\" FROM jammi_catalog.status WHERE name = 'v'").fetchall() == [
        ("f16, 100 %",)
    ]
    assert "f16, 100 %" in repr(ws.status())


def test_an_empty_table_needs_no_index(ws):
    table = put(ws, vectors(0))
    assert there(table) == set() and not ws.fsck() and not ws.recover()
    assert len(ws.search("v", [1.0] * WIDTH, exact=False).arrow()) == 0


def test_search_is_the_same_through_the_index_and_without(ws, table):
    for query in (
        {"query": vectors(7, seed=1)},
        {"query": vectors(1, seed=1)[0]},
        {"row": "k00009"},
    ):
        for more in ({}, {"where": "n % 3 = 0"}, {"where": "n < 4"}, {"select": "n"}, {"k": 399}):
            options = {**query, **more}
            found = ws.search("v", **options, exact=False).arrow()
            assert (
                found
                == ws.search("v", **options, exact=True).arrow()
                == ws.search("v", **options).arrow()
            )
            assert found.num_rows


def test_large_tables_are_searched_through_the_index_and_small_ones_are_not(ws, table, monkeypatch):
    asked = []
    plain = ann.AnnIndex.candidates
    monkeypatch.setattr(
        ann.AnnIndex, "candidates", lambda self, *a, **k: asked.append(1) or plain(self, *a, **k)
    )
    ws.search("v", vectors(1)[0])
    assert not asked
    ws.settings.set("vectors.exact_max_rows", 100)
    ws.settings.set(
        "vectors.search_expansion", 64
    )  # what is measured at a build may say, of so few rows, that the graph is no help
    ws.search("v", vectors(1)[0])
    assert len(asked) == 1
    ws.search("v", vectors(1)[0], exact=True)
    ws.search("v", vectors(1)[0], k=390)  # would read nearly all of it
    assert len(asked) == 1


@pytest.mark.parametrize(
    "wrong", [{"precision": "f8"}, {"precision": None}, {"index": "never"}], ids=str
)
def test_a_wrong_wish_is_refused_before_anything_is_made(ws, wrong):
    with pytest.raises(errors.InvalidArgument):
        put(ws, **wrong)
    assert "v" not in ws


# -- later -----------------------------------------------------------------------------------------


def test_an_index_may_come_later_and_search_is_exact_until_it_is_there(ws, slow):
    go, begun = slow
    ws.settings.set("vectors.exact_max_rows", 10)
    table = put(ws, index="later")
    assert begun.wait(10) and state(ws, table).status == "building" and there(table) == set()
    assert "building" in next(iter(ws.status())).index
    expected = ws.search("v", vectors(3, seed=1), exact=True).arrow()
    assert ws.search("v", vectors(3, seed=1)).arrow() == expected and there(table) == set()
    go.set()
    assert (
        settled(ws, table) and ws.search("v", vectors(3, seed=1), exact=False).arrow() == expected
    )


def test_closing_ends_what_is_being_made_and_recovery_makes_it(ws, slow, tmp_path):
    go, begun = slow
    table = put(ws, index="later")
    assert begun.wait(10)
    ws.close()
    assert [t for t in threading.enumerate() if t.name == "jammi-index"] == [] and there(
        table
    ) == set()
    go.set()
    with jl.open(tmp_path / "lab") as again:
        assert again.search("v", vectors(1)[0], k=1).arrow()["key"].to_pylist() == ["k00000"]
        assert again.fsck().indexes == [f"{table.table_name}: missing"]
        assert (
            again.recover().healed == [table.table_name]
            and not again.recover()
            and not again.fsck()
        )


def test_the_next_use_makes_a_missing_index(ws, slow, tmp_path):
    go, begun = slow
    put(ws, index="later")
    ws.import_embeddings("w", given(vectors(seed=4)), index="later")
    assert begun.wait(10)
    ws.close()
    go.set()
    with jl.open(tmp_path / "lab", settings={"vectors.exact_max_rows": 10}) as again:
        v, w = again.table("v"), again.table("w")
        again.search("v", vectors(1)[0], exact=False)
        assert there(v) == {GRAPH_SUFFIX, MANIFEST_SUFFIX} and there(w) == set()
        again.search("w", vectors(1)[0])
        assert settled(again, w)


def test_an_interrupted_index_leaves_a_ready_table(ws):
    def stop(progress: Progress) -> None:
        if progress.stage == "index v" and progress.done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        put(ws, progress=stop)
    table = ws.table("v")
    assert there(table) == set() and table.verify() == Match() and put(ws).outcome == "reused"
    assert there(table) == {GRAPH_SUFFIX, MANIFEST_SUFFIX}


# -- precision, and what is taken over -------------------------------------------------------------


def test_another_precision_makes_another_index_of_the_same_table(ws, table):
    body = paths(table)[GRAPH_SUFFIX].read_bytes()
    again = put(ws, precision="i8")
    assert (
        again.outcome == "reused"
        and again.table_name == table.table_name
        and again.definition_hash == table.definition_hash
    )
    assert loaded(ws, again).shape.parameters.precision == "i8" and len(
        paths(again)[GRAPH_SUFFIX].read_bytes()
    ) < len(body)
    assert again.verify() == Match() and not ws.fsck(deep=True)
    assert (
        put(ws).table_name == table.table_name
        and loaded(ws, table).shape.parameters.precision == "bf16"
    )


def test_a_recovered_index_is_as_precise_as_before_while_its_manifest_is_there(ws):
    table = put(ws, precision="f32")
    for lost, precision in (([GRAPH_SUFFIX], "f32"), (INDEX_SUFFIXES, "bf16")):
        for suffix in lost:
            paths(table)[suffix].unlink()
        ws.recover()
        assert loaded(ws, table).shape.parameters.precision == precision


def test_a_recomputed_table_keeps_the_precision_and_takes_the_index_over(ws):
    titles = [f"{t} {i}" for i in range(20) for t in TITLES]
    ws.sources.add("papers", pa.table({"id": range(500), "title": titles}))
    first = ws.embed("v", "papers", key="id", text="title", model="hashing", precision="i8")
    ws.sources.add(
        "papers",
        pa.table(
            {"id": range(2, 502), "title": [*titles[2:-5], *(f"edited {i}" for i in range(7))]}
        ),
        replace=True,
    )
    ws.recompute("v")
    second = ws.table("v")
    assert second.table_name != first.table_name and there(second) == set(INDEX_SUFFIXES)
    shape = loaded(ws, second).shape
    assert (shape.parameters.precision, shape.count) == ("i8", 500) and 2 <= shape.removed <= 20
    assert finds_the_same(ws, "v", ["edited 3", "graph network 1"])
    assert not ws.fsck(deep=True)


# -- damage ----------------------------------------------------------------------------------------


def hurt(path: Path) -> None:
    body = bytearray(path.read_bytes())
    body[len(body) // 2] ^= 1
    path.write_bytes(body)


@pytest.mark.parametrize("suffix", [GRAPH_SUFFIX, MANIFEST_SUFFIX])
@pytest.mark.parametrize("how", ["hurt", "gone", "torn", "another's"])
def test_a_bad_index_changes_no_answer_and_comes_back(ws, table, tmp_path, suffix, how):
    expected = five(ws, True)
    other = ws.import_embeddings("w", given(vectors(seed=8)))
    ws.close()
    path = paths(table)[suffix]
    match how:
        case "hurt":
            hurt(path)
        case "gone":
            path.unlink()
        case "torn":
            path.write_bytes(path.read_bytes()[:-9])
        case _:
            for each in (GRAPH_SUFFIX, MANIFEST_SUFFIX):
                paths(table)[each].write_bytes(paths(other)[each].read_bytes())
    with jl.open(tmp_path / "lab", read_only=True) as reading:
        before = {
            p: p.stat()
            for p in (tmp_path / "lab").rglob("*")
            if p.suffix not in (".sqlite3-shm", ".sqlite3-wal")
        }
        for exact in (True, False, None):
            assert five(reading, exact) == expected
        assert {p: s.st_mtime_ns for p, s in before.items()} == {
            p: p.stat().st_mtime_ns for p in before
        }
    with jl.open(tmp_path / "lab") as again:
        assert (
            again.table("v").verify() == Match()
            and again.status()["v"].verdict.__class__.__name__ == "Fresh"
        )
        assert five(again) == expected
        again.recover()
        assert (
            not again.fsck(deep=True)
            and state(again, again.table("v")).status == "ready"
            and not again.recover()
        )
        found, wanted = (set(map(str, hits.to_pylist())) for hits in (five(again, False), expected))
        assert len(found) == len(wanted) and len(found & wanted) >= 0.96 * len(
            wanted
        )  # the graph is made by several threads, each time another one
    with jl.open(tmp_path / "lab") as once_more:
        assert not once_more.recovery.healed


def test_a_folder_in_the_place_of_an_index_is_left_and_the_table_searched_without_one(ws, table):
    path = paths(table)[GRAPH_SUFFIX]
    path.unlink()
    path.mkdir()
    (path / "theirs").write_text("dear")
    assert ws.fsck(repair=True).indexes == [f"{table.table_name}: missing"]
    assert (path / "theirs").read_text() == "dear"
    expected = five(ws, True)
    assert five(ws, False) == expected


def test_an_index_by_another_usearch_is_said_to_be_outdated_and_made_anew(ws, table, tmp_path):
    expected = five(ws, True)
    ws.close()
    altered(table.path, usearch_version="1.0")
    with jl.open(tmp_path / "lab", read_only=True) as reading:
        assert state(reading, reading.table("v")).status == "outdated" and "outdated" in str(
            reading.status()["v"].index
        )
        assert reading.fsck().indexes == [f"{table.table_name}: outdated"]
        assert five(reading) == expected
    with jl.open(tmp_path / "lab") as again:
        assert (
            again.recover().healed == [table.table_name]
            and state(again, again.table("v")).status == "ready"
        )
        assert (
            index_files.read_manifest(table.path).usearch_version == index_files.usearch_version()
        )


def test_a_repair_gives_an_index_back_and_says_so(ws, table):
    paths(table)[GRAPH_SUFFIX].unlink()
    assert ws.fsck().indexes == [f"{table.table_name}: damaged"] and "1 indexes" in str(ws.fsck())
    assert ws.fsck(repair=True).repaired == [table.table_name] and not ws.fsck(deep=True)


def test_an_index_of_vectors_that_are_damaged_is_not_made(ws, table):
    paths(table)[GRAPH_SUFFIX].unlink()
    hurt(table.path)
    assert ws.recover().healed == [] and not paths(table)[GRAPH_SUFFIX].exists()
    with pytest.raises(errors.TableDamaged):
        ws.search("v", vectors(1)[0], exact=False)


# -- it goes with its table ------------------------------------------------------------------------


def test_an_index_goes_with_its_table(ws, table, tmp_path):
    later = put(ws, np.concatenate([vectors()[1:], vectors(5, seed=2)]), precision="f16")
    ws.expire("v", keep=1)
    assert there(table) == set() and there(later) >= {GRAPH_SUFFIX, MANIFEST_SUFFIX}
    ws.drop("v")
    assert [
        p for p in (tmp_path / "lab" / "results").rglob("*") if p.is_file()
    ] == [] and not ws.fsck()


def test_a_table_that_is_dropped_while_its_index_is_made_leaves_nothing(ws, slow, tmp_path):
    go, begun = slow
    put(ws, index="later")
    assert begun.wait(10)
    ws.drop("v")
    go.set()
    ws.close()
    assert [p for p in (tmp_path / "lab" / "results").rglob("*") if p.is_file()] == []


def test_an_index_of_a_large_table_is_made_without_all_its_vectors_in_memory(ws, monkeypatch):
    ws.settings.set("vectors.exact_max_rows", 100)
    monkeypatch.setattr(Matrix, "exact", property(lambda _: pytest.fail("all vectors were loaded")))
    table, query = put(ws), vectors()[3]
    assert state(ws, table).status == "ready"
    monkeypatch.undo()
    assert finds_the_same(ws, "v", query)


def test_an_index_of_bytes_that_change_while_they_are_read_is_not_kept(ws, slow):
    go, begun = slow
    ws.settings.set("vectors.exact_max_rows", 100)
    table = put(ws, index="later")
    assert begun.wait(10)
    path = table.path
    body = bytearray(path.read_bytes())
    body[len(body) // 2] ^= 255
    path.unlink()
    path.write_bytes(body)
    go.set()
    assert settled(ws, table, "missing") and there(table) == set()


def test_temporary_files_of_an_index_are_found_by_the_sweep_once_its_maker_is_gone(
    ws, table, tmp_path
):
    left = table.path.parent / f".{paths(table)[GRAPH_SUFFIX].name}.0a1b2c3d.tmp"
    left.write_bytes(b"half")
    assert ws.fsck().orphans == []  # it may be making the index anew
    ws.close()
    with jl.open(tmp_path / "lab") as later:
        assert [Path(p).name for p in later.fsck().orphans] == [left.name]
        assert [Path(p).name for p in later.fsck(repair=True, grace=0).reclaimed] == [
            left.name
        ] and there(table) == {GRAPH_SUFFIX, MANIFEST_SUFFIX}


@pytest.mark.parametrize("alone", [True, False])
def test_unfinished_files_of_an_index_go_with_their_writer_when_nobody_else_could_be_making_one(
    tmp_path, alone
):
    folder = tmp_path / "lab"
    with jl.open(folder) as ws:
        table = put(ws)
        files = sorted(table.path.parent.iterdir())
    left = [path.with_name(f".{path.name}.0a1b2c3d.tmp") for path in files]
    for path in left:
        path.write_bytes(b"half")
    with contextlib.ExitStack() as others:
        if not alone:
            others.enter_context(jl.open(folder))
        with catalog(folder) as db:
            db.execute(
                "INSERT INTO writers(writer_id, host, boot_id, pid, started_at) VALUES (?, 'h', 'b', 1, '2026-01-01T00:00:00.000000Z')",
                [DEAD],
            )
        with jl.open(folder):
            assert [p.name for p in left if p.exists()] == [p.name for p in left if not alone]
    assert all(path.exists() for path in files)


# -- several at once -------------------------------------------------------------------------------


def test_two_kernels_may_make_the_same_index(ws, table, tmp_path):
    for path in paths(table).values():
        path.unlink(missing_ok=True)
    with jl.open(tmp_path / "lab") as other:
        gate = threading.Barrier(2)
        mine, theirs = services_of(ws).vectors, services_of(other).vectors

        def make(indexes: Any) -> None:
            gate.wait()
            indexes.ensure_index(record_of(table), None)

        with concurrent.futures.ThreadPoolExecutor() as pool:
            list(pool.map(make, (mine, theirs)))
        for each in (ws, other):
            assert finds_the_same(each, "v", vectors(4))
    assert not ws.fsck(deep=True).orphans


def test_the_index_that_a_killed_kernel_was_making_is_made_by_the_next(ws, tmp_path, run_python):
    made = put(ws)
    index_files.remove_index_files(
        paths(made)[GRAPH_SUFFIX].with_name(
            paths(made)[GRAPH_SUFFIX].name.removesuffix(GRAPH_SUFFIX) + ".parquet"
        )
    )
    ws.close()
    code = """
import os, signal, sys, jammi_lab as jl
from jammi_lab.storage.files import install_fault_hook
from jammi_lab.store.sidecars import SidecarRequest
with jl.open(sys.argv[1]) as ws:
    install_fault_hook(lambda name: os.kill(os.getpid(), signal.SIGKILL) if name == "index.before_write" else None)
    ws.recover()
"""
    assert run_python(code, str(tmp_path / "lab"), check=False).returncode == -9
    with jl.open(tmp_path / "lab") as other:
        other.recover()
        assert loaded(other, made) is not None


def test_an_index_is_kept_in_a_store(tmp_path):
    with jl.open(f"memory://lab-{tmp_path.name}") as ws:
        table = put(ws, precision="i8")
        assert state(ws, table).status == "ready" and not ws.fsck(deep=True)
        services_of(ws).vectors.close()
        assert finds_the_same(ws, "v", vectors(4))
        put(ws, vectors(seed=1))
        assert len(ws.expire("v")) == 1 and not ws.fsck().orphans


def test_an_index_that_is_in_memory_is_taken_over_without_being_held_twice(ws, monkeypatch):
    first = put(ws)
    held, moved = loaded(ws, first), vectors()
    moved[:9] = vectors(9, seed=3)
    monkeypatch.setattr(index_files, "load_index", lambda *_: pytest.fail("it was read again"))
    second = put(ws, moved)
    assert (
        loaded(ws, second).shape.removed == 9
        and f"index:{record_of(first).digest}" not in indexes.CACHE
    )
    assert (
        held.candidates(moved[20:21], 3).min() >= 0
    )  # who searches through it meanwhile still can
    monkeypatch.undo()
    for table in (first, second):
        assert finds_the_same(ws, table, moved[3])


def test_an_index_is_made_anew_when_most_rows_are_others(ws, table):
    later = put(ws, np.concatenate([vectors()[:150], vectors(250, seed=3)]))
    assert there(later) == set(INDEX_SUFFIXES) and loaded(ws, later).shape.removed == 0
