"""What names in FROM stand for: sources, notebook frames, result tables."""

import contextlib
import functools
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pyarrow as pa

from jammi_lab.catalog.catalog import Catalog
from jammi_lab.errors import JammiError, SourceUnavailable, TableDamaged, TableNotFound
from jammi_lab.names import RESERVED_SOURCES, Written, fold, near, written
from jammi_lab.observing.look import Pinned
from jammi_lab.observing.outside import Outside
from jammi_lab.observing.seen import LastSeen
from jammi_lab.sources.base import Connector, Finder, Foreseeing, Relation
from jammi_lab.sources.frames import FrameConnector, frame_snapshot
from jammi_lab.store import readers
from jammi_lab.store.results import Results, snapshot_of
from jammi_lab.values.anchors import Input, InputKind
from jammi_lab.values.records import SourceRecord, TableRecord, TableStatus

JAMMI = "jammi"
Found = tuple[SourceRecord, Connector]
"""A registered source, and who reads it."""
_CANNOT = re.compile(r" cannot be (?:read|reached): ")


class SourceProvider:
    """Registered sources, under their registered names."""

    def __init__(self, catalog: Catalog, outside: Outside, last_seen: LastSeen) -> None:
        self._catalog, self._outside, self._last_seen = catalog, outside, last_seen

    def resolve(self, parts: tuple[str, ...]) -> Relation | None:
        """The relation of `source` or `source.table`; None when no source is called so. SourceUnavailable for an absent frame."""
        found = self._outside.find(parts[0])
        return None if found is None else self._read(*found, parts)

    def foresee(self, names: Sequence[tuple[str, ...]], supposing: bool) -> "Asked | None":
        """The sources of a statement that are asked at once for the tables that it names; None where there is but one such table, of which nothing
        may be supposed."""
        within: dict[str, list[tuple[str, ...]]] = {}
        for parts in names:
            if len(parts) > 1 and fold(parts[0]) not in RESERVED_SOURCES:
                within.setdefault(fold(parts[0]), []).append(parts[1:])
        if sum(map(len, within.values())) < (1 if supposing else 2):
            return None
        found = {}
        for name, tables in within.items():
            with contextlib.suppress(JammiError):  # said by whoever resolves the name
                if (at := self._outside.find(name)) is not None and isinstance(at[1], Foreseeing):
                    at[1].foresee(tables, supposing)
                    found[name] = at
        return Asked(self._read, found) if found else None

    @staticmethod
    def _read(record: SourceRecord, connector: Connector, parts: tuple[str, ...]) -> Relation | None:
        if isinstance(connector, FrameConnector):
            return captured(connector, record.name) if len(parts) == 1 else None
        try:
            if isinstance(connector, Finder):
                return connector.relation(_found(connector, record.name, parts[1:]))
            tables = connector.tables()
            wanted = ".".join(parts[1:])
            table = next((t for t in tables if fold(t) == fold(wanted)), None)
            if table is None and tables:
                raise _no_table(record.name, tables, parts[1:])
            if table is None and wanted:
                return None
            return connector.relation(table)
        except SourceUnavailable as error:
            raise SourceUnavailable(_sentence(record.name, error.message), near=error.near, hint=error.hint) from error

    def names(self) -> Iterable[str]:
        """Names of the sources that the bound tenant sees, and of the tables that were last found inside: nothing is asked for them."""
        for record in self._catalog.sources.list():
            inside, _ = self._last_seen.tables(record) or ([], 0)
            yield from (record.name, *(Written(_typed(record.name, table)) for table in inside))


class Asked:
    """The sources of one statement, asked at once."""

    def __init__(self, read: Callable[[SourceRecord, Connector, tuple[str, ...]], Relation | None], found: dict[str, Found]) -> None:
        self._read, self._found = read, found

    def resolve(self, parts: tuple[str, ...]) -> Relation | None:
        """As `SourceProvider`, for names that were asked for."""
        found = self._found.get(fold(parts[0])) if len(parts) > 1 else None
        return None if found is None else self._read(*found, parts)

    def names(self) -> Iterable[str]:
        """None that `SourceProvider` does not know."""
        return ()

    def close(self) -> None:
        """Whatever nobody asked for is not wanted."""
        for _, connector in self._found.values():
            if isinstance(connector, Foreseeing):
                connector.forgo()


