"""No module of the packages imports itself through others. Imports in functions and for types
count, too, but for those of the composition root: it builds the services that name it as a type."""

import graphlib

import grimp

ROOT = "jammi_lab.workspace.assembly"


def test_no_modules_import_each_other():
    packages = ("jammi_lab", "jammi_kernel_ext", "jammi_widgets")
    graph = grimp.build_graph(*packages, cache_dir=None)
    run = grimp.build_graph(*packages, cache_dir=None, exclude_type_checking_imports=True)
    imports = {}
    for module in graph.modules:
        only_for_types = {ROOT} - run.find_modules_directly_imported_by(module)
        imports[module] = graph.find_modules_directly_imported_by(module) - only_for_types
    assert find_circle(imports) == []


def find_circle(imports: dict[str, set[str]]) -> list[str]:
    """The modules of one circle; empty when there is none."""
    try:
        graphlib.TopologicalSorter(imports).prepare()
    except graphlib.CycleError as error:
        return list(error.args[1])
    return []


def test_a_circle_is_named():
    assert set(find_circle({"a": {"b"}, "b": {"c"}, "c": {"b"}})) == {"b", "c"}
