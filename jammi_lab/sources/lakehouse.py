"""Tables that keep their own history of snapshots: Delta and Iceberg. Every read is pinned to the snapshot that is anchored.

A snapshot's number proves that nothing changed. When it moved, the rows may still be the same (compaction, a write to a column that nobody reads):
then `same_rows` compares them, over nothing but the data files that one snapshot has and the other has not.
"""

import os
import urllib.parse
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, NamedTuple

import duckdb

from jammi_lab.canonical import digest_of
from jammi_lab.errors import ExtensionMissing, InvalidArgument, JammiError, SourceUnavailable, TableNotFound
from jammi_lab.names import literal, near, quote, written
from jammi_lab.sources import extensions, failures, scratch
from jammi_lab.sources.base import Given, Looking, Query, Reach, Relation, nothing_given
from jammi_lab.sources.entrance import entrance, of_a_lake
from jammi_lab.sources.lakes import Bucket, Folder, Lake, outside_of, s3_url
from jammi_lab.sources.locations import Located, full_location, literal_path, refuse_own, scheme_of, shown
from jammi_lab.sources.objects import Access
from jammi_lab.storage.digests import MemoEntry
from jammi_lab.storage.files import Stat
from jammi_lab.values.anchors import Anchor, Cost, Input, InputKind, Observed, Snapshot, Unknown, Vanished
from jammi_lab.values.records import SourceRecord

_NO_STAT = Stat(0, 0, 0, 0)
_PREVIEW = 100


class State(NamedTuple):
    """Which snapshot of which table."""

    table: str
    """The table's own id, which a table made anew under the same name does not have."""
    version: int
    """The number of the snapshot."""
    place: str
    """Where to read it."""
    fields: tuple[tuple[str, str], ...]
    """The columns in order, each with a digest of what makes it that very column: its type, and the id by which files hold it. A column that was
    dropped and added again under its name reads other values from the same files."""
    commit: str = ""
    """A digest of what made the snapshot, where its number says too little: a table that was put back from a copy gives the same numbers again."""
    former: bool = False
    """Whether what lies at `place` counts another snapshot as the current one."""

    @property
    def mark(self) -> str:
        """What no other snapshot has."""
        return f"{self.table}:{self.version}{self.commit and ':'}{self.commit}"


_allowed: dict[tuple[Path, State], None] = {}
"""Snapshots whose files were looked at, for each workspace."""
_MOST_ALLOWED = 1024
_LOOSE = ("FLOAT", "DOUBLE", "INTERVAL")
"""Types of which SQL holds different values for equal; their texts differ."""
_UNTOLD = ("VARIANT", "GEOMETRY", "UNION")
"""Types of which neither SQL nor text tells all values apart."""


class Gone(Exception):
    """The table is not there any more."""


