"""What a cell passes on between the notebook's names: statement by statement from the names that
it loads to those that it stores; what it changes in place takes all that statements read which may
change objects."""

import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from jammi_kernel_ext.cell_code import CellStep, CodeUse, words_of
from jammi_kernel_ext.cell_state import FILES, STATE, state_uses
from jammi_kernel_ext.cell_words import OPAQUE_NAMES, VALUE_LIBRARIES
from jammi_kernel_ext.object_walk import PLAIN, Walk, is_of_library, module_of

LIBRARY = "library *"
"""The name under which is remembered what cells put into modules and classes of libraries."""
OUTPUT = "_"
"""The name under which all outputs are remembered: `_`, `__`, `_12`, `Out`."""
_GONE = object()


@dataclass
class LateNames:
    """The names that functions of the notebook may read when they are called out of sight."""

    of_all: set[str] = field(default_factory=set)
    """Those that any function reads: an object whose state only it knows may hold it."""
    of_libraries: set[str] = field(default_factory=set)
    """Those of functions that cells put into modules and classes of libraries."""


class CellFlow:
    """Finds the flow of one cell, up to the statement that runs. Sources are names, for what they
    held before the cell, and reads of the cell."""

    def __init__(
        self,
        values: Mapping[str, Any],
        known: Iterable[str],
        late: "LateNames",
        before: Mapping[str, Walk],
        ids: Mapping[str, int],
    ) -> None:
        """`known`: the names that something is known of. `before`, `ids`: what the names reached
        when the cell began, and their objects."""
        self._values, self._known, self._late = values, set(known), late
        self._before, self._ids = before, ids
        self._after: dict[str, Walk] = {}
        self.sources: dict[str, set[str]] = {}
        """Of the names that it stores."""
        self.last = set[str]()
        """What the last statement reads."""
        self.everything = set[str]()
        """What all read."""
        self.carried = set[str]()
        """What those read that may have changed an object."""
        self.marked = set[Any]()
        """Objects that were changed in place, by key."""
        self.changed = set[str]()
        """The names that reach them."""
        self.opaque = ""
        """What could not be followed."""

    def sources_of(self, name: str) -> set[str]:
        """What a name that it stored or changed rests on."""
        return self.sources.get(name, set()) | (self.carried if name in self.changed else set())

    def walk(self, name: str) -> Walk:
        """What a name reaches now."""
        if name not in self._after:
            self._after[name] = Walk(self._values, self._values.get(name))
        return self._after[name]

    def reach(self, loaded: Iterable[str]) -> dict[str, list[Walk]]:
        """The names that code may read which loads some, also by the functions that it may call,
        and what they reach."""
        found = dict[str, list[Walk]]()
        pending = [*loaded, LIBRARY, *self._late.of_libraries]
        while pending:
            name = pending.pop()
            if name in found:
                continue
            if is_output(name):
                found[OUTPUT] = []
            walks = found[name] = self._walks(name)
            for walk in walks:
                for use in walk.uses:
                    pending += use.loaded
                if walk.hidden:
                    pending += self._late.of_all
        return found

    def _walks(self, name: str) -> list[Walk]:
        """What a name reached before the cell, and what it reaches now."""
        walks = [self._before[name]] if name in self._before else []
        if type(self._values.get(name)) not in PLAIN:
            walks.append(self.walk(name))
        return walks

    def run(self, step: CellStep, read: set[str], *, is_certain: bool) -> None:
        """Pass on what a statement reads. `read`: its own reads of rows. `is_certain`: whether it
        ran to its end."""
        dropped = [n for n in step.uses.stored & self._before.keys() if self._before[n].calls_code]
        texts = [self._values.get(name) for name in step.texts]
        words = set[str]().union(*(words_of(text) for text in texts if isinstance(text, str)))
        found = self.reach([*step.loaded, *dropped, *words])
        walks = [walk for each in found.values() for walk in each]
        uses = {step.uses}.union(*(walk.uses for walk in walks))
        opaque = step.opaque or next(iter(sorted(OPAQUE_NAMES & found.keys())), "")
        opaque = opaque or next((walk.foreign for walk in walks if walk.foreign), "")
        self.opaque = self.opaque or opaque
        state_sources, writes_state = state_uses(found, uses, self._values)
        names = found.keys() | state_sources
        if opaque:
            names |= self._known | self.sources.keys()
        sources = read | self.carried | self._sources_of_all(names) | state_sources & {FILES}
        self.last = sources
        self.everything |= sources
        for name in set[str]().union(*(use.stored for use in uses)):
            self._store(name, sources, is_replaced=is_certain and name in step.replaced)
        if writes_state:
            self._store(STATE, sources, is_replaced=False)
        if any(is_of_library(self._values.get(name)) for name in [*step.targets, *step.setters]):
            self._store(LIBRARY, sources, is_replaced=False)
            called = uses - {step.uses}
            self._late.of_libraries.update(step.uses.late, *(use.loaded for use in called))
        if step.targets or step.given or not self._is_pure(found, uses):
            self._mark(step, found, uses, sources)

    def _sources_of_all(self, names: Iterable[str]) -> set[str]:
        """What names hold now was made from."""
        sources = set[str]()
        for name in names:
            if name in self.sources:
                sources |= self.sources[name]
            elif name in self._known:
                sources.add(name)
        return sources

    def _store(self, name: str, sources: set[str], *, is_replaced: bool) -> None:
        is_other = self._ids.get(name) != id(self._values.get(name))
        if is_replaced or (is_other and name in self._values and name not in self.sources):
            former = set[str]()
        else:
            former = self._sources_of_all([name])
        self.sources[name] = former | sources

    def _is_pure(self, found: Mapping[str, list[Walk]], uses: Iterable[CodeUse]) -> bool:
        """Whether a statement makes new objects only, of data and functions that do."""
        if any(use.changes for use in uses):
            return False
        for name, walks in found.items():
            value = self._values.get(name)
            if is_of_library(value):
                if module_of(value).partition(".")[0] not in VALUE_LIBRARIES:
                    return False
            elif not all(walk.is_data for walk in walks):
                return False
        return True

    def _mark(
        self,
        step: CellStep,
        found: Mapping[str, list[Walk]],
        uses: Iterable[CodeUse],
        sources: set[str],
    ) -> None:
        """Mark the objects that a statement may have changed in place. Those that the cell made
        nobody saw before: each may be one."""
        self.carried |= sources
        for name in self.sources:
            self.sources[name] |= sources
        targets = dict(step.targets)
        if not targets or any(is_of_library(self._values.get(name)) for name in targets):
            targets |= dict.fromkeys(step.given, True)
        calls_changes = any(use.changes for use in uses)
        for name, walks in found.items():
            for walk in walks:
                self.marked |= walk.hidden
                if name in targets:
                    self.marked |= walk.signatures.keys() if targets[name] else walk.top
                if calls_changes:
                    self.marked |= walk.signatures.keys() - walk.functions

    def find_changed(self) -> None:
        """Find the names that reach what was changed."""
        moved = self._moved_objects()
        self.marked |= moved
        if moved and not self.carried:
            self.carried = self.everything
        for name, value in dict(self._values).items() if self.marked else ():
            if type(value) in PLAIN or is_output(name):
                continue
            if not self.marked.isdisjoint(self.walk(name).signatures):
                self.changed.add(name)

    def _moved_objects(self) -> set[Any]:
        """The objects that are not as they were, or that the names which reached them do not reach
        any more."""
        before, after = dict[Any, Any](), dict[Any, Any]()
        for name, walk in self._before.items():
            before |= walk.signatures
            after |= self.walk(name).signatures
        return {key for key, signature in before.items() if after.get(key, _GONE) != signature}


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
