"""Opens and rebuilds workspaces, and checks their folders and URLs."""

import contextlib
import errno
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jammi_lab.core import redaction
from jammi_lab.core.argument_suggestions import answer_arguments
from jammi_lab.core.clock import SystemClock
from jammi_lab.core.errors import InvalidArgument, WorkspaceNotFound, WorkspaceReadOnly
from jammi_lab.core.identifiers import is_text
from jammi_lab.core.interrupts import redeliver_lost_interrupts
from jammi_lab.core.records import ProgressOption
from jammi_lab.core.settings import load_settings
from jammi_lab.core.tenancy import TenantScope
from jammi_lab.sources.locations import OWN_FOLDERS, check_no_credentials, scheme_of
from jammi_lab.sources.outside_access import OutsideAccess
from jammi_lab.storage.files import StoragePath, make_folder
from jammi_lab.storage.object_store import remote_path
from jammi_lab.storage.trusted_folders import add_trusted
from jammi_lab.store.reports import RebuildReport
from jammi_lab.store.storage_errors import storage_error, translate_storage_errors
from jammi_lab.store.workspace_identity import (
    ID_FILE,
    catalog_required,
    has_server_catalog,
    workspaces_near,
)
from jammi_lab.workspace.arguments import progress_callback
from jammi_lab.workspace.assembly import Services, build_services
from jammi_lab.workspace.trust import report_untrusted, trust_own_folder, trusts_names
from jammi_lab.workspace.workspace import Workspace


@answer_arguments
def open(  # noqa: A001  the field's name for it
    path: str | os.PathLike[str] = ".jammi",
    *,
    catalog: str | None = None,
    storage_options: Mapping[str, Any] | None = None,
    tenant: str | None = None,
    settings: Mapping[str, Any] | None = None,
    create: bool = True,
    read_only: bool = False,
    executor: Any = None,
) -> Workspace:
    """Open the workspace in a folder, which is created if it does not exist, or at a URL that
    fsspec can write to, such as `s3://bucket/lab`.

    `catalog`: the URL of a PostgreSQL database that keeps the catalog instead of a file in the
    folder, `postgresql+psycopg://user@host/database`, with `?schema=name` for one of several
    workspaces in it; the setting `catalog.url` does the same. A workspace at a URL needs one.
    What the files of a folder name beyond it is used only if this user created the workspace or
    trusts the folder: `jl.trust`.
    `storage_options`: those of the URL's fsspec filesystem; they are used and never stored.
    `executor`: where texts are encoded and functions called; None is this kernel, a
    `distributed.Client` or the address of its scheduler a Dask cluster. SQL is not distributed.
    `create=False` raises WorkspaceNotFound instead of creating one; `read_only=True` needs no
    permission to write, runs no recovery and changes nothing. Raises WorkspaceReadOnly when the
    folder cannot be written to, CatalogTooNew, InvalidArgument, NameInvalid; for a server
    SourceUnavailable, ExtensionMissing.
    """
    redaction.remember_typed_credentials(catalog or "")
    overrides = settings if catalog is None else {**(settings or {}), "catalog.url": catalog}
    services = _open_services(
        path,
        overrides,
        storage_options=storage_options,
        tenant=tenant,
        create=create,
        read_only=read_only,
        executor=executor,
    )
    workspace = Workspace(services)
    try:
        report_untrusted(services)
    except BaseException:
        workspace.close()
        raise
    return workspace


def open_without_connecting(path: str, catalog: str | None) -> Workspace:
    """Open an existing workspace read-only for judging its tables. Nothing that it names is
    connected to; its catalog is on a server only if `catalog` names it."""
    redaction.remember_typed_credentials(catalog or "")
    overrides = {"catalog.url": catalog or ""}
    return Workspace(_open_services(path, overrides, create=False, read_only=True, connects=False))


