"""Delta tables as sources, written by deltalake."""

import json
import os
import shutil
import string
import struct
import sys
import time

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake

from jammi_lab.core.anchors import Unknown, source_input
from jammi_lab.core.errors import ExtensionMissing, InvalidArgument, SourceUnavailable
from jammi_lab.core.records import SourceRecord
from jammi_lab.sources.lakehouse.delta import DeltaConnector
from jammi_lab.sources.scratch_duckdb import query
from tests.contracts.source import look, observed
from tests.sources.kinds import lettered as table
from tests.sources.test_schema_evolution import field, write_log
from tests.verdicts import is_fresh, is_stale


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "events"
    write_deltalake(path, table([1, 2, 3]))
    return path


def source(path, name="s", **how):
    return DeltaConnector(SourceRecord(name=name, kind="delta", location=str(path), **how))


def same_rows(path, columns=None, **how):
    """What the connector says of the rows of the first version against those of now."""
    first = observed(source(path, options={"version": 0}))
    recorded = first.anchor(source_input("s"), columns)
    return source(path).same_rows(recorded, look(**how))


class TestSnapshots:
    def test_what_was_read_is_recorded_though_the_table_moves_meanwhile(
        self, ws, folder, monkeypatch
    ):
        ws.sources.add("s", folder)
        versions = iter(range(4, 9))
        real = DeltaConnector.relation

        def relation(self, name):
            made = real(self, name)
            write_deltalake(folder, table([next(versions)]), mode="append")
            return made

        monkeypatch.setattr(DeltaConnector, "relation", relation)
        ws.materialize("t", "SELECT count(*) AS n FROM s")
        monkeypatch.undo()
        [anchor] = ws.table("t").manifest.anchors
        assert anchor.pinned and ws.sql("SELECT n FROM jammi.t").fetchall() == [
            (3 + anchor.version,)
        ]
        assert is_stale(ws)

    def test_a_version_that_was_asked_for_never_moves(self, ws, folder):
        write_deltalake(folder, table([4]), mode="append")
        ws.sources.add("old", folder, options={"version": 0})
        ws.materialize("t", "FROM old")
        write_deltalake(folder, table([5]), mode="append")
        assert ws.table("t").row_count == 3 and is_fresh(ws)
        for version in (9, -1):
            with pytest.raises(InvalidArgument, match=f"events has no version {version}"):
                ws.sources.add("other", folder, options={"version": version})
        with pytest.raises(InvalidArgument, match="Expected `int`"):
            ws.sources.add("other", folder, options={"version": "new"})


