"""What every connector must do: subclass `ConnectorSuite`, give it a `case`, and its tests run
against your kind."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import duckdb
import pytest

from jammi_lab.core.anchors import Cost, Snapshot, Unknown, Vanished
from jammi_lab.core.errors import TableNotFound
from jammi_lab.sources.base import Connector, ObservationContext, ReadPlan, Relation, same_state
from jammi_lab.sources.scan_conditions import ALL_ROWS
from jammi_lab.sources.scratch_duckdb import describe, query
from jammi_lab.storage.digests import CacheEntry
from tests.sizes import contract


class DictMemo(dict[str, CacheEntry]):
    """A memo for tests."""

    def put(self, key: str, entry: CacheEntry) -> None:
        self[key] = entry


@dataclass
class Describing:
    """Describes bodies, and counts how often."""

    calls: int = 0

    def __call__(self, body: str | Relation) -> dict[str, str]:
        self.calls += 1
        if isinstance(body, Relation):
            return describe(body)
        with duckdb.connect() as connection:
            return {row[0]: row[1] for row in connection.execute(f"DESCRIBE {body}").fetchall()}


def run(body: str) -> list[tuple[Any, ...]]:
    with duckdb.connect() as connection:
        return connection.execute(body).fetchall()


READ_SETS = frozenset({None, (), ("id",), ("name",)})
"""The sets of columns that the suite compares."""
LATER_NS = 3600 * 10**9


def look(memo: DictMemo | None = None, *, later: bool = False, **bounds: Any) -> ObservationContext:
    """A look of now, or of an hour later, when every stat of today has settled."""
    now = time.time_ns() + (LATER_NS if later else 0)
    given = {
        "describe": Describing(),
        "query": run,
        "racy_seconds": 2.0,
        "read_sets": READ_SETS,
        **bounds,
    }
    return ObservationContext(cache=DictMemo() if memo is None else memo, now_ns=now, **given)


@dataclass
class Case:
    """A source with rows (1, 'a'), (2, 'b'), (3, 'c') in the columns id and name, and what can
    happen to it."""

    connector: Connector
    edit: Callable[[], None]
    """Makes the name of one row another, keeping the number of rows."""
    restore: Callable[[], None]
    """Puts the first rows back as they were."""
    grow: Callable[[], None]
    """Adds one row."""
    touch: Callable[[], None] = lambda: None
    """Moves what is cheap to see, and no row."""
    vanish: Callable[[], None] | None = None
    """Takes the source away."""
    by_column: bool = True
    """Whether columns can be told apart."""
    tables: list[str] = field(default_factory=list)
    table: str | None = None
    """The table inside to read, when there are several."""


def rows(relation: Relation) -> list[tuple[Any, ...]]:
    return query(relation, "SELECT id, name FROM it ORDER BY id")


def database_file_case(connector: Any, file: Path, write: Callable[..., None]) -> Case:
    """The case of a database file with the table t(id, name) of three rows; `write(file,
    *statements)` is its owner."""
    return Case(
        connector,
        edit=lambda: write(file, "UPDATE t SET name = 'x' WHERE id = 2"),
        restore=lambda: write(file, "UPDATE t SET name = 'b' WHERE id = 2"),
        grow=lambda: write(file, "INSERT INTO t VALUES (4, 'd')"),
        touch=lambda: os.utime(file),
        vanish=file.unlink,
        tables=["t"],
        table="t",
    )


@contract
class ConnectorSuite:
    """Subclass this and define the fixture `case`."""

    @pytest.fixture
    def case(self) -> Case:
        raise NotImplementedError

    def seen(self, case: Case, memo: DictMemo | None = None, **how: Any) -> Snapshot:
        observed = case.connector.observe(case.table, look(memo, **how))
        assert isinstance(observed, Snapshot), observed
        return observed

    def test_a_sound_source_passes_its_check(self, case):
        case.connector.check()

    def test_it_tells_its_kind_place_and_tables(self, case):
        assert case.connector.kind and case.connector.location
        assert case.connector.tables() == case.tables

    def test_its_relation_gives_the_rows(self, case):
        relation = case.connector.relation(case.table)
        assert (relation.read.body is None) != (relation.read.frame is None)
        assert relation.input.columns == () and relation.input.table == case.table
        assert rows(relation) == [(1, "a"), (2, "b"), (3, "c")]

    def test_the_columns_seen_are_those_that_sql_reads(self, case):
        assert self.seen(case).columns == describe(case.connector.relation(case.table))

    def test_columns_that_a_relation_brings_are_those_that_sql_reads(self, case):
        self.seen(case, later=True)
        relation = case.connector.relation(case.table)
        assert relation.columns is None or dict(relation.columns) == describe(relation)

    def test_an_unchanged_source_is_seen_equal(self, case):
        assert same_state(self.seen(case), self.seen(case))

    def test_a_second_look_with_the_first_one_s_memo_sees_the_same(self, case):
        memo = DictMemo()
        first = self.seen(case, memo, later=True)
        second = self.seen(case, memo, later=True)
        assert (
            same_state(first, second)
            and first.by_column == second.by_column
            and first.columns == second.columns
        )

    def test_an_edit_is_seen(self, case):
        memo = DictMemo()
        before = self.seen(case, memo)
        case.edit()
        assert not same_state(before, self.seen(case, memo))

    def test_an_edit_of_one_column_leaves_the_others_where_columns_are_told_apart(self, case):
        before = self.seen(case)
        case.edit()
        after = self.seen(case)
        assert not same_state(before, after, ("name",))
        assert same_state(before, after, ("id",)) == case.by_column
        assert same_state(before, after, ()) == case.by_column

    def test_an_edit_that_is_undone_is_as_before(self, case):
        before = self.seen(case)
        case.edit()
        case.restore()
        assert same_state(before, self.seen(case))

    def test_an_added_row_is_seen_even_by_who_only_counts(self, case):
        before = self.seen(case)
        case.grow()
        after = self.seen(case)
        assert not same_state(before, after, ())
        if after.row_count is not None:
            assert after.row_count == 4

    def test_a_touch_alone_changes_nothing(self, case):
        memo = DictMemo()
        before = self.seen(case, memo)
        case.touch()
        assert same_state(before, self.seen(case, memo))

    def test_what_is_gone_is_vanished_or_unknown_and_not_checked(self, case):
        if case.vanish is None:
            pytest.skip("cannot vanish")
        case.vanish()
        assert isinstance(case.connector.observe(case.table, look()), Vanished | Unknown)

    def test_a_table_that_is_not_inside_is_refused_and_seen_as_vanished(self, case):
        with pytest.raises(TableNotFound):
            case.connector.relation("no such table")
        assert isinstance(case.connector.observe("no such table", look()), Vanished)

    def test_it_can_be_checked_listed_and_read_again_and_again(self, case):
        for _ in range(3):
            case.connector.check()
            assert case.connector.tables() == case.tables
            assert len(rows(case.connector.relation(case.table))) == 3

    def test_a_relation_may_be_narrowed_to_what_is_read(self, case):
        relation = case.connector.relation(case.table)
        if relation.read.projected_body is not None:
            assert query(
                replace(
                    relation,
                    read=ReadPlan(
                        body=relation.read.projected_body(frozenset({"id"}), lambda: ALL_ROWS)
                    ),
                ),
                "SELECT id FROM it ORDER BY id",
            ) == [(1,), (2,), (3,)]

    def test_a_look_that_may_scan_nothing_says_so_or_is_free(self, case):
        memo = DictMemo()
        observed = case.connector.observe(case.table, look(memo, scan_bytes=0))
        assert (isinstance(observed, Unknown) and "would scan" in observed.why) or (
            isinstance(observed, Snapshot) and observed.cost is not Cost.SCAN
        )
