"""A workspace with a folder of data beside it, and a clock that a test can move."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

import jammi_lab as jl
from jammi_lab.core.clock import SystemClock
from jammi_lab.core.settings import load_settings
from jammi_lab.core.tenancy import TenantScope
from jammi_lab.core.verdicts import Cause, Damaged, DefinitionChanged, Verdict, verdict_code
from jammi_lab.freshness.reports import RunReport
from jammi_lab.workspace.assembly import build_services
from jammi_lab.workspace.workspace import Workspace


class MovedClock(SystemClock):
    """The machine's clock, some seconds ahead."""

    ahead = 0.0

    def now_ns(self) -> int:
        return super().now_ns() + int(self.ahead * 1e9)


class Lab:
    """`ws` over `data/`: files are written, edited and registered by name."""

    def __init__(self, root: Path, **settings: Any) -> None:
        self.data, self.folder, self.clock, self._settings = (
            root / "data",
            root / "lab",
            MovedClock(),
            settings,
        )
        self.data.mkdir(exist_ok=True)
        self.ws = self.open()

    def name_frames(self, variables: Mapping[str, object]) -> None:
        """Let statements name the frames among the variables of a notebook."""
        self.ws._frames_from(lambda: variables)

    def open(self, **changes: Any) -> Workspace:
        given = {"read_only": False, **changes}
        self.folder.mkdir(exist_ok=True)
        return Workspace(
            build_services(
                self.folder,
                display_path=str(self.folder),
                scope=TenantScope(None),
                settings=load_settings(self.folder, self._settings),
                clock=self.clock,
                create=True,
                **given,
            )
        )

    def __getattr__(self, name: str) -> Any:
        """What is no file or clock is asked of the workspace."""
        return getattr(self.__dict__["ws"], name)

    def reopen(self) -> Workspace:
        """The workspace as another kernel would find it."""
        self.ws.close()
        self.ws = self.open()
        return self.ws

    def path(self, name: str) -> Path:
        return self.data / name

    def csv(self, name: str, *rows: str) -> Path:
        """`name.csv`, registered as `name`; the first row is the header."""
        path = self.path(f"{name}.csv")
        path.write_text("\n".join(rows) + "\n")
        self._register(name, path)
        return path

    def parquet(self, name: str, **columns: Sequence[Any]) -> Path:
        """`name.parquet`, registered as `name`."""
        path = self.path(f"{name}.parquet")
        pq.write_table(pa.table({n: list(v) for n, v in columns.items()}), path)
        self._register(name, path)
        return path

    def _register(self, name: str, location: Path) -> None:
        if name not in self.ws.sources:
            self.ws.sources.add(name, location)

    def verdict(self, name: str) -> str:
        return verdict_code(self.ws.staleness(name))

    def rows(self, name: str) -> list[tuple[Any, ...]]:
        return sorted(self.ws.table(name).read().fetchall(), key=repr)


def said(verdict: Verdict) -> list[str]:
    """Reasons in short: `definition`, `advanced papers`, `vanished papers`, each with the way
    there."""
    found = []
    for each in (
        getattr(verdict, "reasons", None)
        or getattr(verdict, "causes", None)
        or getattr(verdict, "decided_reasons", None)
        or []
    ):
        reason, path = (each.reason, each.path) if isinstance(each, Cause) else (each, [])
        match reason:
            case DefinitionChanged():
                what = "definition"
            case Damaged():
                what = "damaged"
            case jl.InputAdvanced() | jl.InputVanished():
                what = f"{type(reason).__name__.removeprefix('Input').lower()} {reason.input.label}"
        found.append(" ← ".join([what, *path]) if path else what)
    return found


def outcomes(report: RunReport) -> dict[str, str]:
    """What became of the steps of a run."""
    return {step.name: step.outcome for step in report.steps}


def same_size_edit(path: Path, old: str, new: str) -> None:
    """Change text for as much other text, and put the times back: what `stat` shows of size and
    mtime is as before."""
    assert len(old.encode()) == len(new.encode())
    before = os.stat(path)
    path.write_text(path.read_text().replace(old, new, 1))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = os.stat(path)
    assert (before.st_size, before.st_mtime_ns) == (after.st_size, after.st_mtime_ns)
