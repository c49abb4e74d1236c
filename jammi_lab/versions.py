"""Versions and upkeep, as people reach them: the verbs that a Workspace and a ResultTable take from here, what differs between two versions, and
`jl.rebuild`."""

import contextlib
import datetime
import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self, cast

import msgspec

from jammi_lab import forms
from jammi_lab.clock import SystemClock, in_seconds
from jammi_lab.config import load_settings
from jammi_lab.errors import InvalidArgument, TableDamaged, TableNotFound, WorkspaceNotFound
from jammi_lab.markup import Form, Shown, count, plain, stack
from jammi_lab.names import fold, is_text, quote
from jammi_lab.people import for_people
from jammi_lab.sensing.reports import OnProgress, teller
from jammi_lab.sources.base import Relation
from jammi_lab.sources.locations import place_to_write, scheme_of
from jammi_lab.storage.files import Place
from jammi_lab.storage.remote import remote_place
from jammi_lab.store.reports import CheckReport, RebuildReport
from jammi_lab.store.seen import recovery_seen
from jammi_lab.values.records import Progress, RecoveryReport, TableRecord, TableStatus, VersionRecord

if TYPE_CHECKING:
    import pyarrow as pa

    from jammi_lab.handles import ResultTable
    from jammi_lab.naming import Naming
    from jammi_lab.wiring import Rooms

_NEW, _OLD = "__jammi_new", "__jammi_old"
_SHOWN = 10


def rebuild(
    path: str | os.PathLike[str] = ".jammi",
    *,
    catalog: str | None = None,
    storage_options: Mapping[str, Any] | None = None,
    progress: OnProgress = None,
) -> RebuildReport:
    """A new catalog for the workspace in a folder or store, made from the manifests of its result tables, when the old one is lost or damaged.

    `catalog`: its URL, when it is kept on a server; `progress` is told of the manifests that are read. The old one is kept aside, as a file or a
    schema. The report names what came back and what manifests do not hold: sources, for one, are added again by hand.
    Raises WorkspaceNotFound when there is nothing to make one from, InvalidArgument while the workspace is open anywhere.
    """
    from jammi_lab.store import rebuild as rebuilding

    folder = place_of(path, storage_options)
    settings = load_settings(folder if isinstance(folder, Path) else None, None if catalog is None else {"catalog.url": catalog})
    if isinstance(folder, Path):
        refuse_two(folder, str(path), settings["catalog.url"])
    elif not settings["catalog.url"]:
        raise without_catalog(str(path))
    return rebuilding.rebuild(folder, SystemClock(), settings["catalog.url"], teller(progress))


def place_of(path: str | os.PathLike[str], storage_options: Mapping[str, Any] | None) -> Place:
    """The folder, or the place in a store, that a workspace is called by. InvalidArgument, ExtensionMissing."""
    typed = os.fspath(path) if isinstance(path, str | os.PathLike) else ""
    if not typed or not isinstance(typed, str) or not is_text(typed):
        raise InvalidArgument(f"A workspace is a folder or a URL, not {path!r}.", hint='jl.open("lab") opens or makes the folder lab.')
    if scheme_of(typed) is not None:
        return remote_place(typed, storage_options)
    if storage_options:
        raise InvalidArgument("storage_options are for workspaces in an object store.", hint="A workspace in a folder needs none.")
    return Path(os.path.abspath(os.path.expanduser(typed.split("://", 1)[-1])))


def without_catalog(shown: str) -> InvalidArgument:
    """The error of a workspace in a store whose catalog nobody named."""
    return InvalidArgument(
        f"The workspace {shown!r} is in an object store, where no catalog can be kept.",
        hint='Name a PostgreSQL database: jl.open(…, catalog="postgresql+psycopg://user@host/database").',
    )


def refuse_two(folder: Path, shown: str, url: str) -> None:
    """InvalidArgument when a folder has a catalog of its own, and another one is named."""
    from jammi_lab.store.rebuild import CATALOG

    if url and (folder / CATALOG).exists():
        raise InvalidArgument(
            f"The workspace {shown!r} has its catalog in {CATALOG}; another one was named.", hint="Open it without catalog= and without catalog.url."
        )


