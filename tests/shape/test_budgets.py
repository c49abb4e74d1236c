"""The budgets of STYLE §2: a module that outgrows them is split, not excused."""

import ast
import functools
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PRODUCT = [ROOT / "jammi_lab", ROOT / "kernel_ext" / "jammi_kernel_ext", ROOT / "widgets" / "jammi_widgets"]
MODULE_LINES = 400
FUNCTION_LINES = 60
NINE_IN_TEN = 35


def modules() -> list[Path]:
    return sorted(file for folder in PRODUCT for file in folder.rglob("*.py"))


@functools.cache
def parsed(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


@functools.cache
def functions(file: Path) -> list[tuple[str, int]]:
    found = [node for node in ast.walk(parsed(file)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    return [(f"{file.relative_to(ROOT)}:{node.lineno} {node.name}", (node.end_lineno or node.lineno) - node.lineno + 1) for node in found]


def test_no_module_is_longer_than_400_lines():
    lengths = {str(file.relative_to(ROOT)): len(file.read_text(encoding="utf-8").splitlines()) for file in modules()}
    assert lengths
    assert not {name: lines for name, lines in lengths.items() if lines > MODULE_LINES}


def test_no_function_is_longer_than_60_lines():
    lengths = [pair for file in modules() for pair in functions(file)]
    assert lengths
    assert not [f"{name}: {lines} lines" for name, lines in lengths if lines > FUNCTION_LINES]


def test_nine_functions_in_ten_have_at_most_35_lines():
    lengths = sorted(lines for file in modules() for _, lines in functions(file))
    assert lengths[int(0.9 * (len(lengths) - 1))] <= NINE_IN_TEN


def test_every_module_says_what_it_is_for():
    assert not [str(file.relative_to(ROOT)) for file in modules() if not ast.get_docstring(parsed(file))]
