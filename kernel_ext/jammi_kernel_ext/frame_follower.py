"""Follows frames through the cells of a notebook: a name that a cell stores takes the tables of
every name that the statement, and the functions of the notebook that it calls, load; an object that
changed during a cell counts as stored by it.

What cannot be seen (`exec`, threads, modules of the user) is a ground. It stores names and states
of tables, no values.
"""

import contextlib
import functools
import sys
import threading
import types
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from jammi_kernel_ext.cell_code import CellStep, is_own, steps_of
from jammi_kernel_ext.cell_flow import LIBRARY, OUTPUT, CellFlow, LateNames, is_output
from jammi_kernel_ext.cell_state import FILES, STATE
from jammi_kernel_ext.object_walk import PLAIN, Walk, is_frame, is_of_library
from jammi_lab.core.interrupts import DeferInterrupts

if TYPE_CHECKING:
    from jammi_kernel_ext.engine_parts import EngineParts
    from jammi_lab.core.anchors import FrameOrigin
    from jammi_lab.sources.frame_origins import FrameOrigins, FrameRead

MAX_GROUNDS = 3
"""Cells that could not be followed that a verdict names."""
MAX_OUTPUT_CELLS = 20
"""Cells that are named for what was made from an output of IPython."""


@dataclass(eq=False)
class RunningCell:
    """The running cell."""

    label: str
    thread: int
    ids: Mapping[str, int]
    """The objects of the names when it began, by id."""
    steps: list[CellStep] | None
    """Its statements; None when it is not valid."""
    before: dict[str, Walk]
    """What the names reached when it began that it may read."""
    parts: dict[str, "FrameOrigin"] = field(default_factory=dict)
    """Origins that it brings itself, of the rows and files that it reads, by a name for each."""
    origins: dict[frozenset[str], "FrameOrigin"] = field(default_factory=dict)
    """The merged origins of the names and parts that values depend on."""


