"""Random histories of edits, definitions, recomputations, crashes and reopenings, against a
brute-force oracle: never `Fresh` when it is not.

The oracle is plain DuckDB over the files as they are, and the functions and the encoder called by
hand. It knows no anchors, digests, plans or memos. It also remembers what each table was made of,
and counts the false alarms: not fresh, although nothing that is read has changed. Counted apart is
what of a text file nobody reads, and that is an advance all the same: such a file is one whole.
Some two thousand steps by default; `JAMMI_STATEFUL_SECONDS=1800` goes on with other histories for
half an hour, or until one fails.
"""

import collections
import contextlib
import functools
import os
import shutil
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

import jammi_lab as jl
from jammi_lab.core.clock import SystemClock
from jammi_lab.core.verdicts import Verdict, verdict_code
from jammi_lab.features.vectors.encoders.hashing import Hashing
from jammi_lab.freshness.reports import Status
from jammi_lab.store.manifests import manifest_path
from jammi_lab.workspace.workspace import Workspace
from tests.features.live.clocks import opened
from tests.sizes import sized, soak
from tests.store.lab import catalog, unpublish

SOURCES = ("s1", "s2", "s3")
RECIPES = ("r1", "r2", "r3", "r4")
ALL = None
STATEMENTS: dict[str, tuple[str, ...] | None] = {
    "SELECT id, a FROM {x} WHERE a > {k}": ("id", "a"),
    "SELECT * FROM {x}": ALL,
    "SELECT id, sum(a)::BIGINT AS a FROM {x} GROUP BY id": ("id", "a"),
    "SELECT x.id, x.a + y.a AS a FROM {x} x JOIN {y} y ON x.id = y.id": ("id", "a"),
    "SELECT id, a FROM {x} UNION ALL SELECT a, id FROM {y}": ("id", "a"),
    "SELECT * FROM {x} UNION ALL SELECT * FROM {y}": ALL,
    "SELECT id, a FROM {x} NATURAL JOIN {y}": ALL,
    "SELECT count(*) AS id, {k} AS a FROM {x}": (),
    "SELECT id, a FROM {x} ORDER BY a, id LIMIT {k}": ("id", "a"),
    "SELECT DISTINCT id, a // 2 AS a FROM {x}": ("id", "a"),
    "SELECT p AS id, max(q) AS a FROM (SELECT * FROM {x} ) t(p, q) GROUP BY p": ALL,
    "SELECT id, a FROM {x} INTERSECT SELECT * FROM (SELECT * FROM {y} ) t": ALL,
    "SELECT p AS id, q AS a FROM {x} t(p, q)": ALL,
}
"""Statements, and the columns that each reads of its inputs."""
TEXTS = "SELECT id, 'w' || max(a) || ' of {k}' AS t FROM {x} GROUP BY id"
"""What is embedded."""

values = st.integers(0, 5)
sources, recipes = st.sampled_from(SOURCES), st.sampled_from(RECIPES)
definitions = st.tuples(
    st.sampled_from([*STATEMENTS]), st.integers(0, 6), st.integers(0, 6), values
)
MEMORY = Path("/dev/shm")
QUICK = MEMORY if MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > 1 << 30 else None
"""Where a sync costs nothing, if there is such a place: kernels die here, machines do not."""
Bag = tuple[tuple[str, ...], tuple[str, ...], dict[str, int]]

FACTOR = 1
"""A plain value that a Python step names, and that changes."""


def scaled(rows: Any) -> pa.Table:
    """A Python step."""
    table = rows.arrow()
    return pa.table({"id": table["id"], "a": pc.multiply(table["a"], FACTOR)})


def counted(rows: Any) -> pa.Table:
    """A Python step that names nothing of this module."""
    return pa.table({"id": [rows.arrow().num_rows], "a": [0]})


@dataclass
class Rows:
    """What a step gets of the oracle."""

    table: pa.Table

    def arrow(self) -> pa.Table:
        return self.table


