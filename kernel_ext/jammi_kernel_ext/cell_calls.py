"""What calls in a cell do: to the objects whose methods they are, to their arguments, to the state
of libraries, and which variables a text in an argument names."""

import ast
import builtins
import inspect
import re
import types
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from jammi_kernel_ext.cell_state import file_states, module_state
from jammi_kernel_ext.cell_syntax import (
    NamesOfCell,
    arguments,
    inner_nodes,
    loaded_names,
    own_names,
    root_names,
)
from jammi_kernel_ext.cell_values import (
    PLAIN_CONTAINERS,
    holds_code,
    is_data,
    is_data_library,
    is_inert,
    is_installed,
    is_library_function,
    is_library_module,
    is_library_object,
    is_library_value,
    is_module,
    is_observer,
    is_of_user,
    keeps_arguments,
    module_value,
    ndarray_type,
    output_position,
    shares_nothing,
)
from jammi_kernel_ext.cell_words import (
    IN_PLACE,
    READING_METHODS,
    SETTERS,
    TEXT_METHODS,
    WRITERS,
    WRITES,
)

NamesOfNodes = Callable[[Sequence[ast.AST], Mapping[str, Any]], NamesOfCell]

_WORD = re.compile(r"[^\W\d]\w*")
_MAX_TEXT_CHARACTERS = 20_000
_LINKS = frozenset((ast.Attribute, ast.Subscript, ast.Call))


class LateValues(dict[str, Any]):
    """The values of the notebook's names for code that is called later, when they may be others."""


harmless_code: "weakref.WeakSet[types.CodeType]" = weakref.WeakSet()
"""The code of functions that do not change the frames that they are given."""


def add_call(
    names: NamesOfCell, call: ast.Call, values: Mapping[str, Any], names_of: NamesOfNodes
) -> None:
    """Add what a call may do: to the object whose method it is, and to its arguments. `names_of`
    gives the names that nodes use."""
    method, root, may_change = _effect_on_object(call, values)
    if call.args or call.keywords:
        may_change = may_change or _gives_away_arguments(call, method, values, names_of)
        _add_text(names, call, method, values)
    if may_change:
        names.changed |= root
        observes = method not in IN_PLACE and root and all(is_observer(values.get(n)) for n in root)
        for name in set[str]().union(*map(loaded_names, arguments(call))):
            if not (observes and shares_nothing(values.get(name))):
                names.changed.add(name)
        if method in IN_PLACE:
            names.filled |= root
    _add_states(names, call, method, values)


def _effect_on_object(call: ast.Call, values: Mapping[str, Any]) -> tuple[str, set[str], bool]:
    """The function or method that a call names, the names whose objects it may change, and whether
    it may change these and its arguments."""
    match call.func:
        case ast.Name(id=name):
            known_as = getattr(values.get(name), "__name__", name)
            if name not in values and hasattr(builtins, name):
                return name, {name}, False
            may_change = known_as in IN_PLACE or not (
                (is_library_function(name, values) and keeps_arguments(values.get(name)))
                or _keeps_frames(values.get(name), arguments(call), values)
            )
            return name, {name}, may_change
        case ast.Attribute(attr=method):
            start = root_names(call.func)
            if _changes_module(call, method, values):
                return method, start, True
            root = {name for name in start if not is_library_module(name, values)}
            return method, root | _given_before(call, values), _changes_object(call, root, values)
        case _:
            return "", loaded_names(call.func), True


def _keeps_frames(
    function: object, expressions: Iterable[ast.AST], values: Mapping[str, Any]
) -> bool:
    """Whether a function of the notebook leaves as they are what it gets: frames and plain values,
    which it does not change. Not for code that is called later, when it may be another function."""
    if (
        not isinstance(function, types.FunctionType)
        or function.__code__ not in harmless_code
        or type(values) is LateValues
    ):
        return False
    defaults = (*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values())
    return all(map(is_inert, defaults)) and all(
        values[name] is function or is_inert(values[name]) or is_data_library(name, values)
        if name in values
        else hasattr(builtins, name)
        for name in loaded_names(*expressions)
    )


def _changes_object(call: ast.Call, root: set[str], values: Mapping[str, Any]) -> bool:
    """Whether a method may change its object, or a function of a module its arguments."""
    assert isinstance(call.func, ast.Attribute)
    method, owner = call.func.attr, call.func.value
    if method in IN_PLACE:
        return True
    if isinstance(owner, ast.Name) and type(values.get(owner.id)) in PLAIN_CONTAINERS:
        return method not in READING_METHODS
    if not root:  # of a module, or of what a function of a module returns
        if any(type(node) is ast.Call for node in _chain(owner)):
            return bool(_given_before(call, values)) or not root_names(owner)
        return not (root_names(owner) and keeps_arguments(module_value(call.func, values)))
    return not all(
        is_library_value(name, values) and not is_library_object(values.get(name)) for name in root
    )


def _chain(node: ast.AST) -> Iterator[ast.AST]:
    """An expression and those that it begins with, as far as it is a chain."""
    inner: Any = node
    while (kind := type(inner)) in _LINKS:
        yield inner
        inner = inner.func if kind is ast.Call else inner.value


