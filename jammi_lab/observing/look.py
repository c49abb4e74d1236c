"""One look: every input is observed at most once, in parallel and time-boxed; all verdicts of the look come from those observations."""

import contextlib
import functools
import threading
from collections.abc import Callable, Iterable, Mapping

from msgspec.structs import replace

from jammi_lab.clock import Clock, rfc3339
from jammi_lab.errors import JammiError, SourceUnavailable
from jammi_lab.observing.memo import ObservationMemo
from jammi_lab.observing.opinions import Opinions
from jammi_lab.scrubbing import scrubbed
from jammi_lab.sources.base import Relation
from jammi_lab.storage.beside import begin
from jammi_lab.store.results import Results
from jammi_lab.tenancy import TenantScope
from jammi_lab.values.anchors import Anchor, Input, InputKind, Observed, Snapshot, Unknown, Vanished, unpinned
from jammi_lab.values.records import Progress, TableRecord
from jammi_lab.values.verdicts import Damaged

Observer = Callable[[Input, "Look"], Observed]
"""Observes inputs of one kind, in the tenant scope that is bound when it is called."""

Compare = Callable[[Anchor, "Look"], bool | Unknown]
"""Whether a source whose state moved holds the same rows as a recorded anchor; in the tenant scope that is bound when it is called."""

