"""Copies a workspace to another folder: a snapshot of the catalog and the files of the tables that
were ready in it."""

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from jammi_lab.core.errors import InvalidArgument
from jammi_lab.core.html import Rendered, ReprMixin, bullet_list, count_noun, plain_text, vstack
from jammi_lab.core.records import READABLE_STATUSES
from jammi_lab.sources.locations import check_no_credentials
from jammi_lab.storage.files import StoragePath, make_folder
from jammi_lab.storage.object_store import RemotePath
from jammi_lab.store.rebuild import CATALOG_FILE
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
            plain_text(f"Copied {count_noun(self.tables, 'table')} to {self.target}."), missing_list
        )


def copy_workspace(ws: "Workspace", target: str | os.PathLike[str]) -> CopyReport:
    """Copy a workspace in a folder to a new or empty folder. Others may use the workspace
    meanwhile.

    Sources are not copied: the copy reads the same ones. Raises InvalidArgument, and
    ResourceExhausted when the disk is full. After an error the target is empty again.
    """
    from jammi_lab.workspace.opening import open as open_workspace

    root = ws._services.results.root
    if isinstance(root, RemotePath) or "://" in os.fspath(target):
        raise InvalidArgument(
            "Only a workspace in a folder can be copied, and only to a folder.",
            hint="Copy objects with the store's own tools, and the catalog with ws.backup(path).",
        )
    check_no_credentials(os.fspath(target))
    folder = Path(os.path.abspath(os.path.expanduser(target)))
    if folder.is_relative_to(root.absolute()) or (
        folder.exists() and (not folder.is_dir() or any(folder.iterdir()))
    ):
        raise InvalidArgument(
            f"{str(target)!r} is not empty, or it is inside the workspace.",
            hint="Choose a folder that does not exist yet.",
        )
    is_new_folder = not folder.exists()
    make_folder(folder)
    if ws._services.source_directory.outside.trusts_folder:
        trust_own_folder(folder)
    try:
        ws.backup(folder / CATALOG_FILE)
        with open_workspace(folder, read_only=True) as copy:
            records = [
                record
                for status in READABLE_STATUSES
                for _, record in copy._services.catalog.result_tables.list(status=status)
            ]
        missing = [
            r.table_name
            for r in {r.table_name: r for r in records}.values()
            if not _copy_table_files(ws._services.results.parquet(r), root, folder)
        ]
        with open_workspace(folder) as copy:
            rebase_sources(copy._services.catalog, root, folder)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        if not is_new_folder:
            make_folder(folder)
        raise
    return CopyReport(str(target), len({r.table_name for r in records}) - len(missing), missing)


def _copy_table_files(parquet: StoragePath, root: Path, folder: Path) -> bool:
    """Copy the files of one table: bytes, manifest, index. Returns False when the bytes are
    missing."""
    if not isinstance(parquet, Path) or not parquet.exists():
        return False
    for file in sorted(parquet.parent.glob(f"{parquet.stem}.*")):
        target = folder / file.relative_to(root)
        make_folder(target.parent)
        shutil.copy2(file, target)
    return True
