"""Iceberg tables as sources: a metadata file says which snapshot counts, DuckDB's `iceberg_scan` reads just that one."""

import json
import os
import re
import urllib.parse
from typing import Any

from msgspec.structs import replace

from jammi_lab.canonical import digest_of
from jammi_lab.errors import InvalidArgument, SourceUnavailable
from jammi_lab.names import literal
from jammi_lab.sources import failures, outside_process
from jammi_lab.sources.base import Query
from jammi_lab.sources.lakehouse import Gone, LakehouseConnector, State
from jammi_lab.sources.lakes import s3_url
from jammi_lab.sources.locations import scheme_of
from jammi_lab.sources.outside_process import ChildFailed
from jammi_lab.sources.postgres import PostgresConnector

_METADATA = re.compile(r"(?:v(\d+)|(\d+)-[0-9a-fA-F-]+)(?:\.gz)?\.metadata\.json(?:\.gz)?")


class IcebergConnector(LakehouseConnector):
    """A registered Iceberg table: its folder, whose newest metadata file is its state; a metadata file, which is its state for ever; or a catalog in
    an SQLite file or in PostgreSQL, with the option `table` (and `catalog`, when it holds several)."""

    format = "Iceberg"
    extension = "iceberg"
    method = "snapshot of the table"
    catalogs = ("postgresql", "postgres")

    def state(self) -> State:
        """The current snapshot. Gone; SourceUnavailable; ExtensionMissing."""
        place = self._of_catalog() if "table" in self.record.options else self._newest()
        said = self._read(place)
        try:
            number = said.get("current-snapshot-id")
            version, schema = -1 if number is None else int(number), said.get("current-schema-id", 0)
            current = next(each for each in _schemas(said) if _is_current(said, each))
            return State(str(said["table-uuid"]), version, place, _fields(current), _read_by(said, version, schema))
        except (KeyError, TypeError, AttributeError, StopIteration):
            raise self._torn(place) from None

    def former(self, now: State, version: int, read: tuple[str, ...]) -> list[State]:
        """An earlier snapshot, with each schema that the table has had. DuckDB reads it with the one that it was written with. As `state`."""
        said = self._read(now.place)
        if version >= 0 and version not in _written_with(said):
            return []  # it has expired
        own, found = _written_with(said).get(version), list[State]()
        kept = {field for schema in _schemas(said) if own in (None, schema.get("schema-id", 0)) for field in _fields(schema)}
        for schema in _schemas(said):
            fields = _fields(schema)
            if version == now.version or all(field in kept for field in fields if field[0] in read):
                commit = _read_by(said, version, schema.get("schema-id", 0))
                found.append(now._replace(version=version, fields=fields, commit=commit, former=version != now.version))
        return found

    def body(self, state: State) -> str:
        """One snapshot; a table without any has no rows. The current one is read with the schema of now, which its number would not do."""
        named = f", snapshot_from_id := {state.version:d}" if state.former else ""
        return f"SELECT * FROM iceberg_scan({literal(state.place)}{named}){' WHERE false' if state.version < 0 else ''}"

    def files(self, state: State, query: Query) -> dict[str, tuple[int, bool]]:
        """Where the snapshot has files of deletes, any data file may have lost rows."""
        if state.version < 0:
            return {}
        listed = query(
            "SELECT content, file_path, record_count FROM "
            f"iceberg_metadata({literal(state.place)}, snapshot_from_id := {state.version:d}) WHERE status <> 'DELETED'"
        )
        whole = all(content in ("DATA", "EXISTING") for content, _, _ in listed)
        return {path: (int(rows or 0), whole) for _, path, rows in listed}

    def places(self, state: State) -> list[str]:
        """Files of data and of deletes. SourceUnavailable for deletes that DuckDB does not read rightly."""
        if state.version < 0:
            return []
        listed = self.ask(
            state,
            "SELECT content, manifest_path, file_path FROM "
            f"iceberg_metadata({literal(state.place)}, snapshot_from_id := {state.version:d}) WHERE status <> 'DELETED'",
        )
        if any(content == "EQUALITY_DELETES" for content, _, _ in listed):
            self._look_at_deletes(state, sorted({manifest for _, manifest, _ in listed}))
        return [place for _, _, place in listed]

    def _look_at_deletes(self, state: State, manifests: list[str]) -> None:
        """DuckDB 1.5 takes rows of all partitions away by deletes of one of them, and rows that hold NULL in a column that is compared; it breaks
        down over a column that was dropped or has changed its type."""
        said = self._read(state.place)
        if any(spec.get("fields") for spec in said.get("partition-specs", [])):
            raise self._misread("its rows lie in partitions")
        select = "SELECT data_file.content, data_file.equality_ids, data_file.null_value_counts FROM read_avro({}) WHERE status <> 2"
        files = [row for manifest in manifests for row in self.ask(state, select.format(literal(manifest)))]
        counts = [nulls or {} for content, _, nulls in files if content == 0]
        for number in {each for _, numbers, _ in files for each in numbers or ()}:
            fields = [field for schema in _schemas(said) for field in schema["fields"] if field["id"] == number]
            name = failures.tidy(fields[-1]["name"]) if fields else f"number {number}"
            if not any(field["id"] == number for schema in _schemas(said) if _is_current(said, schema) for field in schema["fields"]):
                raise self._misread(f"they compare the column {name}, which is not there any more")
            if len({str(field["type"]) for field in fields}) > 1:
                raise self._misread(f"they compare the column {name}, which has changed its type")
            if any(field["type"] in ("float", "double") or not isinstance(field["type"], str) for field in fields):
                raise self._misread(f"they compare the column {name}, which is no plain value")
            required = len(fields) == len(_schemas(said)) and all(field["required"] for field in fields)
            if not required and not all(nulls.get(number) == 0 for nulls in counts):
                raise self._misread(f"they compare the column {name}, which may hold NULL")

    def _misread(self, why: str) -> SourceUnavailable:
        return SourceUnavailable(
            f"The Iceberg table {self._table} has equality deletes, and {why}: DuckDB does not read such rightly.",
            hint="Have its writer compact the table, which writes its data files anew without deletes (rewrite_data_files), or delete by position.",
        )

    def home(self, state: State) -> str:
        """The folder or address of the table itself."""
        return state.place.rsplit("/metadata/", 1)[0]

    def _newest(self) -> str:
        """The metadata file of this moment."""
        if self.path.endswith(".json") and not os.path.isdir(self.path):
            return self.path
        lake = self.lake(self.path)
        names = lake.names("metadata")
        if not names and not lake.has(""):
            raise Gone
        numbered = [(int(found[1] or found[2]), name) for name in names if (found := _METADATA.fullmatch(name))]
        if not numbered:
            raise SourceUnavailable(
                f"The folder {self._name} holds no metadata of an Iceberg table.", hint="Name the folder that holds the folders metadata and data."
            )
        highest = max(number for number, _ in numbered)
        newest = [name for number, name in numbered if number == highest]
        if len(newest) > 1:  # two writers wrote the same number; only a catalog knows which of them counts
            raise SourceUnavailable(
                f"The folder {self._name} holds {len(newest)} metadata files of number {highest}.",
                hint='Only its catalog knows which one counts: options={"catalog": …, "table": …}, or name the metadata file.',
            )
        return f"{self.path}/metadata/{newest[0]}"

    def _of_catalog(self) -> str:
        """Where a catalog in an SQLite file or in PostgreSQL says that the metadata is."""
        options = self.record.options
        namespace, _, table = options["table"].rpartition(".")
        if not namespace:
            raise InvalidArgument(f"{options['table']!r} names no namespace.", hint='Write options={"table": "namespace.table"}.')
        said = self._in_file(namespace, table) if scheme_of(self.path) is None else self._on_server(namespace, table)
        found = {catalog: place for catalog, place in said if options.get("catalog") in (None, catalog)}
        if not found:
            raise Gone
        if len(found) > 1:
            raise SourceUnavailable(
                f"{self._name} holds several catalogs with a table {options['table']}.", near=list(found), hint='Say which: options={"catalog": …}.'
            )
        place = next(iter(found.values()))
        parsed = urllib.parse.urlparse(place)
        if parsed.scheme in ("s3", "s3a"):
            return s3_url(place)
        if parsed.scheme not in ("", "file"):
            raise InvalidArgument(
                f"The table {options['table']} lies at {parsed.scheme}://, and Iceberg tables are read from this machine and from s3."
            )
        return str(urllib.parse.unquote(parsed.path) if parsed.scheme else place)

    def _in_file(self, namespace: str, table: str) -> list[tuple[str, str]]:
        try:
            found: list[tuple[str, str]] = outside_process.ask({"do": "catalog", "path": self.path, "namespace": namespace, "table": table})["found"]
        except ChildFailed as error:
            if error.kind == "gone":
                raise Gone from None
            raise SourceUnavailable(
                f"{self._name} cannot be read as an Iceberg catalog: {error}.", hint="Name the SQLite file of a catalog, as pyiceberg makes it."
            ) from None
        return found

    def _on_server(self, namespace: str, table: str) -> list[tuple[str, str]]:
        server = PostgresConnector(replace(self.record, kind="postgresql", options={}), self._given, self._reach)
        where = f"table_namespace = {literal(namespace)} AND table_name = {literal(table)}"
        select = f"SELECT catalog_name, metadata_location FROM iceberg_tables WHERE {where}"
        found: list[tuple[str, str]] = server.ask(lambda asking: server.query(asking, select))
        return found

    def _missing(self) -> SourceUnavailable:
        if "table" in self.record.options and (scheme_of(self.path) is not None or os.path.lexists(self.path)):
            return SourceUnavailable(f"The catalog {self._name} has no table {self.record.options['table']!r}.", hint="Look at its name.")
        return super()._missing()

    def _read(self, place: str) -> dict[str, Any]:
        try:
            raw = self.lake(place).read(place)
            if raw[:2] == b"\x1f\x8b":
                import gzip

                raw = gzip.decompress(raw)
            said: dict[str, Any] = json.loads(raw)
        except FileNotFoundError:
            if place == self.path:
                raise Gone from None
            raise SourceUnavailable(
                f"The metadata file {failures.tidy(place)} of the Iceberg table {self._table} is not there, though the table was not dropped.",
                hint="It was removed, or not written to its end: restore it, or let the table's writer commit again.",
            ) from None
        except OSError as error:
            raise failures.unreadable(place, error) from None
        except (ValueError, EOFError):
            raise self._torn(place) from None
        return said

    @property
    def _table(self) -> str:
        return str(self.record.options.get("table", self._name))

    def _torn(self, place: str) -> SourceUnavailable:
        return SourceUnavailable(f"{failures.tidy(place)} is no whole metadata file of an Iceberg table.", hint="It may be torn, or half written.")


def _schemas(said: dict[str, Any]) -> list[dict[str, Any]]:
    return said.get("schemas") or [said["schema"]]


def _is_current(said: dict[str, Any], schema: dict[str, Any]) -> bool:
    return bool(schema.get("schema-id", 0) == said.get("current-schema-id", 0))


def _written_with(said: dict[str, Any]) -> dict[int, int | None]:
    """The schema that each snapshot was written with, where that was noted."""
    return {int(snapshot["snapshot-id"]): snapshot.get("schema-id") for snapshot in said.get("snapshots", [])}


def _read_by(said: dict[str, Any], version: int, schema: int) -> str:
    """What tells a reading of a snapshot with a later schema from one with its own; earlier releases read it with its own until the next write."""
    return "" if _written_with(said).get(version) in (None, schema) else f"schema {schema}"


def _fields(schema: dict[str, Any]) -> tuple[tuple[str, str], ...]:
    """The columns, each with a digest of what decides which values of a file it has."""
    beside = ("name", "doc", "required", "write-default")
    return tuple((field["name"], digest_of({key: value for key, value in field.items() if key not in beside})) for field in schema["fields"])
