"""Connector for Delta tables: the log defines the current version, and DuckDB's `delta_scan` reads
exactly that version."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from jammi_lab.core.canonical_json import digest_of
from jammi_lab.core.errors import InvalidArgument, SourceUnavailable
from jammi_lab.core.identifiers import sql_literal
from jammi_lab.core.module_imports import import_modules
from jammi_lab.sources.lakehouse.appended_files import data_files
from jammi_lab.sources.lakehouse.connector import LakehouseConnector
from jammi_lab.sources.lakehouse.table import TableSnapshot
from jammi_lab.sources.lakehouse.table_location import TableFiles
from jammi_lab.sources.located_connector import SourceGone

if TYPE_CHECKING:
    from deltalake import DeltaTable

T = TypeVar("T")
_UNPUSHED = re.compile(r"delta\.typeChanges|'(float|double|decimal\((1[6-9]|[23]\d),.*\))'")
"""What tells of a column, or of a part of it, that earlier files have it with another type, or that
the log has no exact bounds: of numbers without NaN, of decimals as DOUBLE."""


class DeltaConnector(LakehouseConnector):
    """A registered Delta table; with the option `version`, always that version."""

    format = "Delta"
    extension = "delta"
    method = "version of the table"

    def current_snapshot(self) -> TableSnapshot:
        """The newest version, or that of the option `version`. Raises SourceGone,
        SourceUnavailable, ExtensionMissing, and InvalidArgument for a version that does not
        exist."""
        newest = self._snapshot_at(None)
        wanted = self.record.options.get("version")
        if wanted is None:
            return newest
        if not 0 <= wanted <= newest.version:
            raise InvalidArgument(
                f"{self._name} has no version {wanted}.", hint=f"The newest is {newest.version}."
            )
        return self._snapshot_at(wanted)

    def former_snapshots(
        self,
        current: TableSnapshot,
        version: int,
        read: tuple[str, ...],  # noqa: ARG002
    ) -> list[TableSnapshot]:
        """An earlier version, if it is of the same table. Raises as `current_snapshot`."""
        former = self._snapshot_at(version)
        return [former] if former.table == current.table else []

    def _snapshot_at(self, version: int | None) -> TableSnapshot:
        table_files = self.table_files(self.path)

        def read_snapshot(table: DeltaTable) -> TableSnapshot:
            if table.metadata().configuration.get("delta.columnMapping.mode") == "id":
                raise SourceUnavailable(
                    f"The Delta table {self._name} maps its columns by id "
                    "(delta.columnMapping.mode is id), and DuckDB would look for them by name.",
                    hint="Let its writer set the mode to name in a copy of the table.",
                )
            fields = json.loads(table.schema().to_json())["fields"]
            identified = tuple((field["name"], _field_digest(field)) for field in fields)
            return TableSnapshot(
                str(table.metadata().id),
                table.version(),
                self.path,
                identified,
                self._commit_digest(table_files, table.version()),
                commit_file=self._commit_file(table.version()),
                unpushed=tuple(field["name"] for field in fields if _UNPUSHED.search(str(field))),
            )

        return self._read_log(version, read_snapshot)

    def _read_log(self, version: int | None, extract: Callable[[DeltaTable], T]) -> T:
        """The result of `extract` for one version of the log. Raises as `current_snapshot`."""
        table_files = self.table_files(self.path)
        if not table_files.has_folder("_delta_log"):
            raise SourceGone
        try:
            with import_modules():
                from deltalake import DeltaTable
                from deltalake.exceptions import DeltaError
        except ImportError:
            raise self._package_error("deltalake") from None
        try:
            return extract(
                DeltaTable(
                    self.path, version=version, storage_options=table_files.storage_options()
                )
            )
        except (DeltaError, ValueError, OSError) as error:
            if not table_files.has_folder("_delta_log"):
                raise SourceGone from None
            reason = str(error).split("\n", maxsplit=1)[0].rstrip(".")
            raise SourceUnavailable(
                f"The log of the Delta table {self._name} cannot be read: {reason[:200]}.",
                hint="Its last write may be incomplete, or a log file was deleted: check its "
                "writer.",
            ) from None

    def _commit_file(self, version: int) -> str:
        return f"{self.path}/_delta_log/{version:020d}.json"

    def _commit_digest(self, table_files: TableFiles, version: int) -> str:
        """A digest of the log entry of a version, which is unique because it names new files; empty
        if only a checkpoint is left."""
        try:
            return hashlib.sha256(table_files.read(self._commit_file(version))).hexdigest()
        except FileNotFoundError:
            return ""

    def scan(self, state: TableSnapshot) -> str:
        """The rows of one version."""
        return f"delta_scan({sql_literal(state.location)}, version := {state.version:d})"

    def has_unique_ids(self, state: TableSnapshot) -> bool:
        """Whether its commit is known: a table restored from a backup uses the same numbers
        again."""
        return bool(state.commit)

    def data_files(self, state: TableSnapshot) -> dict[str, tuple[int, bool]]:
        """The data files, on which other readers of the log do not always agree with DuckDB. A file
        with a deletion vector has deleted rows."""
        rows_ = self.query(
            state,
            "SELECT data_file, cardinality, have_deletes FROM "
            f"delta_list_files({sql_literal(state.location)}, version := {state.version:d})",
        )
        return data_files((name, rows, not deletes) for name, rows, deletes in rows_)


def _field_digest(field: dict[str, Any]) -> str:
    """A digest of what determines which values of a file belong to a column."""
    mapping = {
        key: value
        for key, value in field.get("metadata", {}).items()
        if key.startswith("delta.columnMapping.")
    }
    return digest_of([field["type"], mapping])