class TestSameRows:
    """A version that moved says nothing of the rows: those of the files that one version has and
    the other has not are compared."""

    def test_a_row_that_is_there_twice_is_not_there_once(self, tmp_path):
        write_deltalake(tmp_path / "d", table([1, 1, 2]))
        write_deltalake(tmp_path / "d", table([1, 2, 2]), mode="overwrite")
        assert same_rows(tmp_path / "d") is False

    @pytest.mark.parametrize(
        ("one", "other"), [(0.0, -0.0), (None, float("nan")), (1.0, 1.0000000000000002)]
    )
    def test_floats_that_look_alike_are_told_apart(self, tmp_path, one, other):
        def rows(*values):
            return pa.table(
                {
                    "x": pa.array(values, pa.float64()),
                    "l": pa.array([[v] for v in values], pa.list_(pa.float64())),
                }
            )

        write_deltalake(tmp_path / "d", rows(one, 5.0))
        write_deltalake(tmp_path / "d", rows(5.0, one), mode="overwrite")
        assert same_rows(tmp_path / "d") is True
        write_deltalake(tmp_path / "d", rows(5.0, other), mode="overwrite")
        assert (same_rows(tmp_path / "d", ("x",)), same_rows(tmp_path / "d", ("l",))) == (
            False,
            False,
        )

    def test_partition_values_count(self, tmp_path):
        path = tmp_path / "d"
        write_deltalake(path, table([1, 2], ["a b", "c%d"]), partition_by=["name"])
        DeltaTable(path).update({"name": "name"})
        assert same_rows(path) is True
        DeltaTable(path).update({"name": "'z'"}, predicate="id = 1")
        assert (same_rows(path), same_rows(path, ("id",))) == (False, True)

    def test_the_rows_of_files_that_both_have_are_not_read(self, folder):
        [common] = folder.glob("*.parquet")
        write_deltalake(folder, table([4]), mode="append")
        DeltaTable(folder).update({"name": "'z'"}, predicate="id = 4")
        whole = common.read_bytes()
        footer = len(whole) - 8 - int.from_bytes(whole[-8:-4], "little")
        common.write_bytes(whole[:4] + b"\xff" * (footer - 4) + whole[footer:])
        recorded = observed(source(folder, options={"version": 1})).anchor(
            source_input("s"), ("id",)
        )
        with pytest.raises(duckdb.Error):
            query(source(folder).relation(None), "SELECT count(name) FROM it WHERE name <> 'q'")
        connector = source(folder)
        assert connector.same_rows(recorded, look(scan_rows=2)) is True

    def test_what_cannot_be_compared_any_more_has_moved(self, folder):
        recorded = observed(source(folder)).anchor(source_input("s"), ("id",))
        DeltaTable(folder).update({"name": "name"})
        assert source(folder).same_rows(recorded, look()) is True
        DeltaTable(folder).vacuum(
            retention_hours=0, dry_run=False, enforce_retention_duration=False
        )
        assert source(folder).same_rows(recorded, look()) is False


class TestDeletionVectors:
    def test_rows_that_a_vector_deletes_are_not_read_and_its_file_is_compared(self, folder):
        relation = source(folder).relation(None)
        delete_by_vector(folder, 1)
        assert query(source(folder).relation(None), "SELECT id FROM it ORDER BY id") == [(1,), (3,)]
        assert query(relation, "SELECT count(*) FROM it") == [(3,)]
        assert (same_rows(folder), same_rows(folder, ())) == (False, False)

    def test_another_vector_of_the_same_length_is_seen(self, folder):
        delete_by_vector(folder, 1)
        recorded = observed(source(folder)).anchor(source_input("s"))
        delete_by_vector(folder, 2)
        connector = source(folder)
        assert query(connector.relation(None), "SELECT id FROM it ORDER BY id") == [(1,), (2,)]
        assert connector.same_rows(recorded, look()) is False


class TestColumnMapping:
    def write(self, folder, mapping, *columns, files=()):
        """`columns`: names with their numbers, which are those of the files."""
        kinds = {1: "long", 2: "string", 3: "string"}
        fields = [
            field(name, kinds[number], number=number, physical=f"p{number}")
            for number, name in columns
        ]
        write_log(folder, files, fields, ["columnMapping"], mapping)

    def test_a_renamed_column_moves_the_anchor(self, ws, tmp_path):
        files = [{"p1": [1, 2, 3], "p2": ["a", "b", "c"]}]
        self.write(tmp_path / "d", "name", (1, "id"), (2, "name"), files=files)
        ws.sources.add("s", tmp_path / "d")
        ws.materialize("ids", "SELECT id FROM s")
        ws.materialize("names", "SELECT name FROM s")
        assert ws.sql("SELECT id FROM s WHERE name = 'b'").fetchall() == [(2,)]
        self.write(tmp_path / "d", "name", (1, "id"), (2, "label"), (3, "name"))
        assert ws.sql("SELECT label, name FROM s WHERE id = 2").fetchall() == [("b", None)]
        assert is_fresh(ws, "ids") and is_stale(ws, "names")

    def test_columns_that_are_found_by_their_numbers_are_refused(self, tmp_path):
        """DuckDB looks for names alone, and would give NULL."""
        self.write(tmp_path / "d", "id", (1, "id"), files=[{"p1": [1]}])
        with pytest.raises(SourceUnavailable, match="maps its columns by id") as caught:
            source(tmp_path / "d").check()
        assert "set the mode to name" in caught.value.hint
        state = observed(source(tmp_path / "d"))
        assert isinstance(state, Unknown) and "by id" in state.why


