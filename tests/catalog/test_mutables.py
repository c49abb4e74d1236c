"""Commits to mutable tables that come at once: one transaction, a version each, and none of them suffers for another."""

import threading
import time

import pytest

from jammi_lab.catalog.mutable_commits import Change, Moved, Present
from jammi_lab.errors import JammiError, TableNotFound, TenantForbidden
from jammi_lab.storage.files import install_fault_hook
from jammi_lab.values.mutables import MutableRecord
from tests.catalog.conftest import Lab

KEEP = 1000


@pytest.fixture
def mutables(lab: Lab):
    return lab.catalog.mutables


@pytest.fixture
def table(mutables):
    return mutables.create(MutableRecord(0, "t", b"schema", ["k"]))


@pytest.fixture
def points():
    passed = []
    install_fault_hook(passed.append)
    yield passed
    install_fault_hook(None)


def at_once(mutables, asked):
    """What each of several commits gives that wait for one another; the first in the list is the one that leads."""
    commits, outcomes = mutables._commits, [None] * len(asked)

    def run(at, record, change):
        try:
            outcomes[at] = mutables.commit(record, change, KEEP)
        except Exception as error:
            outcomes[at] = error

    threads = [threading.Thread(target=run, args=(at, *each)) for at, each in enumerate(asked)]
    with commits._turn:
        for number, each in enumerate(threads, 1):
            each.start()
            until = time.monotonic() + 5
            while len(commits._waiting) < number and time.monotonic() < until:
                time.sleep(0.001)
    for each in threads:
        each.join()
    return outcomes


def put(**rows):
    return Change(put={k.encode(): v.encode() for k, v in rows.items()}, anew=True)


def test_those_that_wait_are_committed_together_and_each_has_a_version(mutables, table, points):
    outcomes = at_once(mutables, [(table, put(**{f"k{n}": "x"})) for n in range(8)])
    assert sorted(o.version for o in outcomes) == [*range(1, 9)] and points.count("catalog:before-commit") == 1
    record, keys, _ = mutables.rows(table.table_id)
    assert (record.version, record.row_count, keys) == (8, 8, [b"k%d" % n for n in range(8)])
    assert sorted(mutables.history(table.table_id, 0).touched.values()) == [*range(1, 9)]
    assert mutables.history(table.table_id, 8).touched == {}


def test_one_that_is_refused_takes_nothing_from_the_others(mutables, table, points):
    gone = mutables.create(MutableRecord(0, "gone", b"schema", ["k"]))
    mutables.drop(gone)
    shared = MutableRecord(table.table_id, "t", b"schema", ["k"])
    outcomes = at_once(
        mutables,
        [
            (table, put(a="1")),
            (table, put(b="2", a="3")),  # of the two that want `a`, one has it
            (gone, put(c="4")),
            (shared, Change(put={b"d": b"5"}, rests_on={table.table_id: 99})),
            (table, put(e="6")),
        ],
    )
    kinds = [type(o).__name__ for o in outcomes]
    assert sorted(kinds[:2]) == ["Committed", "Present"] and isinstance(outcomes[2], TableNotFound) and isinstance(outcomes[3], Moved)
    assert kinds[4] == "Committed" and mutables.get("t").version == 2
    assert b"e" in mutables.rows(table.table_id)[1] and b"d" not in mutables.rows(table.table_id)[1]


def test_what_one_put_another_that_waits_with_it_finds(mutables, table):
    new, any_way = at_once(mutables, [(table, put(a="1")), (table, Change(put={b"a": b"2"}))])
    if isinstance(new, Present):  # the other one was first
        assert (any_way.inserted, any_way.updated, mutables.get("t").version) == (1, 0, 1)
    else:
        assert (new.inserted, any_way.inserted, any_way.updated, mutables.get("t").version) == (1, 0, 1, 2)
    history = mutables.history(table.table_id, 0)
    assert (history.before, history.now) == ({b"a": None}, {b"a": b"2"})


def test_a_failure_of_the_disk_reaches_everybody_who_was_not_committed(mutables, table):
    def full(point):
        if point == "catalog:before-commit":
            raise OSError(28, "No space left on device")

    install_fault_hook(full)
    try:
        outcomes = at_once(mutables, [(table, put(a="1")), (table, put(b="2")), (table, put(c="3"))])
    finally:
        install_fault_hook(None)
    assert all(isinstance(o, OSError) for o in outcomes) and mutables.get("t").version == 0 and mutables._commits._waiting == []
    assert mutables.commit(table, put(a="1"), KEEP).version == 1


def test_a_commit_inside_of_a_transaction_is_part_of_it(lab, mutables, table):
    with pytest.raises(RuntimeError), lab.catalog.transaction():
        assert mutables.commit(table, put(a="1"), KEEP).version == 1
        raise RuntimeError
    assert mutables.get("t").version == 0 and mutables.rows(table.table_id)[1] == []


def test_what_is_anothers_is_not_there_and_what_is_shared_is_forbidden(lab, mutables, table):
    with lab.scope.use("acme"):
        own = mutables.create(MutableRecord(0, "mine", b"schema", ["k"], tenant="acme"))
        with pytest.raises(TenantForbidden):
            mutables.commit(table, put(a="1"), KEEP)
    with lab.scope.use("zeta"):
        for act in (lambda: mutables.commit(own, put(a="1"), KEEP), lambda: mutables.rows(own.table_id), lambda: mutables.history(own.table_id, 0)):
            with pytest.raises(TableNotFound):
                act()
        assert mutables.get("mine") is None and [m.name for m in mutables.list()] == ["t"]
    with lab.catalog.everyone():
        assert {m.name for m in mutables.list()} == {"t", "mine"}


def test_a_dropped_table_leaves_nothing_in_the_database(lab, mutables, table):
    mutables.commit(table, put(a="1"), KEEP)
    assert mutables.drop(table) == 1 and mutables.drop(table) == 0
    import sqlalchemy as sa

    with lab.catalog.database.read() as tx:
        assert [name for name in sa.inspect(tx).get_table_names() if name.startswith("mutable_") and name != "mutable_tables"] == []
    with pytest.raises(JammiError):
        mutables.commit(table, put(b="2"), KEEP)
