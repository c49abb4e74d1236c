"""Cells that change a frame in ways that are easy to overlook: what is stored from it is never
fresh without its tables."""

import asyncio
import contextlib
import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

import jammi_lab as jl
from jammi_kernel_ext.cell_flow import CellFlow
from jammi_kernel_ext.frame_follower import FrameFollower
from jammi_lab.core.anchors import FrameOrigin
from jammi_lab.sources.frame_origins import origins
from jammi_lab.steps.sql import Sql
from tests.cases import notebooks
from tests.freshness.lab import Lab
from tests.inside import services_of
from tests.kernel_ext.test_frame_follower import Cells
from tests.sizes import sized, soak
from tests.stateful.notebooks import notebook_lab

FIRST = "import copy, functools, itertools, operator, pickle\nimport duckdb\nimport numpy as np\nimport pandas as pd\nimport polars as pl\nclass Box: pass"
BASE = [
    "df = ws.table('s0').pandas().assign(x=lambda d: d.x + 1)",
    "other = ws.table('s1').pandas()",
]
HARMLESS = notebooks("frames/harmless")
"""Cells after which `df` does not rest on `other`."""
ORDINARY = notebooks("frames/ordinary")
"""Cells as notebooks have them, after which `df` does not rest on `other`; after those that are
marked it counts as if it did."""


@pytest.fixture(autouse=True)
def _same_environment() -> Iterator[None]:
    """Attacks that set variables of the process, as polars' Config does, do not change what later
    children of it display."""
    with mock.patch.dict(os.environ):
        yield


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    loop = asyncio._get_running_loop()  # of a browser that a test before left in this thread
    asyncio._set_running_loop(None)
    with notebook_lab(tmp_path / "lab") as lab:
        yield lab
    asyncio._set_running_loop(loop)


@dataclasses.dataclass
class KnownTable:
    """What `ws.table(name)` returns for a frame that was read before."""

    frame: Any
    origin: FrameOrigin | None

    def pandas(self) -> Any:
        """A copy of the frame, recorded as a read."""
        frame = self.frame.copy()
        origins.record_read(self.origin, frame)
        return frame


def run(
    lab: Lab, first: list[str], cells: list[str], **known: Any
) -> tuple[FrameFollower, dict[str, Any]]:
    """A notebook after the cells, and its variables. `known`: frames that its first cell reads."""
    made = Cells(lab, FIRST)
    with mock.patch.object(type(lab.ws), "table", lambda _, name: KnownTable(*known[name])):
        made(*(f"{name} = ws.table({name!r}).pandas()" for name in known))
    made(*first, *cells)
    made.follower.begin("get_ipython().run_cell_magic('jammi', '-m out', '…')", 99)
    return made.follower, made.values


def store(lab: Lab, cells: list[str], frame: str) -> str:
    """The name of a table that is stored from a frame after the cells."""
    follower, _ = run(lab, BASE, cells)
    name = f"out{len(lab.status())}"
    services_of(lab.ws).materializer.materialize(
        name, Sql(f"SELECT id, x FROM {frame}", None, None), cache="use", progress=None, frames=True
    )
    follower.end()
    return name


@pytest.fixture
def known(lab: Lab) -> dict[str, tuple[Any, FrameOrigin | None]]:
    """The frames `df` and `other` as they are read, and their origins: reading them again for each
    of some hundred attacks costs most of their time."""
    frames = {name: lab.table(t).pandas() for name, t in (("df", "s0"), ("other", "s1"))}
    return {name: (frame, origins.recorded(frame)) for name, frame in frames.items()}


def origin_after(lab: Lab, known: dict[str, Any], cells: list[str], frame: str) -> FrameOrigin:
    """What a table would rest on that is stored from a frame after the cells."""
    derive = ["df = df.assign(x=lambda d: d.x + 1)"]
    follower, values = run(lab, derive, cells, **known)
    origin = origins.origin(values[frame])
    follower.end()
    return origin or FrameOrigin()


