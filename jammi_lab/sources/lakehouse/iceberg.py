"""Connector for Iceberg tables: a metadata file defines the current snapshot, and DuckDB's
`iceberg_scan` reads exactly that snapshot."""

import json
import os
import re
import zlib
from collections.abc import Mapping
from typing import Any

from jammi_lab.core.canonical_json import digest_of
from jammi_lab.core.errors import SourceUnavailable
from jammi_lab.core.identifiers import sql_literal
from jammi_lab.sources import read_errors
from jammi_lab.sources.lakehouse.appended_files import data_files
from jammi_lab.sources.lakehouse.connector import LakehouseConnector
from jammi_lab.sources.lakehouse.table import TableSnapshot
from jammi_lab.sources.lakehouse.table_location import local_path
from jammi_lab.sources.located_connector import SourceGone

_NAME_MAPPING = "schema.name-mapping.default"
_FLOATING = re.compile("float|double")
_METADATA_NAME = re.compile(r"(?:v(\d+)|(\d+)-[0-9a-fA-F-]+)(?:\.gz)?\.metadata\.json(?:\.gz)?")


class IcebergConnector(LakehouseConnector):
    """A registered Iceberg table.

    The location is the table's folder, whose newest metadata file is the state, or a metadata file,
    which is always the state.
    """

    format = "Iceberg"
    extension = "iceberg"
    method = "snapshot of the table"
    keeps_row_order = False

    def current_snapshot(self) -> TableSnapshot:
        """The current snapshot. Raises SourceGone, SourceUnavailable, ExtensionMissing."""
        location = self._newest_metadata()
        metadata = self._read_metadata(location)
        try:
            number = metadata.get("current-snapshot-id")
            version = -1 if number is None else int(number)
            return _state_of(metadata, location, version, _current_schema(metadata))
        except (KeyError, TypeError, AttributeError):
            raise self._truncated_error(location) from None

    def former_snapshots(
        self, current: TableSnapshot, version: int, read: tuple[str, ...]
    ) -> list[TableSnapshot]:
        """An earlier snapshot with each possible schema; DuckDB reads it with the one that it was
        written with. Raises as `current_snapshot`."""
        metadata = self._read_metadata(current.location)
        snapshot, snapshots = _snapshot_of(metadata, version), list[TableSnapshot]()
        if version >= 0 and not snapshot:
            return []  # expired
        own_schema = snapshot.get("schema-id")
        known_fields = {
            field
            for schema in _schemas(metadata)
            if own_schema in (None, schema.get("schema-id", 0))
            for field in _fields(schema)
        }
        for schema in _schemas(metadata):
            state = _state_of(metadata, current.location, version, schema)
            if version == current.version or all(
                field in known_fields for field in state.fields if field[0] in read
            ):
                snapshots.append(state._replace(is_former=version != current.version))
        return snapshots

    def scan(self, state: TableSnapshot) -> str:
        """The rows of one snapshot; none of a table without snapshots. The current snapshot is not
        named, because by its number DuckDB would read it with its own schema instead of the current
        one."""
        named = f", snapshot_from_id := {state.version:d}" if state.is_former else ""
        scan = f"iceberg_scan({sql_literal(state.location)}{named})"
        return scan if state.version >= 0 else f"(FROM {scan} WHERE false)"

    def data_files(self, state: TableSnapshot) -> dict[str, tuple[int, bool]]:
        """Data files and delete files; with these, any data file may have deleted rows."""
        if state.version < 0:
            return {}
        entries = self.query(
            state,
            "SELECT content, file_path, record_count FROM "
            f"iceberg_metadata({sql_literal(state.location)}, snapshot_from_id := "
            f"{state.version:d}) WHERE status <> 'DELETED'",
        )
        contents = {content for content, *_ in entries}
        if "EQUALITY_DELETES" in contents:
            # DuckDB 1.5 applies those of one partition to all, and deletes rows with NULL in a
            # compared column.
            raise SourceUnavailable(
                f"The Iceberg table {self._name} has equality deletes, which DuckDB would "
                "apply incorrectly.",
                hint="Let its writer compact the table (rewrite_data_files), or use position "
                "deletes.",
            )
        is_whole = contents <= {"DATA", "EXISTING"}
        return data_files((path, rows, is_whole) for _, path, rows in entries)

    def table_home(self, state: TableSnapshot) -> str:
        """The folder or URL of the table."""
        return state.location.rsplit("/metadata/", 1)[0]

    def _newest_metadata(self) -> str:
        """The newest metadata file."""
        if self.path.endswith(".json") and not os.path.isdir(self.path):
            return self.path
        table_files = self.table_files(self.path)
        names = table_files.list_names("metadata")
        if not names and not table_files.has_folder(""):
            raise SourceGone
        numbered = []
        for name in names:
            if match := _METADATA_NAME.fullmatch(name):
                numbered.append((int(match[1] or match[2]), name))
        if not numbered:
            raise SourceUnavailable(
                f"The folder {self._name} contains no metadata of an Iceberg table.",
                hint="Use the folder that contains the folders metadata and data. Of a table in a "
                "catalog, catalog.load_table(name).location() tells it.",
            )
        highest = max(number for number, _ in numbered)
        newest = [name for number, name in numbered if number == highest]
        # Two writers used the same number; only their catalog knows which one is current.
        if len(newest) > 1:
            raise SourceUnavailable(
                f"The folder {self._name} has {len(newest)} metadata files with number {highest}.",
                hint="Only its catalog knows the current one: use the path that "
                "catalog.load_table(name).metadata_location tells.",
            )
        return f"{self.path}/metadata/{newest[0]}"

    def _read_metadata(self, location: str) -> dict[str, Any]:
        try:
            raw = self.table_files(location).read(location)
            if raw[:2] == b"\x1f\x8b":
                import gzip

                raw = gzip.decompress(raw)
            metadata: dict[str, Any] = json.loads(raw)
        except FileNotFoundError:
            if location == self.path:
                raise SourceGone from None
            raise SourceUnavailable(
                f"The metadata file {read_errors.display_name(location)} of the Iceberg table "
                f"{self._name} is missing, though the table was not dropped.",
                hint="It was deleted or its write is incomplete: restore it, or let the table's "
                "writer commit again.",
            ) from None
        except OSError as error:
            raise read_errors.unreadable_error(location, error) from None
        except (ValueError, EOFError, RecursionError, zlib.error):
            raise self._truncated_error(location) from None
        return metadata

    def _truncated_error(self, location: str) -> SourceUnavailable:
        return SourceUnavailable(
            f"{read_errors.display_name(location)} is not a complete metadata file of an Iceberg "
            "table.",
            hint="It may be truncated, or its write incomplete.",
        )


