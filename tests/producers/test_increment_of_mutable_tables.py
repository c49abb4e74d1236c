"""Increments over mutable tables: inserts are computed over the new rows alone, and every other
commit in full."""

import contextlib
import dataclasses
import random
import re
import sqlite3

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import jammi_lab as jl
from jammi_lab.core.verdicts import Fresh, Match, Stale
from jammi_lab.live.mutable_tables import MutableTableService
from jammi_lab.producers import build, increment
from tests.producers import append_histories as histories
from tests.producers.append_histories import is_increment, record_refusals
from tests.sizes import sized, soak
from tests.store.lab import DAMAGES

GROUP_BY = (
    "SELECT g, count(*) AS n, sum(x) AS s, min(d) AS m, avg(d) AS a FROM mutable.t GROUP BY g"
)
STATEMENTS = {
    "group by": GROUP_BY,
    "distinct": "SELECT DISTINCT g, k FROM mutable.t",
    "rows": "SELECT t.g, small.name FROM mutable.t JOIN small USING (k)",
    "rows in order": "SELECT g, f, x + 1 AS y FROM mutable.t WHERE b",
}
KEYS = {
    "a number": ({"id": pa.int64()}, lambda n: {"id": n}),
    "an unsigned number": ({"id": pa.uint64()}, lambda n: {"id": n + (1 << 63)}),
    "a text": ({"id": pa.string()}, lambda n: {"id": f"{n:06}"}),
    "two columns": (
        {"id": pa.string(), "part": pa.int32()},
        lambda n: {"id": f"{n // 3:06}", "part": n % 3},
    ),
}
FIRST = 1000
"""The first key; smaller ones come before all rows."""


@pytest.fixture(autouse=True)
def no_threshold(monkeypatch):
    monkeypatch.setattr(increment, "MIN_INPUT_ROWS", 0)
    monkeypatch.setattr(increment, "MAX_SHARE", 1e9)


@pytest.fixture
def refusals(monkeypatch):
    return record_refusals(monkeypatch)


class GrowingTable:
    """A mutable table `t` of two inserts in versions 1 and 2."""

    def __init__(self, ws, key="a number", seed=1):
        self.draw, self._ws = random.Random(seed), ws
        self._key_columns, self._key_of = KEYS[key]
        self._next = FIRST
        self.make()

    def make(self):
        schema = [*self._key_columns.items(), *histories.new_rows(self.draw, 0).schema]
        self.table = self._ws.mutable.create(
            "t", pa.schema(schema), primary_key=[*self._key_columns]
        )
        self.append()
        self.append()

    def rows(self, numbers):
        new = histories.new_rows(self.draw, len(numbers)).to_pylist()
        return [{**self._key_of(n), **row} for n, row in zip(numbers, new, strict=True)]

    def append(self, rows=20):
        self.table.insert(self.rows(range(self._next, self._next + rows)))
        self._next += rows

    def insert_before(self):
        self.table.insert(self.rows(range(FIRST - 5, FIRST)))

    def update(self):
        self.table.update({"x": 5}, "k = 1")

    def delete(self):
        self.table.delete("k = 2")

    def upsert(self):
        self.table.upsert(self.rows(range(FIRST, FIRST + 3)))

    def insert_again(self):
        [row] = self._ws.sql(f"FROM mutable.t WHERE id = {FIRST}").arrow().to_pylist()
        self.table.delete(f"id = {FIRST}")
        self.table.insert([row])

    def insert_and_delete(self):
        self.append(3)
        self.table.delete(f"id = {self._next - 2}")

    def insert_and_replace(self):
        self.append(3)
        self.table.upsert(self.rows([self._next - 2]))

    def make_again(self):
        self._ws.mutable.drop("t")
        self.make()
        self.append()


@contextlib.contextmanager
def growing_lab(folder, key="a number", seed=1, **settings):
    """A workspace with a growing table and a file `small` that does not change."""
    histories.write_small_table(folder / "small.parquet")
    with jl.open(folder / "lab", settings=settings) as ws:
        ws.sources.add("small", str(folder / "small.parquet"))
        yield ws, GrowingTable(ws, key, seed)


@pytest.mark.parametrize("key", KEYS)
def test_inserts_are_computed_over_the_new_rows_alone(tmp_path, key):
    with growing_lab(tmp_path, key) as (ws, table):
        histories.check_added_rows(
            ws, table, STATEMENTS, extent="5 of 45 rows", delta="5 rows added after version 2"
        )


