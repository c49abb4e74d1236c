"""The text of a `%%jammi_py` cell as a function of its inputs."""

import ast
import linecache
import types
from collections.abc import Iterable
from typing import Any

from jammi_lab.core.errors import InvalidArgument
from jammi_lab.steps.function_source import InlineSource
from jammi_lab.steps.step_functions import StepFunction


def build_step(
    name: str, inputs: Iterable[str], text: str, namespace: dict[str, Any]
) -> StepFunction:
    """Compile the text to a function of its inputs, with the notebook's variables as globals.
    InvalidArgument, with the position, for a syntax error or a missing last expression."""
    function_name = name if name.isidentifier() else "step"
    filename = f"<jammi_py {name}>"
    try:
        module = ast.parse(f"def {function_name}({', '.join(inputs)}): pass")
        [tree] = module.body
        assert isinstance(tree, ast.FunctionDef), "it was written so just now"
        tree.body = _function_body(ast.parse(text, filename).body, text)
        code = compile(module, filename, "exec", dont_inherit=True)
    except SyntaxError as error:
        position = sum(len(each) + 1 for each in text.split("\n")[: (error.lineno or 1) - 1]) + max(
            (error.offset or 1) - 1, 0
        )
        raise InvalidArgument(f"The cell is not valid Python: {error.msg}.").with_position(
            text, position
        ) from None
    linecache.cache[filename] = (len(text), None, text.splitlines(keepends=True), filename)
    definitions: dict[str, Any] = {}
    exec(code, namespace, definitions)  # noqa: S102  only defines the function
    function = definitions[function_name]
    assert isinstance(function, types.FunctionType), "it is the one definition of that text"
    return StepFunction(function, InlineSource(tree, text, first_line=2))


def _function_body(statements: list[ast.stmt], text: str) -> list[ast.stmt]:
    """The statements of a function body that returns the last expression. InvalidArgument when
    there is none."""
    if not statements:
        raise InvalidArgument(
            "The cell contains no Python code.", hint="End with the frame to store."
        )
    last = statements[-1]
    if _contains_node(statements, ast.Yield | ast.YieldFrom) or isinstance(last, ast.Return):
        return statements
    if isinstance(last, ast.Expr):
        return_statement = ast.copy_location(ast.Return(value=last.value), last)
        return [*statements[:-1], return_statement]
    if _contains_node(statements, ast.Return):
        return statements
    start = sum(len(each) + 1 for each in text.split("\n")[: last.lineno - 1]) + last.col_offset
    raise InvalidArgument(
        "The last line of the cell must be an expression that returns a frame.",
        hint="End with the frame to store.",
    ).with_position(text, start)


def _contains_node(statements: list[ast.stmt], kind: Any) -> bool:
    """Whether the statements contain a node of a kind, not counting nested functions and
    classes."""
    stack: list[ast.AST] = [*statements]
    while stack:
        node = stack.pop()
        if isinstance(node, kind):
            return True
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda):
            stack += ast.iter_child_nodes(node)
    return False
