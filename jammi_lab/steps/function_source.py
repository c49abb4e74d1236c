"""Normalised source of a function: its syntax tree without comments, layout and docstrings, or its
bytecode when the file has changed since."""

import __future__

import ast
import contextlib
import functools
import linecache
import pathlib
import struct
import sys
import sysconfig
import threading
import types
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

_IGNORED_FIELDS = frozenset({"ctx", "kind", "type_comment", "type_ignores"})
_FUTURE_FLAGS = functools.reduce(
    int.__or__, (getattr(__future__, name).compiler_flag for name in __future__.all_feature_names)
)
FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef
_MAX_PARSE_ATTEMPTS = 20
_parse_lock = threading.Lock()
_OWN_PACKAGES = frozenset({"jammi_lab", "jammi_kernel_ext", "jammi_widgets"})
_STDLIB = pathlib.Path(sysconfig.get_path("stdlib"))


class NoSource(Exception):
    """A function cannot be fingerprinted; the text is the reason, as a clause. Internal."""


@dataclass(frozen=True)
class InlineSource:
    """The source of a function that was compiled here and is in no file."""

    tree: ast.FunctionDef
    text: str
    first_line: int = 1
    """The line of the cell on which the function's text starts."""


def function_form(function: types.FunctionType, inline_source: InlineSource | None = None) -> Any:
    """JSON of a function's body and signature. Texts that differ only in comments, layout,
    docstrings or the function's name give the same JSON.

    Uses the bytecode when the file was changed after the function was compiled from it. Raises
    NoSource when there is no source.
    """
    if inline_source is not None:
        return normalized_tree(inline_source.tree)
    tree = find_definition(function)
    if tree is None:
        return ["bytecode", _bytecode_form(function.__code__)]
    return normalized_tree(tree)


def display_source(function: types.FunctionType, inline_source: InlineSource | None = None) -> str:
    """The source for display; empty when the file has changed since or there is none."""
    if inline_source is not None:
        return inline_source.text
    try:
        tree = find_definition(function)
    except NoSource:
        return ""
    if tree is None:
        return ""
    return "".join(_source_lines(function)[_first_line(tree) - 1 : tree.end_lineno])


def _source_lines(function: types.FunctionType) -> list[str]:
    """The lines of the file or cell that contains a function.

    Empty for code executed from a string: all such code shares the file name "<string>", under
    which CPython 3.13 caches the text of `python -c`."""
    name = function.__code__.co_filename
    return [] if name == "<string>" else linecache.getlines(name, function.__globals__)


def find_definition(function: types.FunctionType) -> FunctionNode | None:
    """The syntax tree of a function's definition; None when the file no longer contains it. Raises
    NoSource."""
    code = function.__code__
    if code.co_name == "<lambda>":
        raise NoSource("a lambda has no name")
    linecache.checkcache(code.co_filename)
    text = "".join(_source_lines(function))
    if not text:
        raise NoSource(f"the source of {function.__qualname__} is not available")
    bytecode = _bytecode_form(code)  # compare code, not lines: text above it may have moved it
    matching = []
    for tree, compiled in _definitions(text, code.co_flags & _FUTURE_FLAGS):
        if compiled.co_name == code.co_name and _bytecode_form(compiled) == bytecode:
            matching.append(tree)
    at_its_line = [tree for tree in matching if _first_line(tree) == code.co_firstlineno]
    return next(iter(at_its_line or matching), None)


@functools.lru_cache(maxsize=256)
def _definitions(text: str, flags: int) -> list[tuple[FunctionNode, types.CodeType]]:
    """The functions of a text, each with its code object as compiled with the whole text, and as
    IPython compiles it, each statement of a cell alone: a call of a method of a name that the
    same text imports has other bytecode. Two on one line are left out."""
    flags |= ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    found = list[tuple[FunctionNode, types.CodeType]]()
    try:
        statements = _parse(text).body
        for body in (statements, *([statement] for statement in statements)):
            part = ast.Module(body, [])
            compiled: dict[tuple[int, str], list[types.CodeType]] = {}
            module_code = compile(part, "<source>", "exec", flags=flags, dont_inherit=True)
            for code in nested_codes(module_code):
                compiled.setdefault((code.co_firstlineno, code.co_name), []).append(code)
            for node in ast.walk(part):
                if isinstance(node, FunctionNode):
                    codes = compiled.get((_first_line(node), node.name), [])
                    if len(codes) == 1:
                        found.append((node, codes[0]))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []
    return found