def _schemas(metadata: Mapping[str, Any]) -> list[dict[str, Any]]:
    return metadata.get("schemas") or [metadata["schema"]]


def _current_schema(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """The schema with which the table is read. Raises KeyError if it is missing."""
    number = metadata.get("current-schema-id", 0)
    for schema in _schemas(metadata):
        if schema.get("schema-id", 0) == number:
            return schema
    raise KeyError(number)


def _snapshot_of(metadata: Mapping[str, Any], version: int) -> dict[str, Any]:
    """What the metadata say of a snapshot; nothing if it expired."""
    by_id = dict[int, dict[str, Any]]()
    for snapshot in metadata.get("snapshots", []):
        by_id[int(snapshot["snapshot-id"])] = snapshot
    return by_id.get(version, {})


def _state_of(
    metadata: Mapping[str, Any], location: str, version: int, schema: Mapping[str, Any]
) -> TableSnapshot:
    """A snapshot that is read with a schema."""
    # the file with its manifests, the last one written before its commit
    manifests = str(_snapshot_of(metadata, version).get("manifest-list") or "")
    return TableSnapshot(
        str(metadata["table-uuid"]),
        version,
        location,
        _fields(schema),
        _mapping_note(metadata),
        commit_file=local_path(manifests) or manifests,
        unpushed=_unpushed_columns(metadata, schema),
    )


def _mapping_note(metadata: Mapping[str, Any]) -> str:
    """Distinguishes reads with other names for columns, which determine what files without column
    ids contain."""
    mapping = (metadata.get("properties") or {}).get(_NAME_MAPPING)
    return "" if mapping is None else f"names {digest_of(mapping)}"


def _unpushed_columns(metadata: Mapping[str, Any], schema: Mapping[str, Any]) -> tuple[str, ...]:
    """The columns of a schema that have another type in an earlier one; those of type FLOAT
    and DOUBLE, too, because bounds have no NaN, and files may be added to a table with a narrower
    type than it ever had."""
    types: dict[int, set[str]] = {}
    for each in _schemas(metadata):
        for field in each["fields"]:
            types.setdefault(field["id"], set()).add(str(field["type"]))
    return tuple(
        field["name"]
        for field in schema["fields"]
        if len(types[field["id"]]) > 1 or _FLOATING.search(str(field["type"]))
    )


def _fields(schema: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """The columns, each with a digest of what determines which values of a file belong to it."""
    irrelevant = ("name", "doc", "required", "write-default")
    return tuple(
        (
            field["name"],
            digest_of({key: value for key, value in field.items() if key not in irrelevant}),
        )
        for field in schema["fields"]
    )
