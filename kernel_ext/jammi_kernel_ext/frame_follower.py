"""Follows frames through the cells of a notebook: a name that a cell assigns or changes inherits
the tables of every name that the cell reads.

It is conservative within what it can see, and names what it cannot see (`exec`, threads, modules of
the user) as a ground. It stores names and states of tables, no values.
"""

import ast
import functools
import itertools
import sys
import threading
import types
import weakref
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from jammi_kernel_ext.cell_analysis import (
    MAX_ELEMENTS,
    OUTPUT,
    PLAIN_TYPES,
    CellAnalysis,
    NameRecord,
    RunningCell,
    is_output,
    is_own,
)
from jammi_kernel_ext.cell_calls import note_harmless
from jammi_kernel_ext.cell_flow import Flow, LateNames
from jammi_kernel_ext.cell_state import is_state
from jammi_kernel_ext.cell_syntax import NamesOfCell, only_names_objects
from jammi_kernel_ext.cell_values import is_library_object, is_module, is_of_user
from jammi_lab.core.interrupts import DeferInterrupts

if TYPE_CHECKING:
    from jammi_lab.core.anchors import FrameOrigin
    from jammi_lab.sources.frame_origins import FrameOrigins, FrameRead

MAX_GROUNDS = 3
"""Cells that could not be followed that a verdict names."""
MAX_OUTPUT_CELLS = 20
"""Cells that are named for what was made from an output of IPython."""


