"""What the cells of a notebook pass on between its names: by the statements of the running cell,
what the functions use that they call, and which names share objects."""

import functools
import math
import types
import weakref
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from jammi_kernel_ext.cell_flow import CellStep, Flow, is_former, steps_of_cell, whole_cell
from jammi_kernel_ext.cell_names import sources_of, target_names
from jammi_kernel_ext.cell_state import ANY_FILE, FILE, is_state
from jammi_kernel_ext.cell_syntax import NamesOfCell, parse_cell
from jammi_kernel_ext.cell_values import (
    is_module,
    is_observer,
    is_of_user,
    is_plain_type,
    shares_nothing,
)

if TYPE_CHECKING:
    import ast

    from jammi_kernel_ext.engine_parts import EngineParts
    from jammi_lab.core.anchors import FrameOrigin
    from jammi_lab.sources.frame_origins import FrameRead

MAX_ELEMENTS = 1000
"""Elements of one container that are searched for frames after a cell."""
OUTPUT = "_"
"""The name under which all outputs are remembered: `_`, `__`, `_12`, `Out`."""
_PLAIN = (bool, int, float, complex, str, bytes, type(None))
PLAIN_TYPES = frozenset((*_PLAIN, type))
_KINDS: dict[type, str] = {
    **dict.fromkeys(_PLAIN, "plain"),
    **dict.fromkeys((dict, list, tuple, set, frozenset), "container"),
    types.ModuleType: "module",
}
"""What values of the most frequent classes are."""
_SHARED_KINDS = frozenset(("frame", "lazy frame", "container"))
_ABSENT: Any = object()


def engine_parts() -> "type[EngineParts]":
    """What following frames takes from the engine, which is loaded by then."""
    from jammi_kernel_ext.engine_parts import EngineParts

    return EngineParts


@dataclass(slots=True)
class NameRecord:
    """What is known of a name."""

    origin: "FrameOrigin"
    late: frozenset[str] = frozenset()
    """Names that its functions read when they are called."""
    late_changed: frozenset[str] = frozenset()
    """Those that its functions may change in place."""


@dataclass(eq=False)
class RunningCell:
    """The running cell."""

    label: str
    source: str
    thread: int
    ids: Mapping[str, int]
    """The objects of the names when it began, by id."""
    types: Mapping[str, type]
    """The types of these."""
    flow: Flow | None = None
    """What its statements pass on; while it runs, those up to the one that runs."""
    state: tuple[int | None, int, Mapping[str, int]] | None = None
    """The line, the number of reads and the objects of the names for which `flow` was found."""
    parts: dict[str, "FrameOrigin"] = field(default_factory=dict)
    """Origins that it brings itself, of the rows and files that it reads, by a name for each."""
    origins: dict[frozenset[str], "FrameOrigin"] = field(default_factory=dict)
    """The merged origins of the names and parts that values depend on."""
    changed_frames: dict[str, set[int] | None] = field(default_factory=dict)
    """Of names that it may have changed, the frames to which the change is limited, by id; None
    where it is not."""
    kept: dict[int, "FrameOrigin"] = field(default_factory=dict)
    """The origins of the frames that names held when it began, if it only names them, by id."""
    parsed: "ast.Module | None" = None
    """Its syntax tree, once it is known."""

    def find_replaced(self, ids: Mapping[str, int]) -> set[str]:
        """The names that hold other objects than when it began, given those that they hold now."""
        before = self.ids
        return {name for name, key in ids.items() if before.get(name) != key}

    @property
    def tree(self) -> "ast.Module | None":
        """Its syntax tree; None when it is not valid."""
        if self.parsed is None:
            self.parsed = parse_cell(self.source)
        return self.parsed


@dataclass
class NamespaceSnapshot:
    """The objects of the notebook's names at an instant, and none of the objects themselves."""

    ids: dict[str, int] = field(default_factory=dict)
    """The ids by name, without the names of the history, which no cell replaces."""
    types: dict[str, type] = field(default_factory=dict)
    """The types of these objects."""