def test_rows_that_were_not_there_before_may_change_and_go_again(tmp_path):
    with growing_lab(tmp_path) as (ws, table):
        assert is_increment(ws, GROUP_BY, table.insert_and_delete)
        assert ws.table("it").manifest.increment.delta == ["2 rows added after version 2"]
        assert is_increment(ws, GROUP_BY, table.insert_and_replace, table.append)


def test_rows_before_others_are_an_append_where_rows_are_sorted(tmp_path, refusals):
    with growing_lab(tmp_path) as (ws, table):
        assert is_increment(ws, GROUP_BY, table.insert_before)
    (tmp_path / "other").mkdir()
    with growing_lab(tmp_path / "other") as (ws, table):
        assert not is_increment(ws, STATEMENTS["rows in order"], table.insert_before)
        assert "the new rows may come before others" in refusals


CHANGES = ("update", "delete", "upsert", "insert_again")


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_of_rows_that_were_read_leads_to_a_full_run(tmp_path, change, refusals):
    with growing_lab(tmp_path) as (ws, table):
        assert not is_increment(ws, GROUP_BY, table.append, getattr(table, change), table.append)
        assert "t: rows were updated or deleted after version 2" in refusals
        assert is_increment(ws, GROUP_BY, table.append)


def test_a_table_made_again_in_its_place_leads_to_a_full_run(tmp_path, refusals):
    with growing_lab(tmp_path) as (ws, table):
        assert not is_increment(ws, GROUP_BY, table.make_again)
        assert "t: its version 2 is not the one that was read" in refusals


def test_a_history_that_was_trimmed_leads_to_a_full_run(tmp_path, refusals):
    with growing_lab(tmp_path, **{"mutable.versions_kept": 2}) as (ws, table):
        assert is_increment(ws, GROUP_BY, table.append, table.append)
        assert not is_increment(ws, GROUP_BY, table.append, table.append, table.append)
        assert "t: its history since version 4 is gone" in refusals


def put_mutable_tables_back(catalog, backup):
    """Replace the mutable tables of a closed workspace by those of a backup."""
    with contextlib.closing(sqlite3.connect(catalog)) as connection:
        connection.execute("ATTACH ? AS backup", [str(backup)])
        found = connection.execute("SELECT name FROM backup.sqlite_master WHERE type = 'table'")
        for name in [name for (name,) in found if name.startswith("mutable_")]:
            connection.execute(f"DELETE FROM {name}")
            connection.execute(f"INSERT INTO {name} SELECT * FROM backup.{name}")
        connection.commit()


def test_inserts_after_a_restore_are_no_append_to_the_commits_before(tmp_path, refusals):
    with growing_lab(tmp_path) as (ws, table):
        ws.backup(tmp_path / "backup.sqlite3")
        table.append(5)
        ws.materialize("it", GROUP_BY)
    put_mutable_tables_back(tmp_path / "lab" / "catalog.sqlite3", tmp_path / "backup.sqlite3")
    with jl.open(tmp_path / "lab") as ws:
        table.table = ws.mutable["t"]
        assert table.table.version == 2
        table.append(6)
        table.append(2)
        assert ws.materialize("it", GROUP_BY).manifest.increment is None
        assert refusals[1:] == ["t: its version 3 is not the one that was read"]
        assert ws.verify("it", recompute=True) == Match()
        assert is_increment(ws, GROUP_BY, table.append)


@pytest.mark.parametrize("which", [0, 1])
def test_a_version_whose_commit_is_unknown_leads_to_a_full_run(
    tmp_path, which, refusals, monkeypatch
):
    with growing_lab(tmp_path) as (ws, table):
        find = MutableTableService.inserted_keys

        def find_without_id(*arguments):
            found = find(*arguments)
            ids = tuple(None if n == which else i for n, i in enumerate(found.commit_ids))
            return dataclasses.replace(found, commit_ids=ids)

        monkeypatch.setattr(MutableTableService, "inserted_keys", find_without_id)
        assert not is_increment(ws, GROUP_BY, table.append)
        assert "t: its version 2 is not the one that was read" in refusals


