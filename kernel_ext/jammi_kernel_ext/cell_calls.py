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
OUTPUT_PARAMETERS = frozenset("inplace in_place out file stream fileobj".split())
"""Parameters of functions of libraries that change what they are given, or their object."""
_MAY_BE_CODE = frozenset((ast.Lambda, ast.Attribute, ast.Name, ast.Tuple, ast.List, ast.Dict))
"""Arguments that may be, or hold, code that is called."""


class LateValues(dict[str, Any]):
    """The values of the notebook's names for code that is called later, when they may be others."""


harmless_code: "weakref.WeakSet[types.CodeType]" = weakref.WeakSet()
"""The code of functions that do not change the frames that they are given."""


def note_harmless(names: NamesOfCell, values: Mapping[str, Any]) -> None:
    """Note the functions that a statement defines which do not change the frames they get."""
    for name, line in names.harmless:
        function = values.get(name)
        if isinstance(function, types.FunctionType) and function.__code__.co_firstlineno == line:
            harmless_code.add(function.__code__)


def add_call(
    names: NamesOfCell, call: ast.Call, values: Mapping[str, Any], names_of: NamesOfNodes
) -> None:
    """Add what a call may do: to the object whose method it is, and to its arguments. `names_of`
    gives the names that nodes use."""
    start = root_names(call.func)
    is_of_data = bool(start) and all(is_data(values.get(name)) for name in start)
    method, root, may_change = _effect_on_object(call, start, values, is_of_data=is_of_data)
    if call.args or call.keywords:
        given = arguments(call)
        may_change = may_change or _gives_away_arguments(
            call, given, method, start, values, names_of
        )
        _add_text(names, given, method, start, values)
    if may_change:
        names.changed |= root
        observes = method not in IN_PLACE and root and all(is_observer(values.get(n)) for n in root)
        for name in set[str]().union(*map(loaded_names, arguments(call))):
            if not (observes and shares_nothing(values.get(name))):
                names.changed.add(name)
        if method in IN_PLACE:
            names.filled |= root
    states = frozenset() if is_of_data else module_state(call, start, values)
    _add_states(names, call, method, start, states, values)


def _effect_on_object(
    call: ast.Call, start: set[str], values: Mapping[str, Any], *, is_of_data: bool
) -> tuple[str, set[str], bool]:
    """The function or method that a call names, the names whose objects it may change, and whether
    it may change these and its arguments. `start`: the names at the start of the call;
    `is_of_data`: whether all of them are frames, columns or arrays."""
    function = call.func
    if isinstance(function, ast.Name):
        return function.id, {function.id}, _changes_arguments(call, function.id, values)
    if not isinstance(function, ast.Attribute):
        return "", loaded_names(function), True
    if _changes_module(call, function, values):
        return function.attr, start, True
    if is_of_data:
        return function.attr, start, function.attr in IN_PLACE
    root = {name for name in start if not is_library_module(name, values)}
    given = given_before(function, values)
    return function.attr, root | given, _changes_object(function, root, given, values)


def _changes_arguments(call: ast.Call, name: str, values: Mapping[str, Any]) -> bool:
    """Whether a function that is called by its name may change its arguments."""
    if name not in values and hasattr(builtins, name):
        return False
    function = values.get(name)
    return getattr(function, "__name__", name) in IN_PLACE or not (
        (is_library_function(name, values) and keeps_arguments(function))
        or _keeps_frames(function, arguments(call), values)
    )


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
    if not all(_is_harmless_global(name, values) for name in _global_names(function.__code__)):
        return False
    return all(map(is_inert, defaults)) and all(
        values[name] is function or is_inert(values[name]) or is_data_library(name, values)
        if name in values
        else hasattr(builtins, name)
        for name in loaded_names(*expressions)
    )


def _global_names(code: types.CodeType) -> Iterator[str]:
    """The names of variables and attributes in a function and those that it defines."""
    yield from code.co_names
    for each in code.co_consts:
        if type(each) is types.CodeType:
            yield from _global_names(each)


def _is_harmless_global(name: str, values: Mapping[str, Any]) -> bool:
    """Whether what a name holds now is as harmless as what it held when the function was defined: a
    module or function of a library, a frame, a number."""
    return (
        name not in values
        or is_inert(value := values[name])
        or is_module(value)
        or (is_library_function(name, values) and keeps_arguments(value))
    )