def refuse_lost(folder: Path, shown: str, url: str) -> None:
    """Nothing, unless a folder holds result tables and no catalog, or has another one than the named: a new, empty one would hide them.

    WorkspaceNotFound, InvalidArgument."""
    from jammi_lab.store.claim import elsewhere
    from jammi_lab.store.manifests import any_below
    from jammi_lab.store.rebuild import CATALOG

    refuse_two(folder, shown, url)
    catalog = folder / CATALOG
    if url or (catalog.exists() and catalog.stat().st_size):
        return
    if elsewhere(folder):
        raise WorkspaceNotFound(
            f"The catalog of {shown!r} is kept on a server.",
            hint=f'Name it: jl.open({shown!r}, catalog="postgresql+psycopg://user@host/database"), or as catalog.url in its jammi.toml.',
        )
    if any_below(folder):
        raise WorkspaceNotFound(
            f"The catalog of {shown!r} is gone, but result tables are there.", hint=f"jl.rebuild({shown!r}) makes a new one from their manifests."
        )


class Upkept:
    """What a Workspace does for its versions, files and catalog."""

    _rooms: "Rooms"
    _naming: "Naming"
    _recovered: RecoveryReport

    def _writable(self) -> None:
        raise TypeError("a Workspace says whether it may be written to")

    def _progress(self, progress: OnProgress) -> Callable[[Progress], None] | None:
        raise TypeError(f"a Workspace says who is told of progress, and how {progress!r} does it")

    @property
    def recovery(self) -> RecoveryReport:
        """What opening it settled; while a tenant is bound, of its own and the shared tables."""
        return recovery_seen(self._recovered, self._rooms.catalog)

    def recover(self, *, progress: OnProgress = None) -> RecoveryReport:
        """Settle what dead writers left and look after every ready table, of which `progress` is told. Running it twice changes nothing. It goes over
        the tables of all tenants, and tells a bound one of its own and the shared ones."""
        self._writable()
        return recovery_seen(self._rooms.recover(ready_too=True, on_progress=self._progress(progress)), self._rooms.catalog)

    def expire(self, name: str, keep: int = 1) -> list[str]:
        """Remove old versions of a recipe: all but the `keep` newest, pinned ones, and those that the newest version of some recipe is anchored on.

        The physical names that were removed. Raises TableNotFound, InvalidArgument, TenantForbidden.
        """
        self._writable()
        [recipe] = self._naming.known([name])
        return self._rooms.upkeep.expire(recipe, keep)

    def check(
        self, repair: bool = False, deep: bool = False, grace: float | datetime.timedelta = 3600, *, progress: OnProgress = None
    ) -> CheckReport:
        """Catalog and files compared both ways; `deep` reads all bytes again and tells `progress` of each table. Without `repair` nothing is changed.

        With it lost manifests come back from the catalog's copy, what dead kernels left is settled, and files go that nothing accounts for and that
        are older than `grace` seconds, as does what lay in the quarantine for 30 days and a checkpoint for 7. It goes over the files of all
        tenants, and tells a bound one of its own and the shared ones. InvalidArgument.
        """
        if repair:
            self._writable()
        report = self._rooms.check.run(
            repair=repair, deep=deep, grace=in_seconds(grace, "grace"), on_progress=self._progress(progress) if deep else None
        )
        self._rooms.memo.flush()
        return report

    def backup(self, path: str | os.PathLike[str]) -> Path:
        """A copy of the catalog, without tables of sessions, as one SQLite file, taken at one moment while others may write; result files stay.

        An earlier backup under that name is replaced, and no other file. InvalidArgument, ResourceExhausted; TenantForbidden while a tenant is bound.
        """
        target = place_to_write(path, self._rooms.results.root)
        self._rooms.memo.flush()
        self._rooms.catalog.backup(target)
        return target

    def _other(self, version: VersionRecord, number: int | None) -> "ResultTable":
        return self._naming.other(version, number)

    def _pin(self, version: VersionRecord, note: str | None) -> None:
        from jammi_lab.engine import passwords

        self._writable()
        passwords.refuse_text("The note of a pinned version", note)
        self._rooms.upkeep.pin(version, note)

    def _unpin(self, version: VersionRecord) -> None:
        self._writable()
        self._rooms.upkeep.unpin(version)

    def _restore(self, version: VersionRecord) -> tuple[VersionRecord, TableRecord]:
        self._writable()
        return self._rooms.upkeep.restore(version)

    def _rows_of(self, statement: str, new: TableRecord, old: TableRecord) -> "pa.Table":
        with self._or_gone(new, old):
            [prepared] = self._rooms.engine.prepare(statement, tenant=new.tenant, extra=[_Pair(self._rooms, new, old)])
            return prepared.run().table()

    @contextlib.contextmanager
    def _or_gone(self, *records: TableRecord) -> Iterator[None]:
        """A block that reads tables of handles: what fails in it because one was dropped meanwhile is said to be that, and not damage."""
        try:
            yield
        except (TableDamaged, TableNotFound):
            self._require_ready(*records)
            raise

    def _require_ready(self, *records: TableRecord) -> None:
        """Nothing, while the tables of handles are there. TableNotFound."""
        from jammi_lab.naming import gone

        for record in records:
            now = self._rooms.catalog.tables.get(record.table_name)
            if now is None or now.status is not TableStatus.READY:
                raise gone(record) from None


