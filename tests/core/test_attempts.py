"""Repeated attempts with a time limit."""

import pytest

from jammi_lab.core.interrupts import attempts


@pytest.fixture
def clock(monkeypatch):
    """Seconds that pass only while `attempts` pauses, and the pauses."""
    pauses = []
    monkeypatch.setattr("jammi_lab.core.interrupts.time.sleep", pauses.append)
    return pauses


def test_there_is_one_attempt_without_any_time(clock):
    assert len(list(attempts(0.0, monotonic=lambda: sum(clock)))) == 1 and clock == []


def test_attempts_end_at_the_deadline(clock):
    assert len(list(attempts(1.0, pause=0.25, monotonic=lambda: sum(clock)))) == 5


def test_pauses_grow_up_to_the_longest(clock):
    list(attempts(10.0, pause=1.0, max_pause=2.0, monotonic=lambda: sum(clock)))
    assert clock[:4] == [1.0, 1.5, 2.0, 2.0]
