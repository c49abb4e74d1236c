"""Delta tables as sources: the log says which version counts, DuckDB's `delta_scan` reads just that one."""

import hashlib
import json
from typing import Any

from jammi_lab.canonical import digest_of
from jammi_lab.errors import InvalidArgument, SourceUnavailable
from jammi_lab.names import literal
from jammi_lab.sources.base import Query
from jammi_lab.sources.lakehouse import Gone, LakehouseConnector, State
from jammi_lab.sources.lakes import Lake


class DeltaConnector(LakehouseConnector):
    """A registered Delta table. With the option `version` it is that version for ever."""

    format = "Delta"
    extension = "delta"
    method = "version of the table"

    def state(self) -> State:
        """The newest version, or the one that was asked for. Gone; SourceUnavailable; ExtensionMissing; InvalidArgument for no version."""
        newest = self._at(None)
        wanted = self.record.options.get("version")
        if wanted is None:
            return newest
        if not 0 <= wanted <= newest.version:
            raise InvalidArgument(f"{self._name} has no version {wanted}.", hint=f"The newest is {newest.version}.")
        return self._at(wanted)

    def former(self, now: State, version: int) -> list[State]:
        """An earlier version, when it is one of the same table. As `state`."""
        then = self._at(version)
        return [then, then._replace(commit="")] if then.table == now.table else []  # anchors of earlier releases do not tell the commit

    def places(self, state: State) -> list[str]:
        """As DuckDB will open them, which other readers of the log do not always agree with."""
        return [
            place for (place,) in self.ask(state, f"SELECT data_file FROM delta_list_files({literal(state.place)}, version := {state.version:d})")
        ]

    def _at(self, version: int | None) -> State:
        lake = self.lake(self.path)
        if not lake.has("_delta_log"):
            raise Gone
        try:
            from deltalake import DeltaTable
            from deltalake.exceptions import DeltaError
        except ImportError:
            raise self._lacking("deltalake") from None
        try:
            table = DeltaTable(self.path, version=version, storage_options=lake.options())
            fields = json.loads(table.schema().to_json())["fields"]
            named = tuple((field["name"], _identity(field)) for field in fields)
            return State(str(table.metadata().id), table.version(), self.path, named, self._commit(lake, table.version()))
        except (DeltaError, ValueError, OSError) as error:
            if not lake.has("_delta_log"):
                raise Gone from None
            first = str(error).split("\n", maxsplit=1)[0].rstrip(".")
            raise SourceUnavailable(
                f"The log of the Delta table {self._name} cannot be read: {first[:200]}.",
                hint="It may be half written, or a file of the log was removed: look at what its writer says.",
            ) from None

    def _commit(self, lake: Lake, version: int) -> str:
        """A digest of what the log says of a version, which names files that no other commit writes; empty when a checkpoint is all that is left."""
        try:
            return hashlib.sha256(lake.read(f"{self.path}/_delta_log/{version:020d}.json")).hexdigest()
        except FileNotFoundError:
            return ""

    def body(self, state: State) -> str:
        """One version."""
        return f"SELECT * FROM delta_scan({literal(state.place)}, version := {state.version:d})"

    def files(self, state: State, query: Query) -> dict[str, tuple[int, bool]]:
        """With deletion vectors a file's rows do not all count; which ones, its name does not tell."""
        listed = query(f"SELECT data_file, cardinality, have_deletes FROM delta_list_files({literal(state.place)}, version := {state.version:d})")
        return {name: (int(rows or 0), not deletes) for name, rows, deletes in listed}


def _identity(field: dict[str, Any]) -> str:
    """A digest of what decides which values of a file a column has."""
    mapped = {key: value for key, value in field.get("metadata", {}).items() if key.startswith("delta.columnMapping.")}
    return digest_of([field["type"], mapped])
