"""New catalogs of tests are copies of one that was created once in this process, which saves each
of them the statements and their syncs.

Child processes and tests marked `own_catalog` create theirs in the usual way. Nor do the workspaces
of this process check the signatures of DuckDB's extensions, which takes 40 to 280 ms for each
instance; children do, and tests/sources/test_extensions_at_hand.py. How a text file is read, which
takes 20 ms to decide, is remembered as soon as the clock of this system has ticked, and not only
after two seconds, which few tests take.
"""

import atexit
import contextlib
import os
import shutil
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

from tests import backends

TICK_SECONDS = 0.02
"""More than a tick of the clock of files here, which is at most 10 ms."""
enabled = True
"""Whether a new catalog is a copy; cleared for the time of a test that is marked `own_catalog`."""
_folder: Path | None = None


def install() -> None:
    """From now on new SQLite catalogs start as copies, if the package is loaded, and extensions are
    loaded as they are."""
    module = sys.modules.get("jammi_lab.catalog.catalog")
    if _folder is not None or module is None:
        return
    template = _make()
    from jammi_lab.catalog.sqlite import Sqlite
    from jammi_lab.engine import duckdb_instances
    from jammi_lab.sources.files import decisions
    from tests.instances import UNSIGNED_SETTINGS

    duckdb_instances.BASE_CONFIG.update(UNSIGNED_SETTINGS)
    decisions.CLOCK_SECONDS = TICK_SECONDS

    class CopiedSqlite(Sqlite):
        def __init__(self, path: Path, *, read_only: bool, create: bool) -> None:
            if enabled and create and not read_only:
                _place(template, path)
            super().__init__(path, read_only=read_only, create=create)

    assert getattr(module, Sqlite.__name__) is Sqlite
    setattr(module, Sqlite.__name__, CopiedSqlite)


def _make() -> Path:
    """A catalog without rows."""
    global _folder
    from jammi_lab.catalog.catalog import Catalog
    from jammi_lab.core.clock import SystemClock
    from jammi_lab.core.tenancy import TenantScope

    _folder = _own_folder()
    path = _folder / "catalog.sqlite3"
    Catalog(path, scope=TenantScope(), clock=SystemClock()).close()
    return path


def _own_folder() -> Path:
    """A folder that goes with this process. A child that was forked and ends like a process of its
    own leaves it alone, where one of `TemporaryDirectory` would be removed."""
    folder = Path(tempfile.mkdtemp(prefix="jammi-template-")).resolve()
    process = os.getpid()
    atexit.register(lambda: os.getpid() == process and shutil.rmtree(folder, ignore_errors=True))
    return folder


def _place(template: Path, path: Path) -> None:
    """Copy the template to where nothing is, at once or not at all; where that fails, the product
    says why."""
    if os.path.lexists(path) or os.path.lexists(f"{path}-wal"):
        return
    part = path.with_name(f".template-{os.getpid()}-{threading.get_ident()}")
    with contextlib.suppress(OSError):
        try:
            shutil.copyfile(template, part)
            os.link(part, path)
        finally:
            part.unlink(missing_ok=True)


class Template:
    """A folder that `build` fills once in this process. Each test gets it as it was, always in the
    same place, so that what catalogs say of locations stays true."""

    def __init__(self, build: Callable[[Path], None]) -> None:
        self._build = build
        self._root: Path | None = None

    def restore(self) -> Path:
        """The folder, with what was built and nothing else."""
        if self._root is None or backends.ELSEWHERE:
            root = _own_folder()
            folder, kept = root / "at", root / "kept"
            folder.mkdir()
            self._build(folder)
            shutil.copytree(folder, kept, symlinks=True)
            self._root = root
        else:
            folder, kept = self._root / "at", self._root / "kept"
            shutil.rmtree(folder, ignore_errors=True)  # a test may have removed it
            shutil.copytree(kept, folder, symlinks=True)
            from jammi_lab.storage.trusted_folders import add_trusted

            for catalog in folder.rglob("catalog.sqlite3"):
                add_trusted(catalog.parent)  # as when it was created there: a copy is none's
        restored.add(folder)
        return folder


restored: set[Path] = set()
"""The folders of templates that the running test uses."""