def _open_services(
    path: str | os.PathLike[str],
    overrides: Mapping[str, Any] | None,
    *,
    create: bool,
    read_only: bool,
    storage_options: Mapping[str, Any] | None = None,
    tenant: str | None = None,
    executor: Any = None,
    connects: bool = True,
) -> Services:
    """The services of a workspace, whose settings are overridden by `overrides`. Raises as
    `open`."""
    from jammi_lab.engine.sql import releases

    releases.check_release()
    redeliver_lost_interrupts()
    folder, display_path = parse_location(path, storage_options), str(path)
    scope, local_folder = TenantScope(tenant), folder if isinstance(folder, Path) else None
    outside = OutsideAccess(local_folder, connects=connects)
    try:
        loaded_settings = load_settings(local_folder, overrides)
        if local_folder is not None:
            is_new = not read_only and _is_new(local_folder)
            outside.trusts_names = trusts_names(local_folder, loaded_settings)
            _prepare_folder(
                local_folder,
                display_path,
                loaded_settings["catalog.url"],
                create=create,
                read_only=read_only,
            )
            if is_new:
                trust_own_folder(local_folder)
    except PermissionError:
        raise WorkspaceReadOnly(
            f"The folder {display_path!r} cannot be opened: permission denied.",
            hint="Choose a folder that you have permission to read.",
        ) from None
    except OSError as error:
        raise storage_error(error, display_path) from None
    return build_services(
        folder,
        display_path=display_path if local_folder else str(folder),
        scope=scope,
        settings=loaded_settings,
        clock=SystemClock(),
        read_only=read_only,
        create=create,
        executor=executor,
        outside=outside,
    )


def _is_new(folder: Path) -> bool:
    """Whether a folder has nothing of a workspace yet but settings, so that whoever opens it
    creates the workspace."""
    names = ("catalog.sqlite3", "catalog.sqlite3-wal", ID_FILE, *OWN_FOLDERS)
    return not any(os.path.lexists(folder / name) for name in names)


def rebuild(
    path: str | os.PathLike[str] = ".jammi",
    *,
    catalog: str | None = None,
    storage_options: Mapping[str, Any] | None = None,
    progress: ProgressOption = None,
) -> RebuildReport:
    """Build a new catalog for the workspace in a folder or store from the manifests of its result
    tables, when the old one is lost or damaged.

    `catalog`: its URL, when it is kept on a server, where no catalog is replaced; `progress`
    receives the number of manifests read. The old catalog in a folder is kept beside the new one.
    The report names what was restored and what manifests do not hold: sources, for one, are added
    again by hand. Raises WorkspaceNotFound when there are no manifests, InvalidArgument while the
    workspace is open or when there is a catalog on the server.
    """
    from jammi_lab.store import rebuild as rebuilding

    folder = parse_location(path, storage_options)
    overrides = None if catalog is None else {"catalog.url": catalog}
    with translate_storage_errors(str(path)):
        settings = load_settings(folder if isinstance(folder, Path) else None, overrides)
        if isinstance(folder, Path):
            trusts_names(folder, settings)
            _check_single_catalog(folder, str(path), settings["catalog.url"])
        elif not settings["catalog.url"]:
            raise catalog_required(str(path))
        return rebuilding.rebuild(
            folder, SystemClock(), settings["catalog.url"], progress_callback(progress)
        )


def trust(path: str | os.PathLike[str]) -> None:
    """Trust the folder of a workspace that somebody else created: from now on it uses the catalog,
    the sources, the functions and the model files that its files name. Workspaces that this user
    creates on this machine are trusted.

    Raises InvalidArgument when there is no such folder, WorkspaceReadOnly when the user's list of
    trusted folders cannot be written.
    """
    folder = parse_location(path, None)
    if not isinstance(folder, Path):
        raise InvalidArgument(
            "Only the folder of a workspace can be trusted, not a URL.", hint="Pass its path."
        )
    add_trusted(folder)


