"""Which of many outputs read an item, from tests of whole groups of them: a test names all items
that its group reads, so an item that is not named is read by none of the group."""

import functools
import itertools
import math
import random
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import TypeVar

Item = TypeVar("Item")

_MAX_SINGLE_OUTPUTS = 32
"""So many outputs are tested one by one, which is exact."""
_MAX_GROUPS_OF_ROUND = 8
_MAX_ROUNDS = 12
"""What they do not separate is read by many outputs, and told of too many."""


def read_items(
    count: int, read_by: Callable[[Sequence[int]], Collection[Item]], common: Collection[Item]
) -> list[set[Item]]:
    """The items that each of `count` outputs reads, perhaps too many and never too few. `read_by`
    tests the outputs at some positions; for n outputs it is called for log n groups of half of
    them, and for at most 128 groups more. `common`: items that may be told of every output."""
    if count <= _MAX_SINGLE_OUTPUTS:
        return [set(read_by([position])) for position in range(count)]
    groups = _distinct_groups(count)
    named = [set(read_by([*_positions(group)])) for group in groups]
    # the outputs that may read an item, as a bit each
    readers = dict.fromkeys(set[Item]().union(*named), (1 << count) - 1)
    for group, items in zip(groups, named, strict=True):
        _exclude(readers, group, items)
    sizes: list[int] = []
    for number in range(_MAX_ROUNDS):
        shared = _shared_outputs(readers, common)
        is_last = shared.bit_count() <= _MAX_SINGLE_OUTPUTS
        round_groups = (
            [1 << position for position in _positions(shared)]
            if is_last
            else _random_groups(shared, number)
        )
        for group in round_groups:
            _exclude(readers, group, set(read_by([*_positions(group)])))
        sizes.append(sum(outputs.bit_count() for outputs in readers.values()))
        if is_last or sizes[-3:-1] == sizes[-2:]:  # twice without a result
            break
    read: list[set[Item]] = [set() for _ in range(count)]
    for item, outputs in readers.items():
        for position in _positions(outputs):
            read[position].add(item)
    return read


def _exclude(readers: dict[Item, int], group: int, named: Collection[Item]) -> None:
    for item in readers.keys() - named:
        readers[item] &= ~group


def _shared_outputs(readers: Mapping[Item, int], common: Collection[Item]) -> int:
    """The outputs of items that more than one may read."""
    several = (
        outputs
        for item, outputs in readers.items()
        if outputs.bit_count() > 1 and item not in common
    )
    return functools.reduce(int.__or__, several, 0)


def _distinct_groups(count: int) -> list[int]:
    """Groups such that no output is in all groups of another one: what only one output reads is
    known from them."""
    total = next(n for n in itertools.count(1) if math.comb(n, n // 2) >= count)
    groups = [0] * total
    for position, members in enumerate(
        itertools.islice(itertools.combinations(range(total), total // 2), count)
    ):
        for member in members:
            groups[member] |= 1 << position
    return groups


def _random_groups(outputs: int, seed: int) -> list[int]:
    """The outputs in groups, other ones for each seed."""
    choose = random.Random(seed)  # noqa: S311  not a secret
    groups = [0] * _MAX_GROUPS_OF_ROUND
    for position in _positions(outputs):
        groups[choose.randrange(_MAX_GROUPS_OF_ROUND)] |= 1 << position
    return [group for group in groups if group]


def _positions(outputs: int) -> Iterator[int]:
    return (position for position, bit in enumerate(reversed(f"{outputs:b}")) if bit == "1")
