"""A bit that flips in a row of a mutable table is told, wherever it flips."""

import pytest

import jammi_lab as jl
from tests.store.lab import catalog

SCHEMA = {"id": "int64", "label": "string"}


@pytest.fixture
def folder(tmp_path):
    with jl.open(tmp_path / "lab") as ws:
        labels = ws.mutable.create("labels", SCHEMA, primary_key=["id"])
        labels.insert([{"id": 1, "label": "aaaa"}, {"id": 2, "label": "bbbb"}])
        words = ws.mutable.create("words", {"word": "string"}, primary_key=["word"])
        words.insert([{"word": "aaaa"}])
        ws.materialize("made", "SELECT * FROM mutable.labels")
        labels.upsert([{"id": 2, "label": "cccc"}])
        ws.recompute("made")
    return tmp_path / "lab"


def flip(folder, select, old, new):
    """Changes a stored value as a bit that flips would."""
    with catalog(folder) as connection:
        names = [
            name
            for (name,) in connection.execute("SELECT name FROM sqlite_master ORDER BY name")
            if name.startswith("mutable_") and name.endswith(select)
        ]
        for name in names:
            for key, body in connection.execute(f"SELECT * FROM {name}").fetchall():
                column = "version" if select == "changes" else "row_key"
                connection.execute(
                    f"UPDATE {name} SET body = ? WHERE {column} = ?", (body.replace(old, new), key)
                )


def test_a_flipped_bit_is_damage_for_every_reader(folder):
    flip(folder, "rows", b"aaaa", b"aaac")
    with jl.open(folder) as ws:
        for read in (
            ws.mutable["labels"].read,
            ws.mutable["words"].read,
            lambda: ws.sql("SELECT * FROM mutable.labels").fetchall(),
            lambda: ws.materialize("again", "SELECT label FROM mutable.labels"),
        ):
            with pytest.raises(jl.TableDamaged, match="checksum"):
                read()
        verdict = ws.status(deep=True)["made"].verdict
        assert isinstance(verdict, jl.Undecidable) and "the row 1 " in str(verdict)
        assert isinstance(ws.staleness("made"), jl.Undecidable)
        assert ws.fsck(deep=True).damaged == ["mutable.labels", "mutable.words"]
        assert ws.mutable["labels"].upsert([{"id": 1, "label": "aaaa"}]) == 1
        assert [row["label"] for row in ws.mutable["labels"].read().arrow().to_pylist()] == [
            "aaaa",
            "cccc",
        ]
        assert ws.fsck(deep=True).damaged == ["mutable.words"]


def test_every_bit_of_a_row_counts(folder):
    with catalog(folder) as connection:
        [name] = [
            name
            for (name,) in connection.execute("SELECT name FROM sqlite_master")
            if name.startswith("mutable_")
            and name.endswith("rows")
            and connection.execute(f"SELECT typeof(row_key) FROM {name}").fetchone() == ("integer",)
        ]
        [(body,)] = connection.execute(f"SELECT body FROM {name} WHERE row_key = 1").fetchall()
    with jl.open(folder) as ws:
        labels = ws.mutable["labels"]
        for bit in (*range(8), *range(9, 8 * len(body), 3)):
            changed = bytearray(body)
            changed[bit // 8] ^= 1 << bit % 8
            with catalog(folder) as connection:
                connection.execute(
                    f"UPDATE {name} SET body = ? WHERE row_key = 1", (bytes(changed),)
                )
            with pytest.raises(jl.TableDamaged):
                labels.changes(0)
            if bit < 8:  # of the mark that a checksum follows
                assert ws.fsck(deep=True).damaged == ["mutable.labels"]


def test_a_row_under_another_key_and_a_lost_row_are_damage(folder):
    with catalog(folder) as connection:
        names = [
            name
            for (name,) in connection.execute("SELECT name FROM sqlite_master")
            if name.startswith("mutable_") and name.endswith("rows")
        ]
        for name in names:
            connection.execute(f"UPDATE {name} SET row_key = 3 WHERE row_key = 1")
            connection.execute(f"DELETE FROM {name} WHERE typeof(row_key) = 'blob'")
    with jl.open(folder) as ws:
        with pytest.raises(jl.TableDamaged, match="the row 3 "):
            ws.mutable["labels"].read()
        with pytest.raises(jl.TableDamaged, match="0 of 1 rows"):
            ws.mutable["words"].read()


def test_a_flipped_bit_in_the_history_is_damage(folder):
    flip(folder, "changes", b"bbbb", b"bbbd")
    with jl.open(folder) as ws:
        assert len(ws.mutable["labels"].read()) == 2
        with pytest.raises(jl.TableDamaged, match="checksum"):
            ws.mutable["labels"].changes(0)


def test_a_row_that_is_put_back_to_its_earlier_state_is_not_noticed(folder):
    """A limit of the guarantee: the row has the checksum of that state."""
    query = "SELECT name FROM sqlite_master WHERE name LIKE 'mutable_%rows'"
    with jl.open(folder) as ws, catalog(folder) as connection:
        before = {
            name: connection.execute(f"SELECT row_key, body FROM {name}").fetchall()
            for (name,) in connection.execute(query)
        }
        ws.mutable["labels"].upsert([{"id": 2, "label": "dddd"}])
        ws.recompute()
    with catalog(folder) as connection:
        for name, rows in before.items():
            connection.executemany(
                f"UPDATE {name} SET body = ? WHERE row_key = ?", [(body, key) for key, body in rows]
            )
    with jl.open(folder) as ws:
        assert ws.mutable["labels"].read().arrow().column("label").to_pylist() == ["aaaa", "cccc"]
        assert ws.status(deep=True)["made"].verdict == jl.Fresh()
