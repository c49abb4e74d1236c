"""The Workspace: one catalog and one results folder, with every verb a line or two over the rooms."""

import datetime
import os
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from jammi_lab.clock import Clock, SystemClock
from jammi_lab.config import Settings, load_settings
from jammi_lab.deriving import Deriving
from jammi_lab.engine.prepared import Prepared
from jammi_lab.errors import InvalidArgument, WorkspaceNotFound, WorkspaceReadOnly
from jammi_lab.evaluating import Evaluating
from jammi_lab.explaining import Explanation, explained
from jammi_lab.exploring import Exploring
from jammi_lab.handles import ResultTable, ResultTables
from jammi_lab.in_order import run_in_order, told
from jammi_lab.live.held import MutableTables
from jammi_lab.making import names_of
from jammi_lab.models import Models
from jammi_lab.names import near
from jammi_lab.naming import Naming, gone
from jammi_lab.noticing import Noticing
from jammi_lab.recipes import Recipe, Recipes
from jammi_lab.registered import Sources
from jammi_lab.result import Changed, Result
from jammi_lab.sensing.lineage import Lineage
from jammi_lab.sensing.questions import Questions
from jammi_lab.sensing.relations import CatalogRelations
from jammi_lab.sensing.reports import OnProgress, Plan, RunReport, Status
from jammi_lab.sensing.why import Why
from jammi_lab.sources.locations import refuse_to_write, scheme_of
from jammi_lab.storage.files import Place, make_folder
from jammi_lab.store import manifests
from jammi_lab.tenancy import TenantScope
from jammi_lab.values.descriptors import bound
from jammi_lab.values.manifest import Manifest
from jammi_lab.values.records import Edge, Progress, RecoveryReport, TableKind, TableRecord, TableStatus, VersionRecord
from jammi_lab.values.verdicts import Verdict, Verification
from jammi_lab.vector_calls import VectorCalls
from jammi_lab.versions import Upkept, place_of, refuse_lost
from jammi_lab.wiring import Rooms, connect

if TYPE_CHECKING:
    from jammi_lab.live.ephemeral import EphemeralSession, SessionList

Named = str | ResultTable
_open: "weakref.WeakSet[Workspace]" = weakref.WeakSet()


def open(  # noqa: A001  the field's name for it
    path: str | os.PathLike[str] = ".jammi",
    *,
    catalog: str | None = None,
    storage_options: Mapping[str, Any] | None = None,
    tenant: str | None = None,
    settings: Mapping[str, Any] | None = None,
    create: bool = True,
    read_only: bool = False,
    executor: Any = None,
) -> "Workspace":
    """The workspace in a folder, made if it is not there, or at a URL that fsspec can write to, as `s3://bucket/lab`.

    `catalog`: where what is known about it is kept, unless in a file of the folder: the URL of a PostgreSQL database,
    `postgresql+psycopg://user@host/database`, with `?schema=name` for one of several workspaces in it. The setting `catalog.url` says the same.
    A workspace at a URL has no other; `storage_options` are those of the URL's fsspec filesystem, used and never kept.
    `executor`: where texts are encoded; None is this kernel, a `distributed.Client` or the address of its scheduler a Dask cluster.
    `create=False` refuses to make one (WorkspaceNotFound); `read_only=True` needs no right to write, runs no recovery and changes nothing.
    Raises WorkspaceReadOnly when the folder cannot be written to, CatalogTooNew, InvalidArgument, NameInvalid; for a server SourceUnavailable,
    ExtensionMissing.
    """
    folder, shown = place_of(path, storage_options), str(path)
    given = settings if catalog is None else {**(settings or {}), "catalog.url": catalog}
    scope, local = TenantScope(tenant), folder if isinstance(folder, Path) else None
    try:
        loaded = load_settings(local, given)
        if local is not None:
            _enter(local, shown, loaded["catalog.url"], make=create, read_only=read_only)
    except PermissionError:
        raise WorkspaceReadOnly(f"The folder {shown!r} may not be entered: permission denied.", hint="Choose a folder that you may read.") from None
    return Workspace(folder, shown if local else str(folder), scope, loaded, SystemClock(), read_only=read_only, create=create, executor=executor)


