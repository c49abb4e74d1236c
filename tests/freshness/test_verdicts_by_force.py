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
from tests.sizes import every_case, sized, soak

AGGREGATES = [
    "first(x)", "last(s)", "any_value(s)", "arbitrary(s)", "mode(g)", "arg_min(id, z)", "arg_max(id, z)", "arg_min(id, z, 2)",
    "max_by(s, z)", "min(id, z + 1)", "max(s, 2)", "list(id)", "list(id ORDER BY z)", "list(id ORDER BY id)",
    "list(s ORDER BY s)", "list(DISTINCT z)", "list(DISTINCT z ORDER BY z)", "list(id ORDER BY z, id)", "array_agg(s ORDER BY s DESC)",
    "list_sort(list(id))", "list_sort(first([x, z]))", "list_sort(arg_min(id, z, 1))", "list_reverse_sort(list(s))",
    "array_sort(any_value([s, g]))", "list_sort(list([x, z]))", "list_sort(list({'a': x, 'b': s}))", "list_sort(list(z))[1:2]",
    "list_sort(mode([z]))", "list_sort(list(id)[1:2])", "list_sort(list_transform(list(id), lambda v: v % 3))",
    "list_sort(list(id) || first([x]))", "list_distinct(list(z ORDER BY z))", "list_distinct(list(z))", "list_aggregate(list(id), 'first')",
    "list_aggregate(list(id), 'sum')", "list_sum(list(id))", "list_first(list(id ORDER BY z))", "list_unique(list(z))",
    "string_agg(s, ',')", "string_agg(s, ',' ORDER BY z)", "string_agg(s, ',' ORDER BY s)", "string_agg(DISTINCT g, ',')",
    "group_concat(s ORDER BY s)", "listagg(g, '-')", "string_agg(f * x, ',' ORDER BY f * x)", "first(f * x ORDER BY f * x)",
    "first(s ORDER BY z)", "first(s ORDER BY s)", "last(f * x ORDER BY f * x)", "sum(x) FILTER (z > 0)", "list(id) FILTER (z = 0)",
    "count(DISTINCT s)", "histogram(z)", "histogram(x, [1, 3])", "histogram(x, [z, 3])", "quantile_disc(x, 0.5)",
    "quantile_disc(x, [0.25, 0.5])", "quantile_cont(x, 0.3)", "median(x)", "mad(x)", "approx_quantile(x, 0.5)", "approx_top_k(s, 2)",
    "bit_xor(x)", "bitstring_agg(x, 1, 4)", "entropy(z)", "min(f * x)", "max(f * x)", "min(f)", "median(f * x)", "max(to_days(x))::VARCHAR",
    "min(to_hours(z * 24))::VARCHAR", "json_group_array(id)", "json_group_object(s, id)", "map_from_entries(list((id, s)))",
    "max([z, x])", "min({'a': z})", "arg_min_null(s, z)", "corr(x, z)", "product(z)", "bool_or(x > 2)", "sum(x ORDER BY z)",
    "reservoir_quantile(x, 0.5)", "list_sort(list(s), 'DESC')", "len(list(id))", "list_sort(list(i))",
]  # fmt: skip
WINDOWS = [
    "row_number() OVER (ORDER BY z)", "row_number() OVER ()", "rank() OVER (ORDER BY z)", "dense_rank() OVER (ORDER BY z)",
    "rank(ORDER BY x) OVER (ORDER BY z ROWS 1 PRECEDING)", "cume_dist(ORDER BY x) OVER (ORDER BY z ROWS 1 PRECEDING)",
    "percent_rank(ORDER BY x) OVER (ORDER BY z ROWS 1 PRECEDING)", "rank(ORDER BY x) OVER (ORDER BY z)",
    "rank(ORDER BY x) OVER (PARTITION BY z)", "rank(ORDER BY x) OVER (ORDER BY z RANGE 1 PRECEDING)",
    "rank(ORDER BY x) OVER (ORDER BY z GROUPS 1 PRECEDING)", "percent_rank() OVER (ORDER BY z)", "cume_dist() OVER (ORDER BY z)",
    "ntile(2) OVER (ORDER BY z)", "ntile(2) OVER (ORDER BY z, id)", "lag(id) OVER (ORDER BY z)", "lead(id, 1, 0) OVER (ORDER BY z)",
    "list_reverse_sort(lag([id]) OVER (ORDER BY z))", "list_sort(list(id) OVER (ORDER BY z ROWS 1 PRECEDING))",
    "first_value(id) OVER (PARTITION BY g)", "last_value(id) OVER (ORDER BY z)", "nth_value(id, 2) OVER (ORDER BY z)",
    "sum(x) OVER (ORDER BY z)", "sum(x) OVER (ORDER BY z ROWS 1 PRECEDING)", "sum(x) OVER (ORDER BY z ROWS UNBOUNDED PRECEDING)",
    "sum(x) OVER (ORDER BY z GROUPS 1 PRECEDING)", "sum(x) OVER (ORDER BY z RANGE BETWEEN 1 PRECEDING AND CURRENT ROW EXCLUDE CURRENT ROW)",
    "sum(x) OVER (ORDER BY z RANGE UNBOUNDED PRECEDING EXCLUDE TIES)", "max(x) OVER (PARTITION BY g ORDER BY z)",
    "list(x) OVER (PARTITION BY z)", "list(x ORDER BY x) OVER (PARTITION BY z)", "count(*) OVER (ORDER BY z ROWS 1 PRECEDING)",
    "fill(x) OVER (ORDER BY z)", "min(x, 2) OVER (PARTITION BY g)", "string_agg(s, ',' ORDER BY s) OVER (ORDER BY z)",
    "first(x ORDER BY x) OVER (ORDER BY z ROWS 1 PRECEDING)", "lag(x ORDER BY x) OVER (ORDER BY z)", "median(x) OVER (ORDER BY z)",
    "row_number(ORDER BY z) OVER ()", "mode(z) OVER (PARTITION BY g)",
]  # fmt: skip
OTHERS = [
    "SELECT * FROM t", "SELECT id FROM t LIMIT 3", "SELECT id, z FROM t ORDER BY z LIMIT 3", "SELECT DISTINCT g FROM t",
    "SELECT DISTINCT ON (z) z, id FROM t", "SELECT DISTINCT ON (z) z, id FROM t ORDER BY z, id", "SELECT DISTINCT s COLLATE NOCASE AS s FROM t",
    "SELECT id FROM t ORDER BY s COLLATE NOCASE LIMIT 2", "SELECT s COLLATE NOCASE AS s, count(*) AS n FROM t GROUP BY 1",
    "SELECT x FROM t UNION SELECT z FROM t", "SELECT f * x AS y FROM t UNION SELECT f FROM t", "SELECT DISTINCT f * x AS y FROM t",
    "SELECT z FROM t EXCEPT ALL SELECT x FROM t", "SELECT z FROM t INTERSECT SELECT x FROM t", "SELECT round(f) AS r, count(*) AS n FROM t GROUP BY 1",
    "SELECT ARRAY(SELECT id FROM t) AS l",
    "SELECT list_sort(ARRAY(SELECT id FROM t)) AS l", "SELECT list_sort(ARRAY(SELECT id FROM t LIMIT 2)) AS l",
    "SELECT a.id, b.id AS o FROM t a JOIN t b ON a.z = b.z LIMIT 4", "SELECT a.id, b.id AS o FROM t a POSITIONAL JOIN t b",
    "SELECT a.id, b.id AS o FROM t a ASOF JOIN t b ON a.x >= b.z", "SELECT id FROM t WHERE id = (SELECT max(id) FROM t)",
    "SELECT id FROM t WHERE id = (SELECT id FROM t LIMIT 1)", "SELECT id, (SELECT first(b.s) FROM t b WHERE b.z = a.z) AS s FROM t a",
    "SELECT id, (SELECT b.s FROM t b WHERE b.z = a.z ORDER BY b.x LIMIT 1) AS s FROM t a", "SELECT unnest(list(id ORDER BY z)) AS u FROM t",
    "SELECT * FROM (SELECT * FROM t LIMIT 2)", "SELECT * FROM (SELECT id, row_number() OVER () AS r FROM t) WHERE r < 3",
    "SELECT id FROM t QUALIFY row_number() OVER (PARTITION BY g ORDER BY z) = 1", "FROM (PIVOT t ON z IN (0, 1) USING first(s) GROUP BY g)",
    "FROM (PIVOT t ON z IN (0, 1) USING sum(x) GROUP BY g)", "FROM (WITH RECURSIVE r AS (SELECT 1 AS k UNION SELECT k + 1 FROM r, t WHERE k < 3) FROM r)",
    "SELECT g, min(s), max(s), count(*) FROM t GROUP BY GROUPING SETS ((g), ())", "SELECT id, hash(s) AS h FROM t", "SELECT max(t) AS m FROM t",
    "SELECT * FROM (SELECT id FROM t ORDER BY z) LIMIT 2", "SELECT sum(id) AS n FROM t WHERE id > 40", "SELECT count(*) AS n FROM t WHERE x = 1",
    "SELECT min(id) AS a, max(id) AS b FROM t", "SELECT count(*) AS n FROM t WHERE s >= 'm'", "SELECT count(*) AS n FROM t WHERE f IS NULL",
    "SELECT k, v FROM (FROM t UNPIVOT (v FOR k IN (x, z)))", "SELECT id, generate_subscripts([x, z], 1) AS i FROM t",
    "SELECT k FROM (SELECT list(id) AS l FROM t), unnest(l) AS u(k)", "SELECT string_split(string_agg(s, ','), ',')[1] AS s FROM t",
]  # fmt: skip
STATEMENTS = [
    *(f"SELECT g, {a} AS r FROM t GROUP BY g" for a in AGGREGATES),
    *(f"SELECT {a} AS r FROM t" for a in AGGREGATES),
    *(f"SELECT id, {w} AS r FROM t" for w in WINDOWS),
    *OTHERS,
]
N = 48
KINDS = ["parquet", "csv", "duckdb"]


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


