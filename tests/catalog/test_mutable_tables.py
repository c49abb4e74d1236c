"""Commits to mutable tables that come at once: one transaction, a version each, and none of them
suffers for another."""

import contextlib
import threading
import time

import pytest

from jammi_lab.core.errors import JammiError, TableNotFound, TenantForbidden
from jammi_lab.core.records import MutableRecord
from jammi_lab.features.live import commits as mutable_commits
from jammi_lab.features.live.commits import Change, ExistingRow, VersionMoved
from jammi_lab.storage.files import install_fault_hook
from tests.catalog.conftest import Lab

KEEP = 1000


@pytest.fixture
def mutables(lab: Lab):
    return lab.catalog.mutable_tables


@pytest.fixture
def table(mutables):
    return mutables.create(MutableRecord(0, "t", b"schema", ["k"]))


@pytest.fixture
def points():
    passed = []
    install_fault_hook(passed.append)
    yield passed
    install_fault_hook(None)


def at_once(mutables, asked, scopes=None):
    """What each of several commits gives that wait for one another, each in its scope."""
    commits, outcomes = mutables.commits, [None] * len(asked)

    def run(at, record, change):
        try:
            with scopes[at] if scopes else contextlib.nullcontext():
                outcomes[at] = mutables.commit(record, change, KEEP)
        except BaseException as error:
            outcomes[at] = error

    threads = [threading.Thread(target=run, args=(at, *each)) for at, each in enumerate(asked)]
    with commits.leader_lock:
        for number, each in enumerate(threads, 1):
            each.start()
            until = time.monotonic() + 5
            while len(commits.waiting) < number and time.monotonic() < until:
                time.sleep(0.001)
    commits._wake_next()
    for each in threads:
        each.join()
    return outcomes


def put(**rows):
    return Change(put={k.encode(): v.encode() for k, v in rows.items()}, must_be_new=True)


def test_those_that_wait_are_committed_together_and_each_has_a_version(mutables, table, points):
    outcomes = at_once(mutables, [(table, put(**{f"k{n}": "x"})) for n in range(8)])
    assert (
        sorted(o.version for o in outcomes) == [*range(1, 9)]
        and points.count("catalog:before-commit") == 1
    )
    record, keys, _ = mutables.rows(table.table_id)
    assert (record.version, record.row_count, keys) == (8, 8, [b"k%d" % n for n in range(8)])
    assert sorted(mutables.history(table.table_id, 0).touched.values()) == [*range(1, 9)]
    assert mutables.history(table.table_id, 8).touched == {}


def test_those_who_asked_together_before_are_waited_for(mutables, table, points, monkeypatch):
    monkeypatch.setattr(mutable_commits, "MAX_GATHER_SECONDS", 60.0)
    at_once(mutables, [(table, put(**{f"k{n}": "x"})) for n in range(3)])
    commits = mutables.commits
    assert commits.expected_requests == 3
    commits.last_duration = 60.0
    points.clear()
    outcomes = []
    first = threading.Thread(
        target=lambda: outcomes.append(mutables.commit(table, put(a="1"), KEEP))
    )
    first.start()
    until = time.monotonic() + 20
    while not commits.leader_lock.locked() and time.monotonic() < until:
        time.sleep(0.001)
    others = [
        threading.Thread(
            target=lambda n=n: outcomes.append(mutables.commit(table, put(**{f"b{n}": "1"}), KEEP))
        )
        for n in range(2)
    ]
    for each in others:
        each.start()
    for each in (first, *others):
        each.join()
    assert (
        sorted(o.version for o in outcomes) == [4, 5, 6]
        and points.count("catalog:before-commit") == 1
    )


def test_who_comes_alone_waits_at_most_once_and_not_longer_than_a_commit_took(mutables, table):
    commits = mutables.commits
    commits.expected_requests, commits.last_duration = 8, 0.001
    assert mutables.commit(table, put(a="1"), KEEP).version == 1 and commits.expected_requests == 1
    commits.last_duration = 3600.0
    assert mutables.commit(table, put(b="1"), KEEP).version == 2


