"""The engine loads cells and panels by their names, and says what to do when it cannot."""

import ast

import pytest

from jammi_lab.core import surfaces
from jammi_lab.core.errors import ExtensionMissing
from tests.shape.code import files, name_of, nodes


@pytest.fixture(autouse=True)
def _no_cache():
    surfaces.load_surface.cache_clear()
    yield
    surfaces.load_surface.cache_clear()


def test_a_surface_that_is_not_installed_is_named_with_the_way_to_install_it(monkeypatch):
    monkeypatch.setitem(surfaces.MODULES, "kernel", "no_such_surface")
    with pytest.raises(ExtensionMissing, match="no_such_surface") as caught:
        surfaces.load_surface("kernel")
    assert "make install" in caught.value.hint


def test_a_library_that_a_surface_lacks_is_not_called_a_missing_surface(monkeypatch, tmp_path):
    (tmp_path / "broken_surface.py").write_text("import no_such_library")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(surfaces.MODULES, "kernel", "broken_surface")
    with pytest.raises(ModuleNotFoundError, match="no_such_library"):
        surfaces.load_surface("kernel")


def test_no_package_of_the_project_is_imported_by_a_text():
    ours = ("jammi_lab", "jammi_kernel_ext", "jammi_widgets")
    texts = [
        (name_of(file), ast.unparse(node))
        for file in files()
        if name_of(file) != "jammi_lab/__init__.py"
        for node in nodes(file)
        if isinstance(node, ast.Call)
        and ast.unparse(node.func).endswith("import_module")
        and any(name in ast.unparse(node) for name in ours)
    ]
    assert not texts


def test_panels_can_be_imported_from_the_package(run_python):
    code = "from jammi_lab.widgets import LineageGraph; import jammi_lab, jammi_widgets; "
    done = run_python(
        code + "print(jammi_lab.widgets is jammi_widgets, LineageGraph.__name__)", start=True
    )
    assert done.stdout.split() == ["True", "LineageGraph"]
