"""What the code of a cell does to the notebook's names, from its syntax tree: which it reads,
assigns, may change in place, and where it cannot be followed."""

import ast
import builtins
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import PurePath
from typing import Any

from jammi_kernel_ext.cell_calls import LateValues, add_call, given_before
from jammi_kernel_ext.cell_state import ANY_FILE, FILE, states_of
from jammi_kernel_ext.cell_syntax import (
    COMPREHENSIONS,
    LATE_BODIES,
    SCOPES,
    STATEMENTS,
    NamesOfCell,
    arguments,
    inner_nodes,
    loaded_names,
    own_names,
    parse_cell,
    root_names,
    stored_names,
    walk,
)
from jammi_kernel_ext.cell_values import (
    A_FRAME,
    NAMED,
    PLAIN_CONTAINERS,
    foreign_module,
    intercepts_assignment,
    is_data_library,
    is_library_module,
    is_library_value,
    is_module,
    is_of_user,
    shares_nothing,
)
from jammi_kernel_ext.cell_words import (
    CODE_MAGICS,
    HARMLESS_MAGICS,
    OPAQUE_ATTRIBUTES,
    OPAQUE_NAMES,
    OPAQUE_STORED,
    OPAQUE_VALUES,
    PASSING,
)
from jammi_kernel_ext.statement_parameters import parameter_names

_EXPANDED = re.compile(r"(?<=[{$\W])[^\W\d]\w*")
"""Names in the text of a magic, which IPython expands in `{…}` and after `$`."""
_MAX_WORDS = 100
_ABSENT = object()


def names_of(nodes: Sequence[ast.AST], values: Mapping[str, Any]) -> NamesOfCell:
    """The names that nodes use, given the values of the notebook's names."""
    names = NamesOfCell()
    seen = set[str]()
    node: Any
    for node in walk(nodes):
        kind = type(node)
        if kind is not ast.Name:
            if kind in _ADDERS:
                _ADDERS[kind](names, node, values)
        elif type(node.ctx) is not ast.Load:
            names.stored.add(node.id)
        elif node.id not in seen:
            seen.add(node.id)
            _add_loaded(names, node.id, values)
    if names.user_objects:
        _add_operands(names, nodes, values)
    if names.changed:
        _add_changed_sources(names, values)
    return names


def _add_call(names: NamesOfCell, call: ast.Call, values: Mapping[str, Any]) -> None:
    magic = _magic_name(call)
    if magic is None:
        add_call(names, call, values, names_of)
    else:
        _add_magic(names, call, magic, values)


def _add_attribute(names: NamesOfCell, node: ast.Attribute, values: Mapping[str, Any]) -> None:
    if node.attr in OPAQUE_ATTRIBUTES:
        names.note_opaque(node.attr)
    if type(node.ctx) is not ast.Load:
        _add_filled(names, node, values)
        if node.attr in OPAQUE_STORED:
            names.note_opaque(node.attr)


def _add_subscript(names: NamesOfCell, node: ast.Subscript, values: Mapping[str, Any]) -> None:
    if type(node.ctx) is not ast.Load:
        _add_filled(names, node, values)
    elif type(node.value) is ast.Name:
        value = values.get(node.value.id)
        if isinstance(value, type) and is_of_user(value):  # calls `__class_getitem__`
            names.changed |= loaded_names(node.slice)


def _add_filled(names: NamesOfCell, target: ast.expr, values: Mapping[str, Any]) -> None:
    """Add the names whose attribute or element is assigned."""
    root = root_names(target) | given_before(target, values)
    names.add_changed(root)
    names.filled |= root


def _add_operands(names: NamesOfCell, nodes: Sequence[ast.AST], values: Mapping[str, Any]) -> None:
    """Add what operators and calls of the user's objects may change beside these."""
    objects = names.user_objects
    for node in walk(nodes):
        if isinstance(node, ast.BinOp | ast.Compare | ast.AugAssign | ast.Subscript | ast.Call):
            operands = loaded_names(node)
            if operands & objects:
                names.changed |= operands
        elif isinstance(node, ast.Assign):
            for target in node.targets:
                if any(intercepts_assignment(values[n]) for n in root_names(target) & objects):
                    names.changed |= loaded_names(node.value)


def _add_changed_sources(names: NamesOfCell, values: Mapping[str, Any]) -> None:
    """Add the names whose objects a changed name may stand for, as in `a = df; a["x"] = 1`."""
    pending = [(target_names(target), value) for target, value in names.aliases]
    while reached := [each for each in pending if each[0] & names.changed]:
        pending = [each for each in pending if not each[0] & names.changed]
        for _, value in reached:
            names.add_changed(sources_of(value, values))


