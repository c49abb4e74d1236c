"""From what a person typed to a connector: which kind it is, whether its options are known, and who reads it."""

import os
from pathlib import Path

from jammi_lab.errors import InvalidArgument
from jammi_lab.names import near
from jammi_lab.sources import failures
from jammi_lab.sources.base import Connector
from jammi_lab.sources.files import FileConnector
from jammi_lab.sources.frames import FrameConnector
from jammi_lab.sources.kinds import FILE_KINDS, check_anchor, check_options, kind_of_name
from jammi_lab.sources.locations import full_location, literal_path, scheme_of, shown, store_location
from jammi_lab.sources.places import place_of
from jammi_lab.values.records import SourceRecord

__all__ = ["check_anchor", "check_options", "connector_for", "infer_kind"]

_LATER_KINDS = ("xlsx", "sqlite", "duckdb", "postgresql", "mysql", "delta", "iceberg")
_LATER_SCHEMES = {
    **dict.fromkeys(("postgresql", "postgres", "mysql", "mariadb", "sqlite", "duckdb"), "databases"),
    **dict.fromkeys(("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "r2"), "object stores"),
    **dict.fromkeys(("http", "https", "ftp", "sftp", "hf"), "remote files"),
}
_LATER_SUFFIXES = {".xlsx": "xlsx", ".xls": "xlsx", ".sqlite": "sqlite", ".sqlite3": "sqlite", ".db": "sqlite", ".duckdb": "duckdb", ".ddb": "duckdb"}
_MAGIC = {b"PAR1": "parquet", b"ARRO": "arrow", b"FEA1": "arrow"}


def infer_kind(location: str | os.PathLike[str], kind: str | None = None) -> str:
    """The kind of source at a location as it was typed, or `kind` when that is a kind.

    SourceUnavailable when nothing is there; InvalidArgument when the kind cannot be told, when files of several kinds are mixed, and for kinds
    that come in a later release.
    """
    typed = os.fspath(location)
    scheme = scheme_of(typed)
    if scheme in _LATER_SCHEMES:
        raise _later(f"{_LATER_SCHEMES[scheme]} ({scheme}://…)")
    if scheme is not None and scheme != "memory":
        raise InvalidArgument(f"Sources cannot be read from {scheme}:// addresses.", hint="Give a path, a glob or a folder of files, or a frame.")
    if kind is not None:
        if kind in _LATER_KINDS:
            raise _later(f"sources of kind {kind}")
        if kind not in FILE_KINDS:
            raise InvalidArgument(
                f"There is no kind of file called {kind!r}.", near=near(kind, FILE_KINDS), hint=f"Kinds are {', '.join(FILE_KINDS)}."
            )
        return kind
    if (later := _LATER_SUFFIXES.get(os.path.splitext(typed.lower())[1])) is not None:
        raise _later(f"sources of kind {later}")
    kinds = _kinds_there(typed)
    if len(kinds) > 1:
        raise InvalidArgument(
            f"{shown(typed)!r} holds files of several kinds ({', '.join(sorted(kinds))}).", hint='Say which with kind="…", or use a glob.'
        )
    if not kinds:
        raise InvalidArgument(f"The kind of {shown(typed)!r} cannot be told from its name.", hint=f'Say kind="…": {", ".join(FILE_KINDS)}.')
    return kinds.pop()


def _later(what: str) -> InvalidArgument:
    return InvalidArgument(f"Not supported yet in this release: {what}.", hint="Files (a path, a glob, a folder) and frames are.")


def _kinds_there(typed: str) -> set[str]:
    """What the one file's name tells, or the names of the files that are there, or at last the first bytes of the one file."""
    pattern = full_location(store_location(typed, None), None)
    path = literal_path(pattern)
    if (path is None or not os.path.isdir(path)) and (told := kind_of_name(path or pattern)) is not None:
        return {told}
    try:
        names = place_of(pattern).names()
    except OSError as error:
        raise failures.unreadable(shown(pattern), error) from None
    if not names:
        raise failures.missing(pattern)
    if path is not None and os.path.isdir(os.path.join(path, "_delta_log")):  # some of its files are no part of it any more
        raise _later("Delta tables")
    if kinds := {kind for name in names if (kind := kind_of_name(name)) is not None}:
        return kinds
    if len(names) == 1 and scheme_of(pattern) is None:
        with open(names[0], "rb") as file:
            return {kind} if (kind := _MAGIC.get(file.read(4))) else set()
    return set()


def connector_for(record: SourceRecord, frame: object | None, folder: Path | None) -> Connector:
    """Who reads a registered source: `frame` is the object when the record is of a frame (None: it is gone), `folder` the workspace's.

    InvalidArgument for a kind that this release does not read.
    """
    if record.kind == "frame":
        return FrameConnector(record.name, frame)
    if record.kind not in FILE_KINDS:
        raise _later(f"sources of kind {record.kind}")
    return FileConnector(record, folder)
