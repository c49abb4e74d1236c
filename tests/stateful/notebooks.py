"""Random notebooks: cells that read tables, derive frames from them with pandas, and store tables
again; edits outside; and restarts of the kernel."""

import random
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import jammi_lab as jl
from jammi_kernel_ext.frame_follower import FrameFollower
from jammi_lab.core.verdicts import verdict_code
from jammi_lab.sources.frame_origins import origins
from jammi_lab.steps.sql import Sql
from tests.freshness.lab import Lab
from tests.inside import services_of

NAMES = ("a", "b", "c")
SOURCES = ("s0", "s1")
OUTS = ("o0", "o1")
FIRST = """
import pandas as pd
import polars as pl
class Holder:
    def __init__(self, frame):
        self.frame = frame
def same(d):
    return d
fn, gn, box, row, n = same, same, {}, [], 1.0
"""
READS = (
    "{x} = ws.table('{t}').pandas()",
    "{x} = ws.table('{t}').polars().to_pandas()",
    "{x} = ws.sql('SELECT * FROM jammi.{t}').arrow().to_pandas()",
    "{x} = pd.DataFrame(ws.sql('SELECT id, x FROM jammi.{t} ORDER BY id').fetchall(), columns=['id', 'x'])",
    "{x} = pd.read_parquet(ws.table('{t}').path)",
    "{x} = ws.table('{t}').scan().collect().to_pandas()",
    "t = ws.table('{t}')\n{x} = t.pandas().assign(x=lambda d: d.x * 2)",
)
CELLS = (
    "{x} = {y}.assign(x={y}.x + 1)",
    "{x} = pd.concat([{y}, {z}], ignore_index=True)",
    "{x} = {y}",
    "{x} = {y}.copy()\n{x}.loc[0, 'x'] = float({z}.x.sum())",
    "{x}['x'] = {y}.x.sum()",
    "{x}.loc[{x}.index[0], 'x'] = {y}.x.sum()",
    "{x}.insert(2, 'w', {y}.x.sum()) if 'w' not in {x} else None\n{x}['x'] = {x}['w'] if 'w' in {x} else 0",
    "box['{k}'] = {x}",
    "{x} = box.get('{k}', {y})",
    "if '{k}' in box: box['{k}']['x'] = {y}.x.sum()",
    "row = [{x}, {y}]",
    "{x} = row[0] if row else {y}",
    "row.append({x}.copy())",
    "for each in row: each['x'] = {y}.x.sum()",
    "def fn(d):\n    return d.assign(x=d.x + {y}.x.sum())",
    "{x} = fn({z})",
    "fn = lambda d: d.assign(x={y}.x.sum())",
    "def gn(d):\n    d['x'] = {y}.x.sum()\n    return d",
    "gn({x})",
    "{x} = gn({z}.copy())",
    "def gn(d):\n    global {x}\n    {x} = {y}.copy()\n    return {x}",
    "n = float({x}.x.sum())",
    "{x} = {x}.assign(x={x}.x + n)",
    "box['h'] = Holder({x})",
    "if 'h' in box: box['h'].frame['x'] = {y}.x.sum()",
    "{x} = box['h'].frame if 'h' in box else {x}",
    "{x} = pd.DataFrame({{'id': [1, 2], 'x': [3.0, 4.0]}})",
    "{x}, {y} = {y}, {x}",
    "with pd.option_context('display.width', 80) as _ctx: {x} = pl.from_pandas({y}).with_columns(x=pl.col('x') * 3).to_pandas()",
    "exec('{x} = {y}.copy()')",
    "vars()['{x}'] = {y}",
    "{x} = [each.assign(x=each.x - 1) for each in ({y}, {z})][{i}]",
    "{x} = next(f for f in ({y}, {z}) if len(f))",
    "ws.sources.add('reg', {x}, replace=True)",
)


class Notebook:
    """One history: what is done once, and again in new kernels with the data as they are at the
    end."""

    def __init__(self, events: Sequence[tuple[str, ...]]) -> None:
        self.events = events

    def run(self, lab: Lab, *, again: bool = False) -> None:
        """Run it. `again`: without the edits, which have all been made."""
        values, follower = new_kernel(lab)
        for number, (kind, *words) in enumerate([("cell", FIRST), *self.events], 1):
            match kind:
                case "edit":
                    if not again:
                        lab.path(f"{words[0]}.csv").write_text(f"id,x\n1,{words[1]}.5\n2,7.0\n")
                        if words[2]:
                            lab.recompute(words[0])
                case "restart":
                    lab.reopen()
                    values, follower = new_kernel(lab)
                case "cell":
                    follower.begin(words[0], number)
                    exec(compile(words[0], "cell", "exec"), values)
                    follower.end()
                case "store":
                    follower.begin("get_ipython().run_cell_magic('jammi', '-m out', '…')", number)
                    services_of(lab.ws).materializer.materialize(
                        words[0],
                        Sql(f"SELECT id, x FROM {words[1]}", None, None),
                        cache="use",
                        progress=None,
                        frames=True,
                    )
                    follower.end()