Note = Callable[[Anchor, "Look"], None]
"""Remembers what the rows of a source are that was just read; in the tenant scope that is bound when it is called."""

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
        compare: Compare | None = None,
        note: Note | None = None,
        opinions: Opinions | None = None,
    ) -> None:
        self.deep, self.now_ns = deep, clock.now_ns()
        self._observers, self._scope, self._results, self._memo, self._timeout = observers, scope, results, memo, timeout
        self._seen: dict[tuple[str | None, tuple[str, str, str]], Observed] = {}
        self._wanted: dict[tuple[str | None, tuple[str, str, str]], set[tuple[str, ...] | None]] = {}
        self._compare, self._same = compare, dict[tuple[str | None, tuple[str, str, str], str], bool | Unknown]()
        self._damage: dict[str, Damaged | Unknown | None] = {}
        self._opinions, self._note = opinions, note
        self._lock = threading.Lock()
        self.stopped: threading.Event | None = None
        """Set when nobody waits for what this look finds any more; None when somebody always does."""
        self.on_progress: Callable[[Progress], None] | None = None
        """Told, in the thread that asks, how many inputs were observed."""

    @property
    def instant(self) -> str:
        """When the look began, RFC 3339."""
        return rfc3339(self.now_ns)

    def observe(self, input: Input, tenant: str | None, *, everything: bool = False) -> Observed:
        """The state of one input, as the tenant sees its name: at least over `input.columns`, or over all. Never raises for what is the input's
        fault: that is `Unknown`."""
        at, columns = (tenant, input.identity), None if everything else input.columns
        with self._lock:
            self._wanted.setdefault(at, set()).add(columns)
            seen = self._seen.get(at)
            if seen is not None and not (isinstance(seen, Snapshot) and not seen.knows(columns)):
                return seen
        again = self._ask(input, tenant)
        if isinstance(again, Unknown):
            again = Unknown(scrubbed(again.why))  # it is kept with anchors, and shown
        with self._lock:
            if at not in self._seen or self._seen[at] is seen:
                self._seen[at] = again
            return self._seen[at]

    def read_sets(self, input: Input) -> frozenset[tuple[str, ...] | None]:
        """The sets of columns over which the bound tenant's anchors of an input are wanted in this look; None is the set of all."""
        with self._lock:
            return frozenset(self._wanted.get((self._scope.current, input.identity)) or {None})

    def saw(self, identity: tuple[str, str, str], tenant: str | None, seen: Observed) -> None:
        """Take over an observation that was made in the transaction of a read."""
        with self._lock:
            self._seen[(tenant, identity)] = seen

    def _ask(self, input: Input, tenant: str | None) -> Observed:
        if self._given_up():
            return Unknown(why="the look was given up")
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

    def same_rows(self, recorded: Anchor, tenant: str | None) -> bool | Unknown:
        """A second opinion on a source that moved: whether the columns of a recorded anchor hold the same bag of rows. False when nobody can tell."""
        if self._compare is None or recorded.input.kind not in (InputKind.SOURCE, InputKind.FRAME):
            return False
        at = (tenant, recorded.input.identity, recorded.value)
        if at not in self._same:
            with self._scope.use(tenant):
                try:
                    self._same[at] = self._compare(recorded, self)
                except (JammiError, OSError):
                    self._same[at] = False
        return self._same[at]

    def note_rows(self, anchors: Iterable[Anchor]) -> None:
        """Remember the rows that these anchors stand for, so that sources which are written anew can be compared with them. What is remembered is
        stored with what is stored next."""
        for anchor in anchors:
            if self._note is not None and anchor.pinned and anchor.input.kind in (InputKind.SOURCE, InputKind.FRAME):
                with contextlib.suppress(JammiError, OSError):
                    self._note(anchor, self)

    def same_result(self, one: TableRecord, other: TableRecord, columns: tuple[str, ...]) -> bool:
        """A second opinion on a result table that was made again: whether both versions hold the same bag of rows over these columns. False when
        that cannot be told."""
        if self._opinions is None:
            return False
        try:
            return self._opinions.same_rows(one, other, columns, deep=self.deep)
        except (JammiError, OSError):
            return False

    def observe_all(self, wanted: Iterable[tuple[str | None, Input]]) -> None:
        """Observe many inputs at once; what has not answered when the time is up is unknown for this look."""
        asked = list(wanted)
        with self._lock:
            for tenant, each in asked:
                self._wanted.setdefault((tenant, each.identity), set()).add(each.columns)
        todo = list({(tenant, i.identity): (tenant, i) for tenant, i in asked if (tenant, i.identity) not in self._seen}.values())
        done = threading.Event()
        left = threading.Semaphore(0)
        shares = [todo[n::_WORKERS] for n in range(min(_WORKERS, len(todo)))]
        seen: list[None] = []

        def work(share: list[tuple[str | None, Input]]) -> None:
            try:
                for tenant, each in share:
                    if done.is_set():
                        return
                    self.observe(each, tenant)
                    seen.append(None)
            finally:
                left.release()

        for share in shares:
            begin(functools.partial(work, share), "jammi-look")
        try:
            deadline = self._timeout
            for _ in shares:
                if not _acquire(left, deadline, self.stopped, lambda: self._tell(len(seen), len(todo))):
                    break
        finally:
            done.set()
        with self._lock:
            for tenant, each in todo:
                self._seen.setdefault(
                    (tenant, each.identity), Unknown(why=f"no answer within {self._timeout:g} s (the setting look.timeout_seconds)")
                )

    def _tell(self, done: int, total: int) -> None:
        if self.on_progress is not None:
            self.on_progress(Progress(stage="look", done=done, total=total, unit="inputs"))

    def damage(self, record: TableRecord) -> Damaged | Unknown | None:
        """What is wrong with a table's bytes; None when they are the published ones, Unknown when that cannot be told."""
        if self._given_up():
            return Unknown(why="the look was given up")
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

    def _given_up(self) -> bool:
        return self.stopped is not None and self.stopped.is_set()

    def anchor(self, relation: Relation, columns: tuple[str, ...], tenant: str | None) -> Anchor:
        """The anchor of something that a statement has just been bound to. SourceUnavailable when it has vanished since."""
        token = relation.token
        seen = token.snapshot if isinstance(token, Pinned) else self.observe(replace(relation.input, columns=columns), tenant)
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
        seen = None if isinstance(relation.token, Pinned) else self._seen.get((tenant, relation.input.identity))
        return seen.stamp if isinstance(seen, Snapshot) else ""

    def close(self) -> None:
        """Keep what was seen for later looks."""
        self._memo.flush()


class Pinned:
    """The token of a relation that cannot change under a statement: its state is known from where it was resolved."""

    __slots__ = ("record", "snapshot")

    def __init__(self, snapshot: Snapshot, record: TableRecord | None = None) -> None:
        self.snapshot, self.record = snapshot, record


def _acquire(semaphore: threading.Semaphore, seconds: float, stopped: threading.Event | None, tell: Callable[[], None]) -> bool:
    """Wait in small steps, so that an interrupt arrives, and the word that nobody waits any more; `tell` is called after each."""
    waited = 0.0
    while waited < seconds and not (stopped is not None and stopped.is_set()):
        acquired = semaphore.acquire(timeout=0.05)
        tell()
        if acquired:
            return True
        waited += 0.05
    return False
