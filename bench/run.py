"""Runs the cases and prints a table of ratios: `python -m bench.run [CASE …] [--repeats 5] [--json
FILE] [--fail]`."""

import argparse
import dataclasses
import json
import sys
import tempfile
import time
from pathlib import Path

from bench.cases import CASES, LONG_CASES
from bench.harness import Line, format_table


def main() -> int:
    """Run the cases of the command line. Returns 1 when `--fail` is given and a limit was
    missed."""
    parser = argparse.ArgumentParser(description="How fast, as ratios.")
    parser.add_argument(
        "case",
        nargs="*",
        help=f"some of {', '.join(CASES)}, which are all run when none is named, "
        f"and of {', '.join(LONG_CASES)}",
    )
    parser.add_argument("--repeats", type=int, default=5, help="pairs per line")
    parser.add_argument("--json", type=Path, help="also write the lines to this file")
    parser.add_argument("--fail", action="store_true", help="exit with 1 when a limit is missed")
    given, every = parser.parse_args(), {**CASES, **LONG_CASES}
    if unknown := set(given.case) - every.keys():
        parser.error(f"no case {', '.join(sorted(unknown))}; there are {', '.join(every)}")
    lines: list[Line] = []
    for name in given.case or CASES:
        began = time.monotonic()
        print(f"{name} …", end=" ", flush=True, file=sys.stderr)
        with tempfile.TemporaryDirectory(prefix="jammi-bench-") as folder:
            lines += every[name](Path(folder), given.repeats)
        print(f"{time.monotonic() - began:.0f} s", file=sys.stderr)
    print(format_table(lines))
    if given.json:
        given.json.write_text(
            json.dumps([dataclasses.asdict(line) for line in lines], indent=1) + "\n",
            encoding="utf-8",
        )
    return int(given.fail and not all(line.within_limit for line in lines))


if __name__ == "__main__":
    sys.exit(main())
