"""The observation pass: every input is observed at most once, in parallel and with a timeout. All
verdicts of one pass come from the same observations, so they are consistent."""

import functools
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, TypeVar

from jammi_lab.core.anchors import (
    Anchor,
    FrameOrigin,
    Identity,
    Input,
    Observed,
    Snapshot,
    Unknown,
    Vanished,
    unpinned_anchor,
)
from jammi_lab.core.clock import Clock, rfc3339
from jammi_lab.core.errors import JammiError, SourceUnavailable, is_of_machine
from jammi_lab.core.identifiers import fold
from jammi_lab.core.input_kinds import InputKind
from jammi_lab.core.interrupts import DeferInterrupts, Signal
from jammi_lab.core.records import Progress, TableRecord
from jammi_lab.core.redaction import redact
from jammi_lab.core.tenancy import TenantScope
from jammi_lab.core.thread_pool import submit
from jammi_lab.core.verdicts import Damaged
from jammi_lab.engine.name_resolution import NameResolver
from jammi_lab.inputs.changed_columns import note_columns, note_row_count
from jammi_lab.inputs.observation_cache import ObservationCache
from jammi_lab.inputs.row_comparison import RowComparison
from jammi_lab.sources.base import Relation, SharedRead
from jammi_lab.sources.frame_origins import merged_origin
from jammi_lab.sources.read_errors import reason_of
from jammi_lab.store.result_files import ResultFiles

T = TypeVar("T")
MAX_WORKERS = 4


class Kind(InputKind, NameResolver):
    """The inputs of one kind in one workspace, as the tenant that is bound sees them: the names
    that FROM accepts for them, and their states. This one has none."""

    def observe(self, input: Input, observation: "Observation") -> Observed:  # noqa: ARG002
        """The state of an input, at least over its columns. May raise JammiError and OSError."""
        return Unknown(why=f"inputs of kind {input.kind} cannot be observed here")

    def same_rows(self, recorded: Anchor, observation: "Observation") -> bool | Unknown:  # noqa: ARG002
        """Whether an input whose state changed contains the same rows as at a recorded anchor, over
        its columns and in any order; False when that cannot be determined."""
        return False

    def count_rows(self, anchor: Anchor, observation: "Observation") -> int | None:  # noqa: ARG002
        """The number of rows of a small input whose anchor has none, in that state; None where it
        is not known. For display."""
        return None


