"""A clock that jumps: versions keep their order, names stay different, and no verdict is fooled."""

import pytest

import jammi_lab as jl
from tests.freshness.lab import Lab, same_size_edit

DAY = 86_400.0


@pytest.fixture
def lab(tmp_path, nothing_left_behind):
    lab = Lab(tmp_path)
    yield lab
    lab.close()


@pytest.mark.parametrize("jump", [-DAY, -3.0, DAY, 400 * DAY])
def test_a_version_made_after_a_jump_of_the_clock_is_the_newest(lab, jump):
    lab.csv("s", "id", "1")
    first = lab.materialize("t", "SELECT id FROM s")
    lab.clock.ahead = jump
    lab.csv("s", "id", "2")
    assert lab.verdict("t") == "stale"
    assert lab.recompute("t").executed == ["t"]
    second = lab.table("t")
    assert (second.version, lab.rows("t")) == (2, [(2,)]) and second.table_name != first.table_name
    assert lab.verdict("t") == "fresh"
    assert all(row.age is not None and row.age >= 0 for row in lab.status())
    lab.clock.ahead = 0.0
    lab.reopen()
    assert lab.table("t").version == 2 and lab.verdict("t") == "fresh" and not lab.recovery


@pytest.mark.parametrize("jump", [-DAY, DAY])
def test_an_edit_that_keeps_size_and_mtime_is_seen_after_a_jump(lab, jump):
    path = lab.csv("s", "id", "1")
    lab.materialize("t", "SELECT id FROM s")
    assert lab.verdict("t") == "fresh"
    lab.clock.ahead = jump
    assert lab.verdict("t") == "fresh"
    same_size_edit(path, "1", "2")
    assert lab.verdict("t") == "stale"


def test_a_dead_writers_table_is_settled_by_its_number_and_not_by_the_clock(lab, tmp_path):
    from tests.store.lab import unpublish

    lab.csv("s", "id", "1")
    lab.clock.ahead = DAY
    older = lab.materialize("t", "SELECT id FROM s")
    lab.clock.ahead = 0.0
    lab.csv("s", "id", "2")
    lab.recompute("t")
    lab.close()
    unpublish(lab.folder, older.table_name)
    lab.ws = lab.open()
    assert lab.recovery.failed == [older.table_name]  # begun first, though its clock says later
    assert lab.table("t").version == 2 and lab.staleness("t") == jl.Fresh()
