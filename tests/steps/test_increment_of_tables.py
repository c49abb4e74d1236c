"""Increments over Delta and Iceberg tables: appends are computed over the new data files alone, and
every other commit in full."""

import contextlib
import os
import random
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, Field, write_deltalake
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.types import LongType
from pyiceberg.utils.concurrent import ExecutorFactory

import jammi_lab as jl
from jammi_lab.core.verdicts import Fresh, Match, Stale
from jammi_lab.sources.lakehouse.delta import DeltaConnector
from jammi_lab.sources.lakehouse.iceberg import IcebergConnector
from jammi_lab.steps import increment
from tests.services.iceberg_deletes import data_files, delete_at
from tests.sizes import sized, soak
from tests.sources.test_delta import delete_by_vector
from tests.steps import append_histories as histories
from tests.steps.append_histories import is_increment
from tests.store.lab import DAMAGES

os.environ["PYICEBERG_MAX_WORKERS"] = "1"
ExecutorFactory.get_or_create().submit(int).result()  # its thread stays for the life of the process

GROUP_BY = "SELECT g, count(*) AS n, sum(x) AS s, min(d) AS m FROM t GROUP BY g"
FORMATS = ("delta", "iceberg")


@pytest.fixture(autouse=True)
def no_threshold(monkeypatch):
    monkeypatch.setattr(increment, "MIN_INPUT_ROWS", 0)
    monkeypatch.setattr(increment, "MAX_SHARE", 1e9)


class Delta:
    """A Delta table of two appends."""

    def __init__(self, folder, seed=1):
        self.draw, self.path = random.Random(seed), folder / "t"
        self.append()
        self.append()

    def append(self, rows=20):
        new = histories.new_rows(self.draw, rows)
        write_deltalake(self.path, new, mode="append", schema_mode="merge")

    def overwrite(self):
        write_deltalake(self.path, histories.new_rows(self.draw, 20), mode="overwrite")

    def delete(self):
        DeltaTable(self.path).delete("k = 2")

    def update(self):
        DeltaTable(self.path).update({"x": "x + 1"}, predicate="k = 1")

    def compact(self):
        DeltaTable(self.path).optimize.compact()

    def widen(self):
        DeltaTable(self.path).alter.add_columns([Field("extra", "long")])

    def data_files(self):
        return sorted(self.path.glob("*.parquet"))

    def close(self):
        pass


class Iceberg:
    """An Iceberg table of two appends."""

    def __init__(self, folder, seed=1):
        self.draw = random.Random(seed)
        self._catalog = SqlCatalog(
            "test", uri=f"sqlite:///{folder}/catalog.db", warehouse=f"file://{folder}/warehouse"
        )
        self._catalog.create_namespace("n")
        self.table = self._catalog.create_table("n.t", histories.new_rows(self.draw, 1).schema)
        self.path = Path(self.table.location().removeprefix("file://"))
        self.append()
        self.append()

    def append(self, rows=20):
        self.table.append(histories.new_rows(self.draw, rows))

    def overwrite(self):
        self.table.overwrite(histories.new_rows(self.draw, 20))

    def delete(self):
        self.table.delete("k = 2")

    def update(self):
        rows = self.table.scan().to_arrow()
        self.table.overwrite(rows.set_column(2, "x", pc.add(rows["x"], 1)))

    def compact(self):
        self.table.overwrite(self.table.scan().to_arrow())

    def widen(self):
        with self.table.update_schema() as update:
            update.add_column("extra", LongType())

    def rewrite_by_schema(self):
        with self.table.update_schema() as update:
            update.delete_column("x")
        with self.table.update_schema() as update:
            update.add_column("x", LongType())

    def data_files(self):
        return [Path(name.removeprefix("file://")) for name in data_files(self.table)]

    def close(self):
        self._catalog.close()


