"""Increments over row maps and embeddings: a version that only added keys is computed over its new
rows alone, and every other one in full."""

import contextlib
import random
import re

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import jammi_lab as jl
from jammi_lab.core.verdicts import Fresh, Match, Stale
from jammi_lab.producers import build, increment
from jammi_lab.storage import parquet
from jammi_lab.store import added_keys
from tests.producers import append_histories as histories
from tests.producers.append_histories import is_increment, record_refusals
from tests.sizes import sized, soak
from tests.store.lab import DAMAGES

GROUP_BY = "SELECT g, count(*) AS n, sum(x) AS s, min(d) AS m, avg(d) AS a FROM jammi.t GROUP BY g"
STATEMENTS = {
    "group by": GROUP_BY,
    "distinct": "SELECT DISTINCT g, k FROM jammi.t",
    "rows": "SELECT t.g, small.name FROM jammi.t JOIN small USING (k)",
    "rows in order": "SELECT g, f, x + 1 AS y FROM jammi.t WHERE b",
}
FIRST = 1000
"""The first key; smaller ones come before all rows."""
_ROW = histories.new_rows(random.Random(0), 0).schema


@pytest.fixture(autouse=True)
def small_row_groups(monkeypatch):
    monkeypatch.setattr(increment, "MIN_INPUT_ROWS", 0)
    monkeypatch.setattr(increment, "MAX_SHARE", 1e9)
    monkeypatch.setattr(added_keys, "MIN_TABLE_ROWS", 0)
    monkeypatch.setattr(parquet, "ROW_GROUP_ROWS", 16)


@pytest.fixture
def refusals(monkeypatch):
    return record_refusals(monkeypatch)


class GrowingMap:
    """A row map `t` over a file of keys and seeds; the outputs of a row follow from its seed."""

    options: dict = {}

    def __init__(self, ws, folder, seed=1, key=lambda n: n):
        self.draw, self._ws, self._key = random.Random(seed), ws, key
        self._file = folder / "seeds.parquet"
        self.seeds: dict[int, int] = {}
        self.failing: set[int] = set()
        self._first, self.version = FIRST, "1"
        self._put(range(FIRST, FIRST + 40, 2))
        ws.sources.add("seeds", str(self._file))
        self._next = FIRST + 40
        self.make()

    def _put(self, numbers):
        self.seeds.update((n, self.draw.randrange(10**6)) for n in numbers)
        self.write()

    def write(self):
        numbers = sorted(self.seeds)
        keys = [self._key(n) for n in numbers]
        pq.write_table(pa.table({"id": keys, "seed": [self.seeds[n] for n in numbers]}), self._file)

    def outputs(self, seed):
        if seed in self.failing:
            raise ValueError("no answer")
        return histories.new_rows(random.Random(f"{seed}{self.version}"), 1).to_pylist()[0]

    def make(self):
        self._ws.map(
            "t",
            lambda seed: self.outputs(seed),
            "seeds",
            key="id",
            inputs="seed",
            version=self.version,
            schema=_ROW,
            **self.options,
        )

    def append(self, rows=5):
        self._put(range(self._next, self._next + 2 * rows, 2))
        self._next += 2 * rows
        self.make()

    def _draw_old(self):
        """One of the keys that were the first ones."""
        return self.draw.choice([n for n in self.seeds if n < FIRST + 40])

    def insert_between(self):
        self._put(self.draw.sample(range(FIRST + 1, self._next, 2), 3))
        self.make()

    def insert_before(self):
        self._put(range(self._first - 5, self._first))
        self._first -= 5
        self.make()

    def change(self):
        self._put([self._draw_old()])
        self.make()

    def remove(self):
        del self.seeds[self._draw_old()]
        self.write()
        self.make()

    def replace(self):
        self.remove()
        self.append(1)

    def redefine(self):
        self.version += "1"
        self.make()


@contextlib.contextmanager
def growing_lab(folder, seed=1, growing=GrowingMap, **options):
    """A workspace with a growing row map and a file `small` that does not change."""
    folder.mkdir(exist_ok=True)
    histories.write_small_table(folder / "small.parquet")
    with jl.open(folder / "lab") as ws:
        ws.sources.add("small", str(folder / "small.parquet"))
        yield ws, growing(ws, folder, seed, **options)


