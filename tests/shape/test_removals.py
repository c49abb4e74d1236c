"""Files are removed in one place, which every room uses: a removal that nobody checked may follow a
link out of a stranger's folder."""

import ast

from tests.shape.code import files, name_of, parsed

ONLY = "jammi_lab/storage/own_files.py"
REMOVALS = {"unlink", "rmtree", "rmdir", "removedirs"}
OF_OS = {"remove"}
OF_STORES = {"jammi_lab/storage/files.py": {"unlink"}}
"""An object of a store has no links: `RemotePath.unlink`."""


def removals(tree: ast.Module) -> set[str]:
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            is_of_os = isinstance(node.value, ast.Name) and node.value.id == "os"
            if node.attr in REMOVALS or (is_of_os and node.attr in OF_OS):
                found.add(node.attr)
    return found


def test_files_and_folders_are_removed_in_one_place():
    found = {name_of(file): removals(parsed(file)) for file in files()}
    elsewhere = {name: ways - OF_STORES.get(name, set()) for name, ways in found.items() if ways}
    assert {name for name, ways in elsewhere.items() if ways} == {ONLY}


def test_the_search_for_removals_sees_each_spelling():
    code = "os.unlink(a); os.remove(a); shutil.rmtree(a); Path(a).unlink(); a.rmdir(); b.remove(c)"
    assert removals(ast.parse(code)) == {"unlink", "remove", "rmtree", "rmdir"}
