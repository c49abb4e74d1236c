"""What the code of a cell does to the notebook's names, from its syntax tree: which it reads,
assigns, may change in place, and where it cannot be followed."""

import ast
import functools
import inspect
import re
import types
import weakref
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from jammi_kernel_ext.cell_values import (
    foreign_module,
    holds_code,
    is_frame_name,
    is_installed,
    is_library_function,
    is_library_module,
    is_library_value,
    is_module,
    is_of_user,
    module_value,
)
from jammi_kernel_ext.cell_words import (
    CODE_MAGICS,
    HARMLESS_MAGICS,
    IN_PLACE,
    OPAQUE_ATTRIBUTES,
    OPAQUE_NAMES,
    OPAQUE_VALUES,
    PASSING,
    SETTERS,
    TEXT_METHODS,
    WRITERS,
    WRITES,
)

_WORD = re.compile(r"[^\W\d]\w*")
_CHAINED = frozenset((ast.Attribute, ast.Subscript, ast.Starred, ast.Call))
_MAX_TEXT_CHARACTERS = 20_000
_LATE_BODIES = (
    ast.FunctionDef,
    ast.AsyncFunctionDef,
    ast.Lambda,
    ast.ClassDef,
    ast.GeneratorExp,
)
_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
_SCOPES = frozenset((*_LATE_BODIES, *_COMPREHENSIONS))
"""The nodes with names of their own."""
_STORING_NODES = frozenset(
    (
        ast.Name,
        ast.FunctionDef,
        ast.AsyncFunctionDef,
        ast.ClassDef,
        ast.ExceptHandler,
        ast.MatchAs,
        ast.MatchStar,
        ast.MatchMapping,
    )
)
_NAMING_NODES = frozenset(
    (
        *_STORING_NODES,
        *_SCOPES,
        ast.Global,
        ast.Nonlocal,
        ast.Subscript,
        ast.Attribute,
        ast.AugAssign,
        ast.Assign,
        ast.AnnAssign,
        ast.NamedExpr,
        ast.For,
        ast.AsyncFor,
        ast.withitem,
        ast.Match,
        ast.Call,
        ast.alias,
    )
)
"""The nodes that `names_of_cell` looks at."""


_LEAF_FIELDS = frozenset(
    "ctx op ops id attr arg asname module level conversion simple is_async kind type_comment "
    "type_ignores".split()
)
"""Fields of nodes below which no name stands."""
_LEAVES = frozenset((ast.Constant, str, int, type(None)))
"""What stands in the fields of nodes and names nothing."""
_CHILD_FIELDS = {
    kind: tuple(field for field in kind._fields if field not in _LEAF_FIELDS)
    for kind in vars(ast).values()
    if isinstance(kind, type) and issubclass(kind, ast.AST)
} | {ast.Constant: ()}
"""The fields of each kind of node below which names may stand."""


@dataclass
class NamesOfCell:
    """The names that a cell uses."""

    loaded: set[str] = field(default_factory=set)
    """Names that it reads, in nested functions too, without those that are the functions' own."""
    stored: set[str] = field(default_factory=set)
    """Names that it assigns, imports, defines or deletes."""
    declared: set[str] = field(default_factory=set)
    """Names that a function of it declares as global or nonlocal."""
    late: set[str] = field(default_factory=set)
    """Names that functions, classes and generators of the cell read when they run."""
    changed: set[str] = field(default_factory=set)
    """Names whose values it may change in place."""
    aliases: list[tuple[ast.AST, ast.AST]] = field(default_factory=list)
    """Targets, each with an expression whose objects it may name, too."""
    user_objects: set[str] = field(default_factory=set)
    """Names that it reads of objects whose operators are code of the user."""
    harmless: set[str] = field(default_factory=set)
    """Functions that it defines which do not change what they are given."""
    opaque: str = ""
    """What cannot be followed in it, as a word; empty when all can."""
    reads_any: bool = False
    """Whether it may read any name of the notebook. A module of one's own is not followed, but
    knows only what it was given."""

    def note_opaque(self, word: str, *, reads_any: bool = True) -> None:
        """Note what cannot be followed; the first word stays."""
        self.opaque = self.opaque or word
        self.reads_any |= bool(word) and reads_any

    def add_changed(self, names: set[str]) -> None:
        """Add names whose values are changed in place. What they held before stays in them."""
        self.changed |= names
        self.loaded |= names