def is_found(origin: FrameOrigin) -> bool:
    return any(each.input.name == "s1" for each in origin.inputs) or (
        "not followed" in str(origin.grounds)
    )


def is_python(cells: list[str]) -> bool:
    """Whether this release of Python takes the cells: 3.14 has no `:=` in annotations."""
    with contextlib.suppress(SyntaxError):
        return all(compile(cell, "cell", "exec") for cell in cells)
    return False


LISTS = {
    which: {
        what: (what.partition(" → ")[2] or "df", cells)
        for what, cells in notebooks(f"frames/{which}_attacks").items()
        if is_python(cells)
    }
    for which in ("first", "second")
}
"""By what is done: the frame that is stored, and the cells whose effect on it comes from
`other`."""


def missed_attacks(
    lab: Lab, known: dict[str, Any], folder: Path, attacks: dict[str, tuple[str, list[str]]]
) -> dict[str, FrameOrigin]:
    """The attacks after which the frame is not known to rest on `other`."""
    import pandas as pd

    missed = dict[str, FrameOrigin]()
    for number, (what, (frame, cells)) in enumerate(attacks.items()):
        place = folder / str(number)
        place.mkdir()
        with contextlib.chdir(place):
            origin = origin_after(lab, known, cells, frame)
        if not is_found(origin):
            missed[what] = origin
    for name in ("mix", "acc"):  # what the attacks leave in pandas
        if hasattr(pd.DataFrame, name):
            delattr(pd.DataFrame, name)
    return missed


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("which", LISTS)
def test_what_changes_a_frame_out_of_sight_is_found(lab, known, tmp_path, which):
    assert missed_attacks(lab, known, tmp_path, LISTS[which]) == {}


FAULTS = {
    "a name takes nothing from what its statement loads": ("_sources_of_all", set(), 2),
    "objects are not compared": ("find_changed", None, 20),
}
"""Parts of the analysis, what they return when they see nothing, and the share of the attacks that
is missed then, at least."""


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("which", LISTS)
def test_attacks_are_missed_by_an_analysis_that_sees_less(
    lab,
    known,
    tmp_path,
    monkeypatch,
    which,
    fault,
):
    """The gate above fails without any of its parts."""
    part, nothing, share = FAULTS[fault]
    monkeypatch.setattr(CellFlow, part, lambda *_: nothing)
    some = dict(list(LISTS[which].items())[:: sized(8, 1)])
    assert len(missed_attacks(lab, known, tmp_path, some)) > len(some) / share


TOGETHER = {
    "the attack": lambda cells: [*BASE, "\n".join(cells)],
    "all": lambda cells: ["\n".join([*BASE, *cells])],
    "the reads": lambda cells: ["\n".join(BASE), *cells],
}
"""Which cells of an attack are one."""
MISSED_BEFORE = (
    "containers: itemgetter",
    "functions: parameter returned",
    "libraries: logging by the module",
)
"""Attacks that each run makes."""


@soak
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("which", TOGETHER)
def test_an_attack_whose_statements_stand_in_one_cell_is_found(lab, tmp_path, monkeypatch, which):
    import pandas as pd

    missed = dict[str, FrameOrigin]()
    attacks = [each for listed in LISTS.values() for each in listed.items()]
    for number, (what, (frame, cells)) in enumerate(attacks):
        is_left_out = number % sized(12, 1) and what not in MISSED_BEFORE
        if is_left_out or what == "polars and arrow: arrow udf":  # registers once only
            continue
        folder = tmp_path / str(number)
        folder.mkdir()
        monkeypatch.chdir(folder)
        follower, values = run(lab, [], TOGETHER[which](cells))
        origin = origins.origin(values[frame]) or FrameOrigin()
        follower.end()
        if not is_found(origin):
            missed[what] = origin
    for name in ("mix", "acc"):
        if hasattr(pd.DataFrame, name):
            delattr(pd.DataFrame, name)
    assert missed == {}


