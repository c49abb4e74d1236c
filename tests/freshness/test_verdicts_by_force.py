"""Over a hundred statements against brute force: where the verdict is `Fresh`, a computation in a
workspace of its own gives the rows that are stored.

Each change keeps the bag of rows (other order, row groups, writer, collation, row order of a
database) or touches what no digest of the values holds (statistics of a Parquet footer). A
statement may become stale by it; that is counted, so that the harness is seen to compare.
"""

import random
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

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
KINDS = ["parquet", "csv"]


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


def _write(rows: pa.Table, kind: str, path: Path, *, groups: int = N) -> None:
    """One file of a kind; an earlier one is replaced."""
    path.unlink(missing_ok=True)
    if kind == "parquet":
        pq.write_table(rows, path, row_group_size=groups)
    else:
        duckdb.from_arrow(rows).write_csv(str(path))


def _other_statistics(path: Path) -> None:
    """The same column chunks under a footer that says that no id is above 5."""
    raw = bytearray(path.read_bytes())
    [length] = struct.unpack("<I", raw[-8:-4])
    start = len(raw) - 8 - length
    footer = bytes(raw[start:-8])
    raw[start:-8] = footer.replace(struct.pack("<q", N), struct.pack("<q", 5))
    assert footer != bytes(raw[start:-8])
    path.write_bytes(raw)


def _changes(kind: str, rows: pa.Table, rng: random.Random) -> dict[str, Callable[[Path], None]]:
    shuffled = rows.take(rng.sample(range(N), N))
    changes: dict[str, Callable[[Path], None]] = {
        "shuffled": lambda path: _write(shuffled, kind, path, groups=7),
    }
    if kind == "parquet":
        changes["statistics"] = _other_statistics
    return changes


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
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(sized(1, len(KINDS))))
def test_what_is_fresh_is_what_a_computation_gives(tmp_path, kind, seed):
    rng = random.Random(seed)
    rows = _rows(rng)
    path = tmp_path / f"t.{kind}"
    # Each statement over one kind; with each seed over another one.
    mine = STATEMENTS[(KINDS.index(kind) + seed) % len(KINDS) :: len(KINDS)]
    texts = [f"WITH t AS (FROM src) {text}" for text in thinned(mine, 3)]
    _write(rows, kind, path)
    fresh = 0
    with jl.open(tmp_path / "lab") as ws:
        ws.sources.add("src", path)
        names = [f"r{number}" for number in range(len(texts))]
        for name, text in zip(names, texts, strict=True):
            ws.materialize(name, text)
        stored = [_bag(ws.table(name)) for name in names]
        for change, make in _changes(kind, rows, rng).items():
            make(path)
            status = ws.status(deep=True)
            verdicts = [status[name].verdict for name in names]
            claimed = [n for n, v in enumerate(verdicts) if isinstance(v, jl.Fresh)]
            fresh += len(claimed)
            again = _recomputed(tmp_path / "other", path, [texts[n] for n in claimed])
            false = [
                f"{change}: {verdicts[n]}: {texts[n]}"
                for n, found in zip(claimed, again, strict=True)
                if found != stored[n]
            ]
            assert not false, "\n".join(false)
    assert fresh > len(texts) // 10
