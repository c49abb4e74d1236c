"""Which outputs read an item, found with tests of groups."""

import random
from collections.abc import Sequence

import pytest

from jammi_lab.engine.sql.group_tests import read_items


class Outputs:
    """Outputs that read known items, and how often they were tested."""

    def __init__(self, reads: Sequence[set[int]]) -> None:
        self.reads, self.tests = reads, 0

    def of(self, positions: Sequence[int]) -> set[int]:
        self.tests += 1
        return set().union(*(self.reads[position] for position in positions))


@pytest.mark.parametrize("count", [1, 2, 32, 33, 100, 1000])
def test_what_one_output_reads_each_takes_few_tests(count: int) -> None:
    outputs = Outputs([{position + 7} for position in range(count)])
    assert read_items(count, outputs.of, set()) == outputs.reads
    assert outputs.tests <= max(32, 15)


@pytest.mark.parametrize("seed", range(5))
def test_hardly_an_item_of_a_few_outputs_is_told_of_others(seed: int) -> None:
    choose = random.Random(seed)
    reads = [{position, choose.randrange(500)} for position in range(500)]
    outputs = Outputs(reads)
    found = read_items(500, outputs.of, set())
    assert all(each >= known for each, known in zip(found, reads, strict=True))
    assert sum(map(len, found)) <= sum(map(len, reads)) + 20
    assert outputs.tests < 150


@pytest.mark.parametrize("density", [0.001, 0.01, 0.2, 0.9])
def test_no_item_is_missing_and_the_number_of_tests_is_bounded(density: float) -> None:
    choose = random.Random(1)
    reads = [{item for item in range(60) if choose.random() < density} for _ in range(400)]
    outputs = Outputs(reads)
    found = read_items(400, outputs.of, set())
    assert all(each >= known for each, known in zip(found, reads, strict=True))
    assert outputs.tests <= 150


def test_an_item_of_all_outputs_costs_no_tests_of_its_own() -> None:
    outputs = Outputs([{position, -1} for position in range(1000)])
    assert read_items(1000, outputs.of, {-1}) == outputs.reads
    assert outputs.tests <= 15
