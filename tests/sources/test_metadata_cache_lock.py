"""Readers of what DuckDB remembers, and who makes it forget."""

import threading

import pytest

from jammi_lab.sources.metadata_cache_lock import MetadataCacheLock, lock_for


def test_nobody_forgets_while_somebody_reads_and_readers_are_never_kept_waiting_for_one_who_waits():
    mine = MetadataCacheLock()
    first, second = mine.acquire_read(), mine.acquire_read()
    first()
    with mine.acquire_exclusive(0.01) as granted:
        assert not granted
        mine.acquire_read()()
    second()
    with mine.acquire_exclusive(0.01) as granted:
        assert granted


def test_a_reader_waits_until_it_is_forgotten_and_whoever_else_would_forget_does_not_begin():
    mine, reading = MetadataCacheLock(), threading.Event()
    with mine.acquire_exclusive() as granted:
        reader = threading.Thread(target=lambda: (mine.acquire_read()(), reading.set()))
        reader.start()
        with mine.acquire_exclusive(0.01) as another:
            assert granted and not another
        assert not reading.wait(0.05)
    reader.join()
    assert reading.is_set()


def test_an_error_while_forgetting_lets_the_readers_go_on():
    mine = MetadataCacheLock()
    with pytest.raises(OSError), mine.acquire_exclusive():
        raise OSError
    mine.acquire_read()()
    with mine.acquire_exclusive(0.01) as granted:
        assert granted


def test_each_kind_of_server_in_an_instance_has_its_own():
    memory = dict[str, object]()
    assert (
        lock_for(memory, "mysql") is lock_for(memory, "mysql") is not lock_for(memory, "postgres")
    )