def test_nobody_is_waited_for_when_there_is_much_to_write_already(mutables, table, monkeypatch):
    monkeypatch.setattr(mutable_commits, "MAX_GATHER_SECONDS", 3600.0)
    commits = mutables.commits
    commits.expected_requests, commits.last_duration = 8, 3600.0
    assert mutables.commit(table, put(**{f"k{n}": "x" for n in range(600)}), KEEP).inserted == 600


def test_many_rows_of_several_go_in_several_transactions_and_none_is_left_out(
    mutables, table, points
):
    asked = [(table, put(**{f"k{n} {m}": "x" for m in range(600)})) for n in range(5)]
    outcomes = at_once(mutables, asked)
    assert (
        sorted(o.version for o in outcomes) == [1, 2, 3, 4, 5]
        and mutables.get("t").row_count == 3000
    )
    assert 1 < points.count("catalog:before-commit") < 5


def test_of_those_that_were_committed_together_each_is_woken_and_none_waits_out_its_patience(
    mutables, table, monkeypatch
):
    monkeypatch.setattr(mutable_commits, "POLL_SECONDS", 60.0)
    began = time.monotonic()
    for at in range(5):
        outcomes = at_once(mutables, [(table, put(**{f"k{at} {n}": "x"})) for n in range(8)])
        assert sorted(o.version for o in outcomes) == [*range(8 * at + 1, 8 * at + 9)]
    assert time.monotonic() - began < 60


def test_no_thread_opens_a_connection_to_commit(lab, mutables, table):
    before = len(lab.catalog.database.handles)
    for _ in range(3):
        at_once(mutables, [(table, put(**{f"k{n}": "x"})) for n in range(8)])
    assert len(lab.catalog.database.handles) <= before + 1


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
            (shared, Change(put={b"d": b"5"}, read_versions={table.table_id: 99})),
            (table, put(e="6")),
        ],
    )
    kinds = [type(o).__name__ for o in outcomes]
    assert (
        sorted(kinds[:2]) == ["Committed", "ExistingRow"]
        and isinstance(outcomes[2], TableNotFound)
        and isinstance(outcomes[3], VersionMoved)
    )
    assert kinds[4] == "Committed" and mutables.get("t").version == 2
    assert b"e" in mutables.rows(table.table_id)[1] and b"d" not in mutables.rows(table.table_id)[1]


def test_what_one_put_another_that_waits_with_it_finds(mutables, table):
    new, any_way = at_once(mutables, [(table, put(a="1")), (table, Change(put={b"a": b"2"}))])
    if isinstance(new, ExistingRow):  # the other one was first
        assert (any_way.inserted, any_way.updated, mutables.get("t").version) == (1, 0, 1)
    else:
        assert (new.inserted, any_way.inserted, any_way.updated, mutables.get("t").version) == (
            1,
            0,
            1,
            2,
        )
    history = mutables.history(table.table_id, 0)
    assert (history.before, history.now) == ({b"a": None}, {b"a": b"2"})


def test_a_failure_of_the_disk_reaches_everybody_who_was_not_committed(mutables, table):
    def full(point):
        if point == "catalog:before-commit":
            raise OSError(28, "No space left on device")

    install_fault_hook(full)
    try:
        outcomes = at_once(
            mutables, [(table, put(a="1")), (table, put(b="2")), (table, put(c="3"))]
        )
    finally:
        install_fault_hook(None)
    assert (
        all(isinstance(o, OSError) for o in outcomes)
        and mutables.get("t").version == 0
        and mutables.commits.waiting == []
    )
    assert mutables.commit(table, put(a="1"), KEEP).version == 1