@pytest.mark.parametrize("key", [lambda n: n, lambda n: f"{n:05}"], ids=["number", "text"])
def test_added_keys_are_computed_over_the_new_rows_alone(tmp_path, key):
    with growing_lab(tmp_path, key=key) as (ws, table):
        histories.check_added_rows(
            ws, table, STATEMENTS, extent="5 of 25 rows", delta="5 rows added after version 1"
        )


@pytest.mark.parametrize("where", ["insert_between", "insert_before"])
def test_keys_among_others_are_an_append_where_rows_are_sorted(tmp_path, where, refusals):
    with growing_lab(tmp_path) as (ws, table):
        assert is_increment(ws, GROUP_BY, getattr(table, where))
        ws.materialize("it", STATEMENTS["rows in order"])
        assert not is_increment(ws, STATEMENTS["rows in order"], getattr(table, where))
        assert "the new rows may come before others" in refusals


def test_equal_row_groups_are_not_read(tmp_path, monkeypatch):
    read, digests = [], added_keys.ComparedFile.digests

    def spied(file, columns, first_group, left_out):
        read.append((first_group, len(left_out)))
        return digests(file, columns, first_group, left_out)

    monkeypatch.setattr(added_keys.ComparedFile, "digests", spied)
    with growing_lab(tmp_path) as (ws, table):
        table.append(12)  # two full row groups
        assert read == [(1, 12), (1, 0)]
        assert is_increment(ws, GROUP_BY, table.append, table.append)
        assert read[2:] == [(2, 5), (2, 0)]


def test_a_run_computes_a_map_and_then_its_readers_by_increments(tmp_path):
    with growing_lab(tmp_path) as (ws, table):
        ws.materialize("it", GROUP_BY)
        table.seeds[FIRST + 100] = 5
        table.write()
        run = ws.recompute()
        assert run.executed == ["t", "it"]
        assert ws.table("it").manifest.increment.delta == ["1 row added after version 1"]
        assert ws.verify("it", recompute=True) == Match()


def test_a_version_that_was_restored_is_no_append_to_a_later_one(tmp_path, refusals):
    with growing_lab(tmp_path) as (ws, table):
        table.append()
        ws.materialize("it", GROUP_BY)
        ws.table("t", version=1).restore()
        assert ws.materialize("it", GROUP_BY).manifest.increment is None
        assert "t: more than keys were added since version 2" in refusals
        assert ws.verify("it", recompute=True) == Match()


CHANGES = ("change", "remove", "replace", "redefine")


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_of_other_rows_leads_to_a_full_run(tmp_path, change, refusals):
    with growing_lab(tmp_path) as (ws, table):
        assert not is_increment(ws, GROUP_BY, table.append, getattr(table, change), table.append)
        assert "t: more than keys were added since version 1" in refusals
        assert is_increment(ws, GROUP_BY, table.append)


def test_values_that_are_equal_and_yet_differ_are_told_apart(tmp_path, refusals):
    class Zeros(GrowingMap):
        zero = 0.0

        def outputs(self, seed):
            return {**super().outputs(seed), "f": self.zero}

    with growing_lab(tmp_path, growing=Zeros) as (ws, table):
        statement = "SELECT f::VARCHAR AS f, count(*) AS n FROM jammi.t GROUP BY 1"

        def negate():
            table.zero, table.version = -0.0, "2"

        assert not is_increment(ws, statement, negate, table.append)
        assert "t: more than keys were added since version 1" in refusals
        assert ws.sql("SELECT count(*) FROM jammi.it").fetchall() == [(1,)]
        assert is_increment(ws, statement, table.append)


def test_a_row_with_an_error_that_is_asked_again_leads_to_a_full_run(tmp_path, refusals):
    class Recording(GrowingMap):
        options = {"on_error": "record"}

    with growing_lab(tmp_path, growing=Recording) as (ws, table):
        table.append(1)
        table.failing.add(table.seeds[max(table.seeds)] + 0)
        table.redefine()
        statement = GROUP_BY.replace("GROUP", "WHERE _error IS NULL GROUP")
        assert is_increment(ws, statement, table.append), "it fails again"
        assert not is_increment(ws, statement, table.failing.clear, table.append)
        assert "t: more than keys were added since version 4" in refusals
        assert is_increment(ws, statement, table.append)


