"""What DuckDB puts on disk goes with its kernel, however that ends."""

from pathlib import Path

from jammi_lab.storage import spill_folders as spills


def test_what_is_no_folder_of_ours_is_left_alone(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "kept").write_text("kept")
    (tmp_path / "jammi-spill-held-1-link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "jammi-spill-held-1-file").write_text("kept")
    (tmp_path / "other").mkdir()
    spills.remove_abandoned_folders(tmp_path)
    spills.remove_abandoned_folders(tmp_path / "not there")
    assert (tmp_path / "elsewhere" / "kept").read_text() == "kept"
    assert {path.name for path in tmp_path.iterdir()} == {
        "elsewhere",
        "other",
        "jammi-spill-held-1-link",
        "jammi-spill-held-1-file",
    }


def test_one_that_somebody_removes_before_it_is_locked_is_made_again(tmp_path, monkeypatch):
    taken, gone = spills.lock_folder, []

    def late(folder: Path) -> int:
        if not gone:
            gone.append(folder)
            folder.rmdir()
        return taken(folder)

    monkeypatch.setattr(spills, "lock_folder", late)
    spill = spills.SpillFolder(tmp_path)
    assert spill.folder != gone[0] and spill.folder.is_dir()
    spills.remove_abandoned_folders(tmp_path)
    assert spill.folder.is_dir()
    spill.remove()
    spill.remove()
    assert list(tmp_path.iterdir()) == []
