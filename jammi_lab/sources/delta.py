"""Delta tables as sources: the log says which version counts, DuckDB's `delta_scan` reads just that one."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from jammi_lab.canonical import digest_of
from jammi_lab.errors import InvalidArgument, SourceUnavailable
from jammi_lab.names import literal
from jammi_lab.sources import failures
from jammi_lab.sources.base import Query
from jammi_lab.sources.lakehouse import Gone, LakehouseConnector, State
from jammi_lab.sources.lakes import Lake

if TYPE_CHECKING:
    from deltalake import DeltaTable

T = TypeVar("T")


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

    def former(self, now: State, version: int, read: tuple[str, ...]) -> list[State]:  # noqa: ARG002  a version has one schema
        """An earlier version, when it is one of the same table. As `state`."""
        then = self._at(version)
        return [then, then._replace(commit="")] if then.table == now.table else []  # anchors of earlier releases do not tell the commit

    def places(self, state: State) -> list[str]:
        """As DuckDB will open them, which other readers of the log do not always agree with. SourceUnavailable when it would take columns by names
        that the log does not mean."""
        listed = self.ask(state, f"SELECT data_file FROM delta_list_files({literal(state.place)}, version := {state.version:d})")
        places = [place for (place,) in listed]
        if places and (physical := self._read(state.version, _by_number)):
            self._look_at_numbers(state, physical, places)
        return places

    def _look_at_numbers(self, state: State, physical: Mapping[int, str], places: list[str]) -> None:
        """Where a log finds columns by their numbers, DuckDB 1.5 looks for their names all the same, and has NULL for those that it does not find."""
        files = f"[{', '.join(map(literal, places))}]"
        for name, number in self.ask(state, f"SELECT DISTINCT name, field_id FROM parquet_schema({files}) WHERE field_id IS NOT NULL"):
            if physical.get(number, name) != name or (number not in physical and name in physical.values()):
                raise SourceUnavailable(
                    f"The Delta table {self._name} finds its columns by number (delta.columnMapping.mode is id), and a file holds column {number} "
                    f"under another name, {failures.tidy(name)}, by which DuckDB does not find it.",
                    hint="Have its writer write its files anew, under the physical names of its columns.",
                )

    def _at(self, version: int | None) -> State:
        lake = self.lake(self.path)

        def state(table: DeltaTable) -> State:
            fields = json.loads(table.schema().to_json())["fields"]
            named = tuple((field["name"], _identity(field)) for field in fields)
            return State(str(table.metadata().id), table.version(), self.path, named, self._commit(lake, table.version()))

        return self._read(version, state)

    def _read(self, version: int | None, what: Callable[[DeltaTable], T]) -> T:
        """What the log says of a version. Errors as `state`."""
        lake = self.lake(self.path)
        if not lake.has("_delta_log"):
            raise Gone
        try:
            from deltalake import DeltaTable
            from deltalake.exceptions import DeltaError
        except ImportError:
            raise self._lacking("deltalake") from None
        try:
            return what(DeltaTable(self.path, version=version, storage_options=lake.options()))
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


def _by_number(table: DeltaTable) -> dict[int, str]:
    """The physical name of each column by its number, nested ones too, where the table finds columns by number; else nothing."""
    if table.metadata().configuration.get("delta.columnMapping.mode") != "id":
        return {}
    left, found = list[Any]([json.loads(table.schema().to_json())]), dict[int, str]()
    while left:
        match left.pop():
            case {"metadata": {"delta.columnMapping.id": int(number), "delta.columnMapping.physicalName": str(name)}} as field:
                found[number] = name
                left.append(field["type"])
            case {"fields": list(fields)}:
                left += fields
            case dict() as other:
                left += other.values()
    return found


def _identity(field: dict[str, Any]) -> str:
    """A digest of what decides which values of a file a column has."""
    mapped = {key: value for key, value in field.get("metadata", {}).items() if key.startswith("delta.columnMapping.")}
    return digest_of([field["type"], mapped])
