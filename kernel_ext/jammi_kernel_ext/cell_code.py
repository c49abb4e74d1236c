"""What code uses: the notebook's names that it loads and stores, by its code objects, and the
objects that a statement of a cell changes in place, by its syntax tree."""

import ast
import contextlib
import dis
import functools
import re
import types
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from jammi_kernel_ext.cell_words import (
    CODE_MAGICS,
    HARMLESS_MAGICS,
    IN_PLACE,
    OPAQUE_ATTRIBUTES,
    OPAQUE_STORED,
    SETTERS,
    TEXT_METHODS,
    changes_in_place,
)
from jammi_kernel_ext.statement_parameters import parameter_names

_WORD = re.compile(r"[^\W\d]\w*")
_MAX_TEXT_CHARACTERS = 20_000
_MAGIC_CALLS = frozenset(("run_line_magic", "run_cell_magic", "system", "getoutput"))


_LOADS = frozenset(("LOAD_NAME", "LOAD_GLOBAL", "LOAD_FROM_DICT_OR_GLOBALS"))
_STORES = frozenset(("STORE_NAME", "DELETE_NAME"))
_GLOBAL_STORES = frozenset(("STORE_GLOBAL", "DELETE_GLOBAL"))
_WRITES = _GLOBAL_STORES | frozenset(
    "STORE_SUBSCR DELETE_SUBSCR STORE_SLICE STORE_ATTR DELETE_ATTR STORE_DEREF".split()
)


@dataclass(frozen=True, slots=True)
class CodeUse:
    """What a code object and those in it use."""

    loaded: frozenset[str]
    """Names of the notebook that it may read."""
    stored: frozenset[str]
    """Those that it assigns or deletes."""
    late: frozenset[str]
    """Those that functions in it may read when they are called."""
    words: frozenset[str]
    """All names in it, also of attributes and of keyword arguments."""
    texts: frozenset[str]
    """Its texts."""
    changes: bool
    """Whether functions in it may change anything in place."""


@functools.lru_cache(maxsize=1024)
def uses_of(code: types.CodeType, *, is_function: bool = True) -> CodeUse:
    """What code uses. The names that a module assigns are the notebook's, those of a function are
    not."""
    loaded, stored, operations = set[str](), set[str](), set[str]()
    for step in dis.get_instructions(code):
        operations.add(step.opname)
        if step.opname in _LOADS:
            loaded.add(step.argval)
        elif step.opname == "IMPORT_NAME":
            loaded.add(step.argval.partition(".")[0])
        elif step.opname in _GLOBAL_STORES or (step.opname in _STORES and not is_function):
            stored.add(step.argval)
    words, texts, inner = set(code.co_names), set[str](), list[CodeUse]()
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            inner.append(uses_of(constant))
        elif isinstance(constant, str):
            texts.add(constant)
        elif isinstance(constant, tuple):
            found = {each for each in constant if isinstance(each, str)}
            words |= found
            texts |= found
    late = set[str]().union(*(each.loaded for each in inner))
    changes = not _WRITES.isdisjoint(operations) or any(map(changes_in_place, words))
    return CodeUse(
        frozenset(loaded | late),
        frozenset(stored.union(*(each.stored for each in inner))),
        frozenset(late),
        frozenset(words.union(*(each.words for each in inner))),
        frozenset(texts.union(*(each.texts for each in inner))),
        (is_function and changes) or any(each.changes for each in inner),
    )


@dataclass(slots=True)
class CellStep:
    """A statement of a cell."""

    line: int
    uses: CodeUse
    loaded: set[str]
    """The names whose former values it may read."""
    replaced: frozenset[str] = frozenset()
    """The names that it gives another object, whatever happens in it."""
    targets: dict[str, bool] = field(default_factory=dict)
    """Names whose objects it changes in place; whether also the objects that these hold."""
    given: list[str] = field(default_factory=list)
    """Names that it gives to a function that works in place, unless that is a method of the
    targets."""
    setters: list[str] = field(default_factory=list)
    """Names by which it sets an option, a seed or the like."""
    texts: list[str] = field(default_factory=list)
    """Names of texts that may name variables."""
    opaque: str = ""
    """What in it cannot be followed."""