@functools.lru_cache(maxsize=32)
def parse_cell(source: str) -> ast.Module | None:
    """The syntax tree of a cell after IPython's own transformations; None when it is not valid.
    Cells run again and again, and parsing is a third of what following one costs."""
    try:
        return ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _walk(nodes: Sequence[ast.AST]) -> list[ast.AST]:
    """The nodes and all below them, without contexts and operators, and of functions, classes and
    comprehensions only what is evaluated outside of them. About twice as fast as the walk of the
    module ast, which costs most of what following a cell does."""
    found = list(nodes)
    for each in found:  # grows while it is read
        kind = type(each)
        if kind in _SCOPES:
            found += _outer_nodes(each)
            continue
        for name in _CHILD_FIELDS[kind]:
            child: Any = getattr(each, name, None)
            if type(child) is list:
                found += [item for item in child if type(item) not in _LEAVES]
            elif type(child) not in _LEAVES:
                found.append(child)
    return found


def _outer_nodes(scope: ast.AST) -> list[ast.AST]:
    """What of a function, class or comprehension is evaluated where it stands."""
    match scope:
        case ast.FunctionDef() | ast.AsyncFunctionDef():
            outer = [*scope.decorator_list, scope.args, scope.returns]
            return [node for node in outer if node is not None]
        case ast.Lambda(args=arguments):
            return [arguments]
        case ast.ClassDef():
            return [*scope.decorator_list, *scope.bases, *scope.keywords]
        case _:
            return [scope.generators[0].iter]  # type: ignore[attr-defined]


def _inner_nodes(scope: ast.AST) -> list[ast.AST]:
    """What of a function, class or comprehension is evaluated with names of its own."""
    match scope:
        case ast.Lambda(body=body):
            return [body]
        case ast.DictComp(key=key, value=value, generators=generators):
            inner = [key, value]
        case (
            ast.ListComp(elt=value, generators=generators)
            | ast.SetComp(elt=value, generators=generators)
            | ast.GeneratorExp(elt=value, generators=generators)
        ):
            inner = [value]
        case _:
            return scope.body  # type: ignore[attr-defined,no-any-return]
    targets = [node for each in generators for node in (each.target, *each.ifs)]
    return [*inner, *targets, *(each.iter for each in generators[1:])]


def _own_names(scope: ast.AST, stored: set[str]) -> set[str]:
    """The names that belong to a function or comprehension itself, given those that it stores."""
    match scope:
        case (
            ast.FunctionDef(args=given) | ast.AsyncFunctionDef(args=given) | ast.Lambda(args=given)
        ):
            every = [*given.posonlyargs, *given.args, *given.kwonlyargs, given.vararg, given.kwarg]
            return stored | {each.arg for each in every if each is not None}
        case ast.ClassDef():  # its functions do not see its names
            return set()
    targets = [each.target for each in scope.generators]  # type: ignore[attr-defined]
    return {name for node in _walk(targets) for name in _stored_names(node)}


harmless_code: "weakref.WeakSet[types.CodeType]" = weakref.WeakSet()
"""The code of functions that do not change what they are given."""


def names_of_cell(tree: ast.AST, values: Mapping[str, Any]) -> NamesOfCell:
    """The names that a cell uses, given the values of the notebook's names."""
    return _names_of([tree], values)


