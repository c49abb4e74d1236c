"""The façade is thin: Workspace is one class over services, and nothing below it holds one."""

import ast

from tests.shape.code import ROOT, files, name_of, nodes, parsed

STATEMENTS = 3
ATTRIBUTES = {"_services", "_closed", "_pid"}


def workspace() -> ast.ClassDef:
    tree = parsed(ROOT / "jammi_lab" / "workspace" / "workspace.py")
    [found] = [
        node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "Workspace"
    ]
    return found


def methods() -> dict[str, ast.FunctionDef]:
    return {node.name: node for node in workspace().body if isinstance(node, ast.FunctionDef)}


def statements(method: ast.FunctionDef) -> list[ast.stmt]:
    imports = ast.Import | ast.ImportFrom
    body = method.body[1:] if ast.get_docstring(method) else method.body
    return [node for node in body if not isinstance(node, imports)]


def test_a_workspace_has_no_mixin():
    assert workspace().bases == []


def test_each_verb_is_at_most_three_statements():
    lengths = {
        name: len(statements(method))
        for name, method in methods().items()
        if not name.startswith("_") and name != "close"
    }
    assert len(lengths) > 40
    assert not {name: length for name, length in lengths.items() if length > STATEMENTS}


def test_each_verb_has_a_docstring():
    assert not [
        name
        for name, method in methods().items()
        if not name.startswith("_")
        and not ast.get_docstring(method)
        and not any("setter" in ast.unparse(d) for d in method.decorator_list)
    ]


def test_a_workspace_holds_its_services_and_what_closing_needs():
    assigned = {
        target.attr
        for node in ast.walk(workspace())
        if isinstance(node, ast.Assign)
        for group in node.targets
        for target in (group.elts if isinstance(group, ast.Tuple) else [group])
        if isinstance(target, ast.Attribute)
        and isinstance(target.value, ast.Name)
        and target.value.id == "self"
    }
    assert assigned == ATTRIBUTES


def test_no_service_takes_a_workspace():
    above = {"workspace.py", "opening.py", "copy.py"}
    surfaces = ("jammi_lab/cli/", "jammi_lab/commands/")
    named = [
        name_of(file)
        for file in files()
        for node in nodes(file)
        if isinstance(node, ast.ImportFrom)
        and node.module == "jammi_lab.workspace.workspace"
        and file.name not in above
        and name_of(file).startswith("jammi_lab/")
        and not name_of(file).startswith(surfaces)
        and name_of(file) != "jammi_lab/__init__.py"
    ]
    assert not named
