"""The anchors of a build: bind after observing the inputs, and observe again after reading them.

An anchor that was equal both times names the state that the rows were read from."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from jammi_lab.catalog.catalog import Catalog
from jammi_lab.core.anchors import Anchor, FrameOrigin, Observed, Snapshot, unpinned_anchor
from jammi_lab.core.identifiers import fold
from jammi_lab.core.manifest import InputFiles
from jammi_lab.inputs.clock import CURRENT_DATE, function_input
from jammi_lab.inputs.observation import Observation, PinnedState
from jammi_lab.inputs.result_names import find_recorded_version
from jammi_lab.sources.frame_origins import merged_origin
from jammi_lab.steps.increment import input_files
from jammi_lab.steps.jobs import Job


class InputChanged(Exception):
    """An input changed while it was read. The second argument tells whether its rows are still the
    same. Internal."""

    def __str__(self) -> str:
        return str(self.args[0])


# An input that keeps moving after so many runs is recorded as unpinned: there is a table, and its
# verdict is undecidable.
MAX_ATTEMPTS = 3


def observed_anchors(job: Job, observation: Observation, tenant: str | None) -> list[Anchor]:
    """The observed states of everything that the job reads: one anchor per input, over the union of
    its columns."""
    anchors = [observation.anchor(read.relation, read.columns, tenant) for read in job.inputs]
    if job.rows_anchor is not None:
        anchors.append(job.rows_anchor)
    for name in job.volatile:
        note = f"{name}() returns another value on each call"
        anchors.append(unpinned_anchor(function_input(name), observation.started_at, note))
    if job.reads_date and isinstance(today := observation.observe(CURRENT_DATE, tenant), Snapshot):
        anchors.append(today.anchor(CURRENT_DATE))
    return anchors


@dataclass(frozen=True)
class InputState:
    """The state of all inputs of a job in one observation."""

    anchors: list[Anchor]
    change_tokens: Mapping[tuple[str, str, str], str]
    """By input: a token that changes even when an input is changed and then changed back."""
    files: Mapping[tuple[str, str, str], InputFiles] = field(default_factory=dict)
    """The files of each input that is a file set."""


def _observe(job: Job, observation: Observation, tenant: str | None) -> InputState:
    anchors = observed_anchors(job, observation, tenant)
    return InputState(
        anchors,
        {
            bound.relation.input.identity: observation.change_token(bound.relation, tenant)
            for bound in job.inputs
        },
        observed_files(job, observation, tenant),
    )


def observed_files(
    job: Job, observation: Observation, tenant: str | None
) -> dict[tuple[str, str, str], InputFiles]:
    """The files of each input of a job that is a file set, as they were observed."""
    return {
        bound.relation.input.identity: files
        for bound in job.inputs
        if (state := observation.files(bound.relation, tenant)) is not None
        and (files := input_files(bound.relation.input.name, state)) is not None
    }


def same_anchors(left: Sequence[Anchor], right: Sequence[Anchor]) -> bool:
    """Whether two anchor sets record the same states of the same inputs, in any order. An unpinned
    anchor equals nothing."""
    right_by_input = {a.input.identity: a for a in right}
    return len(left) == len(right) == len(right_by_input) and all(
        (counterpart := right_by_input.get(a.input.identity)) is not None
        and a.same_state(counterpart)
        and _same_origin(a, counterpart)
        for a in left
    )


def _same_origin(left: Anchor, right: Anchor) -> bool:
    """Whether two anchors of a frame name the same origin; also when both name none."""
    if isinstance(left.origin, msgspec.UnsetType) or isinstance(right.origin, msgspec.UnsetType):
        return left.origin is right.origin
    return left.origin.same_state(right.origin)


def bind_after_observing(
    observe: Callable[[], Observation],
    tenant: str | None,
    job: Job,
    on_rebound: Callable[[Job], None] = lambda _: None,
) -> tuple[Job, InputState]:
    """Bind the job *after* observing its inputs, so that the rows read are never older than the
    recorded anchors. Returns the new job and the observation. `on_rebound` receives each job that
    differs from the one before.

    Rebinding can change the set of inputs, so this repeats up to `MAX_ATTEMPTS` times. Inputs that
    were not observed before the last binding are then recorded as unpinned."""
    attempts = 0
    while True:
        observation = observe()
        observed = set()
        for read in job.inputs:
            source = read.relation.input
            observed.add(source.identity)
            if not isinstance(read.relation.token, PinnedState):
                wanted = source.with_values(columns=read.columns)
                observation.observe(wanted, tenant)
        # A statement that was bound first would have the columns that an input had before it was
        # observed: the anchor would speak of a file that the statement never saw.
        rebound = job.rebind()
        if (
            rebound.reads == job.reads and rebound.definition == job.definition
        ) or attempts == MAX_ATTEMPTS:
            break
        job, attempts = rebound, attempts + 1
        on_rebound(job)
    if rebound.definition != job.definition:
        on_rebound(rebound)
    state = _observe(rebound, observation, tenant)
    observation.close()
    unobserved = {
        b.relation.input.identity
        for b in rebound.inputs
        if not isinstance(b.relation.token, PinnedState)
    } - observed
    anchors = [
        _unpinned(a, observation) if a.input.identity in unobserved else a for a in state.anchors
    ]
    return rebound, InputState(anchors, state.change_tokens, state.files)


def _unpinned(anchor: Anchor, observation: Observation) -> Anchor:
    return unpinned_anchor(
        anchor.input,
        observation.started_at,
        f"{anchor.input.label} kept changing while the statement was being prepared",
    )


def confirm_anchors(
    observe: Callable[[], Observation],
    tenant: str | None,
    job: Job,
    state_before: InputState,
    snapshots: Mapping[tuple[str, str, str], Observed],
    *,
    is_last_attempt: bool,
) -> list[Anchor]:
    """Observe the inputs again after all rows were read, and return the final anchors.

    An input with a state in `snapshots` (seen by the reading transaction itself) gets that state.
    For any other input that changed, or was changed and changed back, raises InputChanged while
    another attempt remains; on the last attempt its anchor becomes unpinned."""
    observation = observe()
    for identity, snapshot in snapshots.items():
        observation.add_state(identity, tenant, snapshot)
    state_after = _observe(job, observation, tenant)  # publishing saves what was observed
    anchors_after = {a.input.identity: a for a in state_after.anchors}
    confirmed = []
    # Result tables and frames need no second look: the one cannot change, of the other rows and
    # digest come from one conversion. Their anchors come out equal here.
    for anchor in state_before.anchors:
        input_identity = anchor.input.identity
        if input_identity in snapshots:
            confirmed.append(anchors_after[input_identity])
            continue
        has_changed = anchor.pinned and not (
            anchor.same_state(anchors_after[input_identity])
            and state_before.change_tokens.get(input_identity)
            == state_after.change_tokens.get(input_identity)
        )
        if has_changed and not is_last_attempt:
            raise InputChanged(
                f"{anchor.input.label} was changed while it was being read",
                anchor.same_state(anchors_after[input_identity]),
            )
        confirmed.append(
            unpinned_anchor(
                anchor.input,
                observation.started_at,
                f"{anchor.input.label} kept changing while it was being read",
            )
            if has_changed
            else anchor
        )
    observation.note_columns(confirmed)
    return confirmed


# A notebook reads a table, adds to it and stores it again: the frame rests on an earlier version of
# the same table, or on a table that was made from one.


def with_own_versions_resolved(
    catalog: Catalog, recipe: str, anchors: Sequence[Anchor]
) -> list[Anchor]:
    """The anchors with each earlier version of the recipe, in what a frame was made from, replaced
    by what that version was made from. The version itself would make every successor stale. A table
    that was made from such a version stays, with what it was made from."""
    return [
        a.with_values(origin=_resolved(catalog, recipe, a.origin))
        if isinstance(a.origin, FrameOrigin)
        else a
        for a in anchors
    ]


def _resolved(catalog: Catalog, recipe: str, origin: FrameOrigin) -> FrameOrigin:
    upstream = origins_upstream(catalog, origin)
    own = {version for version in upstream if version[0] == fold(recipe)}
    if not own:
        return origin
    expanded, count = set(own), 0
    while len(expanded) > count:
        count = len(expanded)
        expanded |= {v for v, made in upstream.items() if not expanded.isdisjoint(_versions(made))}
    parts, pending = list[FrameOrigin](), [origin]
    while pending:
        made = pending.pop()
        kept = [a for a in made.inputs if _version(a) not in own]
        parts.append(made.with_values(inputs=kept))
        for version in expanded.intersection(_versions(made)):
            expanded.discard(version)
            pending.append(upstream[version])
    return merged_origin(parts, derived=True)


_Version = tuple[str, int | None]
"""The folded name of a table and a version."""


def _version(anchor: Anchor) -> _Version:
    return fold(anchor.input.name), anchor.version if anchor.input.kind_class.is_result else None


def _versions(origin: FrameOrigin) -> Iterable[_Version]:
    return map(_version, origin.inputs)


def origins_upstream(catalog: Catalog, origin: FrameOrigin) -> dict[_Version, FrameOrigin]:
    """What each version upstream that is still there was made from, by folded name and version."""
    found, pending = dict[_Version, FrameOrigin](), [*origin.inputs]
    while pending:
        source = pending.pop()
        if source.input.kind_class.is_result and _version(source) not in found:
            record = find_recorded_version(catalog, source.input.name, source)
            if record is not None:
                made = found[_version(source)] = _origin_of_version(source, record.anchors)
                pending += made.inputs
    return found


def _origin_of_version(source: Anchor, anchors: Sequence[Anchor]) -> FrameOrigin:
    """What a version with these anchors was made from."""
    return merged_origin(
        [
            FrameOrigin([a for a in anchors if a.pinned and not a.input.kind_class.has_origin]),
            *(a.origin for a in anchors if isinstance(a.origin, FrameOrigin)),
        ],
        [
            f"version {source.version} of {source.input.name} was computed from {a.input.label}"
            for a in anchors
            if not a.pinned
            or (a.input.kind_class.has_origin and not isinstance(a.origin, FrameOrigin))
        ],
    )