def _names_of(nodes: Sequence[ast.AST], values: Mapping[str, Any]) -> NamesOfCell:
    names = NamesOfCell()
    seen = set[str]()
    node: Any
    for node in _walk(nodes):
        kind = type(node)  # `isinstance` and `match` cost more than all that is done here
        if kind not in _NAMING_NODES:
            continue
        if kind is ast.Name:
            if type(node.ctx) is not ast.Load:
                names.stored.add(node.id)
            elif node.id not in seen:
                seen.add(node.id)
                _add_loaded(names, node.id, values)
        elif kind is ast.Call:
            _add_call(names, node, values)
        elif kind is ast.Attribute or kind is ast.Subscript:
            if type(node.ctx) is not ast.Load:
                names.add_changed(_root(node))
            if kind is ast.Attribute and node.attr in OPAQUE_ATTRIBUTES:
                names.note_opaque(node.attr)
        elif kind in _SCOPES:
            names.stored |= _stored_names(node)
            _add_scope(names, node, values)
        elif kind is ast.Assign:
            names.aliases += [(target, node.value) for target in node.targets]
        else:
            _add_statement(names, node)
    if names.user_objects:
        _add_operands(names, nodes)
    if names.changed:
        _add_changed_sources(names, values)
    return names


def _add_operands(names: NamesOfCell, nodes: Sequence[ast.AST]) -> None:
    """Add what operators of the user's objects may change beside these."""
    for node in _walk(nodes):
        if isinstance(node, ast.BinOp | ast.Compare | ast.AugAssign | ast.Subscript):
            operands = _loaded_names(node)
            if operands & names.user_objects:
                names.changed |= operands


def _add_changed_sources(names: NamesOfCell, values: Mapping[str, Any]) -> None:
    """Add the names whose objects a changed name may stand for, as in `a = df; a["x"] = 1`."""
    pending = [(_target_names(target), value) for target, value in names.aliases]
    while reached := [each for each in pending if each[0] & names.changed]:
        pending = [each for each in pending if not each[0] & names.changed]
        for _, value in reached:
            names.add_changed(_sources(value, values))


def _target_names(target: ast.AST) -> set[str]:
    if isinstance(target, ast.Name):
        return {target.id}
    return {name for node in _walk([target]) for name in _stored_names(node)}


def _sources(value: ast.AST, values: Mapping[str, Any]) -> set[str]:
    """The names of the objects that the value of an expression may be or hold. What is taken out
    of a frame is a new object."""
    match value:
        case ast.Name(id=name):
            return {name}
        case ast.Subscript() | ast.Attribute():
            root = _root(value)
            return {name for name in root if not is_frame_name(name, values)}
        case ast.Call(func=ast.Name(id=name)) if is_library_value(name, values):
            parts = [*_arguments(value)] if name in PASSING else []
        case ast.Call(func=ast.Attribute(attr=method)):
            root = _root(value)
            if all(is_library_module(name, values) for name in root):
                parts = [*_arguments(value)] if method in PASSING else []
            else:
                return {name for name in root if not is_frame_name(name, values)}
        case ast.Lambda() | ast.Constant():
            return set()
        case ast.ListComp() | ast.SetComp() | ast.GeneratorExp() | ast.DictComp():
            parts = [each.iter for each in value.generators]
        case ast.BinOp() | ast.Compare() | ast.UnaryOp() | ast.JoinedStr():
            return set()
        case _:
            parts = [node for node in ast.iter_child_nodes(value) if isinstance(node, ast.expr)]
    return set[str]().union(*(_sources(part, values) for part in parts))


def _add_statement(names: NamesOfCell, node: ast.AST) -> None:
    """Add what the other nodes do that name something."""
    match node:
        case ast.AugAssign(target=target):
            names.add_changed(_root(target))
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
            names.declared.update(declared)
        case _:
            names.stored |= _stored_names(node)


