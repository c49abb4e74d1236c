"""What tables that change cost: inserts beside bare sqlite3 with the same durability, an update by join, look-ups; ephemeral sessions and topics beside jammi-ai."""

import contextlib
import sqlite3
import threading
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count
from pathlib import Path

import pyarrow as pa

import jammi_lab as jl
from bench import rival
from bench.harness import Line, Timer, measure_pair, unmeasured_line, wall_timer
from jammi_lab.features.live.mutable_handles import MutableTable

ROWS = 10_000
_SQLITE = ("journal_mode=WAL", "synchronous=FULL", "secure_delete=ON", "busy_timeout=30000")
Insert = Callable[[int, int], object]
"""Inserts the rows from one number up to another, durably."""


def inserting(folder: Path, repeats: int) -> Iterator[Line]:
    """Small rows are inserted, in batches and one by one; every call returns when its rows are on the
    disk."""
    with jl.open(folder / "lab") as ws, PlainSqliteTable(folder / "bare.sqlite3") as bare:
        table = ws.mutable.create(
            "notes", {"id": "int64", "note": "string", "score": "float64"}, primary_key=["id"]
        )
        starts = count(0, ROWS), count(0, ROWS)
        for batch, limit in ((500, 1.5), (100, 1.5), (1, 2.0)):
            yield measure_pair(
                f"insert {ROWS:,} rows, {batch} at a time, against bare sqlite3",
                wall_timer(partial(_insert_batches, partial(_insert, table), starts[0], batch)),
                wall_timer(partial(_insert_batches, bare.insert, starts[1], batch)),
                repeats=repeats,
                limit=limit,
            )


def changing(folder: Path, repeats: int) -> Iterator[Line]:
    """An update of 100,000 rows by a join, evaluated by DuckDB and committed row by row, against
    sqlite3 doing both."""
    values = pa.table({"id": range(ROWS * 10), "score": [float(n) for n in range(ROWS * 10)]})
    with jl.open(folder / "lab") as ws, PlainSqliteTable(folder / "bare.sqlite3") as bare:
        table = ws.mutable.create(
            "notes", {"id": "int64", "note": "string", "score": "float64"}, primary_key=["id"]
        )
        _insert(table, 0, ROWS * 10)
        bare.insert(0, ROWS * 10)
        ws.sources.add("scores", values)
        bare.scores(values.num_rows)
        step = count(1)

        def update_rows() -> None:
            ws.sql(
                "UPDATE mutable.notes SET score = s.score + $n FROM scores s WHERE s.id = notes.id",
                n=next(step),
            )

        yield measure_pair(
            f"update {ROWS * 10:,} rows by a join, against bare sqlite3",
            wall_timer(update_rows),
            wall_timer(partial(bare.update, step)),
            repeats=repeats,
            limit=None,
        )


def looking_up(folder: Path, repeats: int) -> Iterator[Line]:
    """Rows of a table of a million by a column that is not the key, against one twentieth of a
    second for each."""
    rows = ROWS * 100
    with jl.open(folder / "lab") as ws:
        table = ws.mutable.create(
            "notes", {"id": "int64", "note": "string", "score": "float64"}, primary_key=["id"]
        )
        _insert(table, 0, rows)
        ws.sql("SELECT count(*) FROM mutable.notes").fetchall()

        def look_up_rows() -> None:
            for number in range(10):
                assert ws.sql(
                    "SELECT id FROM mutable.notes WHERE note = $n", n=f"note {number}"
                ).fetchall() == [(number,)]

        yield measure_pair(
            f"10 look-ups by a column that is no key among {rows:,} rows, against 0.5 s",
            wall_timer(look_up_rows),
            lambda: 0.5,
            repeats=repeats,
            limit=1.0,
        )


def _insert(table: MutableTable, start: int, end: int) -> None:
    numbers = range(start, end)
    rows = {
        "id": numbers,
        "note": [f"note {n}" for n in numbers],
        "score": [n / 2 for n in numbers],
    }
    table.insert(
        pa.table(
            {name: pa.array(values, table.schema.field(name).type) for name, values in rows.items()}
        )
    )


def _insert_batches(insert: Insert, starts: Iterator[int], batch: int) -> None:
    """Insert the next `ROWS` new rows, in batches."""
    first = next(starts)
    for start in range(first, first + ROWS, batch):
        insert(start, min(start + batch, first + ROWS))