def _sentence(source: str, said: str) -> str:
    """What is said of a source that cannot be read, with its name; nothing twice."""
    if repr(source) in said:
        return said
    said = said[:1].lower() + said[1:] if said.startswith(("The ", "There ", "A ", "No ")) else said
    return f"The source {source!r} cannot be read: {_CANNOT.sub(': ', said, count=1)}"


def _found(connector: Finder, source: str, parts: Sequence[str]) -> str:
    """The table of a source with schemas that a name means. TableNotFound, with near names."""
    table = connector.find(parts)
    if table is not None:
        return table
    raise _no_table(source, connector.tables(), parts)


def _no_table(source: str, tables: Sequence[str], parts: Sequence[str]) -> TableNotFound:
    """Why a name after a source's name is none of its tables, with near names."""
    typed = {f"{source}.{t}": _typed(source, t) for t in tables}
    if not parts:
        hint = f"Say which, for example FROM {next(iter(typed.values()))}." if typed else ""
        return TableNotFound(f"{source} is a database and no table." if typed else f"{source} holds no table.", hint=hint)
    name = ".".join(parts)
    meant = [typed[each] for each in near(f"{source}.{name}", typed)]
    if any(t.split(".")[-1] == parts[-1] for t in typed):
        return TableNotFound(f"It is not clear which table {source}.{name} means.", near=meant, hint="Name its schema, too.")
    return TableNotFound(f"There is no table {name} in {source}.", near=meant)


def _typed(source: str, table: str) -> str:
    """What SQL calls a table inside a source."""
    return written(source, *(table.split(".") if 0 < table.find(".") == table.rfind(".") < len(table) - 1 else [table]))


class FrameProvider:
    """Frames in the notebook's variables; a registered source of the same name wins, because this provider is asked last."""

    def __init__(self, outside: Outside) -> None:
        self._outside = outside

    def resolve(self, parts: tuple[str, ...]) -> Relation | None:
        """The relation of a variable that holds a frame, captured as it is now."""
        connector = self._outside.variable(parts[0]) if len(parts) == 1 else None
        return None if connector is None else captured(connector, parts[0])

    def names(self) -> Iterable[str]:
        """Names of variables that hold frames."""
        return self._outside.variables()


class Given:
    """Rows of our own under a name that nothing else has, for a statement of our own."""

    NAME = "__jammi_given"

    def __init__(self, rows: pa.Table) -> None:
        self._relation = Relation(input=Input(kind=InputKind.FRAME, name=self.NAME), frame=rows, token=Pinned(frame_snapshot(rows)))

    def resolve(self, parts: tuple[str, ...]) -> Relation | None:
        """The rows, when they are meant."""
        return self._relation if parts == (self.NAME,) else None

    def names(self) -> Iterable[str]:
        """None: nobody is to be offered them."""
        return []


def captured(connector: FrameConnector, name: str) -> Relation:
    """A frame as it is now: what the statement reads is what the anchor digests, whatever happens to the frame meanwhile."""
    table, snapshot = connector.capture()
    return Relation(input=Input(kind=InputKind.FRAME, name=name), frame=table, token=Pinned(snapshot))