def _parse(text: str) -> ast.Module:
    """Parse a text.

    CPython 3.11 counts the parser's recursion depth for all threads together and raises SystemError
    when two threads parse at once. So one of our threads parses at a time, and retries when other
    code interferes."""
    with _parse_lock:
        for _ in range(_MAX_PARSE_ATTEMPTS):
            with contextlib.suppress(SystemError):
                return ast.parse(text)
        return ast.parse(text)


def _first_line(tree: FunctionNode) -> int:
    return min([tree.lineno, *(d.lineno for d in tree.decorator_list)])


def nested_codes(code: types.CodeType) -> Iterator[types.CodeType]:
    """A code object and all code objects nested in it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from nested_codes(constant)


def _bytecode_form(code: types.CodeType) -> Any:
    """Everything in a code object that determines its behaviour, without line numbers."""
    return [
        code.co_code,
        [
            _bytecode_form(c) if isinstance(c, types.CodeType) else constant_form(c)
            for c in code.co_consts
        ],
        [*code.co_names],
        [*code.co_varnames],
        [*code.co_freevars],
        [*code.co_cellvars],
        [code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount],
        code.co_exceptiontable,
    ]


def constant_form(value: Any) -> Any:
    """A literal with its type, as JSON."""
    match value:
        case float():
            return ["float", struct.pack(">d", value).hex()]
        case int() if not isinstance(value, bool):
            return ["int", hex(value)]
        case tuple():
            return ["tuple", [constant_form(v) for v in value]]
        case frozenset():
            return ["frozenset", sorted(map(repr, map(constant_form, value)))]
        case str():
            return ["str", value]
    return [type(value).__name__, repr(value)]


def normalized_tree(node: Any) -> Any:
    """A syntax tree as JSON that is equal in all Python releases.

    Empty fields and the name of the definition are left out. So are docstrings, unless the code
    mentions `__doc__`."""
    mentions_doc = any(
        getattr(n, "id", getattr(n, "attr", None)) == "__doc__" for n in ast.walk(node)
    )
    try:
        return _normalized(node, mentions_doc, "name")
    except RecursionError:
        raise NoSource("its source is nested too deeply") from None


def _normalized(node: Any, keep_docstrings: bool, omitted_field: str = "") -> Any:
    match node:
        case ast.Constant():
            return ["Constant", constant_form(node.value)]
        case ast.AST():
            fields = {
                name: value
                for name, value in ast.iter_fields(node)
                if name not in _IGNORED_FIELDS and name != omitted_field
            }
            if isinstance(node, ast.JoinedStr):
                # some releases of Python 3.12 insert empty string parts
                fields["values"] = [
                    item for item in node.values if getattr(item, "value", None) != ""
                ]
            if (
                not keep_docstrings
                and isinstance(node, FunctionNode | ast.ClassDef)
                and ast.get_docstring(node, clean=False) is not None
            ):
                fields["body"] = fields["body"][1:]
            return [
                type(node).__name__,
                {
                    name: _normalized(value, keep_docstrings)
                    for name, value in fields.items()
                    if value not in (None, [])
                },
            ]
        case list():
            return [_normalized(item, keep_docstrings) for item in node]
    return node


def is_library(module: str) -> bool:
    """Whether a module belongs to Python, an installed package or jammi_lab. Such modules are
    recorded by name and not followed."""
    if module == "__main__":  # holds a notebook's variables, whatever its file is
        return False
    if module.partition(".")[0] in _OWN_PACKAGES:
        return True
    file = getattr(sys.modules.get(module), "__file__", None)
    if file is None:
        return module.partition(".")[0] in sys.stdlib_module_names or module in sys.modules
    return is_library_file(file)


def is_library_file(file: str | None) -> bool:
    """Whether a file belongs to Python or an installed package; True when there is no file."""
    if file is None or file in ("built-in", "frozen"):
        return True
    path = pathlib.Path(file)
    return path.is_relative_to(_STDLIB) or not {"site-packages", "dist-packages"}.isdisjoint(
        path.parts
    )
