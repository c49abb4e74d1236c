"""The way by which a path leads to a file tells of what was replaced and put back."""

import os
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from jammi_lab.sources.databases.database_file import DatabaseFileConnector
from jammi_lab.sources.files.file_sets import stat_file
from jammi_lab.storage.files import route_of, stat_of


def _swap_links(folder: Path) -> None:
    for target in ("b", "a"):
        os.symlink(target, folder / "new")
        os.replace(folder / "new", folder / "link")


def _swap_folders(folder: Path) -> None:
    for first, second in (("a", "c"), ("b", "a"), ("a", "b"), ("c", "a")):
        os.rename(folder / first, folder / second)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a", "b"):
        (tmp_path / name / "sub").mkdir(parents=True)
        (tmp_path / name / "sub" / "x").write_text(name)
    os.symlink("a", tmp_path / "link")
    os.symlink(tmp_path / "link", tmp_path / "far")
    time.sleep(0.02)  # more than the resolution of the file system's times
    return tmp_path


@pytest.mark.parametrize("name", ["link", "far"])
@pytest.mark.parametrize("swap", [_swap_links, _swap_folders])
def test_there_and_back_is_seen(folder, name, swap):
    path = folder / name / "sub" / "x"
    before, stat = route_of(str(path)), os.stat(path)
    swap(folder)
    assert os.stat(path) == stat and path.read_text() == "a"
    assert route_of(str(path)) != before


@pytest.mark.parametrize("was_copied", [True, False])
def test_other_files_beside_it_do_not_matter(folder, was_copied):
    path = folder / "far" / "sub" / "x"
    if was_copied:  # then the two times of a folder differ
        (folder / "a" / "sub").chmod(0o711)
    before = route_of(str(path))
    (folder / "a" / "sub" / "y").write_text("y")
    (folder / "z").write_text("z")
    assert route_of(str(path)) == before


def test_a_circle_of_links_and_a_missing_file_are_errors(folder):
    os.symlink("one", folder / "two")
    os.symlink("two", folder / "one")
    for name in ("one", "absent/x"):
        with pytest.raises(OSError, match=name.split("/", maxsplit=1)[0]):
            route_of(str(folder / name))


def test_the_states_of_files_and_databases_rest_on_the_way_to_them(folder):
    path = str(folder / "far" / "sub" / "x")
    database: Any = SimpleNamespace(path=path)

    def states() -> tuple[object, object]:
        return stat_file(path, "x"), DatabaseFileConnector._change_token(database, (stat_of(path),))

    before, now = states(), states()
    assert before == now
    _swap_links(folder)
    after = states()
    assert after[0] != before[0] and after[1] != before[1]