IN_ONE_CELL = {
    "stored before it is replaced": (
        "_store('out', 'df')\ndf = pd.DataFrame({'id': [1], 'x': [0.0]})",
        True,
    ),
    "replaced before it is stored": (
        "df = pd.DataFrame({'id': [1], 'x': [0.0]})\n_store('out', 'df')",
        False,
    ),
    "replaced by the statement that stores it": ("df = _store('out', 'df')", True),
    "on the line on which it is replaced": ("_store('out', 'df'); df = None", True),
    "a cell that fails before it replaces the frame": (
        "_store('out', 'df')\n1 / 0\ndf = pd.DataFrame({'id': [1], 'x': [0.0]})",
        True,
    ),
}
"""Cells that store `df`, and whether the table depends on `s1`, from which `df` was made before."""


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("what", IN_ONE_CELL)
def test_a_frame_that_is_stored_in_the_middle_of_a_cell_is_followed_up_to_there(lab, what):
    code, depends = IN_ONE_CELL[what]

    materializer = services_of(lab.ws).materializer

    def _store(name: str, frame: str) -> None:
        recipe = Sql(f"SELECT id, x FROM {frame}", None, None)
        materializer.materialize(name, recipe, cache="use", progress=None, frames=True)

    follower, values = run(lab, BASE, ["df = other.assign(x=lambda d: d.x + 1)"])
    follower.end()
    _store.__module__ = "__main__"
    values["_store"] = _store
    follower.begin(code, 100)
    with contextlib.suppress(ZeroDivisionError):
        exec(compile(code, "cell", "exec"), values)
    follower.end()
    lab.path("s1.csv").write_text("id,x\n1,500.5\n2,700.0\n")
    assert isinstance(lab.staleness("out"), jl.Fresh) == (not depends)


def test_what_a_failed_cell_did_not_replace_keeps_its_tables(lab):
    follower, values = run(lab, BASE, ["df = other.assign(x=lambda d: d.x + 1)"])
    follower.end()
    code = "1 / 0\ndf = pd.DataFrame({'id': [1], 'x': [0.0]})"
    follower.begin(code, 100)
    with pytest.raises(ZeroDivisionError):
        exec(compile(code, "cell", "exec"), values)
    follower.end(is_whole=False)
    assert is_found(origins.origin(values["df"]) or FrameOrigin())


@soak
@pytest.mark.filterwarnings("ignore")
def test_tables_stored_after_an_attack_are_not_fresh(lab, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    attacks = list(LISTS["first"].items())[:: sized(20, 1)]
    stored = {what: store(lab, cells, frame) for what, (frame, cells) in attacks}
    lab.path("s1.csv").write_text("id,x\n1,500.5\n2,700.0\n")
    status = lab.status()
    missed = {
        what: status[name].grounds
        for what, name in stored.items()
        if isinstance(status[name].verdict, jl.Fresh)
        and "is not followed" not in str(status[name].grounds)
    }
    assert missed == {}


@pytest.mark.parametrize("what", HARMLESS)
def test_what_does_not_change_a_frame_is_no_cause(lab, known, tmp_path, monkeypatch, what):
    monkeypatch.chdir(tmp_path)
    origin = origin_after(lab, known, HARMLESS[what], "df")
    assert [each.input.name for each in origin.inputs] == ["s0"], origin


@pytest.mark.filterwarnings("ignore")
def test_of_ordinary_cells_few_are_accused_and_each_is_named(lab, known, tmp_path, monkeypatch):
    accused = set[str]()
    for number, (what, cells) in enumerate(ORDINARY.items()):
        folder = tmp_path / str(number)
        folder.mkdir()
        monkeypatch.chdir(folder)
        origin = origin_after(lab, known, cells, "df")
        if {each.input.name for each in origin.inputs} != {"s0"}:
            accused.add(what)
            assert len(origin.cells) > 1
    # A number may lie where the number that it replaces lay: the name then seems to hold the former.
    unsteady = {"parts in a loop with the same names"}
    assert accused - unsteady == {what for what in ORDINARY if what.endswith(" (accused)")}
    assert len(accused) <= 30 <= (len(ORDINARY) + len(HARMLESS)) / 3