class Kinds(dict[str, str]):
    """What the names hold: a frame, a module or class of a library, a plain value or a function
    that shares nothing, or anything else. Found once for each name, until it is cleared."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        super().__init__()
        self._values = values

    def __missing__(self, name: str) -> str:
        value = self._values.get(name, _ABSENT)
        if value is _ABSENT:
            kind = "state" if is_state(name) else "absent"
        else:
            kind = _KINDS.get(type(value)) or self._find_kind(value)
        self[name] = kind
        return kind

    @functools.cached_property
    def _is_frame(self) -> Callable[[object], bool]:
        return engine_parts().is_frame

    def _find_kind(self, value: Any) -> str:
        kind: Any = type(value)
        if kind is types.FunctionType:
            return "function" if _shares_no_objects(value) else "container"
        if is_own(value):
            return "plain"
        if is_module(value):
            return "module"
        if self._is_frame(value) and kind not in weakref.ProxyTypes:
            return "lazy frame" if kind.__name__ == "LazyFrame" else "frame"
        if isinstance(value, _PLAIN) or is_plain_type(kind):
            return "plain"
        if isinstance(value, type) and not is_of_user(value):
            return "module"  # a class of a library has its functions, too
        return "container"


def _shares_no_objects(function: types.FunctionType) -> bool:
    """Whether a function holds no values but plain ones, in closure, defaults or attributes."""
    if function.__closure__ or function.__dict__:
        return False
    defaults = (*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values())
    return all(isinstance(each, _PLAIN) for each in defaults)


class CellAnalysis:
    """What is known of the notebook's names, and what the running cell does to them."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = values
        self._records: dict[str, NameRecord] = {}
        self._links: dict[str, set[str]] = {}
        """Names that may share objects."""
        self._kinds = Kinds(values)
        self._globals: set[str] = set()
        """Names that a function declares as global: any code that calls it may assign them."""
        self._libraries: set[str] = set()
        """Modules and classes of libraries that cells have changed: every cell may read them."""
        self._snapshot = NamespaceSnapshot()
        """The objects of the names when they were last examined."""
        self._history: set[str] = set()
        """The names of former inputs and outputs, such as `_12` and `_i12`."""

    @functools.cached_property
    def _engine(self) -> "type[EngineParts]":
        return engine_parts()

    def _take_snapshot(self) -> NamespaceSnapshot:
        """The objects of the names now. Long notebooks have thousands of inputs and outputs."""
        values, history = dict(self._values), self._history
        ids = {name: id(value) for name, value in values.items() if name not in history}
        for name in [n for n in ids if n[:1] == "_" and is_history(n)]:
            history.add(name)
            del ids[name]
        if ids != self._snapshot.ids:
            self._snapshot = NamespaceSnapshot(ids, {name: type(values[name]) for name in ids})
        return self._snapshot

    def _flow_of(
        self,
        cell: RunningCell,
        reads: Sequence["FrameRead"],
        *,
        is_whole: bool = True,
        line: int | None = None,
    ) -> Flow:
        """What the statements of the cell pass on, up to a line."""
        self._kinds.clear()
        cell.parts = {_part_name(read, at): read.origin for at, read in enumerate(reads)}
        cell.origins.clear()
        cell.changed_frames = {}
        cell.flow = flow = Flow()
        steps = self._steps_of(cell, reads, is_whole=is_whole)
        last = dict[str, int]()
        for at, step in enumerate(steps):
            for name in step.names.stored:
                last[name] = at
        later = set(last)  # names that steps from this one on replace
        for at, step in enumerate(steps):
            if line is not None and step.line > line:
                break
            names = step.names
            other = later.intersection(names.loaded)
            for name in names.stored:
                if last[name] == at:
                    later.discard(name)
            if later:
                other |= later.intersection(names.stored) | later.intersection(names.changed)
            runs = step.line == line  # and has not assigned anything yet
            read = _reads_of_step(step, steps[at:], reads) if reads else set[str]()
            self._run_step(
                cell, flow, step._replace(assigned=frozenset()) if runs else step, read, other
            )
        self._globals |= flow.names.declared
        return flow

    def _steps_of(
        self, cell: RunningCell, reads: Sequence["FrameRead"], *, is_whole: bool
    ) -> list[CellStep]:
        """The statements of the cell; all as one where it is not known what ran of it, or when."""
        if cell.tree is None:
            names = NamesOfCell()
            names.note_opaque("code that cannot be parsed" if is_whole else "")
            return [CellStep(names, 0)]
        replaced = cell.find_replaced(self._snapshot.ids) | self._globals
        if is_whole and all(read.line is not None for read in reads):
            steps = steps_of_cell(cell.tree, self._values, cell.types, replaced)
            if not any(step.names.opaque or step.names.declared for step in steps):
                return steps
        return whole_cell(cell.tree, self._values, cell.types, replaced)

    def _run_step(
        self, cell: RunningCell, flow: Flow, step: CellStep, read: set[str], other: Collection[str]
    ) -> None:
        """Pass on what a statement reads, with what the functions read and change that it uses."""
        names = step.names
        for name in names.loaded:
            if name[0] in "_IO" and is_output(name):
                names.loaded.add(OUTPUT)
                break
        if self._libraries or flow.libraries:
            names.loaded.update(self._libraries, flow.libraries)
        if names.files:
            read |= self._files(cell, flow, names)
        late = self._add_late(flow, names)
        flow.names.aliases += names.aliases
        if names.changed:
            self._add_changed(cell, flow, names, other)
        self._share(flow, names, other)
        records, sources, replaced = self._records, flow.sources, flow.replaced
        for name in records if names.reads_any else names.loaded:
            if name in sources:
                read |= sources[name]
            if name in records and name not in replaced:
                read.add(name)
        if names.reads_any:
            read.update(cell.parts)
        flow.pass_on(step, read, late)

    def _files(self, cell: RunningCell, flow: Flow, names: NamesOfCell) -> set[str]:
        """Add the files that a statement may read. Returns the ground for it."""
        if ANY_FILE in names.files:
            known = self._records.keys() | flow.sources.keys()
            names.loaded.update(name for name in known if name.startswith(FILE))
        else:
            names.loaded.add(ANY_FILE)
        ground = f"cell {cell.label} reads files, which are not followed"
        cell.parts["files"] = self._engine.FrameOrigin(grounds=[ground])
        return {"files"}

    def _add_late(self, flow: Flow, names: NamesOfCell) -> frozenset[str]:
        """Add the names that the functions read and change which a statement uses. Returns what
        the functions read that it makes or uses."""
        records = self._records
        pending = [
            name
            for name in names.loaded
            if name in flow.late or ((record := records.get(name)) is not None and record.late)
        ]
        if not pending:
            return names.late
        late = set(names.late)
        while pending:
            name = pending.pop()
            record = None if name in flow.replaced else self._records.get(name)
            for each in (flow.late.get(name), record):
                if each is not None and each.late:
                    late |= each.late
                    pending += each.late - names.loaded
                    names.loaded |= each.late
                    names.changed |= each.late_changed
        return frozenset(late)

    def _add_changed(
        self, cell: RunningCell, flow: Flow, names: NamesOfCell, other: Collection[str]
    ) -> None:
        """Add the names that share objects with those that a statement may change."""
        while flow.names.aliases:
            target, value = flow.names.aliases.pop()
            same = target_names(target)
            for name in sources_of(value, self._values):
                if name in other or name in flow.names.stored or self._kinds[name] != "plain":
                    same.add(name)
            flow.share(same, same)
        # A name that is gone or holds a number by now may have shared an object before.
        changed = {
            name
            for name in names.changed
            if name in self._links
            or name in flow.shared
            or name in names.filled
            or name in other
            or self._kinds[name] not in ("plain", "function", "absent")
        }
        reached = self._with_aliases(cell, flow, changed, names.filled)
        for name, frames in reached.items():
            known = cell.changed_frames.get(name, set())
            both = None if known is None or frames is None else known | frames
            cell.changed_frames[name] = both
            if self._kinds[name] == "module":
                flow.libraries.add(name)
        names.changed = set(reached)

    # -- names that may hold the same objects

    def _share(self, flow: Flow, names: NamesOfCell, other: Collection[str]) -> None:
        """Note which names may share objects by a statement: a container that it touches with what
        may have been put into it, and two names of one object. `other`: names that
        held other objects when it ran than they do now."""
        touched = names.stored | names.changed
        if not touched:
            return
        kinds, used = self._kinds, touched | names.loaded
        if not (other or names.handles):
            used = {name for name in used if kinds[name] in _SHARED_KINDS}
            frames_only = {id(self._values[name]) for name in used if kinds[name] == "frame"}
            if len(used) < 2 or len(frames_only) == len(used):
                return
        others, frames = set(names.handles), dict[int, set[str]]()
        is_named_twice = False
        for name in used:
            kind = "container" if name in other else kinds[name]
            if kind == "frame":
                if (same := frames.get(key := id(self._values[name]))) is None:
                    frames[key] = {name}
                else:
                    same.add(name)
                    is_named_twice = True
            elif kind in ("container", "lazy frame"):
                others.add(name)
        if not (others or is_named_twice):
            return
        for same in frames.values():
            flow.share(same & touched, others | same)
        flow.share(others & touched, others.union(*frames.values()))

    def _unlink(self, cell: RunningCell, flow: Flow) -> None:
        """Forget what a name shared whose object the cell replaced, without reading it before. What
        shared with the former object goes on to share with each other."""
        read = flow.names.loaded - flow.rebound
        for name in set() if flow.names.reads_any else flow.names.stored - read:
            if name in self._links and cell.ids.get(name) != id(self._values.get(name)):
                others = self._links.pop(name)
                for other in others:
                    self._links[other] = (self._links[other] | others) - {name, other}

    def _with_aliases(
        self, cell: RunningCell, flow: Flow, changed: set[str], written: frozenset[str]
    ) -> dict[str, set[int] | None]:
        """The names with all that may share objects with them, each with the frames to which the
        change is limited. The change of a frame reaches the names and the boxes that hold it, and
        no other frames in these boxes. A model or chart that is changed by a method, and not by
        what is `written` into it, leaves the frames as they are that it was given."""
        reached = dict[str, set[int] | None]()
        observers = {
            name
            for name in changed - written
            if is_observer(value := self._values.get(name)) and cell.ids.get(name) == id(value)
        }
        pending = [(name, self._frame_of(cell, name)) for name in changed]
        seen = {(name, id(frame)) for name, frame in pending}
        while pending:
            name, frame = pending.pop()
            if is_former(name):
                frame = None
            elif frame is not None:
                holds = self._holds(cell, name, frame)
                if holds is None:  # it may share more than the frame
                    frame = None
                elif holds and (known := reached.setdefault(name, set())) is not None:
                    known.add(id(frame))
            if frame is None and not is_former(name):
                reached[name] = None
            kept = name in observers and frame is None
            for other in flow.sharing(name, self._links):
                if kept and self._frame_of(cell, other) is not None:
                    continue
                if (other, id(frame)) not in seen:
                    seen.add((other, id(frame)))
                    pending.append((other, frame))
        return reached

    def _frame_of(self, cell: RunningCell, name: str) -> object:
        """The frame that a name holds, and held when the cell began, if its cells hold no objects;
        else None."""
        value = self._values.get(name)
        unmoved = cell.ids.get(name) == id(value) and self._kinds[name] == "frame"
        return value if unmoved and shares_nothing(value) else None

    def _holds(self, cell: RunningCell, name: str, frame: object) -> bool | None:
        """Whether a name is or holds a frame; None when that is not known, or when it may hold what
        the frame shares."""
        value: Any = self._values.get(name)
        if cell.ids.get(name) != id(value):
            return None
        if self._kinds[name] == "frame":
            return value is frame
        if type(value) not in (list, tuple, dict):
            return None
        elements = list(value.values()) if isinstance(value, dict) else list(value)
        if len(elements) > MAX_ELEMENTS or not all(
            type(each) in PLAIN_TYPES or shares_nothing(each) for each in elements
        ):
            return None
        return any(each is frame for each in elements)


