"""One connection per thread, transactions that hold, and errors that say what to do."""

import contextlib
import os
import signal
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jammi_lab.catalog import sqlite as dialects
from jammi_lab.catalog.connection import Connection, driver_errors
from jammi_lab.catalog.sqlite import network_filesystem
from jammi_lab.core.errors import (
    InvalidArgument,
    ResourceExhausted,
    SessionClosed,
    SourceUnavailable,
    TableDamaged,
    VersionConflict,
    WorkspaceNotFound,
    WorkspaceReadOnly,
)
from jammi_lab.storage.digests import NO_STAT, CacheEntry
from tests.cases import cases
from tests.catalog.conftest import sqlite_only

COUNT = """
import sys, threading
from jammi_lab.catalog import Catalog
from jammi_lab.core.clock import SystemClock
from jammi_lab.core.tenancy import TenantScope
from tests.catalog.conftest import place_of

catalog = Catalog(place_of(sys.argv[1]), scope=TenantScope(), clock=SystemClock())
def add():
    for _ in range(int(sys.argv[3])):
        with catalog.transaction():
            catalog.metadata.set("n", str(int(catalog.metadata.get("n") or 0) + 1))
threads = [threading.Thread(target=add) for _ in range(int(sys.argv[2]))]
for t in threads: t.start()
for t in threads: t.join()
catalog.close()
"""


def test_read_modify_writes_of_eight_threads_lose_nothing(lab, run_python):
    run_python(COUNT, str(lab.place), "8", "50")
    assert lab.metadata.get("n") == "400"


def test_two_processes_that_make_and_change_one_catalog_lose_nothing(
    tmp_path, catalog_place, run_python, open_catalog
):
    path = (
        tmp_path / "new" / "catalog.sqlite3" if isinstance(catalog_place, Path) else catalog_place
    )
    racing = [
        threading.Thread(target=run_python, args=(COUNT, str(path), "1", "100")) for _ in range(2)
    ]
    for thread in racing:
        thread.start()
    for thread in racing:
        thread.join()
    assert open_catalog(path).metadata.get("n") == "200"


@sqlite_only
def test_a_kernel_that_makes_the_catalog_waits_for_another_that_is_about_to(tmp_path, open_catalog):
    place = tmp_path / "catalog.sqlite3"
    with contextlib.closing(
        sqlite3.connect(place, isolation_level=None, check_same_thread=False)
    ) as other:
        other.execute("PRAGMA user_version=1")
        other.execute("BEGIN IMMEDIATE")
        done = threading.Timer(0.3, other.execute, ["COMMIT"])
        done.start()
        open_catalog(place).close()
        done.join()


@sqlite_only
def test_a_lock_on_a_catalog_without_a_log_is_not_waited_for_without_end(
    tmp_path, open_catalog, monkeypatch
):
    monkeypatch.setattr(dialects, "LOCK_SECONDS", 0.05)
    place = tmp_path / "catalog.sqlite3"
    with contextlib.closing(sqlite3.connect(place, isolation_level=None)) as other:
        other.execute("PRAGMA user_version=1")
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(VersionConflict, match="locked"):
            open_catalog(place)


def test_an_exception_takes_the_whole_transaction_back(lab):
    with pytest.raises(KeyError), lab.transaction():
        lab.metadata.set("a", "1")
        lab.ready("top")
        raise KeyError
    with pytest.raises(InvalidArgument, match="lone surrogate"), lab.transaction():
        lab.metadata.set("a", "1")
        lab.metadata.set("b", "\ud800")
    assert lab.metadata.get("a") is None
    assert lab.result_tables.newest("top") is None