def embedded(table: pa.Table) -> pa.Table:
    """The vectors of texts, by hand."""
    vectors = Hashing().encode(table["t"].to_pylist()).reshape(-1)
    made = pa.table(
        {
            "key": table["id"],
            "vector": pa.FixedSizeListArray.from_arrays(pa.array(vectors), Hashing().dimensions),
        }
    )
    return made.sort_by("key")


def as_it_is(table: pa.Table) -> pa.Table:
    return table


@dataclass(frozen=True)
class Definition:
    """What a recipe is, as the oracle knows it."""

    sql: str
    reads: tuple[str, ...]
    columns: tuple[str, ...] | None
    """The columns that are read of each input; None for all."""
    then: Callable[[pa.Table], pa.Table] = as_it_is
    """What is made of the statement's rows."""
    ordered: bool = False
    """Whether it gets its rows in their order."""

    def definition(self) -> tuple[Any, ...]:
        """What it is made with, beside its inputs."""
        return self.sql, self.then, FACTOR if self.then is STEPS["scaled"] else None


STEPS: dict[str, Callable[[pa.Table], pa.Table]] = {
    "scaled": lambda table: scaled(Rows(table)),
    "counted": lambda table: counted(Rows(table)),
}


def bag(table: pa.Table, columns: tuple[str, ...] | None = None) -> Bag:
    """Names, types and rows without their order; of some columns, if they are said."""
    table = table.select(
        [
            c
            for c in table.schema.names
            if not c.startswith("_") and (columns is None or c in columns)
        ]
    )
    rows = table.to_pylist() if table.num_columns else [{}] * table.num_rows
    types = tuple("nested" if pa.types.is_nested(t) else str(t) for t in table.schema.types)
    return (
        tuple(table.schema.names),
        types,
        dict(collections.Counter(repr([*r.values()]) for r in rows)),
    )


def as_it_comes(table: pa.Table | None) -> tuple[list[str], list[list[Any]]] | None:
    """Columns and rows in their order."""
    return (
        None
        if table is None
        else (table.schema.names, [[*row.values()] for row in table.to_pylist()])
    )


def by_name(came: tuple[list[str], list[list[Any]]]) -> list[str]:
    """Rows without the order of rows and of columns."""
    names, rows = came
    return sorted(repr(sorted(zip(names, row, strict=True))) for row in rows)


def of_a_csv(before: Any, now: Any) -> str:
    """What it is that changed of a CSV, and is not read."""
    if before is None or now is None:
        return "unexplained: a CSV that is not there"
    if set(before[0]) != set(now[0]):
        return MORE_OR_LESS
    if by_name(before) != by_name(now):
        return UNREAD
    return OTHER_ORDER


MORE_OR_LESS, UNREAD = (
    "a column of a CSV that nobody reads, more or less",
    "a value of a CSV that nobody reads",
)
"""A text file advances by these, as docs/verdicts-in-detail.md says."""
OTHER_ORDER = "rows or columns in another order"
"""Whatever is computed from them is computed again, whether or not it depends on the order."""
said: collections.Counter[str] = collections.Counter()
"""Verdicts in all, and by kind those on tables of whose inputs nothing changed that is read."""


@pytest.fixture(scope="module", autouse=True)
def alarms(tell: Callable[[str], None]) -> Iterator[None]:
    """There is no false alarm."""
    said.clear()
    yield
    whole = {kind: said[kind] for kind in (MORE_OR_LESS, UNREAD, OTHER_ORDER) if said[kind]}
    false = {
        kind: n
        for kind, n in said.items()
        if kind not in ("steps", "verdicts", "not fresh", *whole)
    }
    tell(
        f"histories: {said['steps']} steps, {said['verdicts']} verdicts, {said['not fresh']} of them not fresh, false alarms: {false or 'none'}; "
        f"advances by what nobody reads: {whole or 'none'}"
    )
    assert not false, false


