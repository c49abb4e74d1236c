"""Logs, of both kinds: every entry has a position of its own, is whole or not there, and what is not
as it was written is told."""

import contextlib
import threading

import pytest

from jammi_lab.catalog.logs import NewEntry, entries_table
from jammi_lab.core.errors import (
    TableDamaged,
    TableNotFound,
    TenantForbidden,
    TopicNotFound,
)
from tests.catalog.conftest import Lab
from tests.waiting import at_once

GONE = (TableNotFound, TopicNotFound)


@pytest.fixture(params=["topics", "mutable_tables"])
def logs(lab: Lab, request):
    return getattr(lab.catalog, request.param)


@pytest.fixture
def log(logs):
    return logs.create("t", b"schema")[0]


def append(logs, record, body=b"x", rows=1):
    return logs.append(record, lambda now, _: NewEntry(body, rows, now.row_count + rows))


def stored(logs, record):
    now = logs.refresh(record)
    return [
        (each.position, each.body, each.row_count)
        for each in logs.entries(now, now.oldest, now.next)
    ]


def test_each_of_many_threads_has_a_position_of_its_own(lab, logs, log):
    other, _ = logs.create("gone", b"schema")
    logs.drop(other)
    calls = [lambda n=n: append(logs, log, b"%d" % n).next for n in range(8)]
    *positions, refused = at_once([*calls, lambda: append(logs, other, b"never")])
    assert type(refused) in GONE
    assert sorted(positions) == [*range(1, 9)]
    assert [position for position, *_ in stored(logs, log)] == [*range(8)]
    assert {body for _, body, _ in stored(logs, log)} == {b"%d" % n for n in range(8)}
    assert logs.refresh(log).row_count == 8


def test_what_is_refused_or_makes_nothing_takes_no_position(logs, log):
    append(logs, log)

    def refuse(*_):
        raise LookupError

    with pytest.raises(LookupError):
        logs.append(log, refuse)
    assert logs.append(log, lambda *_: None) is None
    assert append(logs, log).next == 2


def test_after_a_failure_of_the_disk_nothing_is_committed(logs, log, fault_hook):
    def full(point):
        if point == "catalog:before-commit":
            raise OSError(28, "No space left on device")

    fault_hook(full)
    with pytest.raises(OSError, match="No space"):
        append(logs, log)
    fault_hook(None)
    assert logs.refresh(log).next == 0 and append(logs, log).next == 1


@pytest.mark.parametrize("what", [KeyboardInterrupt, OSError])
def test_what_fails_behind_the_commit_loses_nothing(logs, log, what, fault_hook):
    def once(point):
        if point == "catalog:after-commit":
            fault_hook(None)
            raise what

    fault_hook(once)
    with pytest.raises(what) if what is KeyboardInterrupt else contextlib.nullcontext():
        assert append(logs, log, b"new").next == 1
    assert stored(logs, log) == [(0, b"new", 1)]


def test_a_commit_whose_answer_is_lost_counts_also_when_another_one_came_since(
    lab, logs, log, fault_hook
):
    def once(point):
        if point == "catalog:after-commit":
            fault_hook(None)
            thread = threading.Thread(target=lambda: append(logs, log, b"other"))
            thread.start()
            thread.join(10)
            raise OSError

    fault_hook(once)
    assert append(logs, log, b"new").next == 1
    assert stored(logs, log) == [(0, b"new", 1), (1, b"other", 1)]


def test_an_entry_inside_of_a_transaction_is_part_of_it(lab, logs, log):
    with pytest.raises(RuntimeError), lab.transaction():
        assert append(logs, log).next == 1 and len(stored(logs, log)) == 1
        raise RuntimeError
    assert logs.refresh(log).next == 0 and stored(logs, log) == []


def test_what_is_before_a_position_is_deleted_and_counted_no_more(lab):
    topics = lab.topics
    topic, _ = topics.create("t", b"schema")
    for n in range(4):
        append(topics, topic, b"%d" % n, rows=n + 1)
    topics.trim(topics.refresh(topic), 2)
    topics.trim(topics.refresh(topic), 1)
    now = topics.refresh(topic)
    assert (now.first, now.next, now.row_count) == (2, 4, 7)
    assert stored(topics, topic) == [(2, b"2", 3), (3, b"3", 4)]
    assert topics.sizes(now, 0, 9, 1) == [(2, 1)]
    topics.check(topic)


