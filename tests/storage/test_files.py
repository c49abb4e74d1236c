import contextlib
import os
import threading
from io import FileIO
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jammi_lab.core.errors import TableDamaged
from jammi_lab.storage import files
from jammi_lab.storage.files import (
    AtomicFile,
    BackgroundFsync,
    Stat,
    is_settled,
    make_folder,
    open_for_reading,
    remove_file,
    resolve_inside,
    stat_of,
    write_atomic,
    write_once,
)
from tests.cases.texts import ENCODABLE


class Crash(Exception):
    pass


@pytest.fixture
def fault(fault_hook):
    """Lets the process fail at one named point."""

    def at(name):
        def hook(passed):
            if passed == name:
                raise Crash(name)

        fault_hook(hook)

    return at


@pytest.fixture
def made(tmp_path):
    """A file with rows, which has no name yet."""
    file = AtomicFile(tmp_path / "made")
    file.temp.write_bytes(b"rows")
    return file


def commit(made, *before):
    """Name it together with a file beside it."""
    files.commit_with(made, made.temp.with_name("beside"), b"attested", *before)


def test_a_write_is_whole_and_leaves_no_temp_file(tmp_path):
    write_atomic(tmp_path / "a", b"one")
    write_atomic(tmp_path / "a", b"two")
    assert (tmp_path / "a").read_bytes() == b"two" and os.listdir(tmp_path) == ["a"]


@pytest.mark.parametrize("point", ["file.before_write", "file.before_fsync", "file.before_rename"])
def test_a_write_that_fails_before_its_rename_leaves_the_old_file_and_nothing_else(
    tmp_path, fault, point
):
    (tmp_path / "a").write_bytes(b"old")
    fault(point)
    with pytest.raises(Crash):
        write_atomic(tmp_path / "a", b"new")
    assert (tmp_path / "a").read_bytes() == b"old" and os.listdir(tmp_path) == ["a"]


def test_the_bytes_are_synced_before_the_name_and_the_folder_after_it(tmp_path, monkeypatch):
    calls = []
    sync, replace = os.fsync, os.replace
    monkeypatch.setattr(
        os,
        "fsync",
        lambda d: (
            calls.append("folder" if os.path.isdir(f"/proc/self/fd/{d}") else "file"),
            sync(d),
        ),
    )
    monkeypatch.setattr(os, "replace", lambda a, b: (calls.append("rename"), replace(a, b)))
    write_atomic(tmp_path / "a", b"x")
    assert calls == ["file", "rename", "folder"]


@pytest.mark.parametrize("which", ["made", "beside"])
@pytest.mark.parametrize("error", [OSError(5, "the disk is gone"), MemoryError()])
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_of_two_files_that_are_named_together_neither_is_when_one_cannot_be_synced(
    tmp_path, made, monkeypatch, which, error
):
    def sync(path):
        if which in os.path.basename(path.name):
            raise error

    monkeypatch.setattr(files, "sync_file", sync)
    monkeypatch.setattr("sys.unraisablehook", lambda _: None)
    with pytest.raises((OSError, MemoryError)):
        commit(made)
    assert not list(tmp_path.iterdir())


def test_two_files_that_are_named_together_are_both_synced_before_either_has_its_name(
    tmp_path, made, monkeypatch
):
    synced = []

    def sync(path):
        assert not (tmp_path / "made").exists() and not (tmp_path / "beside").exists()
        synced.append(os.path.basename(path.name).split(".")[1])

    monkeypatch.setattr(files, "sync_file", sync)
    commit(made)
    assert (
        sorted(synced) == ["beside", "made"] and (tmp_path / "beside").read_bytes() == b"attested"
    )


def test_what_became_durable_beside_is_so_before_either_of_two_files_has_its_name(tmp_path, made):
    def sync():
        assert may_end.wait(20)
        assert not (tmp_path / "made").exists() and not (tmp_path / "beside").exists()
        order.append("row")

    order, may_end = [], threading.Event()
    threading.Timer(0.05, may_end.set).start()
    commit(made, BackgroundFsync(sync))
    assert order == ["row"] and (tmp_path / "made").exists()


