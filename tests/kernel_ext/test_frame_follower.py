"""The follower of frames between cells, in loops, after errors and interrupts; and what it does not
keep alive."""

import gc
import sys
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import jammi_lab as jl
from jammi_kernel_ext.cell_flow import CellFlow
from jammi_kernel_ext.frame_follower import FrameFollower
from jammi_kernel_ext.object_walk import Walk
from jammi_lab.core.anchors import FrameOrigin
from jammi_lab.sources.frame_origins import origins
from jammi_lab.sources.frames import is_frame
from tests.cases import notebooks
from tests.freshness.lab import Lab
from tests.stateful.notebooks import notebook_lab

BASE = (
    "import functools\nimport pandas as pd\nimport polars as pl\nclass Box: pass",
    "df = ws.table('s0').pandas().assign(x=lambda d: d.x + 1)",
    "other = ws.table('s1').pandas()",
)


class Cells:
    """A notebook in this process."""

    def __init__(self, lab: Lab, *first: str) -> None:
        self.lab, self.values = lab, dict[str, Any](ws=lab.ws, __name__="__main__")
        lab._frames_from(lambda: self.values)
        self.follower = origins.follower = FrameFollower(self.values)
        origins.take_reads()
        self.number = 0
        self(*first)

    def begin(self, code: str) -> None:
        self.number += 1
        self.follower.begin(code, self.number)
        exec(compile(code, "cell", "exec"), self.values)

    def __call__(self, *cells: str) -> "Cells":
        for code in cells:
            self.begin(code)
            self.follower.end()
        return self

    def origin(self, name: str = "df") -> FrameOrigin:
        return origins.origin(self.values[name]) or FrameOrigin()

    def tables(self, name: str = "df") -> set[str]:
        return {each.input.name for each in self.origin(name).inputs}


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    with notebook_lab(tmp_path / "lab") as lab:
        yield lab


@pytest.fixture
def cells(lab: Lab) -> Cells:
    return Cells(lab, *BASE)


@pytest.mark.parametrize(
    "code",
    [
        "for t in ['s0', 's1']:\n    d = ws.table(t).pandas()\n    d = d.assign(x=d.x + 1)\n    ws.register(t + '_out', d, producer='loop')",
        "acc = []\nfor t in ['s0', 's1']:\n    acc.append(ws.table(t).pandas())\n    ws.register(t + '_out', pd.concat(acc), producer='loop')",
        "d = None\nfor t in ['s1', 's0', 's1']:\n    n = 0.0 if d is None else d.x.sum()\n    d = ws.table(t).pandas()\n    d['x'] = d.x + n\n    ws.register(t + '_out', d, producer='loop')",
    ],
    ids=["read and stored", "accumulated", "carried over"],
)
def test_a_table_that_a_loop_stores_depends_on_what_that_round_read(cells, code):
    cells(code)
    cells.lab.path("s1.csv").write_text("id,x\n1,500.5\n2,700.0\n")
    assert not isinstance(cells.lab.ws.staleness("s1_out"), jl.Fresh)


def test_the_cell_that_loads_the_engine_is_followed(cells, monkeypatch):
    engine = "jammi_lab.sources.frame_origins"
    with monkeypatch.context() as patch:
        patch.delitem(sys.modules, engine)
        cells.begin("df = None")
    cells.follower.end()
    cells("big = other[other.x > 0]")
    assert (cells.tables("big"), cells.origin("big").grounds) == ({"s1"}, [])


CALLBACKS = {
    "changes a frame": ("def call(): df['x'] = other.x.sum()", ""),
    "changes a frame from a name that is set later": (
        "source = None\ndef call(): df['x'] = source.x.sum()",
        "source = other",
    ),
    "sets a number": ("def call():\n    global n\n    n = float(other.x.sum())", ""),
    "replaces a frame": ("def call():\n    global df\n    df = df.assign(x=other.x.sum())", ""),
    "changes a frame of its object": (
        "class App:\n    def __init__(self, d): self.d = d\n    def go(self): self.d['x'] = source.x.sum()\nsource, app = None, App(df)\ncall = app.go",
        "source = other",
    ),
    "changes a frame that it was given": (
        "source = None\ndef go(d): d['x'] = source.x.sum()\ncall = functools.partial(go, df)",
        "source = other",
    ),
    "reads rows": ("def call(): df['x'] = ws.table('s1').pandas().x.sum()", "del other"),
}


@pytest.mark.parametrize("what", CALLBACKS)
def test_what_a_callback_does_between_cells_is_a_cause(cells, what):
    define, then = CALLBACKS[what]
    cells("import ipywidgets\nbutton = ipywidgets.Button()\n" + define)
    cells("button.on_click(lambda _: call())", then, "pass")
    assert cells.tables() <= {"s0", "s1"}
    cells.values["call"]()
    cells.follower.note_message()  # as IPython tells after a message to a widget
    cells("n = 1.0 if 'n' not in dir() else n", "df = df.assign(x=df.x + n)")
    assert "s1" in cells.tables()


def test_a_message_without_callbacks_is_no_cause(cells):
    cells("made = df.groupby('id').size()", "def scale(d): return d.assign(x=d.x * 2)")
    cells.follower.note_message()
    cells("df = scale(df)")
    assert cells.tables() == {"s0"}