@sqlite_only
def test_an_interrupt_in_a_statement_leaves_the_catalog_free_for_others_and_for_this_thread(
    lab, monkeypatch
):
    """The traceback is kept, as IPython does: it holds the cursor, and with it what the cursor had
    begun."""
    database = lab.database

    real = Connection.execute

    def interrupted(self: Connection, statement: str, parameters: Any) -> int:
        real(self, statement, parameters)
        raise KeyboardInterrupt

    for block in (database.write, database.write_without_fsync):
        with monkeypatch.context() as patched:
            patched.setattr(Connection, "execute", interrupted)
            with pytest.raises(KeyboardInterrupt) as kept, lab.transaction():
                lab.metadata.set("a", "1")
        other = sqlite3.connect(lab.place, timeout=0, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        other.execute("ROLLBACK")
        other.close()
        with block():
            lab.metadata.set("b", "2")
        assert (
            database.purge()
            and lab.metadata.get("a") is None
            and lab.metadata.get("b") == "2"
            and kept.value is not None
        )


@sqlite_only
def test_an_interrupt_comes_between_two_statements_or_behind_the_commit_and_never_into_one(
    lab,
):
    database, reached = lab.database, []
    with pytest.raises(KeyboardInterrupt), database.write():
        lab.metadata.set("a", "1")
        signal.raise_signal(signal.SIGINT)
        reached.append("the line after")
        lab.metadata.set("b", "1")
        reached.append("a statement after")
    assert reached == ["the line after"] and lab.metadata.get("a") is None
    with pytest.raises(KeyboardInterrupt), database.write():
        lab.metadata.set("a", "2")
        signal.raise_signal(signal.SIGINT)
    assert (
        lab.metadata.get("a") == "2"
        and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    )
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


@sqlite_only
def test_an_interrupt_just_before_a_transaction_begins_leaves_the_next_one_undisturbed(
    lab, monkeypatch
):
    def came_before(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("jammi_lab.core.interrupts._set_handler", came_before)
    with pytest.raises(KeyboardInterrupt), lab.database.write():
        pass
    monkeypatch.undo()
    reached = []
    with pytest.raises(KeyboardInterrupt), lab.database.write():
        signal.raise_signal(signal.SIGINT)
        reached.append("the line after")
    assert reached


@sqlite_only
def test_a_commit_waits_for_the_disk_also_after_one_that_did_not_was_interrupted(lab, monkeypatch):
    def synchronous() -> int:
        with lab.database.read() as tx:
            return tx.fetch("PRAGMA synchronous")[0][0]

    with lab.database.write_without_fsync():
        assert synchronous() == 1
    with lab.database.write():
        assert synchronous() == 2

    def interrupted(*_: Any, **__: Any) -> None:
        hurry(*_, **__)
        raise KeyboardInterrupt

    hurry = lab.database.dialect.set_durability
    monkeypatch.setattr(lab.database.dialect, "set_durability", interrupted)
    with pytest.raises(KeyboardInterrupt), lab.database.write_without_fsync():
        pass
    monkeypatch.undo()
    assert synchronous() == 1
    with lab.database.write():
        assert synchronous() == 2


def test_one_statement_reads_the_newest_state_also_after_an_interrupted_read(lab):
    database, metadata = lab.database, lab.metadata

    def in_another_thread(value: str) -> None:
        thread = threading.Thread(target=metadata.set, args=("a", value))
        thread.start()
        thread.join()

    with database.write():
        metadata.set("a", "1")
        assert metadata.get("a") == "1"
    with database.read() as tx:
        assert metadata.get("a") == "1"
        in_another_thread("2")
        assert metadata.get("a") == "1"
    assert metadata.get("a") == "2"
    # an interrupt between a read and the note of its end leaves the connection in its snapshot
    tx.raw.execute("BEGIN")
    assert metadata.get("a") == "2"
    in_another_thread("3")
    assert metadata.get("a") == "3"


@sqlite_only
@pytest.mark.parametrize("how", ["moved", "replaced"])
def test_a_catalog_that_is_not_where_it_was_is_neither_read_nor_written(lab, tmp_path, how):
    path = Path(str(lab.place))
    lab.metadata.set("a", "1")
    path.rename(tmp_path / "elsewhere.sqlite3")
    if how == "replaced":
        other = tmp_path / "other.sqlite3"
        sqlite3.connect(other).execute("CREATE TABLE t (x)").connection.close()
        other.rename(path)
    for use in (lambda: lab.metadata.set("a", "2"), lambda: lab.metadata.get("a")):
        with pytest.raises(
            WorkspaceNotFound, match="removed or replaced while it was open; nothing was changed"
        ):
            use()
    found: list[BaseException] = []

    def in_another_thread() -> None:
        try:
            lab.metadata.get("a")
        except WorkspaceNotFound as error:
            found.append(error)

    thread = threading.Thread(target=in_another_thread)
    thread.start()
    thread.join()
    assert found
    (tmp_path / "elsewhere.sqlite3").rename(path)
    assert lab.metadata.get("a") == "1"


def test_a_crash_before_the_commit_changes_nothing_and_after_it_everything(lab, fault_hook):
    def crash(point: str) -> None:
        if point == crash_at:
            raise OSError(point)

    fault_hook(crash)
    for crash_at, seen in (("catalog:before-commit", None), ("catalog:after-commit", "1")):
        with pytest.raises(OSError, match=crash_at):
            lab.metadata.set("a", "1")
        assert lab.metadata.get("a") == seen


def in_transaction(raw: Any) -> bool:
    return (
        raw.in_transaction
        if isinstance(raw, sqlite3.Connection)
        else raw.info.transaction_status.name != "IDLE"
    )


def test_a_transaction_that_only_the_driver_knows_of_is_ended_by_the_next(lab):
    with lab.database.read() as tx:
        raw = tx.raw
    lab.database.dialect.begin(tx, writing=True)
    assert in_transaction(raw)
    lab.metadata.set("a", "1")
    assert not in_transaction(raw)


def test_a_write_cannot_begin_inside_a_read(lab):
    with (
        lab.database.read(),
        pytest.raises(RuntimeError, match="begin with write"),
        lab.database.write(),
    ):
        pass


@sqlite_only
def test_commits_are_on_disk_when_they_are_acknowledged(lab):
    with lab.database.read() as tx:
        found = {
            p: tx.fetch(f"PRAGMA {p}")[0][0]
            for p in (
                "journal_mode",
                "synchronous",
                "secure_delete",
                "foreign_keys",
                "trusted_schema",
            )
        }
    assert found == {
        "journal_mode": "wal",
        "synchronous": 2,
        "secure_delete": 1,
        "foreign_keys": 1,
        "trusted_schema": 0,
    }


@sqlite_only
@pytest.mark.leaves_behind(
    "a catalog that is closed without retiring its writer, as a dying process leaves it"
)
def test_closing_leaves_no_file_open_whatever_threads_used_it(tmp_path, open_catalog):
    catalog = open_catalog(tmp_path / "catalog.sqlite3")
    catalog.writers.register()
    for _ in range(3):
        thread = threading.Thread(target=catalog.result_tables.current)
        thread.start()
        thread.join()
    catalog.close()
    catalog.close()
    assert [
        name
        for fd in os.listdir("/proc/self/fd")
        if (name := os.path.realpath(f"/proc/self/fd/{fd}")).startswith(str(tmp_path))
    ] == []


def test_connections_of_ended_threads_do_not_pile_up(lab):
    for _ in range(20):
        thread = threading.Thread(target=lab.result_tables.current)
        thread.start()
        thread.join()
    assert len(lab.database.handles) <= 2


def connection_of(database: Any) -> Any:
    with database.read() as tx:
        return tx.raw


def test_whether_a_thread_writes_is_told_without_a_connection_and_not_of_a_closed_catalog(
    open_catalog,
):
    database, told = open_catalog().database, []
    thread = threading.Thread(target=lambda: told.append(database.writing))
    with database.write():
        assert database.writing
        thread.start()
        thread.join()
    assert told == [False] and not database.writing and len(database.handles) == 1
    database.close()
    with pytest.raises(SessionClosed):
        _ = database.writing


def test_a_read_only_catalog_reads_and_refuses_to_write(lab, open_catalog):
    table = lab.ready("top")
    catalog = open_catalog(read_only=True)
    assert catalog.result_tables.newest("top")[1] == table
    with pytest.raises(WorkspaceReadOnly):
        catalog.metadata.set("a", "1")
    lab.ready("top")
    assert catalog.result_tables.newest("top")[0].version == 2


def unwritable(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Lets SQLite open read-only files as it does in a folder where no log can be made, which a
    test that runs as root cannot set up."""
    real, modes = dialects.Sqlite._open, []

    def refuse(self: dialects.Sqlite, mode: str) -> sqlite3.Connection:
        modes.append(mode)
        if mode == "ro":
            error = sqlite3.OperationalError("unable to open database file")
            error.sqlite_errorcode = sqlite3.SQLITE_CANTOPEN
            raise error
        return real(self, mode)

    monkeypatch.setattr(dialects.Sqlite, "_open", refuse)
    return modes


@sqlite_only
def test_a_folder_without_write_access_is_opened_as_immutable_when_there_is_no_log(
    tmp_path, open_catalog, monkeypatch
):
    path = tmp_path / "catalog.sqlite3"
    made = open_catalog(path)
    made.metadata.set("a", "1")
    made.close()
    modes = unwritable(monkeypatch)
    reader = open_catalog(path, read_only=True)
    assert reader.metadata.get("a") == "1"
    assert modes[-1] == "ro&immutable=1"

    def write(value: str) -> None:
        writer = open_catalog(path)
        writer.metadata.set("a", value)
        writer.close()

    write("2")
    assert reader.metadata.get("a") == "2"
    with (
        pytest.raises(SourceUnavailable, match="written to while it was read"),
        reader.database.read(),
    ):
        write("3")
    assert reader.metadata.get("a") == "3"


@sqlite_only
def test_a_folder_without_write_access_is_not_opened_past_a_log_with_content(
    lab, open_catalog, monkeypatch
):
    lab.metadata.set("a", "1")
    modes = unwritable(monkeypatch)
    with pytest.raises(SourceUnavailable, match="cannot be opened") as caught:
        open_catalog(read_only=True)
    assert caught.value.hint.startswith("Open it once where its folder can be written to")
    assert set(modes) == {"ro"}


def test_a_transaction_that_could_not_begin_leaves_the_connection_usable(
    lab, open_catalog, monkeypatch
):
    monkeypatch.setattr(dialects, "LOCK_SECONDS", 0.05)
    other = open_catalog(lab.place)
    with lab.transaction(), pytest.raises(VersionConflict):
        other.metadata.set("a", "1")
    other.metadata.set("a", "2")
    monkeypatch.setattr(
        type(other.database.dialect),
        "begin",
        lambda self, connection, *, writing: connection.execute("BEGIN NOTHING"),
    )
    for _ in range(2):
        with pytest.raises(driver_errors()), other.database.read():
            pass
    monkeypatch.undo()
    assert other.metadata.get("a") == "2"


@sqlite_only
@pytest.mark.parametrize(
    "value", ["{", b"\xff\xfe", '[{"name": 1}]'], ids=["no JSON", "no text", "no column"]
)
def test_a_row_that_nothing_here_wrote_is_a_damaged_catalog(lab, value):
    lab.ready("a")
    lab.define("a")
    with sqlite3.connect(lab.path) as db:
        db.execute("UPDATE result_tables SET columns = CAST(? AS TEXT)", (value,))
        db.execute("UPDATE recipes SET descriptor = CAST(? AS TEXT)", (value,))
    db.close()
    for read in (
        lab.result_tables.current,
        lambda: lab.result_tables.newest("a"),
        lab.recipes.list,
        lambda: lab.recipes.get("a"),
    ):
        with pytest.raises(TableDamaged, match=r"catalog.* is damaged"):
            read()


@sqlite_only
@pytest.mark.parametrize("body", ["{", "[]", "null", None], ids=str)
def test_an_observation_that_cannot_be_read_is_as_if_it_had_not_been_made(lab, body):
    with sqlite3.connect(lab.path) as db:
        db.execute("INSERT INTO observations (key, body) VALUES ('k', ?)", (body or "\x00",))
    db.close()
    assert lab.observations.load() == {} and lab.observations.get("k") is None


@sqlite_only
def test_a_full_disk_is_a_typed_error_and_what_was_acknowledged_is_there(lab):
    lab.metadata.set("kept", "1")
    with lab.database.read() as tx:
        pages = tx.fetch("PRAGMA page_count")[0][0]
        tx.execute(f"PRAGMA max_page_count={pages + 1}")
    with pytest.raises(ResourceExhausted):
        lab.metadata.set("big", "x" * 1_000_000)
    with lab.database.read() as tx:
        tx.execute("PRAGMA max_page_count=1000000")
    assert lab.metadata.get("kept") == "1"
    assert lab.metadata.get("big") is None
    lab.metadata.set("after", "1")


def overwritten(content: bytes) -> bytes:
    return content[:4096] + b"\xff" * (len(content) - 4096)


def of_another_format(content: bytes) -> bytes:
    """With another number of the schema's format, of which there are four."""
    return content[:44] + b"\0\0\0\x33" + content[48:]


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "no database": lambda _: b"this is no database, " * 100,
    "overwritten": overwritten,
    "another format": of_another_format,
    "another table": lambda content: content.replace(b"TABLE meta (key", b"TABLE mefa (key"),
    "another column": lambda content: content.replace(b"value TEXT NOT", b"valle TEXT NOT"),
}


@sqlite_only
@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_catalog_names_the_way_to_make_a_new_one(tmp_path, open_catalog, damage):
    path = tmp_path / "catalog.sqlite3"
    made = open_catalog(path)
    for i in range(50):
        made.metadata.set(f"key {i}", "x" * 4000)
    made.close()
    content = path.read_bytes()
    path.write_bytes(damage(content))
    assert path.read_bytes() != content
    with pytest.raises(TableDamaged, match=r"jammi_lab\.rebuild"):
        open_catalog(path).metadata.get("key 1")


def driver_error(code: int, name: str) -> sqlite3.DatabaseError:
    """What the driver raises for a result code of SQLite."""
    cause = sqlite3.DatabaseError(name)
    cause.sqlite_errorcode, cause.sqlite_errorname = code, name
    return cause


@sqlite_only
@pytest.mark.parametrize(
    ("code", "kind", "said"),
    [
        (sqlite3.SQLITE_CORRUPT, SourceUnavailable, "the file is intact"),
        (sqlite3.SQLITE_NOTADB, SourceUnavailable, "the file is intact"),
        (sqlite3.SQLITE_NOMEM, ResourceExhausted, "Memory is exhausted"),
        (sqlite3.SQLITE_IOERR | 12 << 8, ResourceExhausted, "Memory is exhausted"),
    ],
)
def test_one_failed_read_and_exhausted_memory_are_not_taken_for_damage(lab, code, kind, said):
    lab.metadata.set("kept", "1")
    error = lab.database.dialect.to_jammi_error(driver_error(code, "malformed"))
    assert type(error) is kind and said in error.message and "rebuild" not in error.hint


MOUNTS = "\n".join(
    [
        "/dev/sda1 / ext4 rw 0 0",
        "server:/home /mnt/nfs nfs4 rw 0 0",
        "//pc/share /mnt/win cifs rw 0 0",
        "me@host: /mnt/ssh fuse.sshfs rw 0 0",
        "/dev/sdb1 /mnt/ntfs fuseblk rw 0 0",
        "overlay /mnt/with\\040space nfs rw 0 0",
        "tmpfs /mnt/nfs/local tmpfs rw 0 0",
    ]
)


@pytest.mark.parametrize(
    ("folder", "kind"),
    cases("results/mounts", "folder", "kind"),
)
def test_network_filesystems_are_told_by_the_mount_table(folder, kind):
    assert network_filesystem(Path(folder), MOUNTS) == kind


@sqlite_only
def test_a_catalog_on_a_network_filesystem_is_refused_with_the_other_way_named(
    tmp_path, open_catalog, monkeypatch
):
    monkeypatch.setattr(dialects, "network_filesystem", lambda _folder: "nfs4")
    with pytest.raises(InvalidArgument, match="PostgreSQL"):
        open_catalog(tmp_path / "catalog.sqlite3")


def test_bound_values_are_in_no_error(lab):
    with (
        pytest.raises((*driver_errors(), TableDamaged)) as failed,
        lab.database.write() as tx,
    ):
        tx.execute("INSERT INTO nothing VALUES (:secret)", {"secret": "canary-4711"})
    assert "canary-4711" not in str(failed.value)


@sqlite_only
def test_what_was_read_is_kept_until_anybody_commits(lab, open_catalog):
    database, asked = lab.database, []

    def read() -> str | None:
        asked.append(1)
        return lab.metadata.get("n")

    def times() -> tuple[str | None, int]:
        return database.cached("n", read), len(asked)

    assert (times(), times()) == ((None, 1), (None, 1))
    lab.metadata.set("n", "own")
    assert (times(), times()) == (("own", 2), ("own", 2))
    other = open_catalog(lab.place)
    other.metadata.set("n", "of another kernel")
    assert (times(), times()) == (("of another kernel", 3), ("of another kernel", 3))
    thread = threading.Thread(target=lab.metadata.set, args=("n", "of a thread"))
    thread.start()
    thread.join()
    assert times() == ("of a thread", 4)
    other.metadata.set("n", None)
    lab.metadata.set("unrelated", "1")
    assert times() == (None, 5)
    with pytest.raises(KeyError), lab.transaction():
        lab.metadata.set("n", "taken back")
        assert times() == ("taken back", 6), "inside a transaction nothing is kept"
        raise KeyError
    assert times() == (None, 7)


@sqlite_only
@pytest.mark.parametrize("when", ["never", "before", "within", "after"])
def test_cached_results_stay_after_an_own_write_of_observations_unless_anybody_else_commits(
    lab, open_catalog, when
):
    database, other = lab.database, open_catalog(lab.place)
    entry, asked = CacheEntry(NO_STAT, 1, {}), []

    def read() -> str | None:
        asked.append(1)
        return lab.metadata.get("n")

    assert database.cached("n", read) is None
    if when == "before":
        other.metadata.set("n", "1")
    if when == "within":  # of rows that cached results depend on
        with lab.transaction():
            lab.metadata.set("n", "1")
            lab.observations.put("key", entry)
    lab.observations.put("key", entry)
    if when == "after":
        other.metadata.set("n", "1")
    expected = (None, 1) if when == "never" else ("1", 2)
    assert (database.cached("n", read), len(asked)) == expected
    assert lab.observations.get("key") == entry


@sqlite_only
def test_no_cached_result_stays_after_a_failed_write_of_observations(lab, monkeypatch):
    database, asked = lab.database, []
    database.cached("n", lambda: asked.append(1))
    with monkeypatch.context() as patched, pytest.raises(KeyError):
        patched.setattr(database.dialect, "commit", lambda *_: {}["fails"])
        lab.observations.put("key", CacheEntry(NO_STAT, 1, {}))
    database.cached("n", lambda: asked.append(1))
    assert len(asked) == 2


def test_a_failed_read_is_not_kept(lab):
    with pytest.raises(ZeroDivisionError):
        lab.database.cached("x", lambda: 1 // 0)
    assert lab.database.cached("x", lambda: 1) == 1


def test_a_catalog_whose_close_was_interrupted_can_be_closed(open_catalog):
    database = open_catalog().database
    raw = [connection_of(database)]
    thread = threading.Thread(target=lambda: raw.append(connection_of(database)))
    thread.start()
    thread.join()
    [first, _] = handles = list(database.handles)
    close = first.connection.close

    def interrupted() -> None:
        close()
        signal.raise_signal(signal.SIGINT)

    first.connection.close = interrupted
    with pytest.raises(KeyboardInterrupt):
        database.close()
    first.connection.close = close
    database.close()
    assert all(handle.connection.closed for handle in handles)
    with pytest.raises(SessionClosed):
        database.has_table("meta")