def test_no_file_has_a_name_when_what_was_to_be_durable_before_it_is_not(tmp_path, made):
    def fail():
        raise OSError(5, "the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        commit(made, BackgroundFsync(fail))
    assert not list(tmp_path.iterdir())


def test_the_names_of_two_files_are_durable_when_both_are_there(tmp_path, made, monkeypatch):
    synced = []
    monkeypatch.setattr(files, "sync_folder", lambda f: synced.append(sorted(os.listdir(f))))
    commit(made)
    assert synced == [["beside", "made"]]


@pytest.mark.parametrize("large", [True, False])
def test_a_large_file_is_synced_once_and_from_when_it_is_finished(
    tmp_path, made, monkeypatch, large
):
    synced = []
    monkeypatch.setattr(files, "sync_file", lambda file: synced.append(os.fspath(file.name)))
    monkeypatch.setattr(files, "BACKGROUND_SYNC_BYTES", 4 if large else 5)
    made.finish()
    if made.background_sync is not None:
        made.background_sync.wait()
    assert synced == ([str(made.temp)] if large else [])
    made.commit()
    assert synced == [str(made.temp)] and (tmp_path / "made").read_bytes() == b"rows"


def test_bytes_of_which_the_system_takes_a_part_at_a_time_are_all_written(tmp_path):
    class Slow(FileIO):
        def write(self, data):
            return super().write(bytes(data)[:3])

    with Slow(tmp_path / "a", "w") as file:
        files.write_all(file, b"all of them")
    assert (tmp_path / "a").read_bytes() == b"all of them"


def opened_below(folder: Path) -> list[str]:
    """What this process has open in a folder."""
    found = []
    for number in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            found.append(os.readlink(f"/proc/self/fd/{number}"))
    return [path for path in found if path.startswith(f"{folder}/")]


@pytest.mark.parametrize(
    "point", [None, "file.before_write", "file.before_fsync", "file.before_rename"]
)
def test_files_that_were_named_or_given_up_are_not_left_open(tmp_path, made, fault, point):
    made.finish()
    fault(point)
    with contextlib.suppress(Crash):
        commit(made)
    if point:
        made.abort()
    assert not opened_below(tmp_path) and sorted(os.listdir(tmp_path)) == (
        [] if point else ["beside", "made"]
    )


def test_of_two_files_one_is_synced_by_the_caller_while_the_other_is(tmp_path, made, monkeypatch):
    who, both = {}, threading.Barrier(2)

    def sync(file):
        who[os.path.basename(file.name).lstrip(".").split(".")[0]] = (
            threading.current_thread() is threading.main_thread()
        )
        both.wait(20)  # both run at one time

    monkeypatch.setattr(files, "sync_file", sync)
    made.finish()
    commit(made)
    assert who == {"made": False, "beside": True}


def test_the_sync_of_a_file_that_was_given_up_meanwhile_is_an_error_to_whom_it_matters_and_to_nobody_else(
    tmp_path,
):
    file = FileIO(tmp_path / "a", "w")
    file.close()
    syncing = files.sync_in_background(file)
    with pytest.raises(OSError, match="Input/output"):
        syncing.wait()


@pytest.mark.parametrize("name", ["x" * 255, "é" * 127, "😀" * 63])
def test_temp_names_begin_with_a_dot_and_end_with_tmp_and_fit_for_the_longest_name(tmp_path, name):
    file = AtomicFile(tmp_path / name)
    assert (
        file.temp.name.startswith(".")
        and file.temp.name.endswith(".tmp")
        and len(os.fsencode(file.temp.name)) <= 255
    )
    assert file.temp.parent == tmp_path


def test_an_aborted_file_is_gone_and_aborting_twice_is_fine(tmp_path):
    file = AtomicFile(tmp_path / "a")
    file.temp.write_bytes(b"half")
    file.abort()
    file.abort()
    assert os.listdir(tmp_path) == []


def test_remove_says_whether_something_was_there(tmp_path):
    (tmp_path / "a").touch()
    assert remove_file(tmp_path / "a") is True
    assert remove_file(tmp_path / "a") is False


def test_folders_are_made_with_those_above_and_again(tmp_path):
    make_folder(tmp_path / "a" / "b" / "c")
    make_folder(tmp_path / "a" / "b" / "c")
    assert (tmp_path / "a" / "b" / "c").is_dir()


def test_a_folder_where_a_file_stands_is_an_error(tmp_path):
    (tmp_path / "a").touch()
    with pytest.raises(OSError):
        make_folder(tmp_path / "a")


@pytest.mark.parametrize(
    ("data", "size", "is_read"),
    [(1, 1 << 40, False), (1, 1 << 30, True), (80 << 20, 5 << 28, True), (0, 1 << 31, False)],
)
def test_a_long_own_file_that_is_nearly_all_holes_is_none(tmp_path, data, size, is_read):
    path = tmp_path / "f"
    path.write_bytes(b"x" * data)
    os.truncate(path, size)
    with open_for_reading(path, follow_links=True):
        pass
    if is_read:
        with open_for_reading(path) as file:
            assert file.tell() == 0
    else:
        with pytest.raises(FileNotFoundError):
            open_for_reading(path)


def test_what_is_not_there_has_no_stat(tmp_path):
    (tmp_path / "f").touch()
    assert stat_of(tmp_path / "no") is None
    assert stat_of(tmp_path / "f" / "under a file") is None
    assert stat_of(tmp_path / ("x" * 300)) is None and stat_of(tmp_path / ("x" * 5000)) is None


def test_a_stat_follows_links_and_sees_a_rename_over(tmp_path):
    (tmp_path / "f").write_bytes(b"1")
    (tmp_path / "l").symlink_to(tmp_path / "f")
    before = stat_of(tmp_path / "l")
    write_atomic(tmp_path / "f", b"2")
    assert stat_of(tmp_path / "l") != before


@pytest.mark.parametrize("fraction_ns", [1, 0], ids=["nanoseconds", "seconds"])
@pytest.mark.parametrize(
    ("mtime_age", "ctime_age", "proves"),
    [
        (10, 10, "with nanoseconds"),
        (2, 10, "never"),
        (10, 2, "never"),
        (0, 0, "never"),
        (-89, 10, "never"),
        (86_400, 86_400, "with nanoseconds"),
        (86_403, 86_403, "always"),
    ],
)
def test_a_stat_settles_when_both_times_are_older_than_the_grain_and_than_another_clock_may_be(
    mtime_age, ctime_age, proves, fraction_ns
):
    """Where a file system counts seconds, two writes within one have equal times; when it takes
    them from a server whose clock is behind, they look old."""
    s = 10**9
    now = 1_900_000_000 * s
    stat = Stat(1, now - mtime_age * s + fraction_ns, now - ctime_age * s + fraction_ns, 1)
    expected = {"never": False, "always": True, "with nanoseconds": fraction_ns > 0}[proves]
    assert is_settled(stat, now, 2.0) is expected


@pytest.mark.parametrize("part", Stat.__struct_fields__)
def test_a_file_has_a_stat_only_if_all_parts_of_it_are_equal(tmp_path, part):
    found = os.stat(tmp_path)
    stat = files.to_stat(found)
    other = stat.with_values(**{part: getattr(stat, part) - 1})
    assert files.has_stat(found, stat) and not files.has_stat(found, other)


@pytest.mark.parametrize("stored", ["../x", "/etc/passwd", "a/../../x", "", "a\0b", "out/x", "out"])
def test_a_stored_location_cannot_leave_its_folder(tmp_path, stored):
    root = tmp_path / "root"
    root.mkdir()
    (tmp_path / "x").touch()
    (root / "out").symlink_to(tmp_path)
    with pytest.raises(TableDamaged):
        resolve_inside(root, stored)


def test_a_stored_location_comes_back(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "root").symlink_to(tmp_path / "real")
    path = resolve_inside(tmp_path / "root", "a/b.parquet")
    assert path == tmp_path / "real" / "a" / "b.parquet"


@given(st.text(ENCODABLE, min_size=1, max_size=30))
def test_no_text_is_a_location_outside(text):
    root = Path("/nonexistent/root")
    try:
        path = resolve_inside(root, text)
    except (TableDamaged, UnicodeEncodeError):
        return
    assert path.is_relative_to(root) and ".." not in path.parts


def test_what_is_written_once_has_a_durable_name(tmp_path, monkeypatch):
    synced, sync = [], os.fsync
    monkeypatch.setattr(
        os, "fsync", lambda d: (synced.append(os.path.isdir(f"/proc/self/fd/{d}")), sync(d))
    )
    assert write_once(tmp_path / "id", b"one") and synced == [False, True]
    assert not write_once(tmp_path / "id", b"two") and (tmp_path / "id").read_bytes() == b"one"
    assert [path.name for path in tmp_path.iterdir()] == ["id"]
