"""Ephemeral sessions: tables for a while, which end once, tell it, and leave nothing behind."""

import gc
import json
import re
import subprocess
import sys
import threading
import warnings
from functools import partial

import pyarrow as pa
import pytest

import jammi_lab as jl
from jammi_lab.catalog.logs import LogRepository, entries_table
from jammi_lab.core.errors import (
    DuplicateKey,
    DuplicateTable,
    InvalidArgument,
    JammiError,
    NameInvalid,
    NameTooLong,
    NoTenantBinding,
    PartialDeletionFailure,
    SchemaMismatch,
    SessionClosed,
    StatementNotAllowed,
    TableNotFound,
    UnknownTable,
)
from jammi_lab.features.live.session_handle import fill_placeholder
from jammi_lab.storage.files import install_fault_hook
from tests.cases import cases
from tests.features.live.clocks import Hands, opened
from tests.inside import services_of
from tests.waiting import in_threads, until

SCHEMA = {"id": "int64", "word": "string"}
AUDIT = "jammi.audit.session_lifecycle.v1"
CANARY = "xyzzy-canary-value-plugh"


@pytest.fixture
def acme(ws):
    """The workspace with a tenant bound for the whole test."""
    ws.bind_tenant("acme")
    return ws


@pytest.fixture
def hands(tmp_path, monkeypatch):
    """A workspace by a clock that the test moves, whose scanner looks only when it is told to."""
    monkeypatch.setattr(
        "jammi_lab.features.live.ephemeral_sessions.EphemeralSessions._start_scanner",
        lambda _: None,
    )
    clock = Hands()
    with opened(tmp_path / "lab", clock) as ws:
        ws.bind_tenant("acme")
        ws.clock, ws.scan = clock, services_of(ws).sessions.scan
        yield ws


def told(ws, session=None, tenant="acme"):
    """The lifecycle records of a tenant."""
    with ws.tenant(tenant):
        if AUDIT not in ws.topics:
            return []
        records = [
            json.loads(row)
            for event in ws.topics.replay(AUDIT)
            for row in event.batch["record"].to_pylist()
        ]
    return [each for each in records if session is None or each["session_id"] == session.id]


def events(ws, session, tenant="acme"):
    return [each["event"] for each in told(ws, session, tenant)]


def due_in(session, seconds):
    """Brings the deadline near, however long it took to fill the session."""
    session._session.deadline_ns = session._sessions.clock.now_ns() + int(seconds * 1e9)


def scratch(ws, *values, **how):
    session = ws.ephemeral(**how)
    session.create("scratch", SCHEMA, primary_key=["id"])
    if values:
        session.insert("scratch", [{"id": n, "word": value} for n, value in enumerate(values)])
    return session


def uses(s):
    """All that one can do with a session while it is open."""
    return (
        lambda: s.insert("scratch", [{"id": 7}]),
        lambda: s.create("more", SCHEMA, primary_key=["id"]),
        lambda: s.sql("scratch", "SELECT * FROM {table}"),
        lambda: s.count_rows("scratch"),
        lambda: s.table_ref("scratch"),
        lambda: s.extend(100),
    )


# -- names and rules -------------------------------------------------------------------------------


def test_a_session_needs_a_tenant(ws):
    with pytest.raises(NoTenantBinding, match="requires a bound tenant"):
        ws.ephemeral()
    assert services_of(ws).sessions.list_open() == []


def test_tables_have_the_names_of_the_seed(acme):
    with acme.ephemeral() as s:
        s.create("scratch", SCHEMA, primary_key=["id"])
        s.create("x" * 24, SCHEMA, primary_key="id")
        assert re.fullmatch(r"[0-9a-f]{32}", s.id)
        assert s.tables == {
            "scratch": f"__eph_{s.id}_scratch",
            "x" * 24: f"__eph_{s.id}_{'x' * 24}",
        }
        assert max(map(len, s.tables.values())) == 63
        assert s.table_ref("scratch") == f'mutable."__eph_{s.id}_scratch"'