class Clock(SystemClock):
    ahead = 0

    def now_ns(self) -> int:
        return super().now_ns() + self.ahead * 1_000_000_000


class Histories(RuleBasedStateMachine):
    """What people do to files and recipes, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp(prefix="jammi-history-", dir=QUICK))
        self.clock = Clock()
        self.handles = [self.open(), self.open()]
        self.definitions: dict[str, Definition] = {}
        self.made_of: dict[str, tuple[Any, ...]] = {}
        """By physical name: what the oracle saw when the table was made."""
        self.pinned: set[tuple[str, str]] = set()
        self.frames: dict[str, dict[str, list[int]]] = {}
        self.aside: dict[str, bytes] = {}
        self.oracle = duckdb.connect(
            config={"threads": 1, "enable_external_file_cache": "false"}
        )  # it takes two writes of one second for one
        self.known: dict[str, pa.Table | None] = {}
        """What the oracle answered, by statement, function and rows: most steps change little of
        that."""

    def open(self) -> Workspace:
        folder = self.root / "lab"
        folder.mkdir(exist_ok=True)
        return opened(folder, self.clock)

    @property
    def ws(self) -> Workspace:
        return self.handles[0]

    def teardown(self) -> None:
        globals()["FACTOR"] = 1
        for each in self.handles:
            each.close()
        self.oracle.close()
        shutil.rmtree(self.root)

    # -- files -------------------------------------------------------------------------------------

    def path(self, name: str) -> Path:
        return self.root / (f"{name}.csv" if name == "s1" else f"{name}.parquet")

    def write(self, name: str) -> None:
        time.sleep(
            0.012
        )  # the clock of some file systems ticks each 4 ms or 10 ms, and the machine's clock is moved
        columns = self.frames[name]
        if name == "s1":
            rows = [
                ",".join(columns),
                *(",".join(map(str, row)) for row in zip(*columns.values(), strict=True)),
            ]
            self.path(name).write_text("\n".join(rows) + "\n")
        else:
            pq.write_table(
                pa.table({n: pa.array(v, pa.int64()) for n, v in columns.items()}), self.path(name)
            )

    @initialize(
        rows=st.lists(st.tuples(values, values, values), min_size=1, max_size=4),
        made=st.lists(definitions, min_size=2, max_size=4),
    )
    def begin(
        self, rows: list[tuple[int, int, int]], made: list[tuple[str, int, int, int]]
    ) -> None:
        for name in SOURCES:
            self.frames[name] = {
                c: [row[i] for row in rows] for i, c in enumerate(("id", "a", "b"))
            }
            self.write(name)
            self.ws.sources.add(name, self.path(name))
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

    @rule(name=sources, by=values)
    def write_the_same_rows_in_another_order(self, name: str, by: int) -> None:
        if self.there(name):
            self.frames[name] = {
                column: held[by % len(held) :] + held[: by % len(held)]
                for column, held in self.frames[name].items()
            }
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

    # -- the workspace -----------------------------------------------------------------------------

    def statement(self, shape: str, x: str, y: str, k: int) -> str:
        where = {n: n if n in SOURCES else f"jammi.{n}" for n in (x, y)}
        return shape.format(x=where[x], y=where[y], k=k)

    def readable(self) -> list[str]:
        """What a definition may read: recipes, and the sources."""
        return [*(n for n, d in self.definitions.items() if d.then is not embedded), *SOURCES]

    def derives(self, name: str, goal: str) -> bool:
        return name == goal or (
            name in self.definitions
            and any(self.derives(p, goal) for p in self.definitions[name].reads)
        )

    @rule(name=recipes, definition=definitions, run=st.booleans(), use=st.booleans())
    def make(self, name: str, definition: tuple[str, int, int, int], run: bool, use: bool) -> None:
        """Give a recipe a definition over sources and recipes that are there; the later ones
        oftener."""
        shape, first, second, k = definition
        there = self.readable()
        x, y = there[first % len(there)], there[second % len(there)]
        sql = self.statement(shape, x, y, k)
        reads = tuple(
            n for n in dict.fromkeys((x, y)) if (n if n in SOURCES else f"jammi.{n}") in sql.split()
        )
        cache = "use" if use else "bypass"
        begin = (
            functools.partial(self.ws.materialize, name, sql, cache=cache)
            if run
            else functools.partial(self.ws.define, name, sql)
        )
        self.begun(name, Definition(sql, reads, STATEMENTS[shape]), begin)

    @rule(name=recipes, step=st.sampled_from([*STEPS]), first=values, run=st.booleans())
    def make_by_a_function(self, name: str, step: str, first: int, run: bool) -> None:
        there = self.readable()
        x = there[first % len(there)]
        made = Definition(
            self.statement("SELECT * FROM {x}", x, x, 0), (x,), ALL, STEPS[step], ordered=True
        )
        value = jl.PythonStep(globals()[step], inputs=x)
        verb = self.ws.materialize if run else self.ws.define
        self.begun(name, made, functools.partial(verb, name, value))

    @rule(name=recipes, first=values, k=st.integers(0, 1))
    def make_vectors(self, name: str, first: int, k: int) -> None:
        there = self.readable()
        x = there[first % len(there)]
        sql = self.statement(TEXTS, x, x, k)
        self.begun(
            name,
            Definition(sql, (x,), ("id", "a"), embedded),
            functools.partial(self.ws.embed, name, sql, key="id", text="t", model="hashing"),
        )

    def begun(self, name: str, made: Definition, begin: Callable[[], Any]) -> None:
        """Begin what makes or defines a recipe, which the oracle says is this."""
        circle, before = any(self.derives(n, name) for n in made.reads), self.definition_hash(name)
        try:
            table = begin()
        except jl.DependencyCycle:
            assert circle
            return
        except (
            jl.TableNotFound,
            jl.SourceUnavailable,
            jl.SqlError,
            jl.SchemaMismatch,
            jl.StepFailed,
        ):
            if before is not None and self.definition_hash(name) != before:
                self.definitions[name] = (
                    made  # it failed while it ran: that is what the recipe says from then on
                )
            return  # an input is not there, or has not these columns
        assert not circle
        self.definitions[name] = made
        if isinstance(table, jl.ResultTable):
            assert bag(table.read().arrow()) == self.own(name), (
                "what was made or reused is not what the definition gives"
            )

    def definition_hash(self, name: str) -> str | None:
        found = self.ws.sql(
            "SELECT definition_hash FROM jammi_catalog.recipes WHERE name = $name", name=name
        ).fetchall()
        return found[0][0] if found else None

    @rule(name=recipes)
    def write_the_same_statement_otherwise(self, name: str) -> None:
        """A comment, white space, the case of a keyword: nothing that a verdict is moved by."""
        if name in self.definitions and self.definitions[name].then is as_it_is:
            was = verdict_code(self.ws.staleness(name))
            sql = (
                self.definitions[name]
                .sql.replace("SELECT ", "select  /* again */ ")
                .replace(" FROM ", "\n  From ")
            )
            with contextlib.suppress(
                jl.TableNotFound, jl.SourceUnavailable, jl.SqlError, jl.SchemaMismatch
            ):
                self.ws.define(name, sql)
            assert verdict_code(self.ws.staleness(name)) == was

    @rule(to=st.integers(1, 3))
    def change_a_value_that_a_function_names(self, to: int) -> None:
        globals()["FACTOR"] = to

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
                assert row.verdict == jl.Fresh(), (
                    f"{row.name} is {row.verdict} after everything was made anew"
                )

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
        """Recipes that cannot be made: their statement does not run over the inputs as they are, or
        over what is above."""
        return {name for name in self.definitions if self.full(name) is None}

    @rule(name=recipes)
    def drop(self, name: str) -> None:
        if name in self.definitions:
            self.ws.drop(name, force=True)
            del self.definitions[name]
            self.pinned = {pin for pin in self.pinned if pin[0] != name}

    @rule(name=recipes)
    def drop_the_newest_version(self, name: str) -> None:
        if name in self.ws:
            table = self.ws.table(name)
            table.drop()
            self.pinned.discard((name, table.table_name))

    @rule(name=recipes)
    def pin_and_expire(self, name: str) -> None:
        if name in self.ws:
            self.ws.table(name).pin()
            self.pinned.add((name, self.ws.table(name).table_name))
            self.ws.expire(name)

    @rule(old=recipes, new=recipes)
    def rename(self, old: str, new: str) -> None:
        """Whoever reads the old name goes on reading it, and whoever read the new one once reads
        this from now on."""
        if old == new or old not in self.definitions:
            return
        moved = {new if name == old else name: made for name, made in self.definitions.items()}
        before, self.definitions = self.definitions, moved
        circle = any(self.derives(n, new) for n in moved[new].reads)
        self.definitions = before
        with warnings.catch_warnings(action="ignore", category=RuntimeWarning):
            try:
                self.ws.rename(old, new)
                self.ws.unalias(old)  # tests/freshness/test_aliases_and_holds.py keeps it
            except jl.DuplicateTable:
                assert new in before
                return
            except jl.DependencyCycle:
                assert circle
                return
        assert not circle and new not in before
        self.definitions = moved
        self.pinned = {(new if name == old else name, table) for name, table in self.pinned}

    @rule(name=recipes, at=values)
    def restore(self, name: str, at: int) -> None:
        """The bytes of one of its versions become its newest version; what the recipe says
        stays."""
        versions = [t.version for t in self.ws.table(name).history()] if name in self.ws else []
        if versions:
            old = self.ws.table(name, version=versions[at % len(versions)])
            assert old.restore().table_name == self.ws.table(name).table_name == old.table_name
            if name in [recipe.name for recipe in self.ws.recipes()]:
                self.ws.unhold(name)

    @rule(name=recipes, at=values, size_kept=st.booleans())
    def damage_a_table(self, name: str, at: int, size_kept: bool) -> None:
        """Its bytes are changed by hand; it is made anew, and where that cannot be, or others still
        have them, they are put back."""
        if name not in self.ws:
            return
        path = self.ws.table(name).path
        whole = path.read_bytes()
        hurt = bytearray(whole if size_kept else whole[:-1])
        hurt[at * 7 % len(hurt)] ^= 1
        path.write_bytes(hurt)
        assert verdict_code(self.ws.staleness(name)) == "damaged"
        self.apply([name])
        healed = path.exists() and path.read_bytes() != hurt
        assert healed or name in self.broken() or self.ws.table(name).path != path
        if path.exists() and not healed:
            path.write_bytes(whole)

    @rule(name=recipes, with_manifest=st.booleans())
    def die_before_the_end(self, name: str, with_manifest: bool) -> None:
        """A kernel is killed when all bytes of a table are there, and it was not yet ready."""
        folder = self.root / "lab"
        if name not in self.ws or not (folder / "catalog.sqlite3").exists():
            return
        table = self.ws.table(name)
        with catalog(folder) as db:
            [(versions,)] = db.execute(
                "SELECT count(*) FROM versions WHERE table_name = ?", [table.table_name]
            )
        if versions > 1:
            return  # it was taken over later, so its kernel did not die before its end
        if not with_manifest:
            manifest_path(table.path).unlink()
        unpublish(folder, table.table_name)
        assert self.ws.recover()
        if with_manifest:
            assert self.ws.table(name).table_name == table.table_name
        else:
            self.pinned = {pin for pin in self.pinned if pin[1] != table.table_name}

    @rule()
    def reopen(self) -> None:
        self.ws.close()
        self.handles[0] = self.open()

    @rule()
    def go_on_in_the_other_kernel(self) -> None:
        self.handles.reverse()

    # -- the oracle --------------------------------------------------------------------------------

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
        made = self.definitions[name]
        inputs = {
            each: self._rows_of(each) if each in SOURCES else parent(each) for each in made.reads
        }
        if any(table is None for table in inputs.values()):
            return None
        given = [(each, str(table.schema), table.to_pylist()) for each, table in inputs.items()]
        key = repr((made.definition(), given))
        if key not in self.known:
            self.known[key] = self._answered(made, inputs)
        return self.known[key]

    def _answered(self, made: Definition, inputs: dict[str, Any]) -> pa.Table | None:
        db = self.oracle
        db.execute("ATTACH ':memory:' AS now; USE now; CREATE SCHEMA jammi")
        try:
            for each, table in inputs.items():
                db.register("it", table)
                db.execute(
                    f"CREATE TABLE {each if each in SOURCES else f'jammi.{each}'} AS SELECT * FROM it"
                )
                db.unregister("it")
            with contextlib.suppress(duckdb.Error, KeyError, pa.ArrowException):
                found = db.execute(made.sql).to_arrow_table()
                if len(set(map(str.lower, found.schema.names))) == found.num_columns:
                    return made.then(found)
            return None
        finally:
            db.execute("USE memory; DETACH now")

    def _rows_of(self, source: str) -> pa.Table | None:
        """A file as plain DuckDB reads it."""
        reader = "read_csv" if source == "s1" else "read_parquet"
        with contextlib.suppress(duckdb.Error):
            return self.oracle.execute(
                f"SELECT * FROM {reader}('{self.path(source)}')"
            ).to_arrow_table()
        return None

    def _stored(self, name: str) -> pa.Table | None:
        return (
            pq.read_table(self.ws.table(name).path, partitioning=None) if name in self.ws else None
        )

    # -- what always holds -------------------------------------------------------------------------

    @precondition(lambda self: self.definitions)
    @invariant()
    def verdicts_are_true_and_agree(self) -> None:
        board = self.ws.status()
        self.fresh_is_never_said_of_what_is_not({row.name: row.verdict for row in board})
        self.all_surfaces_agree({row.name: verdict_code(row.verdict) for row in board})
        self.alarms_are_true(board)

    def fresh_is_never_said_of_what_is_not(self, board: dict[str, Verdict]) -> None:
        assert set(board) == set(self.definitions)
        for name, verdict in board.items():
            if verdict == jl.Fresh():
                stored = self._stored(name)
                assert stored is not None
                assert bag(stored) == self.own(name), f"{name} is said to be fresh"
                assert bag(stored) == self.full(name), (
                    f"{name} is said to be fresh, and something above it is not"
                )
                assert all(
                    board[p] == jl.Fresh()
                    for p in self.definitions[name].reads
                    if p in self.definitions
                )

    def all_surfaces_agree(self, board: dict[str, str]) -> None:
        """The board of this kernel with that of the other one after each step, and with two of the
        other surfaces in turn."""
        ws = self.ws
        said["steps"] += 1
        assert board == {row.name: verdict_code(row.verdict) for row in self.handles[1].status()}
        match said["steps"] % 3:
            case 0:
                assert board == {name: verdict_code(ws.staleness(name)) for name in board}
                assert board == dict(
                    ws.sql("SELECT name, verdict FROM jammi_catalog.status").fetchall()
                )
            case 1:
                assert board == {
                    name: verdict_code(ws.staleness(ws.table(name))) if name in ws else "stale"
                    for name in board
                }
                assert board == {row.name: verdict_code(row.verdict) for row in ws.what_if()}
            case 2:
                assert board == {name: verdict_code(ws.why(name).verdict) for name in board}
                self.a_plan_has_what_is_not_fresh(board)

    def a_plan_has_what_is_not_fresh(self, board: dict[str, str]) -> None:
        plan = self.ws.plan()
        steps = {
            s.name
            for part in (plan.certain, plan.possible, plan.reused, plan.blocked)
            for s in part
        }
        assert steps <= {name for name, verdict in board.items() if verdict != "fresh"}
        assert {name for name, verdict in board.items() if verdict == "stale"} <= steps

    def alarms_are_true(self, board: Status) -> None:
        """Whatever is not fresh has a definition or an input that changed, or something above it
        has; where none has, the alarm is counted."""
        newest = {
            name: self.ws.table(name).table_name for name in self.definitions if name in self.ws
        }
        now = {name: self._made_of(name) for name in newest}
        for name, table in newest.items():
            self.made_of.setdefault(table, now[name])
        changed = {name: self.made_of[table][:2] != now[name][:2] for name, table in newest.items()}

        def moved(name: str) -> bool:
            return (
                name not in newest
                or changed[name]
                or any(moved(p) for p in self.definitions[name].reads if p in self.definitions)
            )

        for row in board:
            said["verdicts"] += 1
            if verdict_code(row.verdict) == "fresh" or row.name not in newest:
                continue
            said["not fresh"] += 1
            if not moved(row.name):
                said[self._kind_of_alarm(row.name, newest, now)] += 1

    def _made_of(self, name: str) -> tuple[Any, ...]:
        """What a recipe is made of now: what it says, the bags that it reads of its inputs, and
        these as they come."""
        made = self.definitions[name]
        inputs = {each: self._input(each) for each in made.reads}
        bags = {
            each: None if table is None else bag(table, made.columns)
            for each, table in inputs.items()
        }
        return made.definition(), bags, {each: as_it_comes(table) for each, table in inputs.items()}

    def _input(self, name: str) -> pa.Table | None:
        if name not in SOURCES:
            return self._stored(name)
        if not self.there(name):
            return None
        return pa.table({n: pa.array(v, pa.int64()) for n, v in self.frames[name].items()})

    def _kind_of_alarm(
        self, name: str, newest: dict[str, str], now: dict[str, tuple[Any, ...]]
    ) -> str:
        for each in self._above(name):
            if each in newest and (before := self.made_of[newest[each]][2]) != now[each][2]:
                if before.get("s1") != now[each][2].get("s1"):
                    return of_a_csv(before["s1"], now[each][2]["s1"])
                return OTHER_ORDER
        return f"unexplained: {name}, {self.definitions[name]}, {self.ws.why(name)}"

    def _above(self, name: str) -> list[str]:
        """A recipe, and those that it rests on, the nearest first."""
        above = [name]
        for each in above:
            above += [
                n for n in self.definitions[each].reads if n in self.definitions and n not in above
            ]
        return above

    @invariant()
    def what_is_pinned_stays(self) -> None:
        assert {table for _, table in self.pinned} <= {t.table_name for t in self.ws.tables()}

    @invariant()
    def every_ready_table_verifies(self) -> None:
        for table in self.ws.tables():
            assert table.verify() == jl.Match()


_SECONDS = float(os.environ.get("JAMMI_STATEFUL_SECONDS", "0"))


@soak
@pytest.mark.timeout(0 if _SECONDS else sized(900, 3600))
@pytest.mark.parametrize("part", range(1 if _SECONDS else 4))  # they may run on several workers
def test_histories(part):
    common = settings(deadline=None, suppress_health_check=list(HealthCheck), print_blob=True)
    if not _SECONDS:
        machine = type("Histories", (Histories,), {})
        if common.derandomize:
            machine = seed(part)(machine)  # else all parts would be the same
        run_state_machine_as_test(
            machine,
            settings=settings(common, max_examples=sized(2, 15), stateful_step_count=sized(25, 40)),
        )
    until = time.monotonic() + _SECONDS
    while time.monotonic() < until:  # always other ones
        run_state_machine_as_test(
            Histories,
            settings=settings(common, max_examples=20, stateful_step_count=30, derandomize=False),
        )