@contextlib.contextmanager
def growing_lab(folder, kind, seed=1):
    """A workspace over a growing table `t` and a file `small` that does not change."""
    histories.write_small_table(folder / "small.parquet")
    with (
        contextlib.closing((Delta if kind == "delta" else Iceberg)(folder, seed)) as table,
        jl.open(folder / "lab") as ws,
    ):
        ws.sources.add("t", table.path)
        ws.sources.add("small", folder / "small.parquet")
        yield ws, table


STATEMENTS = {
    "group by": GROUP_BY,
    "distinct": "SELECT DISTINCT g, k FROM t",
    "rows": "SELECT t.g, small.name FROM t JOIN small USING (k)",
}


@pytest.mark.parametrize("kind", FORMATS)
def test_an_append_is_computed_over_its_own_files(tmp_path, kind):
    with growing_lab(tmp_path, kind) as (ws, table):
        first = {rule: ws.materialize(rule.replace(" ", "_"), s) for rule, s in STATEMENTS.items()}
        before = set(table.data_files())
        table.append()
        [new_file] = set(table.data_files()) - before
        plan = ws.plan()
        assert {(s.action, s.increment) for s in plan.certain} == {("increment", "1 of 3 files")}
        assert not plan.apply().deviations
        for rule, statement in STATEMENTS.items():
            manifest = ws.table(rule.replace(" ", "_")).manifest
            found = manifest.increment
            assert (found.rule, found.base) == (rule, first[rule].table_name)
            assert found.delta == [str(new_file.relative_to(table.path))]
            assert ws.verify(rule.replace(" ", "_"), recompute=True) == Match()
            full = ws.materialize("full", statement, cache="bypass").manifest
            assert full.artifact == manifest.artifact


@pytest.mark.parametrize("kind", FORMATS)
def test_appends_follow_each_other_and_may_come_together(tmp_path, kind, monkeypatch):
    listed, connector = [], {"delta": DeltaConnector, "iceberg": IcebergConnector}[kind]
    list_files = connector.data_files

    def counted(self, state):
        listed.append(state.version)
        return list_files(self, state)

    monkeypatch.setattr(connector, "data_files", counted)
    with growing_lab(tmp_path, kind) as (ws, table):
        for appends in (1, 2, 1):
            assert is_increment(ws, GROUP_BY, *[table.append] * appends)
    assert len(listed) == len(set(listed)) == 4, "the files of a snapshot are listed once"


def test_rows_in_the_order_of_a_delta_table_are_computed_in_full(tmp_path):
    """A scan lists the newest files first."""
    with growing_lab(tmp_path, "delta") as (ws, table):
        assert not is_increment(ws, "SELECT g, f, x FROM t WHERE b", table.append)


def test_rows_of_an_iceberg_table_are_sorted_and_merged(tmp_path):
    with growing_lab(tmp_path, "iceberg") as (ws, table):
        assert is_increment(ws, "SELECT g, x FROM t WHERE b", table.append)


CHANGES = ("overwrite", "delete", "update", "compact", "widen")


@pytest.mark.product
@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("change", CHANGES)
def test_a_commit_that_is_no_append_leads_to_a_full_run(tmp_path, kind, change):
    with growing_lab(tmp_path, kind) as (ws, table):
        assert not is_increment(ws, GROUP_BY, getattr(table, change), table.append)
        assert is_increment(ws, GROUP_BY, table.append)


def test_rows_deleted_by_a_vector_lead_to_a_full_run(ws, tmp_path):
    for _ in range(2):
        rows = pa.table({"g": ["a", "b", "a", "c"], "x": [1, 2, 3, 4]})
        write_deltalake(tmp_path / "t", rows, mode="append")
    ws.sources.add("t", tmp_path / "t")
    statement = "SELECT g, sum(x) AS s FROM t GROUP BY g"
    assert not is_increment(
        ws,
        statement,
        lambda: write_deltalake(tmp_path / "t", rows, mode="append"),
        lambda: delete_by_vector(tmp_path / "t", 1),
    )


