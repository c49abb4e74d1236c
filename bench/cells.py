"""What cells cost: loading the extension, the first query of a kernel, a cell more than DuckDB
alone, the first rows of many, Tab among many tables.

JupySQL and magic_duckdb are the other side where JAMMI_JUPYSQL_PYTHON and JAMMI_MAGIC_DUCKDB_PYTHON
name interpreters that have them (`python3 -m venv DIR; DIR/bin/pip install jupysql duckdb-engine
ipykernel pandas`, and `magic_duckdb duckdb ipykernel pandas pyarrow` in another one). This file
imports neither: each runs in a process of its own, in a plain IPython shell, by the same script,
and in kernels of its own, asked as a front end asks. Where it says so the processor's time counts;
of a cell, and of what is waited for, the least of many: whatever else a machine does adds to the
others.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import duckdb
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import KernelManager

from bench.fixtures import workspace_with_rows
from bench.harness import Line, unmeasured_line

ROOT = Path(__file__).resolve().parent.parent
ROWS, TURNS, TABLES = 10_000_000, 60, 10_000
LOAD_SECONDS = 0.100
FIRST_SECONDS = 1.0
CELL_SECONDS = 0.005
PREVIEW_SECONDS = 0.100
PREVIEW_MB = 50.0
TAB_SECONDS = 0.050
"""Upper limits."""

_SHELL = """
import gc, json, os, sys, time
from IPython.core.interactiveshell import InteractiveShell
ip = InteractiveShell.instance()
ip.display_formatter.active_types = ["text/plain", "text/html"]  # what a notebook asks for
load, ready, magic, place, turns, again = json.loads(sys.argv[1])
out, sys.stdout = sys.stdout, open(os.devnull, "w")

def run(code, clock=time.perf_counter):
    began, other = clock(), time.perf_counter()
    done = ip.run_cell(code)
    took = clock() - began
    told["waited"] = time.perf_counter() - other
    if not done.success:
        print(code, done.error_before_exec or done.error_in_exec, file=sys.stderr)
        raise SystemExit(3)
    return took

def settled():
    gc.collect()
    found = dict(line.split(":", 1) for line in open("/proc/self/status"))
    return [int(found[key].split()[0]) / 1024 for key in ("VmRSS", "VmHWM")]

told = {}
run("1")
told |= {"load": run(load, time.process_time)}
told["first"] = sum(run(code, time.process_time) for code in (*ready, magic + "\\nSELECT 42 AS answer"))
run("import duckdb; con = duckdb.connect()")
pairs = [(run(magic + f"\\nSELECT {i} AS answer"), run(f"con.execute('SELECT {i} AS answer').fetchall()")) for i in range(turns)]
told["cell"], told["plain"] = (min(side) for side in zip(*pairs))
before, _ = settled()
open("/proc/self/clear_refs", "w").write("5")
told["preview"] = run(magic + f"\\nSELECT * FROM {place}", time.process_time)
_, peak = settled()
told["grown"] = peak - before
for _ in range(again):
    run(magic + f"\\nSELECT * FROM {place}")
    told["preview_waited"] = min(told["waited"], told.get("preview_waited", told["waited"]))
