"""Commits to mutable tables: a version each, and none suffers for another that comes at once."""

import contextlib
import threading

import pytest

from jammi_lab.catalog.mutable_commits import Change, ExistingRow, VersionMoved
from jammi_lab.core.errors import JammiError, TableNotFound, TenantForbidden
from jammi_lab.core.records import MutableRecord
from jammi_lab.storage.files import install_fault_hook
from tests.catalog.conftest import Lab

KEEP = 1000


@pytest.fixture
def mutables(lab: Lab):
    return lab.catalog.mutable_tables


@pytest.fixture
def table(mutables):
    return mutables.create(MutableRecord(0, "t", b"schema", ["k"]))


def at_once(mutables, asked, scopes=None):
    """What each of several commits from as many threads gives, each in its scope."""
    outcomes = [None] * len(asked)

    def run(at, record, change):
        try:
            with scopes[at] if scopes else contextlib.nullcontext():
                outcomes[at] = mutables.commit(record, change, KEEP)
        except BaseException as error:
            outcomes[at] = error

    threads = [threading.Thread(target=run, args=(at, *each)) for at, each in enumerate(asked)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    return outcomes


def put(**rows):
    return Change(put={k.encode(): v.encode() for k, v in rows.items()}, must_be_new=True)


def test_each_of_many_threads_has_a_version_of_its_own(mutables, table):
    outcomes = at_once(mutables, [(table, put(**{f"k{n}": "x"})) for n in range(8)])
    assert sorted(o.version for o in outcomes) == [*range(1, 9)]
    record, keys, _ = mutables.rows(table.table_id)
    assert (record.version, record.row_count, keys) == (8, 8, [b"k%d" % n for n in range(8)])
    assert sorted(mutables.history(table.table_id, 0).touched.values()) == [*range(1, 9)]
    assert mutables.history(table.table_id, 8).touched == {}


def test_one_that_is_refused_takes_nothing_from_the_others(mutables, table):
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


def test_after_a_failure_of_the_disk_nothing_is_committed(mutables, table):
    def full(point):
        if point == "catalog:before-commit":
            raise OSError(28, "No space left on device")

    install_fault_hook(full)
    try:
        with pytest.raises(OSError, match="No space"):
            mutables.commit(table, put(a="1"), KEEP)
    finally:
        install_fault_hook(None)
    assert mutables.get("t").version == 0
    assert mutables.commit(table, put(a="1"), KEEP).version == 1


def test_a_refused_insert_names_the_rows_that_are_there(mutables, table):
    mutables.commit(table, put(a="0"), KEEP)
    with pytest.raises(ExistingRow) as refused:
        mutables.commit(table, put(a="2", c="3"), KEEP)
    assert refused.value.bodies == [b"0"]
    assert mutables.commit(table, put(d="4"), KEEP).version == 2
    assert mutables.rows(table.table_id)[1] == [b"a", b"d"]


@pytest.mark.parametrize("what", [KeyboardInterrupt, OSError])
def test_what_fails_behind_the_commit_loses_nothing(mutables, table, what):
    def once(point):
        if point == "catalog:after-commit":
            install_fault_hook(None)
            raise what

    mutables.commit(table, put(old="x"), KEEP)
    install_fault_hook(once)
    try:
        with pytest.raises(what) if what is KeyboardInterrupt else contextlib.nullcontext():
            committed = mutables.commit(table, put(a="1"), KEEP)
            assert committed.version == 2
    finally:
        install_fault_hook(None)
    assert mutables.get("t").version == 2
    assert mutables.rows(table.table_id)[1] == [b"a", b"old"]


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


def test_tenants_whose_changes_come_at_once_see_and_change_their_own_alone(lab, mutables, table):
    with lab.scope.use("acme"):
        own = mutables.create(MutableRecord(0, "mine", b"schema", ["k"], tenant="acme"))
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
    assert mutables.rows(table.table_id)[1] == [b"k4"]
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
