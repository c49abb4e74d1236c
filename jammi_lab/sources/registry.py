"""Registry of connectors: infers the kind of a location and creates the connector of a record."""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from jammi_lab.core.errors import InvalidArgument
from jammi_lab.core.identifiers import near_names
from jammi_lab.core.records import SourceRecord
from jammi_lab.sources import container_formats, database_urls, read_errors
from jammi_lab.sources.base import NO_WORKSPACE, Connector, SourceContext
from jammi_lab.sources.credentials import HTTP_SCHEMES
from jammi_lab.sources.files.csv_errors import delimiter_error
from jammi_lab.sources.files.formats import (
    FILE_KINDS,
    TEXT_KINDS,
    UNDELIMITED_SUFFIXES,
    check_anchor,
    check_options,
    kind_of_name,
)
from jammi_lab.sources.files.object_stores import STORES, StoreAccess
from jammi_lab.sources.files.remote_files import file_set_for
from jammi_lab.sources.files.text_bytes import files_of_archive
from jammi_lab.sources.frames import FrameConnector
from jammi_lab.sources.locations import (
    display_location,
    full_location,
    literal_path,
    scheme_of,
    store_location,
)
from jammi_lab.sources.package_connector import PackageConnector, package_kind

if TYPE_CHECKING:
    from collections.abc import Callable

    from jammi_lab.sources.base import MultiTableConnector, SupportsRowComparison
    from jammi_lab.sources.databases.duckdb import DuckdbConnector
    from jammi_lab.sources.databases.mysql import MysqlConnector
    from jammi_lab.sources.databases.postgres import PostgresConnector
    from jammi_lab.sources.databases.sqlite import SqliteConnector
    from jammi_lab.sources.files.http import HttpCredentials
    from jammi_lab.sources.lakehouse.connector import LakehouseConnector
    from jammi_lab.sources.row_security import TenantFilteredTables

    ReadStoreAccess = Callable[[], StoreAccess | HttpCredentials | None]

    # `isinstance` asks for these protocols. A method that was renamed in the protocol or in a class
    # would turn the feature off without an error; here it is an error of types.
    _MULTI_TABLE_CONNECTORS: tuple[type[MultiTableConnector], ...] = (
        DuckdbConnector,
        MysqlConnector,
        PostgresConnector,
        SqliteConnector,
        TenantFilteredTables,
    )
    _ROW_COMPARING_CONNECTORS: tuple[type[SupportsRowComparison], ...] = (LakehouseConnector,)

__all__ = ["check_anchor", "check_options", "connector_for", "infer_kind", "is_package_kind"]

_CONNECTORS = {
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
_ALL_KINDS = (*FILE_KINDS, *container_formats.KINDS, *database_urls.PORTS)
_KNOWN_SCHEMES = (None, "memory", *STORES, *HTTP_SCHEMES, *_ALL_KINDS)
_MAX_LINE_BYTES = 10_000
_MAGIC = {b"PAR1": "parquet", b"ARRO": "arrow", b"FEA1": "arrow"}


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
    if (kind not in _ALL_KINDS if kind is not None else scheme not in _KNOWN_SCHEMES) and (
        packaged := package_kind(user_input, kind)
    ) is not None:
        return packaged
    if kind == "iceberg" and database_urls.kind_of(scheme) == "postgresql":
        return kind  # the catalog of a lake
    if (server := database_urls.kind_of(scheme)) is not None or kind in database_urls.PORTS:
        if server is None or kind not in (None, server):
            raise InvalidArgument(
                f"{display_location(user_input)!r} is not a URL of kind {kind}.",
                hint="Write postgresql://user@host/database or mysql://….",
            )
        return server
    if (
        container_kind := container_formats.infer(user_input)
        if kind is None
        else kind
        if kind in container_formats.KINDS
        else None
    ) is not None:
        return container_kind
    if scheme is not None and scheme not in ("memory", *STORES, *HTTP_SCHEMES):
        hint = "Use a path, a URL of http, s3, gs or az, a database URL, or a frame."
        raise InvalidArgument(f"{scheme}:// URLs are not supported.", hint=hint)
    if kind is not None:
        if kind not in FILE_KINDS:
            raise InvalidArgument(
                f"Unknown kind of source: {kind!r}.",
                near=near_names(kind, _ALL_KINDS),
                hint=f"Kinds are {', '.join(_ALL_KINDS)}.",
            )
        return kind
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
            hint=f'Set kind="…": {", ".join(_ALL_KINDS)}.',
        )
    return kinds.pop()


def is_package_kind(kind: str) -> bool:
    """Whether an installed package reads sources of this kind. No package is looked up for a kind
    of our own."""
    return kind not in (*_ALL_KINDS, "frame") and package_kind("", kind) is not None


def _kinds_by_content(user_input: str, read_access: ReadStoreAccess) -> set[str]:
    """The kinds by the location's own name, or by the names of its files, or else by the first
    bytes of a single file."""
    pattern = full_location(store_location(user_input, None), None)
    path = literal_path(pattern)
    name = urlsplit(pattern).path if scheme_of(pattern) in HTTP_SCHEMES else path or pattern
    if (path is None or not os.path.isdir(path)) and (named_kind := kind_of_name(name)) is not None:
        return {named_kind}
    try:
        names = file_set_for(pattern, read_access()).names()
    except OSError as error:
        raise read_errors.unreadable_error(display_location(pattern), error) from None
    if not names:
        raise read_errors.missing_error(pattern)
    if (
        path is not None
        and scheme_of(pattern) in STORES
        and (lakehouse_kind := _lakehouse_kind(names)) is not None
    ):
        return {lakehouse_kind}
    if scheme_of(pattern) not in HTTP_SCHEMES and (
        kinds := {kind for name in names if (kind := kind_of_name(name)) is not None}
    ):
        return kinds - {"text"} or kinds  # a README beside data files is none of them
    if len(names) == 1 and scheme_of(pattern) is None:
        return _kind_of_bytes(names[0])
    return set()


def _kind_of_bytes(path: str) -> set[str]:
    """The kind of a single file whose name does not tell it. Raises SourceUnavailable."""
    try:
        with open(path, "rb") as file:
            line = file.readline(_MAX_LINE_BYTES)
            kind = _MAGIC.get(line[:4])
            if kind is None and path.lower().endswith(".zip"):
                members = files_of_archive(file, os.path.basename(path))
                kind = kind_of_name(members[0]) if len(members) == 1 else None
    except OSError as error:
        raise read_errors.unreadable_error(path, error) from None
    if kind is None and path.lower().endswith(UNDELIMITED_SUFFIXES):
        raise delimiter_error(path, line.decode(errors="replace"))
    return {kind} if kind else set()


def _lakehouse_kind(names: list[str]) -> str | None:
    """The kind of a prefix that contains a Delta log or Iceberg metadata. Its data files alone
    would look like Parquet files."""
    if any("/_delta_log/" in name for name in names):
        return "delta"
    return (
        "iceberg"
        if any(
            name.endswith(".metadata.json") and name.split("/")[-2:-1] == ["metadata"]
            for name in names
        )
        else None
    )


def connector_for(
    record: SourceRecord, frame: object | None = None, context: SourceContext = NO_WORKSPACE
) -> Connector:
    """The connector of a registered source.

    `frame` is the object of a frame source (None if it no longer exists). Raises InvalidArgument
    for a kind that this release does not support.
    """
    if record.kind == "frame":
        return FrameConnector(record.name, frame)
    place = _CONNECTORS.get(record.kind)
    if place is not None:
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
