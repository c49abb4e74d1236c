"""What the code of a cell does to the notebook's names, from its syntax tree: which it reads,
assigns, may change in place, and where it cannot be followed."""

import ast
import builtins
import functools
import types
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

_OPAQUE_NAMES = frozenset(
    "exec eval compile globals locals vars setattr delattr __import__ threading Thread Timer "
    "multiprocessing ThreadPoolExecutor ProcessPoolExecutor ThreadPool joblib _thread "
    "__main__".split()
)
_OPAQUE_ATTRIBUTES = frozenset(
    "user_ns user_global_ns run_cell run_code run_cell_async ex ev push safe_execfile __dict__ "
    "__globals__ __setattr__ __setstate__ create_task ensure_future run_in_executor to_thread "
    "import_module spawn_callback call_later call_soon Thread ThreadPoolExecutor ThreadPool "
    "_getframe currentframe f_globals f_locals modules get_objects get_referrers".split()
)
_CODE_MAGICS = frozenset("time timeit capture prun".split())
_HARMLESS_MAGICS = frozenset(
    "jammi jammi_py load_ext reload_ext unload_ext config matplotlib pip conda uv who whos pwd ls "
    "cd env history pinfo pinfo2 xmode precision html javascript markdown latex svg bash sh "
    "system sx alias_magic autosave lsmagic magic quickref".split()
)
_IN_PLACE = frozenset(
    "insert update pop popitem extend append insert_column replace_column drop_in_place set fill "
    "put place setitem itemset sort partition resize copyto putmask fill_diagonal at clear "
    "setdefault remove reverse shuffle extend_constant set_at_idx __setitem__ __delitem__ "
    "__iadd__".split()
)
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
        ast.Call,
        ast.alias,
    )
)
"""The nodes that `names_of_cell` looks at."""


_LEAF_FIELDS = frozenset(("ctx", "op", "ops", "id", "attr"))
"""Fields of nodes below which no name stands."""
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


def parse_cell(source: str) -> ast.Module | None:
    """The syntax tree of a cell after IPython's own transformations; None when it is not valid."""
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
            child = getattr(each, name, None)
            if isinstance(child, list):
                found += [item for item in child if isinstance(item, ast.AST)]
            elif isinstance(child, ast.AST):
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


def names_of_cell(tree: ast.AST, values: Mapping[str, Any]) -> NamesOfCell:
    """The names that a cell uses, given the values of the notebook's names."""
    return _names_of([tree], values)


def _names_of(nodes: Sequence[ast.AST], values: Mapping[str, Any]) -> NamesOfCell:
    names = NamesOfCell()
    seen = set[str]()
    for node in _walk(nodes):
        if type(node) not in _NAMING_NODES:  # most nodes are constants and contexts
            continue
        if isinstance(node, ast.Name):  # before `match`, which costs more than all that it does
            if type(node.ctx) is not ast.Load:
                names.stored.add(node.id)
            elif node.id not in seen:
                seen.add(node.id)
                _add_loaded(names, node.id, values)
            continue
        match node:
            case ast.Subscript() | ast.Attribute():
                if not isinstance(node.ctx, ast.Load):
                    names.add_changed(_root(node))
                attribute = getattr(node, "attr", "")
                names.note_opaque(attribute if attribute in _OPAQUE_ATTRIBUTES else "")
            case ast.AugAssign(target=target):
                names.add_changed(_root(target))
            case ast.Call():
                _add_call(names, node, values)
            case ast.alias(name=name, asname=alias):
                module = name.partition(".")[0]
                names.stored.add(alias or module)
                names.note_opaque(name if module in _OPAQUE_NAMES or name == "*" else "")
            case ast.Global(names=declared) | ast.Nonlocal(names=declared):
                names.declared.update(declared)
        if type(node) in _STORING_NODES:
            names.stored |= _stored_names(node)
        if type(node) in _SCOPES:
            _add_scope(names, node, values)
    return names


def _add_loaded(names: NamesOfCell, name: str, values: Mapping[str, Any]) -> None:
    names.loaded.add(name)
    if name in values and is_of_user(type(values[name])):  # operators and properties are calls
        names.changed.add(name)
    names.note_opaque(name if name in _OPAQUE_NAMES else "")
    names.note_opaque(_foreign_module(values, name), reads_any=False)


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

    def argument_names() -> set[str]:
        return {name for argument in _arguments(call) for name in _loaded_names(argument)}

    in_place = any(keyword.arg in ("inplace", "in_place", "out") for keyword in call.keywords)
    match call.func:
        case ast.Name(id=name):
            if in_place or not _is_library_value(name, values):
                names.changed |= {name} | argument_names()
        case ast.Attribute(attr=method):
            root = {name for name in _root(call.func) if not _is_library_module(name, values)}
            if (
                in_place
                or method in _IN_PLACE
                or not all(_is_library_value(name, values) for name in root)
                or not _root(call.func)
            ):
                names.changed |= root | argument_names()
        case _:
            names.changed |= _loaded_names(call.func) | argument_names()


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
    if magic in _HARMLESS_MAGICS:
        return
    body = call.args[-1].value if isinstance(call.args[-1], ast.Constant) else None
    tree = parse_cell(body) if magic in _CODE_MAGICS and isinstance(body, str) else None
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
    while isinstance(node, ast.Attribute | ast.Subscript | ast.Starred | ast.Call):
        node = node.func if isinstance(node, ast.Call) else node.value
    return {node.id} if isinstance(node, ast.Name) else _loaded_names(node)


def _is_library_module(name: str, values: Mapping[str, Any]) -> bool:
    """Whether a name is a module of a library, which its own functions do not change."""
    return name in values and is_module(values[name]) and is_installed(values[name].__name__)


def _is_library_value(name: str, values: Mapping[str, Any]) -> bool:
    """Whether a name is a module, function, class or frame of a library, which changes its
    arguments in place only where it is known for that."""
    if name not in values:
        return hasattr(builtins, name)
    value = values[name]
    module = value.__name__ if is_module(value) else getattr(value, "__module__", None)
    if not is_module(value) and not callable(value):
        module = type(value).__module__
        if module == "builtins":
            return isinstance(value, str | bytes | int | float | complex | bool | None)
    return isinstance(module, str) and is_installed(module)


def is_of_user(kind: type) -> bool:
    """Whether a class was defined by the user, in the notebook or in a module of one's own."""
    return not is_installed(kind.__module__)


def is_module(value: object) -> bool:
    """Whether a value is a module."""
    return type(value).__name__ == "module"


def _foreign_module(values: Mapping[str, Any], name: str) -> str:
    """The module of a name's value if it is the user's own, outside the notebook, where code is not
    seen. Empty for values of the notebook and of libraries."""
    if name not in values:
        return ""
    value = values[name]
    has_module = isinstance(value, type | types.FunctionType | types.BuiltinFunctionType)
    module = (
        value.__name__ if is_module(value) else (value if has_module else type(value)).__module__
    )
    if not isinstance(module, str) or module in ("__main__", "builtins") or is_installed(module):
        return ""
    return f"the module {module}"


@functools.lru_cache(maxsize=4096)
def is_installed(module: str) -> bool:
    """Whether a module belongs to Python, to an installed package or to jammi_lab."""
    from jammi_lab.producers.function_source import is_library

    return is_library(module)
