"""The verdict function: recorded × observed → verdict. Pure, without I/O."""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from jammi_lab.core.anchors import (
    Anchor,
    FrameOrigin,
    Identity,
    Observed,
    Snapshot,
    Unknown,
    Vanished,
    cell_names,
    result_input,
    schema_digest,
    unpinned_anchor,
)
from jammi_lab.core.canonical_json import digest_of
from jammi_lab.core.verdicts import (
    Cause,
    Damaged,
    DefinitionChanged,
    Fresh,
    InputAdvanced,
    InputVanished,
    MissingManifest,
    PossiblyStale,
    Reason,
    Stale,
    Undecidable,
    Verdict,
    causes_of,
    with_path,
)

_THIS_TABLE = result_input("this table")
MAX_CAUSES = 16
"""Maximum number of root causes in one verdict."""
State = Anchor | Vanished | Unknown
"""The current state of an input: its anchor over the columns that the statement reads today, or why
there is none."""


class Ground(NamedTuple):
    """An assumption of a fresh verdict that does not compare everything."""

    text: str
    """A clause."""
    path: tuple[str, ...] = ()
    """The names from the direct parent to the upstream table that has the ground; empty for a
    ground of the table itself."""
    of_order: bool = False
    """Whether only the order of rows rests on it."""

    def __str__(self) -> str:
        return with_path(self.text, self.path)


@dataclass(frozen=True)
class Evidence:
    """The recorded and observed facts about one table."""

    recorded: str | None
    """The definition hash of the table; None for a table from before manifests."""
    current: str | Unknown | None
    """The definition hash of its recipe today; None when the recipe was dropped."""
    anchors: tuple[Anchor, ...] = ()
    """Its recorded anchors."""
    current_states: Mapping[Identity, State] = field(default_factory=dict)
    """The current states of its inputs, by identity."""
    damage: Damaged | Unknown | None = None
    """The damage of its files, if any."""
    observed_at: str = ""
    """The start of the observation pass."""
    ready: bool = True
    """False for a recipe without a ready version."""
    grounds: tuple[Ground, ...] = ()
    """The assumptions of a fresh verdict: the table's own first, then those of upstream tables."""
    notes: tuple[str, ...] = ()
    """What a fresh verdict says besides."""
    difference: Callable[[Anchor, Anchor], str] = lambda _recorded, _current: ""
    """In which columns and rows two states of an input differ; empty when that is not known."""


def evaluate_table(evidence: Evidence, parents: Iterable[tuple[str, Verdict]] = ()) -> Verdict:
    """The verdict on one table. `parents` are the verdicts on the result tables it reads, by recipe
    name.

    Precedence: MissingManifest, Damaged, Undecidable, Stale, PossiblyStale, Fresh; a frame that is
    gone ranks behind a change of another table. Reasons are ordered: the definition first, then
    inputs by name.
    """
    if not evidence.ready:
        return Stale(
            [
                DefinitionChanged(
                    recorded=None,
                    current=evidence.current if isinstance(evidence.current, str) else None,
                )
            ]
        )
    if evidence.recorded is None:
        return MissingManifest()
    if isinstance(evidence.damage, Damaged):
        return evidence.damage
    causes, inherited = _inherited_causes(parents, evidence.observed_at)
    reasons, doubts = _own_reasons(evidence, {cause.path[0] for cause in causes})
    doubts += inherited
    if causes:
        # Frames are gone after each restart. What rests on a changed table is possibly stale then,
        # too, whatever the frame was.
        doubts = [doubt for doubt in doubts if not doubt.input.kind_class.has_origin]
    # Before `stale`: what cannot be decided may be a reason, too. The reasons that are decided are
    # kept.
    if doubts:
        return Undecidable(doubts, reasons, causes)
    if reasons:
        return Stale(reasons)
    return PossiblyStale(causes) if causes else fresh_on(evidence.grounds, evidence.notes)


def fresh_on(grounds: Iterable[Ground], notes: Iterable[str] = ()) -> Fresh:
    """The verdict on a fresh table. The grounds of all upstream tables are one clause."""
    clauses = [ground.text for ground in grounds if not ground.path]
    inherited = [ground for ground in grounds if ground.path]
    if inherited:
        nearest = min(inherited, key=lambda ground: len(ground.path))
        others = ", and others upstream" if len(inherited) > 1 else ""
        clauses.append(f"{nearest}{others}")
    return Fresh(clauses, [*notes])


def inherited_grounds(parents: Iterable[tuple[str, Iterable[Ground]]]) -> tuple[Ground, ...]:
    """The grounds of upstream tables, at most MAX_CAUSES, with their shortest paths. `parents`: the
    tables that are read, by name, each with its own and its inherited grounds."""
    nearest: dict[tuple[str, str], Ground] = {}
    for name, grounds in parents:
        for ground in grounds:
            path = (name, *ground.path)
            key = path[-1], ground.text
            if key not in nearest or len(path) < len(nearest[key].path):
                nearest[key] = ground._replace(path=path)
    return tuple(sorted(nearest.values(), key=lambda ground: len(ground.path))[:MAX_CAUSES])