def target_names(target: ast.AST) -> set[str]:
    """The names that a target of an assignment, a loop or a pattern stores."""
    if isinstance(target, ast.Name):
        return {target.id}
    return {name for node in walk([target]) for name in stored_names(node)}


def sources_of(value: ast.AST, values: Mapping[str, Any]) -> set[str]:
    """The names of the objects that the value of an expression may be or hold. What is taken out
    of a frame is a new object."""
    match value:
        case ast.Name(id=name):
            return {name}
        case ast.Subscript() | ast.Attribute():
            return _not_frames(value, values)
        case ast.Call(func=ast.Name(id=name)) if is_library_value(name, values):
            parts = arguments(value) if name in PASSING or _holds_arguments(name, values) else []
        case ast.Call(func=ast.Attribute(attr=method)):
            root = root_names(value)
            if not all(is_library_module(name, values) for name in root):
                return _not_frames(value, values)
            holds = method in PASSING or not any(is_data_library(name, values) for name in root)
            parts = arguments(value) if holds else []
        case ast.Lambda() | ast.Constant():
            return set()
        case ast.ListComp() | ast.SetComp() | ast.GeneratorExp() | ast.DictComp():
            parts = [each.iter for each in value.generators]
        case ast.BinOp(left=left, right=right):  # containers that are added hold the same objects
            parts = [left, right]
            return {
                name
                for part in parts
                for name in sources_of(part, values)
                if type(values.get(name)) in PLAIN_CONTAINERS
            }
        case ast.Compare() | ast.UnaryOp() | ast.JoinedStr():
            return set()
        case _:
            parts = [node for node in ast.iter_child_nodes(value) if isinstance(node, ast.expr)]
    return set[str]().union(*(sources_of(part, values) for part in parts))


def _not_frames(value: ast.AST, values: Mapping[str, Any]) -> set[str]:
    return {name for name in root_names(value) if not shares_nothing(values.get(name))}


def _holds_arguments(name: str, values: Mapping[str, Any]) -> bool:
    """Whether a name is a class or function of a library whose results hold what it was given."""
    return name in values and not is_data_library(name, values)


def _add_assignment(names: NamesOfCell, node: ast.Assign, _values: Mapping[str, Any]) -> None:
    for target in node.targets:
        names.aliases.append((target, node.value))


def _add_statement(names: NamesOfCell, node: ast.AST, _values: Mapping[str, Any]) -> None:
    """Add what a node does that names something, of a kind that is less frequent in cells."""
    match node:
        case ast.AugAssign(target=target):
            names.add_changed(root_names(target))
        case (
            ast.AnnAssign(target=target, value=ast.expr() as value)
            | ast.NamedExpr(target=target, value=value)
        ):
            names.aliases.append((target, value))
        case ast.For(target=target, iter=value) | ast.AsyncFor(target=target, iter=value):
            names.aliases.append((target, value))
        case ast.withitem(context_expr=value, optional_vars=ast.expr() as target):
            names.aliases.append((target, value))
        case ast.Match(subject=value, cases=cases):
            names.aliases += [(case.pattern, value) for case in cases]
        case ast.alias(name=name, asname=alias):
            module = name.partition(".")[0]
            names.stored.add(alias or module)
            names.note_opaque(name if module in OPAQUE_NAMES or name == "*" else "")
        case ast.Global(names=declared) | ast.Nonlocal(names=declared):
            names.declared |= set(declared)
        case _:
            names.stored |= stored_names(node)


def _add_loaded(names: NamesOfCell, name: str, values: Mapping[str, Any]) -> None:
    names.loaded.add(name)
    if name in OPAQUE_NAMES:
        names.note_opaque(name)
    value = values.get(name, _ABSENT)
    if value is _ABSENT or type(value) in PLAIN_CONTAINERS:
        return
    is_object_of_user = is_of_user(type(value))
    if is_object_of_user:  # operators and properties are calls
        names.changed.add(name)
        names.user_objects |= {name}
    if id(value) in OPAQUE_VALUES:
        names.note_opaque(name)
    if is_module(value):
        names.loaded |= states_of(value.__name__)
    elif not (is_object_of_user or isinstance(value, NAMED)):
        return
    if module := foreign_module(value):
        names.note_opaque(f"the module {module}", reads_any=False)


