"""Copies a workspace to another folder: a snapshot of the catalog and the files of the tables that
were ready in it."""

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from jammi_lab.catalog.catalog import Catalog
from jammi_lab.catalog.sqlite import check_whole
from jammi_lab.core.clock import SystemClock
from jammi_lab.core.errors import InvalidArgument
from jammi_lab.core.html import Rendered, ReprMixin, bullet_list, count_noun, plain_text, vstack
from jammi_lab.core.records import READABLE_STATUSES
from jammi_lab.core.tenancy import TenantScope
from jammi_lab.sources.locations import check_no_credentials, resolve_output_path
from jammi_lab.storage.files import StoragePath, make_folder, open_for_reading, sync_folder
from jammi_lab.storage.object_store import RemotePath
from jammi_lab.storage.own_files import remove_folder
from jammi_lab.store import manifests
from jammi_lab.store.sidecars import SIDECAR_SUFFIXES
from jammi_lab.store.storage_errors import copy_error, read_error, translate_storage_errors
from jammi_lab.store.workspace_identity import CATALOG_FILE
from jammi_lab.workspace.relocation import rebase_sources
from jammi_lab.workspace.trust import trust_own_folder

if TYPE_CHECKING:
    from jammi_lab.workspace.workspace import Workspace


class CopyReport(ReprMixin):
    """The outcome of a copy: `.tables` is the number of tables copied, `.missing` the physical
    names of tables without bytes."""

    def __init__(self, target: str, tables: int, missing: list[str]) -> None:
        self.target, self.tables, self.missing = target, tables, missing

    def _rendered(self) -> Rendered:
        missing_list = (
            bullet_list(f"{name} was skipped because its file is missing" for name in self.missing)
            if self.missing
            else None
        )
        return vstack(
            plain_text(
                f"Copied {count_noun(self.tables, 'table')} to {self.target}, which reads the same "
                "sources where they are."
            ),
            missing_list,
        )


def copy_workspace(ws: "Workspace", target: str | os.PathLike[str]) -> CopyReport:
    """Copy a workspace in a folder to a new or empty folder. Others may use the workspace
    meanwhile.

    Sources are not copied: the copy reads the same ones. Raises InvalidArgument, and
    ResourceExhausted when the disk is full. After an error the target is empty again.
    """
    from jammi_lab.workspace.opening import open as open_workspace

    root = ws._services.results.root
    if isinstance(root, RemotePath):
        raise InvalidArgument(
            "Only a workspace in a folder can be copied.",
            hint="Copy objects with the store's own tools, and the catalog with ws.backup(path).",
        )
    check_no_credentials(os.fspath(target))
    folder = resolve_output_path(target).resolve()
    with translate_storage_errors(str(folder), copy_error):
        if folder.is_relative_to(root.resolve()) or (
            folder.exists() and (not folder.is_dir() or any(folder.iterdir()))
        ):
            raise InvalidArgument(
                f"{str(target)!r} is not empty, or it is inside the workspace.",
                hint="Choose a folder that does not exist yet.",
            )
        is_new_folder = not folder.exists()
        try:
            make_folder(folder)
            if ws._services.source_directory.outside.trusts_folder:
                trust_own_folder(folder)
            report = _copy_content(ws, root, folder, str(target))
            open_workspace(folder, catalog="").close()  # also where the environment names a server
        except BaseException:
            remove_folder(folder)
            if not is_new_folder:
                make_folder(folder)
            raise
    return report


def _copy_content(ws: "Workspace", root: Path, folder: Path, target: str) -> CopyReport:
    """Copy catalog and tables. The catalog gets its name last: without it a copy that was not
    finished is no workspace."""
    unnamed = folder / f".{CATALOG_FILE}.tmp"
    ws.backup(unnamed)
    with Catalog(unnamed, scope=TenantScope(), clock=SystemClock(), create=False) as catalog:
        with catalog.all_tenants():
            records = {
                record.table_name: record
                for status in READABLE_STATUSES
                for record in catalog.result_tables.with_status(status)
            }
        rebase_sources(catalog, root, folder)
    check_whole(unnamed)
    missing = []
    for name, record in records.items():
        if not _copy_table_files(ws._services.results.parquet(record), folder / record.path):
            missing.append(name)
    # settings are part of definitions; those of a catalog on a server would lead back to it
    if not ws.settings["catalog.url"]:
        _copy_file(root / "jammi.toml", folder / "jammi.toml")
    sync_folder(folder)
    os.replace(unnamed, folder / CATALOG_FILE)
    sync_folder(folder)
    return CopyReport(target, len(records) - len(missing), missing)


def _copy_table_files(parquet: StoragePath, target: Path) -> bool:
    """Copy the files of one table: bytes, manifest, index. Returns False when the bytes are
    missing."""
    make_folder(target.parent)
    if not isinstance(parquet, Path) or not _copy_file(parquet, target):
        return False
    for suffix in (manifests.SUFFIX, *SIDECAR_SUFFIXES):
        _copy_file(parquet.with_suffix(suffix), target.with_suffix(suffix))
    return True


def _copy_file(file: Path, target: Path) -> bool:
    """Copy a file durably. Returns whether it exists."""
    try:
        source = open_for_reading(file)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise read_error(error, str(file)) from error
    with source, target.open("xb") as copied:
        shutil.copyfileobj(source, copied)
        copied.flush()
        os.fsync(copied.fileno())
    return True