def test_rows_deleted_beside_a_file_lead_to_a_full_run(tmp_path):
    with growing_lab(tmp_path, "iceberg") as (ws, table):

        def delete():
            delete_at(table.table, data_files(table.table)[0], 1)
            table.table.refresh()

        assert not is_increment(ws, GROUP_BY, delete, table.append)
        assert not is_increment(ws, GROUP_BY, table.append)


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("when", ["before the append", "after the append"])
def test_a_data_file_that_is_rewritten_in_place_leads_to_a_full_run(tmp_path, kind, when):
    with growing_lab(tmp_path, kind) as (ws, table):
        file = table.data_files()[0]

        def rewrite():
            rows = pq.read_table(file)
            pq.write_table(rows.take(list(range(rows.num_rows))[::-1]), file)

        changes = (rewrite, table.append) if when[0] == "b" else (table.append, rewrite)
        assert not is_increment(ws, GROUP_BY, *changes)


def test_a_table_made_again_in_its_place_leads_to_a_full_run(tmp_path):
    with growing_lab(tmp_path, "delta") as (ws, table):

        def make_again():
            shutil.rmtree(table.path)
            for _ in range(3):
                table.append()

        assert not is_increment(ws, GROUP_BY, make_again)


def test_an_earlier_snapshot_that_is_gone_leads_to_a_full_run(tmp_path):
    with growing_lab(tmp_path, "delta") as (ws, table):

        def forget():
            DeltaTable(table.path).create_checkpoint()
            (table.path / "_delta_log" / f"{1:020d}.json").unlink()
            (table.path / "_delta_log" / f"{0:020d}.json").unlink()

        assert not is_increment(ws, GROUP_BY, table.append, forget)
    (tmp_path / "other").mkdir()
    with growing_lab(tmp_path / "other", "iceberg") as (ws, table):

        def expire():
            former = table.table.metadata.snapshots[-2].snapshot_id
            table.table.maintenance.expire_snapshots().by_id(former).commit()

        assert not is_increment(ws, GROUP_BY, table.append, expire)


def test_columns_that_are_found_by_name_lead_to_a_full_run(tmp_path):
    mapping = '[{"field-id": 1, "names": ["g"]}]'
    with growing_lab(tmp_path, "iceberg") as (ws, table):

        def map_names():
            with table.table.transaction() as change:
                change.set_properties({"schema.name-mapping.default": mapping})

        assert not is_increment(ws, GROUP_BY, map_names, table.append)


def test_a_column_dropped_and_added_again_leads_to_a_full_run(tmp_path):
    with growing_lab(tmp_path, "iceberg") as (ws, table):
        assert not is_increment(
            ws, "SELECT k, count(x) AS n FROM t GROUP BY k", table.rewrite_by_schema, table.append
        )


@pytest.mark.parametrize("kind", FORMATS)
def test_a_rollback_leads_to_a_full_run(tmp_path, kind):
    with growing_lab(tmp_path, kind) as (ws, table):

        def back():
            if kind == "delta":
                DeltaTable(table.path).restore(0)
            else:
                with table.table.manage_snapshots() as manage:
                    manage.rollback_to_snapshot(table.table.metadata.snapshots[0].snapshot_id)

        assert not is_increment(ws, GROUP_BY, back, table.append)


@pytest.mark.parametrize("kind", FORMATS)
def test_sources_that_are_anchored_or_filtered_otherwise_are_computed_in_full(tmp_path, kind):
    with growing_lab(tmp_path, kind) as (ws, table):
        ws.sources.add("by_column", table.path, anchor="column:ts")
        ws.sources.add("by_tenant", table.path, tenant_column="g")
        for name in ("by_column", "by_tenant"):
            statement = GROUP_BY.replace("FROM t ", f"FROM {name} ")
            ws.materialize(name, statement)
            table.append()
            assert ws.materialize(name, statement).manifest.increment is None


