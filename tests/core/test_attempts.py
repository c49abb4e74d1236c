"""Repeated attempts with a time limit."""

from functools import partial

from jammi_lab.core.interrupts import attempts


def test_attempts_end_at_the_deadline_and_pauses_grow_up_to_the_longest(monkeypatch):
    pauses: list[float] = []
    monkeypatch.setattr("jammi_lab.core.interrupts.time.sleep", pauses.append)
    clock = partial(sum, pauses)  # time passes only in pauses
    assert len(list(attempts(0.0, monotonic=clock))) == 1 and pauses == []
    assert len(list(attempts(1.0, pause=0.25, monotonic=clock))) == 5
    list(attempts(10.0, pause=1.0, max_pause=2.0, monotonic=clock))
    assert pauses[4:8] == [1.0, 1.5, 2.0, 2.0]
