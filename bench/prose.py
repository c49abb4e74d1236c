"""What a check of the numbers in a text costs, as a command without a kernel."""

import random
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import jammi_lab as jl
from bench.harness import Line, measure_pair

TABLES, VERSIONS, ROWS, PAGES = 200, 2, 100, 20
MAX_SECONDS = 2.0


def document(folder: Path, repeats: int) -> Iterator[Line]:
    """A text of twenty pages over two hundred tables, in a process of its own."""
    with jl.open(folder / "lab") as ws:
        for version in range(VERSIONS):
            for table in range(TABLES):
                ws.materialize(
                    f"t{table}",
                    f"SELECT 'row-' || i AS name, (hash(i, {table}, {version}) % 10000) / 10000 AS f1, "
                    f"hash(i, {version}) % 1000000 AS n, (hash(i, {table}) % 1000000) / 7 AS loss "
                    f"FROM range({ROWS}) r(i)",
                    key="name",
                )
    random_, lines = random.Random(1), list[str]()
    for page in range(PAGES):
        lines.append(f"## Section {page}\n")
        for _ in range(12):
            table, row = random_.randrange(TABLES), random_.randrange(ROWS)
            share, count = random_.random(), random_.randrange(100_000)
            lines.append(
                f"In t{table}, row-{row} reached {share:.3f} in f1, at {count:,} and {100 * share:.1f} %. "
                + "Lorem ipsum dolor sit amet consectetur. " * 4
                + "\n"
            )
    (folder / "paper.md").write_text("\n".join(lines))
    command = [sys.executable, "-m", "jammi_lab.cli", "check-text", str(folder / "paper.md")]

    def processor_seconds() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    yield measure_pair(
        f"check-text: {PAGES} pages over {TABLES} tables of {VERSIONS} versions and {ROWS} rows, "
        f"against {MAX_SECONDS:.0f} s of processor time",
        processor_seconds,
        lambda: MAX_SECONDS,
        repeats=repeats,
        limit=1.0,
    )


CASES = {"prose": document}