class PlainSqliteTable(contextlib.AbstractContextManager["PlainSqliteTable"]):
    """A table in a plain SQLite file: one connection per thread, durable commits, writers
    serialised by a lock."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._mine = threading.local()
        self._turn = threading.Lock()
        self._all = list[sqlite3.Connection]()
        self._connection().execute(
            "CREATE TABLE notes (id INTEGER PRIMARY KEY, note TEXT, score REAL)"
        )

    def _connection(self) -> sqlite3.Connection:
        if not hasattr(self._mine, "connection"):
            self._mine.connection = sqlite3.connect(
                self._path, isolation_level=None, check_same_thread=False
            )
            self._all.append(self._mine.connection)
            for pragma in _SQLITE:
                self._mine.connection.execute(f"PRAGMA {pragma}")
        kept: sqlite3.Connection = self._mine.connection
        return kept

    def insert(self, start: int, end: int) -> None:
        """Insert rows in one transaction."""
        connection = self._connection()
        with self._turn:
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(
                "INSERT INTO notes VALUES (?, ?, ?)",
                [(n, f"note {n}", n / 2) for n in range(start, end)],
            )
            connection.execute("COMMIT")

    def scores(self, rows: int) -> None:
        """Create the second table of the join."""
        connection = self._connection()
        connection.execute("CREATE TABLE scores (id INTEGER PRIMARY KEY, score REAL)")
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany(
            "INSERT INTO scores VALUES (?, ?)", [(n, float(n)) for n in range(rows)]
        )
        connection.execute("COMMIT")

    def update(self, step: Iterator[int]) -> None:
        """Update by a join in one transaction."""
        connection = self._connection()
        connection.execute("BEGIN IMMEDIATE")
        connection.execute(
            "UPDATE notes SET score = s.score + ? FROM scores s WHERE s.id = notes.id", [next(step)]
        )
        connection.execute("COMMIT")

    def __exit__(self, *_: object) -> None:
        for connection in self._all:
            connection.close()


def sessions(folder: Path, repeats: int) -> Iterator[Line]:
    """An ephemeral session is opened, gets a table and 100 rows, and is closed: durable, and with
    no value left when it is over."""
    rows = pa.table({"id": range(100), "word": ["word"] * 100})
    with jl.open(folder / "lab", tenant="acme") as ws:

        def run_sessions() -> None:
            for _ in range(SESSIONS):
                with ws.ephemeral() as session:
                    session.create("scratch", rows.schema, primary_key=["id"])
                    session.insert("scratch", rows)

        yield _compare_with_rival(
            f"{SESSIONS} sessions: open, create, insert 100 rows, close",
            wall_timer(run_sessions),
            folder,
            "sessions",
            SESSIONS,
            repeats,
            limit=2,
        )


def logging(folder: Path, repeats: int) -> Iterator[Line]:
    """Events of 100 rows are published to a topic, each durable when the call returns, and read
    again."""
    rows = pa.table({"id": range(100), "word": ["word"] * 100})
    with jl.open(folder / "lab") as ws:
        for name in ("written", "read", "many"):
            ws.topics.register(name, rows.schema)

        def publish(name: str, events: int) -> None:
            for _ in range(events):
                ws.topics.publish(name, rows)

        yield _compare_with_rival(
            f"publish {EVENTS} events",
            wall_timer(partial(publish, "written", EVENTS)),
            folder,
            "publish",
            EVENTS,
            repeats,
        )
        publish("read", EVENTS)
        yield _compare_with_rival(
            f"replay {EVENTS} events",
            wall_timer(lambda: list(ws.topics.replay("read"))),
            folder,
            "replay",
            EVENTS,
            repeats,
        )
        with ws._services.catalog.transaction():
            publish("many", MANY)
        every = wall_timer(lambda: list(ws.topics.replay("many")))
        some = wall_timer(
            lambda: list(ws.topics.replay("many", where="id < 1 AND starts_with(word, 'w')"))
        )
        yield measure_pair(
            f"replay {MANY:,} events with a condition, against all of them",
            some,
            every,
            repeats=repeats,
            limit=None,
        )


SESSIONS, EVENTS, MANY = 20, 200, 10_000


def _compare_with_rival(
    what: str,
    ours: Timer,
    folder: Path,
    theirs: str,
    number: int,
    repeats: int,
    limit: float | None = None,
) -> Line:
    """A line relative to jammi-ai; unmeasured without its interpreter."""
    python = rival.interpreter()
    if python is None:
        return unmeasured_line(what, f"{rival.VARIABLE} names no interpreter that has jammi-ai")
    return measure_pair(
        f"{what}, against jammi-ai",
        ours,
        rival.living(python, folder / theirs, theirs, number),
        repeats=repeats,
        limit=limit,
    )


CASES = {
    "inserting": inserting,
    "changing": changing,
    "looking_up": looking_up,
    "sessions": sessions,
    "logging": logging,
}