def steps_of(source: str, values: Mapping[str, Any]) -> list[CellStep]:
    """The statements of a cell after IPython's transformations. SyntaxError."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return [
            _step_of(inner, values, statement.lineno)
            for statement in ast.parse(source).body
            for inner in _code_of_magic(statement)
        ]


def _code_of_magic(statement: ast.stmt) -> list[ast.stmt]:
    """The statements that a magic such as `%%time` runs; the statement itself if it is none, or has
    code on its line, too, as `%%timeit` may."""
    match statement:
        case ast.Expr(
            value=ast.Call(
                func=ast.Attribute(attr="run_line_magic" | "run_cell_magic"),
                args=[ast.Constant(value=magic), *line, ast.Constant(value=str(text))],
            )
        ) if magic in CODE_MAGICS and {"=", "("}.isdisjoint("".join(map(ast.unparse, line))):
            with contextlib.suppress(SyntaxError):
                return ast.parse(text).body
    return [statement]


def _step_of(statement: ast.stmt, values: Mapping[str, Any], line: int) -> CellStep:
    module = ast.Module([statement], [])
    code = compile(module, "<cell>", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    uses = uses_of(code, is_function=False)
    step = CellStep(line, uses, set(uses.loaded), _replaced_names(statement))
    step.opaque = next(iter(sorted(uses.words & OPAQUE_ATTRIBUTES)), "")
    if isinstance(statement, ast.For) and not statement.orelse:
        read = {*names_in(statement.iter), *uses.late}
        for node in ast.walk(statement.target):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                step.loaded -= {node.id} - read
    _TreeReader(step, values).read(statement)
    return step


def _replaced_names(statement: ast.stmt) -> frozenset[str]:
    match statement:
        case ast.Assign(targets=targets):
            parts: list[ast.AST] = list(targets)
        case ast.AnnAssign(target=target, value=ast.expr()):
            parts = [target]
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            return frozenset((name,))
        case ast.Import(names=aliases) | ast.ImportFrom(names=aliases):
            return frozenset(each.asname or each.name.partition(".")[0] for each in aliases)
        case _:
            return frozenset()
    nodes = (node for part in parts for node in ast.walk(part))
    return frozenset(
        node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    )


class _TreeReader:
    """Reads what a statement changes in place from its syntax tree."""

    def __init__(self, step: CellStep, values: Mapping[str, Any]) -> None:
        self._step, self._values = step, values

    def read(self, statement: ast.stmt) -> None:
        nodes: list[ast.AST] = [statement]
        for node in nodes:
            self._read_node(node)
            nodes += ast.iter_child_nodes(node)

    def _read_node(self, node: ast.AST) -> None:
        match node:
            case ast.Subscript(ctx=ast.Store() | ast.Del()):
                self._add_target(node.value)
            case ast.Attribute(ctx=ast.Store() | ast.Del(), attr=name):
                self._add_target(node.value)
                if name in OPAQUE_STORED:
                    self._step.opaque = name
            case ast.Attribute(attr=name) if name in IN_PLACE and name != "at":  # of pandas
                self._add_target(node.value)  # it may be called elsewhere: `map(found.append, …)`
            case ast.AugAssign(target=ast.Name(id=name) as target):
                self._add_target(target)
                self._step.loaded.add(name)
            case ast.Call():
                self._read_call(node)

    def _add_target(self, owner: ast.expr) -> None:
        """Add the object that an expression names: that of a name, or what a chain of attributes
        and elements reaches from one."""
        is_deep = not isinstance(owner, ast.Name)
        while isinstance(owner, ast.Attribute | ast.Subscript):
            owner = owner.value
        for name in names_in(owner):
            self._step.targets[name] = is_deep or self._step.targets.get(name, False)

    def _read_call(self, call: ast.Call) -> None:
        function, owner = call.func, None
        method = getattr(function, "id", "")
        if isinstance(function, ast.Attribute):
            method, owner = function.attr, function.value
        if method in _MAGIC_CALLS and isinstance(owner, ast.Call):
            self._read_magic(call, method)
        elif method in TEXT_METHODS:
            self._read_text(call, method)
        if method.startswith(SETTERS):
            self._step.setters += names_in(function)
        words = [keyword.arg or "" for keyword in call.keywords]
        if owner is not None or method in self._values:  # `set` is a method, and a class of Python
            words.append(method)
        if method == "__init__" or any(map(changes_in_place, words)):
            if owner is not None:
                self._add_target(owner)
            self._step.given += names_in(*call.args, *call.keywords)

    def _read_text(self, call: ast.Call, method: str) -> None:
        """Add the variables that the text in an argument names, as in `df.query("x > @limit")` and
        `duckdb.sql("FROM df")`. Our own statements report what they read."""
        for name in names_in(call.func):
            if is_own(type(self._values.get(name))):
                return
        for argument in (*call.args, *call.keywords):
            for node in ast.walk(argument):
                match node:
                    case ast.Constant(value=str(text)):
                        self._step.loaded |= words_of(text)
                    case ast.Name(id=name):
                        self._step.texts.append(name)
                    case ast.Call() | ast.Attribute() | ast.Subscript():
                        self._step.opaque = self._step.opaque or f"a computed text in {method}"

    def _read_magic(self, call: ast.Call, method: str) -> None:
        texts = [each.value for each in call.args if isinstance(each, ast.Constant)]
        magic = "system" if method in ("system", "getoutput") else str(texts[0])
        if magic == "jammi":
            self._step.loaded |= set(parameter_names(str(texts[-1])))
        elif magic != "jammi_py":  # ours expand nothing
            for text in texts:
                self._step.loaded |= words_of(str(text))
        if magic in HARMLESS_MAGICS:
            return
        self._step.opaque = self._step.opaque or f"%{magic}"


def words_of(text: str) -> set[str]:
    """The words of a text, each of which may name a variable."""
    return set(_WORD.findall(text[:_MAX_TEXT_CHARACTERS]))


def names_in(*nodes: ast.AST) -> list[str]:
    """The names within some nodes."""
    return [node.id for outer in nodes for node in ast.walk(outer) if isinstance(node, ast.Name)]


def is_own(kind: type) -> bool:
    """Whether a class is of jammi_lab, whose rows are recorded when they leave its objects."""
    library = str(kind.__module__).partition(".")[0]
    return library in ("jammi_lab", "jammi_widgets", "jammi_kernel_ext")