def test_a_name_against_the_rules_is_refused(acme):
    with acme.ephemeral() as s:
        for name in ("", "Upper", "a-b", "é"):
            with pytest.raises(NameInvalid) as caught:
                s.create(name, SCHEMA, primary_key=["id"])
            assert caught.value.name == name
        with pytest.raises(NameTooLong) as caught:
            s.create("x" * 25, SCHEMA, primary_key=["id"])
        assert (caught.value.name, caught.value.max, s.tables) == ("x" * 25, 24, {})


def test_a_table_twice_and_a_table_that_is_not_there_are_typed(acme):
    with scratch(acme) as s:
        with pytest.raises(DuplicateTable) as twice:
            s.create("scratch", SCHEMA, primary_key=["id"])
        assert twice.value.name == "scratch"
        for use in (
            lambda: s.insert("scrach", []),
            lambda: s.sql("scrach", "SELECT * FROM {table}"),
            lambda: s.count_rows("scrach"),
            lambda: s.table_ref("scrach"),
        ):
            with pytest.raises(UnknownTable) as unknown:
                use()
            assert (unknown.value.name, unknown.value.near) == ("scrach", ("scratch",))
        for use in (
            lambda: s.sql("scratch", 5),
            lambda: s.create("more", SCHEMA, primary_key=None),
            lambda: s.create("more", SCHEMA, primary_key=5),
            lambda: s.count_rows([1]),
        ):
            with pytest.raises(InvalidArgument):
                use()


def test_rows_go_in_all_or_none(acme):
    with scratch(acme, "a") as s:
        assert s.insert("scratch", pa.table({"id": [5, 6], "word": ["x", None]})) == 2
        for rows, error in (
            ([{"id": 0}], DuplicateKey),
            ([{"id": 8}, {"id": 8}], DuplicateKey),
            ([{"id": "x"}], SchemaMismatch),
            (3, InvalidArgument),
        ):
            with pytest.raises(error):
                s.insert("scratch", rows)
        assert s.count_rows("scratch") == 3


# -- SQL -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    cases("statements/placeholders", "text", "expected"),
)
def test_the_placeholder_is_a_word_of_the_statement_and_nothing_else(text, expected):
    assert fill_placeholder(text, "T") == expected


def test_statements_read_through_the_placeholder(acme):
    with scratch(acme, "a", "b") as s:
        assert s.sql(
            "scratch",
            "SELECT word FROM {table} WHERE id >= $low AND word <> '{table}' ORDER BY 1",
            low=1,
        ).fetchall() == [("b",)]
        assert s.sql("scratch", "SELECT $x AS x", {"x": 5}).fetchall() == [(5,)]
        assert acme.sql(f"SELECT count(*) FROM {s.table_ref('scratch')}").fetchall() == [(2,)]
        assert acme.sql(
            f'SELECT count(*) FROM mutable.public."{s.tables["scratch"]}"'
        ).fetchall() == [(2,)]


def test_a_session_only_reads_by_sql(acme):
    with scratch(acme, "a") as s:
        for text in (
            "DELETE FROM {table}",
            "INSERT INTO {table} VALUES (9, 'x')",
            "UPDATE {table} SET word = 'x'",
            "DROP TABLE {table}",
        ):
            with pytest.raises(StatementNotAllowed):
                s.sql("scratch", text)
        assert s.sql("scratch", "SELECT word FROM {table}").fetchall() == [("a",)]


def test_it_keeps_its_tenant_whatever_is_bound_later(acme):
    s = scratch(acme, "a")
    for number, bound in enumerate(("bolt", None), 10):
        with acme.tenant(bound):
            assert s.tenant == "acme"
            assert s.insert("scratch", [{"id": number}]) == 1
            assert s.sql("scratch", "SELECT count(*) FROM {table}").fetchall() == [
                (s.count_rows("scratch"),)
            ]
            with pytest.raises(TableNotFound):
                acme.sql(f"SELECT * FROM {s.table_ref('scratch')}")
            s.create(f"of_{str(bound).lower()}", SCHEMA, primary_key=["id"])
    with acme.tenant("bolt"):
        s.close()
        assert (acme.sessions(), events(acme, s), events(acme, s, "bolt")) == (
            [],
            ["opened", "closed"],
            [],
        )


