"""Tests ask the public surface: few touch names that begin with an underscore."""

import ast
import re
from functools import cache

from tests.shape.code import ROOT, files, nodes

MAX_TESTS = 83
"""How many test functions touch a private name of the packages: less than 2 % of them. It may only
shrink."""
_PRIVATE = re.compile(r"_[A-Za-z]\w*(?<!_)$")
_WRITTEN = re.compile(r"(?<!\w)_[A-Za-z]\w*")


@cache
def private_names() -> frozenset[str]:
    """Those that the packages define."""
    names = set[str]()
    for file in files():
        for node in nodes(file):
            match node:
                case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                    names.add(name)
                case ast.Attribute(attr=name, ctx=ast.Store()):
                    names.add(name)
                case ast.Name(id=name, ctx=ast.Store()):
                    names.add(name)
    return frozenset(filter(_PRIVATE.match, names))


def touched(function: ast.AST, known: frozenset[str]) -> set[str]:
    """The private names of `known` that a function reads, sets, imports or replaces, or that stand
    in the programs that it runs."""
    names = set[str]()
    parts = {
        id(part)
        for node in ast.walk(function)
        if isinstance(node, ast.JoinedStr)
        for part in node.values
    }
    for node in ast.walk(function):
        match node:
            case ast.Attribute(value=ast.Name(id="self" | "cls" | "os")):
                pass
            case ast.Attribute(attr=name):
                names.add(name)
            case ast.ImportFrom(names=aliases):
                names |= {alias.name for alias in aliases}
            case ast.Constant(value=str(text)):
                names |= set(re.findall(r"\w\.(_\w+)", text))
                if id(node) not in parts:
                    names.add(text)
    return names & known


def names_by_test() -> dict[str, set[str]]:
    """What each test function touches. Where no private name is written nothing is looked at."""
    found = dict[str, set[str]]()
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        text = path.read_text(encoding="utf-8")
        if private_names().isdisjoint(_WRITTEN.findall(text)):
            continue
        lines = text.splitlines()
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                first = min([node, *node.decorator_list], key=lambda part: part.lineno).lineno
                written = "\n".join(lines[first - 1 : node.end_lineno])
                if private_names().isdisjoint(_WRITTEN.findall(written)):
                    continue
                if names := touched(node, private_names()):
                    found[f"{path.relative_to(ROOT)}::{node.name}"] = names
    return found


def test_few_tests_touch_private_names():
    found = names_by_test()
    assert len(found) <= MAX_TESTS, f"{len(found)} tests touch private names; {MAX_TESTS} did"


def test_each_way_to_touch_a_private_name_is_seen():
    known = frozenset({"_a"})
    for text in (
        "thing._a",
        "thing._a = 1",
        "from thing import _a",
        "monkeypatch.setattr(thing, '_a', 1)",
        "monkeypatch.setattr('thing.part._a', 1)",
        "run('import thing; thing._a()')",
    ):
        assert touched(ast.parse(text), known) == {"_a"}, text
    assert not touched(ast.parse("self._a, thing._b, thing.a, 'a _a'"), known)