def _enter(folder: Path, shown: str, url: str, *, make: bool, read_only: bool) -> None:
    """See to it that a folder can be a workspace's and is there. Raises as `open`; PermissionError when it cannot be looked into."""
    refuse_lost(folder, shown, url)
    if not url and not (folder / "catalog.sqlite3").exists() and (read_only or not make):
        raise WorkspaceNotFound(f"There is no workspace in {shown!r}.", hint="jl.open(path) makes one.")
    if not (there := next(each for each in (folder, *folder.parents) if each.exists())).is_dir():
        raise InvalidArgument(f"{shown if there == folder else str(there)!r} is a file; a workspace is a folder.", hint="Name a folder.")
    if not read_only:
        try:
            make_folder(folder)
        except OSError as error:
            raise WorkspaceReadOnly(
                f"The folder {shown!r} cannot be made: {error.strerror}.", hint="Choose a folder that you may write to."
            ) from None


class Workspace(Evaluating, Exploring, Deriving, Upkept):
    """What `jl.open` returns; also a context manager. Closing twice is fine."""

    def __init__(
        self,
        folder: Place,
        shown: str,
        scope: TenantScope,
        settings: Settings,
        clock: Clock,
        *,
        read_only: bool,
        create: bool,
        executor: Any = None,
    ) -> None:
        local = folder if isinstance(folder, Path) else None
        self.path, self._folder, self._scope, self.settings = shown, folder, scope, settings
        self._rooms: Rooms = connect(folder, scope=scope, settings=settings, clock=clock, read_only=read_only, create=create, executor=executor)
        self._closed, self._pid = False, os.getpid()
        try:
            self._recovered = RecoveryReport() if read_only else self._rooms.recover(ready_too=False)
            self.sources = Sources(self._rooms, local)
            self.models = Models(self._rooms, local or Path("/"))  # model files stay where they are, on this machine
            self.topics = self._rooms.topics
            self.mutable = MutableTables(self._rooms.mutable, self._rooms.engine, self._rooms.catalog.scope, self._rooms.committing)
            self._naming = Naming(self._rooms, self)
            self._rooms.engine.register(VectorCalls(self))
            self._questions = Questions(self._rooms.sensor, self._rooms.catalog, self._rooms.look, scope, clock, self._rooms.column_lineage, local)
            self._noticing = Noticing(self._questions.verdicts_now, lambda: scope.current)
            self._rooms.engine.register(CatalogRelations(self._rooms.catalog, scope, self.status, self._rooms.column_lineage))
            self._rooms.producers.python.opened = self._input
        except BaseException:
            self._rooms.close(clean=False)
            raise
        self.default_progress: Callable[[Progress], None] | None = None
        """Where progress goes when a call does not say; the notebook puts its own here."""
        _open.add(self)

    # -- life ----------------------------------------------------------------------------------------------------------------------

    @property
    def read_only(self) -> bool:
        """Whether it was opened to be looked at only."""
        return self._rooms.catalog.read_only

    def close(self) -> None:
        """Let go of everything; what other threads make ends in SessionClosed, its row failed (waits up to 10 s). A forked child touches nothing."""
        if not self._closed:
            self._closed = True
            _open.discard(self)
            if os.getpid() == self._pid:
                with ExitStack() as last:  # also when the rest is interrupted: closed twice is closed once
                    last.callback(self._rooms.close, clean=not self.read_only)
                    self._noticing.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        words = [w for w in ("read-only" if not self._closed and self.read_only else "", "closed" if self._closed else "") if w]
        return f"Workspace({self.path!r}{', ' if words else ''}{', '.join(words)})"

    # -- tenants -------------------------------------------------------------------------------------------------------------------

    @property
    def current_tenant(self) -> str | None:
        """The tenant bound in this context; None is the shared scope."""
        return self._scope.current

    def tenant(self, name: str | None) -> AbstractContextManager[None]:
        """A block in which a tenant is bound; it can be entered more than once. NameInvalid."""
        return self._scope.use(name)

    def bind_tenant(self, name: str | None) -> None:
        """Bind a tenant for the rest of this context. NameInvalid."""
        self._scope.bind(name)

    def ephemeral(self, timeout: float | datetime.timedelta = 600) -> "EphemeralSession":
        """Tables of the bound tenant that are gone, with every value, when the session is closed or `timeout` seconds after it was opened.

        Raises NoTenantBinding, InvalidArgument unless the time is above 0 (one beyond the calendar is none), WorkspaceReadOnly.
        """
        from jammi_lab.live.ephemeral import EphemeralSession

        return EphemeralSession(self._rooms.sessions, self._rooms.sessions.open(timeout), self._reading)

    def sessions(self) -> "SessionList":
        """The open ephemeral sessions of the bound tenant, whichever kernel holds them."""
        from jammi_lab.live.ephemeral import SessionInfo, SessionList

        return SessionList(SessionInfo(*found) for found in self._rooms.sessions.listed())

    def _reading(self, text: str, params: Mapping[str, Any]) -> Result:
        """The Result of statements that only read."""
        prepared = self._rooms.engine.prepare(text, params, tenant=self._scope.current)
        for each in prepared[:-1]:
            for _ in each.run().batches():
                pass
        return self._result(prepared[-1])

    # -- SQL -----------------------------------------------------------------------------------------------------------------------

    def sql(self, text: str, /, params: Mapping[str, Any] | None = None, **named: Any) -> Result:
        """Run statements in order and give the rows of the last one.

        `$name` is bound from `params` and keywords, never pasted. Raises SqlError, TableNotFound, StatementNotAllowed, ParameterMissing,
        InvalidArgument, SourceUnavailable, TableDamaged, ResourceExhausted; KeyboardInterrupt stops the statement.
        """
        return self._run(text, bound(params, named), [])

    def explain(self, text: str, /, params: Mapping[str, Any] | None = None, *, analyze: bool = False, **named: Any) -> Explanation:
        """How the engine would run a statement, as a tree with estimated rows; with `analyze` it is run, and rows and times are real.

        A text, too. Raises as `sql` does.
        """
        return self._explained(text, bound(params, named), analyze, [])

    def _explained(self, text: str, params: Mapping[str, Any], analyze: bool, extra: Sequence[Any]) -> Explanation:
        prepare = self._rooms.engine.prepare
        return explained(text, analyze, lambda sql: prepare(sql, params, tenant=self._scope.current, extra=extra, changing=True), self._result)

    def frames_from(self, namespace: Callable[[], Mapping[str, object]] | None) -> None:
        """Let cells name data frames in the variables that `namespace` gives."""
        self._rooms.outside.namespace = namespace

    def _cell_explain(self, text: str, params: Mapping[str, Any], *, analyze: bool) -> Explanation:
        return self._explained(text, params, analyze, [self._rooms.frames])

    def _cell_sql(self, text: str, params: Mapping[str, Any]) -> Result:
        return self._run(text, params, [self._rooms.frames])

    def _run(self, text: str, params: Mapping[str, Any], extra: Sequence[Any]) -> Result:
        if not isinstance(text, str):
            raise InvalidArgument(f"A statement is a text, not a value of type {type(text).__name__}.")
        prepared = self._rooms.engine.prepare(text, params, tenant=self._scope.current, extra=extra, changing=True, supposing=True)
        last, changes = run_in_order(prepared, self._rooms.committing.apply)
        if not isinstance(last, Prepared):
            return Changed(last)
        with told(changes):
            result = self._result(last)
        result.changes_before = changes
        result.unshown_before = len(prepared) - 1 - changes
        return result

    def _result(self, prepared: Prepared) -> Result:
        report = self.default_progress
        percent = None if report is None else lambda done: report(Progress(stage="run", done=int(done), total=100, unit="percent"))
        return Result(prepared, self._noticing, percent, self._rooms.removal.settle)

    def _input(self, prepared: Prepared) -> Result:
        """An input of a Python step."""
        return Result(prepared, self._noticing, None, self._rooms.removal.settle, step=True)

    # -- what is here --------------------------------------------------------------------------------------------------------------

    def table(self, name: Named, version: int | None = None) -> ResultTable:
        """The newest ready version of a recipe, one version, or a physical table. TableNotFound, with near names."""
        return self._naming.table(name, version)

    def tables(
        self,
        kind: str | None = None,
        status: str | None = "ready",
        source: str | None = None,
        model: str | None = None,
        definition: str | None = None,
    ) -> list[ResultTable]:
        """One entry per version, newest first; `source` is one that the table reads directly. `status=None` gives all. InvalidArgument for a kind or
        status that there is not."""
        for value, choices in ((kind, TableKind), (status, TableStatus)):
            if value is not None and value not in [*choices]:
                raise InvalidArgument(f"{value!r} is none of {', '.join(choices)}.", near=near(str(value), [*choices]))
        found = self._rooms.catalog.tables.list(status=status, kind=kind, source=source, model=model, definition=definition)
        return ResultTables(ResultTable(self, version, record) for version, record in found)

    def recipes(self) -> Recipes:
        """All recipes with their definition and newest version."""
        newest = {(v.tenant, v.recipe): v.version for v, _ in self._rooms.catalog.tables.current()}
        return Recipes([Recipe(r, newest.get((r.tenant, r.name))) for r in self._rooms.catalog.recipes.list()])

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self._rooms.catalog.tables.newest(name) is not None

    def drop(self, name: str, *, if_exists: bool = False, force: bool = False) -> None:
        """Remove a recipe and all its versions. Refused, naming them (other tenants' as a number), while ready tables derive from it, unless `force`.

        Raises TableNotFound, InvalidArgument, TenantForbidden.
        """
        self._writable()
        self._naming.drop(name, if_exists=if_exists, force=force)

    def rename(self, old: str, new: str) -> None:
        """Give a recipe another name. Who reads the old name reads one that is gone; a RuntimeWarning names them (other tenants' as a number).
        TableNotFound, DuplicateTable, NameInvalid, TenantForbidden."""
        self._writable()
        self._naming.rename(old, new)

    # -- is it still true ----------------------------------------------------------------------------------------------------------

    def verify(self, name: Named, expected: str | None = None, *, progress: OnProgress = None) -> Verification:
        """Whether bytes, manifest and (when given) definition hash are as attested. TableNotFound; ManifestUnsupported."""
        return self._naming.verify(self.table(name), expected, self._progress(progress))

    def staleness(self, name: Named, *, progress: OnProgress = None) -> Verdict:
        """The verdict on a recipe's newest version, a physical table or a ResultTable, from a deep look. TableNotFound; DependencyCycle."""
        return self._questions.staleness(*self._naming.judged(name), self._progress(progress))

    def why(self, name: Named, *, progress: OnProgress = None) -> Why:
        """The same verdict with the tree of its reasons: old and new state, how each was told, when it was seen. TableNotFound; DependencyCycle."""
        return self._questions.why(*self._naming.judged(name), self._progress(progress))

    def status(self, deep: bool = False, *, progress: OnProgress = None) -> Status:
        """Every recipe with its verdict, from one look; a shallow one leaves dear inputs undecided and says so. `progress` is told of the
        inputs that a deep one observes. DependencyCycle."""
        report = self._progress(progress)
        return self._questions.status(deep=deep, on_progress=report if deep else None)

    def plan(self, names: str | Iterable[str] | None = None, *, progress: OnProgress = None) -> Plan:
        """What must be recomputed to make these recipes (or all) true. Runs nothing. TableNotFound; DependencyCycle."""
        wanted = None if names is None else self._naming.known(names_of(names))
        return self._questions.plan(wanted, self._apply, self._progress(progress))

    def recompute(self, names: str | Iterable[str] | None = None, progress: OnProgress = None) -> RunReport:
        """Plan and apply for some recipes and what they need, or for everything. Raises as `plan`; NotRecomputable for rows from outside."""
        self._writable()
        plan = self.plan(names, progress=progress)
        self._naming.refuse_external(names, plan)
        return plan.apply(progress)

    def _apply(self, planned: Sequence[Any], progress: OnProgress) -> RunReport:
        self._writable()
        return self._questions.apply(planned, self._progress(progress))

    def what_if(self, changed: str | Iterable[str] = (), redefine: Mapping[str, str] | None = None) -> Status:
        """The status as it would be if these sources, tables or recipes changed, or recipes had these statements. Writes nothing.

        A redefined recipe keeps its key and its bound values. TableNotFound, with near names; DependencyCycle; InvalidArgument; SqlError.
        """
        return self._questions.what_if(changed, redefine or {})

    def lineage(
        self, name: Named | None = None, *, direction: Literal["both", "up", "down"] = "both", depth: int | None = None, columns: bool = False
    ) -> Lineage:
        """The graph around a recipe, table or source, or all of it; with `columns` by column too. TableNotFound; InvalidArgument."""
        return self._questions.lineage(self._naming.spelt(name), direction, depth, columns=columns)

    def export_openlineage(self, target: str | os.PathLike[str], *, namespace: str = "jammi_lab", api_key: str | None = None) -> int:
        """Write every run of the tables seen here as OpenLineage events to a file (one JSON object a line) or post them to an http address; how many.

        `api_key`: what the server asks for, else the environment variable OPENLINEAGE_API_KEY. ExtensionMissing; SourceUnavailable; InvalidArgument.
        """
        if scheme_of(os.fspath(target)) is None:
            self._elsewhere(target)
        return self._questions.export(target, namespace, api_key)

    def derives_from(self, name: Named) -> list[Edge]:
        """The edges to what reads `name` directly. TableNotFound."""
        return self.lineage(name, direction="down", depth=1).edges

    def derives_from_closure(self, name: Named) -> list[Edge]:
        """The edges to everything that derives from `name`. TableNotFound."""
        return self.lineage(name, direction="down").edges

    # -- what ResultTables ask -----------------------------------------------------------------------------------------------------

    def _read(self, record: TableRecord) -> Result:
        from jammi_lab.names import quote

        self._require_ready(record)
        [prepared] = self._rooms.engine.prepare(f"SELECT * FROM jammi.{quote(record.table_name)}", None, tenant=self._scope.current)
        return self._result(prepared)

    def _require_seen(self, record: TableRecord) -> None:
        if record.tenant not in (None, self._scope.current):
            raise gone(record)

    def _path(self, record: TableRecord) -> Place:
        self._require_seen(record)
        with self._or_gone(record):
            return self._rooms.results.require(record)

    def _elsewhere(self, path: str | os.PathLike[str]) -> None:
        refuse_to_write(os.path.expanduser(os.fspath(path)), self._folder if isinstance(self._folder, Path) else None)

    def _manifest(self, record: TableRecord) -> Manifest | None:
        own = manifests.parse(manifests.read(self._rooms.results.parquet(record)))
        return own or manifests.parse(self._rooms.catalog.tables.manifest(record.table_name))

    def _history(self, version: VersionRecord) -> list[ResultTable]:
        return ResultTables(ResultTable(self, v, r) for v, r in self._naming.beside(version))

    def _drop_version(self, version: VersionRecord) -> None:
        self._writable()
        self._rooms.removal.version(version)