def parse_location(
    path: str | os.PathLike[str], storage_options: Mapping[str, Any] | None
) -> StoragePath:
    """The folder, or the path in a store, of a workspace. InvalidArgument, ExtensionMissing."""
    location = os.fspath(path) if isinstance(path, str | os.PathLike) else ""
    if not location or not isinstance(location, str) or not is_text(location):
        raise InvalidArgument(
            f"The path of a workspace must be a folder or a URL, got {path!r}.",
            hint='jl.open("lab") opens or creates the folder lab.',
        )
    if not os.path.exists(location):
        redaction.remember_typed_credentials(location)
    if scheme_of(location) is not None:
        return remote_path(location, storage_options)
    if storage_options:
        raise InvalidArgument(
            "storage_options apply only to a workspace in an object store.",
            hint="Omit them for a workspace in a folder.",
        )
    check_no_credentials(location)
    absolute = os.path.abspath(os.path.expanduser(location.split("://", 1)[-1]))
    if not is_text(absolute):
        raise InvalidArgument(
            f"The current directory contains bytes that are not UTF-8: {absolute!r}.",
            hint="Rename it, or open the workspace elsewhere.",
        )
    return Path(absolute)


def _prepare_folder(
    folder: Path, display_path: str, url: str, *, create: bool, read_only: bool
) -> None:
    """Check that a folder can hold the workspace, and create it. Raises as `open`; PermissionError
    when it cannot be read."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        os.stat(folder / "catalog.sqlite3")  # since Python 3.14 `exists` raises nothing
    _check_catalog_exists(folder, display_path, url)
    existing = next(each for each in (folder, *folder.parents) if each.exists())
    if not existing.is_dir():
        raise InvalidArgument(
            f"{display_path if existing == folder else str(existing)!r} is a file; a workspace "
            "must be a folder.",
            hint="Pass the path of a folder. ws.sources.add(name, location) adds a file.",
        )
    if not url and not (folder / "catalog.sqlite3").exists() and (read_only or not create):
        raise WorkspaceNotFound(
            f"There is no workspace in {display_path!r}.",
            near=workspaces_near(folder),
            hint="jl.open(path) creates one.",
        )
    if not read_only:
        try:
            make_folder(folder.resolve())
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
                raise storage_error(error, display_path) from None
            raise WorkspaceReadOnly(
                f"The folder {display_path!r} cannot be created: {error.strerror}.",
                hint="Choose a folder where you have write permission.",
            ) from None


def _check_single_catalog(folder: Path, display_path: str, url: str) -> None:
    """Raise InvalidArgument when a folder has its own catalog and another one is named,
    WorkspaceNotFound for a copy that was not finished: it has a part of the tables."""
    if (folder / "catalog.sqlite3").exists():
        if url:
            raise InvalidArgument(
                f"The workspace {display_path!r} has a catalog.sqlite3 and cannot use another.",
                hint="Open it without catalog= and without catalog.url.",
            )
    elif any(folder.glob("*.catalog.sqlite3.tmp*")):  # its catalog gets its name last
        raise WorkspaceNotFound(
            f"{display_path!r} is a copy that was not finished: delete it, and copy again."
        )


def _check_catalog_exists(folder: Path, display_path: str, url: str) -> None:
    """Check that a folder with result tables has its catalog, and no other one is named: a new,
    empty catalog would hide the tables. WorkspaceNotFound, InvalidArgument."""
    from jammi_lab.store.manifests import has_manifests

    _check_single_catalog(folder, display_path, url)
    catalog = folder / "catalog.sqlite3"
    if url or (catalog.exists() and catalog.stat().st_size):
        return
    if has_server_catalog(folder):
        raise WorkspaceNotFound(
            f"The catalog of {display_path!r} is stored on a server.",
            hint=f"Pass its URL: jl.open({display_path!r}, "
            'catalog="postgresql+psycopg://user@host/database"); commands take --catalog.',
        )
    if has_manifests(folder):
        raise WorkspaceNotFound(
            f"The catalog of {display_path!r} is missing, but result tables exist.",
            hint=f"jl.rebuild({display_path!r}) creates a new one from their manifests.",
        )