def test_the_other_input_moved_as_well(tmp_path):
    with growing_lab(tmp_path, "delta") as (ws, table):

        def shorten():
            file = tmp_path / "small.parquet"
            pq.write_table(pq.read_table(file).slice(1), file)

        statement = "SELECT name, count(*) AS n FROM t JOIN small USING (k) GROUP BY name"
        assert not is_increment(ws, statement, table.append, shorten)


def test_a_file_that_a_scan_names_otherwise_than_the_list_leads_to_a_full_run(
    tmp_path, monkeypatch
):
    with growing_lab(tmp_path, "delta") as (ws, table):
        named = "jammi_lab.sources.lakehouse.connector.condition_on_files"
        monkeypatch.setattr(named, lambda addresses: "filename IN ('elsewhere')")
        assert not is_increment(ws, GROUP_BY, table.append)


def test_partition_values_with_odd_characters_are_read(ws, tmp_path):
    values = ["a b", "ä/ö", "50%", "x=y", "it's"]
    for number in range(3):
        rows = pa.table({"p": values, "x": pa.array(range(number, number + 5), pa.int64())})
        write_deltalake(tmp_path / "t", rows, mode="append", partition_by=["p"])
        if number == 0:
            ws.sources.add("t", tmp_path / "t")
            ws.materialize("it", "SELECT p, sum(x) AS s FROM t GROUP BY p")
            continue
        manifest = ws.materialize("it", "SELECT p, sum(x) AS s FROM t GROUP BY p").manifest
        assert len(manifest.increment.delta) == 5
        assert ws.verify("it", recompute=True) == Match()


@pytest.mark.parametrize("kind", FORMATS)
def test_a_table_that_grows_during_an_increment_is_recorded_as_it_was_read(
    tmp_path, kind, monkeypatch
):
    with growing_lab(tmp_path, kind) as (ws, table):
        ws.materialize("it", GROUP_BY)
        table.append()
        start, left = increment.IncrementalStatement.start, [1, 2]

        def start_late(*arguments):
            if left:
                table.append()
                left.pop()
            return start(*arguments)

        monkeypatch.setattr(increment.IncrementalStatement, "start", start_late)
        manifest = ws.materialize("it", GROUP_BY).manifest
        assert manifest.increment is not None
        monkeypatch.undo()
        monkeypatch.setattr(increment, "MIN_INPUT_ROWS", 0)
        monkeypatch.setattr(increment, "MAX_SHARE", 1e9)
        assert isinstance(ws.staleness("it"), Stale)
        assert ws.materialize("it", GROUP_BY).manifest.increment and ws.staleness("it") == Fresh()
        assert ws.verify("it", recompute=True) == Match()


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_base_leads_to_a_full_run_that_says_so(tmp_path, damage):
    with growing_lab(tmp_path, "delta") as (ws, table):
        histories.check_damaged_base(ws, table.append, GROUP_BY, DAMAGES[damage])


STEPS, STATEMENT_COUNT = sized((5, 1), (20, 3))


@soak
@pytest.mark.timeout(0)
@pytest.mark.parametrize("kind", FORMATS)
def test_random_histories_of_commits_give_the_bytes_of_full_runs(tmp_path, kind):
    draw = random.Random(7)
    statements = [(GROUP_BY, True), *(histories.statement(draw) for _ in range(STATEMENT_COUNT))]
    with growing_lab(tmp_path, kind, seed=5) as (ws, table):
        for number, (statement, _) in enumerate(statements):
            ws.materialize(f"s{number}", statement)
        increments = 0
        for _ in range(STEPS):
            changes = draw.choices(
                ("append", *CHANGES[:4]), (12, 1, 1, 1, 1), k=draw.choice((1, 2))
            )
            for change in changes:
                if change == "append":
                    table.append(draw.choice((1, 5, 20)))
                else:
                    getattr(table, change)()
            increments += histories.check_recompute(ws, statements)
        assert increments >= STEPS // 3