def _add_scope(names: NamesOfCell, scope: ast.AST, values: Mapping[str, Any]) -> None:
    """Add what a function, class or comprehension does to names that are not its own."""
    names.stored |= stored_names(scope)
    is_first = type(values) is not LateValues
    if is_first and isinstance(scope, LATE_BODIES):
        values = LateValues(values)
    inner = names_of(inner_nodes(scope), values)
    own = own_names(scope, inner.stored) - inner.declared
    if isinstance(scope, COMPREHENSIONS) and inner.changed & own:
        inner.add_changed(loaded_names(*(each.iter for each in scope.generators)))
    if isinstance(scope, LATE_BODIES):
        names.late |= inner.loaded - own
    names.loaded |= inner.loaded - own
    names.late |= inner.late - own
    names.changed |= inner.changed - own
    local = inner.stored - inner.declared if isinstance(scope, ast.ClassDef) else own
    names.stored |= inner.stored - local
    names.declared |= inner.declared
    names.add_states(inner)
    names.note_opaque(inner.opaque, reads_any=inner.reads_any)
    if is_first and isinstance(scope, ast.FunctionDef) and _keeps_frames(scope, inner, values):
        names.harmless |= {(scope.name, scope.lineno)}
    for decorator in getattr(scope, "decorator_list", ()):
        if isinstance(decorator, ast.Attribute):  # called with the function, which it may keep
            names.add_changed(root_names(decorator))


def _keeps_frames(function: ast.FunctionDef, inner: NamesOfCell, values: Mapping[str, Any]) -> bool:
    """Whether a function leaves its arguments as they are if these are frames and plain values,
    whatever the notebook's variables hold when it is called."""
    if function.decorator_list or inner.opaque or inner.declared:
        return False
    parameters = own_names(function, set())
    libraries = {
        name: values[name]
        for name in inner.loaded - parameters - inner.stored
        if is_module(values.get(name))
        or (name in values and is_library_value(name, values) and callable(values[name]))
    }
    frames = parameters | inner.stored
    while (
        other := {
            name
            for target, value in inner.aliases
            if not isinstance(target, ast.Name)
            or not all(
                n in frames or n in libraries or hasattr(builtins, n) for n in loaded_names(value)
            )
            for name in target_names(target) & frames
        }
        | (inner.stored - parameters).difference(*(target_names(t) for t, _ in inner.aliases))
        & frames
    ):
        frames -= other
    known = LateValues(libraries | dict.fromkeys(frames, A_FRAME))
    return not names_of(inner_nodes(function), known).changed & parameters


def _magic_name(call: ast.Call) -> str | None:
    """The name of the magic or shell command that a call runs; None for any other call."""
    if type(getattr(call.func, "value", None)) is not ast.Call:
        return None
    match call:
        case ast.Call(
            func=ast.Attribute(
                value=ast.Call(func=ast.Name(id="get_ipython"), args=[]), attr=method
            ),
            args=[ast.Constant(value=str(first)), *_],
        ):
            if method in ("system", "getoutput"):
                return "system"
            if method in ("run_line_magic", "run_cell_magic"):
                return first
    return None


def _add_magic(names: NamesOfCell, call: ast.Call, magic: str, values: Mapping[str, Any]) -> None:
    text = " ".join(str(each.value) for each in call.args[:2] if isinstance(each, ast.Constant))
    body = call.args[-1].value if isinstance(call.args[-1], ast.Constant) else None
    if magic == "jammi":
        names.loaded |= set(parameter_names(str(body))) & values.keys()
    elif magic != "jammi_py":  # ours expand nothing
        names.loaded.update(set(_EXPANDED.findall(text)) & values.keys())
    if magic in ("env", "set_env"):
        names.add_state("state os")
    if magic in ("system", "sx", "bash", "sh"):
        for word in text.split()[:_MAX_WORDS]:
            names.add_state(FILE + PurePath(word).name)
        names.files |= {ANY_FILE}
    if magic in HARMLESS_MAGICS:
        return
    tree = parse_cell(body) if magic in CODE_MAGICS and isinstance(body, str) else None
    if tree is None:
        names.note_opaque(f"%{magic}")
        return
    inner = names_of([tree], values)
    names.loaded |= inner.loaded
    names.stored |= inner.stored
    names.changed |= inner.changed
    names.late |= inner.late
    names.add_states(inner)
    names.note_opaque(inner.opaque, reads_any=inner.reads_any)


_ADDERS: dict[type[ast.AST], Callable[[NamesOfCell, Any, Mapping[str, Any]], None]] = {
    **dict.fromkeys(SCOPES, _add_scope),
    **dict.fromkeys(STATEMENTS, _add_statement),
    ast.Call: _add_call,
    ast.Attribute: _add_attribute,
    ast.Subscript: _add_subscript,
    ast.Assign: _add_assignment,
}
"""What adds the names of each kind of node but `ast.Name`; the others name nothing."""
