"""The collector stands still during a pass, and runs as before afterwards."""

import gc

import pytest

from jammi_lab.core.gc_pause import pause_gc


def test_nothing_is_collected_within_and_everything_is_as_before_afterwards():
    with pause_gc():
        assert not gc.isenabled()
        with pause_gc():
            pass
        assert not gc.isenabled(), "the outer block still runs"
    assert gc.isenabled()
    with pytest.raises(ZeroDivisionError), pause_gc():
        _ = 1 / 0
    assert gc.isenabled()


def test_a_collector_that_was_turned_off_stays_off():
    gc.disable()
    try:
        with pause_gc():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
