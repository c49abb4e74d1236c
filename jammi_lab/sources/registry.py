"""Registry of connectors: infers the kind of a location and creates the connector of a record."""

from __future__ import annotations

import fnmatch
import glob
import importlib
import os
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

from jammi_lab.core.anchors import Observed, Unknown, source_input
from jammi_lab.core.entry_points import CONNECTORS as CONNECTOR_GROUP
from jammi_lab.core.entry_points import load_package_entry, package_entries
from jammi_lab.core.errors import InvalidArgument, JammiError, SourceUnavailable
from jammi_lab.core.identifiers import fold, near_names
from jammi_lab.core.records import SourceRecord
from jammi_lab.sources import database_urls, read_errors
from jammi_lab.sources.base import (
    NO_WORKSPACE,
    Connector,
    ObservationContext,
    ReadPlan,
    Relation,
    SourceContext,
)
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
from jammi_lab.sources.frames import FrameConnector, as_arrow, frame_snapshot, unique_names
from jammi_lab.sources.located_connector import LocatedConnector
from jammi_lab.sources.locations import (
    HTTP_SCHEMES,
    STORES,
    display_location,
    full_location,
    literal_path,
    scheme_of,
    store_location,
)
from jammi_lab.sources.scratch_duckdb import sql_types

if TYPE_CHECKING:
    from collections.abc import Callable

    from jammi_lab.sources.base import SupportsRowComparison
    from jammi_lab.sources.files.http import HttpCredentials
    from jammi_lab.sources.lakehouse.connector import LakehouseConnector

    ReadStoreAccess = Callable[[], StoreAccess | HttpCredentials | None]

    # `isinstance` asks for this protocol. A method that was renamed in the protocol or in a class
    # would turn the feature off without an error; here it is an error of types.
    _ROW_COMPARING_CONNECTORS: tuple[type[SupportsRowComparison], ...] = (LakehouseConnector,)
    import pyarrow as pa

# --------------------------------------------------------------------------------------------------
# Sources of kinds that other packages add, in the entry-point group `jammi_lab.connectors`.
# The name of the entry point is the kind of source and the scheme of its URLs; its object is called
# as `open(location, options, secret)` and returns a reader. `reader.read(table)` returns a frame; a
# source with several tables also has `reader.tables()`. The rows are read for each observation and
# compared by content, so nothing of the package is trusted about their state.

_METHOD = "digest of the rows"


class Reader(Protocol):
    """What the function of a package returns."""

    def read(self, table: str | None) -> Any:
        """The rows of a table as a pandas, polars or pyarrow frame; `table` is None when the source
        is one table."""
        ...


def package_kind(location: str, kind: str | None) -> str | None:
    """The kind of a source that an installed package reads: `kind`, or the scheme of a URL."""
    name = kind if kind is not None else scheme_of(location)
    entry = None if name is None else package_entries(CONNECTOR_GROUP).get(fold(name))
    return None if entry is None else entry.name


class PackageConnector(LocatedConnector):
    """A registered source that the reader of a package reads."""

    def check(self) -> None:
        """Check that every table can be listed, and a single one be read. SourceUnavailable;
        SchemaMismatch; ExtensionMissing; InvalidArgument for an anchor."""
        if self.record.anchor not in ("auto", "content"):
            raise InvalidArgument(
                f"A source of kind {self.kind!r} cannot have the anchor {self.record.anchor!r}: "
                "its state is the digest of its rows.",
                hint="Omit anchor.",
            )
        if not self.tables():
            sql_types(self._rows(None).schema)

    def tables(self) -> list[str]:
        """The tables; empty if the source is one table."""
        reader = self._open()
        if not hasattr(reader, "tables"):
            return []
        return [str(name) for name in self._call(reader.tables)]

    def relation(self, table: str | None) -> Relation:
        """The current rows. SourceUnavailable; SchemaMismatch."""
        rows = self._rows(table)
        return Relation(
            source_input(self.record.name, table),
            ReadPlan(frame=rows),
            columns=sql_types(rows.schema),
        )

    def _observe(self, table: str | None, ctx: ObservationContext) -> Observed:
        """A snapshot by the digests of the columns. Raises as `relation`."""
        rows = self._rows(table)
        if ctx.scan_bytes is not None and rows.nbytes > ctx.scan_bytes:
            return Unknown(f"would scan {rows.nbytes:,} bytes; run `ws.status(deep=True)`")
        return frame_snapshot(rows).with_values(method=_METHOD)

    def _rows(self, table: str | None) -> pa.Table:
        reader = self._open()
        return unique_names(as_arrow(self._call(reader.read, table)))

    def _open(self) -> Any:
        open_reader = load_package_entry(CONNECTOR_GROUP, self.record.kind)
        typed, secret = self.context.credentials()
        return self._call(
            open_reader, self.pattern, dict(self.record.options), secret or typed.get("password")
        )

    def _call(self, function: Any, *arguments: Any) -> Any:
        """The result of a function of the package. SourceUnavailable for its exceptions."""
        try:
            return function(*arguments)
        except JammiError:
            raise
        except Exception as error:
            raise SourceUnavailable(
                f"The source {self.record.name!r} cannot be read by the connector "
                f"{self.record.kind!r}: {type(error).__name__}: {str(error)[:200]}.",
            ) from error


# --------------------------------------------------------------------------------------------------
# The registry.

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