class Asked(Protocol):
    """What a version asks of its workspace."""

    def _history(self, version: VersionRecord) -> "list[ResultTable]": ...
    def _drop_version(self, version: VersionRecord) -> None: ...
    def _other(self, version: VersionRecord, number: int | None) -> "ResultTable": ...
    def _pin(self, version: VersionRecord, note: str | None) -> None: ...
    def _unpin(self, version: VersionRecord) -> None: ...
    def _restore(self, version: VersionRecord) -> tuple[VersionRecord, TableRecord]: ...
    def _rows_of(self, statement: str, new: TableRecord, old: TableRecord) -> "pa.Table": ...
    def _require_seen(self, record: TableRecord) -> None: ...


class Versioned:
    """What a ResultTable can do as one version among others."""

    _tables: object
    _version: VersionRecord
    _record: TableRecord

    @property
    def _asked(self) -> Asked:
        """The workspace; TableNotFound, as for a version that is not there, while the table is not to be seen."""
        asked = cast(Asked, self._tables)
        asked._require_seen(self._record)
        return asked

    @property
    def pinned(self) -> bool:
        """Whether `expire` leaves it alone."""
        return self._version.pinned

    @property
    def note(self) -> str | None:
        """Why it is pinned."""
        return self._version.note

    def history(self) -> "list[ResultTable]":
        """All ready versions of its recipe, newest first. TableNotFound while another tenant than its own is bound."""
        return self._asked._history(self._version)

    def drop(self) -> None:
        """Remove this version; its bytes go with the last version that refers to them. TableNotFound as for `history` and once its recipe is
        renamed; TenantForbidden."""
        self._asked._drop_version(self._version)

    def pin(self, note: str | None = None) -> None:
        """Keep this version whatever `expire` removes, with a note why. TableNotFound, TenantForbidden; StatementNotAllowed for a password in it."""
        self._asked._pin(self._version, note)
        self._version = msgspec.structs.replace(self._version, pinned=True, note=note)

    def unpin(self) -> None:
        """Let `expire` have this version. TableNotFound, TenantForbidden."""
        self._asked._unpin(self._version)
        self._version = msgspec.structs.replace(self._version, pinned=False, note=None)

    def restore(self) -> Self:
        """A new version, the newest of its recipe, that refers to the bytes of this one; the definition stays what it is.

        Raises TableNotFound, TableDamaged, TenantForbidden.
        """
        version, record = self._asked._restore(self._version)
        return type(self)(self._tables, version, record, "reused")  # type: ignore[call-arg]  # a ResultTable is made so

    def diff(self, version: int | None = None) -> "Diff":
        """What differs from another version of its recipe to this one, by default from the ready one before it.

        By key when both have the same one, else as bags of rows. Raises TableNotFound, TableDamaged.
        """
        asked = self._asked
        return _diff(asked, self, asked._other(self._version, version))


class Diff(Shown):
    """What differs from one version to another, as Arrow tables."""

    def __init__(self, title: str, added: "pa.Table", removed: "pa.Table", changed: "pa.Table", before: "pa.Table") -> None:
        self.title = title
        """Which versions."""
        self.added = added
        """Rows that only the later version has."""
        self.removed = removed
        """Rows that only the former version has."""
        self.changed = changed
        """Rows whose key both versions have, with the later version's values."""
        self.before = before
        """The same rows, in the same order, with the former version's values."""
        self.columns_added: list[str] = []
        """Columns that only the later version has, or has with another type; rows are not compared on them."""
        self.columns_removed: list[str] = []
        """The same, of the former version."""

    def __bool__(self) -> bool:
        return bool(self.added.num_rows or self.removed.num_rows or self.changed.num_rows or self.columns_added or self.columns_removed)

    def _form(self) -> Form:
        parts = [("added", self.added), ("removed", self.removed), ("changed", self.changed)]
        counted = ", ".join(f"{count(rows.num_rows, 'row')} {word}" for word, rows in parts if rows.num_rows)
        columns = [f"columns {w}: {', '.join(c)}" for w, c in (("added", self.columns_added), ("removed", self.columns_removed)) if c]
        said = "; ".join([counted or "no row differs", *columns])
        return stack(plain(f"{self.title}: {said}"), *(_some(word, rows) for word, rows in parts if rows.num_rows))


