"""Readers of what DuckDB remembers, and who makes it forget."""

import threading

import pytest

from jammi_lab.sources.turns import Turns, turns


def test_nobody_forgets_while_somebody_reads_and_readers_are_never_kept_waiting_for_one_who_waits():
    mine = Turns()
    first, second = mine.read(), mine.read()
    first()
    with mine.forget(0.01) as granted:
        assert not granted
        mine.read()()
    second()
    with mine.forget(0.01) as granted:
        assert granted


def test_a_reader_waits_until_it_is_forgotten_and_whoever_else_would_forget_does_not_begin():
    mine, reading = Turns(), threading.Event()
    with mine.forget() as granted:
        reader = threading.Thread(target=lambda: (mine.read()(), reading.set()))
        reader.start()
        with mine.forget(0.01) as another:
            assert granted and not another
        assert not reading.wait(0.05)
    reader.join()
    assert reading.is_set()


def test_an_error_while_forgetting_lets_the_readers_go_on():
    mine = Turns()
    with pytest.raises(OSError), mine.forget():
        raise OSError
    mine.read()()
    with mine.forget(0.01) as granted:
        assert granted


def test_each_kind_of_server_in_an_instance_has_its_own():
    memory = dict[str, object]()
    assert turns(memory, "mysql") is turns(memory, "mysql") is not turns(memory, "postgres")