def test_another_tenant_sees_no_session_and_its_tables_are_no_mutable_tables(acme):
    with scratch(acme, "a") as s:
        assert [(each.id, each.tenant, each.tables) for each in acme.sessions()] == [
            (s.id, "acme", s.tables)
        ]
        assert acme.sql("SELECT id, tenant, tables FROM jammi_catalog.sessions").fetchall() == [
            (s.id, "acme", list(s.tables.values()))
        ]
        assert acme.sql("SELECT * FROM jammi_catalog.mutable_tables").fetchall() == []
        assert "__eph" not in repr(acme.sql("SHOW TABLES").fetchall())
        with acme.tenant("bolt"):
            assert acme.sessions() == []
            assert acme.sql("SELECT * FROM jammi_catalog.sessions").fetchall() == []


def test_a_table_of_a_session_goes_with_it_and_not_before(acme):
    with scratch(acme, "a") as s:
        with pytest.raises(InvalidArgument, match="ephemeral session"):
            acme.mutable.drop(s.tables["scratch"])
        with pytest.raises(NameInvalid):
            acme.mutable.create(f"__eph_{'0' * 32}_mine", SCHEMA, primary_key=["id"])
        assert s.count_rows("scratch") == 1


# -- the end ---------------------------------------------------------------------------------------


def test_closing_drops_everything_and_tells_how_much(acme):
    s = scratch(acme, "a", "b", "c")
    s.create("empty", SCHEMA, primary_key=["id"])
    reference = s.table_ref("scratch")
    s.close()
    first, last = told(acme, s)
    assert {k: v for k, v in first.items() if k != "occurred_at"} == {
        "session_id": s.id, "tenant_id": "acme", "event": "opened", "ephemeral_table_count": 0, "deleted_row_count": 0
    }  # fmt: skip
    assert (last["event"], last["ephemeral_table_count"], last["deleted_row_count"]) == (
        "closed",
        2,
        3,
    )
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", last["occurred_at"])
    with pytest.raises(TableNotFound):
        acme.sql(f"SELECT * FROM {reference}")
    assert acme.sessions() == []


def test_the_audit_topic_keeps_the_newest_events_of_a_tenant(acme, tmp_path, monkeypatch):
    monkeypatch.setattr("jammi_lab.features.live.ephemeral_sessions.MAX_AUDIT_EVENTS", 4)
    with acme.tenant("bolt"), acme.ephemeral():
        pass
    sessions = []
    for _ in range(5):
        with acme.ephemeral() as session:
            sessions.append(session.id)
    kept = [(each["session_id"], each["event"]) for each in told(acme)]
    assert kept == [(each, event) for each in sessions[-2:] for event in ("opened", "closed")]
    assert [event.offset for event in acme.topics.replay(AUDIT)] == [6, 7, 8, 9]
    assert len(told(acme, tenant="bolt")) == 2
    with services_of(acme).catalog.database.read() as tx:
        ids = [log_id for (log_id,) in tx.fetch("SELECT log_id FROM logs WHERE kind = 'topic'")]
        counts = [tx.fetch(f"SELECT count(*) FROM {entries_table(each)}")[0][0] for each in ids]
        assert sorted(counts) == [2, 4]


def test_closing_twice_is_quiet_and_all_else_is_refused(acme):
    s = scratch(acme, "a")
    s.close()
    s.close()
    for use in uses(s):
        with pytest.raises(SessionClosed, match="closed"):
            use()
    assert events(acme, s) == ["opened", "closed"]
    assert not s.expired


