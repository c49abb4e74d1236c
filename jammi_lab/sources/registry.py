"""Registry of connectors: infers the kind of a location and creates the connector of a record."""

from __future__ import annotations

import fnmatch
import glob
import importlib
import os
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from jammi_lab.core.errors import InvalidArgument
from jammi_lab.core.identifiers import near_names
from jammi_lab.core.records import SourceRecord
from jammi_lab.sources import database_urls, read_errors
from jammi_lab.sources.base import NO_WORKSPACE, Connector, SourceContext
from jammi_lab.sources.credentials import location_options
from jammi_lab.sources.databases import connection, reader_process
from jammi_lab.sources.databases.reader_process import ReaderError
from jammi_lab.sources.files.csv_errors import delimiter_error
from jammi_lab.sources.files.formats import (
    TEXT_KINDS,
    UNDELIMITED_SUFFIXES,
    check_anchor,
    check_options,
    kind_of_name,
)
from jammi_lab.sources.files.object_stores import StoreAccess
from jammi_lab.sources.files.remote_files import file_set_for
from jammi_lab.sources.files.text_bytes import files_of_archive
from jammi_lab.sources.frames import FrameConnector
from jammi_lab.sources.locations import (
    HTTP_SCHEMES,
    STORES,
    display_location,
    full_location,
    literal_path,
    scheme_of,
    store_location,
)
from jammi_lab.sources.package_connector import PackageConnector, package_kind

if TYPE_CHECKING:
    from collections.abc import Callable

    from jammi_lab.sources.base import SupportsRowComparison
    from jammi_lab.sources.files.http import HttpCredentials
    from jammi_lab.sources.lakehouse.connector import LakehouseConnector

    ReadStoreAccess = Callable[[], StoreAccess | HttpCredentials | None]

    # `isinstance` asks for this protocol. A method that was renamed in the protocol or in a class
    # would turn the feature off without an error; here it is an error of types.
    _ROW_COMPARING_CONNECTORS: tuple[type[SupportsRowComparison], ...] = (LakehouseConnector,)


__all__ = ["check_anchor", "check_options", "connector_for", "infer_kind", "is_package_kind"]

CONNECTORS = {
    "parquet": "files.connector:FileConnector",
    "arrow": "files.connector:FileConnector",
    **dict.fromkeys(TEXT_KINDS, "files.text_connector:TextConnector"),
    "xlsx": "files.excel:ExcelConnector",
    "sqlite": "databases.sqlite:SqliteConnector",
    "duckdb": "databases.duckdb:DuckdbConnector",
    "delta": "lakehouse.delta:DeltaConnector",
    "iceberg": "lakehouse.iceberg:IcebergConnector",
    "postgresql": "databases.postgres:PostgresConnector",
    "mysql": "databases.mysql:MysqlConnector",
}
"""The module and class of each kind, imported when a source of it is used."""
_DATABASE_FILES = ("sqlite", "duckdb")
"""Also schemes, as in `sqlite:///data.db`, or `sqlite:////tmp/data.db` for an absolute path."""
_SUFFIXES = {
    **dict.fromkeys((".xlsx", ".xlsm", ".xlsb", ".xls", ".ods"), "xlsx"),
    **dict.fromkeys((".sqlite", ".sqlite3", ".db", ".db3"), "sqlite"),
    **dict.fromkeys((".duckdb", ".ddb"), "duckdb"),
}
"""Kinds of single files."""
_MAGIC = (
    (0, b"SQLite format 3\0", "sqlite"),
    (8, b"DUCK", "duckdb"),
    (0, b"PAR1", "parquet"),
    (0, b"ARRO", "arrow"),
    (0, b"FEA1", "arrow"),
)
"""Bytes at a place that tell a kind: a `.db` may be SQLite or DuckDB."""
_SCHEMES = (None, *STORES, *HTTP_SCHEMES, *_DATABASE_FILES)


def infer_kind(
    location: str | os.PathLike[str],
    kind: str | None = None,
    read_access: ReadStoreAccess = lambda: None,
) -> str:
    """The kind of source at a location as typed, or `kind` if that is valid. `read_access` returns
    the credentials of a remote location.

    Raises SourceUnavailable when nothing is there; InvalidArgument when the kind cannot be inferred
    or files of several kinds are mixed, and for unsupported URLs.
    """
    user_input = os.fspath(location)
    scheme = scheme_of(user_input)
    if isinstance(kind, str):
        kind = database_urls.kind_of(kind) or kind  # mariadb and postgres, as in a URL
    word = scheme if kind is None else kind
    if word not in (*CONNECTORS, *_SCHEMES):
        packaged = package_kind(user_input, kind)
        if packaged is not None:
            return packaged
    server = database_urls.kind_of(scheme)
    if server is not None or kind in database_urls.PORTS:
        if server is None or kind not in (None, server):
            raise InvalidArgument(
                f"{display_location(user_input)!r} is not a URL of kind {kind}.",
                hint="Write postgresql://user@host/database or mysql://….",
            )
        return server
    if scheme not in _SCHEMES:
        hint = "Use a path, a URL of http, s3, gs or az, a database URL, or a frame."
        raise InvalidArgument(f"{scheme}:// URLs are not supported.", hint=hint)
    if kind is not None and kind not in CONNECTORS:
        raise InvalidArgument(
            f"Unknown kind of source: {kind!r}.",
            near=near_names(kind, CONNECTORS),
            hint=f"Kinds are {', '.join(CONNECTORS)}.",
        )
    if kind is not None:
        return kind
    if scheme in _DATABASE_FILES:
        return scheme
    return _kind_by_content(user_input, read_access)