class Observation:
    """One observation pass. With `deep` it may read all data of an input. Otherwise inputs that are
    expensive to observe are reported as unknown."""

    def __init__(
        self,
        kinds: Mapping[str, Kind],
        *,
        scope: TenantScope,
        results: ResultFiles,
        cache: ObservationCache,
        clock: Clock,
        deep: bool,
        timeout: float,
        row_comparison: RowComparison | None = None,
    ) -> None:
        self.deep, self._clock, self.now_ns = deep, clock, clock.now_ns()
        self.started_at = rfc3339(self.now_ns)
        """The start of the pass, RFC 3339."""
        self._kinds = kinds
        self._scope = scope
        self._results = results
        self.cache = cache
        self._timeout = timeout
        self._states: dict[tuple[str | None, Identity], Observed] = {}
        self._requested_columns: dict[tuple[str | None, Identity], set[tuple[str, ...] | None]] = {}
        self._shared_reads = dict[tuple[str | None, str, str], SharedRead]()
        self._comparisons = dict[tuple[str | None, Identity, str], bool | Unknown]()
        self._damage: dict[str, Damaged | Unknown | None] = {}
        self._failure: JammiError | None = None
        """What kept this pass from a look, and was no fault of the input."""
        self._found = dict[tuple[str | None, str], Mapping[str, Any]]()
        self._row_comparison = row_comparison
        self._lock, self._finding = threading.Lock(), threading.Lock()
        self.cancelled: threading.Event | None = None
        """Set by the caller to cancel the pass; None when it cannot be cancelled."""
        self.on_progress: Callable[[Progress], None] | None = None
        """Receives the number of observed inputs, in the caller's thread."""

    def restart(self) -> None:
        """Forget what was observed, and observe everything anew from now on."""
        with self._lock:
            self.now_ns = self._clock.now_ns()
            self.started_at = rfc3339(self.now_ns)
            self._failure = None
            self._found = {}  # a look that goes on keeps the old one
            for observed in (
                self._states,
                self._requested_columns,
                self._shared_reads,
                self._comparisons,
                self._damage,
            ):
                observed.clear()

    def observe(self, input: Input, tenant: str | None, *, all_columns: bool = False) -> Observed:
        """The state of one input, as the tenant sees it: at least over `input.columns`, or over all
        columns with `all_columns`. An input that cannot be observed is `Unknown`; its errors are
        not raised."""
        key, columns = (tenant, input.identity), None if all_columns else input.columns
        with self._lock:
            self._requested_columns.setdefault(key, set()).add(columns)
            known = self._states.get(key)
            if known is not None and not (
                isinstance(known, Snapshot) and not known.covers(columns)
            ):
                return known
        state = self._observe_input(input, tenant)
        if isinstance(state, Unknown):  # stored with anchors, and displayed
            state = type(state)(redact(state.why))
        with self._lock:
            # Another thread may have observed the input meanwhile: its state stays, so that all of
            # this pass sees one state.
            if key not in self._states or self._states[key] is known:
                self._states[key] = state
            return self._states[key]

    def requested_columns(self, input: Input) -> frozenset[tuple[str, ...] | None]:
        """The column sets over which this pass needs the bound tenant's anchors of an input; None
        stands for all columns."""
        with self._lock:
            return frozenset(
                self._requested_columns.get((self._scope.current, input.identity)) or {None}
            )

    def find(self, name: str, find: Callable[[Iterable[str]], Mapping[str, T]]) -> T | None:
        """What `find` returns under the folded name of an input. It is asked once for all that
        were requested of this pass by then, because a catalog may be far away."""
        tenant, found = self._scope.current, self._found
        with self._finding:  # others wait for it
            if (tenant, name) not in found:
                with self._lock:
                    names = {name, *(identity[1] for _, identity in self._requested_columns)}
                found |= dict.fromkeys(((tenant, each) for each in names), find(names))
        return found[tenant, name].get(fold(name))

    def shared_read(self, input: Input) -> SharedRead:
        """What the connector of a source reads of all its tables that the bound tenant needs."""
        of_source = (self._scope.current, *input.identity[:2])

        def tables() -> set[str]:
            with self._lock:
                return {
                    table
                    for tenant, (kind, name, table) in self._requested_columns
                    if (tenant, kind, name) == of_source and table
                }

        with self._lock:
            return self._shared_reads.setdefault(of_source, SharedRead(tables))

    def add_state(self, identity: Identity, tenant: str | None, state: Observed) -> None:
        """Add an observation that was made in the transaction of a read."""
        with self._lock:
            self._states[(tenant, identity)] = state

    def _observe_input(self, input: Input, tenant: str | None) -> Observed:
        if self._is_cancelled():
            return Unknown(why="the check was cancelled")
        with self._scope.use(tenant):
            try:
                return self._kind(input).observe(input, self)
            except (JammiError, OSError) as error:
                if isinstance(error, JammiError) and is_of_machine(error):
                    self._failure = error
                return Unknown(reason_of(error))

    def _kind(self, input: Input) -> Kind:
        return self._kinds.get(input.kind) or Kind()

    def has_same_rows(self, recorded: Anchor, tenant: str | None) -> bool | Unknown:
        """As `Kind.same_rows`, each comparison once."""
        key = (tenant, recorded.input.identity, recorded.value)
        if key not in self._comparisons:
            with self._scope.use(tenant):
                try:
                    self._comparisons[key] = self._kind(recorded.input).same_rows(recorded, self)
                except (JammiError, OSError):
                    self._comparisons[key] = False
        return self._comparisons[key]

    def note_columns(self, anchors: Iterable[Anchor]) -> None:
        """Store the digests of the columns at these anchors, or the number of rows, for what a
        verdict says of a changed source. They are persisted with the next flush of the cache."""
        for anchor in anchors:
            if not anchor.pinned or not anchor.input.kind_class.is_external:
                continue
            state = self.observe(anchor.input, self._scope.current)
            note_columns(state, anchor, self.cache, self.now_ns)
            kind = self._kind(anchor.input)
            note_row_count(anchor, functools.partial(kind.count_rows, anchor, self), self.cache)

    def is_equal_but_for_rounding(
        self, new: TableRecord, old: TableRecord, columns: tuple[str, ...]
    ) -> bool:
        """As `RowComparison.is_equal_but_for_rounding`, within the read limits of this pass."""
        return self._row_comparison is not None and self._row_comparison.is_equal_but_for_rounding(
            new, old, columns, deep=self.deep
        )

    def observe_all(self, inputs: Iterable[tuple[str | None, Input]]) -> None:
        """Observe many inputs in parallel. Inputs that do not respond within the timeout are
        unknown for the rest of this pass."""
        pending = self._looks_to_begin(list(inputs))
        left = self.cache.unfinished_looks
        finished = threading.Event()
        running = set[tuple[str | None, Identity]]()
        shares = [pending[n::MAX_WORKERS] for n in range(min(MAX_WORKERS, len(pending)))]
        ends = [Signal() for _ in shares]
        observed: list[None] = []

        def observe_share(share: list[tuple[str | None, Input]], end: Signal) -> None:
            try:
                for tenant, item in share:
                    key = (tenant, item.identity)
                    with self._lock:
                        if finished.is_set():
                            return
                        running.add(key)
                    try:
                        self.observe(item, tenant)
                    finally:
                        with self._lock:
                            running.discard(key)
                            left.discard(key)
                    observed.append(None)
            finally:
                end.set()

        for share, end in zip(shares, ends, strict=True):
            submit(functools.partial(observe_share, share, end), "jammi-look")
        try:
            deadline = self._timeout
            for end in ends:
                if not _wait(
                    end,
                    deadline,
                    self.cancelled,
                    lambda: self._report_progress(len(observed), len(pending)),
                ):
                    with self._lock:
                        finished.set()
                        left.update(running)
                    break
        finally:
            finished.set()
        with self._lock:
            for tenant, item in pending:
                self._states.setdefault(
                    (tenant, item.identity),
                    Unknown(
                        why=f"no answer within {self._timeout:g} s (the setting "
                        "look.timeout_seconds)"
                    ),
                )

    def _looks_to_begin(
        self, requested: Sequence[tuple[str | None, Input]]
    ) -> list[tuple[str | None, Input]]:
        """One of each input that has no state. One whose look in an earlier pass goes on is
        unknown."""
        pending = dict[tuple[str | None, Identity], tuple[str | None, Input]]()
        with self._lock:
            for tenant, item in requested:
                key = (tenant, item.identity)
                self._requested_columns.setdefault(key, set()).add(item.columns)
                if key in self.cache.unfinished_looks:
                    why = "an earlier look at it has not ended yet"
                    self._states.setdefault(key, Unknown(why))
                if key not in self._states:
                    pending[key] = (tenant, item)
        return list(pending.values())

    def _report_progress(self, done: int, total: int) -> None:
        if self.on_progress is not None:
            self.on_progress(Progress(stage="look", done=done, total=total, unit="inputs"))

    def damage(self, record: TableRecord) -> Damaged | Unknown | None:
        """The damage of a table's files; None when they are intact, Unknown when that cannot be
        determined."""
        if self._is_cancelled():
            return Unknown(why="the check was cancelled")
        if record.table_name not in self._damage:
            if record.definition_hash is not None and self._results.are_known_intact(record):
                self._damage[record.table_name] = None
                return None
            try:
                damage = self._results.find_damage(record)
                if record.definition_hash is not None and damage is None:
                    damage = self._results.find_manifest_damage(record)
                self._damage[record.table_name] = damage
            except (JammiError, OSError) as error:
                self._damage[record.table_name] = Unknown(reason_of(error))
        return self._damage[record.table_name]

    def _is_cancelled(self) -> bool:
        return self.cancelled is not None and self.cancelled.is_set()

    def anchor(self, relation: Relation, columns: tuple[str, ...], tenant: str | None) -> Anchor:
        """The anchor of a relation that a statement was just bound to. SourceUnavailable when it
        has vanished since. Raises what kept this pass from looking at it: a table would be
        unpinned for good."""
        token = relation.token
        state = (
            token.snapshot
            if isinstance(token, PinnedState)
            else self.observe(relation.input.with_values(columns=columns), tenant)
        )
        match state:
            case Snapshot():
                anchor = state.anchor(relation.input, columns)
                if isinstance(token, PinnedState) and token.origin is not None:
                    anchor = anchor.with_values(origin=token.origin)
                return anchor
            case Vanished():
                raise SourceUnavailable(
                    f"{relation.input.label} disappeared while it was being read.",
                    hint="Restore it, or remove the source.",
                )
            case Unknown(why):
                if self._failure is not None:
                    raise self._failure
                return unpinned_anchor(
                    Input(
                        kind=relation.input.kind,
                        name=relation.input.name,
                        table=relation.input.table,
                        columns=columns,
                    ),
                    self.started_at,
                    why,
                )

    def change_token(self, relation: Relation, tenant: str | None) -> str:
        """The change token of an input, which changes with every write. Empty for inputs that
        cannot change during a statement, and for inputs without a token."""
        state = (
            None
            if isinstance(relation.token, PinnedState)
            else self._states.get((tenant, relation.input.identity))
        )
        return state.stamp if isinstance(state, Snapshot) else ""

    def files(self, relation: Relation, tenant: str | None) -> Snapshot | None:
        """The state of an input that is a file set whose files are known one by one; None for any
        other, and for one that this pass has not observed."""
        with self._lock:
            state = self._states.get((tenant, relation.input.identity))
        return state if isinstance(state, Snapshot) and state.files is not None else None

    def close(self) -> None:
        """Persist the observations for later passes."""
        self.cache.flush()


