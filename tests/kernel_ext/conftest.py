"""A real kernel, shared by the tests of this folder; each test has its own folder, variables and
workspace in it."""

import contextlib
import dataclasses
import os
import queue
import re
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from jupyter_client.manager import start_new_kernel

from tests.processes import environment

VIEW = "application/vnd.jupyter.widget-view+json"
# A cell that assigns `_` itself stops IPython from keeping it for the rest of the session, so `_`
# goes too.
CLEAN = """
from IPython import get_ipython as _ip
_ip().run_line_magic('unload_ext', 'jammi_lab')
import jammi_kernel_ext as _k
if _k._notebook is not None: _k._notebook.close(); vars(_k._notebook).pop('frames', None); vars(_k._notebook).pop('held_names', None); _k._notebook._tenant = None
from jammi_lab.core.errors import JammiError as _e
_e.full_traceback = False
_ip().run_line_magic('reset', '-f -s')
for _n in ('_', '__', '___', '__vsc_ipynb_file__'): _ip().user_ns.pop(_n, None)
import gc as _g
_g.freeze()  # `reset` collects garbage, which walks through all modules: 0.1 s
"""

# Workspaces of the kernel are opened as those of the tests' own process: tests/templates.py,
# tests/instances.py.
SHARED = """
import jammi_lab.workspace.workspace
from tests import instances as _i, templates as _t
_t.install(), _i.install()
del _i, _t, jammi_lab
"""

# A cell that takes too long tells where its threads are.
STACKS = """
import faulthandler as _f, signal as _s
_f.register(_s.SIGUSR1, file=open({file!r}, "w"))
del _f, _s
"""

GATE = """
import threading
from jammi_lab.inputs.source_names import SourceKind
gate, source = threading.Event(), SourceKind.observe
def _hanging(self, input, look):
    gate.wait()
    return source(self, input, look)
SourceKind.observe = _hanging
"""


@dataclasses.dataclass
class Shown:
    """What a cell left behind."""

    error: list[str] | None = None
    ename: str = ""
    data: list[dict[str, str]] = dataclasses.field(default_factory=list)
    stream: str = ""
    saved: list[dict[str, str]] = dataclasses.field(default_factory=list)
    displays: list[dict[str, Any]] = dataclasses.field(default_factory=list)

    @property
    def text(self) -> str:
        texts = [d.get("text/plain", "") for d in [*self.data, *self.saved] if VIEW not in d]
        return "\n".join(texts) + self.stream

    @property
    def html(self) -> str:
        return "\n".join(d.get("text/html", "") for d in [*self.data, *self.saved])


