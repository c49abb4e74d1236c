"""The binding of a catalog on a server to a results folder: both hold the same id, and neither can
be opened with another one.

A catalog that is stored in its folder needs no id.
"""

import contextlib
import os
from pathlib import Path

from jammi_lab.catalog.catalog import Catalog
from jammi_lab.core.errors import InvalidArgument, WorkspaceNotFound
from jammi_lab.core.identifiers import MAX_LISTED_NAMES
from jammi_lab.storage.files import StoragePath, open_for_reading, write_once
from jammi_lab.store.manifests import has_manifests

CATALOG_FILE = "catalog.sqlite3"
ID_FILE = "workspace.id"
"""File in the workspace's folder with the id of its catalog on a server."""
_ID_KEY, _LOCATION_KEY = "workspace", "workspace-place"
_SCHEMA_HINT = (
    "Use a separate schema for each workspace: "
    'catalog="postgresql+psycopg://user@host/database?schema=name".'
)


def has_server_catalog(folder: Path) -> bool:
    """Whether a workspace's folder belongs to a catalog on a server."""
    return (folder / ID_FILE).is_file()


def workspaces_near(folder: Path) -> list[str]:
    """The workspaces beside a folder and in the working folder, as one would open them."""
    found = []
    for place in dict.fromkeys((Path.cwd(), folder.parent)):
        with contextlib.suppress(OSError):
            found += [
                os.path.relpath(each)
                for each in sorted(place.iterdir())
                if each != folder and (each / CATALOG_FILE).is_file()
            ]
    return found[:MAX_LISTED_NAMES]


def bind_workspace(catalog: Catalog, folder: StoragePath, location: str, token: str) -> None:
    """Check that catalog and folder belong together. Two new ones are bound to each other. `token`
    is the id of a new catalog.

    Raises InvalidArgument when either belongs to another one, WorkspaceNotFound when the folder has
    tables that a new catalog would hide.
    """
    folder_id, catalog_id = _read_id(folder), catalog.metadata.get(_ID_KEY)
    if catalog_id is not None and catalog_id == folder_id:
        return
    if folder_id != catalog_id and has_manifests(folder) and not _has_tables(catalog):
        raise WorkspaceNotFound(
            f"The catalog {catalog.label} is new, but result tables are in {location!r}.",
            hint="Pass the catalog that they belong to, or rebuild it from their manifests: "
            f"jl.rebuild({location!r}, catalog=…).",
        )
    if folder_id is None and not catalog.read_only and not _has_tables(catalog):
        folder_id, catalog_id = _write_ids(catalog, folder, location, catalog_id or token)
    if folder_id is None or catalog_id != folder_id:
        bound_location = catalog.metadata.get(_LOCATION_KEY)
        raise InvalidArgument(
            f"The catalog {catalog.label} belongs to the workspace in {bound_location!r}, not to "
            f"{location!r}."
            if bound_location and folder_id is None
            else f"The folder {location!r} belongs to a catalog other than {catalog.label}.",
            hint=_SCHEMA_HINT,
        )


def rebind(catalog: Catalog, folder: StoragePath, location: str, token: str) -> None:
    """Bind a catalog that was rebuilt from a folder's manifests to that folder, whatever the folder
    was bound to."""
    _write_ids(catalog, folder, location, _read_id(folder) or token)


def _write_ids(
    catalog: Catalog, folder: StoragePath, location: str, token: str
) -> tuple[str | None, str]:
    """Write the id to both, and return what they hold now. Of several concurrent kernels the first
    one wins."""
    with catalog.transaction():
        catalog_id = catalog.metadata.get(_ID_KEY)
        if catalog_id is None:
            catalog.metadata.set(_ID_KEY, catalog_id := token)
        catalog.metadata.set(_LOCATION_KEY, location)
    write_once(folder / ID_FILE, f"{catalog_id}\n".encode())
    return _read_id(folder), catalog_id


def _read_id(folder: StoragePath) -> str | None:
    with (
        contextlib.suppress(FileNotFoundError, NotADirectoryError),
        open_for_reading(folder / ID_FILE) as file,
    ):
        return file.read(100).decode("ascii", errors="replace").strip()
    return None


def _has_tables(catalog: Catalog) -> bool:
    with catalog.all_tenants():
        return bool(catalog.result_tables.names())


def catalog_required(shown: str) -> InvalidArgument:
    """The error of a workspace in a store whose catalog nobody named."""
    return InvalidArgument(
        f"The workspace {shown!r} is in an object store, where no catalog can be kept.",
        hint="Name a PostgreSQL database: jl.open(…, "
        'catalog="postgresql+psycopg://user@host/database").',
    )
