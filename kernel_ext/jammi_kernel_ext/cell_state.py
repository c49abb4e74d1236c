"""State that code keeps outside the notebook's names: in files, and in modules such as `random` and
`logging`. Each counts as a name of its own, which no variable can have."""

import functools
import pathlib
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

_FILE = "file "
_ANY_FILE = _FILE + "*"
"""A file whose name is computed."""
_STATE = "state "
_SQL_MODULES = frozenset(("duckdb", "sqlite3", "sqlalchemy"))
_SQL_WRITES = re.compile(
    r"\b(create|insert|update|delete|attach|alter|copy|merge|set)\b", re.IGNORECASE
)
_SQL_WRITERS = frozenset("register create append create_function create_view insert_into".split())


def is_state(name: str) -> bool:
    """Whether a name stands for a file or for the state of a module."""
    return name.startswith((_FILE, _STATE))


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
            states.written |= kept | {_ANY_FILE}
    kinds = set[str]().union(*(_uses_of_files(use.words) for use in found.uses))
    if kinds or words & FRAME_WRITERS:
        files = set(_file_names(found.names, texts, values))
        if files and words & FRAME_WRITERS:
            kinds.add("writes")
        if not files or any(use.builds_text for use in found.uses) or "*" in files:
            files = {"*"}
        names = {_FILE + file for file in files}
        states.names |= names | {_ANY_FILE}
        states.reads_files = "reads" in kinds
        if "writes" in kinds:
            states.written |= names
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
    if words & (FILE_WRITERS | FILE_HANDLES) or any(w.startswith(WRITERS) for w in words):
        kinds.add("writes")
    return frozenset(kinds)


def _file_names(
    names: Iterable[str], texts: Iterable[str], values: Mapping[str, Any]
) -> Iterator[str]:
    """The last parts of the paths in texts and variables."""
    paths = [each for each in map(values.get, names) if isinstance(each, str | pathlib.PurePath)]
    known = [str(path) for path in (*texts, *paths) if 0 < len(str(path)) < 500]
    for text in [each for each in known if "." in each or "/" in each] or known:
        yield "*" if "*" in text else pathlib.PurePath(text).name