def _add_loaded(names: NamesOfCell, name: str, values: Mapping[str, Any]) -> None:
    names.loaded.add(name)
    if name in values and is_of_user(type(values[name])):  # operators and properties are calls
        names.changed.add(name)
        names.user_objects.add(name)
    if name in OPAQUE_NAMES or id(values.get(name)) in OPAQUE_VALUES:
        names.note_opaque(name)
    if name in values and (module := foreign_module(values[name])):
        names.note_opaque(f"the module {module}", reads_any=False)


def _add_scope(names: NamesOfCell, scope: ast.AST, values: Mapping[str, Any]) -> None:
    """Add what a function, class or comprehension does to names that are not its own."""
    inner = _names_of(_inner_nodes(scope), values)
    own = _own_names(scope, inner.stored) - inner.declared
    if isinstance(scope, _COMPREHENSIONS) and inner.changed & own:
        inner.add_changed(_loaded_names(*(each.iter for each in scope.generators)))
    if isinstance(scope, _LATE_BODIES):
        names.late |= inner.loaded - own
    names.loaded |= inner.loaded - own
    names.late |= inner.late - own
    names.changed |= inner.changed - own
    local = inner.stored - inner.declared if isinstance(scope, ast.ClassDef) else own
    names.stored |= inner.stored - local
    names.declared |= inner.declared
    names.note_opaque(inner.opaque, reads_any=inner.reads_any)
    if isinstance(scope, ast.FunctionDef | ast.AsyncFunctionDef) and not inner.changed & own:
        names.harmless.add(scope.name)
    for decorator in getattr(scope, "decorator_list", ()):
        if isinstance(decorator, ast.Attribute):  # called with the function, which it may keep
            names.add_changed(_root(decorator))


def _stored_names(node: ast.AST) -> set[str]:
    """The names that a node itself assigns, defines or deletes."""
    match node:
        case ast.Name(id=name, ctx=ast.Store() | ast.Del()):
            return {name}
        case (
            ast.FunctionDef(name=name)
            | ast.AsyncFunctionDef(name=name)
            | ast.ClassDef(name=name)
            | ast.ExceptHandler(name=str(name))
            | ast.MatchAs(name=str(name))
            | ast.MatchStar(name=str(name))
        ):
            return {name}
        case ast.MatchMapping(rest=str(name)):
            return {name}
    return set()


def _add_call(names: NamesOfCell, call: ast.Call, values: Mapping[str, Any]) -> None:
    """Add what a call may do: to the object whose method it is, and to its arguments."""
    magic = _magic_name(call)
    if magic is not None:
        _add_magic(names, call, magic, values)
        return

    root, method = set[str](), ""
    match call.func:
        case ast.Name(id=name):
            method, root = name, {name}
            known_as = getattr(values.get(name), "__name__", name)
            may_change = known_as in IN_PLACE or not is_library_function(name, values)
        case ast.Attribute(attr=method):
            start = _root(call.func)
            root = {name for name in start if not is_library_module(name, values)}
            may_change = (
                method in IN_PLACE
                or not start
                or not all(is_library_value(name, values) for name in root)
            )
            if _changes_module(call, method, values):
                root, may_change = start, True
        case _:
            may_change, root = True, _loaded_names(call.func)
    if call.args or call.keywords:
        may_change = may_change or _gives_away_arguments(call, method, values)
        _add_text(names, call, method, values)
    if may_change:
        names.changed |= root.union(*map(_loaded_names, _arguments(call)))


def _changes_module(call: ast.Call, method: str, values: Mapping[str, Any]) -> bool:
    """Whether a call changes the state of a library: registers code, seeds a generator, sets an
    option or an element of an object of its."""
    if method.startswith("register"):
        return True
    if method in SETTERS:
        return any(map(_loaded_names, _arguments(call)))
    owner = call.func.value if isinstance(call.func, ast.Attribute) else None
    return (
        method in IN_PLACE
        and isinstance(owner, ast.Attribute)
        and not is_module(module_value(owner, values))
    )