class Kernel:
    """Runs cells one after the other."""

    def __init__(self) -> None:
        self._filled: list[Any] = []
        self._stacks = tempfile.NamedTemporaryFile("r")  # noqa: SIM115  closed with the kernel
        self.manager, self.client = start_new_kernel(kernel_name="python3", env=environment())
        self(STACKS.format(file=self._stacks.name))

    def close(self) -> None:
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)
        self._stacks.close()

    def __call__(
        self,
        code: str,
        *,
        interrupt_when: Callable[[str], bool] | None = None,
        timeout: float = 60,
        looked_on: bool = False,
    ) -> Shown:
        """What the cell shows. `interrupt_when`: a test of a stream text that says that ■ is to be
        pressed. `looked_on`: as a front end with a person before it runs cells, and not as nbclient
        does."""
        message = self.client.execute(code, allow_stdin=looked_on)
        shown, deadline, pressed = Shown(), time.monotonic() + timeout, False
        while time.monotonic() < deadline:
            try:
                got = self.client.get_iopub_msg(timeout=0.1)
            except queue.Empty:
                continue
            if got["parent_header"].get("msg_id") != message:
                self._filled += [got["content"]] if got["msg_type"] == "update_display_data" else []
                continue
            content = got["content"]
            match got["msg_type"]:
                case "stream":
                    shown.stream += content["text"]
                    if interrupt_when and not pressed and interrupt_when(shown.stream):
                        pressed = True
                        time.sleep(0.3)
                        self.manager.interrupt_kernel()
                case "execute_result" | "display_data":
                    twice = (
                        "jammi-saved" in content["data"].get("text/html", "")[:60]
                    )  # below a panel, for when it does not live
                    (shown.saved if twice else shown.data).extend(
                        [content["data"]] if content["data"] else []
                    )
                    shown.displays.append(content)
                case "update_display_data" | "clear_output":
                    shown.displays.append(content)
                case "error":
                    shown.ename, shown.error = (
                        content["ename"],
                        [re.sub(r"\x1b\[[\d;]*m", "", line) for line in content["traceback"]],
                    )
                case "status" if content["execution_state"] == "idle":
                    return shown
        os.kill(self.manager.provisioner.process.pid, signal.SIGUSR1)
        time.sleep(1)
        self._stacks.seek(0)
        told = f"{code}\ninterrupted: {pressed}, shown: {shown.stream!r}\n{self._stacks.read()}"
        self._begin_anew()
        raise TimeoutError(told)

    def _begin_anew(self) -> None:
        """One cell that hangs is one test that fails: it would hold up those that follow, too."""
        self.manager.restart_kernel(now=True)
        self.client.wait_for_ready(timeout=60)
        self(STACKS.format(file=self._stacks.name))

    def update_of(self, shown: Shown, timeout: float = 60) -> dict[str, str]:
        """The data with which a display of an earlier cell is filled in, which may come when no
        cell runs."""
        wanted, deadline = (
            [
                d["transient"]["display_id"]
                for d in shown.displays
                if d.get("transient", {}).get("display_id")
            ],
            time.monotonic() + timeout,
        )
        while time.monotonic() < deadline:
            for content in self._filled:
                if content["transient"]["display_id"] in wanted:
                    return dict(content["data"])
            with contextlib.suppress(queue.Empty):
                got = self.client.get_iopub_msg(timeout=0.1)
                self._filled += [got["content"]] if got["msg_type"] == "update_display_data" else []
        raise TimeoutError(str(wanted))

    def run(self, *cells: str) -> Shown:
        """What the last of some cells shows; none of them fails."""
        for code in cells:
            shown = self(code)
            assert shown.error is None, (code, shown.error)
        return shown

    def value(self, expression: str) -> str:
        """The repr of an expression in the kernel."""
        return self.run(f"print(repr(({expression})))").stream.strip()


@pytest.fixture(scope="session")
def kernel() -> Iterator[Kernel]:
    running = Kernel()
    running.run(SHARED)
    yield running
    running.close()


@pytest.fixture
def bare(kernel: Kernel, tmp_path: Path) -> Iterator[Kernel]:
    """A clean kernel in a folder of its own; the extension is not loaded."""
    kernel(f"import os; os.chdir({str(tmp_path)!r})")
    yield kernel
    kernel.run(CLEAN)


@pytest.fixture
def cell(bare: Kernel, tmp_path: Path) -> Kernel:
    """A notebook with the extension, a file `papers.csv`, and nothing opened yet."""
    (tmp_path / "papers.csv").write_text("id,venue,year\n1,A,2020\n2,B,2021\n3,A,2022\n4,,2023\n")
    bare.run("%load_ext jammi_lab")
    return bare


@pytest.fixture
def papers(cell: Kernel) -> Kernel:
    """The same with the source `papers`."""
    cell.run("%jammi add papers papers.csv")
    return cell


@pytest.fixture
def chain(papers: Kernel) -> Kernel:
    """The same with `top` made from `venues` made from `papers`."""
    papers.run(
        "%%jammi -m venues\nSELECT venue, count(*) AS n FROM papers GROUP BY venue",
        "%%jammi -m top\nSELECT * FROM jammi.venues WHERE n > 1",
    )
    return papers


@pytest.fixture
def edited(tmp_path: Path) -> Callable[[], None]:
    """Calling it adds a row to the file of `papers`."""

    def add() -> None:
        with (tmp_path / "papers.csv").open("a") as file:
            file.write("5,B,2024\n")

    return add


@pytest.fixture
def gated(chain: Kernel, edited: Callable[[], None]) -> Iterator[Kernel]:
    """A source that changed, behind an observer that answers nothing before `gate` is set."""
    edited()
    opened = "ws = %jammi open\nws.settings.set('look.timeout_seconds', 600)"
    chain.run("%jammi close", GATE, opened)
    yield chain
    chain("gate.set(); SourceKind.observe = source")