def delete_by_vector(folder, row):
    """A commit that deletes one row of the only file by an inline vector, as the protocol describes
    it: deltalake writes none itself."""
    log = folder / "_delta_log"
    commits = sorted(log.glob("*.json"))
    actions = [json.loads(line) for line in commits[0].read_text().splitlines()]
    add = next(action["add"] for action in actions if "add" in action)
    bitmap = (
        struct.pack("<II", 12346, 1)
        + struct.pack("<HH", 0, 0)
        + struct.pack("<I", 16)
        + struct.pack("<H", row)
    )
    raw = struct.pack("<I", 1681511377) + struct.pack("<Q", 1) + struct.pack("<I", 0) + bitmap
    vector = {
        "storageType": "i",
        "pathOrInlineDv": z85(raw + b"\0" * (-len(raw) % 4)),
        "sizeInBytes": len(raw),
        "cardinality": 1,
    }
    remove = {
        "path": add["path"],
        "dataChange": True,
        "deletionTimestamp": 0,
        "extendedFileMetadata": True,
        "size": add["size"],
        "partitionValues": {},
    }
    former = [json.loads(line) for line in commits[-1].read_text().splitlines()]
    old = next((action["add"].get("deletionVector") for action in former if "add" in action), None)
    features = {
        "minReaderVersion": 3,
        "minWriterVersion": 7,
        "readerFeatures": ["deletionVectors"],
        "writerFeatures": ["deletionVectors"],
    }
    new = [
        {"protocol": features},
        {"remove": {**remove, **({"deletionVector": old} if old else {})}},
        {"add": {**add, "deletionVector": vector}},  # its statistics count deleted rows, too
    ]
    (log / f"{len(commits):020}.json").write_text("\n".join(map(json.dumps, new)) + "\n")


