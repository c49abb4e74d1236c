"""Damage of every kind in every column of a catalog and in every file of a workspace: a typed error
or a right answer, and never Fresh over other rows."""

import contextlib
import copy
import functools
import hashlib
import itertools
import json
import random
import sqlite3
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import jammi_lab as jl
from jammi_lab.store.result_files import ResultFiles
from tests import sizes, templates

RECIPES = ("years", "best", "vectors", "words", "graph", "features", "labels")


def first_letter(text: str) -> dict[str, str]:
    """The column `label` of a row."""
    return {"label": text[:1]}


def build(root: Path) -> None:
    """A workspace with a row in most tables of its catalog and a file of most kinds."""
    papers = {"id": range(12), "text": [f"oak number {n}" for n in range(12)], "year": [2020] * 12}
    pq.write_table(pa.table({k: list(v) for k, v in papers.items()}), root / "papers.parquet")
    (root / "lab").mkdir()
    (root / "lab" / "jammi.toml").write_text("[flight]\nwait_seconds = 5\n")
    with jl.open(root / "lab") as ws:
        ws.sources.add("papers", root / "papers.parquet")
        for statement in ("SELECT year, count(*) AS n", "SELECT year, 2 * count(*) AS n"):
            ws.materialize("years", f"{statement} FROM papers GROUP BY year", key="year")
        ws.materialize("top", "SELECT * FROM jammi.years WHERE n > $n", params={"n": 1})
        ws.rename("top", "best")
        ws.embed("vectors", "papers", key="id", text=["text"], model="hashing")
        ws.lexical("words", "papers", key="id", text=["text"])
        ws.neighbor_graph("graph", "vectors", k=2)
        ws.register("features", pa.table({"a": [1, 2]}), producer="job", inputs=["papers"])
        ws.hold("features", note="kept")
        ws.map(
            "labels",
            first_letter,
            over="papers",
            key="id",
            inputs=["text"],
            schema={"label": "varchar"},
            version="1",
        )
        notes = ws.mutable.create("notes", {"id": "int64", "w": "varchar"}, primary_key=["id"])
        notes.insert([{"id": 1, "w": "a"}])
        ws.topics.register("events", {"id": "int64"})
        ws.topics.publish("events", pa.table({"id": [1]}))
        ws.checks.add("unique", jl.checks.unique("year"), on="years")
        ws.check()
        ws.models.record_training(output="mine", base="hashing")
        ws.models.record_evaluation("hashing", metrics={"recall": 1.0})


LOOKS: tuple[Callable[[Any], Any], ...] = (
    lambda ws: repr([ws.tables(status=None), ws.recipes(), ws.sources.list(), ws.models.list()]),
    lambda ws: ws.status(deep=True).arrow(),
    lambda ws: [str(ws.why(name)) for name in RECIPES],
    lambda ws: repr(ws.plan()),
    lambda ws: ws.sql("SELECT * FROM jammi.years, mutable.notes, topics.events, papers").fetchall(),
    lambda ws: [
        ws.sql(f"SELECT * FROM jammi_catalog.{name}").fetchall()
        for name in ("tables", "columns", "anchors", "lineage", "column_lineage", "writers")
    ],
    lambda ws: ws.search("vectors", "oak", k=3).fetchall(),
    lambda ws: ws.search("words", "oak", k=3).fetchall(),
    lambda ws: repr(ws.lineage("best", columns=True)),
    lambda ws: repr([ws.checks.list(), ws.check()]),
    lambda ws: ([e.batch for e in ws.topics.replay("events")], ws.topics.list()),
    lambda ws: ws.mutable["notes"].read().fetchall(),
    lambda ws: [ws.verify(name) for name in RECIPES],
    lambda ws: repr(ws.fsck(deep=True)),
    lambda ws: repr(ws.recompute(progress=False)),
)


def nonsense(value: Any) -> Iterator[Any]:
    """A JSON value with one of its parts replaced by another of the same type, or of another."""
    parts: list[Any] = list(value) if isinstance(value, dict) else list(range(len(value)))
    for part in parts:
        old = value[part]
        inner = nonsense(old) if isinstance(old, dict | list) else iter(())
        for new in itertools.chain(inner, [-1 if isinstance(old, int) else "a/../b", None, 5]):
            changed = copy.copy(value)
            changed[part] = new
            yield changed