def test_a_button_that_is_clicked_in_the_page_is_followed(papers, edited):
    papers.run(
        "import jammi_lab, ipywidgets\nws = jammi_lab.get_workspace()",
        "%%jammi -m late -q\nSELECT id, year FROM papers",
        "df = ws.table('late').pandas().head(2)\nrows = {}",
        "def clicked(_): rows['n'] = ws.table('late').pandas().year.sum()",
        "button = ipywidgets.Button()\nbutton.on_click(clicked)",
    )
    comm = papers.value("button.comm.comm_id").strip("'")
    content = {"comm_id": comm, "data": {"method": "custom", "content": {"event": "click"}}}
    papers.client.shell_channel.send(papers.client.session.msg("comm_msg", content))
    papers.run(
        "made = df.head(1).assign(id=rows['n'])[['id']].copy()",
        "made = ws.register('made', made, producer='cell')",
    )
    edited()
    assert "possibly stale" in papers.value("str(ws.staleness('made'))")


def test_after_an_error_of_the_analysis_all_names_rest_on_everything(cells, monkeypatch):
    monkeypatch.setattr(CellFlow, "run", lambda *_, **__: 1 / 0)
    cells("df = pd.concat([df, ws.table('s1').pandas()])")
    monkeypatch.undo()
    cells("df = df.assign(x=1.0)")
    ground = f"cell [{cells.number - 1}] is not followed (ZeroDivisionError)"
    assert cells.tables() == {"s0", "s1"} and ground in cells.origin().grounds
    cells("df = ws.table('s0').pandas().dropna()")
    assert cells.tables() == {"s0"}  # what cells read again is followed again


def test_an_error_while_a_table_is_stored_is_a_ground(cells, monkeypatch):
    cells.begin("df = df.assign(x=other.x)")
    monkeypatch.setattr(CellFlow, "run", lambda *_, **__: 1 / 0)
    assert "is not followed (ZeroDivisionError)" in str(cells.origin().grounds)
    assert cells.tables() == {"s0", "s1"}


def test_a_cell_whose_end_is_not_reported_is_followed_when_the_next_one_begins(
    cells,
):
    cells.begin("df['x'] = other.x.sum()")  # as a cell with `await` that was interrupted
    cells("pass")
    assert cells.tables() == {"s0", "s1"}


def test_a_cell_that_a_cell_runs_ends_before_it(cells):
    cells.values["run_inner"] = lambda: cells("k = other.x.sum()")
    cells("run_inner()\ndf['x'] = k")
    assert cells.tables() == {"s0", "s1"}


def test_cells_of_two_threads_end_in_any_order(cells):
    steps = [threading.Event() for _ in range(2)]

    def run_in_thread() -> None:
        cells.follower.begin("df = df.copy()", 50)
        steps[0].set()
        steps[1].wait(10)
        cells.follower.end()

    cells.follower.begin("df['x'] = other.x.sum()", 40)
    thread = threading.Thread(target=run_in_thread)
    thread.start()
    assert steps[0].wait(10)
    exec("df['x'] = other.x.sum()", cells.values)
    cells.follower.end()
    assert "s1" in cells.tables()
    steps[1].set()
    thread.join()
    assert cells.tables() == {"s0", "s1"}


def test_a_class_of_the_notebook_is_not_kept_alive():
    class Step:
        def call(self) -> None: ...

    Walk({}, [Step, Step(), pd.DataFrame({"x": pd.Categorical([Step()])})])
    assert not is_frame(Step())
    reference = weakref.ref(Step)
    del Step
    gc.collect()
    assert reference() is None


def test_a_class_that_a_cell_defines_again_is_not_kept_alive(cells):
    define = "class Step:\n    def __init__(self, d): self.d = d\n    def run(self): return self.d.assign(n=1)"
    cells(define, "step = Step(df)", "made = step.run()", "import numpy as np\nv = np.sum(df.x, 0)")
    former = weakref.ref(cells.values["Step"])
    held = weakref.ref(cells.values["step"])
    cells(define, "step = Step(df)", "made = step.run()")
    gc.collect()
    assert former() is None and held() is None


def test_code_of_the_user_does_not_run_when_objects_are_examined(cells):
    calls: list[str] = []
    cells.values["calls"] = calls
    cells(
        "class Any:\n    def __getattr__(self, name):\n        calls.append(name)\n        raise ValueError(name)",
        "any = Any()",
        "box = [any, df]",
        "made = df.assign(x=1.0)",
    )
    assert calls == [] and "s0" in cells.tables("made")


CHANGE = "def change(d): d['x'] = other.x.sum()"
CHANGED = {**notebooks("frames/rebound"), **notebooks("frames/in_place")}
"""Cells that change `df` by way of a name that holds something harmless at their end, and cells in
which a library changes `df`, or an array that it is made from."""


@pytest.mark.parametrize("what", CHANGED)
def test_what_changes_a_frame_in_place_is_followed(cells, what):
    cells(*CHANGED[what])
    assert "s1" in cells.tables()


def test_a_cell_that_fails_after_it_replaced_a_function_is_followed(cells):
    cells(CHANGE)
    with pytest.raises(ZeroDivisionError):
        cells.begin("f = change\nf(df)\nf = len\n1 / 0")
    cells.follower.end(is_whole=False)
    assert "s1" in cells.tables()


def test_a_function_that_was_an_output_is_followed_though_ipython_replaces_it(
    cells,
):
    cells(CHANGE)
    cells.values["_"] = cells.values["_3"] = cells.values["change"]
    cells.begin("_(df)\n1")
    cells.values["_"] = cells.values["_4"] = 1
    cells.follower.end()
    assert "s1" in cells.tables()


def test_what_is_known_of_outputs_names_the_newest_cells_only(cells):
    for number in range(60):
        cells(f"df.x + {number}\nopen('/dev/null')")
        cells.values["_"] = cells.values[f"_{cells.number}"] = number
    cells("made = df.assign(n=_)")
    origin = cells.origin("made")
    assert 2 < len(origin.cells) < 30 and len(origin.grounds) < 10
    assert f"[{cells.number - 1}]" in origin.cells
