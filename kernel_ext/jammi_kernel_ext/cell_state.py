"""State that code keeps outside the notebook's names: in files, and in modules such as `random` and
`logging`. All files count as one name, which no variable can have, and each module as one."""

import functools
import re
import types
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from jammi_kernel_ext.cell_words import (
    FILE_HANDLES,
    FILE_READERS,
    FILE_WRITERS,
    FRAME_WRITERS,
    READER_BEGINNINGS,
    STATE_MODULES,
    WRITERS,
)
from jammi_kernel_ext.object_walk import PLAIN, NamesOfStep, module_of

_FILES = "state of files"
_STATE = "state "
_SQL_MODULES = frozenset(("duckdb", "sqlite3", "sqlalchemy"))
_SQL_WRITES = re.compile(
    r"\b(create|insert|update|delete|attach|alter|copy|merge|set)\b", re.IGNORECASE
)
_SQL_WRITERS = frozenset("register create append create_function create_view insert_into".split())


def is_state(name: str) -> bool:
    """Whether a name stands for files or for the state of a module."""
    return name.startswith(_STATE)


@dataclass
class States:
    """The files and states of modules that a statement may read."""

    names: set[str] = field(default_factory=set)
    written: set[str] = field(default_factory=set)
    """Those that it may write."""
    reads_files: bool = False


def states_of(found: NamesOfStep, values: Mapping[str, Any]) -> States:
    """The states that a statement uses, with the functions that it may call."""
    states = States()
    words = set[str]().union(*(use.words for use in found.uses))
    texts = set[str]().union(*(use.texts for use in found.uses))
    for module in _modules(found.names, words, values):
        kept = _states_of_module(module)
        states.names |= kept
        if module.partition(".")[0] not in _SQL_MODULES:
            states.written |= kept
        elif words & _SQL_WRITERS or any(map(_SQL_WRITES.search, texts)):
            states.written |= kept | {_FILES}
    kinds = set[str]().union(*(_uses_of_files(use.words) for use in found.uses))
    if "reads" in kinds:
        states.names.add(_FILES)
        states.reads_files = True
    if "writes" in kinds:
        states.written.add(_FILES)
    return states


def _modules(names: Iterable[str], words: set[str], values: Mapping[str, Any]) -> Iterator[str]:
    for name in names:
        value = values.get(name)
        if type(value) in PLAIN:
            continue
        yield module_of(value)
        if isinstance(value, types.ModuleType):
            members = vars(value)
            for word in words:
                if type(inner := members.get(word)) is types.ModuleType:
                    yield inner.__name__


@functools.lru_cache(maxsize=4096)
def _states_of_module(module: str) -> frozenset[str]:
    """The states that a module keeps, or a package that it is in."""
    return frozenset(
        _STATE + each for each in STATE_MODULES if (module + ".").startswith(each + ".")
    )


@functools.lru_cache(maxsize=1024)
def _uses_of_files(words: frozenset[str]) -> frozenset[str]:
    """Whether functions of these names read or write files."""
    if "os" not in words:
        words -= {"rename"}  # of columns
    kinds = set[str]()
    if words & (FILE_READERS | FILE_HANDLES) or any(w.startswith(READER_BEGINNINGS) for w in words):
        kinds.add("reads")
    writers = FILE_WRITERS | FRAME_WRITERS | FILE_HANDLES
    if words & writers or any(w.startswith(WRITERS) for w in words):
        kinds.add("writes")
    return frozenset(kinds)
