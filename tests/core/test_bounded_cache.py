"""A bounded cache keeps what was used last."""

from jammi_lab.core.caches import BoundedCache


def test_the_least_recently_used_entry_goes_first():
    cache = BoundedCache[str, int](2)
    cache.put("a", 1)
    cache.put("b", 2)
    assert cache.get("a") == 1
    cache.put("c", 3)
    assert (cache.get("a"), cache.get("b"), cache.get("c")) == (1, None, 3)


def test_a_value_replaces_an_earlier_one():
    cache = BoundedCache[str, bool](1)
    cache.put("a", False)
    assert cache.get("a") is False
    cache.put("a", True)
    assert cache.get("a") is True
