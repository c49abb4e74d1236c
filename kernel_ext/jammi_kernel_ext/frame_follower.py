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
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from jammi_kernel_ext.cell_calls import harmless_code
from jammi_kernel_ext.cell_names import names_of_cell
from jammi_kernel_ext.cell_state import ANY_FILE, FILE, is_state
from jammi_kernel_ext.cell_syntax import NamesOfCell, only_names_objects, parse_cell
from jammi_kernel_ext.cell_values import (
    is_module,
    is_of_user,
    is_plain_type,
    shares_nothing,
)

if TYPE_CHECKING:
    from jammi_lab.core.anchors import FrameOrigin
    from jammi_lab.sources.frame_origins import FrameOrigins

MAX_ELEMENTS = 1000
"""Elements of one container that are searched for frames after a cell."""
MAX_GROUNDS = 3
"""Cells that could not be followed that a verdict names."""
_OUTPUT = "_"
"""The name under which all outputs are remembered: `_`, `__`, `_12`, `Out`."""
_PLAIN = (bool, int, float, complex, str, bytes, type(None))
_PLAIN_TYPES = frozenset((*_PLAIN, type))


@dataclass
class _Record:
    """What is known of a name."""

    origin: "FrameOrigin"
    late: frozenset[str] = frozenset()
    """Names that its functions read when they are called."""
    late_changed: frozenset[str] = frozenset()
    """Those that its functions may change in place."""


@dataclass
class _Cell:
    """The running cell."""

    label: str
    tree: ast.Module | None
    thread: int
    ids: dict[str, int] = field(default_factory=dict)
    """The objects of the names when it began, by id."""
    names: NamesOfCell | None = None
    changed_frames: dict[str, set[int] | None] = field(default_factory=dict)
    """Of names that it may have changed, the frames to which the change is limited, by id; None
    where it is not."""
    kept: dict[int, "FrameOrigin"] = field(default_factory=dict)
    """The origins of the frames that names held when it began, if it only names them, by id."""