class LakehouseConnector(Located, ABC):
    """A registered table in a folder, or below an s3 address. `record.location` is what `locations.store_location` gave; `folder` is the workspace's,
    None without one."""

    format = ""
    """The format's name, for people."""
    extension = ""
    method = ""
    """How its state is named, in words."""
    catalogs: tuple[str, ...] = ()
    """Schemes of servers that can tell where a table is."""

    def __init__(self, record: SourceRecord, folder: Path | None = None, reach: Reach | None = None, given: Given = nothing_given) -> None:
        self.record = record
        self.folder = folder
        self._reach, self._given = reach, given
        pattern = full_location(record.location, folder)
        scheme = scheme_of(pattern)
        if scheme not in (None, "s3", "s3a", *self.catalogs):
            raise InvalidArgument(f"{self.format} tables are read from folders of this machine and from s3, not from {shown(pattern)}.")
        path = pattern if scheme in self.catalogs else literal_path(pattern)
        if path is None:
            raise InvalidArgument(f"{shown(pattern)!r} names several places; one {self.format} table is one source.")
        self.path = path if scheme in (None, *self.catalogs) else s3_url(path)

    def lake(self, place: str) -> Lake:
        """How the files of a table are read that lies there. SecretMissing, ExtensionMissing."""
        if scheme_of(place) is None:
            return Folder(place)
        access = entrance(self.record, self._given)
        return Bucket(place, access if isinstance(access, Access) else of_a_lake(self.record, self._given))

    # -- what each format does in its own way ---------------------------------------------------------------------------------------------

    @abstractmethod
    def state(self) -> State:
        """The snapshot that counts now. Gone; SourceUnavailable; ExtensionMissing."""

    @abstractmethod
    def body(self, state: State) -> str:
        """A SELECT of all rows of a snapshot."""

    @abstractmethod
    def former(self, now: State, version: int, read: tuple[str, ...]) -> list[State]:
        """What an earlier snapshot of the same table may have been: once for each schema that it may have been read with, if the columns that were
        read can still be read so. Errors as `state`."""

    @abstractmethod
    def files(self, state: State, query: Query) -> dict[str, tuple[int, bool]]:
        """The data files of a snapshot as its scan names them: rows, and whether all of them count."""

    @abstractmethod
    def places(self, state: State) -> list[str]:
        """Paths or URLs of all files that reading a snapshot may open. Errors as `state`; SourceUnavailable when it would not be read rightly."""

    def home(self, state: State) -> str:
        """The folder or address of the table itself."""
        return state.place

    # -- what every connector does --------------------------------------------------------------------------------------------------------

    def tables(self) -> list[str]:
        """Empty: it is one table."""
        return []

    def check(self) -> None:
        """Nothing, when the table can be read. SourceUnavailable; ExtensionMissing; InvalidArgument for an anchor on a column that is not there."""
        extensions.path_of(self.extension)
        relation = self.relation(None)
        try:
            columns = scratch.describe(relation)
            scratch.preview(relation, _PREVIEW)
        except duckdb.Error as error:
            raise self._said(str(error)) from None
        anchor = self.record.anchor
        if anchor.startswith("column:") and (name := anchor.removeprefix("column:")) not in columns:
            raise InvalidArgument(f"There is no column {name!r} to anchor on.", near=near(name, columns), hint=f"Columns are {', '.join(columns)}.")

    def relation(self, table: str | None) -> Relation:
        """What SQL reads: the snapshot of this moment. SourceUnavailable, ExtensionMissing, TableNotFound for a table inside it."""
        if table is not None:
            raise TableNotFound(f"{self.record.name!r} is one table and holds no table {table!r}.", hint=f"Say FROM {written(self.record.name)}.")
        self._refuse_own_place()
        try:
            state = self.state()
            self._refuse_own_files(state)
            return self._relation(state)
        except Gone:
            raise self._missing() from None
        except duckdb.Error as error:
            raise self._said(str(error)) from None
        except OSError as error:
            raise failures.unreadable(self.location, error) from None

    def observe(self, table: str | None, looking: Looking) -> Observed:
        """A Snapshot; Vanished when the table is gone; Unknown when its state cannot be told."""
        if table is not None:
            return Vanished()
        if self.record.anchor == "none":
            return Unknown('its owner chose anchor="none"')
        try:
            self._refuse_own_place()
            state = self.state()
            self._refuse_own_files(state)
            if self.record.anchor.startswith("column:"):
                return self._by_column(state, looking)
            return self._snapshot(state, self._columns(state, looking))
        except Gone:
            return Vanished()
        except duckdb.Error as error:
            return Unknown(self._said(str(error)).message.rstrip("."))
        except (JammiError, OSError) as error:
            return Unknown(failures.why(error))

    def same_rows(self, recorded: Anchor, looking: Looking) -> bool | Unknown:
        """Whether the columns of a recorded anchor hold the same bag of rows as they do now; Unknown when finding out costs more than the look
        allows. False when that cannot be told: the old snapshot's files may be gone."""
        if recorded.version is None or self._reach is None or recorded.method != self.method:
            return False
        try:
            now = self.state()
            columns = self._columns(now, looking)
            for then in self.former(now, recorded.version, recorded.columns):
                if not self._snapshot(then, columns).anchor(recorded.input, recorded.columns).same_state(recorded):
                    continue
                if not _same_fields(then, now, recorded.columns):
                    return False
                read = [(name, columns[name]) for name in recorded.columns]
                if any(word in kind for _, kind in read for word in _UNTOLD):
                    return False
                return then.version == now.version or self._compared(then, now, read, looking)
            return False
        except (Gone, JammiError, OSError, duckdb.Error):
            return False

    def ask(self, state: State, select: str) -> list[tuple[Any, ...]]:
        """All rows of a SELECT that needs the extension. duckdb.Error; what reaching raises."""
        relation = self._relation(state)
        if self._reach is not None:
            return self._reach(relation, lambda query: query(select))
        with scratch.scratch(relation) as connection:
            return connection.execute(select).fetchall()

    def _refuse_own_place(self) -> None:
        if scheme_of(self.path) is None:
            refuse_own(self.path, self.folder)

    def _refuse_own_files(self, state: State) -> None:
        """InvalidArgument when a snapshot names files of the workspace itself, or that of a table in a store files which do not lie below it: whoever
        writes its log could have every tenant's rows read, or this machine's files."""
        home, inside = self.home(state), self.folder or Path()
        if (inside, state) in _allowed:
            return
        places = self.places(state)
        if scheme_of(home) is not None and (strange := outside_of(home, places)) is not None:
            raise InvalidArgument(
                f"The {self.format} table {self._name} names a file that does not lie below it: {failures.tidy(strange)}.",
                hint="Only a table whose files all lie at its own address is read from a store.",
            )
        for place in places:
            parsed = urllib.parse.urlsplit(place)
            if parsed.scheme in ("", "file"):
                refuse_own(urllib.parse.unquote(parsed.path) if parsed.scheme else place, self.folder)
        _allowed[inside, state] = None
        while len(_allowed) > _MOST_ALLOWED:
            _allowed.pop(next(iter(_allowed)), None)

    # -- a snapshot -----------------------------------------------------------------------------------------------------------------------

    def _relation(self, state: State) -> Relation:
        body = self.body(state)

        def witness(query: Query, _: tuple[str, ...]) -> Observed:
            return self._snapshot(state, {row[0]: row[1] for row in query(f"DESCRIBE {body}")})

        return Relation(
            Input(InputKind.SOURCE, self.record.name),
            body=body,
            extensions=(self.extension,),
            scoped=self.lake(self.home(state)).scoped,
            explain=self.explain,
            witness=witness if self.record.anchor in ("auto", "content") else None,
        )

    def _snapshot(self, state: State, columns: dict[str, str]) -> Snapshot:
        return Snapshot(
            columns=columns,
            whole=digest_of([state.table, state.version, state.fields, *([state.commit] if state.commit else [])]),
            method=self.method,
            cost=Cost.METADATA,
            version=state.version,
            stamp=state.mark,
        )

    def _columns(self, state: State, looking: Looking) -> dict[str, str]:
        """Names and types of a snapshot; they never change."""
        key = f"columns:{self.kind}:{state.place}:{state.mark}:{duckdb.__version__}"
        if (kept := looking.memo.get(key)) is not None:
            return dict(kept.payload["columns"])
        columns = looking.describe(self._relation(state))
        looking.memo.put(key, MemoEntry(_NO_STAT, looking.now_ns, {"columns": [[name, kind] for name, kind in columns.items()]}))
        return columns

    def _by_column(self, state: State, looking: Looking) -> Observed:
        name = self.record.anchor.removeprefix("column:")
        columns = self._columns(state, looking)
        if name not in columns:
            return Unknown(f"there is no column {name!r} to anchor on")
        key = f"{self.record.anchor}:{self.kind}:{self.path}:{state.mark}"
        kept = looking.memo.get(key)
        if kept is None:
            relation = self._relation(state)
            select = f"SELECT max({quote(name)})::VARCHAR, count(*) FROM "
            if self._reach is None:
                [(largest, rows)] = scratch.ask(relation, f"{select} it")
            else:
                [(largest, rows)] = self._reach(relation, lambda query: query(f"{select} ({relation.body})"), seconds=looking.timeout_seconds)
            kept = MemoEntry(_NO_STAT, looking.now_ns, {"found": [largest, rows]})
            looking.memo.put(key, kept)
        found = kept.payload["found"]
        return Snapshot(columns=columns, whole=digest_of(found), method=self.record.anchor, cost=Cost.METADATA, row_count=found[1])

    # -- two snapshots --------------------------------------------------------------------------------------------------------------------

    def _compared(self, then: State, now: State, read: list[tuple[str, str]], looking: Looking) -> bool | Unknown:
        key = f"same:{self.kind}:{self.path}:{then.mark}:{now.mark}:{digest_of([read, duckdb.__version__])}"
        if (kept := looking.memo.get(key)) is not None:
            return bool(kept.payload["same"])
        assert self._reach is not None, "the caller has looked"
        found = self._reach(self._relation(now), lambda query: self._ask(then, now, read, looking, query))
        if isinstance(found, bool):
            looking.memo.put(key, MemoEntry(_NO_STAT, looking.now_ns, {"same": found}))
        return found

    def _ask(self, then: State, now: State, read: list[tuple[str, str]], looking: Looking, query: Query) -> bool | Unknown:
        old, new = self.files(then, query), self.files(now, query)
        both = {name for name, (_, whole) in old.items() if whole and new.get(name, (0, False))[1]}
        rows = sum(count for files in (old, new) for name, (count, _) in files.items() if name not in both)
        if looking.scan_rows is not None and rows > looking.scan_rows:
            return Unknown(f'would scan {rows:,} rows to compare two snapshots; `ws.status(deep=True)` or `anchor="column:…"`')
        if both == old.keys() == new.keys():
            return True
        one, other = self._unlike(then, read, both), self._unlike(now, read, both)
        [(counts,)] = query(f"SELECT (SELECT count(*) FROM ({one})) = (SELECT count(*) FROM ({other}))")
        if not counts or not read:
            return bool(counts)
        [(differ,)] = query(f"SELECT count(*) FROM (({one}) EXCEPT ALL ({other}))")
        return not differ

    def _unlike(self, state: State, read: list[tuple[str, str]], both: set[str]) -> str:
        """The rows of a snapshot that are not in files which the other one has, too. Text tells floats apart that SQL holds for equal (0.0, -0.0)."""
        said = [part for name, kind in read for part in _exactly(name, kind)]
        left_out = f" WHERE filename NOT IN ({', '.join(map(literal, sorted(both)))})" if both else ""
        return f"SELECT {', '.join(said) or '1'} FROM ({self.body(state).replace('SELECT *', 'SELECT *, filename', 1)}){left_out}"

    # -- what is said ---------------------------------------------------------------------------------------------------------------------

    def explain(self, said: str) -> JammiError | None:
        """Our words for what DuckDB says of a snapshot that it cannot read."""
        if "No such file" in said or "Cannot open file" in said or "No files found" in said:
            file = said.split('"')[1] if said.count('"') > 1 else ""
            what = f" ({failures.tidy(file)})" if file else ""
            return SourceUnavailable(
                f"A data file of the {self.format} table {self._name} is not there{what}.",
                hint="It was removed, or not written to its end: restore it.",
            )
        if (remote := failures.remote_failure(self.location, said)) is not None:
            return remote
        if any(word in said for word in ("Kernel", "log segment", "snapshot", "metadata", "manifest", "Avro", "avro")):
            return self._unreadable(said)
        return None

    @property
    def _name(self) -> str:
        return failures.tidy(self.path.rstrip("/"))

    def _said(self, text: str) -> JammiError:
        return self.explain(text) or self._unreadable(text)

    def _unreadable(self, text: str) -> SourceUnavailable:
        first = text.split("\n", maxsplit=1)[0].removeprefix("IO Error: ").rstrip(".")
        return SourceUnavailable(
            f"The {self.format} table {self._name} cannot be read: {first[:200]}.", hint="It may be half written: look at what its writer says."
        )

    def _missing(self) -> SourceUnavailable:
        if scheme_of(self.path) is not None:
            return SourceUnavailable(f"There is no {self.format} table at {self.location}.", hint="Look at the address.")
        if not os.path.lexists(self.path):
            above, name = os.path.split(self.path.rstrip("/"))
            there = os.listdir(above) if os.path.isdir(above) else []
            return SourceUnavailable(f"There is no {name!r} in {above!r}.", near=near(name, map(failures.tidy, there)), hint="Look at the path.")
        return SourceUnavailable(f"The folder {self._name} holds no {self.format} table.", hint="Name the folder that the table's writer made.")

    def _lacking(self, package: str) -> ExtensionMissing:
        return ExtensionMissing(f"The package {package} is not installed.", hint=f'Run: pip install "jammi-lab[{self.kind}]".')


def _same_fields(then: State, now: State, read: tuple[str, ...]) -> bool:
    """Whether the columns read are the same columns in the same order."""
    one, other = ([field for field in state.fields if field[0] in read] for state in (then, now))
    return one == other and len(one) == len(read)


def _exactly(name: str, kind: str) -> list[str]:
    """Expressions that are equal only where the values are the same."""
    return [quote(name), f"{quote(name)}::VARCHAR"] if any(word in kind for word in _LOOSE) else [quote(name)]