def test_a_use_that_a_close_overtakes_says_that_the_session_is_over(acme, monkeypatch):
    s = scratch(acme, "a")
    read = s._read
    s._read = lambda *how: (s.close(), read(*how))[1]
    with pytest.raises(SessionClosed, match="it was closed"):
        s.sql("scratch", "SELECT * FROM {table}")
    s = scratch(acme, "a")
    insert = s._sessions.insert
    monkeypatch.setattr(s._sessions, "insert", lambda *how: (s.close(), insert(*how))[1])
    with pytest.raises(SessionClosed, match="it was closed"):
        s.insert("scratch", [{"id": 7, "word": "x"}])
    monkeypatch.undo()
    s = scratch(acme, "a")
    with pytest.raises(TableNotFound, match="nothing"):
        s.sql("scratch", "SELECT * FROM jammi.nothing, {table}")
    s.close()


def test_the_block_closes_it_also_on_an_exception(acme):
    with pytest.raises(RuntimeError), scratch(acme, "a") as s:
        raise RuntimeError
    assert events(acme, s) == ["opened", "closed"]


def test_closing_the_workspace_closes_its_sessions(acme, tmp_path):
    kept = [scratch(acme, "a"), acme.ephemeral()]
    acme.close()
    with jl.open(tmp_path / "lab") as again:
        assert [events(again, s) for s in kept] == [["opened", "closed"]] * 2
        with again.tenant("acme"):
            assert again.sessions() == []
    for s in kept:
        s.close()


def test_one_scanner_serves_a_workspace_and_none_is_left(acme):
    def scanners():
        return [t for t in threading.enumerate() if t.name == "jammi-sessions"]

    held = [acme.ephemeral() for _ in range(3)]
    assert len(scanners()) == 1
    for s in held:
        s.close()
    acme.ephemeral()
    assert len(scanners()) == 1
    acme.close()
    assert scanners() == []


@pytest.mark.parametrize("how", ["timed_out", "closed"])
def test_the_scanner_outlives_a_disk_that_failed_once_and_tries_again(acme, how):
    failed = []

    def fail(point):
        if (
            point == "catalog:before-commit"
            and threading.current_thread().name == "jammi-sessions"
            and not failed
        ):
            failed.append(point)
            raise OSError(5, "Input/output error")

    session = scratch(acme, "x")
    identity = session.id
    install_fault_hook(fail)
    try:
        if how == "timed_out":
            due_in(session, 0)
        else:
            del session
            gc.collect()
        until(lambda: not acme.sessions(), 20)
    finally:
        install_fault_hook(None)
    told_of_it = [each["event"] for each in told(acme) if each["session_id"] == identity]
    assert failed and told_of_it == ["opened", how]


def test_a_table_that_will_not_go_is_named_and_told(acme, monkeypatch):
    s = scratch(acme, "a", "b")
    s.create("stuck", SCHEMA, primary_key=["id"])
    s.insert("stuck", [{"id": 1}])
    drop = LogRepository.drop

    def failing(self, record):
        rows = drop(self, record)
        if record.name.endswith("_stuck"):
            raise OSError("no")
        return rows

    with monkeypatch.context() as patched:
        patched.setattr(LogRepository, "drop", failing)
        with pytest.raises(PartialDeletionFailure) as caught:
            s.close()
    error, survivor = caught.value, s.tables["stuck"]
    assert (error.session_id, error.failed, error.total, error.tables) == (s.id, 1, 2, [survivor])
    assert survivor in str(error)
    last = told(acme, s)[-1]
    assert last["details"] == {"surviving_tables": [survivor], "attempted_event": "closed"}
    assert (last["event"], last["ephemeral_table_count"], last["deleted_row_count"]) == (
        "partial_deletion_failure",
        2,
        2,
    )
    for (
        name
    ) in s.tables.values():  # what was dropped stays dropped, and what was not is out of reach
        with pytest.raises((TableNotFound, SessionClosed)):
            acme.sql(f'SELECT * FROM mutable."{name}"')
    assert acme.sessions() == []
    s.close()
    acme.recover()  # and tries again, without another event
    assert len(told(acme, s)) == 2
    assert services_of(acme).catalog.mutable_tables.list(session=s.id) == []


def test_a_table_of_ones_own_that_quotes_a_session_stays(acme):
    s = scratch(acme, "a")
    acme.mutable.create("notes", SCHEMA, primary_key=["id"])
    acme.mutable["notes"].insert([{"id": 1, "word": s.tables["scratch"]}])
    s.close()
    assert acme.sql("SELECT word FROM mutable.notes").fetchall() == [(s.tables["scratch"],)]


