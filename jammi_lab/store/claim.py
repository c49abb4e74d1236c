"""A catalog on a server and a results folder that belong together say so: both hold the same id, and neither can be opened with another's.

A catalog that lies in its folder needs none of this.
"""

import contextlib
from pathlib import Path

from jammi_lab.catalog.catalog import Catalog
from jammi_lab.errors import InvalidArgument, WorkspaceNotFound
from jammi_lab.storage.files import Place, opened, write_once
from jammi_lab.store.manifests import any_below

FILE = "workspace.id"
"""In the workspace's folder: the id of its catalog, which is kept elsewhere."""
_ID, _PLACE = "workspace", "workspace-place"
_OWN_SCHEMA = 'Give each workspace a schema of its own: catalog="postgresql+psycopg://user@host/database?schema=name".'


def elsewhere(folder: Path) -> bool:
    """Whether a workspace's folder belongs to a catalog on a server."""
    return (folder / FILE).is_file()


def claim(catalog: Catalog, folder: Place, shown: str, token: str) -> None:
    """Nothing, when catalog and folder belong together; two new ones do from now on. `token` is a new catalog's id.

    InvalidArgument when either belongs to another one, WorkspaceNotFound when tables are there that a new catalog would hide.
    """
    here, known = _read(folder), catalog.meta.get(_ID)
    if known is not None and known == here:
        return
    if here != known and any_below(folder) and not _has_tables(catalog):
        raise WorkspaceNotFound(
            f"The catalog {catalog.label} is new, but result tables are in {shown!r}.",
            hint=f"Name the catalog that they belong to, or make one of their manifests: jl.rebuild({shown!r}, catalog=…).",
        )
    if here is None and not catalog.read_only and not _has_tables(catalog):
        here, known = _join(catalog, folder, shown, known or token)
    if here is None or known != here:
        place = catalog.meta.get(_PLACE)
        raise InvalidArgument(
            f"The catalog {catalog.label} belongs to the workspace in {place!r}, not to {shown!r}."
            if place and here is None
            else f"The folder {shown!r} belongs to another catalog than {catalog.label}.",
            hint=_OWN_SCHEMA,
        )


def adopt(catalog: Catalog, folder: Place, shown: str, token: str) -> None:
    """Let a catalog that was made from a folder's manifests be the folder's, whichever was before."""
    _join(catalog, folder, shown, _read(folder) or token)


def _join(catalog: Catalog, folder: Place, shown: str, token: str) -> tuple[str | None, str]:
    """Write the id into both; the first of several kernels that do so at once wins. What is there now."""
    with catalog.transaction():
        known = catalog.meta.get(_ID)
        if known is None:
            catalog.meta.set(_ID, known := token)
        catalog.meta.set(_PLACE, shown)
    write_once(folder / FILE, f"{known}\n".encode())
    return _read(folder), known


def _read(folder: Place) -> str | None:
    with contextlib.suppress(FileNotFoundError, NotADirectoryError), opened(folder / FILE) as file:
        return file.read(100).decode("ascii", errors="replace").strip()
    return None


def _has_tables(catalog: Catalog) -> bool:
    with catalog.everyone():
        return bool(catalog.tables.names())
