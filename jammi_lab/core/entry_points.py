"""Loads the surfaces of jammi_lab (cells, panels) through entry points, so that the engine imports
none of them.

A surface is a module in the entry-point group `jammi_lab.surfaces` of pyproject.toml.
"""

import functools
import importlib.metadata
from types import ModuleType

from jammi_lab.core.errors import ExtensionMissing

DISTRIBUTION = "jammi-lab"
GROUP = "jammi_lab.surfaces"
_CHECKOUT = {"kernel": "jammi_kernel_ext", "widgets": "jammi_widgets"}
"""The surfaces of this project, for a checkout whose installed metadata is older than its
pyproject.toml: pip writes entry points when a package is installed, not when a file changes."""


@functools.cache
def load_surface(name: str) -> ModuleType:
    """The module of a surface. ExtensionMissing when it is not installed or cannot be imported
    because its package is missing."""
    entry = _installed_entry(name) or importlib.metadata.EntryPoint(
        name, _CHECKOUT.get(name, name), GROUP
    )
    try:
        module: ModuleType = entry.load()
    except ModuleNotFoundError as error:
        if error.name != entry.module:
            raise
        raise ExtensionMissing(
            f"The surface {name!r} of jammi_lab ({entry.module}) is not installed.",
            hint="Install jammi_lab again: `make install` in a checkout, else "
            "`pip install --force-reinstall --no-deps jammi-lab`.",
        ) from None
    return module


def _installed_entry(name: str) -> importlib.metadata.EntryPoint | None:
    """The entry point of a surface in the metadata of this distribution. Those of all packages
    would cost 10 ms at each `%load_ext`."""
    try:
        entries = importlib.metadata.distribution(DISTRIBUTION).entry_points
    except importlib.metadata.PackageNotFoundError:
        return None
    return next(iter(entries.select(group=GROUP, name=name)), None)
