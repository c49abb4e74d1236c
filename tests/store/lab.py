"""Looking at a workspace from outside, and arranging in it what a crash leaves."""

import contextlib
import hashlib
import json
import os
import shutil
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from jammi_lab.core.manifest import is_sealed
from jammi_lab.features.vectors.index import files as index_files
from jammi_lab.store import sidecars
from jammi_lab.store.manifests import manifest_path
from tests import backends
from tests.inside import record_of

DEAD = "wdead0000000000000"
"""A writer that never was: it has no lock file, so nobody holds its lock."""


def files(folder: Path) -> list[str]:
    """Every file under `results/`, whatever it is called."""
    return list(backends.files_below(backends.root_of(folder) / "results"))


def file_of(folder: Path, table: Any) -> Any:
    """The Parquet file of a table of the workspace of a folder, wherever that lies."""
    return backends.root_of(folder) / record_of(table).path


def files_of(*tables: Any) -> list[str]:
    """What should be there for ready tables."""
    root = "results/"
    found = []
    for table in tables:
        path = str(record_of(table).path).removeprefix(root)
        found += [path, str(manifest_path(Path(path)))]
        if (
            record_of(table).recipe_class.has_vectors
            and index_files.read_manifest(table.path) is not None
        ):
            found += [str(sidecars.sidecar_path(Path(path), s)) for s in sidecars.INDEX_SUFFIXES]
    return sorted(found)


class _Server:
    """A connection to PostgreSQL that takes statements as one to SQLite does."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def execute(self, statement: str, values: Sequence[Any] = ()) -> Any:
        return self._connection.execute(statement.replace("?", "%s"), values)


@contextlib.contextmanager
def catalog(folder: Path) -> Iterator[Any]:
    """The catalog as a plain SQLite file, or where the environment says that it is; committed at
    the end."""
    url = os.environ.get("JAMMI_CATALOG__URL")
    if "catalog" in backends.ELSEWHERE:
        url = backends.catalog_url(folder)
    if url:
        import psycopg

        place, _, schema = url.partition("?schema=")
        with psycopg.connect(place, options=f"-c search_path={schema}") as connection:
            yield _Server(connection)
        return
    with contextlib.closing(sqlite3.connect(folder / "catalog.sqlite3")) as db, db:
        yield db


def statuses(folder: Path) -> dict[str, str]:
    """Status by physical name."""
    with catalog(folder) as db:
        return dict(db.execute("SELECT table_name, status FROM result_tables").fetchall())


def row(folder: Path, table: str) -> dict[str, Any]:
    """A row of `result_tables`."""
    with catalog(folder) as db:
        rows = db.execute("SELECT * FROM result_tables WHERE table_name = ?", [table])
        [found] = rows.fetchall()
        return dict(zip((column[0] for column in rows.description), found, strict=True))


def unpublish(folder: Path, table: str, *, writer: str = DEAD) -> None:
    """Set a ready table back to `building`, as it stood before its last transaction."""
    with catalog(folder) as db:
        db.execute(
            "UPDATE result_tables SET status='building', writer_id=?, row_count=NULL, bytes=NULL, digest=NULL, manifest_digest=NULL, completed_at=NULL,"
            " anchors='[]', columns='[]' WHERE table_name=?",
            [writer, table],
        )
        db.execute("DELETE FROM manifests WHERE table_name=?", [table])
        db.execute("DELETE FROM lineage WHERE derived=?", [table])
        db.execute("UPDATE versions SET newest = 0 WHERE table_name=?", [table])


def flip(path: Any, at: int | None = None) -> None:
    """Flip one bit of a file, in its middle unless said."""
    body = bytearray(path.read_bytes())
    body[len(body) // 2 if at is None else at] ^= 1
    path.write_bytes(bytes(body))


def cut_off(path: Any) -> None:
    """Lose the end of a file."""
    path.write_bytes(path.read_bytes()[:-9])


def unlink_unseen(path: Any) -> None:
    """Lose a file, of which the times of its folder do not tell."""
    folder = path.parent if isinstance(path, Path) else None  # a store has no folders
    stamp = folder and folder.stat()
    path.unlink()
    if stamp:
        os.utime(folder, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))


DAMAGES = {"flipped": flip, "cut off": cut_off, "removed": Path.unlink}
"""What may happen to a file, by a word for its test."""


def everything(folder: Path) -> dict[str, Any]:
    """All that a recovery could change: bytes of files, rows of the catalog."""
    found: dict[str, Any] = {
        f"{d}/{name}": file.read_bytes()
        for d in ("results", "quarantine")
        for name, file in backends.files_below(backends.root_of(folder) / d).items()
    }
    with catalog(folder) as db:
        for name in (
            "result_tables",
            "versions",
            "manifests",
            "lineage",
            "recipes",
        ):
            found[name] = sorted(map(repr, db.execute(f"SELECT * FROM {name}").fetchall()))
    return found


def copied(folder: Path, to: Path) -> Path:
    """A copy of a closed workspace."""
    shutil.copytree(folder, to)
    return to


def resealed(said: str) -> bytes:
    """A manifest that somebody has sealed again."""
    text = json.dumps(json.loads(said) | {"seal": ""}, indent=1, sort_keys=True) + "\n"
    body = text.replace(
        '\n "seal": ""', f'\n "seal": "{hashlib.sha256(text.encode()).hexdigest()}"', 1
    ).encode()
    assert is_sealed(body)
    return body