class ResultProvider:
    """Result tables: `jammi.<recipe>` is the newest ready version, `jammi."<physical name>"` and `"jammi.<physical name>"` one exact table."""

    def __init__(self, catalog: Catalog, results: Results) -> None:
        self._catalog, self._results = catalog, results

    def resolve(self, parts: tuple[str, ...]) -> Relation | None:
        """The relation of a result table; None when none is called so. TableDamaged when its bytes are not the published ones."""
        if len(parts) == 1 and fold(parts[0]).startswith(JAMMI + "."):
            parts = (JAMMI, parts[0][len(JAMMI) + 1 :])
        if len(parts) != 2 or fold(parts[0]) != JAMMI:
            return None
        while (found := self._meant(parts[1])) is not None:
            if (relation := self._held(*found)) is not None:
                return relation
        self._refuse_unmade(parts[1])
        return None

    def _refuse_unmade(self, name: str) -> None:
        if (recipe := self._catalog.recipes.get(name)) is not None:
            raise TableNotFound(f"The recipe {recipe.name!r} has no ready version yet.", hint=f"ws.recompute({recipe.name!r}) makes one.")

    def _meant(self, name: str) -> tuple[TableRecord, str, int] | None:
        """The table that a name means now, the name by which it is anchored, and the version."""
        newest = self._catalog.tables.newest(name)
        if newest is not None:
            version, record = newest
            return record, version.recipe, version.version
        exact = self._catalog.tables.get(name)
        return (exact, exact.table_name, exact.version) if exact is not None and exact.status is TableStatus.READY else None

    def _held(self, record: TableRecord, name: str, version: int) -> Relation | None:
        """The relation of a table whose bytes stay for the statement; None when it was dropped before they were held, and the name means another
        table by now, or none. TableDamaged."""
        reading = readers.Reading(self._results.parquet(record))
        try:
            relation = self.relation(record, name, version, reading)
        except TableDamaged:
            relation = None
            if self._still(record):
                raise
        return relation if self._still(record) else None

    def _still(self, record: TableRecord) -> bool:
        now = self._catalog.tables.get(record.table_name)
        return now is not None and now.status is TableStatus.READY

    def call(self, function: str, arguments: tuple[Any, ...]) -> Relation | None:
        """The relation of `jammi_version('recipe', version)`: that table alone, whatever becomes of the recipe. TableNotFound; TableDamaged."""
        if function != "jammi_version":
            return None
        recipe, number = arguments
        found = self._catalog.tables.version(recipe, number)
        if found is not None and found[1].status is TableStatus.READY:
            relation = self._held(found[1], found[1].table_name, number)
            if relation is not None:
                return relation
        there = [v.version for v, r in self._catalog.tables.versions(recipe) if r.status is TableStatus.READY]
        if there:
            raise TableNotFound(f"{recipe!r} has no ready version {number}; it has {', '.join(map(str, there))}.")
        self._refuse_unmade(recipe)
        known = [v.recipe for v, _ in self._catalog.tables.current()]
        raise TableNotFound(
            f"There is no recipe {recipe!r} with a ready version.", near=near(recipe, known), hint="ws.recipes() lists what there is."
        )

    def relation(self, record: TableRecord, name: str, version: int, reading: readers.Reading | None = None) -> Relation:
        """The relation of one table under the name by which it was reached; `reading` holds its bytes already. TableDamaged."""
        path = self._results.require(record)
        return Relation(
            input=Input(kind=InputKind.RESULT, name=name),
            body=self._results.body(record),
            filesystem=self._results.filesystem,
            columns={c.name: c.type for c in record.columns},
            token=Pinned(snapshot_of(record, version), record),
            hold=reading or readers.Reading(path),
            explain=functools.partial(self._gone, record, name),
        )

    def _gone(self, record: TableRecord, name: str, said: str) -> JammiError | None:
        """Why a table could not be read that was there when its name was resolved: bytes are held against this process only, and another one drops
        and expires as it likes."""
        if record.table_name not in said or self._still(record):
            return None
        return TableNotFound(
            f"The version of {name!r} that this was going to read was dropped by another kernel meanwhile.",
            hint="Run it again: it reads what is there.",
        )

    def names(self) -> Iterable[str]:
        """Recipes that have a ready version, as `jammi.<recipe>`."""
        return [f"{JAMMI}.{version.recipe}" for version, _ in self._catalog.tables.current()]
