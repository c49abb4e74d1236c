"""Random histories at the edges of the promise: never `Fresh` when it is not.

Equal values that differ (intervals, zeros), working directories that change, folders and tables
that other programs write, types that a server changes, special attributes of classes, flipped bits
in the catalog and damaged logs. What a table should hold is computed in a second workspace, which
has never seen an earlier state; values are compared by their texts, because 30 days and 1 month are
equal.
"""

import collections
import contextlib
import os
import random
import shutil
import sqlite3
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake
from deltalake.exceptions import DeltaError

import jammi_lab as jl
from jammi_lab.workspace.workspace import Workspace
from tests.features.live.clocks import opened
from tests.services.servers import run_postgres
from tests.sizes import SOAK, every_case, sized, soak
from tests.stateful.test_histories import QUICK, Clock

HERE, THERE = "here", "there"
SQL = {
    "relative": (HERE, "SELECT id, sum(n) AS n FROM 'p.csv' GROUP BY id"),
    "elsewhere": (THERE, "SELECT * FROM 'p.csv'"),
    "globbed": (THERE, "SELECT count(*) AS c, sum(n) AS s FROM read_csv('q*.csv')"),
    "longest": (HERE, "SELECT max(till - since)::VARCHAR AS d FROM spans"),
    "waits": (HERE, "SELECT d::VARCHAR AS d FROM (SELECT DISTINCT wait AS d FROM spans)"),
    "grouped": (
        HERE,
        "SELECT wait::VARCHAR AS w, n FROM (SELECT wait, count(*) AS n FROM spans GROUP BY wait)",
    ),
    "zeros": (HERE, "SELECT round(x) AS z, count(*) AS n FROM spans GROUP BY 1"),
    "united": (HERE, "SELECT x FROM spans UNION SELECT x * 1 FROM spans"),
    "least": (HERE, "SELECT min(x) AS x, arg_min(id, x) AS id FROM spans"),
    "parts": (HERE, "SELECT id, count(*) AS n FROM parts GROUP BY id"),
    "first": (HERE, "SELECT first(id) AS f, list(n) AS l FROM parts"),
    "keyed": (HERE, "SELECT max(k) AS k, min(k) AS j, sum(n) AS n FROM keyed"),
    "above": (HERE, "SELECT n, k > 1 AS b FROM keyed WHERE k < 3"),
    "delta": (HERE, "SELECT id, sum(n) AS n FROM lake GROUP BY id"),
    "listed": (HERE, "SELECT list(n) AS l FROM lake"),
    "stored": (HERE, "SELECT id, sum(n) AS n FROM db.t GROUP BY id"),
    "numbers": (HERE, "SELECT list(n) AS l FROM db.t"),
    "child": (HERE, "SELECT count(*) AS n, max(d)::VARCHAR AS d FROM jammi.longest"),
    "joined": (
        HERE,
        "SELECT p.id, p.n, t.n AS m FROM jammi.parts p JOIN jammi.stored t USING (id)",
    ),
}
ON_SERVER = {
    "codes": (HERE, "SELECT DISTINCT code FROM crm.{t}"),
    "coded": (HERE, "SELECT count(*) AS n FROM crm.{t} WHERE code = 'a'"),
    "moods": (HERE, "SELECT max(mood) AS m, count(*) AS n FROM crm.{t}"),
    "amounts": (HERE, "SELECT list(amount::VARCHAR) AS l, count(*) AS n FROM crm.{t} WHERE id > 1"),
    "viewed": (HERE, "SELECT * FROM crm.{t}_v"),
}
MUTABLE = "SELECT id, label FROM mutable.labels WHERE id > 0"
WAITS = ("1 month", "30 days", "720 hours", "2 days", "48 hours")
KINDS = (
    "intervals and zeros",
    "changed folders",
    "types of a server",
    "special attributes",
    "folders of others",
    "lakehouse and database files",
    "damaged logs",
    "flipped bits",
    "restored backups",
)
"""What a history does at the edges, counted."""
figures: collections.Counter[str] = collections.Counter()


