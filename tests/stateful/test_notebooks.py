"""Random notebooks against running them again: no table made from a frame is fresh when a new run
would give other rows."""

from collections import Counter
from pathlib import Path

import pytest

from jammi_lab.sources.frame_origins import origins
from tests.sizes import sized, soak
from tests.stateful.notebooks import judge

HISTORIES = sized(3, 12)
PARTS = sized(1, 6)


@pytest.fixture(autouse=True)
def _no_follower():
    yield
    origins.follower = None
    origins.take_reads()


@soak
@pytest.mark.parametrize("part", range(PARTS))
def test_no_table_from_a_frame_is_fresh_when_running_the_notebook_again_gives_other_rows(
    tmp_path: Path, part: int
) -> None:
    outcomes = Counter[str]()
    for seed in range(part * HISTORIES, (part + 1) * HISTORIES):
        outcomes += judge(seed, sized(10, 16), tmp_path / str(seed))
    print("", *(f"{n:5} {outcome}" for outcome, n in outcomes.most_common()), sep="\n")
    assert outcomes["right, is_fresh=True"] and outcomes["right, is_fresh=False"]
