"""A whole copy of a workspace in another folder: the catalog as it was at one moment, and the files of the tables that were ready then."""

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from jammi_lab.errors import InvalidArgument
from jammi_lab.markup import Form, Shown, bullets, count, plain, stack
from jammi_lab.storage.files import Place, make_folder
from jammi_lab.storage.remote import RemotePath
from jammi_lab.store.rebuild import CATALOG

if TYPE_CHECKING:
    from jammi_lab.workspace import Workspace


class Copied(Shown):
    """What a copy has: `.tables`, their number; `.missing`, physical names of those whose bytes were gone."""

    def __init__(self, target: str, tables: int, missing: list[str]) -> None:
        self.target, self.tables, self.missing = target, tables, missing

    def _form(self) -> Form:
        lost = bullets(f"{name} has no bytes and was left out" for name in self.missing) if self.missing else None
        return stack(plain(f"Copied {count(self.tables, 'table')} to {self.target}."), lost)


def copy_workspace(ws: "Workspace", target: str | os.PathLike[str]) -> Copied:
    """Copy a workspace in a folder to a folder that is not there yet, or empty. Others may go on with the first meanwhile.

    Sources stay where they are: the copy reads the same ones. Raises InvalidArgument; ResourceExhausted when there is no room: nothing is left then.
    """
    from jammi_lab.workspace import open as open_workspace

    root = ws._rooms.results.root
    if isinstance(root, RemotePath) or "://" in os.fspath(target):
        raise InvalidArgument(
            "A copy goes from folder to folder.", hint="Copy objects with the store's own tools, and the catalog with ws.backup(path)."
        )
    folder = Path(os.path.abspath(os.path.expanduser(target)))
    if folder.is_relative_to(root.absolute()) or (folder.exists() and (not folder.is_dir() or any(folder.iterdir()))):
        raise InvalidArgument(
            f"There is something in {str(target)!r} already, or it lies in the workspace itself.", hint="Name a folder that is not there yet."
        )
    fresh = not folder.exists()
    make_folder(folder)
    try:
        ws.backup(folder / CATALOG)
        with open_workspace(folder, read_only=True) as copy:
            records = [record for _, record in copy._rooms.catalog.tables.list(status="ready")]
        missing = [r.table_name for r in {r.table_name: r for r in records}.values() if not _files(ws._rooms.results.parquet(r), root, folder)]
        open_workspace(folder).close()
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        if not fresh:
            make_folder(folder)
        raise
    return Copied(str(target), len({r.table_name for r in records}) - len(missing), missing)


def _files(own: Place, root: Path, folder: Path) -> bool:
    """Copy what belongs to one table: bytes, manifest, index; False when the bytes are gone."""
    if not isinstance(own, Path) or not own.exists():
        return False
    for each in sorted(own.parent.glob(f"{own.stem}.*")):
        target = folder / each.relative_to(root)
        make_folder(target.parent)
        shutil.copy2(each, target)
    return True
