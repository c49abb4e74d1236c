"""Whether a workspace may use what the files of its folder name beyond the folder: a catalog on a
server, sources outside the project, recorded functions."""

import builtins
import contextlib
import sys
import threading
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from jammi_lab.core.errors import JammiError, SourceUnavailable
from jammi_lab.core.html import escape_invisible
from jammi_lab.core.settings import Settings
from jammi_lab.sources.outside_access import OutsideAccess
from jammi_lab.storage.trusted_folders import add_trusted, is_trusted

if TYPE_CHECKING:
    from jammi_lab.workspace.assembly import Services

_CATALOG_URL = "catalog.url"
_MAX_NAMES = 5
_declined: set[Path] = set()
"""Folders about which this process has asked."""


def trust_own_folder(folder: Path) -> None:
    """Trust a folder in which this process creates a workspace; where the list of the user cannot
    be written, as long as the process lives."""
    with contextlib.suppress(JammiError):
        add_trusted(folder)


def trusts_names(folder: Path, settings: Settings) -> bool:
    """Whether the workspace in a folder may use what its files name. A catalog that the call or the
    environment names is named by the user, with what is stored in it. SourceUnavailable when only
    the folder names a catalog, and is not trusted."""
    if is_trusted(folder):
        return True
    if not settings[_CATALOG_URL]:
        return False
    if _CATALOG_URL not in settings.keys_of_file or _ask(folder, "a catalog on a server"):
        return True
    clause = OutsideAccess(folder).untrusted_clause()
    raise SourceUnavailable(
        f"The file jammi.toml names a catalog on a server, and {clause}.",
        hint="Or name the catalog yourself: jl.open(path, catalog=…).",
    )


def report_untrusted(services: "Services") -> None:
    """Ask once, in an interactive session, whether to trust the folder of an open workspace that
    names something beyond it; elsewhere warn with the line that trusts it."""
    outside, folder = services.source_directory.outside, services.local_folder
    if outside.trusts_folder or folder is None:
        return
    names = _outside_names(services)
    if not names:
        return
    if _ask(folder, names):
        return
    warnings.warn(
        f"{names[:1].upper()}{names[1:]} are not used: {outside.untrusted_clause()}.",
        UserWarning,
        stacklevel=4,  # the caller of `jl.open`, above its wrapper
    )


def _outside_names(services: "Services") -> str:
    """What a workspace names beyond its folder, as a list; empty when nothing. The names are
    somebody else's: what acts in a terminal would answer the question in the user's place."""
    refused = []
    for record in services.catalog.sources.list():
        try:
            services.source_directory.outside.check(record)
        except (JammiError, OSError):
            refused.append(record.name)
    functions = []
    for recipe in services.catalog.recipes.list():
        if recipe.descriptor.get("function"):
            functions.append(recipe.name)
    parts = []
    for label, names in (
        ("the sources {} outside the project", refused),
        ("the recorded functions of {}", functions),
    ):
        if names:
            parts.append(
                label.format(f"{', '.join(names[:_MAX_NAMES])}{' …' * (len(names) > _MAX_NAMES)}")
            )
    return escape_invisible(" and ".join(parts))


def _ask(folder: Path, names: str) -> bool:
    """Whether the user wants to trust a folder; False where nobody can answer."""
    is_notebook = hasattr(builtins, "get_ipython")
    is_main = threading.current_thread() is threading.main_thread()
    if folder in _declined or not is_main or not (is_notebook or is_terminal()):
        return False
    question = f"The folder {str(folder)!r} is not trusted and names {names}. Trust it? [y/N] "
    try:
        answer = input(question)
    except (EOFError, OSError, RuntimeError):  # StdinNotImplementedError of IPython is one
        return False
    if answer.strip().lower() not in ("y", "yes"):
        _declined.add(folder)
        return False
    trust_own_folder(folder)
    return True


def is_terminal() -> bool:
    """Whether a person can be asked on the terminal."""
    streams = (sys.stdin, sys.stdout)
    return all(stream is not None and stream.isatty() for stream in streams)