class FrameFollower(CellAnalysis):
    """The origins of the notebook's names. `begin` and `end` are called around each cell."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        super().__init__(values)
        self._cells: list[RunningCell] = []
        """The running cell, and the cells that it runs itself."""
        self._texts: dict[str, int] = {}
        """The hash of the text of each cell that ran, by its label."""
        self._known_texts: set[int] = set()
        self._ran_again = False
        """Whether any cell ran several times."""
        self._handled_message = False
        """Whether a message was handled since the last cell."""
        self._merged: dict[tuple[int, int], tuple[FrameOrigin, FrameOrigin, FrameOrigin]] = {}
        """The merged origins of the running cell, by the ids of the two, which are held, too."""
        self._as_read: dict[int, tuple[weakref.ref[Any], str | None]] = {}
        """Frames as they were read, by id, with a digest of their rows; None for those that have
        too many to be compared."""
        self._grounds: dict[str, str] = {}
        """What could not be followed so far, with the label of the cell."""

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

    # -- around a cell

    def begin(self, source: str, number: int) -> None:
        """Note the names before a cell runs. `source` is its code after IPython's
        transformations."""
        with DeferInterrupts():
            self._end_abandoned_cells()
            registry, label, last = self._origins, f"[{number}]", self._snapshot.ids
            now = self._take_snapshot()
            if registry is not None and last and not self._cells:
                reads = registry.take_reads()
                try:
                    self._note_changes_outside_cells(registry, reads, last, now.ids)
                except Exception as error:  # noqa: BLE001  no error of the analysis may break a cell
                    self._assume_everything(reads, label, error)
            text = hash(source)
            self._ran_again = self._ran_again or text in self._known_texts
            self._texts[label] = text
            self._known_texts.add(text)
            thread = threading.get_ident()
            self._cells.append(RunningCell(label, source, thread, now.ids, now.types))

    def note_tree(self, source: str, tree: object) -> None:
        """Note a syntax tree that IPython made, which need not be made again for the running
        cell."""
        cell = self._own_cell()
        if cell is not None and cell.source == source and isinstance(tree, ast.Module):
            cell.parsed = tree

    def end(self, *, is_whole: bool = True) -> None:
        """Pass origins on to the names that the cell assigned or changed. `is_whole`: whether all
        its statements ran."""
        with DeferInterrupts():  # an interrupt would leave half of the names without their tables
            cell = self._own_cell()
            if cell is not None:
                self._end_cell(cell, is_whole=is_whole)

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
        try:
            self._take_snapshot()
            if registry is not None:
                self._follow(registry, cell, reads, is_whole=is_whole)
        except Exception as error:  # noqa: BLE001  no error of the analysis may break a cell
            self._assume_everything(reads, cell.label, error)
        finally:
            self._cells.remove(cell)
            self._merged.clear()

    def _assume_everything(
        self, reads: Sequence["FrameRead"], label: str, error: Exception
    ) -> None:
        """After an error of the analysis: what the names hold may be made from anything known."""
        ground = f"cell {label} is not followed ({type(error).__name__})"
        self._grounds[ground] = label
        origins = [each.origin for each in self._records.values()]
        origins += [each.origin for each in reads]
        everything = self._engine.merged_origin(origins, [ground], [label], derived=True)
        for name, value in dict(self._values).items():
            if not (is_own(value) or is_module(value)):
                self._records[name] = NameRecord(everything)
        self._records[OUTPUT] = NameRecord(everything)

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
        changed = set[str]()
        if now is not last:
            changed |= {name for name, key in now.items() if last.get(name) != key}
        if self._handled_message or reads:
            changed |= self._changed_by_callbacks()
            self._handled_message = False
        if not changed:
            return
        everything = self._engine.merged_origin(
            [*(read.origin for read in reads), *(r.origin for r in self._records.values())],
            ["set outside a cell"],
            derived=True,
        )
        for name in changed if everything.inputs else ():
            value = self._values.get(name)
            if not (name.startswith("_") or is_own(value) or is_module(value)):
                record = self._merge_records(self._records.get(name), NameRecord(everything))
                self._records[name] = record
                self._record_frames(registry, value, everything)

    def _changed_by_callbacks(self) -> set[str]:
        """The names that functions of the notebook change; and what may share something with an
        object, such as a widget, that calls code which it was given."""
        changed = set[str]().union(*(record.late_changed for record in self._records.values()))
        for name, others in self._links.items():
            value = self._values.get(name)
            if is_of_user(type(value)) or is_library_object(value):
                changed |= {name, *others}
        return changed & self._values.keys()

    def _follow(
        self,
        registry: "FrameOrigins",
        cell: RunningCell,
        reads: Sequence["FrameRead"],
        *,
        is_whole: bool,
    ) -> None:
        flow = self._flow_of(cell, reads, is_whole=is_whole)
        replaced = cell.find_replaced(self._snapshot.ids)
        if self._is_changed_unseen(flow.names, replaced):
            flow.names.note_opaque("code that it does not name")
            flow.everything = {*self._records, *cell.parts}
            flow.sources.clear()
        names = flow.names
        self._note_opaque(cell, names, {read.thread for read in reads})
        touched = self._touched(names, replaced)
        if cell.tree is not None and only_names_objects(cell.tree):
            cell.kept = self._frames_before(registry, cell)
        self._unlink(cell, flow)
        for name, others in flow.shared.items():
            self._links.setdefault(name, set()).update(others)
        note_harmless(names, self._values)
        records = [(name, self._record_of(cell, flow, name)) for name in touched]
        for name, record in records:
            self._remember(registry, cell, name, record)
        origin = self._merged_of(cell, flow.everything)
        if origin.inputs or origin.grounds:
            self._remember_output(origin)

    def _remember_output(self, origin: "FrameOrigin") -> None:
        """Add what a cell read to what is known of all outputs. Of the cells and grounds the newest
        stay: they would be as many as the notebook has cells."""
        merged = self._merge_records(self._records.get(OUTPUT), NameRecord(origin)).origin
        cells, grounds = merged.cells[-MAX_OUTPUT_CELLS:], merged.grounds[-MAX_GROUNDS:]
        self._records[OUTPUT] = NameRecord(
            self._engine.replace_fields(merged, cells=cells, grounds=grounds)
        )

    def _record_of(self, cell: RunningCell, flow: Flow, name: str) -> NameRecord:
        """What is known of a name that the cell assigned or may have changed, from what the cell
        read for it."""
        origin = self._merged_of(cell, self._sources_of(flow, name))
        if self._kinds[name] in ("plain", "frame"):  # holds no functions
            return NameRecord(origin)
        return NameRecord(origin, *flow.late.get(name, LateNames()))

    def _sources_of(self, flow: Flow, name: str) -> set[str]:
        """The names whose former values a name depends on by what the cell did. Code that the cell
        calls may have assigned it without its name."""
        if name in self._globals or name not in flow.sources:
            return flow.everything
        return flow.sources[name]

    def _is_changed_unseen(self, names: NamesOfCell, replaced: set[str]) -> bool:
        """Whether a name holds another frame that the cell neither assigns nor calls code for that
        may: a formatter or another hook did. `replaced`: the names that hold another object."""
        return any(
            self._kinds[name] in ("frame", "lazy frame") and not is_output(name)
            for name in replaced - names.stored
        ) and not any(self._kinds[name] in ("function", "container") for name in names.loaded)

    def _frames_before(
        self, registry: "FrameOrigins", cell: RunningCell
    ) -> "dict[int, FrameOrigin]":
        """The origins of the frames that names held before the cell and that are still alive: the
        registry knows no frame that took the place of another in memory."""
        known: dict[int, FrameOrigin] = {}
        alive = {id(value): value for value in self._values.values()}
        for name, key in cell.ids.items():
            if name in self._records and (frame := alive.get(key)) is not None:
                recorded = registry.recorded(frame)
                if recorded is not None and recorded.derived:
                    before = self._records[name].origin
                    known[key] = self._merge(known.get(key, recorded), before)
        return known

    def _remember(
        self,
        registry: "FrameOrigins",
        cell: RunningCell,
        name: str,
        record: NameRecord,
    ) -> None:
        """Record what a name holds after a cell that assigned it or may have changed it."""
        assert cell.flow is not None, "the cell was followed"
        value, names = self._values.get(name), cell.flow.names
        if is_state(name):
            self._records[name] = self._merge_records(self._records.get(name), record)
            return
        if name not in self._values or is_own(value):
            self._records.pop(name, None)  # rows that leave one of our objects are recorded then
            return
        if self._kinds[name] == "module" and name not in names.changed:
            return  # a module that a cell imports holds nothing of what the cell reads
        exact = registry.recorded(value)
        if (
            exact is not None
            and not exact.derived
            and name not in names.changed
            and not self._was_made_from_more(cell, name, exact)
        ):
            exact = exact if exact.cells else self._engine.replace_fields(exact, cells=[cell.label])
            registry.record(value, exact)
            self._records[name] = NameRecord(exact)
            return
        if (kept := cell.kept.get(id(value))) is not None:
            self._records[name] = NameRecord(
                self._merged_origin([kept], cells=[cell.label], derived=True)
            )
            return
        if name not in cell.flow.replaced and (
            name not in names.stored or cell.ids.get(name) == id(value)
        ):
            record = self._merge_records(self._records.get(name), record)
        elif exact is not None:
            record = self._merge_records(NameRecord(exact), record)
        if not (record.origin.inputs or record.origin.grounds or record.late):
            self._records.pop(name, None)
            return
        self._records[name] = record
        if self._kinds[name] == "module":
            self._libraries.add(name)
        if record.origin.inputs or record.origin.grounds:
            only = None if name in names.stored else cell.changed_frames.get(name)
            self._record_frames(registry, value, record.origin, cell.kept, only)

    def _was_made_from_more(self, cell: RunningCell, name: str, exact: "FrameOrigin") -> bool:
        """Whether the statement of a frame that the cell read, or its parameters, may have been
        made from more than the tables that the rows came from. `name` holds it; empty for a frame
        without a name in the statement that runs."""
        assert cell.flow is not None, "the cell was followed"
        sources = self._sources_of(cell.flow, name) if name else cell.flow.last
        names = {each for each in sources if each in self._records and not is_state(each)}
        other = self._merged_of(cell, names - cell.parts.keys() - {name})
        known = {anchor.input.identity for anchor in exact.inputs}
        return bool(other.grounds) or any(a.input.identity not in known for a in other.inputs)

    def _record_frames(
        self,
        registry: "FrameOrigins",
        value: object,
        origin: "FrameOrigin",
        kept: Collection[int] = (),
        only: set[int] | None = None,
    ) -> None:
        """Record the origin with the frames that a value is or holds: they may be given to the
        workspace without their name. Those of `kept`, and those not in `only`, did not change."""
        if type(value) in PLAIN_TYPES:
            return
        is_frame = self._engine.is_frame
        for frame in (value,) if is_frame(value) else filter(is_frame, _elements(value)):
            if id(frame) not in kept and (only is None or id(frame) in only):
                known = registry.recorded(frame)
                registry.record(frame, self._merge(known or origin, origin))

    def _merge(self, origin: "FrameOrigin", other: "FrameOrigin") -> "FrameOrigin":
        """Both origins as one of a derived frame. The names of a cell share most origins, so each
        pair is merged once a cell."""
        if origin is other and origin.derived:
            return origin
        key = id(origin), id(other)
        if key not in self._merged:
            merged = self._merged_origin([origin, other], derived=True)
            self._merged[key] = (merged, origin, other)
        return self._merged[key][0]

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
        if not self._ran_again:
            return merged
        last = {self._texts.get(label, label): label for label in merged.cells}
        if len(last) == len(merged.cells):
            return merged
        return self._engine.replace_fields(merged, cells=list(last.values()))

    def _merge_records(self, before: NameRecord | None, record: NameRecord) -> NameRecord:
        if before is None:
            return record
        return NameRecord(
            self._merge(before.origin, record.origin),
            before.late | record.late,
            before.late_changed | record.late_changed,
        )

    # -- the running cell

    def origin(self, frame: object, recorded: "FrameOrigin | None") -> "FrameOrigin | None":
        """The origin of a frame, given the recorded one; None when nothing is known of it."""
        try:
            return self._find_origin(frame, recorded)
        except Exception as error:  # noqa: BLE001  no error of the analysis may break a cell
            registry, label = self._origins, self._cells[-1].label if self._cells else "[0]"
            self._assume_everything([] if registry is None else registry.reads(), label, error)
            return self._records[OUTPUT].origin

    def _find_origin(self, frame: object, recorded: "FrameOrigin | None") -> "FrameOrigin | None":
        cell, registry = self._cells[-1] if self._cells else None, self._origins
        exact = recorded is not None and not recorded.derived
        holders = {name for name, value in list(self._values.items()) if value is frame}
        flow = None if cell is None or registry is None else self._flow_now(cell, registry)
        if cell is not None and flow is not None and recorded is not None and exact:
            assigned = holders & flow.sources.keys() or {""}
            exact = bool(recorded.cells) or not any(  # else the running cell read it
                self._was_made_from_more(cell, name, recorded) for name in assigned
            )
        if exact and not self._engine.is_mutable(frame):
            return recorded
        replaced = flow.replaced if flow is not None else set[str]()
        parts = [
            self._records[name].origin
            for name in holders & self._records.keys() - replaced
            # What is known of outputs is of all of them, and a frame as it was read is one.
            if not (exact and is_output(name))
        ]
        parts += [] if recorded is None else [recorded]
        derived, cells = not exact, list[str]()
        grounds = self._grounds_since(recorded.cells if recorded is not None and exact else [])
        if cell is not None and flow is not None:
            names = flow.names
            grounds += [_opaque_ground(cell, names)] if names.opaque else []
            touched = (
                names.changed
                if exact
                else self._touched(names, cell.find_replaced(self._take_snapshot().ids))
            )
            touched = touched & holders
            if touched or not holders:
                used = [self._sources_of(flow, name) for name in touched] or [flow.last]
                parts.append(self._merged_of(cell, set[str]().union(*used)))
                derived, cells = True, [cell.label]
        elif not holders:
            derived = True
        if not derived and (unseen := self._unseen_change(frame)) is not None:
            parts.append(unseen)
            derived = True
        if not (grounds or any(part.inputs or part.grounds for part in parts)):
            return None
        return self._merged_origin(parts, grounds, cells, derived=derived or bool(grounds))

    def note_read(self, frame: object) -> None:
        """Note the rows of a frame that was read, so that a change that no cell shows is noticed
        when it is stored."""
        if self._engine.is_frame(frame) and self._engine.is_mutable(frame):
            key = id(frame)
            discard = functools.partial(_discard, self._as_read, key)
            self._as_read[key] = (weakref.ref(frame, discard), self._engine.rows_digest(frame))

    def _unseen_change(self, frame: object) -> "FrameOrigin | None":
        """What a frame that no cell changed may hold beside the rows that were read; None when it
        holds just these. Code that was not seen may have had it from any name."""
        reference, digest = self._as_read.get(id(frame), (None, None))
        if reference is None or reference() is not frame or digest is None:
            return self._engine.FrameOrigin(
                grounds=["it is too large to be compared with what was read"]
            )
        if self._engine.rows_digest(frame) == digest:
            return None
        everything = (record.origin for record in self._records.values())
        return self._engine.merged_origin(
            everything, ["it was changed by code that is not followed"]
        )

    def line(self) -> int | None:
        """The line of the running cell whose statement runs; None when that is not known."""
        cells, found = self._cells, None
        frame = sys._current_frames().get(cells[0].thread) if len(cells) == 1 else None
        while frame is not None:
            if self._is_of_cell(frame):
                found = frame.f_lineno
            frame = frame.f_back
        return found

    def _flow_now(self, cell: RunningCell, registry: "FrameOrigins") -> Flow:
        """What the running cell has passed on up to the statement that runs."""
        line, reads = self.line(), registry.reads()
        state = line, len(reads), self._take_snapshot().ids  # a loop comes to one line again
        if cell.flow is None or cell.state != state:
            is_whole = line is not None  # else nobody knows what has run yet
            cell.flow = self._flow_of(cell, reads, is_whole=is_whole, line=line)
            cell.state = state
        return cell.flow

    def _merged_of(self, cell: RunningCell, sources: set[str]) -> "FrameOrigin":
        """What the values of names before the cell were made from, and what the cell read."""
        key = frozenset(sources)
        if key not in cell.origins:
            parts = [
                cell.parts[name] if name in cell.parts else self._records[name].origin
                for name in sorted(sources)
            ]
            cell.origins[key] = (
                self._merged_origin(parts, cells=[cell.label], derived=True)
                if any(part.inputs or part.grounds for part in parts)
                else self._engine.FrameOrigin(derived=True)
            )
        return cell.origins[key]

    def _touched(self, names: NamesOfCell, replaced: set[str]) -> set[str]:
        """The names that the cell assigned, or may have changed in place, given those that hold
        another object now."""
        return {
            name
            for name in names.stored | names.changed | replaced
            if (name in self._values or name in self._records or name in names.states)
            and not is_output(name)
        }

    def _note_opaque(self, cell: RunningCell, names: NamesOfCell, threads: set[int]) -> None:
        grounds = [_opaque_ground(cell, names)] if names.opaque else []
        if threads - {cell.thread}:
            grounds.append(f"cell {cell.label} reads rows in a thread, which is not followed")
        if not grounds:
            return
        text = self._texts[cell.label]
        for ground in [g for g, at in self._grounds.items() if self._texts[at] == text]:
            del self._grounds[ground]  # of an earlier run of this cell
        self._grounds |= dict.fromkeys(grounds, cell.label)

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


def _discard(
    frames: dict[int, tuple[weakref.ref[Any], str | None]], key: int, reference: weakref.ref[Any]
) -> None:
    if key in frames and frames[key][0] is reference:
        del frames[key]


def _opaque_ground(cell: RunningCell, names: NamesOfCell) -> str:
    return f"cell {cell.label} uses {names.opaque}, which is not followed"


def _elements(value: object, depth: int = 2) -> Iterator[object]:
    """The elements of plain containers, also nested ones."""
    if isinstance(value, dict):
        items: Iterable[object] = list(value.values())
    elif isinstance(value, list | tuple | set):
        items = list(value)
    else:
        items = list(vars(value).values()) if hasattr(value, "__dict__") and depth == 2 else ()
    for item in itertools.islice(items, MAX_ELEMENTS):
        if type(item) in PLAIN_TYPES:  # thousands of numbers are no frames
            continue
        yield item
        if depth > 1:
            yield from _elements(item, depth - 1)