def evaluate_frame(
    sources: Iterable[Evidence], parents: Iterable[tuple[str, Verdict]], observed_at: str
) -> Verdict:
    """The verdict on a frame. `sources`: the tables that it was made from, one by one, because it
    may rest on two states of one table; `parents`: the verdicts on those that are result tables.

    A frame is never stale: what Python did with the rows is not known, so that a changed table only
    may change them."""
    inherited, inherited_doubts = _inherited_causes(parents, observed_at)
    own, doubts = list[Cause](), list[Anchor]()
    for source in sources:
        reasons, own_doubts = _own_reasons(source)
        own += [
            Cause(reason, [reason.input.label])
            for reason in reasons
            if not isinstance(reason, DefinitionChanged)
        ]
        doubts += [doubt.with_values(path=[doubt.input.label]) for doubt in own_doubts]
    # Once one of its tables changed, that is known, whatever is not known of the others.
    causes = [*inherited, *own]
    if causes:
        return PossiblyStale(causes)
    doubts += inherited_doubts
    return Undecidable(doubts) if doubts else Fresh()


def _own_reasons(
    evidence: Evidence, changed_parents: Collection[str] = ()
) -> tuple[list[Reason], list[Anchor]]:
    """The reasons and doubts of the table itself: definition, files, direct inputs. A frame that
    cannot be observed is no doubt where it is among `changed_parents`: what it was made from has
    changed."""
    reasons: list[Reason] = []
    doubts: list[Anchor] = []
    if isinstance(evidence.current, Unknown):
        doubts.append(unpinned_anchor(_THIS_TABLE, evidence.observed_at, evidence.current.why))
    elif evidence.current != evidence.recorded:
        reasons.append(DefinitionChanged(recorded=evidence.recorded, current=evidence.current))
    if isinstance(evidence.damage, Unknown):
        doubts.append(
            unpinned_anchor(
                _THIS_TABLE,
                evidence.observed_at,
                f"its files cannot be read: {evidence.damage.why}",
            )
        )
    current_states = evidence.current_states
    changed = [
        a
        for a in evidence.anchors
        if not (
            isinstance(state := current_states.get(a.input.identity), Anchor)
            and a.same_state(state)
        )
    ]
    for anchor in sorted(changed, key=lambda a: (a.input.label, a.input.kind)) if changed else ():
        if not anchor.pinned:
            doubts.append(anchor)
            continue
        match current_states.get(anchor.input.identity, Unknown(why="it was not observed")):
            case Anchor() as current:
                difference = evidence.difference(anchor, current)
                reasons.append(InputAdvanced(anchor.input, anchor, current, difference))
            case Vanished():
                reasons.append(InputVanished(anchor.input, anchor))
            case Unknown(why) if not (
                anchor.input.kind_class.has_origin and anchor.input.label in changed_parents
            ):
                doubts.append(unpinned_anchor(anchor.input, evidence.observed_at, why))
    return reasons, doubts


def _inherited_causes(
    parents: Iterable[tuple[str, Verdict]], observed_at: str
) -> tuple[list[Cause], list[Anchor]]:
    """The causes and doubts from upstream tables. Of several paths to one root cause only the
    shortest is kept, so that diamonds in the graph do not multiply causes."""
    ways: dict[tuple[str, int], Cause] = {}
    doubts: dict[tuple[str, ...], Anchor] = {}
    for name, verdict in parents:
        if type(verdict) is Fresh:
            continue
        for cause in causes_of(verdict):  # a reason is one object on all paths: id() identifies it
            path = [name, *cause.path]
            cause_key = (path[-1], id(cause.reason))
            if cause_key not in ways or len(path) < len(ways[cause_key].path):
                ways[cause_key] = Cause(cause.reason, path)
        for doubt in _doubts_about(name, verdict, observed_at):
            doubt_key = (doubt.path[-1], *doubt.input.identity)
            doubts[doubt_key] = min(doubts.get(doubt_key, doubt), doubt, key=lambda a: len(a.path))
    return _nearest_causes(list(ways.values())), list(doubts.values())


def _nearest_causes(ways: list[Cause]) -> list[Cause]:
    """The nearest root causes, at least one through each parent, in the given order. Without this
    limit a large graph would take quadratic time."""
    order = sorted(range(len(ways)), key=lambda i: len(ways[i].path))
    indexes = set({ways[i].path[0]: i for i in reversed(order)}.values())
    for i in order:
        if len(indexes) >= MAX_CAUSES:
            break
        indexes.add(i)
    return [ways[i] for i in sorted(indexes)]


def _doubts_about(name: str, verdict: Verdict, observed_at: str) -> list[Anchor]:
    """The doubts about a parent, each with its path."""
    match verdict:
        case Undecidable(unknown, _):
            return [anchor.with_values(path=[name, *anchor.path]) for anchor in unknown]
        case MissingManifest():
            doubt = unpinned_anchor(result_input(name), observed_at, f"{name} has no manifest")
            return [doubt.with_values(path=[name])]
        case _:
            return []


def with_changed_meaning(current: Anchor) -> Anchor:
    """The anchor of an unchanged input for a statement whose meaning over it changed."""
    return current.with_values(value=digest_of([current.value, current.schema]))


def frame_grounds(anchor: Anchor) -> list[str]:
    """What a fresh verdict leaves out about a frame that a table of the node was made from."""
    if not anchor.input.kind_class.has_origin or not anchor.pinned:
        return []
    frame = f"the frame {anchor.input.label}"
    if not isinstance(anchor.origin, FrameOrigin):
        return [f"as far as {frame} goes"]
    grounds = [*anchor.origin.grounds]
    if anchor.origin.derived:
        grounds.append(f"made in {cell_names(anchor.origin.cells)}")
    return [f"as far as {frame} goes: {ground}" for ground in grounds]


def schema_changed(anchor: Anchor, state: Observed) -> bool:
    """Whether the schema changed, so that the statement must be bound again. False for an input
    that cannot be read: there is no schema to bind to."""
    return (
        isinstance(state, Snapshot)
        and not state.fault
        and bool(anchor.schema)
        and schema_digest(state.columns) != anchor.schema
    )
