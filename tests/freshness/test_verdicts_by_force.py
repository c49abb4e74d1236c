"""Over a hundred statements against brute force: where the verdict is `Fresh`, a computation in a
workspace of its own gives the rows that are stored.

A Delta table gets its rows in another order and in other files. A statement may become stale by it;
that is counted, so that the harness is seen to compare.
"""

import random
import shutil
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import write_deltalake

import jammi_lab as jl
from tests.cases import lines
from tests.sizes import every_case, sized, soak, thinned

AGGREGATES = lines("statements/aggregates.sql")
WINDOWS = lines("statements/windows.sql")
OTHERS = lines("statements/others.sql")
STATEMENTS = [
    *(f"SELECT g, {a} AS r FROM t GROUP BY g" for a in AGGREGATES),
    *(f"SELECT {a} AS r FROM t" for a in AGGREGATES),
    *(f"SELECT id, {w} AS r FROM t" for w in WINDOWS),
    *OTHERS,
]
N = 48


def _rows(rng: random.Random) -> pa.Table:
    """Rows with ties in every column but the key, texts that differ in case only, and factors
    whose products are 0.0 and -0.0."""
    return pa.table(
        {
            "id": list(range(1, N + 1)),
            "x": [rng.choice([1, 2, 3, 4]) for _ in range(N)],
            "z": [rng.choice([0, 1, 2]) for _ in range(N)],
            "i": [rng.choice([-1, 1]) for _ in range(N)],
            "g": [rng.choice("ab") for _ in range(N)],
            "s": [rng.choice(["ada", "Ada", "ADA", "oak", "Oak"]) for _ in range(N)],
            "f": pa.array([rng.choice([0.0, 1.5, 2.5, None]) for _ in range(N)], pa.float64()),
        }
    )


def _bag(table: jl.ResultTable) -> list[str]:
    """The rows without their order, each as text that tells 0.0 from -0.0; the last bits of a
    number are rounded away."""
    return sorted(
        repr([round(v, 9) if isinstance(v, float) else v for v in row])
        for row in table.read().fetchall()
    )


def _recomputed(folder: Path, location: Path, texts: list[str]) -> list[list[str]]:
    """The rows of each statement over the file as it is, in a workspace of its own."""
    with jl.open(folder) as other:
        other.sources.add("src", location)
        rows = [_bag(other.materialize("r", text)) for text in texts]
    shutil.rmtree(folder)
    return rows


@soak
@every_case
@pytest.mark.parametrize("seed", range(sized(1, 2)))
def test_what_is_fresh_is_what_a_computation_gives(tmp_path, seed):
    rng = random.Random(seed)
    rows, path = _rows(rng), tmp_path / "t"
    texts = [f"WITH t AS (FROM src) {text}" for text in thinned(STATEMENTS, 3)]
    write_deltalake(path, rows)
    with jl.open(tmp_path / "lab") as ws:
        ws.sources.add("src", path)
        names = [f"r{number}" for number in range(len(texts))]
        for name, text in zip(names, texts, strict=True):
            ws.materialize(name, text)
        stored = [_bag(ws.table(name)) for name in names]
        shuffled = rows.take(rng.sample(range(N), N))
        write_deltalake(path, shuffled.slice(0, 7), mode="overwrite")
        write_deltalake(path, shuffled.slice(7), mode="append")
        status = ws.status(deep=True)
        verdicts = [status[name].verdict for name in names]
    fresh = [n for n, v in enumerate(verdicts) if isinstance(v, jl.Fresh)]
    again = _recomputed(tmp_path / "other", path, [texts[n] for n in fresh])
    false = [
        f"{verdicts[n]}: {texts[n]}"
        for n, found in zip(fresh, again, strict=True)
        if found != stored[n]
    ]
    assert not false, "\n".join(false)
    assert len(fresh) > len(texts) // 10