def _reads_of_step(
    step: CellStep, steps: Sequence[CellStep], reads: Sequence["FrameRead"]
) -> set[str]:
    """The reads that a step made, given the steps from it on."""
    after = next((each.line for each in steps if each.line > step.line), math.inf)
    return {
        _part_name(read, at)
        for at, read in enumerate(reads)
        if read.line is None or step.line <= read.line < after or not step.line
    }


def _part_name(read: "FrameRead", at: int) -> str:
    return f"{read.line} {at}"


def is_own(value: object) -> bool:
    """Whether a value is an object of jammi_lab, whose rows are recorded when they leave it."""
    return type(value).__module__.partition(".")[0] in ("jammi_lab", "jammi_widgets")


def is_history(name: str) -> bool:
    """Whether IPython keeps a former input or output under the name, which it sets once."""
    return name.removeprefix("_").removeprefix("i").isdigit()


@functools.lru_cache(maxsize=4096)
def is_output(name: str) -> bool:
    """Whether IPython or Python itself sets the name: `_`, `__`, `_12`, `_i`, `Out`, `In`."""
    return (
        name in ("In", "Out", "_oh", "_ih", "_dh")
        or (name.startswith("_") and name.lstrip("_").lstrip("i").isdigit())
        or not name.strip("_")
        or name in ("_i", "_ii", "_iii", "__builtins__")
    )
