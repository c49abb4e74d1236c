"""A workspace that is opened in another folder than before, because it or its project was moved or
copied: which sources stayed behind, and how they follow."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from jammi_lab.catalog.catalog import Catalog
from jammi_lab.core.errors import InvalidArgument
from jammi_lab.core.records import SourceRecord
from jammi_lab.inputs.path_names import PATHS_KEY
from jammi_lab.sources.locations import (
    base_of,
    check_readable_location,
    display_location,
    escape,
    expand,
    full_location,
    literal_path,
    project_of,
    scheme_of,
    store_pattern,
)

if TYPE_CHECKING:
    from jammi_lab.workspace.infrastructure import Infrastructure

_FOLDER_KEY = "folder"
"""The key of the folder in which the workspace was last opened, in the catalog's metadata."""


def moved_sources(catalog: Catalog, folder: Path) -> list[str]:
    """When the workspace was last opened in another folder, the names of the sources whose absolute
    paths are gone or lead into the former project. Records the folder."""
    current = os.path.realpath(folder)
    former = catalog.metadata.get(_FOLDER_KEY)
    if former == current:
        return []
    if not catalog.read_only:
        catalog.metadata.set(_FOLDER_KEY, current)
    if former is None:
        return []
    former_project = project_of(Path(former))
    with catalog.all_tenants():
        records = catalog.sources.list()
    return [
        record.name
        for record in records
        if _is_local(record)
        and os.path.isabs(record.location)
        and _stayed_behind(record.location, former_project)
    ]


def _is_local(record: SourceRecord) -> bool:
    return record.kind != "frame" and scheme_of(record.location) is None


def _stayed_behind(pattern: str, former_project: Path) -> bool:
    if _is_below(pattern, str(former_project)):
        return True
    path = literal_path(pattern)
    try:
        return not (expand(pattern) if path is None else os.path.exists(path))
    except OSError:
        return False  # what cannot be listed is there


def _is_below(pattern: str, folder: str) -> bool:
    return f"{pattern}{os.sep}".startswith(escape(folder) + os.sep)


def rebase_sources(catalog: Catalog, former: Path, folder: Path) -> None:
    """Make the sources and paths of a catalog that was copied from one workspace folder to another
    those of the original, whichever place the copy has."""
    with catalog.all_tenants(), catalog.transaction():
        for record in catalog.sources.list():
            if _is_local(record):
                pattern = full_location(record.location, former)
                _store_location(catalog, record, store_pattern(pattern, folder))
        original = catalog.metadata.get(PATHS_KEY)  # of a copy
        catalog.metadata.set(PATHS_KEY, original or str(former))
        catalog.metadata.set(_FOLDER_KEY, os.path.realpath(folder))


def relocate(parts: "Infrastructure", old: object, new: object) -> list[str]:
    """Let the bound tenant's sources at or below the path `old` be at `new`, and so the workspace
    of which this one is a copy; return the names of the sources. InvalidArgument when there is
    none, and for files of the workspace."""
    former, current, folder = _absolute_path(old), _absolute_path(new), parts.local_folder
    names = []
    with parts.catalog.transaction():
        for record in parts.catalog.sources.list():
            pattern = full_location(record.location, folder)
            if (
                record.tenant != parts.scope.current
                or not _is_local(record)
                or not _is_below(pattern, former)
            ):
                continue
            moved = escape(current) + pattern[len(escape(former)) :]
            location = moved if folder is None else store_pattern(moved, folder)
            check_readable_location(location, folder)
            _store_location(parts.catalog, record, location)
            names.append(record.name)
    if not _relocate_paths(parts, former, current) and not names:
        folders = {
            base_of(full_location(record.location, folder))
            for record in parts.catalog.sources.list()
            if _is_local(record)
        }
        raise InvalidArgument(
            f"No source is at or below {former!r}.",
            hint=f"Sources are in {', '.join(map(display_location, sorted(folders)))}."
            if folders
            else "Add sources with ws.sources.add(name, location).",
        )
    for name in names:
        record = parts.source_directory.require_record(name)
        parts.source_directory.release(record)
        parts.source_directory.outside.name_source(record)
    return names


def _relocate_paths(parts: "Infrastructure", former: str, current: str) -> bool:
    """Whether paths of statements, which no tenant has, are relative to another folder now."""
    original = parts.catalog.metadata.get(PATHS_KEY) or ""
    if parts.scope.current is not None or not _is_below(escape(original), former):
        return False
    original = current + original[len(former) :]
    own = parts.local_folder
    if own is not None and os.path.realpath(own) == os.path.realpath(original):
        original = ""  # its own, wherever it is moved to
    parts.catalog.metadata.set(PATHS_KEY, original)
    parts.source_directory.paths.base = Path(original) if original else own
    return True


def _absolute_path(path: object) -> str:
    if not isinstance(path, str | os.PathLike) or not os.fspath(path):
        raise InvalidArgument(
            f"relocate() takes two paths, got {path!r}.",
            hint='For example ws.relocate("/mnt/old/data", "/mnt/new/data").',
        )
    return os.path.abspath(os.path.expanduser(os.fspath(path)))


def _store_location(catalog: Catalog, record: SourceRecord, location: str) -> None:
    if location != record.location:
        catalog.sources.put(record.with_values(location=location), replace=True)
