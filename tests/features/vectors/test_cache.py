import threading

import numpy as np
import pyarrow as pa
import pytest

from jammi_lab.core.caches import ObjectCache
from jammi_lab.features.vectors.matrix import Matrix
from tests.waiting import in_threads


def make(n=10):
    return Matrix(pa.array(range(n)), np.ones((n, 4), np.float32))


SIZE = make().nbytes


def never():
    raise AssertionError("loaded again")


def test_a_matrix_is_loaded_once():
    cache = ObjectCache(10 * SIZE)
    first = cache.load("a", make)
    assert cache.load("a", never) is first and cache.nbytes == SIZE


def test_the_least_recently_used_go_first():
    cache = ObjectCache(2 * SIZE)
    for digest in ("a", "b", "a", "c"):
        cache.load(digest, make)
    assert "a" in cache and "c" in cache and "b" not in cache


def test_a_large_one_makes_room_by_letting_go_of_several():
    cache = ObjectCache(4 * SIZE)
    for digest in ("a", "b", "c"):
        cache.load(digest, make)
    cache.load("large", lambda: make(35))
    assert "large" in cache and cache.nbytes <= 4 * SIZE


def test_one_larger_than_the_budget_is_handed_out_and_pushes_nothing_out():
    cache = ObjectCache(SIZE)
    cache.load("a", make)
    assert len(cache.load("huge", lambda: make(1000))) == 1000
    assert "a" in cache and "huge" not in cache


def test_threads_that_ask_at_once_load_once():
    cache, loads = ObjectCache(10 * SIZE), []

    def load():
        loads.append(1)
        threading.Event().wait(0.02)
        return make()

    got = in_threads(lambda _: cache.load("a", load), range(8))
    assert len(loads) == 1 and len({id(m) for m in got}) == 1


def test_a_load_that_fails_is_tried_again():
    cache = ObjectCache(10 * SIZE)

    def fail():
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        cache.load("a", fail)
    assert "a" not in cache and cache.load("a", make) is cache.load("a", never)


def test_what_is_dropped_is_loaded_anew():
    cache = ObjectCache(10 * SIZE)
    for digest in ("a", "b"):
        cache.load(digest, make)
    cache.evict(["a", "never there"])
    assert "a" not in cache and "b" in cache
    cache.evict(["b"])
    assert cache.nbytes == 0


def test_nothing_that_was_found_is_not_kept():
    cache = ObjectCache(10 * SIZE)
    assert cache.load("a", lambda: None) is None and "a" not in cache
    assert cache.load("a", make) is cache.load("a", never)