def test_rows_that_are_asked_again_may_change_in_columns_that_are_not_read(tmp_path):
    class Recording(GrowingMap):
        options = {"on_error": "record"}

    with growing_lab(tmp_path, growing=Recording) as (ws, table):
        table.failing.add(table.seeds[FIRST])
        table.redefine()
        statement = "SELECT id % 3 AS r, count(*) AS n FROM jammi.t GROUP BY r"
        assert is_increment(ws, statement, table.failing.clear, table.append)


def test_a_version_that_is_gone_leads_to_a_full_run(tmp_path, refusals):
    with growing_lab(tmp_path) as (ws, table):
        version = ws.table("t").version

        def make_again():
            ws.drop("t", force=True)
            table.make()

        assert not is_increment(ws, GROUP_BY, table.append, make_again)
        assert f"t: its version {version} is gone" in refusals
        assert is_increment(ws, GROUP_BY, table.append)


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_base_leads_to_a_full_run_that_says_so(tmp_path, damage):
    with growing_lab(tmp_path) as (ws, table):
        histories.check_damaged_base(ws, table.append, GROUP_BY, DAMAGES[damage])


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_a_version_added_to_a_damaged_one_is_not_known(tmp_path, damage, refusals):
    with growing_lab(tmp_path) as (ws, table):

        def damage_newest():
            DAMAGES[damage](ws.table("t").path)

        assert not is_increment(ws, GROUP_BY, damage_newest, table.append)
        assert "t: more than keys were added since version 1" in refusals
        assert is_increment(ws, GROUP_BY, table.append, table.append)
        # what was read before it became damaged is not read again
        ws.materialize("it", GROUP_BY)
        table.append()
        DAMAGES[damage](ws.table("t", version=ws.table("t").version - 1).path)
        assert is_increment(ws, GROUP_BY, table.append)


def test_a_column_named_as_the_row_number_leads_to_a_full_run(tmp_path, refusals):
    class Numbered(GrowingMap):
        def outputs(self, seed):
            return {"file_row_number": seed}

        def make(self):
            schema = {"file_row_number": "int64"}
            how = {"key": "id", "inputs": "seed", "version": "1", "schema": schema}
            self._ws.map("t", self.outputs, "seeds", **how)

    with growing_lab(tmp_path, growing=Numbered) as (ws, table):
        assert not is_increment(ws, "SELECT count(*) AS n FROM jammi.t", table.append)
        assert "t: it has a column file_row_number" in refusals


def test_a_table_of_sql_is_computed_in_full(tmp_path, refusals):
    with growing_lab(tmp_path) as (ws, table):
        ws.materialize("copy", "SELECT id, g FROM jammi.t", key=["id"])

        def grow():
            table.append()
            ws.recompute("copy")

        assert not is_increment(ws, "SELECT g, count(*) AS n FROM jammi.copy GROUP BY g", grow)
        assert "which rows copy gained is not known" in refusals


def test_a_version_that_is_made_during_an_increment_is_not_part_of_it(tmp_path, monkeypatch):
    with growing_lab(tmp_path) as (ws, table):
        ws.materialize("it", GROUP_BY)
        table.append(3)
        find, left = build.find_increment, [table.append]

        def find_late(*arguments):
            if left and ws.table("t").version == 2:
                left.pop()(7)
            return find(*arguments)

        monkeypatch.setattr(build, "find_increment", find_late)
        manifest = ws.materialize("it", GROUP_BY).manifest
        assert manifest.increment.delta == ["3 rows added after version 1"]
        assert manifest.anchors[0].version == 2 and isinstance(ws.staleness("it"), Stale)
        manifest = ws.materialize("it", GROUP_BY).manifest
        assert manifest.increment.delta == ["7 rows added after version 2"]
        assert ws.staleness("it") == Fresh() and ws.verify("it", recompute=True) == Match()


class Counting:
    """Vectors that follow from the text."""

    name, version, dimensions = "counting", "1", 8

    def encode(self, texts):
        rows = [np.random.default_rng(int(text)).normal(size=8) for text in texts]
        return np.stack(rows).astype(np.float32)


