"""Rows turn ready in one place (DESIGN §4.3): import-linter guards who imports it, this test that
there is no second one."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SQL = re.compile(r"\bset\b.*\bstatus\s*=\s*'ready'", re.IGNORECASE | re.DOTALL)
IN_MEMORY = {"TableRecord", "replace", "_replace", "with_values"}
READS = {"list", "tables"}


def means_ready(node: ast.expr | None) -> bool:
    match node:
        case ast.Constant(value="ready") | ast.Attribute(attr="READY"):
            return True
        case ast.Attribute(value=inner, attr="value") | ast.Call(args=[inner]):
            return means_ready(inner)
    return False


def called(node: ast.expr) -> str:
    return (
        node.attr
        if isinstance(node, ast.Attribute)
        else node.id
        if isinstance(node, ast.Name)
        else ""
    )


def sets_ready(node: ast.AST) -> bool:
    """Whether a node writes the status `ready`: as an argument, in a dict of values, or in an
    UPDATE as text. Values in memory and reads do not count."""
    match node:
        case ast.Call(func=function, keywords=keywords) if (
            called(function) not in IN_MEMORY | READS
        ):
            return any(k.arg == "status" and means_ready(k.value) for k in keywords)
        case ast.Dict(keys=keys, values=values):
            names = [
                k.value if isinstance(k, ast.Constant) else called(k) if k else None for k in keys
            ]
            return any(
                name == "status" and means_ready(value)
                for name, value in zip(names, values, strict=True)
            )
        case ast.Constant(value=str(text)):
            return bool(SQL.search(text))
    return False


def transitions(folder: Path) -> Iterator[tuple[str, str]]:
    for file in sorted(folder.rglob("*.py")):
        text = file.read_text(encoding="utf-8")
        if "ready" not in text.lower():
            continue
        for function in ast.walk(ast.parse(text)):
            if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef) and any(
                sets_ready(node) for node in ast.walk(function)
            ):
                yield file.relative_to(folder).as_posix(), function.name


def test_exactly_one_function_sets_a_row_to_ready():
    assert [file for file, _ in transitions(ROOT / "jammi_lab")] == ["catalog/table_status.py"]


def test_the_search_finds_each_way_to_write_the_status(tmp_path):
    ways = [
        "t.update().values(status=TableStatus.READY)",
        "t.update().values(status=TableStatus.READY.value)",
        "t.update().values({'status': 'ready', 'row_count': 1})",
        "t.update().values({t.c.status: 'ready'})",
        "t.update().values(**fields, status='ready')",
        "self._change(name, 'building', writer, status='ready')",
        "tx.execute(_FLIP, {'name': name, 'status': TableStatus.READY.value})",
        "run(\"UPDATE result_tables SET row_count = 1, status = 'ready' WHERE table_name = ?\")",
    ]
    (tmp_path / "ways.py").write_text(
        "\n".join(f"def way_{i}(t):\n    {way}" for i, way in enumerate(ways))
    )
    assert len(list(transitions(tmp_path))) == len(ways)


def test_the_search_leaves_reads_alone(tmp_path):
    (tmp_path / "reads.py").write_text(
        "def read(t):\n    return t.select().where(t.c.status == 'ready'), catalog.list(status=TableStatus.READY), replace(t, status='ready')\n"
    )
    assert not list(transitions(tmp_path))
