"""The budgets of the house: a module that outgrows them is split, not excused.

Only code lines count: no blank lines, comments, docstrings, signatures, overloads, imports or
tables of data.
"""

import ast
import functools
import statistics
from collections.abc import Iterator
from pathlib import Path

from tests.shape.code import files, name_of, nodes, parsed

MODULE_LINES = 400
MEDIAN_MODULE_LINES = 170
FUNCTION_LINES = 50
NINE_IN_TEN_FUNCTIONS_LINES = 35

Function = ast.FunctionDef | ast.AsyncFunctionDef


def lines_of(node: ast.stmt) -> set[int]:
    return set(range(node.lineno, (node.end_lineno or node.lineno) + 1))


def is_docstring(node: ast.AST) -> bool:
    match node:
        case ast.Expr(value=ast.Constant(value=str())):
            return True
    return False


def is_overload(node: ast.AST) -> bool:
    return isinstance(node, Function) and any(
        "overload" in ast.unparse(decorator) for decorator in node.decorator_list
    )


def is_data(node: ast.stmt) -> bool:
    literal = ast.Constant | ast.Dict | ast.List | ast.Set | ast.Tuple | ast.JoinedStr
    return isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(node.value, literal)


def not_code(tree: ast.AST) -> Iterator[int]:
    """Numbers of the lines below a node that are not counted."""
    for node in ast.walk(tree):
        if is_docstring(node) or is_overload(node) or isinstance(node, ast.Import | ast.ImportFrom):
            yield from lines_of(node)  # type: ignore[arg-type]
        elif isinstance(node, Function):
            yield from range(node.lineno, node.body[0].lineno)
        elif isinstance(node, ast.Module):
            yield from (line for each in node.body if is_data(each) for line in lines_of(each))


@functools.cache
def lines(file: Path) -> list[str]:
    return file.read_text(encoding="utf-8").splitlines()


def code_lines(file: Path, node: ast.AST | None = None) -> int:
    """The code lines of a module, or of one function in it."""
    text = lines(file)
    skipped = set(not_code(node or parsed(file)))
    numbers = lines_of(node) if isinstance(node, ast.stmt) else range(1, len(text) + 1)
    return sum(n not in skipped and text[n - 1].strip()[:1] not in ("", "#") for n in numbers)


def functions() -> Iterator[tuple[str, int]]:
    for file in files():
        for node in nodes(file):
            if isinstance(node, Function):
                yield f"{name_of(file)}:{node.name}", code_lines(file, node)


def test_no_module_has_more_than_400_lines_of_code():
    lengths = {name_of(file): code_lines(file) for file in files()}
    assert lengths
    assert not {name: lines for name, lines in lengths.items() if lines > MODULE_LINES}
    assert statistics.median(lengths.values()) <= MEDIAN_MODULE_LINES


def test_no_function_has_more_than_50_lines_of_code():
    lengths = dict(functions())
    longer = {name for name, lines in lengths.items() if lines > FUNCTION_LINES}
    assert lengths
    assert not longer
    assert sorted(lengths.values())[int(0.9 * (len(lengths) - 1))] <= NINE_IN_TEN_FUNCTIONS_LINES


def test_every_module_says_what_it_is_for():
    assert not [name_of(file) for file in files() if not ast.get_docstring(parsed(file))]
