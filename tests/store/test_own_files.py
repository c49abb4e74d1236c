"""Own files and folders, each place by itself: a link in it leads nowhere."""

import os
import struct
from pathlib import Path

import pytest

import jammi_lab as jl
from jammi_lab.storage.files import make_folder, move_file, remove_file
from jammi_lab.workspace import copy


def test_a_journal_that_has_sqlite_delete_another_file_is_refused(tmp_path):
    """A journal of several databases ends with the name of the file that lists them, which the last
    of them deletes after its rollback."""
    with jl.open(tmp_path / "lab") as ws:
        ws.materialize("t", "SELECT 42 AS n")
    victim, catalog = tmp_path / "victim", tmp_path / "lab" / "catalog.sqlite3"
    victim.write_text("precious")
    magic, name = bytes.fromhex("d9d505f920a163d7"), os.fsencode(victim)
    head = struct.pack(">5I", 0, 0, catalog.stat().st_size // 4096, 512, 4096)
    page_of_locks = (1 << 30) // 4096 + 1
    tail = struct.pack(">II", len(name), sum(name)) + magic
    Path(f"{catalog}-journal").write_bytes(
        (magic + head).ljust(512, b"\0") + struct.pack(">I", page_of_locks) + name + tail
    )
    for read_only in (True, False):
        with pytest.raises(jl.WorkspaceNotFound, match="-journal names another file"):
            jl.open(tmp_path / "lab", read_only=read_only)
    jl.rebuild(tmp_path / "lab")
    with jl.open(tmp_path / "lab") as ws:
        assert ws.sql("FROM jammi.t").fetchall() == [(42,)]
    assert victim.read_text() == "precious"


def test_no_file_is_moved_or_removed_in_a_folder_that_is_a_link(tmp_path):
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "x").write_text("precious")
    (tmp_path / "x").write_text("own")
    (tmp_path / "link").symlink_to("foreign")
    for act in (
        lambda: move_file(tmp_path / "x", tmp_path / "link"),
        lambda: remove_file(tmp_path / "link" / "x"),
        lambda: make_folder(tmp_path / "link"),
    ):
        with pytest.raises(NotADirectoryError):
            act()
    assert (tmp_path / "foreign" / "x").read_text() == "precious"
    assert (tmp_path / "x").read_text() == "own"


def test_a_copy_names_the_file_that_it_cannot_read(tmp_path, monkeypatch):
    def deny(file: Path) -> None:
        raise PermissionError(13, "Permission denied", str(file))

    with jl.open(tmp_path / "lab") as ws:
        parquet = ws.materialize("t", "SELECT 1 AS a").path
        monkeypatch.setattr(copy, "open_for_reading", deny)
        with pytest.raises(jl.SourceUnavailable) as caught:
            copy.copy_workspace(ws, tmp_path / "copy")
    assert caught.value.message == f"'{parquet}' cannot be read: Permission denied."
    assert not (tmp_path / "copy").exists()


def test_a_folder_name_that_is_too_long_is_said_to_be(tmp_path):
    with pytest.raises(jl.InvalidArgument) as caught:
        jl.open(tmp_path / ("x" * 300))
    assert caught.value.hint == "Choose a shorter name."


def test_the_next_backup_or_export_removes_what_a_killed_one_left(tmp_path):
    with jl.open(tmp_path / "lab") as ws:
        table = ws.materialize("t", "SELECT 1 AS n")
        for name, write in (("b.sqlite3", ws.backup), ("t.csv", table.export)):
            (tmp_path / f".{name}.0a1b2c3d.tmp").write_bytes(b"half a copy")
            (tmp_path / f".{name}.0a1b2c3d.tmp-journal").write_bytes(b"its journal")
            (tmp_path / f".{name}.mine.tmp").write_bytes(b"not ours")
            write(tmp_path / name)
    assert sorted(path.name for path in tmp_path.glob(".*")) == [
        ".b.sqlite3.mine.tmp",
        ".t.csv.mine.tmp",
    ]