class Rate:
    """A class with its values under special names."""

    __rate__ = [2]
    __limit__: Any = None


def rated(rows: Any) -> pa.Table:
    """A Python step that uses them."""
    factor = Rate.__rate__[0] * (Rate.__limit__ or 1)
    return pa.table({"n": [factor * rows.arrow().num_rows]})


@pytest.fixture(scope="module", autouse=True)
def told(tell: Callable[[str], None]) -> Iterator[None]:
    """The figures, at the end."""
    figures.clear()
    yield
    tell(
        f"edges: {figures['steps']} steps, {figures['verdicts']} verdicts, {figures['fresh']} of them fresh and all true, "
        f"{figures['alarms']} not fresh over what comes out equal; "
        + ", ".join(f"{figures[kind]} {kind}" for kind in KINDS)
    )
    assert figures["false"] == 0


class History:
    """One workspace, what it reads, and who changes that."""

    def __init__(self, root: Path, choices: random.Random, server: str, table: str) -> None:
        self.root, self.choices, self.server, self.table = root, choices, server, table
        self.world = 0
        """Counts the changes of what is read."""
        self.true_rows = dict[str, tuple[int, Any]]()
        self.duckdb = duckdb.connect(config={"threads": 1})
        self.read = dict[str, list[tuple[str, ...]]]()
        """The rows of tables by path."""
        self.labels = dict[int, str]()
        for folder in (HERE, THERE, "parts", "keyed"):
            (root / folder).mkdir()
        self.key()
        for folder in (HERE, THERE):
            self.csv(folder, "p")
        self.csv(THERE, "q1")
        self.spans()
        self.part()
        write_deltalake(root / "lake", self.numbers())
        self.sqlite("CREATE TABLE t (id integer, n double precision)")
        self.sqlite("INSERT INTO t VALUES (1, 1.5), (2, 2.5), (3, 0.5)")
        self.statements = dict(SQL)
        if server:
            self.statements |= {
                name: (folder, sql.format(t=table)) for name, (folder, sql) in ON_SERVER.items()
            }
            self.on_server(
                f"CREATE TYPE {table}_m AS ENUM ('low', 'mid', 'high')",
                f"CREATE TABLE {table} (id integer, code text, mood {table}_m, amount numeric)",
                f"INSERT INTO {table} VALUES (1, 'a', 'low', 1), (2, 'A', 'high', 1.0), (3, 'b', 'mid', 2)",
                f"CREATE VIEW {table}_v AS SELECT id, code FROM {table} WHERE id < 3",
            )
        self.clock = Clock()
        self.ws = self.open("lab")
        self.set_up(self.ws)
        labels = self.ws.mutable.create(
            "labels", {"id": "int64", "label": "string"}, primary_key=["id"]
        )
        self.labels = {1: "aaaa", 2: "bbbb"}
        labels.insert([{"id": key, "label": label} for key, label in self.labels.items()])
        for name in self.statements:
            self.define(self.ws, name)
        self.ws.materialize("labelled", MUTABLE)
        self.ws.materialize("rated", jl.PythonStep(rated, inputs="parts"))
        self.truth = self.open("truth")
        self.set_up(self.truth)

    # -- workspaces

    def open(self, name: str) -> Workspace:
        folder = self.root / name
        folder.mkdir(exist_ok=True)
        return opened(folder, self.clock)

    def set_up(self, ws: Workspace) -> None:
        ws.sources.add("spans", self.root / "spans.parquet")
        ws.sources.add("parts", self.root / "parts")
        ws.sources.add("keyed", self.root / "keyed")
        ws.sources.add("lake", self.root / "lake")
        ws.sources.add("db", self.root / "data.sqlite")
        if self.server:
            ws.sources.add("crm", self.server)

    def define(self, ws: Workspace, name: str) -> None:
        folder, sql = self.statements[name]
        os.chdir(self.root / folder)
        ws.materialize(name, sql, cache="bypass")

    def close(self) -> None:
        self.ws.close()
        self.truth.close()
        self.duckdb.close()

    # -- what others write

    def csv(self, folder: str, name: str) -> None:
        rows = [f"{self.choices.randrange(4)},{self.choices.randrange(4)}" for _ in range(3)]
        (self.root / folder / f"{name}.csv").write_text("\n".join(["id,n", *rows, ""]))

    def spans(self) -> None:
        count = self.choices.randrange(2, 5)
        pick = self.choices.choice
        with duckdb.connect() as connection:
            rows = ", ".join(
                f"({n}, INTERVAL '{pick(WAITS)}', INTERVAL '{pick(WAITS)}', INTERVAL '{pick(WAITS)}', {pick(('0.0', '-0.0', '0.4', '-0.4', '1.5'))}::DOUBLE)"
                for n in range(count)
            )
            connection.execute(
                f"COPY (SELECT * FROM (VALUES {rows}) t(id, since, till, wait, x)) TO '{self.root / 'spans.parquet'}'"
            )

    def reordered_spans(self) -> None:
        path = self.root / "spans.parquet"
        with duckdb.connect() as connection:
            connection.execute(
                f"CREATE TABLE s AS SELECT * FROM '{path}'; COPY (SELECT * FROM s ORDER BY hash(id + {self.choices.randrange(9)})) TO '{path}'"
            )

    def numbers(self) -> pa.Table:
        ids = [self.choices.randrange(4) for _ in range(3)]
        return pa.table({"id": pa.array(ids, pa.int64()), "n": pa.array(ids[::-1], pa.int64())})

    def part(self) -> None:
        folder = self.root / "parts" / self.choice(("", "a", "b"))
        folder.mkdir(exist_ok=True)
        pq.write_table(self.numbers(), folder / f"{self.choices.randrange(4)}.parquet")

    def key(self) -> None:
        """A partition, or another name of one. Files with a column of its name are refused."""
        folder = self.root / "keyed" / f"k={self.choices.randrange(1, 4)}"
        found = sorted((self.root / "keyed").iterdir())
        if found and not folder.exists() and self.choices.random() < 0.5:
            self.choice(found).rename(folder)
            return
        folder.mkdir(exist_ok=True)
        rows = self.numbers().rename_columns(["m", "n"])
        pq.write_table(rows, folder / f"{self.choices.randrange(2)}.parquet")

    def choice(self, options: Any) -> Any:
        return self.choices.choice(options)

    def folder_of_others(self) -> None:
        """What writers leave beside the data, and take away again."""
        parts = self.root / "parts"
        match self.choices.randrange(5):
            case 0:
                (parts / "_temporary" / "0").mkdir(parents=True, exist_ok=True)
                pq.write_table(self.numbers(), parts / "_temporary" / "0" / "x.parquet")
            case 1:
                shutil.rmtree(parts / "_temporary", ignore_errors=True)
            case 2:
                (parts / "_SUCCESS").touch()
                (parts / ".x.parquet.crc").write_bytes(b"x")
            case 3:
                (parts / "empty").mkdir(exist_ok=True)
            case _:
                found = sorted(parts.rglob("[0-9].parquet"))
                if len(found) > 1:
                    self.choice([each for each in found if "_temporary" not in each.parts]).unlink()

    def lake(self) -> None:
        path = self.root / "lake"
        match self.choices.randrange(4):
            case 0:
                write_deltalake(path, self.numbers(), mode="append")
            case 1:
                with contextlib.suppress(DeltaError):  # of a file that was rewritten in place
                    DeltaTable(path).update({"n": "n + 1"}, predicate="id = 1")
            case 2:
                with contextlib.suppress(DeltaError):
                    DeltaTable(path).optimize.compact()
            case _:  # in place, with the times and the least and greatest values that it had
                file = Path(self.choice(DeltaTable(path).file_uris()).removeprefix("file://"))
                times, rows = file.stat(), pq.read_table(file)
                turned = rows.take(list(range(len(rows)))[::-1])
                changed = rows.set_column(1, "n", turned["n"])
                pq.write_table(self.choice((rows, changed, turned)), file)
                os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))

    def sqlite(self, *statements: str) -> None:
        connection = sqlite3.connect(self.root / "data.sqlite")
        for statement in statements:
            connection.execute(statement)
        connection.commit()
        connection.close()

    def database(self) -> None:
        key = self.choices.randrange(1, 4)
        self.sqlite(
            *self.choice(
                (
                    [f"UPDATE t SET n = n + 1 WHERE id = {key}"],
                    [
                        f"CREATE TEMP TABLE k AS SELECT * FROM t WHERE id = {key}",
                        f"DELETE FROM t WHERE id = {key}",
                        "INSERT INTO t SELECT * FROM k",
                    ],
                    [f"UPDATE t SET n = {self.choice(('0.0', '-0.0'))} WHERE id = {key}"],
                    [f"INSERT INTO t VALUES ({key}, 1)"],
                )
            )
        )

    def on_server(self, *statements: str) -> None:
        run_postgres(self.server, *statements)

    def server_changes(self) -> None:
        t = self.table
        kind = self.choice(("citext", "text", "char(5)", "varchar(9)", '"char"'))
        self.on_server(
            *self.choice(
                (
                    [
                        f"DROP VIEW {t}_v",
                        f"ALTER TABLE {t} ALTER code TYPE {kind} USING code::text::{kind}",
                        f"CREATE VIEW {t}_v AS SELECT id, code FROM {t} WHERE id < 3",
                    ],
                    [
                        f"ALTER TYPE {t}_m RENAME VALUE 'mid' TO 'x'",
                        f"ALTER TYPE {t}_m RENAME VALUE 'high' TO 'mid'",
                        f"ALTER TYPE {t}_m RENAME VALUE 'x' TO 'high'",
                    ],
                    [
                        f"UPDATE {t} SET amount = {self.choice(('1', '1.0', '1.00', 'NULL'))} WHERE id = {self.choices.randrange(1, 4)}"
                    ],
                    [f"UPDATE {t} SET code = '{self.choice(('a', 'A', ''))}' WHERE id = 2"],
                    [
                        f"CREATE OR REPLACE VIEW {t}_v AS SELECT id, code FROM {t} WHERE id < {self.choices.randrange(2, 5)}"
                    ],
                    [f"UPDATE {t} SET id = id", f"VACUUM FULL {t}"],
                )
            )
        )

    # -- what happens

    def step(self) -> None:
        self.clock.ahead += self.choice((0, 3, 3600))
        actions: list[tuple[Callable[[], Any], bool, str]] = [
            (lambda: self.csv(self.choice((HERE, THERE)), "p"), True, "changed folders"),
            (lambda: self.csv(THERE, self.choice(("q1", "q2", "q3"))), True, "changed folders"),
            (self.spans, True, "intervals and zeros"),
            (self.reordered_spans, True, "intervals and zeros"),
            (self.part, True, "folders of others"),
            (self.key, True, "folders of others"),
            (self.folder_of_others, True, "folders of others"),
            (self.lake, True, "lakehouse and database files"),
            (self.lake, True, "lakehouse and database files"),
            (self.database, True, "lakehouse and database files"),
            (self.change_labels, True, ""),
            (self.change_class, True, "special attributes"),
            (self.change_folder, False, "changed folders"),
            (self.recompute, False, ""),
            (self.recompute, False, ""),
            (self.reopen, False, ""),
            (self.damage_a_copy, False, ""),
            (self.restore_a_backup, False, "restored backups"),
            *([(self.server_changes, True, "types of a server")] * 4 if self.server else []),
        ]
        act, changes, kind = self.choice(actions)
        act()
        self.world += changes
        figures[kind] += 1

    def change_folder(self) -> None:
        os.chdir(self.root / self.choice((HERE, THERE)))

    def change_labels(self) -> None:
        key, label = self.choices.randrange(3), self.choice(("aaaa", "bbbb"))
        self.labels[key] = label
        self.ws.mutable["labels"].upsert([{"id": key, "label": label}])

    def change_class(self) -> None:
        if self.choices.random() < 0.5:
            Rate.__rate__[0] = self.choices.randrange(1, 4)
        else:
            Rate.__limit__ = self.choice((None, 2, 3))

    def recompute(self) -> None:
        os.chdir(self.root / self.choice((HERE, THERE)))
        names = (
            None
            if self.choices.random() < 0.3
            else [self.choice([*self.statements, "labelled", "rated"])]
        )
        report = self.ws.recompute(names)
        assert {step.outcome for step in report.steps} <= {"computed", "reused", "cut_off"}, report

    def reopen(self) -> None:
        self.ws.close()
        self.ws = self.open("lab")

    def restore_a_backup(self) -> None:
        """Another commit gets the number of one that was made before the catalog was put back."""
        labels = [{"id": 5, "label": each} for each in ("before", "after")]
        self.ws.backup(self.root / "backup")
        self.ws.mutable["labels"].upsert(labels[:1])
        [before] = self.stamped()
        self.ws.close()
        shutil.copy(self.root / "backup", self.root / "lab" / "catalog.sqlite3")
        self.ws = self.open("lab")
        self.ws.mutable["labels"].upsert(labels[1:])
        self.labels[5] = "after"
        self.world += 1
        assert self.stamped() != [before], "another commit has the state of the one before"

    def stamped(self) -> list[str]:
        """The state of the mutable table that a saved result carries."""
        result = self.ws.sql("SELECT label FROM mutable.labels")
        result.fetchall()
        return [source.anchor for source in result._stamp().sources]

    def damage_a_copy(self) -> None:
        """What a kernel leaves that is killed now, with a bit that flips in its log or in a mutable
        row."""
        self.ws.mutable["labels"].upsert([{"id": 9, "label": str(self.clock.ahead)}])
        self.labels[9] = str(self.clock.ahead)
        self.world += 1
        known = {table.table_name for table in self.ws.tables()}
        copy = self.root / "killed"
        without_index = shutil.ignore_patterns(*self.choice(((), ("*-shm",))))
        shutil.copytree(self.root / "lab", copy, ignore=without_index)
        log = copy / "catalog.sqlite3-wal"
        try:
            if log.exists() and log.stat().st_size > 4096 and self.choices.random() < 0.7:
                data = bytearray(log.read_bytes())
                frame = 24 + int.from_bytes(data[8:12])
                cut = 32 + frame * self.choices.randrange((len(data) - 32) // frame)
                whole = bytes(data)
                data[self.choices.randrange(32, len(data))] ^= 1 << self.choices.randrange(8)
                log.write_bytes(self.choice((data, whole[:cut], whole[: len(whole) // 2], b"")))
                figures["damaged logs"] += 1
                self.check_killed(known)
            else:
                self.flip_a_row(copy)
                figures["flipped bits"] += 1
        finally:
            shutil.rmtree(copy)

    def check_killed(self, known: set[str]) -> None:
        with warnings.catch_warnings(action="ignore"):
            try:
                ws = self.open("killed")
            except jl.JammiError:
                return  # it is said
        try:
            here = {table.table_name for table in ws.tables()}
            report = ws.recovery
            is_whole = known <= here and "labels" in ws.mutable
            if is_whole:
                rows = ws.mutable["labels"].read().arrow().to_pylist()
                is_whole = {row["id"]: row["label"] for row in rows} == self.labels
            assert is_whole or report.damaged_log or report.unknown, "lost, and nothing is said"
            for row in ws.status():
                if row.verdict == jl.Fresh() and row.name not in ("labelled", "rated"):
                    assert self.texts(ws, row.name) == self.true(row.name), (
                        f"{row.name} after a damaged log"
                    )
        finally:
            ws.close()

    def flip_a_row(self, copy: Path) -> None:
        connection = sqlite3.connect(copy / "catalog.sqlite3")
        names = [
            name
            for (name,) in connection.execute("SELECT name FROM sqlite_master").fetchall()
            if name.startswith("log_")
        ]
        [name] = names
        key, body = self.choice(connection.execute(f"SELECT position, body FROM {name}").fetchall())
        changed = bytearray(body)
        changed[self.choices.randrange(len(changed))] ^= 1 << self.choices.randrange(8)
        connection.execute(f"UPDATE {name} SET body = ? WHERE position = ?", (bytes(changed), key))
        connection.commit()
        connection.close()
        ws = self.open("killed")
        try:
            assert ws.status(deep=True)["labelled"].verdict != jl.Fresh()
            assert ws.fsck(deep=True).damaged == ["mutable.labels"]
        finally:
            ws.close()

    # -- what holds

    def texts(self, ws: Workspace, name: str) -> list[tuple[str, ...]]:
        """The rows of a table as texts, in which equal values that differ differ."""
        path = ws.table(name).path
        if str(path) not in self.read:
            columns = ", ".join(f'"{column}"::VARCHAR' for column in pq.read_schema(path).names)
            rows = self.duckdb.execute(f"SELECT {columns} FROM read_parquet('{path}')").fetchall()
            self.read[str(path)] = sorted(rows, key=repr)
        return self.read[str(path)]

    def true(self, name: str) -> Any:
        """What a table holds that is made now."""
        if name == "labelled":
            return sorted(((str(k), v) for k, v in self.labels.items() if k > 0), key=repr)
        if name == "rated":
            rows = self.truth.sql("SELECT count(*) FROM parts").fetchall()[0][0]
            return [(str(Rate.__rate__[0] * (Rate.__limit__ or 1) * rows),)]
        if self.true_rows.get(name, (-1,))[0] != self.world:
            for parent in {"child": ["longest"], "joined": ["parts", "stored"]}.get(name, []):
                self.true(parent)
            self.define(self.truth, name)
            self.true_rows[name] = self.world, self.texts(self.truth, name)
        return self.true_rows[name][1]

    def check(self) -> None:
        figures["steps"] += 1
        folder = os.getcwd()
        # A view on a server says nothing of its size, so only deep looks read it.
        board = {row.name: row.verdict for row in self.ws.status(deep=bool(self.server))}
        name = self.choice(list(board))
        assert type(self.ws.staleness(name)) is type(board[name])
        for name, verdict in board.items():
            figures["verdicts"] += 1
            is_true = self.texts(self.ws, name) == self.true(name)
            if verdict == jl.Fresh():
                figures["fresh"] += 1
                figures["false"] += not is_true
                assert is_true, (
                    f"{name} is {verdict}: {self.texts(self.ws, name)}, not {self.true(name)}"
                )
            else:
                figures["alarms"] += is_true
        os.chdir(folder)


@soak
@every_case
@pytest.mark.timeout(sized(900, 7200))
@pytest.mark.parametrize(
    "kind", ["local", pytest.param("server", marks=[pytest.mark.services, pytest.mark.slow])]
)
def test_nothing_is_fresh_that_would_come_out_otherwise(kind, request, monkeypatch):
    tmp_path = Path(tempfile.mkdtemp(prefix="jammi-edges-", dir=QUICK))
    request.addfinalizer(lambda: shutil.rmtree(tmp_path))
    before = os.getcwd()
    server = request.getfixturevalue("postgres_url") if kind == "server" else ""
    for number in range(sized(1, 4 if server else 8)):  # a server takes its time
        monkeypatch.setattr(Rate, "__rate__", [2])
        monkeypatch.setattr(Rate, "__limit__", None)
        root, table = tmp_path / str(number), f"edges_{os.getpid()}_{number}"
        root.mkdir()
        if server:
            run_postgres(server, "CREATE EXTENSION IF NOT EXISTS citext")
        history = History(root, random.Random(f"{kind} {number}"), server, table)
        try:
            for _ in range(sized(5, 40)):
                history.step()
                history.check()
        finally:
            history.close()
            os.chdir(before)
            if server:
                run_postgres(server, f"DROP TABLE {table} CASCADE", f"DROP TYPE {table}_m")
    if SOAK:
        of_server = "types of a server"  # the few histories on a server need not meet the others
        wanted = [of_server] if server else [each for each in KINDS if each != of_server]
        assert [each for each in wanted if not figures[each]] == []
