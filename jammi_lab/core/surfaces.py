"""Loads the surfaces of jammi_lab (cells, panels), which the engine does not import.

A surface is a module in the entry-point group `jammi_lab.surfaces` of pyproject.toml.
"""

import functools
import importlib
import importlib.util
from types import ModuleType
from typing import TYPE_CHECKING

from jammi_lab.core.errors import ExtensionMissing
from jammi_lab.core.module_imports import import_modules

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

DISTRIBUTION = "jammi-lab"
GROUP = "jammi_lab.surfaces"
OWN = {"kernel": "jammi_kernel_ext", "widgets": "jammi_widgets"}
"""The entry points of this project's own pyproject.toml. Where their modules are found, the
installed metadata are not read: this would take 15 ms of each `%load_ext`. Those of a checkout may
also be older than its pyproject.toml, as pip writes them when a package is installed."""


@functools.cache
def load_surface(name: str) -> ModuleType:
    """The module of a surface. ExtensionMissing when it is not installed or cannot be imported
    because its package is missing."""
    module_name = OWN.get(name, name)
    if name not in OWN or importlib.util.find_spec(module_name) is None:
        entry = _installed_entry(name)
        module_name = module_name if entry is None else entry.module
    try:
        with import_modules():
            return importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name != module_name:
            raise
        raise ExtensionMissing(
            f"The surface {name!r} of jammi_lab ({module_name}) is not installed.",
            hint="Install jammi_lab again: `make install` in a checkout, else "
            "`pip install --force-reinstall --no-deps jammi-lab`.",
        ) from None


def _installed_entry(name: str) -> "EntryPoint | None":
    """The entry point of a surface in the metadata of this distribution."""
    import importlib.metadata

    try:
        entries = importlib.metadata.distribution(DISTRIBUTION).entry_points
    except importlib.metadata.PackageNotFoundError:
        return None
    return next(iter(entries.select(group=GROUP, name=name)), None)
