"""What decides how much a run does: the choice of quick files, of cells, and the targets that
people run."""

import json

import pytest

from tests import durations as remembered
from tests import sizes
from tests.conftest import ROOT
from tests.durations import FILE, IMPORT_SECONDS, measured, unselected

MAKEFILE = (ROOT / "Makefile").read_text()


def test_folders_take_turns_with_their_cheapest_files_while_they_fit():
    seconds = {"a/x": 1.0, "a/y": 2.0, "a/z": 2.5, "b/x": 3.0, "b/y": 5.0, "c/x": 50.0}
    durations = {n: {"": s - IMPORT_SECONDS, "test_slow": 9.0} for n, s in seconds.items()}
    assert unselected({**durations, "d/x": {"test_slow": 1.0}}, 7.0) == {"a/z", "b/y", "c/x", "d/x"}
    assert unselected(durations, 1000.0) == {"b/y", "c/x"}


def test_less_is_remembered_of_tests_with_cases_which_are_thinned(tmp_path, monkeypatch):
    monkeypatch.setattr(remembered, "FILE", tmp_path / "durations.json")
    took = {"f::several[1]": 0.1, "f::several[2]": 0.1, "f::one": 0.2, "f::slow": 0.6}
    remembered.store(took, {})
    found = json.loads(remembered.FILE.read_text())
    assert found == {"f": {"": 0.2, "several": 0.2, "slow": 0.6}}
    assert unselected(found, 0.6) == {"f"}


def test_every_file_was_measured():
    """`make check` would run all of a file that was not: processes of Dask, servers, all cases."""
    files = {path.relative_to(ROOT).as_posix() for path in (ROOT / "tests").rglob("test_*.py")}
    assert files <= measured().keys(), "measure them: pytest --store-durations FILE"


def test_what_was_measured_is_sorted_and_leaves_quick_tests_in_most_folders():
    assert list(measured()) == sorted(measured()) and FILE.read_text().endswith("}\n")
    quick = {name.split("/")[1] for name in set(measured()) - unselected(measured())}
    assert quick >= {
        "catalog",
        "core",
        "engine",
        "features",
        "shape",
        "sources",
        "storage",
        "store",
    }


@pytest.mark.parametrize(("shape", "cells"), [((6, 5), 6), ((2, 2, 2), 4), ((3, 3, 3), 9)])
def test_chosen_cells_cover_each_value_of_two_lists_and_each_pair_of_three(shape, cells):
    import itertools

    every = list(itertools.product(*map(range, shape)))
    chosen = [every[n] for n in sizes.covering(every)]
    width = 1 if len(shape) == 2 else 2
    for at in itertools.combinations(range(len(shape)), width):
        assert {tuple(c[i] for i in at) for c in chosen} == {tuple(c[i] for i in at) for c in every}
    assert cells <= len(chosen) < len(every)


def test_of_a_test_that_takes_long_as_many_cases_run_as_fit_and_an_eighth_at_least():
    assert [sizes.affordable(cases, 0.15) for cases in (1, 8)] == [1, 8]
    assert [sizes.affordable(cases, 0.3) for cases in (1, 4, 8)] == [1, 2, 4]
    assert [sizes.affordable(cases, 50.0) for cases in (3, 8, 42)] == [1, 1, 6]


def test_chosen_cases_are_spread_over_a_list_and_meet_each_value_of_several():
    assert sizes.spread([(n,) for n in range(10)], 4) == {0, 2, 5, 7}
    pairs = [(database, n) for n in range(4) for database in ("sqlite", "postgresql")]
    chosen = {pairs[n] for n in sizes.spread(pairs, 4)}
    assert {n for _, n in chosen} == set(range(4))
    assert {d for d, _ in chosen} == {"sqlite", "postgresql"} and len(chosen) == 4
    assert len(sizes.spread(pairs, 6)) == 6


@pytest.mark.parametrize("columns", [1, 2, 3, 10])
def test_four_tests_of_a_contract_meet_the_whole_list(columns):
    met = [{n for n in range(columns) if sizes.rotated(row, n, columns)} for row in range(4)]
    assert all(met) and set.union(*met) == set(range(columns))