def test_close_scanner_finaliser_and_another_thread_end_it_once(acme):
    for _ in range(15):
        s = scratch(acme, "a", timeout=30)
        sessions, held = services_of(acme).sessions, s._session
        held.deadline_ns = 0
        sessions.close_later(s.id)
        in_threads(lambda call: call(), [s.close, sessions.scan, sessions.scan, sessions.scan])
        assert len(told(acme, s)) == 2, told(acme, s)
        assert events(acme, s)[1] in ("closed", "timed_out")


# -- time ------------------------------------------------------------------------------------------


def test_a_time_out_is_a_number_above_0(acme):
    for timeout in (0, -1, float("nan"), "ten", None, True):
        with pytest.raises(ValueError, match=r"timeout must be .* greater than 0"):
            acme.ephemeral(timeout=timeout)
    assert acme.sessions() == []


def test_one_beyond_the_calendar_is_none(acme):
    for timeout in (float("inf"), 1e300, 10**12):
        with acme.ephemeral(timeout=timeout) as s:
            assert (s.deadline, s.expired) == (None, False)
            s.extend(10)
            assert s.deadline is None


def test_the_deadline_counts_from_opening_and_extend_moves_it(hands):
    s = scratch(hands, "a", timeout=100)
    assert (s.deadline - s.created_at).total_seconds() == s.timeout == 100
    hands.clock.go_on(90)
    s.insert("scratch", [{"id": 9}])
    s.extend(50)
    assert (s.deadline - s.created_at).total_seconds() == 150
    assert hands.sessions()[0].deadline == s.deadline
    hands.clock.go_on(59)
    hands.scan()
    with pytest.raises(InvalidArgument):
        s.extend(-5)
    assert not s.expired
    hands.clock.go_on(1)
    assert s.expired
    hands.scan()
    assert events(hands, s) == ["opened", "timed_out"]


def test_past_the_deadline_every_access_is_refused_before_any_scan(hands):
    s = scratch(hands, "a", timeout=10)
    reference = s.table_ref("scratch")
    held = hands.mutable[s.tables["scratch"]]
    hands.clock.go_on(10)
    for use in (
        lambda: held.insert([{"id": 7, "word": "x"}]),
        lambda: held.upsert([{"id": 0, "word": "x"}]),
        lambda: held.update({"word": "x"}, "id = 0"),
        lambda: held.delete("id = 0"),
        lambda: held.read(),
        lambda: held.changes(),
        *uses(s),
        lambda: hands.sql(f"SELECT * FROM {reference}"),
        lambda: hands.sql(f"INSERT INTO {reference} VALUES (8, 'x')"),
    ):
        with pytest.raises(SessionClosed, match="deadline"):
            use()
    assert s.tables["scratch"] not in hands.mutable
    assert events(hands, s) == ["opened"]
    hands.scan()
    assert told(hands, s)[-1]["deleted_row_count"] == 1


def test_another_kernel_keeps_to_the_deadline_too(hands, tmp_path):
    s = scratch(hands, "a", timeout=10)
    reference = s.table_ref("scratch")
    with opened(tmp_path / "lab", hands.clock) as other, other.tenant("acme"):
        assert other.sql(f"SELECT word FROM {reference}").fetchall() == [("a",)]
        held = other.mutable[s.tables["scratch"]]
        hands.clock.go_on(10)
        for use in (
            lambda: other.sql(f"SELECT word FROM {reference}"),
            lambda: held.insert([{"id": 9, "word": "x"}]),
        ):
            with pytest.raises(SessionClosed):
                use()


