"""Random histories of edits, definitions, recomputations and reopenings, against a brute-force oracle: never `Fresh` when it is not.

The oracle is plain DuckDB over the files as they are. It knows no anchors, digests, plans or memos. `JAMMI_STATEFUL=long` runs many more histories.
"""

import collections
import contextlib
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

import jammi_lab as jl
from jammi_lab.clock import SystemClock
from jammi_lab.config import load_settings
from jammi_lab.tenancy import TenantScope
from jammi_lab.values.verdicts import code
from jammi_lab.workspace import Workspace

SOURCES = ("s1", "s2", "s3")
RECIPES = ("r1", "r2", "r3", "r4")
STATEMENTS = (
    "SELECT id, a FROM {x} WHERE a > {k}",
    "SELECT * FROM {x}",
    "SELECT id, sum(a)::BIGINT AS a FROM {x} GROUP BY id",
    "SELECT x.id, x.a + y.a AS a FROM {x} x JOIN {y} y ON x.id = y.id",
    "SELECT id, a FROM {x} UNION ALL SELECT a, id FROM {y}",
    "SELECT * FROM {x} UNION ALL SELECT * FROM {y}",
    "SELECT id, a FROM {x} NATURAL JOIN {y}",
    "SELECT count(*) AS id, {k} AS a FROM {x}",
    "SELECT id, a FROM {x} ORDER BY a, id LIMIT {k}",
    "SELECT DISTINCT id, a // 2 AS a FROM {x}",
)

values = st.integers(0, 5)
sources, recipes = st.sampled_from(SOURCES), st.sampled_from(RECIPES)
definitions = st.tuples(st.sampled_from(STATEMENTS), st.integers(0, 6), st.integers(0, 6), values)
Bag = tuple[tuple[str, ...], tuple[str, ...], dict[tuple[Any, ...], int]]


def bag(table: pa.Table) -> Bag:
    """Names, types and rows without their order."""
    return (
        tuple(table.schema.names),
        tuple(str(t) for t in table.schema.types),
        dict(collections.Counter(tuple(r.values()) for r in table.to_pylist())),
    )


class Clock(SystemClock):
    ahead = 0

    def now_ns(self) -> int:
        return super().now_ns() + self.ahead * 1_000_000_000


