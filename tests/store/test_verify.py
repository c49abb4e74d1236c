"""What `verify`, the verdict and a read say of bytes and manifests that are not as published."""

import errno
import os

import pytest

from jammi_lab.core.errors import ResourceExhausted, TableDamaged
from jammi_lab.core.verdicts import (
    Damaged,
    Fresh,
    Match,
    MatchWithUnpinnedInputs,
    Mismatch,
    MissingBytes,
    MissingManifest,
)
from jammi_lab.storage.parquet import ParquetSink
from jammi_lab.store import manifests
from tests.store.conftest import VENUES
from tests.store.lab import everything, flip


@pytest.mark.parametrize("at", [0, 100, None, -1], ids=["first", "early", "middle", "last"])
def test_one_flipped_bit_is_a_mismatch_damaged_and_not_read(lab, table, at):
    published = table.manifest.artifact.digest
    flip(table.path, at)
    found = lab.verify("venues")
    assert (
        isinstance(found, Mismatch)
        and found.what == "bytes"
        and found.expected == published != found.found
    )
    assert lab.staleness("venues") == Damaged(found=found.found)
    assert table.path.exists()
    for read in (table.read, lambda: lab.sql("FROM jammi.venues"), table.scan):
        with pytest.raises(TableDamaged) as caught:
            read()
        assert "venues" in caught.value.message


@pytest.mark.timeout(60)
@pytest.mark.parametrize("put", [str, os.mkdir, os.mkfifo], ids=["nothing", "folder", "pipe"])
def test_what_is_no_file_in_a_files_place_is_missing_bytes_and_nobody_waits_for_it(lab, table, put):
    path = table.path
    path.unlink()
    put(path)
    assert lab.staleness("venues") == Damaged(found=None) and lab.verify("venues") == MissingBytes()
    with pytest.raises(TableDamaged):
        table.read()
    assert [step.name for step in lab.plan().certain] == ["venues"] and lab.lookup(VENUES) is None
    for report in (lab.fsck(), lab.fsck(deep=True), lab.recover()):
        assert report.missing == [table.table_name] and not report.errors


def test_a_manifest_that_may_not_be_read_is_said_in_words(lab, table, monkeypatch):
    def refused(*_, **__):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(manifests, "read_regular", refused)
    with pytest.raises(
        TableDamaged, match=r"The manifest of 'papers__.*' cannot be read: Permission denied"
    ) as raised:
        lab.verify("venues")
    assert raised.value.table == table.table_name and "read permission" in raised.value.hint


def test_a_lost_manifest_is_said_before_lost_bytes(lab, table):
    path = table.path
    manifests.manifest_path(path).unlink()
    path.unlink()
    assert lab.verify("venues") == MissingManifest()


def test_unpinned_inputs_are_listed_by_a_match_and_what_is_wrong_is_said_before(lab):
    table = lab.materialize("noisy", "SELECT id, random() AS r FROM papers")
    found = lab.verify("noisy")
    assert isinstance(found, MatchWithUnpinnedInputs) and [
        a.input.name for a in found.unpinned
    ] == ["random()"]
    assert lab.verify("noisy", "0" * 64) == Mismatch("0" * 64, table.definition_hash, "definition")
    flip(table.path)
    assert lab.verify("noisy").what == "bytes"


def test_verify_and_staleness_change_no_file_and_no_row(lab, table, folder):
    manifests.manifest_path(table.path).unlink()
    flip(table.path)
    before = everything(folder)
    lab.verify("venues"), lab.staleness("venues"), lab.status(deep=True), lab.plan()
    assert everything(folder) == before


def test_a_touched_table_is_still_fresh(lab, table):
    table.path.touch()
    assert isinstance(lab.staleness("venues"), Fresh) and lab.verify("venues") == Match()


def test_a_disk_that_is_full_for_what_is_computed_again_is_a_typed_error(lab, table, monkeypatch):
    def fill(self, *_):
        raise OSError(errno.ENOSPC, "Error writing bytes to file")

    monkeypatch.setattr(ParquetSink, "close", fill)
    with pytest.raises(ResourceExhausted, match="No space is left for the files of"):
        table.verify(recompute=True)
