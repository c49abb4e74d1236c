"""When a stat may stand for the bytes of a result table."""

import json
import os

import msgspec
import pytest

import jammi_lab as jl
from jammi_lab.core.errors import TableDamaged
from jammi_lab.core.records import TableRecord, TableStatus
from jammi_lab.core.verdicts import Damaged
from jammi_lab.storage import digests
from jammi_lab.storage.files import stat_of
from jammi_lab.store import manifests
from jammi_lab.store import result_files as module
from jammi_lab.store.manifests import manifest_path
from jammi_lab.store.result_files import ResultFiles
from tests.store.conftest import VENUES
from tests.store.lab import catalog

SECOND = 10**9
GOOD = "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae"  # of b"foo"


class Store(dict):
    def put(self, key, entry):
        self[key] = entry

    def save(self):
        """It is kept as long as it is wanted here."""


class Now:
    """A clock that stands where it is set, relative to a file's last change."""

    def __init__(self):
        self.ns = 0

    def now_ns(self):
        return self.ns


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Results over one published file, and the files that were read."""
    folder = tmp_path / "results" / "_global"
    folder.mkdir(parents=True)
    (folder / "t.parquet").write_bytes(b"foo")
    hashed = []
    read = digests.read_regular
    for reader in (digests, manifests):
        monkeypatch.setattr(
            reader, "read_regular", lambda path, *a, **k: hashed.append(path) or read(path, *a, **k)
        )
    results = ResultFiles(tmp_path, Store(), Now(), 2.0)
    record = TableRecord(
        table_name="t",
        kind="sql",
        status=TableStatus.READY,
        recipe="t",
        version=1,
        path="results/_global/t.parquet",
        digest=GOOD,
    )
    return results, record, folder / "t.parquet", hashed


def later(results, path, seconds):
    stat = stat_of(path)
    results.clock.ns = max(stat.mtime_ns, stat.ctime_ns) + int(seconds * SECOND)


@pytest.mark.parametrize(("seconds", "times"), [(10, 1), (1, 2)])
def test_a_file_is_hashed_again_within_the_clocks_grain_of_its_last_change_alone(
    place, seconds, times
):
    results, record, path, hashed = place
    later(results, path, seconds)
    assert (
        results.find_damage(record) is None
        and results.find_damage(record) is None
        and len(hashed) == times
    )


def test_the_same_size_and_a_restored_mtime_do_not_fool_it(place):
    results, record, path, _ = place
    os.utime(path, ns=(SECOND, SECOND))
    later(results, path, 10)
    assert results.find_damage(record) is None
    path.write_bytes(b"fop")
    os.utime(path, ns=(SECOND, SECOND))
    later(results, path, 10)
    assert results.find_damage(record) is not None


def test_a_table_from_before_digests_is_taken_as_it_is(place):
    results, record, _, _ = place
    assert results.find_damage(msgspec.structs.replace(record, digest=None)) is None


@pytest.mark.parametrize(
    "leads", ["../t.parquet", "/etc/passwd", "results/../../x", "", "results/_global/link"]
)
def test_a_row_that_leads_out_of_the_workspace_is_damaged(place, leads, tmp_path):
    results, record, path, _ = place
    (path.parent / "link").symlink_to("/etc/passwd")
    with pytest.raises(TableDamaged):
        results.require_intact(msgspec.structs.replace(record, path=leads))


def test_a_table_that_cannot_be_read_is_typed_and_not_reusable(place, monkeypatch):
    results, record, _, _ = place

    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(module, "sha256_file", refuse)
    with pytest.raises(TableDamaged) as caught:
        results.require_intact(record)
    assert "Permission denied" in caught.value.message and not results.is_intact(record)


@pytest.mark.parametrize("name", ["t.parquet", "t.materialization.json"])
def test_a_file_of_holes_is_not_hashed(place, monkeypatch, name):
    """A sparse file of a terabyte kept a status busy for minutes."""
    results, record, path, _ = place
    record = msgspec.structs.replace(record, bytes=1 << 40, manifest_digest="0")
    path.with_name(name).touch()
    os.truncate(path.with_name(name), 1 << 40)
    monkeypatch.setattr(digests, "sha256_stream", lambda *_: pytest.fail("it was hashed"))
    if name == "t.parquet":
        assert results.find_damage(record) == Damaged(found=None)
    assert results.find_manifest_damage(record) is None


def test_clearing_a_table_leaves_its_neighbours(place):
    _, _, path, _ = place
    mine = [
        "t.parquet",
        "t.materialization.json",
        ".t.parquet.00ff.tmp",
        ".t.materialization.json.00ff.tmp",
    ]
    others = [
        "tt.parquet",
        ".tt.parquet.00ff.tmp",
        "t.parquet.bak",
        ".t.parquet",
        "t2.materialization.json",
        ".other.t.parquet.00ff.tmp",
    ]
    for name in mine + others:
        (path.parent / name).write_bytes(b"")
    module.remove_table_files(path)
    module.remove_table_files(path)
    assert sorted(p.name for p in path.parent.iterdir()) == sorted(others)


def test_a_manifest_seen_within_the_clocks_grain_of_its_last_change_is_read_again(place):
    results, record, path, read = place
    manifest_path(path).write_bytes(b"{}")
    record = msgspec.structs.replace(record, manifest_digest=manifests.digest(b"{}"))
    later(results, manifest_path(path), 10)
    assert results.find_damage(record) is None
    for seconds, times in ((1, 1), (1, 2), (10, 3), (10, 3)):
        later(results, manifest_path(path), seconds)
        results.find_manifest_damage(record)
        assert len([p for p in read if str(p).endswith(".json")]) == times


@pytest.mark.parametrize(
    "kind",
    [
        "VARCHAR); COPY (SELECT 42) TO 'taken.csv'; CREATE TABLE z(a INT",
        "VARCHAR, n BIGINT",
        "VARCHAR DEFAULT (1)",
        "",
    ],
)
def test_a_column_of_a_type_that_is_none_makes_its_table_a_damaged_one_which_is_made_again(
    lab, folder, kind, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    table = lab.materialize("venues", VENUES)
    with catalog(folder) as db:
        columns = [
            {"name": "venue", "type": kind, "digest": ""},
            {"name": "n", "type": "BIGINT", "digest": ""},
        ]
        db.execute(
            "UPDATE result_tables SET columns = ? WHERE table_name = ?",
            [json.dumps(columns), table.table_name],
        )
    for ask in (lambda: lab.sql("SELECT * FROM jammi.venues"), lambda: lab.table("venues").read()):
        with pytest.raises(TableDamaged, match="other columns") as caught:
            ask()
        assert caught.value.table == table.table_name
    assert not (tmp_path / "taken.csv").exists()
    assert (
        lab.materialize("venues", VENUES).outcome == "computed"
        and lab.sql("SELECT * FROM jammi.venues").arrow().num_rows == 2
    )


def test_a_link_in_a_tables_place_is_damage_by_every_surface(lab, folder, tmp_path):
    table = lab.materialize("venues", VENUES)
    lab.materialize("top", "SELECT venue FROM jammi.venues")
    path = table.path
    os.rename(path, tmp_path / "elsewhere.parquet")
    path.symlink_to(tmp_path / "elsewhere.parquet")
    assert lab.staleness("venues") == Damaged(found=None) and [
        step.name for step in lab.plan().certain
    ] == ["venues"]
    with pytest.raises(TableDamaged):
        table.read().fetchall()
    lab.recompute("venues")
    assert (
        lab.sql("SELECT count(*) FROM jammi.venues").fetchall() == [(2,)]
        and str(lab.staleness("top")) == "fresh"
    )


@pytest.mark.parametrize("read_only", [False, True])
def test_a_results_folder_that_is_a_link_is_said_when_the_workspace_is_opened(
    lab, folder, tmp_path, read_only
):
    lab.materialize("venues", VENUES)
    lab.close()
    os.rename(folder / "results", tmp_path / "large disk")
    (folder / "results").symlink_to(tmp_path / "large disk")
    with pytest.raises(jl.WorkspaceReadOnly, match="must be a folder and no link"):
        jl.open(folder, read_only=read_only)
    (tmp_path / "by a link").symlink_to(folder)
    (folder / "results").unlink()
    os.rename(tmp_path / "large disk", folder / "results")
    with jl.open(tmp_path / "by a link", read_only=read_only) as again:
        assert again.table("venues").read().fetchall()


def test_damaged_rows_from_outside_are_to_be_handed_in_again(lab):
    import pandas as pd

    lab.register("given", pd.DataFrame({"x": [1]}), producer="nightly").path.unlink()
    lab.materialize("made", "SELECT 1 AS x").path.unlink()
    hints = {}
    for name in ("given", "made"):
        with pytest.raises(TableDamaged) as caught:
            lab.table(name).read()
        hints[name] = caught.value.hint
    assert hints["given"].startswith(
        "Its rows were computed elsewhere: pass them again with ws.register('given', frame, …); "
    )
    assert hints["made"].startswith("ws.recompute('made') rebuilds its newest version; ")
