"""The code of the packages, parsed once in a process."""

import ast
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PRODUCT = [
    ROOT / "jammi_lab",
    ROOT / "kernel_ext" / "jammi_kernel_ext",
    ROOT / "widgets" / "jammi_widgets",
]


@cache
def files() -> list[Path]:
    return sorted(file for folder in PRODUCT for file in folder.rglob("*.py"))


@cache
def parsed(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


@cache
def nodes(file: Path) -> list[ast.AST]:
    """A module and all that is below it."""
    return list(ast.walk(parsed(file)))


def name_of(file: Path) -> str:
    """Its path in the repository."""
    return file.relative_to(ROOT).as_posix()