def _write(rows: pa.Table, kind: str, path: Path, *, groups: int = N, collation: str = "") -> None:
    """One file of a kind; an earlier one is replaced."""
    path.unlink(missing_ok=True)
    if kind == "parquet":
        pq.write_table(rows, path, row_group_size=groups)
    elif kind == "csv":
        duckdb.from_arrow(rows).write_csv(str(path))
    else:
        with duckdb.connect(str(path)) as connection:
            connection.execute(
                "CREATE TABLE t (id BIGINT, x BIGINT, z BIGINT, i BIGINT, g VARCHAR, "
                f"s VARCHAR {collation}, f DOUBLE)"
            )
            connection.execute("INSERT INTO t FROM rows")


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
        "shuffled": lambda path: _write(shuffled, kind, path),
    }
    if kind == "parquet":
        changes["row groups"] = lambda path: _write(shuffled, kind, path, groups=7)
        changes["statistics"] = _other_statistics
    if kind == "duckdb":
        changes["collated, shuffled"] = lambda path: _write(
            shuffled, kind, path, collation="COLLATE NOCASE"
        )
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
        other.sources.add("src", str(location))
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
    table = "src.t" if kind == "duckdb" else "src"
    # Each statement over one kind; with each seed over another one.
    mine = STATEMENTS[(KINDS.index(kind) + seed) % len(KINDS) :: len(KINDS)]
    texts = [f"WITH t AS (FROM {table}) {text}" for text in mine]
    _write(rows, kind, path)
    fresh = 0
    with jl.open(tmp_path / "lab") as ws:
        ws.sources.add("src", str(path))
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
