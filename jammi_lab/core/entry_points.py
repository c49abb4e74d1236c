"""Loads what other packages add through entry points: the groups of their metadata below."""

import functools
import importlib.metadata
from collections.abc import Mapping
from typing import Any

from jammi_lab.core.errors import ExtensionMissing
from jammi_lab.core.identifiers import fold, near_names
from jammi_lab.core.module_imports import import_modules

ENCODERS = "jammi_lab.encoders"
"""Functions without arguments that return an encoder, by model name."""
CONNECTORS = "jammi_lab.connectors"
"""Functions of a location, options and secret that return a reader, by kind of source."""
PRODUCERS = "jammi_lab.producers"
"""Functions for Python steps, by name."""
RECIPES = "jammi_lab.recipes"
"""Classes of recipes, by kind of table."""
CHECKS = "jammi_lab.checks"
"""Classes of rules about the rows of a table, by the name in `jl.checks`."""
COMMANDS = "jammi_lab.commands"
"""Functions of a workspace and the values of a line, by command."""


@functools.cache
def package_entries(group: str) -> Mapping[str, importlib.metadata.EntryPoint]:
    """What installed packages add to a group, by folded name. Reads the metadata of all packages
    once: tens of milliseconds."""
    return {fold(entry.name): entry for entry in importlib.metadata.entry_points(group=group)}


def load_package_entry(group: str, name: str) -> Any:
    """The object that a package added under this name. ExtensionMissing when there is none, or when
    it cannot be imported."""
    entry = package_entries(group).get(fold(name))
    if entry is None:
        raise ExtensionMissing(
            f"No installed package adds {name!r} to {group}.",
            near=near_names(name, [entry.name for entry in package_entries(group).values()]),
            hint="Install the package that brings it into this environment.",
        )
    try:
        with import_modules():
            return entry.load()
    except Exception as error:
        raise ExtensionMissing(
            f"{name!r} of the package {_package_of(entry)} cannot be imported: "
            f"{type(error).__name__}: {error}."
        ) from error


def package_producer(module: str, qualified_name: str) -> tuple[str, Any] | None:
    """The package, with its version, and the function of that module and name, when its package
    added it to `PRODUCERS`; otherwise None."""
    for name, entry in package_entries(PRODUCERS).items():
        if entry.module.partition(".")[0] == module.partition(".")[0]:
            function = load_package_entry(PRODUCERS, name)
            if (function.__module__, function.__qualname__) == (module, qualified_name):
                return _package_of(entry), function
    return None


def _package_of(entry: importlib.metadata.EntryPoint) -> str:
    return "?" if entry.dist is None else f"{entry.dist.name} {entry.dist.version}"