class FrameFollower:
    """The origins of the notebook's names. `begin` and `end` are called around each cell."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = values
        self._records: dict[str, _Record] = {}
        self._links: dict[str, set[str]] = {}
        self._cells: list[_Cell] = []
        """The running cell, and the cells that it runs itself."""
        self._texts: dict[str, int] = {}
        """The hash of the text of each cell that ran, by its label."""
        self._last_ids: dict[str, int] = {}
        self._merged: dict[tuple[int, int], tuple[FrameOrigin, FrameOrigin, FrameOrigin]] = {}
        """The merged origins of the running cell, by the ids of the two, which are held, too."""
        self._as_read: dict[int, tuple[weakref.ref[Any], str | None]] = {}
        """Frames as they were read, by id, with a digest of their rows; None for those that have
        too many to be compared."""
        self._kinds: dict[str, str] | None = None
        """The kinds of the names at the end of a cell, which does not change them; None while they
        may change."""
        self._libraries: set[str] = set()
        """Modules and classes of libraries that cells have changed: every cell may read them."""
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
        registry = self._origins
        ids = self._ids()
        if registry is not None and self._last_ids and not self._cells:
            self._note_changes_outside_cells(registry, ids)
        label = f"[{number}]"
        self._texts[label] = hash(source)
        self._cells.append(_Cell(label, parse_cell(source), threading.get_ident(), ids))

    def end(self) -> None:
        """Pass origins on to the names that the cell assigned or changed."""
        registry = self._origins
        if not self._cells:
            return
        self._last_ids = self._ids()
        if registry is not None:
            self._kinds = {}
            try:
                self._follow(registry, self._cells[-1])
            finally:
                self._kinds = None
        self._cells.pop()
        self._merged.clear()

    def _ids(self) -> dict[str, int]:
        """The objects of all names, by id."""
        values = dict(self._values)
        return dict(zip(values, map(id, values.values()), strict=True))

    def _note_changes_outside_cells(self, registry: "FrameOrigins", ids: dict[str, int]) -> None:
        """Names that were set between two cells, by a callback of a widget or by a thread, may hold
        anything that is known."""
        from jammi_lab.sources.frame_origins import merged_origin

        reads = registry.take_reads()
        changed = [name for name, _ in ids.items() - self._last_ids.items()]
        if not changed:
            return
        everything = merged_origin(
            [*(read.origin for read in reads), *(r.origin for r in self._records.values())],
            ["set outside a cell"],
            derived=True,
        )
        for name in changed if everything.inputs else ():
            if not name.startswith("_") and self._kind(name) not in ("plain", "module"):
                self._records[name] = _Record(everything)
                self._record_frames(registry, self._values.get(name), everything)

    def _follow(self, registry: "FrameOrigins", cell: _Cell) -> None:
        cell.names = None  # names that the cell itself defined are known by now
        names = self._names(cell)
        reads = registry.take_reads()
        if self._is_changed_unseen(cell, names):
            names.note_opaque("code that it does not name")
        self._note_opaque(cell, names, {read.thread for read in reads})
        origin = self._origin_of_cell(cell, names, [read.origin for read in reads])
        touched = self._touched(cell, names, self._last_ids)
        if cell.tree is not None and only_names_objects(cell.tree):
            cell.kept = self._frames_before(registry, cell)
        self._unlink(cell, names)
        self._link(names, touched)
        late = frozenset(names.late.union(*self._late_names(names)))
        record = _Record(origin, late, late & names.changed)
        rows_only = _Record(origin)
        for name in names.harmless:
            if isinstance(function := self._values.get(name), types.FunctionType):
                harmless_code.add(function.__code__)
        for name in touched:
            holds_functions = self._kind(name) not in ("plain", "frame")
            self._remember(registry, cell, name, record if holds_functions else rows_only)
        if origin.inputs or origin.grounds:
            self._records[_OUTPUT] = self._merge_records(
                self._records.get(_OUTPUT), _Record(origin)
            )

    def _is_changed_unseen(self, cell: _Cell, names: NamesOfCell) -> bool:
        """Whether a name holds another frame that the cell neither assigns nor calls code for that
        may: a formatter or another hook did."""
        replaced = {name for name, _ in self._last_ids.items() - cell.ids.items()} - names.stored
        return any(
            self._kind(name) in ("frame", "lazy frame") and not _is_output(name)
            for name in replaced
        ) and not any(self._kind(name) in ("function", "container") for name in names.loaded)

    def _frames_before(self, registry: "FrameOrigins", cell: _Cell) -> "dict[int, FrameOrigin]":
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

    def _late_names(self, names: NamesOfCell) -> Iterator[frozenset[str]]:
        """What the functions of the names that a cell reads read when they are called: whatever
        the cell makes may call them."""
        for name in names.loaded:
            if name in self._records:
                yield self._records[name].late

    def _remember(
        self,
        registry: "FrameOrigins",
        cell: _Cell,
        name: str,
        record: _Record,
    ) -> None:
        """Record what a name holds after a cell that assigned it or may have changed it."""
        from msgspec.structs import replace

        value, names = self._values.get(name), self._names(cell)
        if is_state(name):
            self._records[name] = self._merge_records(self._records.get(name), record)
            return
        if name not in self._values or _is_own(value):
            self._records.pop(name, None)  # rows that leave one of our objects are recorded then
            return
        if self._kind(name) == "module" and name not in names.changed:
            return  # a module that a cell imports holds nothing of what the cell reads
        exact = registry.recorded(value)
        if exact is not None and not exact.derived and name not in names.changed:
            exact = exact if exact.cells else replace(exact, cells=[cell.label])
            registry.record(value, exact)
            self._records[name] = _Record(exact)
            return
        if (kept := cell.kept.get(id(value))) is not None:
            self._records[name] = _Record(
                self._merged_origin([kept], cells=[cell.label], derived=True)
            )
            return
        if name not in names.stored or cell.ids.get(name) == id(value):
            record = self._merge_records(self._records.get(name), record)
        elif exact is not None:
            record = self._merge_records(_Record(exact), record)
        if not (record.origin.inputs or record.origin.grounds or record.late):
            self._records.pop(name, None)
            return
        self._records[name] = record
        if self._kind(name) == "module":
            self._libraries.add(name)
        if record.origin.inputs or record.origin.grounds:
            only = None if name in names.stored else cell.changed_frames.get(name)
            self._record_frames(registry, value, record.origin, cell.kept, only)

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
        from jammi_lab.sources.frames import is_frame

        for frame in (value,) if is_frame(value) else _elements(value):
            if is_frame(frame) and id(frame) not in kept and (only is None or id(frame) in only):
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
        from msgspec.structs import replace

        from jammi_lab.sources.frame_origins import merged_origin

        merged = merged_origin(origins, grounds, cells, derived=derived)
        last = {self._texts.get(label, label): label for label in merged.cells}
        if len(last) == len(merged.cells):
            return merged
        return replace(merged, cells=list(last.values()))

    def _merge_records(self, before: _Record | None, record: _Record) -> _Record:
        if before is None:
            return record
        return _Record(
            self._merge(before.origin, record.origin),
            before.late | record.late,
            before.late_changed | record.late_changed,
        )

    # -- the running cell

    def origin(self, frame: object, recorded: "FrameOrigin | None") -> "FrameOrigin | None":
        """The origin of a frame, given the recorded one; None when nothing is known of it."""
        from jammi_lab.sources.frame_origins import is_mutable

        cell, registry = self._cells[-1] if self._cells else None, self._origins
        exact = recorded is not None and not recorded.derived
        if exact and not is_mutable(frame):
            return recorded
        holders = {name for name, value in list(self._values.items()) if value is frame}
        parts = [self._records[name].origin for name in holders if name in self._records]
        parts += [] if recorded is None else [recorded]
        derived, cells = not exact, list[str]()
        grounds = self._grounds_since(recorded.cells if recorded is not None and exact else [])
        if cell is not None and registry is not None:
            names = self._names(cell)
            grounds += [_opaque_ground(cell, names)] if names.opaque else []
            touched = names.changed if exact else self._touched(cell, names, self._ids())
            touched = touched & holders
            if touched or not holders:
                reads = [read.origin for read in registry.reads()]
                parts.append(self._origin_of_cell(cell, names, reads))
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
        from jammi_lab.sources.frame_origins import is_mutable
        from jammi_lab.sources.frames import is_frame, rows_digest

        if is_frame(frame) and is_mutable(frame):
            key = id(frame)
            discard = functools.partial(_discard, self._as_read, key)
            self._as_read[key] = (weakref.ref(frame, discard), rows_digest(frame))

    def _unseen_change(self, frame: object) -> "FrameOrigin | None":
        """What a frame that no cell changed may hold beside the rows that were read; None when it
        holds just these. Code that was not seen may have had it from any name."""
        from jammi_lab.core.anchors import FrameOrigin
        from jammi_lab.sources.frame_origins import merged_origin
        from jammi_lab.sources.frames import rows_digest

        reference, digest = self._as_read.get(id(frame), (None, None))
        if reference is None or reference() is not frame or digest is None:
            return FrameOrigin(grounds=["it is too large to be compared with what was read"])
        if rows_digest(frame) == digest:
            return None
        everything = (record.origin for record in self._records.values())
        return merged_origin(everything, ["it was changed by code that is not followed"])

    def _names(self, cell: _Cell) -> NamesOfCell:
        """The names that the cell uses, with those that the functions it uses read and change."""
        if cell.names is None:
            names = cell.names = (
                NamesOfCell() if cell.tree is None else names_of_cell(cell.tree, self._values)
            )
            if any(_is_output(name) for name in names.loaded):
                names.loaded.add(_OUTPUT)
            names.loaded |= self._libraries
            if ANY_FILE in names.files:
                names.loaded |= {name for name in self._records if name.startswith(FILE)}
            elif names.files:
                names.loaded.add(ANY_FILE)
            pending = list(names.loaded)
            while pending:
                record = self._records.get(pending.pop())
                if record is not None:
                    pending += record.late - names.loaded
                    names.loaded |= record.late
                    names.changed |= record.late_changed
            # A name that is gone or holds a number by now may have shared an object before.
            cell.changed_frames = self._with_aliases(
                cell,
                {
                    name
                    for name in names.changed
                    if name in self._links
                    or name in names.filled
                    or self._kind(name) not in ("plain", "function", "absent")
                },
            )
            names.changed = set(cell.changed_frames)
        return cell.names

    def _origin_of_cell(
        self, cell: _Cell, names: NamesOfCell, reads: Iterable["FrameOrigin"]
    ) -> "FrameOrigin":
        """What the names that the cell reads were made from, and what it read itself."""
        from jammi_lab.core.anchors import FrameOrigin

        used = self._records if names.reads_any else names.loaded
        parts = [*reads, *(self._records[n].origin for n in used if n in self._records)]
        if names.files:
            ground = f"cell {cell.label} reads files, which are not followed"
            parts.append(FrameOrigin(grounds=[ground]))
        if not any(part.inputs or part.grounds for part in parts):
            return FrameOrigin(derived=True)
        return self._merged_origin(parts, cells=[cell.label], derived=True)

    def _touched(self, cell: _Cell, names: NamesOfCell, ids: dict[str, int]) -> set[str]:
        """The names that the cell assigned, or may have changed in place, given the objects of all
        names now."""
        replaced = {name for name, _ in ids.items() - cell.ids.items()}
        known = ids.keys() | self._records.keys() | names.states
        touched = (names.stored | names.changed | replaced) & known
        return {name for name in touched if not _is_output(name)}

    def _note_opaque(self, cell: _Cell, names: NamesOfCell, threads: set[int]) -> None:
        grounds = [_opaque_ground(cell, names)] if names.opaque else []
        if threads - {cell.thread}:
            grounds.append(f"cell {cell.label} reads rows in a thread, which is not followed")
        text = self._texts[cell.label]
        for ground in [g for g, at in self._grounds.items() if grounds and self._texts[at] == text]:
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

    # -- names that may hold the same objects

    def _link(self, names: NamesOfCell, touched: set[str]) -> None:
        """Note which names may share objects with those that the cell assigned: a container with
        what was put into it, and two names of one object."""
        others, frames = set(names.handles), dict[int, set[str]]()
        for name in touched | names.loaded:
            match self._kind(name):
                case "frame":
                    frames.setdefault(id(self._values[name]), set()).add(name)
                case "lazy frame" | "container":
                    others.add(name)
        for same in frames.values():
            for name in same & touched:
                self._share(name, others | same)
        every = others.union(*frames.values())
        for name in others & touched:
            self._share(name, every)

    def _share(self, name: str, others: set[str]) -> None:
        self._links.setdefault(name, set()).update(others - {name})
        for other in others - {name}:
            self._links.setdefault(other, set()).add(name)

    def _unlink(self, cell: _Cell, names: NamesOfCell) -> None:
        """Forget what a name shared whose object the cell replaced, without reading it. What shared
        with the former object goes on to share with each other."""
        for name in set() if names.reads_any else names.stored - names.loaded:
            if name in self._links and cell.ids.get(name) != id(self._values.get(name)):
                others = self._links.pop(name)
                for other in others:
                    self._links[other] = (self._links[other] | others) - {name, other}

    def _with_aliases(self, cell: _Cell, changed: set[str]) -> dict[str, set[int] | None]:
        """The names with all that may share objects with them, each with the frames to which the
        change is limited. The change of a frame reaches the names and the boxes that hold it, and
        no other frames in these boxes."""
        reached = dict[str, set[int] | None]()
        pending = [(name, self._frame_of(cell, name)) for name in changed]
        seen = {(name, id(frame)) for name, frame in pending}
        while pending:
            name, frame = pending.pop()
            if frame is not None:
                holds = self._holds(cell, name, frame)
                if holds is None:  # it may share more than the frame
                    frame = None
                elif holds and (known := reached.setdefault(name, set())) is not None:
                    known.add(id(frame))
            if frame is None:
                reached[name] = None
            for other in self._links.get(name, ()):
                if (other, id(frame)) not in seen:
                    seen.add((other, id(frame)))
                    pending.append((other, frame))
        return reached

    def _frame_of(self, cell: _Cell, name: str) -> object:
        """The frame that a name holds, and held when the cell began, if its cells hold no objects;
        else None."""
        value = self._values.get(name)
        unmoved = cell.ids.get(name) == id(value) and self._kind(name) == "frame"
        return value if unmoved and shares_nothing(value) else None

    def _holds(self, cell: _Cell, name: str, frame: object) -> bool | None:
        """Whether a name is or holds a frame; None when that is not known, or when it may hold what
        the frame shares."""
        value: Any = self._values.get(name)
        if cell.ids.get(name) != id(value):
            return None
        if self._kind(name) == "frame":
            return value is frame
        if type(value) not in (list, tuple, dict):
            return None
        elements = list(value.values()) if isinstance(value, dict) else list(value)
        if len(elements) > MAX_ELEMENTS or not all(
            type(each) in _PLAIN_TYPES or shares_nothing(each) for each in elements
        ):
            return None
        return any(each is frame for each in elements)

    def _kind(self, name: str) -> str:
        kinds = self._kinds
        if kinds is None:
            return self._find_kind(name)
        if name not in kinds:
            kinds[name] = self._find_kind(name)
        return kinds[name]

    def _find_kind(self, name: str) -> str:
        """Whether a name holds a frame, a module or class of a library, a plain value or a
        function that shares nothing, or anything else."""
        from jammi_lab.sources.frames import is_frame

        if name not in self._values:
            return "state" if is_state(name) else "absent"
        value = self._values[name]
        if is_module(value):
            return "module"
        kind: Any = type(value)
        if isinstance(value, _PLAIN) or _is_own(value) or is_plain_type(kind):
            return "plain"
        if isinstance(value, type) and not is_of_user(value):
            return "module"  # a class of a library has its functions, too
        if isinstance(value, types.FunctionType) and not (
            value.__closure__ or value.__defaults__ or value.__kwdefaults__ or value.__dict__
        ):
            return "function"
        if is_frame(value) and type(value) not in weakref.ProxyTypes:
            return "lazy frame" if type(value).__name__ == "LazyFrame" else "frame"
        return "container"


def _discard(
    frames: dict[int, tuple[weakref.ref[Any], str | None]], key: int, reference: weakref.ref[Any]
) -> None:
    if key in frames and frames[key][0] is reference:
        del frames[key]


def _is_own(value: object) -> bool:
    """Whether a value is an object of jammi_lab, whose rows are recorded when they leave it."""
    return type(value).__module__.partition(".")[0] in ("jammi_lab", "jammi_widgets")


def _is_output(name: str) -> bool:
    """Whether IPython or Python itself sets the name: `_`, `__`, `_12`, `_i`, `Out`, `In`."""
    return (
        name in ("In", "Out", "_oh", "_ih", "_dh")
        or (name.startswith("_") and name.lstrip("_").lstrip("i").isdigit())
        or not name.strip("_")
        or name in ("_i", "_ii", "_iii", "__builtins__")
    )


def _opaque_ground(cell: _Cell, names: NamesOfCell) -> str:
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
        if type(item) in _PLAIN_TYPES:  # thousands of numbers are no frames
            continue
        yield item
        if depth > 1:
            yield from _elements(item, depth - 1)
