"""A class that `isinstance` must recognise as a protocol is checked against it by mypy.

A method that is renamed in the protocol or in the class makes `isinstance` false, which turns the
feature off without an error. Each such protocol therefore has a list of its classes, typed
`tuple[type[Protocol], ...]`, below `if TYPE_CHECKING`.
"""

import ast
import functools

from tests.shape import code


@functools.cache
def nodes() -> list[ast.AST]:
    """The nodes that a protocol, a test of a class or a list of classes can be."""
    return [
        node
        for file in code.files()
        for node in code.nodes(file)
        if isinstance(node, ast.ClassDef | ast.Call | ast.If)
    ]


def runtime_protocols() -> set[str]:
    return {
        node.name
        for node in nodes()
        if isinstance(node, ast.ClassDef)
        and any("runtime_checkable" in ast.unparse(each) for each in node.decorator_list)
    }


def names_in_isinstance() -> set[str]:
    return {
        name.id
        for node in nodes()
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("isinstance", "issubclass")
        for name in ast.walk(node.args[1])
        if isinstance(name, ast.Name)
    }


def checked_classes() -> dict[str, int]:
    """The number of classes that mypy checks against a protocol, by its name."""
    return {
        ast.unparse(each.annotation).removeprefix("tuple[type[").removesuffix("], ...]"): len(
            each.value.elts
        )
        for node in nodes()
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for each in node.body
        if isinstance(each, ast.AnnAssign) and isinstance(each.value, ast.Tuple)
    }


def test_classes_of_a_protocol_that_isinstance_asks_for_are_checked():
    asked = runtime_protocols() & names_in_isinstance()
    assert asked
    checked = checked_classes()
    assert not {name for name in asked if not checked.get(name)}