class FrameFollower:
    """The origins of the notebook's names. `begin` and `end` are called around each cell."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = values
        self._records: dict[str, FrameOrigin] = {}
        """What is known of the names."""
        self._late = LateNames()
        self._ids: dict[str, int] = {}
        """The objects of the names when they were last examined."""
        self._cells: list[RunningCell] = []
        """The running cell, and the cells that it runs itself."""
        self._texts: dict[str, int] = {}
        """The hash of the text of each cell that ran, by its label."""
        self._handled_message = False
        """Whether a message was handled since the last cell."""
        self._grounds: dict[str, str] = {}
        """What could not be followed so far, with the label of the cell."""

    @functools.cached_property
    def _engine(self) -> "type[EngineParts]":
        """What following frames takes from the engine, which is loaded by then."""
        from jammi_kernel_ext.engine_parts import EngineParts

        return EngineParts

    @property
    def _origins(self) -> "FrameOrigins | None":
        """The registry of the engine; None until the engine is loaded, when there are no frames to
        follow."""
        module = sys.modules.get("jammi_lab.sources.frame_origins")
        if module is None or not hasattr(module, "origins"):
            return None
        registry: FrameOrigins = module.origins
        registry.follower = self
        return registry

    @property
    def ground_count(self) -> int:
        """How much could not be followed so far."""
        return len(self._grounds)

    def known_origin(self, name: str) -> "FrameOrigin | None":
        """What is known of a name; None when it holds nothing of a table."""
        return self._records.get(name)

    # -- around a cell

    def begin(self, source: str, number: int) -> None:
        """Note the names before a cell runs. `source` is its code after IPython's
        transformations."""
        with DeferInterrupts():
            self._end_abandoned_cells()
            registry, label, last = self._origins, f"[{number}]", self._ids
            now = self._note_objects()
            if registry is not None and last and not self._cells:
                reads = registry.take_reads()
                with self._guard_against_errors(reads, label):
                    self._note_changes_outside_cells(registry, reads, last, now)
            self._texts[label] = hash(source)
            cell = RunningCell(label, threading.get_ident(), now, None, {})
            self._cells.append(cell)
            # also before the engine is loaded: this cell may load it and read frames
            with self._guard_against_errors([], label):
                self._examine(cell, source)

    def _note_objects(self) -> dict[str, int]:
        self._ids = {n: id(v) for n, v in dict(self._values).items() if not is_output(n)}
        return self._ids

    def _examine(self, cell: RunningCell, source: str) -> None:
        """Find the statements of a cell, and what the names reach that these may read."""
        try:
            cell.steps = steps_of(source, self._values)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return
        loaded, replaced = set[str](), set[str]()
        for step in cell.steps:
            self._late.of_all |= step.uses.late
            loaded |= step.loaded - replaced
            loaded |= {n for n in step.uses.stored if not is_frame(self._values.get(n))}
            replaced |= step.replaced
        flow = self._new_flow(cell)
        for name in flow.reach(loaded):
            if type(self._values.get(name)) not in PLAIN:
                cell.before[name] = flow.walk(name)
                cell.before[name].frames.clear()

    def _new_flow(self, cell: RunningCell | None = None) -> CellFlow:
        before, ids = ({}, {}) if cell is None else (cell.before, cell.ids)
        return CellFlow(self._values, self._records, self._late, before, ids)

    def end(self, *, is_whole: bool = True) -> set[str]:
        """Pass origins on to the names that the cell assigned or changed. Returns those that it
        removed. `is_whole`: whether all its statements ran."""
        with DeferInterrupts():  # an interrupt would leave half of the names without their tables
            cell = self._own_cell()
            if cell is None:
                return set()
            self._end_cell(cell, is_whole=is_whole)
            return cell.ids.keys() - self._values.keys()

    def _replaced(self, cell: RunningCell) -> set[str]:
        return {name for name, key in self._ids.items() if cell.ids.get(name) != key}

    def _own_cell(self) -> RunningCell | None:
        """The cell that this thread runs: cells of two threads may end in any order."""
        thread = threading.get_ident()
        return next((cell for cell in reversed(self._cells) if cell.thread == thread), None)

    def _end_abandoned_cells(self) -> None:
        """End the cells of this thread whose end IPython did not report: it does not when a cell
        with `await` is interrupted. None of their code is below this call any more."""
        while (cell := self._own_cell()) is not None and not self._is_called_by_a_cell():
            self._end_cell(cell, is_whole=False)

    def _is_called_by_a_cell(self) -> bool:
        frame: types.FrameType | None = sys._getframe()
        while frame is not None and not self._is_of_cell(frame):
            frame = frame.f_back
        return frame is not None

    def _is_of_cell(self, frame: types.FrameType) -> bool:
        return frame.f_globals is self._values and frame.f_code.co_name == "<module>"

    def _end_cell(self, cell: RunningCell, *, is_whole: bool) -> None:
        registry = self._origins
        reads = [] if registry is None else registry.take_reads()
        self._note_objects()
        with self._guard_against_errors(reads, cell.label):
            if registry is not None:
                self._follow(registry, cell, reads, is_whole=is_whole)
        self._cells.remove(cell)

    @contextlib.contextmanager
    def _guard_against_errors(self, reads: Sequence["FrameRead"], label: str) -> Iterator[None]:
        """No error of the analysis may break a cell. After one, what the names hold may be made
        from anything known."""
        try:
            yield
            return
        except Exception as error:  # noqa: BLE001
            ground = f"cell {label} is not followed ({type(error).__name__})"
        self._grounds[ground] = label
        everything = self._everything(reads, [ground], [label])
        for name, value in dict(self._values).items():
            if self._may_hold_rows(value):
                self._records[name] = everything
        self._records[OUTPUT] = everything

    def note_read_before(self, name: str, number: int) -> None:
        """Note a frame that was read for a name before the cell that uses it begins."""
        registry, value = self._origins, self._values.get(name)
        exact = None if registry is None else registry.recorded(value)
        if registry is not None and exact is not None:
            registry.take_reads()
            exact = exact.with_values(cells=[f"[{number}]"])
            registry.record(value, exact)
            self._records[name] = exact
        self._ids[name] = id(value)

    def note_message(self) -> None:
        """Note that a message was handled, which may have run callbacks outside of a cell."""
        self._handled_message = self._handled_message or not self._cells

    def _note_changes_outside_cells(
        self,
        registry: "FrameOrigins",
        reads: Sequence["FrameRead"],
        last: Mapping[str, int],
        now: Mapping[str, int],
    ) -> None:
        """Names that were set between two cells, by a callback of a widget or by a thread, may hold
        anything that is known; and so may what a callback changes in place."""
        changed = {name for name, key in now.items() if last.get(name) != key}
        everything = self._everything(reads, ["set outside a cell"])
        if (self._handled_message or reads) and everything.inputs:
            changed |= self._changed_by_callbacks()
        self._handled_message = False
        for name in changed if everything.inputs else ():
            value = self._values.get(name)
            if not name.startswith("_") and self._may_hold_rows(value):
                self._records[name] = self._with_known(name, everything)
                frames = Walk(self._values, value).frames
                self._record_frames(registry, frames, everything, None)

    def _everything(
        self, reads: Sequence["FrameRead"], grounds: Sequence[str], cells: Sequence[str] = ()
    ) -> "FrameOrigin":
        """What all names and reads together were made from."""
        origins = [*(read.origin for read in reads), *self._records.values()]
        return self._engine.merged_origin(origins, grounds, cells, derived=True)

    @staticmethod
    def _may_hold_rows(value: object) -> bool:
        return not (is_own(type(value)) or is_of_library(value))

    def _changed_by_callbacks(self) -> set[str]:
        """The names that reach what the functions of the notebook may change, with what these
        functions and the objects that hold them reach."""
        flow = self._new_flow()
        marked = set[Any]()
        for name in self._ids:
            walk = flow.walk(name)
            if any(use.changes for use in walk.uses):
                marked |= walk.signatures.keys()
                for other in set[str]().union(*(use.loaded for use in walk.uses)):
                    marked |= flow.walk(other).signatures.keys()
        return {n for n in self._ids if not marked.isdisjoint(flow.walk(n).signatures)}

    # -- what a cell passes on

    def _flow_of(
        self,
        cell: RunningCell,
        reads: Sequence["FrameRead"],
        *,
        is_whole: bool = True,
        line: int | None = None,
    ) -> CellFlow:
        """What the statements of a cell pass on, up to a line."""
        cell.parts = {f"{read.line} {at}": read.origin for at, read in enumerate(reads)}
        cell.parts[FILES] = self._engine.FrameOrigin(
            grounds=[f"cell {cell.label} reads files, which are not followed"]
        )
        cell.origins.clear()
        flow, steps = self._new_flow(cell), cell.steps
        if steps is None:
            flow.opaque = "code that cannot be parsed" if is_whole else ""
            flow.everything |= self._records.keys()
            steps = []
        is_certain = is_whole and all(read.line is not None for read in reads)
        for at, step in enumerate(steps):
            if line is not None and step.line > line:
                break
            after = steps[at + 1].line if at + 1 < len(steps) else sys.maxsize
            read = {
                f"{each.line} {number}"
                for number, each in enumerate(reads)
                if not is_certain or each.line is None or step.line <= each.line < after
            }
            flow.run(step, read, is_certain=is_certain and step.line != line)
        if flow.opaque:
            self._note_opaque(cell, f"uses {flow.opaque}, which")
            flow.everything |= cell.parts.keys() - {FILES}
        flow.find_changed()
        return flow

    def _follow(
        self,
        registry: "FrameOrigins",
        cell: RunningCell,
        reads: Sequence["FrameRead"],
        *,
        is_whole: bool,
    ) -> None:
        flow = self._flow_of(cell, reads, is_whole=is_whole)
        if {read.thread for read in reads} - {cell.thread}:
            self._note_opaque(cell, "reads rows in a thread, which")
        replaced = self._replaced(cell)
        if unseen := replaced - flow.sources.keys():
            is_magic = any("get_ipython" in step.loaded for step in cell.steps or ())
            known = self._records.keys() | cell.parts.keys() - {FILES}
            flow.sources |= dict.fromkeys(unseen, flow.everything if is_magic else known)
        everything = self._merged_of(cell, flow.everything)
        origins = {
            name: self._merged_of(cell, flow.sources_of(name))
            for name in flow.sources.keys() | flow.changed
        }
        for name in origins.keys() - replaced:
            origins[name] = self._with_known(name, origins[name])
        for name, origin in origins.items():
            self._remember(registry, cell, flow, name, origin)
        if everything.inputs or everything.grounds:
            self._remember_output(everything)

    def _remember_output(self, origin: "FrameOrigin") -> None:
        """Add what a cell read to what is known of all outputs. Of the cells and grounds the newest
        stay: they would be as many as the notebook has cells."""
        merged = self._with_known(OUTPUT, origin)
        cells, grounds = merged.cells[-MAX_OUTPUT_CELLS:], merged.grounds[-MAX_GROUNDS:]
        self._records[OUTPUT] = merged.with_values(cells=cells, grounds=grounds)

    def _remember(
        self,
        registry: "FrameOrigins",
        cell: RunningCell,
        flow: CellFlow,
        name: str,
        origin: "FrameOrigin",
    ) -> None:
        """Record what a name holds after a cell that assigned it or may have changed it."""
        value = self._values.get(name)
        if is_output(name):
            return
        is_variable = name not in (STATE, LIBRARY)
        if is_variable:
            if name not in self._values or not self._may_hold_rows(value):
                self._records.pop(name, None)  # of our objects rows are recorded when they leave
                return
            exact = registry.recorded(value)
            if exact is not None and not exact.derived and name not in flow.changed:
                if self._was_made_from_more(cell, flow.sources[name], exact):
                    origin = self._merge(exact, origin)
                else:
                    origin = exact.with_values(cells=exact.cells or [cell.label])
                    registry.record(value, origin)
        if not (origin.inputs or origin.grounds):
            self._records.pop(name, None)
            return
        self._records[name] = origin
        if origin.derived and is_variable:
            changed = flow.marked if name in flow.changed else set()
            frames = [value] if is_frame(value) else flow.walk(name).frames
            self._record_frames(registry, frames, origin, changed)

    def _was_made_from_more(
        self, cell: RunningCell, sources: set[str], exact: "FrameOrigin"
    ) -> bool:
        """Whether the statement of a frame that the cell read, or its parameters, may have been
        made from more than the tables that the rows came from."""
        other = self._merged_of(cell, sources - {FILES})
        known = {anchor.input.identity for anchor in exact.inputs}
        return bool(other.grounds) or any(a.input.identity not in known for a in other.inputs)

    def _record_frames(
        self,
        registry: "FrameOrigins",
        frames: Iterable[object],
        origin: "FrameOrigin",
        changed: set[Any] | None,
    ) -> None:
        """Record the origin with the frames that a value is or holds: they may be given to the
        workspace without their name. `changed`: the objects that changed; None for all."""
        for frame in filter(self._engine.is_frame, frames):
            known = registry.recorded(frame)
            if known is None:
                registry.record(frame, origin)
            elif changed is None or id(frame) in changed:
                registry.record(frame, self._merge(known, origin))

    def _merge(self, origin: "FrameOrigin", other: "FrameOrigin") -> "FrameOrigin":
        """Both origins as one of a derived frame."""
        if origin is other and origin.derived:
            return origin
        return self._merged_origin([origin, other], derived=True)

    def _with_known(self, name: str, origin: "FrameOrigin") -> "FrameOrigin":
        """An origin with what is known of a name that may hold its former value."""
        known = self._records.get(name)
        return origin if known is None else self._merge(known, origin)

    def _merged_origin(
        self,
        origins: Iterable["FrameOrigin"],
        grounds: Sequence[str] = (),
        cells: Sequence[str] = (),
        *,
        derived: bool,
    ) -> "FrameOrigin":
        """One origin, in which a cell that ran several times stands once, as it ran last: frames
        that are made from themselves would else name ever more cells."""
        merged = self._engine.merged_origin(origins, grounds, cells, derived=derived)
        last = {self._texts.get(label, label): label for label in merged.cells}
        return merged.with_values(cells=list(last.values()))

    # -- the running cell

    def origin(self, frame: object, recorded: "FrameOrigin | None") -> "FrameOrigin | None":
        """The origin of a frame, given the recorded one; None when nothing is known of it."""
        registry, label = self._origins, self._cells[-1].label if self._cells else "[0]"
        with self._guard_against_errors([] if registry is None else registry.reads(), label):
            return self._find_origin(frame, recorded)
        return self._records[OUTPUT]

    def _find_origin(self, frame: object, recorded: "FrameOrigin | None") -> "FrameOrigin | None":
        cell, registry = self._cells[-1] if self._cells else None, self._origins
        exact = recorded is not None and not recorded.derived
        holders = {name for name, value in list(self._values.items()) if value is frame}
        parts = [] if recorded is None else [recorded]
        cells, stored = list[str](), set[str]()
        if cell is not None and registry is not None:
            line = self.line()
            is_whole = line is not None  # else nobody knows what has run yet
            flow = self._flow_of(cell, registry.reads(), is_whole=is_whole, line=line)
            stored = holders & flow.sources.keys()
            sources = set[str]().union(*map(flow.sources_of, holders)) if holders else flow.last
            if recorded is not None and exact and not recorded.cells:  # the cell itself read it
                exact = not self._was_made_from_more(cell, sources, recorded)
            if not holders or holders & flow.changed or (sources and not exact):
                parts.append(self._merged_of(cell, sources))
                cells.append(cell.label)
        if exact and not self._engine.is_mutable(frame):
            return recorded
        parts += [
            self._records[name]
            for name in holders & self._records.keys() - stored
            # What is known of outputs is of all of them, and a frame as it was read is one.
            if not (exact and is_output(name))
        ]
        grounds = self._grounds_since(recorded.cells if recorded is not None and exact else [])
        derived = not exact or not holders or bool(cells)
        if not derived and registry is not None:
            read = registry.digest_as_read(frame)
            if read is None:
                grounds.append(self._engine.TOO_LARGE)
            elif self.rows_digest(frame) != read:
                parts.append(self._everything([], ["it was changed by code that is not followed"]))
                derived = True
        if not (grounds or any(part.inputs or part.grounds for part in parts)):
            return None
        has_grounds = any(ground != self._engine.TOO_LARGE for ground in grounds)
        return self._merged_origin(parts, grounds, cells, derived=derived or has_grounds)

    def rows_digest(self, frame: object) -> str | None:
        """A digest of the rows of a frame; None when they are too many to be compared."""
        return self._engine.rows_digest(frame)

    def line(self) -> int | None:
        """The line of the running cell whose statement runs; None when that is not known."""
        cells, found = self._cells, None
        frame = sys._current_frames().get(cells[0].thread) if len(cells) == 1 else None
        while frame is not None:
            if self._is_of_cell(frame):
                found = frame.f_lineno
            frame = frame.f_back
        return found

    def _merged_of(self, cell: RunningCell, sources: set[str]) -> "FrameOrigin":
        """What the values of names before the cell were made from, and what the cell read."""
        key = frozenset(sources)
        if key not in cell.origins:
            parts = [
                cell.parts[name] if name in cell.parts else self._records[name]
                for name in sorted(sources)
            ]
            cell.origins[key] = (
                self._merged_origin(parts, cells=[cell.label], derived=True)
                if any(part.inputs or part.grounds for part in parts)
                else self._engine.FrameOrigin(derived=True)
            )
        return cell.origins[key]

    def _note_opaque(self, cell: RunningCell, what: str) -> None:
        text = self._texts[cell.label]
        for ground in [g for g, at in self._grounds.items() if self._texts[at] == text]:
            del self._grounds[ground]  # of an earlier run of this cell
        self._grounds[f"cell {cell.label} {what} is not followed"] = cell.label

    def _grounds_since(self, cells: list[str]) -> list[str]:
        """What could not be followed since a frame was read in one of the cells, and in threads,
        which go on; without cells all of it."""
        since = max((int(label[1:-1]) for label in cells), default=0)
        grounds = [
            ground
            for ground, label in self._grounds.items()
            if int(label[1:-1]) >= since or "hread" in ground
        ]
        return grounds[:MAX_GROUNDS]