def _gives_away_arguments(call: ast.Call, method: str, values: Mapping[str, Any]) -> bool:
    """Whether a function of a library may change its arguments or its object, because it is told
    to or calls code of the user that may."""
    if method.startswith(WRITERS):
        return True
    if len(call.args) > 1:  # the last argument of a function of numpy may be its output
        is_name = isinstance(call.func, ast.Name)
        function: Any = values.get(method) if is_name else module_value(call.func, values)
        if type(function).__name__ == "ufunc" and len(call.args) > function.nin:
            return True
    if call.keywords and any(
        keyword.arg in ("inplace", "in_place", "out", "file") for keyword in call.keywords
    ):
        return True
    return any(_may_change_what_it_gets(argument, values) for argument in _arguments(call))


def _may_change_what_it_gets(argument: ast.expr, values: Mapping[str, Any]) -> bool:
    """Whether an argument is code that may change what it is called with."""
    match argument:
        case ast.Lambda():
            inner = _names_of(_inner_nodes(argument), values)
            return bool(inner.changed & _own_names(argument, inner.stored))
        case ast.Attribute(value=ast.Name(id=name), attr=method) if is_of_user(
            type(values.get(name))
        ):
            return callable(inspect.getattr_static(values[name], method, None))
        case ast.Attribute(attr=method):
            return method in IN_PLACE
        case ast.Name(id=name) if name in values:
            value = values[name]
            if isinstance(value, types.FunctionType):
                return not is_installed(value.__module__ or "") and (
                    value.__code__ not in harmless_code
                )
            return holds_code(value)
    return False


def _add_text(names: NamesOfCell, call: ast.Call, method: str, values: Mapping[str, Any]) -> None:
    """Add the variables that the text in an argument names, as in `df.query("x > @limit")` and
    `duckdb.sql("FROM df")`. Our own statements report what they read."""
    names_variables, texts = method in TEXT_METHODS, list[str]()
    root = _root(call.func) if names_variables else set[str]()
    if any(type(values.get(name)).__module__.startswith("jammi_lab") for name in root):
        return
    for argument in _arguments(call):
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


def _magic_name(call: ast.Call) -> str | None:
    """The name of the magic or shell command that a call runs; None for any other call."""
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
    if magic in HARMLESS_MAGICS:
        return
    body = call.args[-1].value if isinstance(call.args[-1], ast.Constant) else None
    tree = parse_cell(body) if magic in CODE_MAGICS and isinstance(body, str) else None
    if tree is None:
        names.note_opaque(f"%{magic}")
        return
    inner = names_of_cell(tree, values)
    for kind in ("loaded", "stored", "late", "changed"):
        getattr(names, kind).update(getattr(inner, kind))
    names.note_opaque(inner.opaque, reads_any=inner.reads_any)


def _arguments(call: ast.Call) -> Iterator[ast.expr]:
    yield from call.args
    yield from (keyword.value for keyword in call.keywords)


def _loaded_names(*nodes: ast.AST) -> set[str]:
    loaded = set[str]()
    for node in _walk(nodes):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            loaded.add(node.id)
        elif type(node) in _SCOPES:
            inner = _inner_nodes(node)
            stored = {name for each in _walk(inner) for name in _stored_names(each)}
            declared = {name for each in _walk(inner) for name in getattr(each, "names", ())}
            loaded |= _loaded_names(*inner) - (_own_names(node, stored) - declared)
    return loaded


def _root(node: ast.AST) -> set[str]:
    """The names at the start of a chain of attributes, subscripts and calls. An expression at the
    start counts with all its names."""
    inner: Any = node
    while (kind := type(inner)) in _CHAINED:
        inner = inner.func if kind is ast.Call else inner.value
    node = inner
    return {node.id} if isinstance(node, ast.Name) else _loaded_names(node)