def test_a_running_statement_is_not_cut(hands):
    s = scratch(hands, "a", timeout=10)
    reading, go_on = threading.Event(), threading.Event()
    read = s._read

    def slowly(text, params):
        reading.set()
        assert go_on.wait(10)
        return read(text, params)

    s._read = slowly
    found = []
    thread = threading.Thread(
        target=lambda: found.append(s.sql("scratch", "SELECT 1 AS one").fetchall())
    )
    thread.start()
    assert reading.wait(10)
    hands.clock.go_on(60)
    hands.scan()
    assert events(hands, s) == ["opened"]
    with pytest.raises(SessionClosed):
        s.count_rows("scratch")
    go_on.set()
    thread.join()
    assert found == [[(1,)]]
    hands.scan()
    assert events(hands, s) == ["opened", "timed_out"]


def test_after_the_machine_slept_there_is_one_minute_of_grace(hands):
    s, later = scratch(hands, "a", timeout=100), scratch(hands, "b", timeout=10_000)
    hands.clock.sleep(3600)
    assert s.count_rows("scratch") == 1  # by access, before any scan
    hands.clock.go_on(59)
    hands.scan()
    assert events(hands, s) == ["opened"]
    hands.clock.go_on(1)
    hands.scan()
    assert (events(hands, s), events(hands, later)) == (["opened", "timed_out"], ["opened"])
    hands.clock.sleep(7000)
    hands.scan()
    assert events(hands, later) == ["opened"]
    hands.clock.go_on(61)
    hands.scan()
    assert events(hands, later) == ["opened", "timed_out"]


def test_a_session_that_is_opened_after_the_machine_slept_gets_no_grace_for_it(hands):
    hands.clock.sleep(3600)
    s = scratch(hands, "a", timeout=10)
    hands.clock.go_on(10)
    with pytest.raises(SessionClosed):
        s.count_rows("scratch")


def test_a_clock_that_is_set_back_makes_no_session_last_longer(hands):
    s = scratch(hands, "a", timeout=60)
    hands.clock.go_on(10)
    hands.clock.set_back(3600)
    assert s.count_rows("scratch") == 1
    assert (s.deadline - s.created_at).total_seconds() == 60 - 3600 and hands.sessions()[
        0
    ].deadline == s.deadline
    hands.clock.go_on(49)
    assert s.count_rows("scratch") == 1
    hands.clock.go_on(1)
    with pytest.raises(SessionClosed):
        s.count_rows("scratch")


# -- nothing is left -------------------------------------------------------------------------------


LOOK = """
import pathlib, sys
folder, value = pathlib.Path(sys.argv[1]), sys.argv[2].encode()
print(*(file.relative_to(folder) for file in folder.rglob("*") if file.is_file() and value in file.read_bytes()), sep="\\0", end="")
"""


def files_with(folder, value):
    """Where a value is. Another process looks: closing a file of SQLite's in this one would let go
    of the locks that it has on it."""
    looked = subprocess.run(
        [sys.executable, "-I", "-S", "-c", LOOK, str(folder), value],
        capture_output=True,
        text=True,
        check=True,
    )
    return [name for name in looked.stdout.split("\0") if name]


def fill(insert, word=CANARY):
    """Rows of every size, so that they go through rows, changes, overflow and free pages."""
    insert([{"id": n, "word": f"{word} {n}"} for n in range(400)])
    insert([{"id": 1000 + n, "word": word * 2000} for n in range(5)])


def test_after_close_or_drop_no_value_is_in_any_file(acme, tmp_path):
    s = scratch(acme)
    fill(partial(s.insert, "scratch"), "of-a-session")
    notes = acme.mutable.create("notes", SCHEMA, primary_key=["id"])
    fill(notes.insert, "of-a-table")
    for table in (s.table_ref("scratch"), "mutable.notes"):
        acme.sql(f"UPDATE {table} SET word = word || '!' WHERE id < 200")
        acme.sql(f"DELETE FROM {table} WHERE id < 100")
    s.sql("scratch", "SELECT word, count(*) FROM {table} GROUP BY word ORDER BY word").arrow()
    acme.topics.register("events", {"word": "string"})
    acme.topics.publish("events", [{"word": "of-a-topic" * n} for n in (1, 2000)])
    for word, end in (
        ("of-a-session", s.close),
        ("of-a-table", lambda: acme.mutable.drop("notes")),
        ("of-a-topic", lambda: acme.topics.drop("events")),
    ):
        assert files_with(tmp_path, word)
        end()
        assert files_with(tmp_path, word) == []


