"""A bit that flips in the log of a mutable table is told, wherever it flips."""

import msgspec
import pyarrow as pa
import pytest

import jammi_lab as jl
from jammi_lab.catalog.logs import Entry, entries_table
from tests.store.lab import catalog

SCHEMA = {"id": "int64", "label": "string"}


@pytest.fixture
def folder(tmp_path):
    with jl.open(tmp_path / "lab") as ws:
        labels = ws.mutable.create("labels", SCHEMA, primary_key=["id"])
        labels.insert([{"id": 1, "label": "aaaa"}, {"id": 2, "label": "bbbb"}])
        ws.materialize("made", "SELECT * FROM mutable.labels")
        labels.upsert([{"id": 2, "label": "cccc"}])
        ws.recompute("made")
    return tmp_path / "lab"


def change(folder, position, body):
    """Puts another body into the log; returns that of before."""
    with catalog(folder) as connection:
        [(log_id,)] = connection.execute("SELECT log_id FROM logs").fetchall()
        table = entries_table(log_id)
        [(before,)] = connection.execute(
            f"SELECT body FROM {table} WHERE position = ?", [position]
        ).fetchall()
        if body is None:
            connection.execute(f"DELETE FROM {table} WHERE position = ?", [position])
        else:
            connection.execute(
                f"UPDATE {table} SET body = ? WHERE position = ?", [body(before), position]
            )
    return before


@pytest.mark.parametrize("position", [0, 1])
def test_a_flipped_bit_is_damage_for_every_reader(folder, position):
    before = change(
        folder, position, lambda body: body.replace(b"bbbb", b"bbbc").replace(b"cccc", b"cccd")
    )
    with jl.open(folder) as ws:
        labels = ws.mutable["labels"]
        for read in (
            labels.read,
            lambda: labels.insert([{"id": 3}]),
            lambda: labels.changes(0),
            lambda: ws.sql("SELECT * FROM mutable.labels").fetchall(),
            lambda: ws.materialize("again", "SELECT label FROM mutable.labels"),
        ):
            with pytest.raises(jl.TableDamaged, match="does not match its digest"):
                read()
        verdict = ws.status(deep=True)["made"].verdict
        assert isinstance(verdict, jl.Undecidable) and f"entry {position} " in str(verdict)
        assert isinstance(ws.staleness("made"), jl.Undecidable)
        assert ws.fsck(deep=True).damaged == ["mutable.labels"]
        change(folder, position, lambda _: before)
        assert ws.mutable["labels"].read().fetchall() == [(1, "aaaa"), (2, "cccc")]
        assert ws.fsck(deep=True).damaged == []