def z85(raw):
    digits = (
        string.digits + string.ascii_lowercase + string.ascii_uppercase + ".-:+=^!/*?&<>()[]{}@%$#"
    )
    words = [int.from_bytes(raw[at : at + 4], "big") for at in range(0, len(raw), 4)]
    return "".join(digits[word // 85**place % 85] for word in words for place in (4, 3, 2, 1, 0))


class TestFailures:
    @pytest.mark.parametrize("relative", [False, True])
    def test_a_log_that_names_files_of_the_workspace_is_refused(self, ws, folder, relative):
        """They hold every tenant's rows, and whoever writes a table's log decides which files it
        names."""
        own = str(ws.materialize("private", "SELECT 42 AS id, 'x' AS name").path)
        ws.sources.add("s", folder)
        [commit], [mine] = (folder / "_delta_log").glob("*.json"), folder.glob("*.parquet")
        [added] = [line for line in commit.read_text().splitlines() if '"add"' in line]
        named = added.replace(mine.name, os.path.relpath(own, folder) if relative else own)
        commit.with_name(f"{1:020}.json").write_text(named + "\n")
        for act in (lambda: ws.sql("FROM s"), lambda: ws.sources.add("t", folder)):
            with pytest.raises(InvalidArgument, match="belongs to the workspace itself"):
                act()

    def test_a_folder_without_a_log_is_no_table(self, tmp_path):
        (tmp_path / "plain").mkdir()
        with pytest.raises(SourceUnavailable, match="contains no Delta table"):
            source(tmp_path / "plain").check()
        with pytest.raises(SourceUnavailable, match="There is no file 'event'") as caught:
            source(tmp_path / "event").check()
        assert caught.value.hint == "The folder has plain."

    @pytest.mark.parametrize("harm", ["empty", "removed"])
    def test_a_log_without_its_first_commit_is_undecidable(self, folder, harm):
        [commit] = (folder / "_delta_log").glob("*.json")
        commit.unlink() if harm == "removed" else commit.write_bytes(b"")
        state = observed(source(folder))
        assert isinstance(state, Unknown)
        assert "log of the Delta table events cannot be read" in state.why

    def test_a_missing_part_is_named_with_its_extra(self, folder, monkeypatch):
        monkeypatch.setitem(sys.modules, "deltalake", None)
        with pytest.raises(ExtensionMissing) as caught:
            source(folder).relation(None)
        assert "jammi-lab[delta]" in caught.value.hint


def test_a_table_that_was_put_back_from_a_copy_and_written_again_is_another_one(
    ws, tmp_path, folder
):
    shutil.copytree(folder, tmp_path / "copy")
    write_deltalake(folder, table([4]), mode="append")
    ws.sources.add("events", folder)
    ws.materialize("t", "SELECT id FROM events")
    shutil.rmtree(folder)
    shutil.copytree(tmp_path / "copy", folder)
    write_deltalake(folder, table([5]), mode="append")
    assert ws.sources["events"].anchor().version == 1 == ws.table("t").manifest.anchors[0].version
    assert is_stale(ws)
    ws.recompute("t")
    assert ws.sql("SELECT max(id) FROM jammi.t").fetchall() == [(5,)] and is_fresh(ws)


def test_a_rewritten_file_that_later_versions_keep_is_no_equal_file(ws, folder):
    ws.sources.add("s", folder)
    ws.materialize("t", "SELECT sum(id) AS n FROM s")
    [file] = folder.glob("*.parquet")
    pq.write_table(table([1, 2, 2]), file)
    DeltaTable(folder).alter.set_table_properties({"delta.appendOnly": "false"})
    assert is_stale(ws)


def rewrite(file, rows):
    times = file.stat()
    pq.write_table(rows, file)
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))


def test_a_file_of_equal_rows_that_is_rewritten_afterwards_is_a_change(ws, folder):
    ws.sources.add("s", folder)
    ws.materialize("t", "SELECT id, count(*) AS n FROM s GROUP BY id")
    former = set(folder.glob("*.parquet"))
    write_deltalake(folder, table([3, 2, 1]), mode="overwrite")
    assert str(ws.staleness("t")) == "fresh, s has other bytes and equal rows"
    [file] = set(folder.glob("*.parquet")) - former
    rewrite(file, table([3, 2, 2]))
    assert is_stale(ws)
    rewrite(file, table([1, 3, 2]))
    assert is_fresh(ws)


def test_a_column_anchor_sees_a_file_that_is_rewritten(ws, folder):
    ws.sources.add("s", folder, anchor="column:id")
    ws.materialize("t", "SELECT sum(id) AS n FROM s")
    assert is_fresh(ws)
    [file] = folder.glob("*.parquet")
    rewrite(file, table([1, 2, 2]))
    assert is_stale(ws)


def test_rewritten_files_are_read_within_the_bounds_of_a_look(folder):
    [file] = folder.glob("*.parquet")
    os.utime(file, (time.time() + 1, time.time() + 1))
    found = observed(source(folder), scan_bytes=10)
    assert isinstance(found, Unknown) and "would scan" in str(found)
    assert not isinstance(observed(source(folder)), Unknown)


def test_a_data_file_that_is_touched_is_a_change_once(ws, folder):
    ws.sources.add("s", folder)
    ws.materialize("t", "SELECT sum(id) AS n FROM s")
    [file] = folder.glob("*.parquet")
    later = file.stat().st_mtime_ns + 5_000_000_000
    os.utime(file, ns=(later, later))
    assert is_stale(ws)
    ws.recompute("t")
    os.utime(file, ns=(later + 9, later + 9))
    assert is_fresh(ws)
