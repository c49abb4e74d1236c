"""State that code keeps outside the notebook's names: in files, and in modules such as `random` and
`logging`. All of it counts as one name, which no variable can have."""

import re
import types
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from jammi_kernel_ext.cell_code import CodeUse
from jammi_kernel_ext.cell_words import (
    FILE_HANDLES,
    FILE_READERS,
    FILE_WRITERS,
    READER_BEGINNINGS,
    STATE_MODULES,
    WRITERS,
)
from jammi_kernel_ext.object_walk import PLAIN, module_of

STATE = "state *"
"""The name under which is remembered what cells put into files and into the state of modules."""
FILES = "files *"
"""The source of what files hold."""
_SQL_MODULES = ("duckdb.", "sqlite3.", "sqlalchemy.")
_SQL_WRITES = re.compile(
    r"\b(create|insert|update|delete|attach|alter|copy|merge|set)\b", re.IGNORECASE
)
_SQL_WRITERS = frozenset("register create append create_function create_view insert_into".split())


def state_uses(
    names: Iterable[str], uses: Iterable[CodeUse], values: Mapping[str, Any]
) -> tuple[set[str], bool]:
    """What code reads of such state, as names of sources, and whether it may change any."""
    words = set[str]().union(*(use.words for use in uses))
    if "os" not in words:
        words.discard("rename")  # of columns
    reads = set[str]()
    if words & (FILE_READERS | FILE_HANDLES) or any(w.startswith(READER_BEGINNINGS) for w in words):
        reads |= {STATE, FILES}
    writes = bool(words & FILE_WRITERS) or any(w.startswith(WRITERS) for w in words)
    texts = set[str]().union(*(use.texts for use in uses))
    changes_tables = bool(words & _SQL_WRITERS) or any(map(_SQL_WRITES.search, texts))
    for module in _modules(names, words, values):
        if module.startswith(STATE_MODULES):
            reads.add(STATE)
            writes = writes or changes_tables or not module.startswith(_SQL_MODULES)
    return reads, writes


def _modules(names: Iterable[str], words: set[str], values: Mapping[str, Any]) -> Iterator[str]:
    """The modules of values, and of the modules in them that code names."""
    for name in names:
        value = values.get(name)
        if type(value) in PLAIN:
            continue
        yield f"{module_of(value)}."
        if isinstance(value, types.ModuleType):
            members = vars(value)
            for word in words:
                if type(inner := members.get(word)) is types.ModuleType:
                    yield f"{inner.__name__}."