def test_a_history_of_a_release_without_ids_leads_to_a_full_run(tmp_path, refusals):
    with growing_lab(tmp_path) as (ws, table):
        ws.materialize("it", GROUP_BY)
    with contextlib.closing(sqlite3.connect(tmp_path / "lab" / "catalog.sqlite3")) as connection:
        [(name,)] = connection.execute(
            "SELECT name FROM sqlite_master WHERE name LIKE 'mutable_%_changes'"
        )
        connection.execute(f"DELETE FROM {name} WHERE version < 0")
        connection.commit()
    with jl.open(tmp_path / "lab") as ws:
        table.table = ws.mutable["t"]
        table.append()
        assert ws.materialize("it", GROUP_BY).manifest.increment is None
        assert refusals[1:] == ["t: its version 2 is not the one that was read"]
        assert is_increment(ws, GROUP_BY, table.append)


def test_the_other_input_moved_as_well(tmp_path, refusals):
    with growing_lab(tmp_path) as (ws, table):

        def shorten():
            file = tmp_path / "small.parquet"
            pq.write_table(pq.read_table(file).slice(1), file)

        assert not is_increment(ws, STATEMENTS["rows"], table.append, shorten)
        assert "not exactly one input changed" in refusals


def test_a_table_joined_with_itself_is_computed_in_full(tmp_path):
    with growing_lab(tmp_path) as (ws, table):
        statement = "SELECT a.k FROM mutable.t a JOIN mutable.t b ON a.k = b.k"
        assert not is_increment(ws, statement, table.append)


def test_a_table_that_grows_during_an_increment_is_recorded_as_it_was_read(tmp_path, monkeypatch):
    with growing_lab(tmp_path) as (ws, table):
        ws.materialize("it", GROUP_BY)
        table.append(3)
        find, left = build.find_increment, [table.append]

        def find_late(*arguments):
            if left:
                left.pop()(7)
            return find(*arguments)

        monkeypatch.setattr(build, "find_increment", find_late)
        manifest = ws.materialize("it", GROUP_BY).manifest
        assert manifest.increment.delta == ["3 rows added after version 2"]
        assert manifest.anchors[0].version == 3 and isinstance(ws.staleness("it"), Stale)
        assert ws.sql("SELECT sum(n) FROM jammi.it").fetchall() == [(43,)]
        manifest = ws.materialize("it", GROUP_BY).manifest
        assert manifest.increment.delta == ["7 rows added after version 3"]
        assert ws.staleness("it") == Fresh() and ws.verify("it", recompute=True) == Match()


def test_a_table_of_a_tenant_is_read_as_that_tenant(tmp_path):
    with jl.open(tmp_path / "lab") as ws:
        shared = GrowingTable(ws)
        with ws.tenant("acme"):
            own = GrowingTable(ws, seed=2)
            assert is_increment(ws, GROUP_BY, own.append)
            assert ws.plan().certain == []
        assert is_increment(ws, GROUP_BY, shared.append)


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_base_leads_to_a_full_run_that_says_so(tmp_path, damage):
    with growing_lab(tmp_path) as (ws, table):
        histories.check_damaged_base(ws, table.append, GROUP_BY, DAMAGES[damage])


def test_the_threshold_counts_the_rows_of_the_table(tmp_path, monkeypatch, refusals):
    with growing_lab(tmp_path) as (ws, table):
        monkeypatch.setattr(increment, "MIN_INPUT_ROWS", 81)
        monkeypatch.setattr(increment, "MAX_SHARE", 0.75)
        monkeypatch.setattr(MutableTableService, "inserted_keys", None)  # not even looked for
        assert not is_increment(ws, "SELECT count(*) AS n FROM mutable.t", table.append)
        assert "a full computation is as fast" in refusals


STEPS, STATEMENT_COUNT = sized((8, 2), (60, 10))


@soak
@pytest.mark.timeout(0)
@pytest.mark.parametrize("seed", range(sized(1, 5)))
def test_random_histories_of_commits_give_the_bytes_of_full_runs(tmp_path, seed):
    draw = random.Random(seed)
    drawn = [histories.statement(draw) for _ in range(STATEMENT_COUNT)]
    statements = [
        (GROUP_BY, True),
        *((re.sub(r"\bFROM t\b", "FROM mutable.t", s), inside) for s, inside in drawn),
    ]
    with growing_lab(tmp_path, draw.choice([*KEYS]), seed=seed) as (ws, table):
        for number, (statement, _) in enumerate(statements):
            ws.materialize(f"s{number}", statement)
        increments = 0
        inserts = ("append", "insert_and_delete", "insert_and_replace")
        for _ in range(STEPS):
            for change in draw.choices((*inserts, *CHANGES[:3]), (9, 2, 2, 1, 1, 1), k=2):
                getattr(table, change)()
            increments += histories.check_recompute(ws, statements)
        assert increments >= STEPS // 3