def test_a_backup_leaves_the_tables_of_sessions_out_and_who_opens_it_tells_their_end(
    acme, tmp_path
):
    acme.mutable.create("notes", {"id": "int64"}, primary_key=["id"]).insert([{"id": 1}])
    with scratch(acme) as s:
        fill(partial(s.insert, "scratch"))
        (tmp_path / "copy").mkdir()
        with acme.tenant(None):
            acme.backup(tmp_path / "copy" / "catalog.sqlite3")
        assert s.count_rows("scratch") == 405
        assert files_with(tmp_path / "copy", CANARY) == [] and files_with(tmp_path / "lab", CANARY)
    with jl.open(tmp_path / "copy", tenant="acme") as copy:
        assert [m.name for m in copy.mutable.list()] == ["notes"] and len(
            copy.mutable["notes"]
        ) == 1
        assert events(copy, s) == ["opened", "abandoned"] and copy.sessions() == []


def test_a_drop_waits_for_no_reader_of_an_older_state(acme, tmp_path):
    acme.mutable.create("notes", {"id": "int64", "word": "string"}, primary_key=["id"]).insert(
        [{"id": 1, "word": CANARY}]
    )
    with jl.open(tmp_path / "lab") as other, services_of(other).catalog.database.read() as tx:
        tx.fetch("SELECT count(*) FROM meta")
        acme.mutable.drop("notes")
        assert "notes" not in acme.mutable


def test_what_a_failed_table_over_a_session_was_told_is_in_no_file_either(acme, tmp_path):
    s = scratch(acme, CANARY)
    reference = s.table_ref("scratch")
    for text, key in (
        (f"SELECT CAST(word AS INTEGER) AS n FROM {reference}", None),
        (f"SELECT word FROM {reference}, range(2)", ["word"]),
    ):
        with pytest.raises(JammiError, match=CANARY):
            acme.materialize("failing", text, key=key)
    s.close()
    assert [t.status for t in acme.tables(status="failed")] == ["failed", "failed"]
    assert files_with(tmp_path, CANARY) == []


def test_a_read_only_workspace_opens_no_session(tmp_path, ws):
    ws.close()
    with jl.open(tmp_path / "lab", read_only=True, tenant="acme") as reader:
        with pytest.raises(JammiError):
            reader.ephemeral()
        assert reader.sessions() == []


def test_a_close_while_somebody_reads_the_catalog_says_that_the_log_is_emptied_later_and_then_it_is(
    acme, tmp_path, monkeypatch
):
    monkeypatch.setattr("jammi_lab.features.live.ephemeral_sessions.PURGE_SECONDS", 0.1)
    session = scratch(acme)
    session.insert("scratch", [{"id": 7, "word": CANARY}])
    viewer = """import sqlite3, sys
catalog = sqlite3.connect(sys.argv[1])
catalog.execute("BEGIN")
catalog.execute("SELECT count(*) FROM recipes").fetchall()
print(flush=True)
input()"""
    # another process: a second SQLite library in this one would let go of the catalog's locks
    reader = subprocess.Popen(
        [sys.executable, "-c", viewer, f"{acme.path}/catalog.sqlite3"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert reader.stdout.readline() == b"\n"
        with pytest.warns(RuntimeWarning, match="log until readers of an older snapshot"):
            session.close()
        with pytest.warns(RuntimeWarning, match="log until"):
            session.close()
    finally:
        reader.communicate(b"\n")
    monkeypatch.setattr("jammi_lab.features.live.ephemeral_sessions.PURGE_SECONDS", 60)
    with warnings.catch_warnings(action="error"):
        session.close()
    assert not files_with(tmp_path, CANARY)


def test_after_the_deadline_no_value_is_in_any_file(acme, tmp_path):
    s = scratch(acme)
    fill(partial(s.insert, "scratch"))
    due_in(s, 0.2)
    assert until(lambda: events(acme, s) != ["opened"], 30)
    assert until(lambda: not files_with(tmp_path, CANARY), 30)
