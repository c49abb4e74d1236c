"""The evaluator: recorded × observed → verdict. Pure; nothing here looks at anything."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import msgspec

from jammi_lab.values.anchors import Anchor, Input, InputKind, Unknown, Vanished, unpinned
from jammi_lab.values.verdicts import (
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
)

_HERE = Input(kind=InputKind.RESULT, name="this table")
MOST_CAUSES = 16
"""Root causes that one verdict names."""
State = Anchor | Vanished | Unknown
"""An input as it is now: its anchor over the columns that the statement reads today, or why there is none."""


@dataclass(frozen=True)
class Facts:
    """What is recorded of one table, and what a look saw of it."""

    recorded: str | None
    """Definition hash in the table's row; None for a table from before manifests."""
    current: str | Unknown | None
    """Definition hash of its recipe today; None when the recipe is gone."""
    anchors: tuple[Anchor, ...] = ()
    """Its recorded anchors."""
    now: Mapping[tuple[str, str, str], State] = field(default_factory=dict)
    """Its inputs as they are now, by identity."""
    damage: Damaged | Unknown | None = None
    """What is wrong with its bytes."""
    instant: str = ""
    """When the look began."""
    ready: bool = True
    """False for a recipe without any ready version."""
    grounds: tuple[str, ...] = ()
    """What a verdict of fresh rests on, where that is less than a comparison of everything."""


def judge(facts: Facts, parents: Iterable[tuple[str, Verdict]] = ()) -> Verdict:
    """The verdict on one table, given the verdicts on the result tables that it reads by recipe name.

    Precedence: MissingManifest, Damaged, Undecidable, Stale, PossiblyStale, Fresh; reasons are ordered, the definition first, then inputs by name.
    """
    if not facts.ready:
        return Stale([DefinitionChanged(recorded=None, current=facts.current if isinstance(facts.current, str) else None)])
    if facts.recorded is None:
        return MissingManifest()
    if isinstance(facts.damage, Damaged):
        return facts.damage
    reasons, doubts = _own(facts)
    causes, inherited = _inherited(parents, facts.instant)
    doubts += inherited
    if doubts:
        return Undecidable(doubts, reasons)
    if reasons:
        return Stale(reasons)
    return PossiblyStale(causes) if causes else Fresh([*facts.grounds])


def _own(facts: Facts) -> tuple[list[Reason], list[Anchor]]:
    """Reasons and doubts that lie in the table itself: its definition, its bytes, its direct inputs."""
    reasons: list[Reason] = []
    doubts: list[Anchor] = []
    if isinstance(facts.current, Unknown):
        doubts.append(unpinned(_HERE, facts.instant, facts.current.why))
    elif facts.current != facts.recorded:
        reasons.append(DefinitionChanged(recorded=facts.recorded, current=facts.current))
    if isinstance(facts.damage, Unknown):
        doubts.append(unpinned(_HERE, facts.instant, f"its files cannot be read: {facts.damage.why}"))
    now = facts.now
    moved = [a for a in facts.anchors if not (isinstance(state := now.get(a.input.identity), Anchor) and a.same_state(state))]
    for anchor in sorted(moved, key=lambda a: (a.input.label, a.input.kind)) if moved else ():
        if not anchor.pinned:
            doubts.append(anchor)
            continue
        match now.get(anchor.input.identity, Unknown(why="it was not observed")):
            case Anchor() as current:
                reasons.append(InputAdvanced(anchor.input, anchor, current))
            case Vanished():
                reasons.append(InputVanished(anchor.input, anchor))
            case Unknown(why):
                doubts.append(unpinned(anchor.input, facts.instant, why))
    return reasons, doubts


def _inherited(parents: Iterable[tuple[str, Verdict]], instant: str) -> tuple[list[Cause], list[Anchor]]:
    """Causes and doubts that lie further up. Of several ways to one root the shortest is kept, so that diamonds do not multiply."""
    ways: dict[tuple[str, int], _Way] = {}
    doubts: dict[tuple[str, ...], Anchor] = {}
    for name, verdict in parents:
        if type(verdict) is Fresh:
            continue
        match verdict:
            case PossiblyStale(further):
                for cause in further:  # one reason is one object, however many ways lead to it
                    rest = cause.path
                    at = (rest[-1], id(cause.reason))
                    if at not in ways or len(rest) < ways[at][0]:
                        ways[at] = (len(rest), name, rest, cause.reason)
            case Stale(reasons) | Undecidable(_, reasons):
                ways.update({(name, id(reason)): (0, name, [], reason) for reason in reasons})
            case Damaged():
                ways[name, id(verdict)] = (0, name, [], verdict)
        for doubt in _doubts(name, verdict, instant):
            where = (doubt.path[-1], *doubt.input.identity)
            doubts[where] = min(doubts.get(where, doubt), doubt, key=lambda a: len(a.path))
    kept = ways.values() if len(ways) <= MOST_CAUSES else _nearest(list(ways.values()))
    return [Cause(reason, [first, *rest]) for _, first, rest, reason in kept], list(doubts.values())


_Way = tuple[int, str, list[str], Reason | Damaged]
"""How a root is reached: steps beyond the parent, the parent, the way on from there, and the reason at its end."""


def _nearest(ways: list[_Way]) -> list[_Way]:
    """Of very many roots the nearest, at least one by each parent; in the order given. Else a large graph would cost its square."""
    order = sorted(range(len(ways)), key=lambda i: ways[i][0])
    kept = set({ways[i][1]: i for i in reversed(order)}.values())
    for i in order:
        if len(kept) >= MOST_CAUSES:
            break
        kept.add(i)
    return [ways[i] for i in sorted(kept)]


def _doubts(name: str, verdict: Verdict, instant: str) -> list[Anchor]:
    """What cannot be told of a parent, with the way there."""
    match verdict:
        case Undecidable(unknown, _):
            return [msgspec.structs.replace(anchor, path=[name, *anchor.path]) for anchor in unknown]
        case MissingManifest():
            lost = unpinned(Input(kind=InputKind.RESULT, name=name), instant, f"{name} has no manifest")
            return [msgspec.structs.replace(lost, path=[name])]
        case _:
            return []