class PinnedState:
    """The token of a relation that cannot change during a statement; its state is known since it
    was resolved."""

    __slots__ = ("origin", "record", "snapshot")

    def __init__(
        self,
        snapshot: Snapshot,
        record: TableRecord | None = None,
        origin: FrameOrigin | None = None,
    ) -> None:
        self.snapshot, self.record, self.origin = snapshot, record, origin


def origin_of_inputs(
    inputs: Iterable[tuple[Relation, tuple[str, ...]]],
    states: Mapping[Identity, Anchor] = MappingProxyType({}),
) -> FrameOrigin:
    """The origin of rows that a statement read: the states that its inputs were pinned in, else
    those of `states`, by identity, which were observed before the rows were read; and as grounds
    the inputs that have neither."""
    tables, frames, grounds = list[Anchor](), list[FrameOrigin](), list[str]()
    for relation, columns in inputs:
        token, label = relation.token, relation.input.label
        if relation.input.kind_class.has_origin:
            known = token.origin if isinstance(token, PinnedState) else None
            frames.append(known or FrameOrigin(grounds=[f"the origin of {label} is unknown"]))
        elif isinstance(token, PinnedState):
            tables.append(token.snapshot.anchor(relation.input, columns))
        elif (state := states.get(relation.input.identity)) is not None and state.pinned:
            tables.append(state)
        else:
            grounds.append(f"the state of {label} was not recorded")
    return merged_origin([FrameOrigin(tables), *frames], grounds)


def _wait(
    end: Signal,
    seconds: float,
    cancelled: threading.Event | None,
    on_wait: Callable[[], None],
) -> bool:
    """Wait at most `seconds`; returns whether the end came. It waits in small steps, so that
    `cancelled` is noticed, and calls `on_wait` after each."""
    elapsed = 0.0
    while elapsed < seconds and not (cancelled is not None and cancelled.is_set()):
        has_ended = end.wait(0.05)
        DeferInterrupts.checkpoint()
        on_wait()
        if has_ended:
            return True
        elapsed += 0.05
    return False