print(json.dumps(told), file=out)
"""


class Side(NamedTuple):
    """One extension whose cells are measured."""

    name: str
    variable: str
    """The environment variable that names its interpreter; empty for jammi_lab."""
    load: str
    ready: tuple[str, ...]
    """The code to run before the first query."""
    magic: str


OURS = Side("ours", "", "%load_ext jammi_lab", (), "%%jammi")
OTHERS = (
    Side("JupySQL", "JAMMI_JUPYSQL_PYTHON", "%load_ext sql", ("%sql duckdb://",), "%%sql"),
    Side("magic_duckdb", "JAMMI_MAGIC_DUCKDB_PYTHON", "%load_ext magic_duckdb", (), "%%dql"),
)


def cells(folder: Path, repeats: int) -> Iterator[Line]:
    """Ours against what was promised, and then against each other that is there."""
    file, million = folder / "rows.parquet", ROWS // 1_000_000
    duckdb.sql(
        "COPY (SELECT i AS id, i % 1000 AS grp, i * 0.5 AS x, 'row ' || i AS label FROM "
        f"range({ROWS}) r(i)) TO '{file}'"
    )
    ours = measure_shells(OURS, sys.executable, folder, file, repeats)
    yield _promise_line("cells: %load_ext in a bare shell (processor)", ours["load"], LOAD_SECONDS)
    yield _promise_line(
        "cells: the first query, with the engine and a new workspace (processor)",
        ours["first"],
        FIRST_SECONDS,
    )
    yield _promise_line(
        "cells: a cell over the same statement by DuckDB alone", ours["over"], CELL_SECONDS
    )
    yield _promise_line(
        "cells: the first query of a kernel, from %load_ext on, as it is waited for",
        first_answer_seconds(OURS, sys.executable, folder, repeats),
        FIRST_SECONDS,
    )
    yield _promise_line(
        f"cells: the first rows of {million} M (processor)", ours["preview"], PREVIEW_SECONDS
    )
    yield _promise_line(
        f"cells: the first rows of {million} M, as they are waited for",
        ours["preview_waited"],
        PREVIEW_SECONDS,
    )
    yield _promise_line("cells: memory of these, in GB", ours["grown"] / 1e3, PREVIEW_MB / 1e3)
    yield _promise_line(
        f"cells: Tab after FROM among {TABLES:,} tables", tab_seconds(folder, repeats), TAB_SECONDS
    )
    for side in OTHERS:
        python = os.environ.get(side.variable)
        if not python:
            yield unmeasured_line(
                f"cells beside {side.name}", f"{side.variable} names no interpreter"
            )
            continue
        other = measure_shells(side, python, folder, file, max(1, repeats // 2))
        kernels = [
            first_answer_seconds(each, where, folder, max(1, repeats // 2))
            for each, where in ((OURS, sys.executable), (side, python))
        ]
        yield Line(
            f"cells beside {side.name}: the first query of a kernel, as it is waited for",
            kernels[0],
            kernels[1],
            kernels[0] / kernels[1],
            None,
        )
        for what, key in (
            ("%load_ext (processor)", "load"),
            ("the first query (processor)", "first"),
            ("a cell over the same statement by DuckDB alone", "over"),
            (f"the first rows of {million} M (processor)", "preview"),
            (f"the first rows of {million} M, as they are waited for", "preview_waited"),
            ("memory of these, in GB", "grown"),
        ):
            scale = 1e3 if key == "grown" else 1.0
            yield Line(
                f"cells beside {side.name}: {what}",
                ours[key] / scale,
                other[key] / scale,
                ours[key] / max(other[key], 1e-6),
                None,
            )


def _promise_line(what: str, measured_value: float, limit: float) -> Line:
    return Line(what, measured_value, limit, measured_value / limit, 1.0)


def _environment(side: Side, folder: Path) -> dict[str, str]:
    """Compiled modules are kept, as where it is installed."""
    paths = os.pathsep.join(str(ROOT / part) for part in ("", "kernel_ext", "widgets"))
    environment = {
        **os.environ,
        "IPYTHONDIR": str(folder / "ipython"),
        "PYTHONPYCACHEPREFIX": str(folder / "compiled"),
        "PYTHONPATH": "",
    }
    return environment | {
        "PYTHONDONTWRITEBYTECODE": "",
        **({"PYTHONPATH": paths} if side is OURS else {}),
    }


def first_answer_seconds(side: Side, python: str, folder: Path, repeats: int) -> float:
    """The minimum time from loading the extension in a fresh kernel to the answer of its first
    query; the first kernel is a warm-up."""
    spec = KernelSpec(
        argv=[python, "-m", "ipykernel_launcher", "-f", "{connection_file}"],
        display_name=side.name,
        language="python",
    )
    found = []
    for _ in range(repeats + 1):
        with tempfile.TemporaryDirectory(dir=folder) as place:
            manager = KernelManager()
            manager._kernel_spec = spec
            manager.start_kernel(
                cwd=place, env=_environment(side, folder), stderr=subprocess.DEVNULL
            )
            client = manager.client()
            client.start_channels()
            try:
                client.wait_for_ready(timeout=60)
                _execute(client, "1")
                began = time.perf_counter()
                for code in (side.load, *side.ready, side.magic + "\nSELECT 42 AS answer"):
                    _execute(client, code)
                found.append(time.perf_counter() - began)
            finally:
                client.stop_channels()
                manager.shutdown_kernel(now=True)
    return min(found[1:])


def _execute(client: Any, code: str) -> None:
    if (
        client.execute_interactive(code, timeout=120, output_hook=lambda _: None)["content"][
            "status"
        ]
        != "ok"
    ):
        raise RuntimeError(code)


def tab_seconds(folder: Path, repeats: int) -> float:
    """The minimum time of a completion after `FROM jammi.` in a workspace of many tables."""
    from types import SimpleNamespace
    from typing import cast

    import jammi_lab as jl
    from jammi_kernel_ext.completion import Completion
    from jammi_kernel_ext.notebook import Notebook

    code, took = "SELECT * FROM jammi.", []
    with jl.open(workspace_with_rows(folder / "many", TABLES)) as ws:
        completion = Completion(
            cast(Notebook, SimpleNamespace(current=ws, namespace={}, shell=None))
        )
        for _ in range(3 * repeats):
            began = time.perf_counter()
            offered = completion.candidates_at(f"%%jammi\n{code}", 1, len(code))
            took.append(time.perf_counter() - began)
            if offered is None or len(offered[0]) < TABLES:
                raise RuntimeError("not all of them were offered")
    return min(took)


def measure_shells(
    side: Side, python: str, folder: Path, file: Path, repeats: int
) -> dict[str, float]:
    """The median over `repeats` shells for each measure (the minimum for waiting times), after one
    to warm up: seconds, MB for `grown`."""
    found: list[dict[str, float]] = []
    for _ in range(repeats + 1):
        given = json.dumps(
            [side.load, side.ready, side.magic, f"'{file}'", TURNS, 10 if side is OURS else 2]
        )
        with tempfile.TemporaryDirectory(dir=folder) as place:
            done = subprocess.run(
                [python, "-c", _SHELL, given],
                check=False,
                capture_output=True,
                text=True,
                cwd=place,
                env=_environment(side, folder),
            )
        if done.returncode:
            raise RuntimeError(f"{side.name}: {done.stderr[-2000:]}")
        found.append(json.loads(done.stdout.splitlines()[-1]))
    medians = {key: statistics.median(each[key] for each in found[1:]) for key in found[0]}
    waited = min(each["preview_waited"] for each in found[1:])
    return medians | {"over": medians["cell"] - medians["plain"], "preview_waited": waited}