class Histories(RuleBasedStateMachine):
    """What people do to files and recipes, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp(prefix="jammi-history-"))
        self.clock = Clock()
        self.handles = [self.open(), self.open()]
        self.definitions: dict[str, tuple[str, tuple[str, ...]]] = {}
        self.frames: dict[str, dict[str, list[int]]] = {}
        self.aside: dict[str, bytes] = {}

    def open(self) -> Workspace:
        folder = self.root / "lab"
        folder.mkdir(exist_ok=True)
        return Workspace(folder, str(folder), TenantScope(None), load_settings(folder, None), self.clock, read_only=False, create=True)

    @property
    def ws(self) -> Workspace:
        return self.handles[0]

    def teardown(self) -> None:
        for each in self.handles:
            each.close()
        shutil.rmtree(self.root)

    # -- files -------------------------------------------------------------------------------------------------------------------------------

    def path(self, name: str) -> Path:
        return self.root / (f"{name}.csv" if name == "s1" else f"{name}.parquet")

    def write(self, name: str) -> None:
        time.sleep(0.012)  # the clock of some file systems ticks each 4 ms or 10 ms, and the machine's clock is moved
        columns = self.frames[name]
        if name == "s1":
            rows = [",".join(columns), *(",".join(map(str, row)) for row in zip(*columns.values(), strict=True))]
            self.path(name).write_text("\n".join(rows) + "\n")
        else:
            pq.write_table(pa.table({n: pa.array(v, pa.int64()) for n, v in columns.items()}), self.path(name))

    @initialize(rows=st.lists(st.tuples(values, values, values), min_size=1, max_size=4), made=st.lists(definitions, min_size=2, max_size=4))
    def begin(self, rows: list[tuple[int, int, int]], made: list[tuple[str, int, int, int]]) -> None:
        for name in SOURCES:
            self.frames[name] = {c: [row[i] for row in rows] for i, c in enumerate(("id", "a", "b"))}
            self.write(name)
            self.ws.sources.add(name, str(self.path(name)))
        for name, definition in zip(RECIPES, made, strict=False):
            self.make(name, definition, True, True)

    def there(self, name: str) -> bool:
        return name in self.frames and name not in self.aside

    @rule(name=sources, column=st.sampled_from(["id", "a", "b"]), at=values, value=values)
    def edit_a_value(self, name: str, column: str, at: int, value: int) -> None:
        if self.there(name) and column in self.frames[name]:
            held = self.frames[name][column]
            held[at % len(held)] = value
            self.write(name)

    @rule(name=sources, row=st.tuples(values, values))
    def add_a_row(self, name: str, row: tuple[int, int]) -> None:
        if self.there(name):
            for column, held in self.frames[name].items():
                held.append(row[0] if column == "id" else row[1])
            self.write(name)

    @rule(name=sources, value=values)
    def add_or_remove_a_column(self, name: str, value: int) -> None:
        if self.there(name):
            columns = self.frames[name]
            if columns.pop("c", None) is None:
                columns["c"] = [value] * len(columns["id"])
            self.write(name)

    @rule(name=sources)
    def turn_the_columns_round(self, name: str) -> None:
        if self.there(name):
            self.frames[name] = dict(reversed(self.frames[name].items()))
            self.write(name)

    @rule(name=sources)
    def write_the_same_bytes_again(self, name: str) -> None:
        if self.there(name):
            copy = self.root / "copy"
            shutil.copyfile(self.path(name), copy)
            os.replace(copy, self.path(name))

    @rule(name=sources)
    def touch(self, name: str) -> None:
        if self.there(name):
            os.utime(self.path(name))

    @rule(name=sources, at=values)
    def edit_behind_the_back_of_stat(self, name: str, at: int) -> None:
        """Another digit, the size kept, the time of change put back."""
        if self.there(name):
            before = self.path(name).stat()
            held = self.frames[name]["a"]
            held[at % len(held)] = (held[at % len(held)] + 1) % 6
            self.write(name)
            os.utime(self.path(name), ns=(before.st_atime_ns, before.st_mtime_ns))

    @rule(name=sources)
    def delete_or_put_back(self, name: str) -> None:
        if name in self.aside:
            self.path(name).write_bytes(self.aside.pop(name))
        elif name in self.frames:
            self.aside[name] = self.path(name).read_bytes()
            self.path(name).unlink()

    @rule(seconds=st.sampled_from([3, 3600]))
    def time_passes(self, seconds: int) -> None:
        self.clock.ahead += seconds

    # -- the workspace -----------------------------------------------------------------------------------------------------------------------

    def statement(self, shape: str, x: str, y: str, k: int) -> str:
        where = {n: n if n in SOURCES else f"jammi.{n}" for n in (x, y)}
        return shape.format(x=where[x], y=where[y], k=k)

    def derives(self, name: str, goal: str) -> bool:
        return name == goal or any(self.derives(p, goal) for p in self.definitions.get(name, ("", ()))[1])

    @rule(name=recipes, definition=definitions, run=st.booleans(), use=st.booleans())
    def make(self, name: str, definition: tuple[str, int, int, int], run: bool, use: bool) -> None:
        """Give a recipe a definition over sources and recipes that are there; the later ones oftener."""
        shape, first, second, k = definition
        there = [*self.definitions, *SOURCES]
        x, y = there[first % len(there)], there[second % len(there)]
        sql = self.statement(shape, x, y, k)
        reads = tuple(n for n in dict.fromkeys((x, y)) if (n if n in SOURCES else f"jammi.{n}") in sql.split())
        circle = any(self.derives(n, name) for n in reads)
        try:
            if run:
                table = self.ws.materialize(name, sql, cache="use" if use else "bypass")
            else:
                self.ws.define(name, sql)
        except jl.DependencyCycle:
            assert circle
            return
        except (jl.TableNotFound, jl.SourceUnavailable, jl.SqlError, jl.SchemaMismatch):
            return  # an input is not there, or has not these columns
        assert not circle
        self.definitions[name] = (sql, reads)
        if run:
            assert bag(table.read().arrow()) == self.own(name), "what was made or reused is not what the statement gives"

    @rule(name=recipes)
    def recompute_one(self, name: str) -> None:
        if name in self.definitions:
            self.apply([name])

    @rule()
    def recompute_all(self) -> None:
        self.apply(None)
        broken = self.broken()
        for row in self.ws.status(deep=True):
            if row.name not in broken:
                assert row.verdict == jl.Fresh(), f"{row.name} is {row.verdict} after everything was made anew"

    def apply(self, names: list[str] | None) -> None:
        plan = self.ws.plan(names)
        certain, possible = {s.name for s in plan.certain}, {s.name for s in plan.possible}
        report = plan.apply()
        assert report.deviations == []
        skipped = {s.name for s in report.steps if s.outcome in ("skipped", "failed")}
        assert certain <= set(report.executed) | skipped
        assert set(report.executed) <= certain | possible
        assert {s.name for s in report.steps if s.outcome == "failed"} <= self.broken()

    def broken(self) -> set[str]:
        """Recipes that cannot be made: their statement does not run over the inputs as they are, or over what is above."""
        return {name for name in self.definitions if self.full(name) is None}

    @rule(name=recipes)
    def drop(self, name: str) -> None:
        if name in self.definitions:
            self.ws.drop(name, force=True)
            del self.definitions[name]

    @rule(name=recipes)
    def drop_the_newest_version(self, name: str) -> None:
        if name in self.ws:
            self.ws.table(name).drop()

    @rule()
    def reopen(self) -> None:
        self.ws.close()
        self.handles[0] = self.open()

    @rule()
    def go_on_in_the_other_kernel(self) -> None:
        self.handles.reverse()

    # -- the oracle --------------------------------------------------------------------------------------------------------------------------

    def own(self, name: str) -> Bag | None:
        """What the statement gives over its own inputs as they are; None when it does not run."""
        return self._answer(name, lambda parent: self._stored(parent))

    def full(self, name: str) -> Bag | None:
        """What it would give if everything above were made anew first."""
        made: dict[str, pa.Table | None] = {}

        def of(parent: str) -> pa.Table | None:
            if parent not in made:
                made[parent] = self._run(parent, of) if parent in self.definitions else None
            return made[parent]

        table = of(name)
        return None if table is None else bag(table)

    def _answer(self, name: str, parent: Any) -> Bag | None:
        table = self._run(name, parent)
        return None if table is None else bag(table)

    def _run(self, name: str, parent: Any) -> pa.Table | None:
        sql, reads = self.definitions[name]
        with duckdb.connect(config={"threads": 1}) as db, contextlib.suppress(duckdb.Error):
            db.execute("CREATE SCHEMA jammi")
            for each in reads:
                if each in SOURCES:
                    reader = "read_csv" if each == "s1" else "read_parquet"
                    db.execute(f"CREATE VIEW {each} AS SELECT * FROM {reader}('{self.path(each)}')")
                    continue
                table = parent(each)
                if table is None:
                    return None
                db.register("it", table)
                db.execute(f"CREATE TABLE jammi.{each} AS SELECT * FROM it")
                db.unregister("it")
            found = db.execute(sql).to_arrow_table()
            return found if len(set(found.schema.names)) == found.num_columns else None
        return None

    def _stored(self, name: str) -> pa.Table | None:
        return pq.read_table(self.ws.table(name).path, partitioning=None) if name in self.ws else None

    # -- what always holds -------------------------------------------------------------------------------------------------------------------

    @precondition(lambda self: self.definitions)
    @invariant()
    def fresh_is_never_said_of_what_is_not(self) -> None:
        board = {row.name: row.verdict for row in self.ws.status()}
        assert set(board) == set(self.definitions)
        for name, verdict in board.items():
            if verdict == jl.Fresh():
                stored = self._stored(name)
                assert stored is not None
                assert bag(stored) == self.own(name), f"{name} is said to be fresh"
                assert bag(stored) == self.full(name), f"{name} is said to be fresh, and something above it is not"
                assert all(board[p] == jl.Fresh() for p in self.definitions[name][1] if p in self.definitions)

    @precondition(lambda self: self.definitions)
    @invariant()
    def all_surfaces_agree(self) -> None:
        board = {row.name: code(row.verdict) for row in self.ws.status()}
        assert board == {name: code(self.ws.staleness(name)) for name in board}
        assert board == {row.name: code(row.verdict) for row in self.handles[1].status()}
        assert board == {name: code(self.ws.staleness(self.ws.table(name))) if name in self.ws else "stale" for name in board}
        assert board == dict(self.ws.sql("SELECT name, verdict FROM jammi_catalog.status").fetchall())
        assert board == {row.name: code(row.verdict) for row in self.ws.what_if()}
        assert board == {name: code(self.ws.why(name).verdict) for name in board}
        plan = self.ws.plan()
        steps = {s.name for part in (plan.certain, plan.possible, plan.reused, plan.blocked) for s in part}
        assert steps <= {name for name, verdict in board.items() if verdict != "fresh"}
        assert {name for name, verdict in board.items() if verdict == "stale"} <= steps

    @invariant()
    def every_ready_table_verifies(self) -> None:
        for table in self.ws.tables():
            assert table.verify() == jl.Match()


_LONG = os.environ.get("JAMMI_STATEFUL") == "long"
Histories.TestCase.settings = settings(
    max_examples=int(os.environ.get("JAMMI_STATEFUL_EXAMPLES", "100000" if _LONG else "12")),
    stateful_step_count=40 if _LONG else 15,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    print_blob=True,
)


@pytest.mark.timeout(0 if _LONG else 300)
class TestHistories(Histories.TestCase):
    """Runs them."""
