"""Syntax trees of cells: their nodes, scopes, and the names that an expression reads or stores."""

import ast
import functools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

_CHAINED = frozenset((ast.Attribute, ast.Subscript, ast.Starred, ast.Call))
LATE_BODIES = (
    ast.FunctionDef,
    ast.AsyncFunctionDef,
    ast.Lambda,
    ast.ClassDef,
    ast.GeneratorExp,
)
COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
SCOPES = frozenset((*LATE_BODIES, *COMPREHENSIONS))
"""The nodes with names of their own."""
STATEMENTS = frozenset(
    (
        ast.AugAssign,
        ast.AnnAssign,
        ast.NamedExpr,
        ast.For,
        ast.AsyncFor,
        ast.withitem,
        ast.Match,
        ast.MatchAs,
        ast.MatchStar,
        ast.MatchMapping,
        ast.ExceptHandler,
        ast.alias,
        ast.Global,
        ast.Nonlocal,
    )
)
"""Statements and their parts that name something, beside assignments and scopes."""


_LEAF_FIELDS = frozenset(
    "ctx op ops id attr arg asname module level conversion simple is_async kind type_comment "
    "type_ignores".split()
)
"""Fields of nodes below which no name stands."""
_LEAVES = frozenset((ast.Constant, str, int, type(None)))
"""What stands in the fields of nodes and names nothing."""
_CHILD_FIELDS: dict[type, tuple[str, ...] | None] = {
    kind: tuple(field for field in kind._fields if field not in _LEAF_FIELDS)
    for kind in vars(ast).values()
    if isinstance(kind, type) and issubclass(kind, ast.AST)
}
_CHILD_FIELDS[ast.Constant] = ()
_CHILD_FIELDS |= dict.fromkeys(SCOPES)
"""The fields of each kind of node below which names may stand; None for scopes."""


@dataclass(slots=True)
class NamesOfCell:
    """The names that a cell uses. Sets that stay empty for most statements are shared until then:
    the garbage collector runs by the number of new objects."""

    loaded: set[str] = field(default_factory=set)
    """Names that it reads, in nested functions too, without those that are the functions' own."""
    stored: set[str] = field(default_factory=set)
    """Names that it assigns, imports, defines or deletes."""
    declared: frozenset[str] = frozenset()
    """Names that a function of it declares as global or nonlocal."""
    late: frozenset[str] = frozenset()
    """Names that functions, classes and generators of the cell read when they run."""
    changed: set[str] = field(default_factory=set)
    """Names whose values it may change in place."""
    aliases: list[tuple[ast.AST, ast.AST]] = field(default_factory=list)
    """Targets, each with an expression whose objects it may name, too."""
    user_objects: frozenset[str] = frozenset()
    """Names that it reads of objects whose operators are code of the user."""
    states: frozenset[str] = frozenset()
    """Files and states of modules that it uses."""
    handles: frozenset[str] = frozenset()
    """Those of which it makes an object that reads and writes them."""
    files: frozenset[str] = frozenset()
    """Files that it reads."""
    filled: frozenset[str] = frozenset()
    """Names whose attributes or elements it assigns."""
    harmless: frozenset[tuple[str, int]] = frozenset()
    """Functions that it defines which do not change the frames they get, with their lines."""
    opaque: str = ""
    """What cannot be followed in it, as a word; empty when all can."""
    reads_any: bool = False
    """Whether it may read any name of the notebook. A module of one's own is not followed, but
    knows only what it was given."""

    def note_opaque(self, word: str, *, reads_any: bool = True) -> None:
        """Note what cannot be followed; the first word stays."""
        self.opaque = self.opaque or word
        self.reads_any |= bool(word) and reads_any

    def add_state(self, name: str) -> None:
        """Add a file or the state of a module that is read and changed."""
        self.loaded.add(name)
        self.changed.add(name)
        self.states |= {name}

    def add(self, other: "NamesOfCell") -> None:
        """Add the names that other code of the cell uses."""
        self.loaded |= other.loaded
        self.stored |= other.stored
        self.changed |= other.changed
        if other.filled:
            self.filled |= other.filled
        if other.harmless:
            self.harmless |= other.harmless
        if other.declared:
            self.declared |= other.declared
        if other.states:
            self.add_states(other)
        if other.opaque:
            self.note_opaque(other.opaque, reads_any=other.reads_any)

    def add_states(self, inner: "NamesOfCell") -> None:
        """Add the files and states of modules that an inner scope uses."""
        self.states |= inner.states
        self.handles |= inner.handles
        self.files |= inner.files

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


def only_names_objects(tree: ast.Module) -> bool:
    """Whether a cell does nothing but give names, or places in new containers, to objects that
    other names hold, as in `a, b = b, a`. Which objects these are depends on nothing else."""
    naming = (ast.Name, ast.Tuple, ast.List, ast.Dict, ast.Constant)
    return all(
        isinstance(node, ast.Assign)
        and all(
            isinstance(part, naming) or not isinstance(part, ast.expr)
            for side in (node.value, *node.targets)
            for part in ast.walk(side)
        )
        for node in tree.body
    )


def walk(nodes: Sequence[ast.AST]) -> list[ast.AST]:
    """The nodes and all below them, without contexts and operators, and of functions, classes and
    comprehensions only what is evaluated outside of them. About twice as fast as the walk of the
    module ast, which costs most of what following a cell does."""
    found = list(nodes)
    for each in found:  # grows while it is read
        kind = type(each)
        if kind is ast.Name:
            continue
        fields = _CHILD_FIELDS[kind]
        if fields is None:
            found += outer_nodes(each)
            continue
        for name in fields:
            child: Any = getattr(each, name, None)
            kind = type(child)
            if kind is list:
                if child:
                    found += [item for item in child if type(item) not in _LEAVES]
            elif kind not in _LEAVES:
                found.append(child)
    return found


def outer_nodes(scope: ast.AST) -> list[ast.AST]:
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


def inner_nodes(scope: ast.AST) -> list[ast.AST]:
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


def own_names(scope: ast.AST, stored: set[str]) -> set[str]:
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
    return {name for node in walk(targets) for name in stored_names(node)}


def stored_names(node: ast.AST) -> set[str]:
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


def arguments(call: ast.Call) -> list[ast.expr]:
    """The arguments of a call, by position and by keyword."""
    return [*call.args, *[keyword.value for keyword in call.keywords]]


def loaded_names(*nodes: ast.AST) -> set[str]:
    """The names that nodes read, without those that are the scopes' own."""
    loaded = set[str]()
    for node in walk(nodes):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            loaded.add(node.id)
        elif type(node) in SCOPES:
            inner = inner_nodes(node)
            stored = {name for each in walk(inner) for name in stored_names(each)}
            declared = {name for each in walk(inner) for name in getattr(each, "names", ())}
            loaded |= loaded_names(*inner) - (own_names(node, stored) - declared)
    return loaded


def root_names(node: ast.AST) -> set[str]:
    """The names at the start of a chain of attributes, subscripts and calls. An expression at the
    start counts with all its names."""
    inner: Any = node
    while (kind := type(inner)) in _CHAINED:
        inner = inner.func if kind is ast.Call else inner.value
    node = inner
    return {node.id} if isinstance(node, ast.Name) else loaded_names(node)
