"""Random notebooks against running them again: no table made from a frame is fresh when a new run
would give other rows."""

from collections import Counter

import pytest

from tests.sizes import sized, soak
from tests.stateful.notebooks import judge, random_notebook

HISTORIES = sized(4, 40)
PARTS = sized(1, 25)


@soak
@pytest.mark.parametrize("part", range(PARTS))
def test_no_table_from_a_frame_is_fresh_when_running_the_notebook_again_gives_other_rows(
    tmp_path, part
):
    outcomes = Counter[str]()
    for seed in range(part * HISTORIES, (part + 1) * HISTORIES):
        print("seed", seed)  # of a failure
        outcomes += judge(random_notebook(seed, sized(10, 16)), tmp_path / str(seed))
    print("", *(f"{n:5} {outcome}" for outcome, n in outcomes.most_common()), sep="\n")
    assert outcomes["is_fresh=True, is_true=True"] and outcomes["is_fresh=False, is_true=False"]


READ_A = ("cell", "a = ws.table('s1').pandas()")
EDIT = ("edit", "s1", "63", "")


@pytest.mark.every_case
@pytest.mark.parametrize(
    "events",
    [
        [
            READ_A,
            ("store", "o1", "a"),
            ("cell", "b = ws.table('o1').pandas()"),
            ("store", "o0", "b"),
            ("cell", "c = ws.table('o0').pandas().assign(x=lambda d: d.x + 1)"),
            ("store", "o1", "c"),
            EDIT,
        ],
        [
            READ_A,
            ("store", "o1", "a"),
            ("cell", "a = pd.read_parquet(ws.table('o1').path)"),
            ("store", "o0", "a"),
            ("store", "o1", "a"),
            EDIT,
        ],
        [
            READ_A,
            ("store", "o0", "a"),
            ("cell", "b = ws.table('o0').pandas()"),
            ("store", "o1", "b"),
            ("cell", "a = ws.table('o1').pandas()"),
            ("store", "o0", "a"),
            ("cell", "c = b.assign(x=b.x + 1)"),
            ("store", "o1", "c"),
            EDIT,
        ],
        [
            ("cell", "t = ws.table('s1')"),
            READ_A,
            ("store", "o0", "a"),
            (*EDIT[:3], "recompute"),
            ("cell", "a = t.pandas()"),
            ("store", "o1", "a"),
        ],
        [
            ("cell", "a = ws.table('s0').pandas()"),
            ("store", "o1", "a"),
            ("cell", "b = ws.table('o1').pandas()"),
            ("cell", "c = b.assign(x=b.x + 1)"),
            ("store", "o1", "c"),
            ("store", "o0", "c"),
            EDIT,
        ],
        [
            ("cell", "a = ws.table('s0').pandas().assign(x=1.0)"),
            ("store", "o0", "a"),
            ("cell", "b = ws.table('o0').pandas()"),
            ("cell", "c = ws.table('s1').pandas()"),
            ("cell", "c['x'] = b.x.sum()"),
            ("store", "o1", "c"),
            (*EDIT[:3], "recompute"),
        ],
        [
            ("cell", "a = ws.table('s0').pandas().assign(x=1.0)"),
            ("store", "o0", "a"),
            ("cell", "a = ws.table('s0').pandas()"),
            ("cell", "c = ws.table('o0').pandas().assign(x=2.0)"),
            ("store", "o1", "c"),
        ],
    ],
    ids=[
        "itself",
        "itself, reused",
        "of each other",
        "table asked for before it changed",
        "its table made anew of it",
        "a table that changed beside one whose frame is gone",
        "its name given to other rows",
    ],
)
def test_what_a_frame_was_made_from_stays_known(tmp_path, events):
    judge(events, tmp_path)
