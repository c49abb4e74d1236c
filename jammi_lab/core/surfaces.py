"""Loads the surfaces of jammi_lab (cells, panels), which the engine does not import."""

import functools
import importlib
from types import ModuleType

from jammi_lab.core.errors import ExtensionMissing
from jammi_lab.core.module_imports import import_modules

MODULES = {"kernel": "jammi_kernel_ext", "widgets": "jammi_widgets"}
"""The module of each surface."""


@functools.cache
def load_surface(name: str) -> ModuleType:
    """The module of a surface. ExtensionMissing when its package is missing."""
    module_name = MODULES[name]
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
