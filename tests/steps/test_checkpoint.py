"""The file to which a run appends what it computed."""

import hashlib
import os
import struct
from pathlib import Path

import pyarrow as pa
import pytest

from jammi_lab.steps.checkpoint import Checkpoint, remove_checkpoints_of_table

PARTS = [pa.table({"n": range(start, start + 100)}) for start in (0, 100, 200)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "checkpoints" / "abc.log"


def save(path: Path, *parts: pa.Table) -> bool:
    checkpoint = Checkpoint(path)
    list(checkpoint.load())
    kept = [checkpoint.append(part) for part in parts]
    checkpoint.close()
    return all(kept)


def test_it_counts_up_to_the_damage_and_is_continued_there(path):
    save(path, *PARTS)
    whole = path.read_bytes()
    for at in range(0, len(whole), 7):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x10]) + whole[at + 1 :])
        loaded = list(Checkpoint(path).load())
        assert loaded == PARTS[: len(loaded)] and len(loaded) < 3
        path.write_bytes(whole[:at])
        assert list(Checkpoint(path).load()) == loaded
        assert save(path, *PARTS[len(loaded) :]) and list(Checkpoint(path).load()) == PARTS


@pytest.mark.skipif(os.name != "posix", reason="a file where a folder should be")
def test_what_cannot_be_saved_is_left(path):
    path.parent.write_text("in the way")
    assert not save(path, PARTS[0]) and list(Checkpoint(path).load()) == []


@pytest.mark.timeout(60)
@pytest.mark.parametrize("what", ["pipe", "device", "loop"])
def test_what_is_no_plain_file_counts_as_none_and_is_not_waited_for(path, what):
    path.parent.mkdir()
    if what == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero" if what == "device" else path.name)
    assert list(Checkpoint(path).load()) == [] and not save(path, PARTS[0])
    remove_checkpoints_of_table(path.parent.parent, 7)


@pytest.mark.parametrize(
    "header",
    [b"[]", b"null", b'"x"', b'{"tables": 5}', b'{"tables": "7"}', b"[" * 100_000, b"9" * 5000],
)
def test_a_forged_header_names_no_tables(path, header):
    path.parent.mkdir()
    digest = hashlib.sha256(header).digest()[:16]
    path.write_bytes(struct.pack("<I16s", len(header), digest) + header)
    remove_checkpoints_of_table(path.parent.parent, 7)
    assert path.exists()


@pytest.mark.parametrize("what", ["file", "link"])
def test_nothing_is_removed_by_way_of_what_is_in_the_place_of_the_folder(tmp_path, path, what):
    beyond = tmp_path / "beyond" / "abc.log"
    checkpoint = Checkpoint(beyond, [7])
    checkpoint.append(PARTS[0])
    checkpoint.close()
    if what == "file":
        path.parent.write_text("in the way")
    else:
        path.parent.symlink_to(beyond.parent)
    remove_checkpoints_of_table(tmp_path, 7)
    assert beyond.exists()