def _kind_by_content(user_input: str, read_access: ReadStoreAccess) -> str:
    """The one kind of the files at a location. Raises as `infer_kind`."""
    kinds = _kinds_by_content(user_input, read_access)
    if len(kinds) > 1:
        raise InvalidArgument(
            f"{display_location(user_input)!r} contains files of several kinds "
            f"({', '.join(sorted(kinds))}).",
            hint='Set kind="…", or use a glob.',
        )
    if not kinds:
        raise InvalidArgument(
            f"The kind of {display_location(user_input)!r} cannot be inferred from its name.",
            hint=f'Set kind="…": {", ".join(CONNECTORS)}.',
        )
    return kinds.pop()


def is_package_kind(kind: str) -> bool:
    """Whether an installed package reads sources of this kind. No package is looked up for a kind
    of our own."""
    return kind not in (*CONNECTORS, "frame") and package_kind("", kind) is not None


def _kinds_by_content(user_input: str, read_access: ReadStoreAccess) -> set[str]:
    """The kinds by the location's own name, or by the names of its files, or else by the first
    bytes of a single file."""
    pattern = full_location(store_location(user_input, None), None)
    scheme, path = scheme_of(pattern), literal_path(pattern)
    if scheme is not None:
        kind = _kind_of_url(urlsplit(pattern).path if scheme in HTTP_SCHEMES else path or pattern)
    elif path is None:
        kind = kind_of_name(pattern)
    else:
        kind = _kind_of_folder(path) if os.path.isdir(path) else _kind_of_file(path)
    if kind is not None:
        return {kind}
    try:
        names = file_set_for(pattern, read_access()).names()
    except OSError as error:
        raise read_errors.unreadable_error(display_location(pattern), error) from None
    if not names:
        raise read_errors.missing_error(pattern)
    if scheme in STORES and path is not None and (lake := _lake_of_names(names)) is not None:
        return {lake}
    kinds = {kind for name in names if (kind := kind_of_name(name)) is not None}
    if scheme not in HTTP_SCHEMES and kinds:
        return kinds - {"text"} or kinds  # a README beside data files is none of them
    if scheme is None and len(names) == 1 and (kind := _kind_of_file(names[0])) is not None:
        return {kind}
    return set()


def _kind_of_url(name: str) -> str | None:
    """The kind of a remote file by its name; a database or a lake must be local or a folder."""
    is_workbook = _SUFFIXES.get(os.path.splitext(name.lower())[1]) == "xlsx"
    return "xlsx" if is_workbook else kind_of_name(name)


def _kind_of_file(path: str) -> str | None:
    """The kind of a local file by its name or first bytes. Raises SourceUnavailable."""
    name = path.lower()
    kind = kind_of_name(name) or _SUFFIXES.get(os.path.splitext(name)[1])
    if name.endswith(".metadata.json"):
        kind = "iceberg"
    if kind not in (None, *_DATABASE_FILES) or not os.path.lexists(path):
        return kind
    try:
        head = reader_process.head(path)
    except ReaderError as error:
        if error.kind == "denied":
            raise read_errors.unreadable_error(path, PermissionError()) from None
        if kind is None:
            raise read_errors.unreadable_error(path, OSError(str(error))) from None
        return kind
    kind = next((each for start, magic, each in _MAGIC if head[start:].startswith(magic)), kind)
    if kind is None and name.endswith(".zip"):
        with open(path, "rb") as file:
            members = files_of_archive(file, os.path.basename(path))
        kind = kind_of_name(members[0]) if len(members) == 1 else None
    if kind is None and name.endswith(UNDELIMITED_SUFFIXES):
        raise delimiter_error(path, head.partition(b"\n")[0].decode(errors="replace"))
    return kind


def _kind_of_folder(path: str) -> str | None:
    if os.path.isdir(os.path.join(path, "_delta_log")):
        return "delta"
    return _lake_of_names(glob.glob(os.path.join(glob.escape(path), "metadata", "*")))


def _lake_of_names(names: list[str]) -> str | None:
    """The kind of a folder or prefix that contains a Delta log or Iceberg metadata. Its data files
    alone would look like Parquet files."""
    if any("/_delta_log/" in name for name in names):
        return "delta"
    if any(fnmatch.fnmatch(name, "*/metadata/*.metadata.json") for name in names):
        return "iceberg"
    return None


def connector_for(
    record: SourceRecord, frame: Any = None, context: SourceContext = NO_WORKSPACE
) -> Connector:
    """The connector of a registered source.

    `frame` is the object of a frame, or the holder of a connection (None if it no longer exists).
    Raises InvalidArgument for a kind that this release does not support, and for options that `add`
    would refuse: somebody else may have written the record.
    """
    if record.kind == "frame":
        return FrameConnector(record.name, frame)
    if record.kind == connection.KIND:
        check_options(record.kind, record.options)
        return connection.ConnectionConnector(record, context, frame)
    place = CONNECTORS.get(record.kind)
    if place is not None:
        known = location_options(record.location)
        options = check_options(record.kind, record.options, known)
        record = record.with_values(options=options)
        module, _, name = place.partition(":")
        connector_class = getattr(importlib.import_module(f"{__package__}.{module}"), name)
        connector: Connector = connector_class(record, context)
        return connector
    if is_package_kind(record.kind):
        return PackageConnector(record, context)
    raise InvalidArgument(
        f"Sources of kind {record.kind!r} are not supported.",
        hint="A newer version of jammi-lab, or a package that is not installed here, may have "
        "registered it.",
    )