def test_every_bit_of_a_body_counts(folder):
    with jl.open(folder) as ws:
        labels = ws.mutable["labels"]
        body = change(folder, 1, lambda body: body)
        for bit in range(0, 8 * len(body), 37):
            flipped = bytearray(body)
            flipped[bit // 8] ^= 1 << bit % 8
            change(folder, 1, lambda _, flipped=flipped: bytes(flipped))
            with pytest.raises(jl.TableDamaged):
                labels.changes(0)


@pytest.mark.parametrize("position", [0, 1])
def test_a_lost_commit_is_damage(folder, position):
    change(folder, position, None)
    with jl.open(folder) as ws:
        with pytest.raises(jl.TableDamaged):
            ws.mutable["labels"].read()
        assert ws.fsck(deep=True).damaged == ["mutable.labels"]


def forge(folder, **changes):
    """Changes the first entry of each log, and its digest with it."""
    with catalog(folder) as connection:
        for [log_id] in connection.execute("SELECT log_id FROM logs").fetchall():
            table = entries_table(log_id)
            names = [name for name in Entry.__struct_fields__ if name != "position"]
            [row] = connection.execute(
                f"SELECT position, {', '.join(names)} FROM {table} WHERE position = 0"
            ).fetchall()
            entry = msgspec.structs.replace(Entry(*row), **changes)
            values = msgspec.structs.asdict(entry.seal())
            assignments = ", ".join(f"{name} = :{name}" for name in names)
            connection.execute(f"UPDATE {table} SET {assignments} WHERE position = 0", values)


@pytest.mark.parametrize(
    "changes",
    [
        {"body": b""},
        {"body": b"\0\0\0\0"},
        {"produced_at": b"\xff"},
        {"row_count": "x"},
        {"row_count": 1.5},
        {"row_count": b"1"},
        {"commit_id": b"c"},
    ],
)
def test_an_entry_that_was_forged_with_its_digest_is_damage(folder, changes):
    with jl.open(folder) as ws:
        ws.topics.register("clicks", {"page": "string"})
        ws.topics.publish("clicks", [{"page": "home"}])
    forge(folder, **changes)
    with jl.open(folder) as ws:
        for read in (
            ws.mutable["labels"].read,
            lambda: ws.mutable["labels"].changes(0),
            lambda: list(ws.topics.replay("clicks")),
            lambda: ws.topics.tail("clicks"),
            lambda: ws.sql("SELECT * FROM topics.clicks").fetchall(),
        ):
            with pytest.raises(jl.TableDamaged):
                read()


@pytest.mark.parametrize("kind", [pa.dense_union([]), pa.sparse_union([pa.field("a", pa.int8())])])
def test_a_schema_with_types_that_no_log_has_is_damage(folder, kind):
    with jl.open(folder) as ws:
        ws.topics.register("clicks", {"page": "string"})
        ws.topics.publish("clicks", [{"page": "home"}])
    with catalog(folder) as connection:
        schema = pa.schema([("page", kind)]).serialize().to_pybytes()
        connection.execute("UPDATE logs SET arrow_schema = ? WHERE name = 'clicks'", [schema])
    with jl.open(folder) as ws, pytest.raises(jl.TableDamaged):
        ws.topics.replay("clicks", where="page = 'home'")


def test_a_forged_schema_with_a_name_twice_is_shown(folder):
    with jl.open(folder) as ws:
        ws.topics.register("clicks", {"page": "string", "other": "string"})
        ws.topics.publish("clicks", [{"page": "home", "other": "away"}])
    for name in ("page", "_offset"):
        with catalog(folder) as connection:
            fields = [("page", pa.string()), (name, pa.string())]
            schema = pa.schema(fields).serialize().to_pybytes()
            connection.execute("UPDATE logs SET arrow_schema = ? WHERE name = 'clicks'", [schema])
        with jl.open(folder) as ws:
            shown = str(ws.topics.tail("clicks"))
            assert "home" in shown and "away" in shown


def columns(*fields):
    return pa.schema([*fields]).serialize().to_pybytes()


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("key_columns", "[]"),
        ("key_columns", '["nope"]'),
        ("key_columns", '["ID"]'),
        ("key_columns", '["id", "id"]'),
        ("arrow_schema", columns(("id", pa.list_(pa.int64())), ("label", pa.string()))),
        ("arrow_schema", columns(("id", pa.float64()), ("label", pa.string()))),
        ("arrow_schema", columns(("id", pa.int64()), ("label", pa.string_view()))),
        ("arrow_schema", columns(("id", pa.int64()), ("label", pa.float16()))),
        ("arrow_schema", columns(("id", pa.int64()), ("id", pa.int64()))),
        ("arrow_schema", columns()),
        ("next_position", 2**63 - 1),
        ("first_position", -(2**63)),
    ],
)
def test_a_record_that_no_call_writes_is_damage(folder, column, value):
    with catalog(folder) as connection:
        connection.execute(f"UPDATE logs SET {column} = ?", [value])
    with jl.open(folder) as ws:
        for read in (
            lambda: ws.mutable["labels"].read(),
            lambda: ws.mutable["labels"].changes(0),
            lambda: ws.mutable["labels"].insert([{"id": 9}]),
            lambda: ws.sql("SELECT * FROM mutable.labels").fetchall(),
        ):
            with pytest.raises(jl.TableDamaged):
                read()
