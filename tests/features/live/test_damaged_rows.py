"""A bit that flips in the log of a mutable table is told, wherever it flips."""

import pytest

import jammi_lab as jl
from jammi_lab.catalog.logs import entries_table
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
