"""State that calls in a cell keep outside the notebook's names: in files, and in modules such as
`random` and `logging`. Each counts as a name of its own, which no variable can have."""

import ast
import functools
import pathlib
from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from typing import Any

from jammi_kernel_ext.cell_syntax import arguments
from jammi_kernel_ext.cell_values import function_module, is_module, module_value
from jammi_kernel_ext.cell_words import (
    FILE_HANDLES,
    FILE_READERS,
    FILE_WRITERS,
    READER_BEGINNINGS,
    STATE_MODULES,
    WRITERS,
)

FILE = "file "
"""The beginning of the name of a file. `ANY_FILE` stands for one whose name is computed."""
ANY_FILE = FILE + "*"
_STATE = "state "
_NO_FILES: tuple[frozenset[str], frozenset[str], bool] = (frozenset(), frozenset(), False)


def is_state(name: str) -> bool:
    """Whether a name stands for a file or for the state of a module."""
    return name.startswith((FILE, _STATE))


def module_state(call: ast.Call, start: set[str], values: Mapping[str, Any]) -> frozenset[str]:
    """The state of modules that a call reads, and changes when it has arguments. `start`: the names
    at the start of the call."""
    found = frozenset[str]()
    for name in start:
        value = values.get(name)
        if value is None:
            continue
        if is_module(value):
            modules = [function_module(value), *_owners(call.func, values)]
        else:
            modules = [function_module(value), type(value).__module__]
        for module in modules:
            if states := states_of(module):
                found |= states
    return found


def _owners(node: ast.AST, values: Mapping[str, Any]) -> Iterator[str]:
    """The modules that a chain of attributes names."""
    while isinstance(node, ast.Attribute | ast.Call):
        node = node.func if isinstance(node, ast.Call) else node.value
        if is_module(module := module_value(node, values)):
            yield function_module(module)


@functools.lru_cache(maxsize=4096)
def states_of(module: str) -> frozenset[str]:
    """The states that a module keeps, or a package that it is in."""
    return frozenset(
        _STATE + each for each in STATE_MODULES if (module + ".").startswith(each + ".")
    )


def file_states(
    call: ast.Call, method: str, values: Mapping[str, Any]
) -> tuple[AbstractSet[str], AbstractSet[str], bool]:
    """The files that a call reads and those that it writes, and whether its result is a handle by
    which later cells read and write them."""
    is_handle, reads, writes = _use_of_files(method)
    if not (reads or writes):
        return _NO_FILES
    if method == "open" and _is_read_mode(call):
        writes = is_handle = False
    if method.startswith("to_") and not (call.args or call.keywords):
        return _NO_FILES
    names = {FILE + name for name in _file_names(call, values)}
    if method.startswith("to_") and not names:
        return _NO_FILES  # `to_numpy()` and its like write nothing
    names = names or {ANY_FILE}
    return names if reads else frozenset(), names if writes else frozenset(), is_handle


def uses_files(method: str) -> bool:
    """Whether functions of this name may read, write or open files."""
    return any(_use_of_files(method))


@functools.lru_cache(maxsize=4096)
def _use_of_files(method: str) -> tuple[bool, bool, bool]:
    """Whether a function of this name makes a handle of a file, reads files, and writes them."""
    is_handle = method in FILE_HANDLES
    reads = is_handle or method in FILE_READERS or method.startswith(READER_BEGINNINGS)
    return is_handle, reads, is_handle or method in FILE_WRITERS or method.startswith(WRITERS)


def _is_read_mode(call: ast.Call) -> bool:
    modes = [*call.args[1:2], *(k.value for k in call.keywords if k.arg == "mode")]
    if isinstance(call.func, ast.Attribute) and not modes:
        modes = call.args[:1]  # `path.open("w")`
        if modes and not (isinstance(modes[0], ast.Constant) and len(str(modes[0].value)) < 4):
            modes = []
    return all(
        isinstance(mode, ast.Constant) and not set("wax+") & set(str(mode.value)) for mode in modes
    )


def _file_names(call: ast.Call, values: Mapping[str, Any]) -> Iterator[str]:
    """The last parts of the paths that a call names, in texts and in variables."""
    receivers = [call.func.value] if isinstance(call.func, ast.Attribute) else []
    for expression in (*receivers, *arguments(call)):
        for node in ast.walk(expression):
            text = node.value if isinstance(node, ast.Constant) else None
            if isinstance(node, ast.Name):
                text = values.get(node.id)
            if isinstance(node, ast.JoinedStr) or (isinstance(text, str) and "*" in text):
                yield "*"
            elif isinstance(text, pathlib.PurePath):
                yield text.name
            elif isinstance(text, str) and len(text) < 500:
                yield pathlib.PurePath(text).name or text