def test_one_whose_row_is_there_already_is_refused_and_those_that_wait_with_it_are_committed(
    mutables, table, points
):
    mutables.commit(table, put(a="0"), KEEP)
    points.clear()
    outcomes = at_once(
        mutables, [(table, put(b="1")), (table, put(a="2", c="3")), (table, put(d="4"))]
    )
    assert (
        isinstance(outcomes[1], ExistingRow)
        and outcomes[1].bodies == [b"0"]
        and points.count("catalog:before-commit") == 1
    )
    assert sorted((outcomes[0].version, outcomes[2].version)) == [2, 3] and mutables.rows(
        table.table_id
    )[1] == [b"a", b"b", b"d"]
    history = mutables.history(table.table_id, 1)
    assert history.before == {b"b": None, b"d": None} and history.record.row_count == 3


def test_an_interrupt_of_the_one_that_commits_for_all_leaves_the_others_to_commit(mutables, table):
    def once(point):
        if point == "catalog:before-commit":
            install_fault_hook(None)
            raise KeyboardInterrupt

    install_fault_hook(once)
    try:
        outcomes = at_once(mutables, [(table, put(**{f"k{n}": "x"})) for n in range(4)])
    finally:
        install_fault_hook(None)
    interrupted = [at for at, o in enumerate(outcomes) if isinstance(o, KeyboardInterrupt)]
    assert len(interrupted) == 1 and mutables.get("t").version == 3
    assert mutables.rows(table.table_id)[1] == [
        b"k%d" % n for n in range(4) if n not in interrupted
    ]
    assert mutables.commit(table, put(a="1"), KEEP).version == 4


@pytest.mark.parametrize("what", [KeyboardInterrupt, OSError])
def test_what_fails_behind_the_commit_takes_it_from_nobody(mutables, table, what):
    def once(point):
        if point == "catalog:after-commit":
            install_fault_hook(None)
            raise what

    mutables.commit(table, put(old="x"), KEEP)
    changes = [put(a="1"), put(b="2", c="3"), Change(put={b"old": b"y"}), Change(remove=[b"old"])]
    install_fault_hook(once)
    try:
        outcomes = at_once(mutables, [(table, change) for change in changes])
    finally:
        install_fault_hook(None)
    told = [o.version for o in outcomes if not isinstance(o, BaseException)]
    assert (
        sum(isinstance(o, KeyboardInterrupt) for o in outcomes)
        == 4 - len(told)
        == (1 if what is KeyboardInterrupt else 0)
    )
    assert len(set(told)) == len(told) and mutables.get("t").version == 5
    assert mutables.rows(table.table_id)[1][:3] == [b"a", b"b", b"c"]


@pytest.mark.parametrize("numbered", [False, True], ids=["bytes", "numbers"])
@pytest.mark.parametrize("rows", [1, 3, 4, 5, 15, 16, 17, 64, 100, 255, 256, 257, 700])
def test_any_number_of_rows_is_put_looked_for_and_removed_whole(mutables, rows, numbered):
    table = mutables.create(MutableRecord(0, "t", b"schema", ["k"], numbered=numbered))
    key = (lambda n: n - 3) if numbered else (lambda n: b"%08d" % n)
    body = lambda word: {key(n): b"%s %d" % (word, n) for n in range(rows)}  # noqa: E731
    assert mutables.commit(table, Change(put=body(b"new"), must_be_new=True), KEEP).inserted == rows
    assert dict(zip(*mutables.rows(table.table_id)[1:], strict=True)) == body(b"new")
    last = key(rows - 1)
    with pytest.raises(ExistingRow) as there:
        mutables.commit(
            table,
            Change(put={key(n + rows - 1): b"x" for n in range(rows)}, must_be_new=True),
            KEEP,
        )
    assert (
        there.value.bodies == [b"new %d" % (rows - 1)]
        and len(mutables.rows(table.table_id)[1]) == rows
    )
    changed = mutables.commit(
        table, Change(put=body(b"other") | {last: b"new %d" % (rows - 1)}), KEEP
    )
    assert (changed.inserted, changed.updated, changed.matched) == (0, rows - 1, rows)
    history = mutables.history(table.table_id, 1)
    assert len(history.before) == rows - 1 and all(
        history.now[key] == body(b"other")[key] for key in history.before
    )
    assert mutables.commit(table, Change(remove=[*body(b"")][1:]), KEEP).deleted == rows - 1
    assert mutables.rows(table.table_id)[1] == [key(0)] and mutables.get("t").row_count == 1


