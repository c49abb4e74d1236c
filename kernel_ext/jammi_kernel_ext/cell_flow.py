"""What a cell passes on between the notebook's names: statement by statement from the names that
it loads to those that it stores, and at its end to all that reach an object that changed."""

import functools
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from jammi_kernel_ext.cell_code import CellStep, words_of
from jammi_kernel_ext.cell_state import states_of
from jammi_kernel_ext.cell_words import OPAQUE_NAMES, VALUE_LIBRARIES
from jammi_kernel_ext.object_walk import (
    PLAIN,
    NamesOfStep,
    Walk,
    is_frame,
    is_of_library,
    module_of,
)

LIBRARY = "library *"
"""The name under which is remembered what cells put into modules and classes of libraries."""
FILES = "files *"
"""The source of what files hold."""
OUTPUT = "_"
"""The name under which all outputs are remembered: `_`, `__`, `_12`, `Out`."""


@dataclass
class Flow:
    """What the statements of a cell pass on. Sources are names, for what they held before the
    cell, and reads of the cell."""

    sources: dict[str, set[str]] = field(default_factory=dict)
    """Of the names that it stores."""
    late: dict[str, frozenset[str]] = field(default_factory=dict)
    """The names that functions read which the names may hold."""
    last: set[str] = field(default_factory=set)
    """What the last statement reads."""
    everything: set[str] = field(default_factory=set)
    """What all read."""
    impure: set[str] = field(default_factory=set)
    """What those read that may have changed an object."""
    marks: list[tuple[set[Any], set[str]]] = field(default_factory=list)
    """Objects that were changed in place, by key, and from what."""
    changed: dict[str, set[str]] = field(default_factory=dict)
    """The names that reach them, each with the sources of the change."""
    marked: set[Any] = field(default_factory=set)
    """All objects that were changed, by key."""
    opaque: str = ""
    """What could not be followed."""

    def sources_of(self, name: str) -> set[str]:
        """What a name that it stored or changed rests on."""
        return self.sources.get(name, set()) | self.changed.get(name, set())