def _some(word: str, rows: "pa.Table") -> Form:
    first = rows.slice(0, _SHOWN)
    values = [list(row) for row in zip(*map(for_people, first.columns), strict=True)]
    return forms.preview(rows.schema.names, [str(t) for t in rows.schema.types], values, total=rows.num_rows, caption=word)


class _Pair:
    """Provides the two tables that are compared, under names that nothing else has."""

    def __init__(self, rooms: "Rooms", new: TableRecord, old: TableRecord) -> None:
        from jammi_lab.observing.providers import ResultProvider

        tables = ResultProvider(rooms.catalog, rooms.results)
        self._relations = {_NEW: tables.relation(new, _NEW, new.version), _OLD: tables.relation(old, _OLD, old.version)}

    def resolve(self, parts: tuple[str, ...]) -> Relation | None:
        """One of the two."""
        return self._relations.get(parts[0]) if len(parts) == 1 else None

    def names(self) -> Sequence[str]:
        """None: nobody is to be offered them."""
        return []


def _diff(asked: Asked, new: Versioned, old: "ResultTable") -> Diff:
    later, former = new._record, old._record
    types, were = ({c.name: c.type for c in r.columns} for r in (later, former))
    common = [c for c in types if were.get(c) == types[c]]
    keyed = bool(later.key) and later.key == former.key and set(later.key) <= set(common)
    statements = _by_key(later.key, [c for c in common if c not in later.key], {*types, *were}) if keyed else _as_bags(common)
    added, removed, changed, before = (asked._rows_of(statement, later, former) for statement in statements)
    diff = Diff(f"{old.name}, version {old.version} → {new._version.version}", added, removed, changed, before)
    diff.columns_added = [c for c in types if c not in common]
    diff.columns_removed = [c for c in were if c not in common]
    return diff


def _by_key(key: Sequence[str], others: Sequence[str], columns: Collection[str]) -> list[str]:
    """Statements for added, removed, changed, before; `columns` are all names that a table could be mistaken for."""
    new, old = (_unlike(name, columns) for name in ("n", "o"))
    tables = {new: f"{_NEW} AS {new}", old: f"{_OLD} AS {old}"}
    same = " AND ".join(f"{new}.{quote(k)} = {old}.{quote(k)}" for k in key)
    differs = " OR ".join(f"{new}.{quote(c)} IS DISTINCT FROM {old}.{quote(c)}" for c in others) or "false"

    def ordered(table: str) -> str:
        return ", ".join(f"{table}.{quote(k)}" for k in key)

    def alone(one: str, other: str) -> str:
        return f"SELECT {one}.* FROM {tables[one]} WHERE NOT EXISTS (SELECT 1 FROM {tables[other]} WHERE {same}) ORDER BY {ordered(one)}"

    def both(shown: str) -> str:
        return f"SELECT {shown}.* FROM {tables[new]} JOIN {tables[old]} ON {same} WHERE {differs} ORDER BY {ordered(new)}"

    return [alone(new, old), alone(old, new), both(new), both(old)]


def _unlike(name: str, columns: Collection[str]) -> str:
    """A name for a table that no column has."""
    taken = {fold(c) for c in columns}
    while name in taken:
        name += "_"
    return name


def _as_bags(common: Sequence[str]) -> list[str]:
    """Statements for added, removed, changed, before: a row counts as often as it is there; none is another one with other values."""
    nothing = [f"FROM {_NEW} LIMIT 0", f"FROM {_OLD} LIMIT 0"]
    if not common:  # no column is left to compare on
        return [f"FROM {_NEW} ORDER BY ALL", f"FROM {_OLD} ORDER BY ALL", *nothing]
    columns = ", ".join(map(quote, common))

    def less(one: str, other: str) -> str:
        return f"SELECT {columns} FROM {one} EXCEPT ALL SELECT {columns} FROM {other} ORDER BY ALL"

    return [less(_NEW, _OLD), less(_OLD, _NEW), *nothing]
