"""Files are removed in one place, which every room uses: a removal that nobody checked may follow a
link out of a stranger's folder."""

import ast

from tests.shape.test_names import trees

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
    elsewhere = {
        file: removals(tree) - OF_STORES.get(file, set())
        for file, tree in trees()
        if file != ONLY and removals(tree) - OF_STORES.get(file, set())
    }
    assert elsewhere == {}


def test_the_search_for_removals_sees_each_spelling():
    code = "os.unlink(a); os.remove(a); shutil.rmtree(a); Path(a).unlink(); a.rmdir(); b.remove(c)"
    assert removals(ast.parse(code)) == {"unlink", "remove", "rmtree", "rmdir"}
