"""The engine: one DuckDB per tenant, statements prepared against it and run in a namespace of their own.

A relation may need more than its body: extensions, an attached database, a filesystem. `Relation` says so, and it is made ready in the instance of
the tenant before the body is described, queried or run (`engine/attachments.py`); nobody else has to think of it.
"""

import contextlib
import functools
import os
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import duckdb

from jammi_lab.config import Settings
from jammi_lab.engine import duck, functions, spills, statements
from jammi_lab.engine.attachments import Patience
from jammi_lab.engine.faults import Place, closed, is_fatal, read_fault, stopped, translate
from jammi_lab.engine.instances import Session
from jammi_lab.engine.parser import parsing
from jammi_lab.engine.prepared import Prepared, prepare
from jammi_lab.engine.question import BESIDE_SECONDS, Beside, Question
from jammi_lab.engine.resolve import Found, Provider, known_names, resolve
from jammi_lab.engine.statements import Form
from jammi_lab.engine.stream import Pump
from jammi_lab.engine.values import bind_values
from jammi_lab.engine.waiting import Begun, waited
from jammi_lab.errors import ForkedWorkspace, JammiError
from jammi_lab.sources.attaching import in_transaction
from jammi_lab.sources.base import Asking, Attachment, Relation
from jammi_lab.values.anchors import Input, InputKind

T = TypeVar("T")
MOST_SESSIONS = 8
_SET_ASIDE: list[Any] = []
"""Instances that did not stop when told to. Letting them go could block, so they stay until the process ends."""
_OURS = Input(InputKind.SOURCE, "")
"""What a text of our own is said to read."""
_MOST_TREES = 64
"""Syntax trees that are kept."""


def _nothing_to_stop() -> None:
    """What an interrupt does to work that is over in a moment."""