def _changes_object(
    function: ast.Attribute,
    root: set[str],
    given: set[str],
    values: Mapping[str, Any],
) -> bool:
    """Whether a method may change its object, or a function of a module its arguments. `given`:
    what calls before it in the chain were given."""
    method, owner = function.attr, function.value
    if method in IN_PLACE:
        return True
    if isinstance(owner, ast.Name) and type(values.get(owner.id)) in PLAIN_CONTAINERS:
        return method not in READING_METHODS
    if not root:  # of a module, or of what a function of a module returns
        if any(type(node) is ast.Call for node in _chain(owner)):
            return bool(given) or not root_names(owner)
        return not (root_names(owner) and keeps_arguments(module_value(function, values)))
    return not all(
        is_library_value(name, values) and not is_library_object(values.get(name)) for name in root
    )


def _chain(node: ast.AST) -> Iterator[ast.AST]:
    """An expression and those that it begins with, as far as it is a chain."""
    inner: Any = node
    while (kind := type(inner)) in _LINKS:
        yield inner
        inner = inner.func if kind is ast.Call else inner.value


def given_before(target: ast.expr, values: Mapping[str, Any]) -> set[str]:
    """The names that calls earlier in a chain were given, which may be held by the object whose
    method is called or whose element is assigned: `Pickler(buffer).dump(df)`, `same(df)["x"] = 1`.
    Libraries for data return new objects."""
    given = set[str]()
    if type(getattr(target, "value", None)) is ast.Name:
        return given
    for node in _chain(target):
        if type(node) is ast.Call and not _is_of_data(root_names(node.func), values):
            given = given.union(*map(loaded_names, arguments(node)))
    return given


def _is_of_data(start: set[str], values: Mapping[str, Any]) -> bool:
    """Whether all names at the start of a call are of libraries for data, or frames."""
    return all(is_data_library(name, values) or is_data(values.get(name)) for name in start)


def _add_states(
    names: NamesOfCell,
    call: ast.Call,
    method: str,
    start: set[str],
    states: frozenset[str],
    values: Mapping[str, Any],
) -> None:
    """Add the files that a call reads and writes, and the `states` of modules that it uses."""
    if method == "rename" and _is_of_data(start, values):
        return  # columns, and no file
    reads, writes, is_handle = file_states(call, method, values)
    if not (states or reads or writes):
        return
    if any("random" in state for state in states) or any(map(loaded_names, arguments(call))):
        writes = writes | states
    names.loaded |= reads | writes | states
    names.changed |= writes
    names.states |= reads | writes | states
    names.handles |= writes if is_handle else frozenset()
    names.files |= reads


def _changes_module(call: ast.Call, function: ast.Attribute, values: Mapping[str, Any]) -> bool:
    """Whether a call changes the state of a library: registers code, seeds a generator, sets an
    option or an element of an object of its."""
    method, owner = function.attr, function.value
    if method.startswith("register"):
        return True
    if method in SETTERS:
        return any(map(loaded_names, arguments(call)))
    return (
        method in IN_PLACE
        and isinstance(owner, ast.Attribute)
        and not is_module(module_value(owner, values))
    )


def _gives_away_arguments(
    call: ast.Call,
    given: Sequence[ast.expr],
    method: str,
    start: set[str],
    values: Mapping[str, Any],
    names_of: NamesOfNodes,
) -> bool:
    """Whether a function of a library may change its arguments or its object, because it is told
    to or calls code of the user that may."""
    if method.startswith(WRITERS):
        return True
    if len(call.args) > 1 and _has_output(call, start, values):
        return True
    for keyword in call.keywords:
        if keyword.arg in OUTPUT_PARAMETERS:
            return True
        if keyword.arg == "copy" and not getattr(keyword.value, "value", True):
            return True
        if (keyword.arg or "").startswith("overwrite_") and getattr(keyword.value, "value", True):
            return True
    for each in given:
        kind = type(each)
        if kind is ast.Name and is_data(values.get(each.id)):  # type: ignore[attr-defined]
            continue
        if kind in _MAY_BE_CODE and _may_change_what_it_gets(each, call, values, names_of):
            return True
    return False


def _has_output(call: ast.Call, start: set[str], values: Mapping[str, Any]) -> bool:
    """Whether an argument of a function or method of numpy stands where its output is given."""
    match call.func:
        case ast.Name(id=name):
            functions, methods = [values.get(name)], []
        case ast.Attribute(attr=method):
            owners = [ndarray_type(), *(type(values.get(n)) for n in start)]
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


def _add_text(
    names: NamesOfCell,
    given: Sequence[ast.expr],
    method: str,
    start: set[str],
    values: Mapping[str, Any],
) -> None:
    """Add the variables that the text in an argument names, as in `df.query("x > @limit")` and
    `duckdb.sql("FROM df")`. Our own statements report what they read."""
    names_variables, texts = method in TEXT_METHODS, list[str]()
    if names_variables and any(
        type(values.get(name)).__module__.startswith("jammi_lab") for name in start
    ):
        return
    for argument in given:
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
        names.changed |= start  # a connection, or the module with its own, keeps what it reads


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
