"""A copy of the catalog in one SQLite file, as it was at one moment, while others write.

The copy is taken through the catalog's own connection: a second copy of the SQLite library that opened and closed the file would let go of the locks
that this process holds on it.
"""

import contextlib
import os
import sqlite3
from pathlib import Path

from jammi_lab.catalog.database import Database
from jammi_lab.errors import InvalidArgument, ResourceExhausted, TableDamaged
from jammi_lab.storage.files import AtomicFile

_MAGIC = b"SQLite format 3\0"


def backup(database: Database, own: Path, target: Path) -> None:
    """Leave a whole copy under `target`, in place of an earlier one, or what was there.

    InvalidArgument for a place where no copy may lie, ResourceExhausted when it cannot be written, TableDamaged when the catalog cannot be read.
    """
    _check(own, target)
    file = AtomicFile(target)
    try:
        with contextlib.closing(sqlite3.connect(file.temp)) as copy:
            with database.read() as tx:
                source = tx.connection.dbapi_connection
                assert isinstance(source, sqlite3.Connection), "this catalog is an SQLite file"
                source.backup(copy)
            if copy.execute("PRAGMA quick_check(1)").fetchone() != ("ok",):  # pages are copied whatever is in them
                raise sqlite3.DatabaseError("the copy is damaged")
            copy.execute("PRAGMA journal_mode=DELETE")  # one file: nothing of it lies in a log
        file.commit()
    except (OSError, sqlite3.OperationalError) as error:
        file.abort()
        raise ResourceExhausted(
            f"The copy {target} could not be written: {error}.", hint="See whether there is room, and who may write there."
        ) from None
    except sqlite3.DatabaseError:
        file.abort()
        raise TableDamaged(
            f"The catalog {own} is damaged; no copy was made.", hint="jammi_lab.rebuild(path) makes a new one from the manifests."
        ) from None
    except BaseException:
        file.abort()
        raise


def _check(own: Path, target: Path) -> None:
    if not target.parent.is_dir():
        raise InvalidArgument(f"There is no folder {target.parent} for the copy.")
    if target.is_dir():
        raise InvalidArgument(f"{target} is a folder; a backup is one file.", hint=f"Say how it is to be called: {target / 'backup.sqlite3'}")
    if target.exists() and os.path.samefile(own, target):
        raise InvalidArgument("The catalog cannot be copied onto itself.", hint="Choose another place.")
    if target.exists() and target.stat().st_size:
        with target.open("rb") as there:
            if there.read(len(_MAGIC)) != _MAGIC:
                raise InvalidArgument(f"{target} is something else than an earlier backup; it was left alone.", hint="Choose another name.")