def _given_before(call: ast.Call, values: Mapping[str, Any]) -> set[str]:
    """The names that calls earlier in a chain were given, which may be held by the object whose
    method this is: `Pickler(buffer).dump(df)`. Libraries for data return new objects."""
    given = set[str]()
    for node in _chain(call.func):
        if type(node) is ast.Call and not all(
            is_data_library(name, values) or is_data(values.get(name))
            for name in root_names(node.func)
        ):
            given = given.union(*map(loaded_names, arguments(node)))
    return given


def _add_states(names: NamesOfCell, call: ast.Call, method: str, values: Mapping[str, Any]) -> None:
    """Add the files and the states of modules that a call reads and changes."""
    states = module_state(call, values)
    reads, writes, is_handle = file_states(call, method, values)
    if not (states or reads or writes):
        return
    if any("random" in state for state in states) or any(map(loaded_names, arguments(call))):
        writes = writes | states
    names.loaded |= reads | writes | states
    names.changed |= writes
    names.states |= reads | writes | states
    names.handles |= writes if is_handle else set()
    names.files |= reads


def _changes_module(call: ast.Call, method: str, values: Mapping[str, Any]) -> bool:
    """Whether a call changes the state of a library: registers code, seeds a generator, sets an
    option or an element of an object of its."""
    if method.startswith("register"):
        return True
    if method in SETTERS:
        return any(map(loaded_names, arguments(call)))
    owner = call.func.value if isinstance(call.func, ast.Attribute) else None
    return (
        method in IN_PLACE
        and isinstance(owner, ast.Attribute)
        and not is_module(module_value(owner, values))
    )


def _gives_away_arguments(
    call: ast.Call, method: str, values: Mapping[str, Any], names_of: NamesOfNodes
) -> bool:
    """Whether a function of a library may change its arguments or its object, because it is told
    to or calls code of the user that may."""
    if method.startswith(WRITERS):
        return True
    if len(call.args) > 1 and _has_output(call, values):
        return True
    for keyword in call.keywords:
        if keyword.arg in ("inplace", "in_place", "out", "file", "stream", "fileobj"):
            return True
        if keyword.arg == "copy" and not getattr(keyword.value, "value", True):
            return True
    return any(_may_change_what_it_gets(each, call, values, names_of) for each in arguments(call))


def _has_output(call: ast.Call, values: Mapping[str, Any]) -> bool:
    """Whether an argument of a function or method of numpy stands where its output is given."""
    match call.func:
        case ast.Name(id=name):
            functions, methods = [values.get(name)], []
        case ast.Attribute(attr=method):
            owners = [ndarray_type(), *(type(values.get(n)) for n in root_names(call.func))]
            functions = [module_value(call.func, values)]
            methods = [getattr(owner, method, None) for owner in owners]
        case _:
            return False
    given = len(call.args)
    return any(given > output_position(each) for each in functions) or any(
        given + 1 > output_position(each) for each in methods
    )


def _may_change_what_it_gets(
    argument: ast.expr, call: ast.Call, values: Mapping[str, Any], names_of: NamesOfNodes
) -> bool:
    """Whether an argument is, or holds, code that may change what it is called with."""
    match argument:
        case ast.Lambda():
            inner = names_of(inner_nodes(argument), values)
            return bool(inner.changed & own_names(argument, inner.stored))
        case ast.Attribute(value=ast.Name(id=name), attr=method) if is_of_user(
            type(values.get(name))
        ):
            return callable(inspect.getattr_static(values[name], method, None))
        case ast.Attribute(attr=method):
            return method in IN_PLACE
        case ast.Name(id=name) if name in values:
            value = values[name]
            if isinstance(value, types.FunctionType):
                return not is_installed(value.__module__ or "") and not _keeps_frames(
                    value, [call], values
                )
            return holds_code(value)
        case ast.Tuple(elts=parts) | ast.List(elts=parts) | ast.Dict(values=parts):
            return any(_may_change_what_it_gets(part, call, values, names_of) for part in parts)
    return False


def _add_text(names: NamesOfCell, call: ast.Call, method: str, values: Mapping[str, Any]) -> None:
    """Add the variables that the text in an argument names, as in `df.query("x > @limit")` and
    `duckdb.sql("FROM df")`. Our own statements report what they read."""
    names_variables, texts = method in TEXT_METHODS, list[str]()
    root = root_names(call.func) if names_variables else set[str]()
    if any(type(values.get(name)).__module__.startswith("jammi_lab") for name in root):
        return
    for argument in arguments(call):
        if type(argument) is ast.Constant:
            text = argument.value
            if type(text) is str and (names_variables or not text.isidentifier()):
                texts.append(text)
        elif names_variables:
            texts += _texts_in(names, argument, method, values)
    for text in texts:
        words = _WORD.findall(text[:_MAX_TEXT_CHARACTERS])
        names.loaded.update(word for word in words if word in values)
    if names_variables and any(map(WRITES.search, texts)):
        names.changed |= root  # a connection, or the module with its own, keeps what it reads


def _texts_in(
    names: NamesOfCell, argument: ast.expr, method: str, values: Mapping[str, Any]
) -> Iterator[str]:
    """The texts that an argument is put together from. What is computed is opaque."""
    for node in ast.walk(argument):
        match node:
            case ast.Constant(value=str(text)):
                yield text
            case ast.Name(id=name) if isinstance(values.get(name), str):
                yield values[name]
            case ast.Call() | ast.Attribute() | ast.Subscript():
                names.note_opaque(f"a computed text in {method}")