def new_kernel(lab: Lab) -> tuple[dict[str, Any], FrameFollower]:
    """The variables of a kernel that begins, and what follows its frames."""
    values: dict[str, Any] = {"ws": lab.ws, "__name__": "__main__"}
    lab._frames_from(lambda: values)
    follower = FrameFollower(values)
    origins.follower = follower
    origins.take_reads()
    return values, follower


def random_notebook(seed: int, length: int) -> Notebook:
    """A notebook of that many cells, edits and restarts."""
    rng, stored = random.Random(seed), set[str]()
    events = _reads(rng, stored)
    for _ in range(length):
        events += _random_events(rng, stored)
    events += [("store", out, rng.choice(NAMES)) for out in OUTS]
    for _ in range(2):
        events += _random_events(rng, stored)
    events.append(_random_edit(rng))
    return Notebook(events)


def _reads(rng: random.Random, stored: Collection[str]) -> list[tuple[str, ...]]:
    """A cell for each name, as a new kernel needs them."""
    tables = [*SOURCES, *sorted(stored)]
    return [("cell", f"{x} = ws.table('{rng.choice(tables)}').pandas()") for x in NAMES]


def _random_edit(rng: random.Random) -> tuple[str, ...]:
    recomputed = rng.choice(("", "recompute"))
    return ("edit", rng.choice(SOURCES), str(rng.randrange(1000)), recomputed)


def _random_events(rng: random.Random, stored: set[str]) -> list[tuple[str, ...]]:
    x, y, z = (rng.choice(NAMES) for _ in range(3))
    kinds = ("read", "cell", "store", "edit", "restart")
    match rng.choices(kinds, (20, 90, 20, 10, 5))[0]:
        case "read":
            table = rng.choice([*SOURCES, *sorted(stored)])
            return [("cell", rng.choice(READS).format(x=x, t=table))]
        case "store":
            out = rng.choice(OUTS)
            stored.add(out)
            return [("store", out, x)]
        case "edit":
            return [_random_edit(rng)]
        case "restart":
            return [("restart",), ("cell", FIRST), *_reads(rng, stored)]
    cell = rng.choice(CELLS)
    return [("cell", cell.format(x=x, y=y, z=z, k=rng.choice("pq"), i=rng.randrange(2)))]


def start(folder: Path, texts: dict[str, str]) -> Lab:
    folder.mkdir(parents=True)
    lab = Lab(folder)
    for name in SOURCES:
        lab.path(f"{name}.csv").write_text(
            texts.get(name, f"id,x\n1,{len(name)}.0\n2,{ord(name[-1])}.0\n")
        )
        lab.sources.add(f"{name}_csv", lab.path(f"{name}.csv"))
        lab.materialize(name, f"SELECT * FROM {name}_csv")
    return lab


def rows(ws: Any, name: str) -> list[tuple[Any, ...]]:
    return sorted(ws.table(name).read().fetchall())


def judge(notebook: Notebook, folder: Path) -> Counter[str]:
    """Whether the verdicts on the tables of a notebook hold against running it again: those in its
    kernel, and those after one more restart, where only frames that are no table are missing."""
    first = start(folder / "first", {})
    notebook.run(first)
    verdicts = {name: first.staleness(name) for name in OUTS}
    stored = {name: rows(first.ws, name) for name in OUTS}
    texts = {name: first.path(f"{name}.csv").read_text() for name in SOURCES}
    first.reopen()
    new_kernel(first)
    later = {name: first.staleness(name) for name in OUTS}
    first.close()
    second = _rows_of(notebook, folder / "second", texts)
    outcomes = Counter[str]()
    for name in OUTS:
        is_true = stored[name] == second[name]
        is_fresh = isinstance(verdicts[name], jl.Fresh)
        for verdict in (verdicts[name], later[name]):
            told = name, str(verdict), notebook.events
            assert is_true or not isinstance(verdict, jl.Fresh), told
            unknown = verdict.unpinned if isinstance(verdict, jl.Undecidable) else []
            assert all(anchor.input.kind == "frame" for anchor in unknown), told
        outcomes[f"after a restart {verdict_code(later[name])}"] += 1
        outcomes[f"{is_fresh=}, {is_true=}"] += 1
    return outcomes


def _rows_of(
    notebook: Notebook, folder: Path, texts: dict[str, str]
) -> dict[str, list[tuple[Any, ...]]]:
    """The rows that a run from given texts ends with."""
    lab = start(folder, texts)
    notebook.run(lab, again=True)
    found = {name: rows(lab.ws, name) for name in OUTS}
    lab.close()
    return found
