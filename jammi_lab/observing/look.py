"""One look: every input is observed at most once, in parallel and time-boxed; all verdicts of the look come from those observations."""

import threading
from collections.abc import Callable, Iterable, Mapping

from jammi_lab.clock import Clock, rfc3339
from jammi_lab.errors import JammiError, SourceUnavailable
from jammi_lab.observing.memo import ObservationMemo
from jammi_lab.sources.base import Relation
from jammi_lab.store.results import Results
from jammi_lab.tenancy import TenantScope
from jammi_lab.values.anchors import Anchor, Input, InputKind, Observed, Snapshot, Unknown, Vanished, unpinned
from jammi_lab.values.records import TableRecord
from jammi_lab.values.verdicts import Damaged

Observer = Callable[[Input, "Look"], Observed]
"""Observes inputs of one kind, in the tenant scope that is bound when it is called."""

_WORKERS = 4


class Look:
    """One sensing pass. `deep` may read all the data of an input; a shallow look leaves dear ones undecided and says so."""

    def __init__(
        self,
        observers: Mapping[InputKind, Observer],
        *,
        scope: TenantScope,
        results: Results,
        memo: ObservationMemo,
        clock: Clock,
        deep: bool,
        timeout: float,
    ) -> None:
        self.deep, self.now_ns = deep, clock.now_ns()
        self._observers, self._scope, self._results, self._memo, self._timeout = observers, scope, results, memo, timeout
        self._seen: dict[tuple[str | None, tuple[str, str, str]], Observed] = {}
        self._damage: dict[str, Damaged | Unknown | None] = {}
        self._lock = threading.Lock()

    @property
    def instant(self) -> str:
        """When the look began, RFC 3339."""
        return rfc3339(self.now_ns)

    def observe(self, input: Input, tenant: str | None) -> Observed:
        """The state of one input, as the tenant sees its name. Never raises for what is the input's fault: that is `Unknown`."""
        at = (tenant, input.identity)
        with self._lock:
            if at in self._seen:
                return self._seen[at]
        seen = self._ask(input, tenant)
        with self._lock:
            return self._seen.setdefault(at, seen)

    def _ask(self, input: Input, tenant: str | None) -> Observed:
        observer = self._observers.get(input.kind)
        if observer is None:
            return Unknown(why=f"nothing here observes a {input.kind.value}")
        with self._scope.use(tenant):
            try:
                return observer(input, self)
            except JammiError as error:
                return Unknown(why=error.message.rstrip("."))
            except OSError as error:
                return Unknown(why=error.strerror or type(error).__name__)

    def observe_all(self, wanted: Iterable[tuple[str | None, Input]]) -> None:
        """Observe many inputs at once; what has not answered when the time is up is unknown for this look."""
        todo = list({(tenant, i.identity): (tenant, i) for tenant, i in wanted if (tenant, i.identity) not in self._seen}.values())
        done = threading.Event()
        left = threading.Semaphore(0)
        shares = [todo[n::_WORKERS] for n in range(min(_WORKERS, len(todo)))]

        def work(share: list[tuple[str | None, Input]]) -> None:
            try:
                for tenant, each in share:
                    if done.is_set():
                        return
                    self.observe(each, tenant)
            finally:
                left.release()

        for share in shares:
            threading.Thread(target=work, args=(share,), name="jammi-look", daemon=True).start()
        try:
            deadline = self._timeout
            for _ in shares:
                if not _acquire(left, deadline):
                    break
        finally:
            done.set()
        with self._lock:
            for tenant, each in todo:
                self._seen.setdefault((tenant, each.identity), Unknown(why=f"no answer within {self._timeout:g} s"))

    def damage(self, record: TableRecord) -> Damaged | Unknown | None:
        """What is wrong with a table's bytes; None when they are the published ones, Unknown when that cannot be told."""
        if record.table_name not in self._damage:
            try:
                self._damage[record.table_name] = self._results.damage(record)
                if record.definition_hash is not None and self._damage[record.table_name] is None:
                    self._results.readable(record)
            except JammiError as error:
                self._damage[record.table_name] = Unknown(why=error.message.rstrip("."))
            except OSError as error:
                self._damage[record.table_name] = Unknown(why=error.strerror or type(error).__name__)
        return self._damage[record.table_name]

    def anchor(self, relation: Relation, columns: tuple[str, ...], tenant: str | None) -> Anchor:
        """The anchor of something that a statement has just been bound to. SourceUnavailable when it has vanished since."""
        token = relation.token
        seen = token.snapshot if isinstance(token, Pinned) else self.observe(relation.input, tenant)
        match seen:
            case Snapshot():
                return seen.anchor(relation.input, columns)
            case Vanished():
                raise SourceUnavailable(f"{relation.input.label} disappeared while it was being read.", hint="Put it back, or remove the source.")
            case Unknown(why):
                return unpinned(
                    Input(kind=relation.input.kind, name=relation.input.name, table=relation.input.table, columns=columns), self.instant, why
                )

    def stamp(self, relation: Relation, tenant: str | None) -> str:
        """What moves with every write to it; empty for what cannot change under a statement, and for what has no such mark."""
        seen = None if isinstance(relation.token, Pinned) else self.observe(relation.input, tenant)
        return seen.stamp if isinstance(seen, Snapshot) else ""

    def close(self) -> None:
        """Keep what was seen for later looks."""
        self._memo.flush()


class Pinned:
    """The token of a relation that cannot change under a statement: its state is known from where it was resolved."""

    __slots__ = ("record", "snapshot")

    def __init__(self, snapshot: Snapshot, record: TableRecord | None = None) -> None:
        self.snapshot, self.record = snapshot, record


def _acquire(semaphore: threading.Semaphore, seconds: float) -> bool:
    """Wait in small steps, so that an interrupt arrives."""
    waited = 0.0
    while waited < seconds:
        if semaphore.acquire(timeout=0.05):
            return True
        waited += 0.05
    return False