class CellFlow:
    """Finds the flow of one cell, up to the statement that runs."""

    def __init__(
        self,
        values: Mapping[str, Any],
        records: Mapping[str, Any],
        before: Mapping[str, Walk],
        ids: Mapping[str, int],
        steps: Iterable[CellStep] = (),
    ) -> None:
        self._values, self._records = values, records
        self._before, self._ids = before, ids
        self._after: dict[str, Walk] = {}
        self.stores = Counter(
            name
            for step in steps
            for name in step.uses.stored
            for _ in range(1 if name in step.replaced else 2)
        )
        """How often the cell stores each name; one in a loop counts as several times."""
        self.flow = Flow()

    def walk(self, name: str) -> Walk:
        """What a name reaches now."""
        if name not in self._after:
            self._after[name] = Walk(self._values, self._values.get(name))
        return self._after[name]

    def names_of(self, loaded: Iterable[str]) -> NamesOfStep:
        """The names that code may read which loads some."""
        found = NamesOfStep()
        pending = [*loaded, LIBRARY]
        while pending:
            name = pending.pop()
            if name in found.names:
                continue
            found.names.add(name)
            if is_output(name):
                found.names.add(OUTPUT)
            record = None if name in self.flow.sources else self._records.get(name)
            late = self.flow.late.get(name) or (record.late if record else frozenset())
            found.late |= late
            pending += late
            if is_frame(self._values.get(name)) and name not in self._before:
                continue
            for walk in found.walks.setdefault(name, self._walks(name)):
                if walk.uses:
                    found.late.add(name)
                for use in walk.uses:
                    found.uses.add(use)
                    found.late |= use.loaded
                    pending += use.loaded
        return found

    def _walks(self, name: str) -> list[Walk]:
        """What a name reached before the cell, and what it reaches now."""
        walks = [self._before[name]] if name in self._before else []
        value = self._values.get(name)
        if type(value) not in PLAIN:
            walks.append(self.walk(name))
        return walks

    def run(self, step: CellStep, read: set[str], *, is_strong: bool) -> None:
        """Pass on what a statement reads. `read`: its own reads of rows."""
        flow = self.flow
        dropped = [n for n in step.uses.stored & self._before.keys() if self._before[n].calls_code]
        texts = [self._values.get(name) for name in step.texts]
        words = set[str]().union(*(words_of(text) for text in texts if isinstance(text, str)))
        found = self.names_of([*step.loaded, *dropped, *words])
        found.uses.add(step.uses)
        found.late |= step.uses.late
        found.stored = set().union(*(use.stored for use in found.uses))
        opaque = step.opaque or next(iter(sorted(OPAQUE_NAMES & found.names)), "")
        for walks in found.walks.values():
            opaque = opaque or next((f"{w.foreign}" for w in walks if w.foreign), "")
        flow.opaque = flow.opaque or opaque
        states = states_of(found, self._values)
        names = found.names | states.names
        if opaque:
            names |= self._records.keys() | flow.sources.keys()
        sources = read | self.sources_of(names)
        if states.reads_files:
            sources.add(FILES)
        flow.last = sources
        flow.everything |= sources
        for name in found.stored:
            is_replaced = is_strong and name in step.replaced
            self._store(name, sources, found.late, is_replaced=is_replaced)
        for name in states.written:
            self._store(name, sources, found.late, is_replaced=False)
        roots = [*(name for name, _ in step.targets), *step.setters]
        if any(is_of_library(self._values.get(name)) for name in roots):
            self._store(LIBRARY, sources, found.late, is_replaced=False)
        self._mark(step, found, sources)

    def sources_of(self, names: Iterable[str]) -> set[str]:
        """What names hold now was made from."""
        found = set[str]()
        for name in names:
            if name in self.flow.sources:
                found |= self.flow.sources[name]
            elif name in self._records:
                found.add(name)
        return found

    def _store(self, name: str, sources: set[str], late: set[str], *, is_replaced: bool) -> None:
        is_other = self._ids.get(name) != id(self._values.get(name))
        if is_replaced or (is_other and name in self._values and name not in self.flow.sources):
            former = set[str]()
        else:
            former = self.sources_of((name,))
        self.flow.sources[name] = former | sources
        if is_replaced:
            self.flow.late.pop(name, None)
        if late:
            self.flow.late[name] = self.flow.late.get(name, frozenset()) | late

    def _mark(self, step: CellStep, found: NamesOfStep, sources: set[str]) -> None:
        """Mark the objects that a statement may have changed in place."""
        flow = self.flow
        targets = list(step.targets)
        if not targets or any(is_of_library(self._values.get(name)) for name, _ in targets):
            targets += [(name, True) for name in step.given]
        for name, is_deep in targets:
            if name in flow.sources and not self._is_alone(name):
                self._tangle(sources)
            elif name in flow.sources:
                flow.sources[name] |= sources
            for walk in self._walks(name):
                flow.marks.append((set(walk.signatures) if is_deep else walk.top, sources))
        if self._is_pure(found):
            return
        self._tangle(sources)
        changes_elements = any(use.changes_elements for use in found.uses)
        for name in found.names:
            for walk in self._walks(name) if changes_elements else found.walks.get(name, ()):
                keys = set(walk.signatures) if changes_elements else walk.hidden
                flow.marks.append((keys, sources))

    def _tangle(self, sources: set[str]) -> None:
        """Note that any object may have changed. Those of this cell nobody saw before."""
        self.flow.impure |= sources
        for name in self.flow.sources:
            if not is_of_library(self._values.get(name)):
                self.flow.sources[name] |= sources

    def _is_alone(self, name: str) -> bool:
        """Whether a name that the cell stores holds a frame of no other name."""
        value = self._values.get(name)
        holders = [n for n, v in dict(self._values).items() if v is value and not is_output(n)]
        return is_frame(value) and self.stores[name] == 1 and len(holders) == 1

    def _is_pure(self, found: NamesOfStep) -> bool:
        """Whether a statement makes new objects only, of data and functions that do."""
        if any(use.changes_objects for use in found.uses):
            return False
        for name, walks in found.walks.items():
            value = self._values.get(name)
            if is_of_library(value):
                if module_of(value).partition(".")[0] not in VALUE_LIBRARIES:
                    return False
            elif name in self.flow.sources and all(walk.is_flat for walk in walks):
                continue
            elif not all(walk.is_fixed for walk in walks):
                return False
        return True

    def find_changed(self) -> None:
        """Find the names that reach what was changed."""
        flow = self.flow
        if not (flow.impure or flow.marks):
            return  # all made new objects only
        marks = [(keys, sources) for keys, sources in flow.marks if keys]
        if moved := self._moved_objects():
            marks.append((moved, flow.impure or flow.everything))
        flow.marked = marked = set[Any]().union(*(keys for keys, _ in marks))
        is_memory_changed = any(type(key) is tuple for key in marked)
        for name, value in dict(self._values).items():
            if not marked or type(value) in PLAIN or (name[:1] == "_" and is_output(name)):
                continue
            walk = self._after.get(name)
            if walk is None:
                walk = Walk(self._values, value, with_content=is_memory_changed)
            if marked.isdisjoint(walk.signatures):
                continue
            for keys, sources in marks:
                if not keys.isdisjoint(walk.signatures):
                    flow.changed.setdefault(name, set()).update(sources)

    def _moved_objects(self) -> set[Any]:
        """The objects that are not as they were, or that the names which reached them do not reach
        any more."""
        before, after = dict[Any, Any](), dict[Any, Any]()
        for name, walk in self._before.items():
            before |= walk.signatures
            after |= self.walk(name).signatures
        return {key for key, signature in before.items() if after.get(key, _GONE) != signature}


_GONE = object()


@functools.lru_cache(maxsize=4096)
def is_output(name: object) -> bool:
    """Whether IPython or Python itself sets the name: `_`, `__`, `_12`, `_i`, `Out`, `In`."""
    return (
        not isinstance(name, str)  # globals()[3], which no code names
        or name in ("In", "Out", "_oh", "_ih", "_dh")
        or (name.startswith("_") and name.lstrip("_").lstrip("i").isdigit())
        or not name.strip("_")
        or name in ("_i", "_ii", "_iii", "__builtins__")
    )