class GrowingEmbedding(GrowingMap):
    def make(self):
        text = "SELECT id, seed::VARCHAR AS text FROM seeds"
        self._ws.embed("t", text, key="id", text="text", model=Counting())


OF_VECTORS = {
    "keys": "SELECT key % 3 AS r, count(*) AS n FROM jammi.t GROUP BY r",
    "vectors": "SELECT key % 3 AS r, sum((vector[1] * 1000)::BIGINT) AS s FROM jammi.t GROUP BY r",
    "rows in order": "SELECT key, vector[2] AS second FROM jammi.t",
}


@pytest.mark.parametrize("statement", OF_VECTORS)
def test_embeddings_that_added_keys_are_computed_over_the_new_rows(tmp_path, statement):
    with growing_lab(tmp_path, growing=GrowingEmbedding) as (ws, table):
        assert is_increment(ws, OF_VECTORS[statement], table.append)
        assert ws.table("it").manifest.increment.delta == ["5 rows added after version 1"]
        is_sorted = statement != "rows in order"
        assert is_increment(ws, OF_VECTORS[statement], table.insert_between) == is_sorted


@pytest.mark.parametrize("change", ["change", "remove"])
def test_embeddings_with_other_rows_are_computed_in_full(tmp_path, change, refusals):
    with growing_lab(tmp_path, growing=GrowingEmbedding) as (ws, table):
        assert not is_increment(ws, OF_VECTORS["keys"], getattr(table, change), table.append)
        assert "t: more than keys were added since version 1" in refusals


def test_vectors_that_are_too_large_to_be_compared_are_known_by_their_row_groups(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(added_keys, "MAX_COLUMN_BYTES", 2000)
    with growing_lab(tmp_path, growing=GrowingEmbedding) as (ws, table):
        table.append(12)
        assert is_increment(ws, OF_VECTORS["vectors"], table.append), "two row groups are equal"
        assert not is_increment(ws, OF_VECTORS["vectors"], table.insert_between)
        assert is_increment(ws, OF_VECTORS["keys"], table.insert_between)


@pytest.mark.parametrize("rows", [[0], [3, 4, 5], [0, 2, 3, 9], [*range(0, 50, 2)]])
def test_row_numbers_are_written_as_ranges(rows):
    text = added_keys.encode_rows(np.array(rows))
    assert added_keys.decode_rows(text).tolist() == rows
    assert len(text.split(",")) == sum(n - 1 not in rows for n in rows)


def test_many_ranges_are_not_written():
    assert added_keys.encode_rows(np.arange(0, 20_002, 2)) is None
    assert added_keys.encode_rows(np.arange(0, 20_000, 2)) is not None


@pytest.mark.parametrize("claimed", ["0-4", "5-3", "-1", "x", "0-99999", ""])
def test_added_rows_that_do_not_fit_the_versions_lead_to_a_full_run(tmp_path, claimed, monkeypatch):
    with growing_lab(tmp_path) as (ws, table):
        ws.materialize("it", GROUP_BY)
        monkeypatch.setattr(added_keys, "encode_rows", lambda _: claimed)
        table.append(3)
        assert ws.table("t").manifest.added_keys.rows == claimed
        assert ws.materialize("it", GROUP_BY).manifest.increment is None


STEPS, STATEMENT_COUNT = sized((8, 2), (60, 10))


@soak
@pytest.mark.timeout(0)
@pytest.mark.parametrize("seed", range(sized(1, 5)))
def test_random_histories_of_versions_give_the_bytes_of_full_runs(tmp_path, seed):
    draw = random.Random(seed)
    drawn = [histories.statement(draw) for _ in range(STATEMENT_COUNT)]
    statements = [
        (GROUP_BY, True),
        *((re.sub(r"\bFROM t\b", "FROM jammi.t", s), inside) for s, inside in drawn),
    ]
    with growing_lab(tmp_path, seed=seed) as (ws, table):
        for number, (statement, _) in enumerate(statements):
            ws.materialize(f"s{number}", statement)
        increments = 0
        for _ in range(STEPS):
            changes = draw.choices(
                ("append", "insert_between", *CHANGES), (9, 4, 1, 1, 1, 1), k=draw.choice((1, 2))
            )
            for change in changes:
                getattr(table, change)()
            increments += histories.check_recompute(ws, statements)
        assert increments >= STEPS // 4
