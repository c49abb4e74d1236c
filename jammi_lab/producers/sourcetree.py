"""What the source of a function says: its syntax tree without comments, layout and docstrings, or its bytecode when the source has moved on."""

import __future__

import ast
import contextlib
import functools
import linecache
import threading
import types
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

_IGNORED = frozenset({"ctx", "kind", "type_comment", "type_ignores"})
_FUTURES = functools.reduce(int.__or__, (getattr(__future__, name).compiler_flag for name in __future__.all_feature_names))
Definition = ast.FunctionDef | ast.AsyncFunctionDef
_TRIES = 20
_parsing = threading.Lock()


class NoSource(Exception):
    """What a function does cannot be told from its source; the text says why, as a clause. Internal."""


@dataclass(frozen=True)
class Written:
    """A function whose definition was made here, and is in no file."""

    tree: ast.FunctionDef
    text: str
    first_line: int = 1
    """Which line of what a person sees its first one is."""


def says(function: types.FunctionType, written: Written | None = None) -> Any:
    """A JSON form of the function's own body and signature, equal for texts that differ only in comments, layout, docstrings or the function's name.

    When the file was changed after the function was made from it, its bytecode speaks in place of the source. NoSource when there is none.
    """
    if written is not None:
        return normal(written.tree, outermost=True)
    tree = definition_in_file(function)
    return ["bytecode", _bytecode(function.__code__)] if tree is None else normal(tree, outermost=True)


def text_of(function: types.FunctionType, written: Written | None = None) -> str:
    """The source as a person reads it; empty when the file has moved on or there is none."""
    if written is not None:
        return written.text
    try:
        tree = definition_in_file(function)
    except NoSource:
        return ""
    return "" if tree is None else "".join(_lines_around(function)[_first_line(tree) - 1 : tree.end_lineno])


def _lines_around(function: types.FunctionType) -> list[str]:
    """The lines of the file or cell in which a function stands. None of what was executed as a text: all such texts have one name, under which
    CPython 3.13 keeps that of `python -c` until somebody clears what it keeps."""
    name = function.__code__.co_filename
    return [] if name == "<string>" else linecache.getlines(name, function.__globals__)


def definition_in_file(function: types.FunctionType) -> Definition | None:
    """The function's definition in its file or cell; None when that is not (any more) what the function was made from. NoSource."""
    code = function.__code__
    if code.co_name == "<lambda>":
        raise NoSource("a lambda has no name to be found by")
    linecache.checkcache(code.co_filename)
    text = "".join(_lines_around(function))
    if not text:
        raise NoSource(f"the source of {function.__qualname__} is not at hand")
    found = _definitions(text, code.co_flags & _FUTURES).get(code.co_name, [])
    mine = _bytecode(code)  # wherever it stands now: lines that were put in above it do not matter
    same = [tree for tree, compiled in found if _bytecode(compiled) == mine]
    return next((tree for tree in same if _first_line(tree) == code.co_firstlineno), same[0] if same else None)


@functools.lru_cache(maxsize=256)
def _definitions(text: str, flags: int) -> dict[str, list[tuple[Definition, types.CodeType]]]:
    """The functions of a text by name, each with what it compiles to."""
    try:
        tree = _parsed(text)
        whole = compile(text, "<source>", "exec", flags=flags | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return {}
    compiled: dict[tuple[int, str], list[types.CodeType]] = {}
    for code in codes(whole):
        compiled.setdefault((code.co_firstlineno, code.co_name), []).append(code)
    found: dict[str, list[tuple[Definition, types.CodeType]]] = {}
    for node in ast.walk(tree):
        if isinstance(node, Definition):
            pairs = compiled.get((_first_line(node), node.name), [])
            if len(pairs) == 1:  # two on one line are not told apart
                found.setdefault(node.name, []).append((node, pairs[0]))
    return found


def _parsed(text: str) -> ast.Module:
    """The tree of a text. CPython 3.11 counts for all threads at once how deep it is in a tree, and gives up with SystemError when one begins while
    another is not done: so one of ours at a time, and again when it was somebody else's."""
    with _parsing:
        for _ in range(_TRIES):
            with contextlib.suppress(SystemError):
                return ast.parse(text)
        return ast.parse(text)


def _first_line(tree: Definition) -> int:
    return min([tree.lineno, *(d.lineno for d in tree.decorator_list)])


def codes(code: types.CodeType) -> Iterator[types.CodeType]:
    """A code object and all those inside it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from codes(constant)


def _bytecode(code: types.CodeType) -> Any:
    """All of a code object that shapes what it does; not where it stands."""
    return [
        code.co_code,
        [_bytecode(c) if isinstance(c, types.CodeType) else constant(c) for c in code.co_consts],
        [*code.co_names],
        [*code.co_varnames],
        [*code.co_freevars],
        [*code.co_cellvars],
        [code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount],
        code.co_exceptiontable,
    ]


def constant(value: Any) -> Any:
    """A constant of Python's source with its type, as JSON."""
    match value:
        case float():
            return ["float", value.hex()]
        case int() if not isinstance(value, bool):
            return ["int", hex(value)]
        case tuple():
            return ["tuple", [constant(v) for v in value]]
        case frozenset():
            return ["frozenset", sorted(map(repr, map(constant, value)))]
        case str():
            return ["str", value]
    return [type(value).__name__, repr(value)]


def normal(node: Any, *, outermost: bool = False) -> Any:
    """A syntax tree as JSON that is the same in every release of Python: fields that are empty are left out, and so are docstrings, unless some
    name or attribute in it is `__doc__`; `outermost` leaves out the name of the definition too."""
    says_doc = any(getattr(n, "id", getattr(n, "attr", None)) == "__doc__" for n in ast.walk(node))
    try:
        return _normal(node, says_doc, "name" if outermost else "")
    except RecursionError:
        raise NoSource("its source is nested too deeply") from None


def _normal(node: Any, docs: bool, without: str = "") -> Any:
    match node:
        case ast.Constant():
            return ["Constant", constant(node.value)]
        case ast.AST():
            fields = {name: value for name, value in ast.iter_fields(node) if name not in _IGNORED and name != without}
            if isinstance(node, ast.JoinedStr):
                fields["values"] = [each for each in node.values if getattr(each, "value", None) != ""]  # some of Python 3.12 put in empty ones
            if not docs and isinstance(node, Definition | ast.ClassDef) and ast.get_docstring(node, clean=False) is not None:
                fields["body"] = fields["body"][1:]
            return [type(node).__name__, {name: _normal(value, docs) for name, value in fields.items() if value not in (None, [])}]
        case list():
            return [_normal(each, docs) for each in node]
    return node
