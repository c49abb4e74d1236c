"""What checks cost: a hundred of them when nothing moved, and a blocking one while a table is
made."""

from collections.abc import Callable, Iterator
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import jammi_lab as jl
from bench.harness import Line, cpu_timer, measure_pair, wall_timer
from jammi_lab.engine.prepared_statement import PreparedStatement

NUMBER = 100
MOST_SECONDS = 0.05
ROWS = 2_000_000


def unmoved(folder: Path, repeats: int) -> Iterator[Line]:
    """A hundred checks over a hundred tables when nothing moved run no statement."""
    with jl.open(folder / "lab", settings={"look.racy_seconds": 0}) as ws:
        for n in range(NUMBER):
            ws.materialize(f"t{n}", f"SELECT {n} AS n, i FROM range(100) t(i)")
            ws.checks.add(f"c{n}", jl.checks.between("i", 0), on=f"t{n}")
        ws.check()
        statements = count_statements(ws.check)
        yield measure_pair(
            f"check: {NUMBER} over {NUMBER} tables, nothing moved, {statements} statements, "
            f"against {MOST_SECONDS * 1000:.0f} ms of processor time",
            cpu_timer(ws.check),
            lambda: MOST_SECONDS,
            repeats=repeats,
            limit=1.0,
        )


def blocking(folder: Path, repeats: int) -> Iterator[Line]:
    """A blocking check reads the sealed bytes: nothing is written twice."""
    with jl.open(folder / "lab") as ws:
        seed = count()

        def make(name: str) -> None:
            ws.materialize(name, f"SELECT i, hash(i + {next(seed)}) AS h FROM range({ROWS}) t(i)")

        for name in ("checked", "plain"):
            make(name)
        ws.checks.add("in_order", jl.checks.between("i", 0), on="checked")
        yield measure_pair(
            f"materialize: {ROWS:,} rows with a blocking check against without, bytes written (MB)",
            partial(written_megabytes, partial(make, "checked")),
            partial(written_megabytes, partial(make, "plain")),
            repeats=repeats,
            limit=1.05,
        )
        yield measure_pair(
            f"materialize: {ROWS:,} rows with a blocking check against without",
            wall_timer(partial(make, "checked")),
            wall_timer(partial(make, "plain")),
            repeats=repeats,
            limit=1.5,
        )


def count_statements(work: Callable[[], object]) -> int:
    """How many statements a call runs."""
    ran, run = [], PreparedStatement._run

    def counted(self: PreparedStatement, sql: str, *rest: Any, **more: Any) -> Any:
        ran.append(sql)
        return run(self, sql, *rest, **more)

    PreparedStatement._run = counted  # type: ignore[method-assign]
    try:
        work()
    finally:
        PreparedStatement._run = run  # type: ignore[method-assign]
    return len(ran)


def written_megabytes(work: Callable[[], object]) -> float:
    """How much a call writes, to files of any kind."""
    before = _written_bytes()
    work()
    return (_written_bytes() - before) / 1e6


def _written_bytes() -> int:
    lines = Path("/proc/self/io").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("wchar"))


CASES = {"checks": unmoved, "blocking": blocking}