def test_keys_that_are_numbers_are_in_their_order_to_the_ends(mutables):
    table = mutables.create(MutableRecord(0, "t", b"schema", ["k"], numbered=True))
    keys = [-(1 << 63), 1 - (1 << 63), -1, 0, 1, (1 << 63) - 1]
    mutables.commit(table, Change(put=dict.fromkeys(reversed(keys), b"x"), must_be_new=True), KEEP)
    assert mutables.rows(table.table_id)[1] == keys
    assert mutables.commit(table, Change(remove=keys[1:5]), KEEP).deleted == 4
    history = mutables.history(table.table_id, 1)
    assert set(history.before) == set(keys[1:5]) and mutables.rows(table.table_id)[1] == [
        keys[0],
        keys[5],
    ]


def _blob(catalog, value):
    return (
        f"x'{value.hex()}'"
        if "sqlite" in str(type(catalog.database.dialect)).lower()
        else f"'\\x{value.hex()}'::bytea"
    )


def test_a_commit_inside_of_a_transaction_is_part_of_it(lab, mutables, table):
    with pytest.raises(RuntimeError), lab.catalog.transaction():
        assert mutables.commit(table, put(a="1"), KEEP).version == 1
        with pytest.raises(ExistingRow):
            mutables.commit(table, put(b="2", a="3"), KEEP)
        assert mutables.rows(table.table_id)[1] == [b"a"]
        raise RuntimeError
    assert mutables.get("t").version == 0 and mutables.rows(table.table_id)[1] == []


def test_what_is_anothers_is_not_there_and_what_is_shared_is_forbidden(lab, mutables, table):
    with lab.scope.use("acme"):
        own = mutables.create(MutableRecord(0, "mine", b"schema", ["k"], tenant="acme"))
        with pytest.raises(TenantForbidden):
            mutables.commit(table, put(a="1"), KEEP)
    with lab.scope.use("zeta"):
        for act in (
            lambda: mutables.commit(own, put(a="1"), KEEP),
            lambda: mutables.rows(own.table_id),
            lambda: mutables.history(own.table_id, 0),
        ):
            with pytest.raises(TableNotFound):
                act()
        assert mutables.get("mine") is None and [m.name for m in mutables.list()] == ["t"]
    with lab.catalog.all_tenants():
        assert {m.name for m in mutables.list()} == {"t", "mine"}


def test_tenants_whose_changes_go_together_see_and_change_their_own_alone(
    lab, mutables, table, points
):
    with lab.scope.use("acme"):
        own = mutables.create(MutableRecord(0, "mine", b"schema", ["k"], tenant="acme"))
    points.clear()
    asked = [
        ("acme", own),
        ("zeta", own),
        (None, own),
        ("acme", table),
        (None, table),
        ("acme", own),
    ]
    given = [(record, put(**{f"k{at}": "x"})) for at, (_, record) in enumerate(asked)]
    outcomes = at_once(mutables, given, [lab.scope.use(tenant) for tenant, _ in asked])
    assert [type(o).__name__ for o in outcomes] == [
        "Committed", "TableNotFound", "TableNotFound", "TenantForbidden", "Committed", "Committed",
    ]  # fmt: skip
    assert points.count("catalog:before-commit") == 1 and mutables.rows(table.table_id)[1] == [
        b"k4"
    ]
    with lab.scope.use("acme"):
        assert mutables.rows(own.table_id)[1] == [b"k0", b"k5"]


def test_a_dropped_table_leaves_nothing_in_the_database(lab, mutables, table):
    mutables.commit(table, put(a="1"), KEEP)
    assert mutables.drop(table) == 1 and mutables.drop(table) == 0
    import sqlalchemy as sa

    with lab.catalog.database.read() as tx:
        assert [
            name
            for name in sa.inspect(tx).get_table_names()
            if name.startswith("mutable_") and name != "mutable_tables"
        ] == []
    with pytest.raises(JammiError):
        mutables.commit(table, put(b="2"), KEEP)
