"""A writer is alive while its lock is held: proved with real processes that are stopped, killed and
forked."""

import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from jammi_lab.catalog import writers as writers_module
from jammi_lab.core.records import TableStatus
from jammi_lab.storage import own_files
from tests import processes
from tests.catalog.conftest import Lab, sqlite_only
from tests.waiting import in_threads

ROOT = Path(__file__).resolve().parents[2]
CHILD = """
import os, sys, time
sys.path.insert(0, sys.argv[2])
from tests.catalog.conftest import Lab, place_of
lab = Lab(place_of(sys.argv[1]))
if "say" in sys.argv:
    lab.writers.write_note("at work")
print(lab.writer, lab.begin("child").table_name, flush=True)
if "fork" in sys.argv:
    if os.fork() == 0:
        os.execvp("sleep", ["sleep", "60"]) if "exec" in sys.argv else time.sleep(60)
sys.stdin.read()
"""


class Child:
    """Another kernel that has the workspace open and one table in the making."""

    def __init__(self, place: Path | str, *words: str) -> None:
        self.process = processes.Popen(
            [sys.executable, "-c", CHILD, str(place), str(ROOT), *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert self.process.stdout is not None
        self.forks = "fork" in words
        self.writer, self.table = self.process.stdout.readline().split()

    def kill(self, lab: Lab) -> None:
        """Kill it, and give a server the moment that it takes to see the connection end, and a
        process that it forked the moment to let go of what it inherited."""
        self.process.kill()
        self.process.wait()
        is_at_once = isinstance(lab.place, Path) and not self.forks
        until = time.monotonic() + (0 if is_at_once else 5)
        while lab.writers.is_alive(self.writer) and time.monotonic() < until:
            time.sleep(0.005)

    def end(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            stream.close()


@pytest.fixture
def child(lab: Lab) -> Iterator[Callable[..., Child]]:
    started: list[Child] = []

    def start(*words: str) -> Child:
        started.append(Child(lab.place, *words))
        return started[-1]

    yield start
    for one in started:
        one.end()


def test_a_killed_writer_is_dead_at_once_and_settled_once(lab, child):
    other = child()
    assert lab.writers.is_alive(other.writer)
    assert list(lab.writers.dead_writers()) == []
    other.kill(lab)
    assert not lab.writers.is_alive(other.writer)
    for writer in lab.writers.dead_writers():
        assert [
            t.table_name for t in lab.result_tables.with_status(TableStatus.BUILDING, writer)
        ] == [other.table]
        assert lab.table_status.mark_failed(other.table, writer, "its kernel died")
    assert lab.writers.get(other.writer).retired_at
    assert (
        not isinstance(lab.place, Path)
        or not (lab.path.parent / "writers" / f"{other.writer}.lock").exists()
    )
    assert list(lab.writers.dead_writers()) == []


@pytest.mark.parametrize("words", [["fork"], ["fork", "exec"]], ids=["a child", "a program"])
def test_what_a_writer_started_does_not_keep_it_alive(lab, child, words):
    other = child(*words)
    other.kill(lab)
    assert list(lab.writers.dead_writers()) == [other.writer]


@sqlite_only
def test_a_fork_takes_nothing_from_the_parent(lab):
    if (forked := os.fork()) == 0:
        lab.writers.close()
        os._exit(0)
    os.waitpid(forked, 0)
    probe = "import fcntl, sys; fcntl.flock(open(sys.argv[1]), fcntl.LOCK_EX | fcntl.LOCK_NB)"
    lock = lab.path.parent / "writers" / f"{lab.writer}.lock"
    assert (
        processes.run([sys.executable, "-c", probe, str(lock)], capture_output=True).returncode == 1
    )


def test_a_writer_that_is_being_settled_is_not_settled_by_another(lab, child, open_catalog):
    other = child()
    other.kill(lab)
    for writer in lab.writers.dead_writers():
        assert writer == other.writer
        assert list(open_catalog().writers.dead_writers()) == []


def test_asking_whether_a_writer_lives_keeps_nobody_from_settling_it(lab, child, open_catalog):
    other, over, others = child(), threading.Event(), [open_catalog() for _ in range(2)]
    other.kill(lab)

    def ask(catalog: Any) -> None:
        while not over.is_set():
            asked.append(catalog.writers.is_alive(other.writer))

    asked: list[bool] = []
    threads = [threading.Thread(target=ask, args=(catalog,)) for catalog in others]
    for thread in threads:
        thread.start()
    try:
        settled = []
        for _ in range(150):
            with (
                contextlib.suppress(InterruptedError),
                lab.writers.hold_dead(other.writer) as dead,
            ):
                settled.append(dead)
                raise InterruptedError
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert settled == [True] * 150 and asked


def test_a_settling_that_fails_leaves_the_writer_to_be_found_again(lab, child):
    other = child()
    other.kill(lab)
    with pytest.raises(OSError, match="disk"), lab.writers.hold_dead(other.writer) as dead:
        assert dead
        raise OSError("disk")
    assert list(lab.writers.dead_writers()) == [other.writer]


@sqlite_only
def test_a_writer_whose_lock_file_is_gone_is_dead(lab, child):
    other = child()
    (lab.path.parent / "writers" / f"{other.writer}.lock").unlink()
    assert list(lab.writers.dead_writers()) == [other.writer]


def test_a_writer_of_another_machine_is_judged_by_its_lock_alone(lab, open_catalog):
    gone = open_catalog()
    writer = gone.writers.register()
    with lab.database.write() as tx:
        tx.execute(
            "UPDATE writers SET host = 'elsewhere', boot_id = 'another', pid = 1 "
            "WHERE writer_id = :id",
            {"id": writer},
        )
    assert list(lab.writers.dead_writers()) == []
    gone.close()
    assert list(lab.writers.dead_writers()) == [writer]


def test_a_retired_writer_that_left_rows_behind_is_found(lab, open_catalog):
    other = open_catalog()
    writer = other.writers.register()
    begun = other.table_status.begin(lab.record("top", writer_id=writer))
    other.writers.retire(writer)
    assert list(lab.writers.dead_writers()) == [writer]
    lab.table_status.mark_failed(begun.table_name, writer, "x")
    assert list(lab.writers.dead_writers()) == []


def test_a_row_whose_writer_is_no_file_name_leads_nowhere(lab):
    lab.begin("top", writer_id="../../catalog.sqlite3")
    assert list(lab.writers.dead_writers()) == ["../../catalog.sqlite3"]
    assert not isinstance(lab.place, Path) or lab.path.exists()


def test_rows_of_every_tenant_make_a_writer_worth_a_try(lab):
    with lab.scope.use("acme"):
        lab.begin("top", writer_id="gone")
    assert lab.writers.suspects() == ["gone"]


@sqlite_only
def test_the_lock_is_held_before_the_row_is_seen(lab, open_catalog):
    seen: list[bool] = []
    real = lab.database.write

    def look() -> object:
        seen.append(
            any(path.stem != lab.writer for path in (lab.path.parent / "writers").iterdir())
        )
        return real()

    lab.database.write = look  # type: ignore[method-assign,assignment]
    second = lab.writers.register()
    assert seen == [True]
    lab.writers.retire(second)


def test_kernels_that_open_and_settle_at_once_reap_no_living_writer(lab, open_catalog):
    reaped, living = [], []

    def kernel(_: int) -> None:
        catalog = open_catalog()
        for _ in range(10):
            writer = catalog.writers.register()
            living.append(writer)
            begun = catalog.table_status.begin(
                msgspec.structs.replace(lab.record("top"), writer_id=writer)
            )
            reaped.extend(catalog.writers.dead_writers())
            catalog.table_status.publish(begun, b"{}")
            catalog.writers.retire(writer)

    in_threads(kernel, range(4))
    assert reaped == []
    assert len(lab.result_tables.versions("top")) == len(living) == 40


def test_a_read_only_catalog_settles_nobody(lab, child, open_catalog):
    other = child()
    other.kill(lab)
    assert list(open_catalog(read_only=True).writers.dead_writers()) == [other.writer]
    assert list(lab.writers.dead_writers()) == [other.writer]


@sqlite_only
@pytest.mark.leaves_behind("the lock file that cannot be removed")
def test_a_lock_file_that_cannot_be_removed_does_not_keep_its_writer_alive(
    lab, monkeypatch, open_catalog
):
    def refuse(_: Path) -> None:
        raise OSError(5, "Input/output error")

    other = open_catalog()
    with monkeypatch.context() as patched:
        patched.setattr(own_files, "remove", refuse)
        lab.writers.retire(lab.writer)
    assert (
        lab.path.parent / "writers" / f"{lab.writer}.lock"
    ).exists() and not other.writers.is_alive(lab.writer)


@sqlite_only
def test_lock_files_of_nobody_go_and_those_of_the_living_and_of_the_unsettled_stay(
    lab, child, open_catalog
):
    other, dead, folder = open_catalog(), child(), lab.path.parent / "writers"
    living = other.writers.register()
    dead.kill(lab)
    for name in ("wneverentered.lock", "notes.txt", "we ird.lock"):
        (folder / name).write_text("")
    shutil.copy(folder / f"{lab.writer}.lock", folder / "wcopied.lock")
    lab.writers.remove_leftover_locks()
    kept = {
        f"{lab.writer}.lock",
        f"{living}.lock",
        f"{dead.writer}.lock",
        "notes.txt",
        "we ird.lock",
    }
    assert {path.name for path in folder.iterdir()} == kept
    assert list(other.writers.dead_writers()) == [dead.writer]
    other.writers.retire(living)


@sqlite_only
@pytest.mark.timeout(60)
def test_what_is_no_plain_file_among_the_locks_is_nobodys_and_stays_and_is_not_waited_for(
    lab,
):
    folder = lab.path.parent / "writers"
    (folder / "afolder.lock").mkdir()
    os.mkfifo(folder / "apipe.lock")
    (folder / "loop.lock").symlink_to("loop.lock")
    (folder / "wleft.lock").write_text("")
    before = {path.name for path in folder.iterdir()}
    lab.writers.remove_leftover_locks()
    assert {path.name for path in folder.iterdir()} == before - {"wleft.lock"}
    for name in ("afolder", "apipe", "loop"):
        assert not lab.writers.is_alive(name) and lab.writers.read_note(name) is None
        with lab.writers.hold_dead(name) as dead:
            assert not dead  # no row knows it
        with pytest.raises(OSError, match="No such file"):
            lab.writers.try_acquire_named(name)


@sqlite_only
def test_a_writer_whose_lock_file_is_taken_for_one_that_was_left_begins_with_another(
    lab, open_catalog, fault_hook
):
    """At the worst moment: the file is made, and not locked yet."""
    other, moments = open_catalog(), []

    def tidied(point: str) -> None:
        if point == "lock.made" and len(moments) < 3:
            moments.append(point)
            if len(moments) == 2:  # somebody is about to remove it
                [left] = other.writers.lock_store.leftover_ids() - {lab.writer}
                locks.append(other.writers.lock_store.try_acquire(left))
            else:
                other.writers.remove_leftover_locks()

    locks: list[Any] = []
    fault_hook(tidied)
    writer = lab.writers.register()
    locks.pop().release(remove=True)
    assert len(moments) == 3 and other.writers.is_alive(writer)
    assert {path.stem for path in (lab.path.parent / "writers").iterdir()} == {lab.writer, writer}
    lab.writers.retire(writer)


def test_a_writer_leaves_word_and_everybody_hears_the_last_one_and_how_old_it_is(lab, open_catalog):
    other = open_catalog()
    assert other.writers.read_note(lab.writer) is None
    lab.writers.write_note("a long word")
    lab.writers.write_note("short")
    age, word = other.writers.read_note(lab.writer)
    assert word == "short" and -1 < age < 30 and lab.writers.read_note(lab.writer)[1] == "short"
    lab.writers.retire(lab.writer)
    assert (
        other.writers.read_note(lab.writer) is None and other.writers.read_note("wnobody") is None
    )


def test_the_word_of_a_dead_writer_goes_when_it_is_settled(lab, child, open_catalog):
    other = child("say")
    assert lab.writers.read_note(other.writer)[1] == "at work"
    other.kill(lab)
    assert (
        list(lab.writers.dead_writers()) == [other.writer]
        and lab.writers.read_note(other.writer) is None
    )


def test_a_word_after_the_lock_was_let_go_is_written_nowhere(lab, tmp_path):
    kept = dict(lab.writers.held_locks)
    lab.writers.retire(lab.writer)
    files = [
        (tmp_path / f"file {n}").open("w") for n in range(20)
    ]  # of which one gets the number that was closed
    lab.writers.held_locks.update(kept)
    lab.writers.write_note("for nobody")
    lab.writers.held_locks.clear()
    for each in files:
        each.close()
    assert (
        not any((tmp_path / f"file {n}").read_text() for n in range(20))
        and lab.writers.read_note(lab.writer) is None
    )


def test_a_turn_is_one_kernels_until_it_is_released_and_says_how_far_it_is(lab, open_catalog):
    other = open_catalog()
    for mine, theirs in (
        (lab.writers, other.writers),
        (other.writers, lab.writers),
    ):
        turn = mine.try_acquire_named("i0123")
        assert (
            theirs.try_acquire_named("i0123") is None
            and mine.try_acquire_named("i0123") is None
            and theirs.try_acquire_named("i4567").release(remove=True) is None
        )
        turn.write_note("7")
        assert theirs.read_note("i0123")[1] == "7" and list(theirs.dead_writers()) == []
        theirs.remove_leftover_locks()
        assert theirs.try_acquire_named("i0123") is None
        turn.release(remove=True)
        assert theirs.read_note("i0123") is None


@sqlite_only
def test_a_lock_file_that_is_removed_before_its_lock_is_had_gives_no_turn(lab, monkeypatch):
    turn, lock = lab.path.parent / "writers" / "i0123.lock", fcntl.flock
    turn.touch()
    monkeypatch.setattr(fcntl, "flock", lambda *how: turn.unlink() or lock(*how))
    with pytest.raises(FileNotFoundError):
        lab.writers.lock_store.try_acquire("i0123")


@sqlite_only
@pytest.mark.parametrize("gone", ["file", "folder"])
def test_a_writer_whose_lock_file_was_removed_makes_it_again_before_it_builds(
    lab, open_catalog, gone
):
    other = open_catalog()
    locks = lab.path.parent / "writers"
    shutil.rmtree(locks) if gone == "folder" else (locks / f"{lab.writer}.lock").unlink()
    assert list(other.writers.dead_writers()) == [lab.writer]
    lab.writers.reacquire_lost()
    assert other.writers.is_alive(lab.writer) and list(other.writers.dead_writers()) == []
    lab.writers.reacquire_lost()
    lab.writers.retire(lab.writer)
    assert not list(locks.glob("*.lock"))


def test_rows_of_writers_that_closed_long_ago_go(lab, open_catalog, monkeypatch):
    def ids() -> set[str]:
        return {writer.writer_id for writer in lab.writers.list()}

    other = open_catalog()
    lately = other.writers.register()
    other.writers.retire(lately)
    assert ids() == {lab.writer, lately}
    monkeypatch.setattr(writers_module, "RETIRED_ROW_SECONDS", 0)
    last = other.writers.register()
    other.writers.retire(last)
    assert ids() == {lab.writer, last}
    assert not lab.writers.remove_leftover_locks()


@sqlite_only
def test_a_writer_that_was_thought_dead_long_ago_comes_back_with_its_row(
    lab, open_catalog, monkeypatch
):
    other = open_catalog()
    before = lab.writers.get(lab.writer)
    with lab.database.write() as tx:
        tx.execute("DELETE FROM writers WHERE writer_id = :id", {"id": lab.writer})
    monkeypatch.setattr(lab.writers.lock_store, "reacquire_lost", lambda: True)
    lab.writers.reacquire_lost()
    assert other.writers.get(lab.writer) == before