def wrong_values(old: Any, rng: random.Random) -> list[Any]:
    """What a column gets instead of its value."""
    values: list[Any] = [None, b"\xff\x00", 7, -1, 2**62, "a/../b", "9999-99-99T00:00:00Z", ""]
    if isinstance(old, bytes):
        values.append(old[: len(old) // 2])
    if isinstance(old, str) and old[:1] in ("[", "{"):
        values += ["[]", "{}", "[" * 3000]
        values += map(json.dumps, rng.sample(found := [*nonsense(json.loads(old))], len(found)))
    return values


def damaged_columns(lab: Path, rng: random.Random) -> list[list[tuple[str, Any]]]:
    """Statements that damage a value, with the value: a list for each column of the catalog."""
    with contextlib.closing(sqlite3.connect(lab / "catalog.sqlite3")) as db:
        tables = db.execute("SELECT name, wr FROM pragma_table_list WHERE name NOT LIKE 'sqlite_%'")
        columns = []
        for table, has_no_rowid in tables.fetchall():
            for (column,) in db.execute("SELECT name FROM pragma_table_info(?)", [table]):
                row = db.execute(f"SELECT {column} FROM {table} LIMIT 1").fetchone()
                newest = f" WHERE rowid = (SELECT max(rowid) FROM {table})"
                where = "" if has_no_rowid else newest
                statement = f"UPDATE {table} SET {column} = ?{where}"
                columns.append([(statement, v) for v in wrong_values(row[0], rng)] if row else [])
    return [column for column in columns if column]


def damage_value(lab: Path, statement: str, value: Any) -> None:
    """Change a value as a program would that ignores the constraints."""
    with contextlib.closing(sqlite3.connect(lab / "catalog.sqlite3")) as db:
        db.execute("PRAGMA writable_schema = 1")
        db.execute(
            "UPDATE sqlite_schema SET sql = replace(sql, ' NOT NULL', '') WHERE type = 'table'"
        )
        db.commit()
    with contextlib.closing(sqlite3.connect(lab / "catalog.sqlite3")) as db:
        with contextlib.suppress(sqlite3.IntegrityError):
            db.execute(statement, [value])
        db.commit()


def damaged_bytes(path: Path, rng: random.Random) -> list[bytes]:
    """The contents that a file may have instead of its own."""
    body = path.read_bytes()
    flipped = bytearray(body)
    if body:
        flipped[rng.randrange(len(body))] ^= 1 << rng.randrange(8)
    third = len(body) // 3
    return [
        *(b"", body[: len(body) // 2], body[:-9], body + body[-9:]),
        *(body[:third] + body[2 * third :], bytes(flipped), bytes(len(body))),
    ]


def rows_of(ws: Any, name: str) -> list[str]:
    """The rows of a table, in an order of their own."""
    return sorted(map(repr, ws.table(name).read().fetchall()))


def exercise(lab: Path, looks: Any, right: dict[str, list[str]], damage: str) -> list[str]:
    """Open a damaged workspace and look at it; what was no right answer and no JammiError."""
    failures = []

    def attempt(act: Callable[[], Any]) -> None:
        try:
            act()
        except jl.JammiError:
            pass
        except Exception as error:
            place = traceback.extract_tb(error.__traceback__)[-1]
            failures.append(f"{damage}: {error!r} at {place.filename}:{place.lineno}")

    def look_at_all() -> None:
        with jl.open(lab) as ws:
            for look in looks:
                attempt(functools.partial(look, ws))
            for name, rows in right.items():
                attempt(functools.partial(judge, ws, name, rows))

    def judge(ws: Any, name: str, rows: list[str]) -> None:
        if rows_of(ws, name) != rows and isinstance(ws.staleness(name), jl.Fresh):
            failures.append(f"{damage}: {name} is Fresh over other rows")

    attempt(look_at_all)
    return failures


@pytest.fixture(scope="module")
def template() -> templates.Template:
    return templates.Template(build)


@pytest.fixture
def right(template: templates.Template) -> dict[str, list[str]]:
    """The rows of each table."""
    with jl.open(template.restore() / "lab", read_only=True) as ws:
        return {name: rows_of(ws, name) for name in RECIPES}


def looks_of(number: int) -> Any:
    """The looks at the so manieth damage: in rotation, more in a soak."""
    return [LOOKS[(number + step) % len(LOOKS)] for step in range(0, len(LOOKS), sizes.sized(8, 3))]


@pytest.mark.filterwarnings("ignore")
def test_a_damaged_value_of_the_catalog_gives_typed_errors_or_right_answers(template, right):
    rng = random.Random(53)
    columns = damaged_columns(template.restore() / "lab", rng)
    of_each = sizes.sized(1, 4)
    assert len(columns) >= 150
    columns = sizes.thinned(columns, 4)
    damages = [d for column in columns for d in rng.sample(column, min(of_each, len(column)))]
    failures: list[str] = []
    for number, (statement, value) in enumerate(damages):
        lab = template.restore() / "lab"
        damage_value(lab, statement, value)
        failures += exercise(lab, looks_of(number), right, f"{statement} {value!r}")
    assert not failures, "\n".join(failures)


@pytest.mark.filterwarnings("ignore")
def test_a_damaged_file_gives_typed_errors_or_right_answers(template, right):
    rng = random.Random(53)
    root = template.restore()
    paths = [p.relative_to(root) for p in sorted((root / "lab").rglob("*")) if p.is_file()]
    damages = [(path, body) for path in paths for body in damaged_bytes(root / path, rng)]
    assert len(damages) >= 150
    failures: list[str] = []
    for number, (path, body) in enumerate(sizes.thinned(damages, 5)):
        root = template.restore()
        (root / path).write_bytes(body)
        failures += exercise(root / "lab", looks_of(number), right, f"{path} {body[:40]!r}")
    assert not failures, "\n".join(failures)


DEEP: pa.DataType = pa.int64()
for _ in range(120):
    DEEP = pa.struct([("n", DEEP)])
FORGED = {
    "deep": pa.table({"n": pa.nulls(1, DEEP)}),
    "twice": pa.table([[1], [2]], ["n", "n"]),
    "other": pa.table({"m": [1]}),
    "list": pa.table({"n": pa.array([[1]], pa.list_(pa.int32()))}),
    "text": pa.table({"n": ["1"]}),
    "wider": pa.table({"n": pa.array([1], pa.int64())}),
}


def forge(path: Path, rows: pa.Table) -> None:
    """Put other rows into the file of a table, with their digest."""
    pq.write_table(rows, path)
    catalog = path.parents[2] / "catalog.sqlite3"
    with contextlib.closing(sqlite3.connect(catalog)) as db, db:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        db.execute("UPDATE result_tables SET digest = ?", [digest])


@pytest.mark.parametrize("form", FORGED)
def test_a_file_with_other_columns_types_or_too_deep_ones_is_damage_also_with_its_digest(
    tmp_path, form
):
    """Of ten times the depth DuckDB never ends, of a thousand times it ends the process."""
    with jl.open(tmp_path / "lab") as ws:
        path = Path(ws.materialize("t", "SELECT 1 AS n").path)
    forge(path, FORGED[form])
    with jl.open(tmp_path / "lab") as ws:
        for read in (
            lambda: ws.sql("FROM jammi.t"),
            lambda: ws.table("t").scan("duckdb"),
            lambda: ws.lexical("w", "SELECT n, 'a' AS text FROM jammi.t", key="n", text="text"),
        ):
            with pytest.raises(jl.errors.TableDamaged, match="other columns or no footer"):
                read()


def test_a_file_with_other_columns_that_was_forged_with_its_digest_is_shown_or_a_typed_error(
    ws, monkeypatch
):
    path = Path(ws.materialize("t", "SELECT 1 AS n").path)
    monkeypatch.setattr(ResultFiles, "require_intact", lambda *_: path)
    pq.write_table(pa.table({"other": ["x"], "n": pa.array([2], pa.int32())}), path)
    result = ws.sql("SELECT * FROM jammi.t")
    assert result.columns == ["other", "n"] and "x" in str(result)
    pq.write_table(pa.table({"other": [2]}), path)
    with pytest.raises(jl.errors.SqlError, match="The column n is no longer in t"):
        ws.sql("SELECT n FROM jammi.t").fetchall()


def test_a_version_of_other_types_is_none_that_rows_are_taken_over_from(tmp_path):
    texts = "SELECT 1 AS n, 'a' AS text"
    with jl.open(tmp_path / "lab") as ws:
        path = Path(ws.lexical("w", texts, key="n", text="text").path)
    rows = pq.read_table(path)
    forge(path, rows.set_column(0, "key", pa.array([[1]])))
    with jl.open(tmp_path / "lab") as ws:
        table = ws.lexical("w", texts, key="n", text="text")
        assert table.outcome == "computed" and table.read().arrow()["key"].to_pylist() == [1]
