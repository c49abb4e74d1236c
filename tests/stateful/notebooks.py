"""Random notebooks: cells that read tables, derive frames from them with pandas, and store tables
again; edits outside; and restarts of the kernel."""

import contextlib
import random
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jammi_lab as jl
from jammi_kernel_ext.frame_follower import FrameFollower
from jammi_lab.core.verdicts import Verdict, verdict_code
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
WHOLE_READ = r"^(\w) = ws\.table\('s\d'\)\.pandas\(\)$"
MAY_CHANGE = r"\b{}\b(?!\.(x|copy|assign)\b)|exec|vars|gn\("
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


def run_notebook(
    events: Sequence[tuple[str, ...]], lab: Lab, *, again: bool = False
) -> dict[str, str]:
    """Do what happened once, or `again` in new kernels with the data as they are at the end. Returns
    by stored table the frame that it was made from, unless that is certainly all rows of a
    table."""
    values, follower = new_kernel(lab)
    frames, unchanged = dict[str, str](), set[str]()
    for number, (kind, *words) in enumerate([("cell", FIRST), *events], 1):
        match kind:
            case "edit":
                if not again:
                    lab.path(f"{words[0]}.csv").write_text(f"id,x\n1,{words[1]}.5\n2,7.0\n")
                    if words[2]:
                        lab.recompute(words[0])
                        unchanged.clear()
            case "restart":
                lab.reopen()
                values, follower = new_kernel(lab)
                unchanged.clear()
            case "cell":
                follower.begin(words[0], number)
                exec(compile(words[0], "cell", "exec"), values)
                follower.end()
                changed = {n for n in unchanged if re.search(MAY_CHANGE.format(n), words[0])}
                unchanged = unchanged - changed | set(re.findall(WHOLE_READ, words[0]))
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
                frames[words[0]] = words[1]
                if words[1] in unchanged:
                    del frames[words[0]]
    return frames


def new_kernel(lab: Lab) -> tuple[dict[str, Any], FrameFollower]:
    """The variables of a kernel that begins, and what follows its frames."""
    values: dict[str, Any] = {"ws": lab.ws, "__name__": "__main__"}
    lab._frames_from(lambda: values)
    follower = FrameFollower(values)
    origins.follower = follower
    origins.take_reads()
    return values, follower


def random_notebook(seed: int, length: int) -> list[tuple[str, ...]]:
    """A notebook of that many cells, edits and restarts."""
    rng, stored = random.Random(seed), set[str]()
    events = _reads(rng, stored)
    for _ in range(length):
        events += _random_events(rng, stored)
    events += [("store", out, rng.choice(NAMES)) for out in OUTS]
    for _ in range(2):
        events += _random_events(rng, stored)
    return [*events, _random_edit(rng)]


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


@contextlib.contextmanager
def notebook_lab(folder: Path, texts: Mapping[str, str] | None = None) -> Iterator[Lab]:
    """A workspace with two tables of CSV files, `texts` or others, whose frames may be followed."""
    folder.mkdir(parents=True)
    lab = Lab(folder)
    for name in SOURCES:
        lab.path(f"{name}.csv").write_text(
            texts[name] if texts else f"id,x\n1,{len(name)}.0\n2,{ord(name[-1])}.0\n"
        )
        lab.sources.add(f"{name}_csv", lab.path(f"{name}.csv"))
        lab.materialize(name, f"SELECT * FROM {name}_csv")
    yield lab
    origins.follower = None
    origins.take_reads()
    lab.close()


def rows(ws: Any, name: str) -> list[tuple[Any, ...]]:
    return sorted(ws.table(name).read().fetchall())


def _table_changed(verdict: Verdict) -> bool:
    """Whether a table is possibly stale for more than frames that hold other rows in its kernel:
    what they hold is not known in another one."""
    causes = verdict.causes if isinstance(verdict, jl.PossiblyStale) else []
    inputs = [getattr(cause.reason, "input", None) for cause in causes]
    return any(i is None or i.kind != "frame" for i in inputs)


def judge(events: Sequence[tuple[str, ...]], folder: Path) -> Counter[str]:
    """Whether the verdicts on the tables of a notebook hold against running it again: those in its
    kernel, and those after one more restart, where only frames that are no table are missing."""
    with notebook_lab(folder / "first") as lab:
        frames = run_notebook(events, lab)
        verdicts = {name: lab.staleness(name) for name in OUTS}
        stored = {name: rows(lab.ws, name) for name in OUTS}
        texts = {name: lab.path(f"{name}.csv").read_text() for name in SOURCES}
        lab.reopen()
        new_kernel(lab)
        later = {name: lab.staleness(name) for name in OUTS}
    with notebook_lab(folder / "second", texts) as lab:
        run_notebook(events, lab, again=True)
        expected = {name: rows(lab.ws, name) for name in OUTS}
    outcomes = Counter[str]()
    for name in OUTS:
        is_true = stored[name] == expected[name]
        is_fresh = isinstance(verdicts[name], jl.Fresh)
        for verdict in (verdicts[name], later[name]):
            told = name, str(verdict), events
            assert is_true or not isinstance(verdict, jl.Fresh), told
            for anchor in verdict.unpinned if isinstance(verdict, jl.Undecidable) else []:
                table = [name, *anchor.path][-1]
                assert frames.get(table) == anchor.input.name, told
                assert not _table_changed(verdicts[name]), told
        outcomes["a table behind"] += name not in frames
        outcomes[f"after a restart {verdict_code(later[name])}"] += 1
        outcomes[f"{is_fresh=}, {is_true=}"] += 1
    return outcomes
