"""`%%jammi_py`: the cell's text as a Python step, whose inputs are variables in it and whose last expression is the frame."""

import ast
import linecache
import types
from collections.abc import Iterable
from typing import Any

from jammi_kernel_ext.arguments import STEP, cell_wants_help, parse_step
from jammi_kernel_ext.badges import above_made
from jammi_kernel_ext.cell import shown
from jammi_kernel_ext.display import Help
from jammi_kernel_ext.notebook import Notebook
from jammi_kernel_ext.running import told
from jammi_lab.errors import InvalidArgument
from jammi_lab.producers.python import Step
from jammi_lab.producers.sourcetree import Written


def run_step(notebook: Notebook, line: str, text: str) -> Any:
    """What the cell shows: the ResultTable; None when it is quiet."""
    if cell_wants_help(line):
        return Help("jammi_py")
    options = parse_step(line)
    step = step_of(options["NAME"], options["inputs"], text, notebook.shell.user_ns if notebook.shell is not None else {})
    with told(notebook.line):
        table = notebook.workspace._cell_compute(
            options["NAME"],
            step,
            list(options["inputs"].values()),
            options["version"],
            options["key"],
            "bypass" if options["bypass"] else "use",
            notebook.line,
        )
    return shown(notebook, table if options["quiet"] else above_made(notebook, table), quiet=options["quiet"])


def step_of(name: str, inputs: Iterable[str], text: str, namespace: dict[str, Any]) -> Step:
    """The text as a function of its inputs, over the notebook's variables. InvalidArgument, with the place, for what is no such text."""
    called = name if name.isidentifier() else "step"
    filename = f"<jammi_py {name}>"
    try:
        module = ast.parse(f"def {called}({', '.join(inputs)}): pass")
        [tree] = module.body
        assert isinstance(tree, ast.FunctionDef), "it was written so just now"
        tree.body = _body(ast.parse(text, filename).body, text)
        code = compile(module, filename, "exec", dont_inherit=True)
    except SyntaxError as error:
        at = sum(len(each) + 1 for each in text.split("\n")[: (error.lineno or 1) - 1]) + max((error.offset or 1) - 1, 0)
        raise InvalidArgument(f"The cell is no Python: {error.msg}.").at(text, at) from None
    linecache.cache[filename] = (len(text), None, text.splitlines(keepends=True), filename)
    made: dict[str, Any] = {}
    exec(code, namespace, made)  # noqa: S102  it only defines the function; a notebook's variables are its globals
    function = made[called]
    assert isinstance(function, types.FunctionType), "it is the one definition of that text"
    return Step(function, Written(tree, text, first_line=2))


def _body(statements: list[ast.stmt], text: str) -> list[ast.stmt]:
    """The statements of a function that returns the last expression. InvalidArgument when there is none."""
    if not statements:
        raise InvalidArgument("The cell holds no Python.", hint=f"Usage: {STEP.usage}")
    last = statements[-1]
    if _finds(statements, ast.Yield | ast.YieldFrom) or isinstance(last, ast.Return):
        return statements
    if isinstance(last, ast.Expr):
        returned = ast.copy_location(ast.Return(value=last.value), last)
        return [*statements[:-1], returned]
    if _finds(statements, ast.Return):
        return statements
    start = sum(len(each) + 1 for each in text.split("\n")[: last.lineno - 1]) + last.col_offset
    raise InvalidArgument("The last line of the cell is no expression, so there is no frame.", hint="End with the frame that is to be kept.").at(
        text, start
    )


def _finds(statements: list[ast.stmt], kind: Any) -> bool:
    """Whether there is such a node, other than in functions and classes inside."""
    stack: list[ast.AST] = [*statements]
    while stack:
        node = stack.pop()
        if isinstance(node, kind):
            return True
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda):
            stack += ast.iter_child_nodes(node)
    return False