class Engine:
    """SQL over what providers know, for any number of tenants.

    `spill` is the folder for temporary files (default: the system's); every instance uses a folder of its own inside and removes it.
    """

    def __init__(self, settings: Settings, spill: Path | None = None) -> None:
        self._settings = settings
        self._spill = Path(tempfile.gettempdir()) if spill is None else spill
        self._providers: list[Provider] = []
        self._sessions: OrderedDict[str | None, Session] = OrderedDict()
        self._lock = threading.RLock()
        self._budget: int | None = None
        self._closed = False
        self._texts = statements.Texts(lambda sql, changing: self._parsing(lambda parser: statements.parse(parser, sql, changing=changing)))
        self._trees: dict[str, dict[str, Any]] = {}
        self._pid = os.getpid()

    # -- names ----------------------------------------------------------------------------------------------------------------------------

    def register(self, provider: Provider) -> None:
        """Let a family of names be read; earlier ones win."""
        self._providers.append(provider)

    def names(self, extra: Sequence[Provider] = ()) -> list[str]:
        """All names that FROM can read now."""
        return known_names([*self._providers, *extra])

    def functions(self) -> list[str]:
        """The functions that a statement may call."""
        return functions.named()

    def environment(self) -> dict[str, Any]:
        """What shapes the rows of a statement beside its text and inputs; part of every SQL definition."""
        return duck.environment(self._settings)

    # -- statements -----------------------------------------------------------------------------------------------------------------------

    def prepare(
        self,
        sql: str,
        params: Mapping[str, Any] | None = None,
        *,
        tenant: str | None = None,
        extra: Sequence[Provider] = (),
        changing: bool = False,
        supposing: bool = False,
    ) -> list[Prepared]:
        """Every statement of a text, parsed, gated and bound; nothing has run. `extra` providers are asked after the registered ones. With
        `changing` there may be INSERT, UPDATE and DELETE. With `supposing` a single SELECT may be bound to supposed relations, for
        `Prepared.started`.

        Raises SqlError, StatementNotAllowed, TableNotFound, ParameterMissing, InvalidArgument, SourceUnavailable.
        """
        self._check_open()
        parsed = self._texts.read(sql, changing)
        values = bind_values(parsed, params)
        providers = [*self._providers, *extra]
        supposing = supposing and [p.form for p in parsed] == [Form.SELECT]
        found = [resolve(p, providers, values, supposing=supposing) for p in parsed]
        afresh = (
            functools.partial(self.prepare, sql, params, tenant=tenant, extra=extra) if any(r.supposed for f in found for r in f.values()) else None
        )
        shown = known_names(providers) if any(p.form is Form.SHOW_TABLES for p in parsed) else []
        with self._using(tenant) as session:

            def work(cursor: duckdb.DuckDBPyConnection) -> list[Prepared]:
                return [prepare(self, session, cursor, tenant, p, f, values, shown, afresh) for p, f in zip(parsed, found, strict=True)]

            try:
                return self._working(tenant, session, work)
            except JammiError:  # of one's own, or because something was supposed that is not so any more
                if afresh is None:
                    raise
        return afresh()

    def describe(self, body: str | Relation, tenant: str | None = None) -> dict[str, str]:
        """Columns and SQL types of what a body selects, or a relation with what its body needs. SourceUnavailable, ExtensionMissing."""
        relation = Relation(_OURS, body=body) if isinstance(body, str) else body
        with self._using(tenant) as session:
            return self._asking(tenant, session, relation, lambda cursor: session.describe(cursor, relation))

    def query(self, sql: str, tenant: str | None = None, needs: Relation | None = None) -> list[tuple[Any, ...]]:
        """All rows of a SELECT that we wrote over sources (never a person's text: it is not gated), with what `needs` needs made ready.

        SourceUnavailable, ExtensionMissing.
        """
        with self._using(tenant) as session:

            def work(cursor: duckdb.DuckDBPyConnection) -> list[tuple[Any, ...]]:
                with session.attachments.using(cursor, needs):
                    if needs is not None and needs.filesystem is not None:
                        session.know(needs.filesystem)
                    return cursor.execute(sql).fetchall()

            return self._asking(tenant, session, needs, work)

    def reach(self, needs: Relation | Attachment, work: Callable[[Asking], T], tenant: str | None = None, seconds: float | None = None) -> T:
        """What `work` returns; all that it asks is one transaction of one cursor, with what `needs` needs made ready.

        Raises SourceUnavailable, also when there is no end within `seconds`, and at once while an earlier question is still without an answer;
        ExtensionMissing; what `Relation.explain` says; what `work` raises.
        """
        return self.begin(needs, work, tenant, seconds).result()

    def begin(
        self, needs: Relation | Attachment, work: Callable[[Asking], T], tenant: str | None = None, seconds: float | None = None
    ) -> Question[T]:
        """`reach`, begun and not waited for."""
        with self._using(tenant) as session:
            return self._put(tenant, session, needs, work, seconds)

    def _put(
        self, tenant: str | None, session: Session, needs: Relation | Attachment, work: Callable[[Asking], T], seconds: float | None
    ) -> Question[T]:
        relation, attachment = (None, needs) if isinstance(needs, Attachment) else (needs, needs.attachment)
        patience = Patience(session.attachments, attachment, seconds)

        def run(cursor: duckdb.DuckDBPyConnection) -> T:
            with patience, session.attachments.using(cursor, needs):
                return in_transaction(cursor, session.attachments.memory, work)

        return Question(self._begun(tenant, session, run, patience), relation)

    def in_scratch(
        self,
        tenant: str | None,
        work: Callable[[Session, duckdb.DuckDBPyConnection], T],
        failed: Callable[[duckdb.Error, Session], JammiError],
    ) -> T:
        """What `work` returns, in a worker, given the instances and a cursor of them; what DuckDB says goes through `failed`."""
        with self._using(tenant) as session:
            try:
                return self._working(tenant, session, lambda cursor: work(session, cursor))
            except duckdb.Error as error:
                raise failed(error, session) from None

    def forget(self, key: str) -> None:
        """Detach what is attached under a key, in every tenant's instance."""
        with self._lock:
            sessions = list(self._sessions.values())
        for session in sessions:
            with contextlib.suppress(duckdb.Error), session.main.cursor() as cursor:
                session.attachments.forget(cursor, key)

    def _asking(
        self,
        tenant: str | None,
        session: Session,
        relation: Relation | None,
        work: Callable[[duckdb.DuckDBPyConnection], T],
    ) -> T:
        """`_working`, with DuckDB's errors said as ours."""
        return Question(self._begun(tenant, session, work), relation).result()

    def _working(self, tenant: str | None, session: Session, work: Callable[[duckdb.DuckDBPyConnection], T]) -> T:
        """What `work` returns, in a worker, with a cursor that an interrupt stops."""
        return self._begun(tenant, session, work).result()

    def _begun(
        self, tenant: str | None, session: Session, work: Callable[[duckdb.DuckDBPyConnection], T], patience: Patience | None = None
    ) -> Begun[T]:
        """The same, begun and not waited for; until it is over, the instance is in use."""
        cursor = session.main.cursor()
        session.use(1)

        def run() -> T:
            try:
                return work(cursor)
            finally:
                cursor.close()
                session.use(-1)

        def stuck() -> None:
            if patience is None or not patience.give_up():
                self.set_aside(tenant, session)

        return Begun(run, duck.interrupter(cursor), stuck=stuck, tick=None if patience is None else patience.tick)

    def parameters(self, sql: str) -> frozenset[str]:
        """The names of the parameters of a text. Raises as parsing does."""
        return frozenset[str]().union(*(p.parameters for p in self._texts.read(sql, False)))

    def on_twins(self, tenant: str | None, work: Callable[[duckdb.DuckDBPyConnection], T]) -> T:
        """What `work` returns, in a worker, given the instance that binds and can read nothing."""
        with self._using(tenant) as session:
            return self._working(tenant, session, lambda _: work(session.twins))

    def parse_tree(self, text: str) -> dict[str, Any] | None:
        """The syntax tree of one SELECT that we wrote, or None. The same tree for whoever asks again: nobody changes it."""
        found = self._trees.get(text)
        if found is None:
            tree = self._parsing(lambda parser: statements.tree_of(parser, text))
            found = tree if isinstance(tree, dict) else None
            if found is not None:
                if len(self._trees) >= _MOST_TREES:
                    self._trees.clear()
                self._trees[text] = found
        return found

    def deparse(self, tree: dict[str, Any]) -> str | None:
        """DuckDB's own print of a syntax tree, or None."""
        return self._parsing(lambda parser: statements.text_of(parser, tree))

    def pump(
        self,
        tenant: str | None,
        sql: str,
        params: Mapping[str, Any],
        found: Found,
        *,
        drained: bool = False,
        witness: Callable[[Asking, Beside], None] | None = None,
    ) -> tuple[Session, Pump]:
        """A worker for one run, not started yet; `drained` and `witness` as `Pump` says, which gets what puts questions beside its transaction."""
        with self._using(tenant) as session:

            def beside(needs: Relation, work: Callable[[Asking], None]) -> Question[None]:
                return self._put(tenant, session, needs, work, BESIDE_SECONDS)

            pump = Pump(
                session.main.cursor(),
                sql,
                params,
                session.setup(found),
                drained=drained,
                witness=None if witness is None else lambda asking: witness(asking, beside),
                memory=session.attachments.memory,
                spill=session.spill.parent,
            )
            session.pumps.add(pump)
            return session, pump

    # -- instances ------------------------------------------------------------------------------------------------------------------------

    def session(self, tenant: str | None) -> Session:
        """The instances of a tenant, made on first use; the least recently used ones beyond eight are closed."""
        with self._lock:
            self._check_open()
            if tenant in self._sessions:
                self._sessions.move_to_end(tenant)
                return self._sessions[tenant]
            session = self._started()
            self._sessions[tenant] = session
            idle = [t for t, s in self._sessions.items() if s is not session and not s.in_use]
            while len(self._sessions) > MOST_SESSIONS and idle:
                self._sessions.pop(idle.pop(0)).close()
            self._share()
            return session

    def _started(self) -> Session:
        """New instances, made in a worker: an interrupt that falls into a call of DuckDB would be an error of DuckDB's."""
        made: list[Session] = []

        def start() -> None:
            if self._budget is None:
                self.clear_spills()
            made.append(Session(self._settings, self._spill))
            self._budget = self._budget or duck.memory_limit(made[0].main)

        try:
            waited(start, _nothing_to_stop)
        except BaseException:
            for session in made:
                session.close()
            raise
        return made[0]

    @contextlib.contextmanager
    def _using(self, tenant: str | None) -> Iterator[Session]:
        """A tenant's instances, which are not closed for another tenant's sake meanwhile."""
        with self._lock:
            session = self.session(tenant)
            session.use(1)
        try:
            yield session
        except duckdb.Error as error:
            raise (closed() if self._closed else translate(error, Place(""))) from None
        finally:
            session.use(-1)

    def clear_spills(self) -> None:
        """Remove what DuckDB had put on disk for kernels that died."""
        spills.clear(self._spill)

    def set_aside(self, tenant: str | None, session: Session) -> None:
        """Never use an instance again that does not stop or has failed; the next statement gets a new one."""
        with self._lock:
            if self._sessions.get(tenant) is session:
                del self._sessions[tenant]
                self._share()
            _SET_ASIDE.append(session)

    def fault(self, error: BaseException, tenant: str | None, session: Session, place: Place, prefix: int = 0) -> JammiError:
        """Our error for DuckDB's; an instance that DuckDB itself gave up is set aside."""
        if is_fatal(error):
            self.set_aside(tenant, session)
        if self._closed and read_fault(error).kind.casefold() in ("interrupt", "connection"):
            return stopped()
        return translate(error, place, prefix=prefix)

    def _check_open(self) -> None:
        if os.getpid() != self._pid:
            raise ForkedWorkspace(
                "This workspace was opened before the process forked and cannot be used in the child.",
                hint="Open it again in the child: jammi_lab.open(path).",
            )
        if self._closed:
            raise closed()

    def close(self) -> None:
        """Stop what runs and close every instance. Closing twice is fine. In a forked child nothing is touched."""
        if os.getpid() != self._pid:
            return
        with self._lock:
            self._closed = True
            sessions, self._sessions = list(self._sessions.values()), OrderedDict()
            for session in sessions:
                session.close()

    def _parsing(self, work: Callable[[duckdb.DuckDBPyConnection], T]) -> T:
        """What `work` returns, in a worker, with the instance that only parses."""
        self._check_open()
        return waited(lambda: parsing(work), _nothing_to_stop)

    def _share(self) -> None:
        """One memory budget for all instances."""
        if self._budget is None or not self._sessions:
            return
        instances, share = [session.main for session in self._sessions.values()], self._budget // len(self._sessions)

        def limit() -> None:
            for each in instances:
                duck.limit_memory(each, share)

        waited(limit, _nothing_to_stop)