def test_a_base_takes_the_place_of_what_is_before_a_version(lab):
    tables = lab.mutable_tables
    table, _ = tables.create("t", b"schema", key=["k"])
    for n in range(4):
        append(tables, table, b"%d" % n)
    before = tables.refresh(table)
    [replaced] = tables.entries(before, 2, 3)
    with lab.transaction():
        tables.compact(before, 3, b"base", 3)
    now = tables.refresh(table)
    assert (now.first, now.next, now.row_count, now.oldest) == (3, 4, 4, 2)
    assert stored(tables, table) == [(2, b"base", 3), (3, b"3", 1)]
    # whoever has applied the commits up to there goes on from it
    assert tables.entries(now, 2, 3)[0].commit_id == replaced.commit_id
    tables.check(table)


@pytest.mark.parametrize(
    "change",
    [
        "body = 'y'",
        "row_count = 2",
        "produced_at = '1970-01-01T00:00:00Z'",
        "commit_id = 'other'",
        "digest = 'other'",
        "position = 7",
    ],
)
def test_an_entry_that_is_not_as_it_was_written_is_damage(lab, logs, log, change):
    append(logs, log)
    append(logs, log)
    change = change.replace("'y'", "CAST('y' AS BLOB)" if lab.database.dialect.file else "'y'")
    with lab.database.write() as tx:
        tx.execute(f"UPDATE {entries_table(log.log_id)} SET {change} WHERE position = 1")
    with pytest.raises(TableDamaged, match="'t' is damaged"):
        logs.check(log)
    with pytest.raises(TableDamaged):
        logs.entries(log, 1, 9)
    assert len(logs.entries(log, 0, 1)) == 1


def test_a_missing_entry_is_damage(lab, logs, log):
    append(logs, log)
    append(logs, log)
    with lab.database.write() as tx:
        tx.execute(f"DELETE FROM {entries_table(log.log_id)} WHERE position = 0")
    with pytest.raises(TableDamaged, match="1 of 2 entries"):
        logs.check(log)


def test_what_is_anothers_is_not_there_and_what_is_shared_is_forbidden(lab, logs, log):
    with lab.scope.use("acme"):
        own, is_new = logs.create("mine", b"schema")
        assert is_new and own.tenant == "acme"
        for act in (lambda: append(logs, log), lambda: logs.drop(log)):
            with pytest.raises(TenantForbidden):
                act()
        hiding, is_new = logs.create("t", b"schema")
        assert is_new and [each.log_id for each in logs.list()] == [own.log_id, hiding.log_id]
    with lab.scope.use("zeta"):
        for act in (lambda: append(logs, own), lambda: logs.current(own)):
            with pytest.raises(GONE):
                act()
        assert logs.get("mine") is None and [each.name for each in logs.list()] == ["t"]
    with lab.all_tenants():
        assert {each.name for each in logs.list()} == {"t", "mine"}


def test_kinds_do_not_meet(lab):
    topic, _ = lab.topics.create("t", b"schema")
    table, is_new = lab.mutable_tables.create("t", b"schema")
    assert is_new and topic.log_id != table.log_id
    assert lab.topics.create("T", b"other") == (topic, False)


def test_a_dropped_log_leaves_nothing_in_the_database(lab, logs, log):
    append(logs, log, rows=3)
    assert logs.drop(log) == 3 and logs.drop(log) == 0
    with lab.database.read() as tx:
        names = [
            name
            for (name,) in tx.fetch(
                "SELECT table_name FROM information_schema.tables "
                "WHERE table_schema = current_schema()"
                if lab.database.dialect.file is None
                else "SELECT name FROM sqlite_master"
            )
        ]
        assert [name for name in names if name.startswith("log_")] == []
    for use in (
        lambda: append(logs, log),
        lambda: logs.refresh(log),
        lambda: logs.entries(log, 0, 1),
        lambda: logs.check(log),
    ):
        with pytest.raises(GONE):
            use()
