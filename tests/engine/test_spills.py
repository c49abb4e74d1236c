"""What DuckDB puts on disk goes with its kernel, however that ends."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from jammi_lab.storage import spill_folders as spills
from tests import processes
from tests.conftest import PACKAGE_ROOTS
from tests.engine.shelf import engine_of

HOLDER = """
import sys, pathlib
from jammi_lab.storage.spill_folders import SpillFolder
spill = SpillFolder(pathlib.Path(sys.argv[1]))
(spill.folder / "duckdb_temp_storage_DEFAULT-0.tmp").write_text("rows")
print(spill.folder.name, flush=True)
sys.stdin.read()
"""


@pytest.mark.only_soak
def test_what_a_killed_kernel_spilled_is_removed_by_the_next_one_and_a_living_one_keeps_its_own(
    shelf, tmp_path
):
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, PACKAGE_ROOTS))}
    command = [sys.executable, "-c", HOLDER, str(tmp_path / "spill")]
    killed, living = (
        processes.Popen(command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    )
    try:
        assert killed.stdout is not None and living.stdout is not None
        names = [each.stdout.readline().strip() for each in (killed, living)]
        killed.kill()
        killed.wait()
        engine = engine_of(shelf, tmp_path / "spill")
        engine.instances_of(None)
        assert {folder.name for folder in (tmp_path / "spill").iterdir()} >= {names[1]} and not (
            tmp_path / "spill" / names[0]
        ).exists()
        assert (
            tmp_path / "spill" / names[1] / "duckdb_temp_storage_DEFAULT-0.tmp"
        ).read_text() == "rows"
        engine.close()
        assert [folder.name for folder in (tmp_path / "spill").iterdir()] == [names[1]]
    finally:
        for each in (killed, living):
            each.kill()
            each.communicate()


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
