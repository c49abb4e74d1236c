"""What a CSV file costs, against DuckDB with the types given: the first read, in which all values
are looked at and the bytes digested, the second, which makes a copy, and later ones."""

import itertools
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from unittest import mock

import duckdb

import jammi_lab as jl
from bench.harness import Line, measure_pair, wall_timer
from jammi_lab.core.caches import BoundedCache
from jammi_lab.core.identifiers import sql_literal
from jammi_lab.sources.files import row_copies

MEGABYTES = "JAMMI_BENCH_CSV_MB"
"""The environment variable with the size of the file."""
_BYTES_PER_ROW = 105
_TYPES = {
    "id": "BIGINT",
    "grp": "BIGINT",
    "price": "DOUBLE",
    "day": "DATE",
    "at": "TIMESTAMP",
    "ok": "BOOLEAN",
    "name": "VARCHAR",
    "text": "VARCHAR",
}
_ROWS = """SELECT i AS id, (i * 7919) % 1000 AS grp, ((i * 104729) % 1000000) / 100 AS price,
    DATE '2020-01-01' + (i % 2000)::INTEGER AS day, TIMESTAMP '2020-01-01' + INTERVAL (i) SECOND AS at,
    i % 3 = 0 AS ok, 'name of ' || (i % 5000) AS name, 'text ' || md5(i::VARCHAR) AS text
    FROM range({rows}) t(i)"""


def texts(folder: Path, repeats: int) -> Iterator[Line]:
    """First and later reads of a CSV file, of 1,000 MB unless the environment says otherwise."""
    megabytes = int(os.environ.get(MEGABYTES, "1000"))
    path = folder / "rows.csv"
    with duckdb.connect() as connection:
        rows = _ROWS.format(rows=megabytes * 1_000_000 // _BYTES_PER_ROW)
        connection.execute(f"COPY ({rows}) TO {sql_literal(str(path))}")
        numbers = itertools.count()
        other = wall_timer(partial(_read_by_hand, connection, path))
        ours = wall_timer(lambda: _read_first(folder / f"lab{next(numbers)}", path))
        what = f"CSV of {megabytes:,} MB, first read with all values looked at and a digest"
        yield measure_pair(f"{what}, against DuckDB", ours, other, repeats=repeats, limit=2.5)
        with jl.open(folder / "lab") as ws:
            ws.sources.add("rows", path)
            for what, statement, limit in (
                ("all rows", "SELECT * FROM rows", 0.7),
                ("an aggregate", "SELECT grp, sum(price) FROM rows GROUP BY grp", 0.2),
            ):
                ws.sql(statement).arrow()
                ours = wall_timer(partial(_read_again, ws, statement))
                other = wall_timer(partial(_read_by_hand, connection, path, statement))
                label = f"CSV of {megabytes:,} MB, {what} read again, against DuckDB"
                yield measure_pair(label, ours, other, repeats=repeats, limit=limit)


def _read_first(folder: Path, path: Path) -> None:
    reads = BoundedCache[str, bool](1)
    with mock.patch.object(row_copies, "_states_read", reads), jl.open(folder) as ws:
        ws.sources.add("rows", path)
        ws.sql("SELECT * FROM rows").arrow()


def _read_again(ws: jl.Workspace, statement: str) -> None:
    ws.sql(statement).arrow()


def _read_by_hand(
    connection: duckdb.DuckDBPyConnection, path: Path, statement: str = "FROM rows"
) -> None:
    columns = ", ".join(f"'{name}': '{kind}'" for name, kind in _TYPES.items())
    connection.execute(
        f"WITH rows AS (FROM read_csv({sql_literal(str(path))}, auto_detect=false, header=true, "
        f"columns={{{columns}}})) {statement}"
    ).to_arrow_table()


CASES = {"texts": texts}
