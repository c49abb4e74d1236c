"""From what a person typed to a connector: which kind it is, whether its options are known, and who reads it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from jammi_lab.errors import InvalidArgument
from jammi_lab.names import near
from jammi_lab.sources import addresses, failures, table_formats
from jammi_lab.sources.base import Connector, Given, Reach, nothing_given
from jammi_lab.sources.entrance import WEB
from jammi_lab.sources.files import FileConnector
from jammi_lab.sources.frames import FrameConnector
from jammi_lab.sources.kinds import FILE_KINDS, check_anchor, check_options, kind_of_name
from jammi_lab.sources.locations import full_location, literal_path, scheme_of, shown, store_location
from jammi_lab.sources.objects import STORES, Access
from jammi_lab.sources.remote import place_of
from jammi_lab.values.records import SourceRecord

if TYPE_CHECKING:
    from collections.abc import Callable

    from jammi_lab.sources.web import Door

    Entrance = Callable[[], Access | Door | None]

__all__ = ["check_anchor", "check_options", "connector_for", "infer_kind"]

_ALL_KINDS = (*FILE_KINDS, *table_formats.KINDS, *addresses.PORTS)
_MAGIC = {b"PAR1": "parquet", b"ARRO": "arrow", b"FEA1": "arrow"}


def infer_kind(location: str | os.PathLike[str], kind: str | None = None, access: Entrance = lambda: None) -> str:
    """The kind of source at a location as it was typed, or `kind` when that is a kind. `access` gives how a remote one is asked.

    SourceUnavailable when nothing is there; InvalidArgument when the kind cannot be told, when files of several kinds are mixed, and for addresses
    that nothing here reads.
    """
    typed = os.fspath(location)
    scheme = scheme_of(typed)
    if isinstance(kind, str):
        kind = addresses.kind_of(kind) or kind  # mariadb and postgres, as in an address
    if kind == "iceberg" and addresses.kind_of(scheme) == "postgresql":
        return kind  # the catalog of a lake
    if (server := addresses.kind_of(scheme)) is not None or kind in addresses.PORTS:
        if server is None or kind not in (None, server):
            raise InvalidArgument(f"{shown(typed)!r} is no address of kind {kind}.", hint="Write postgresql://user@host/database or mysql://….")
        return server
    if (told := table_formats.infer(typed) if kind is None else kind if kind in table_formats.KINDS else None) is not None:
        return told
    if scheme is not None and scheme not in ("memory", *STORES, *WEB):
        hint = "Give a path, an address of http, s3, gs or az, a database, or a frame."
        raise InvalidArgument(f"Sources cannot be read from {scheme}:// addresses.", hint=hint)
    if kind is not None:
        if kind not in FILE_KINDS:
            raise InvalidArgument(
                f"There is no kind of file called {kind!r}.", near=near(kind, _ALL_KINDS), hint=f"Kinds are {', '.join(_ALL_KINDS)}."
            )
        return kind
    kinds = _kinds_there(typed, access)
    if len(kinds) > 1:
        raise InvalidArgument(
            f"{shown(typed)!r} holds files of several kinds ({', '.join(sorted(kinds))}).", hint='Say which with kind="…", or use a glob.'
        )
    if not kinds:
        raise InvalidArgument(f"The kind of {shown(typed)!r} cannot be told from its name.", hint=f'Say kind="…": {", ".join(_ALL_KINDS)}.')
    return kinds.pop()


def _kinds_there(typed: str, access: Entrance) -> set[str]:
    """What the one file's name tells, or the names of the files that are there, or at last the first bytes of the one file."""
    pattern = full_location(store_location(typed, None), None)
    path = literal_path(pattern)
    name = urlsplit(pattern).path if scheme_of(pattern) in WEB else path or pattern
    if (path is None or not os.path.isdir(path)) and (told := kind_of_name(name)) is not None:
        return {told}
    try:
        names = place_of(pattern, access()).names()
    except OSError as error:
        raise failures.unreadable(shown(pattern), error) from None
    if not names:
        raise failures.missing(pattern)
    if path is not None and scheme_of(pattern) in STORES and (lake := _of_lake(names)) is not None:
        return {lake}
    if scheme_of(pattern) not in WEB and (kinds := {kind for name in names if (kind := kind_of_name(name)) is not None}):
        return kinds
    if len(names) == 1 and scheme_of(pattern) is None:
        try:
            with open(names[0], "rb") as file:
                return {kind} if (kind := _MAGIC.get(file.read(4))) else set()
        except OSError as error:
            raise failures.unreadable(names[0], error) from None
    return set()


def _of_lake(names: list[str]) -> str | None:
    """What a prefix is that holds the log of a Delta table, or the metadata of an Iceberg table: its data files alone say nothing."""
    if any("/_delta_log/" in name for name in names):
        return "delta"
    return "iceberg" if any(name.endswith(".metadata.json") and name.split("/")[-2:-1] == ["metadata"] for name in names) else None


def connector_for(
    record: SourceRecord, frame: object | None, folder: Path | None, given: Given = nothing_given, reach: Reach | None = None
) -> Connector:
    """Who reads a registered source: `frame` is the object when the record is of a frame (None: it is gone), `folder` the workspace's, `given`
    its credentials, `reach` asks servers in the engine's instance.

    InvalidArgument for a kind that this release does not read.
    """
    if record.kind == "frame":
        return FrameConnector(record.name, frame)
    if record.kind in table_formats.KINDS:
        return table_formats.connector(record, folder, given, reach)
    if record.kind in addresses.PORTS:
        from jammi_lab.sources.mysql import MysqlConnector
        from jammi_lab.sources.postgres import PostgresConnector

        return (PostgresConnector if record.kind == "postgresql" else MysqlConnector)(record, given, reach)
    if record.kind not in FILE_KINDS:
        raise InvalidArgument(f"Nothing here reads sources of kind {record.kind!r}.", hint="A later version of jammi-lab may have registered it.")
    return FileConnector(record, folder, given)
