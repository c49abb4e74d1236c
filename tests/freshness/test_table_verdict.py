"""The evaluator: recorded × observed → verdict, with no I/O."""

import ast
import copy
import dataclasses
import importlib
import itertools
import json
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from jammi_lab.core.anchors import (
    Anchor,
    AnchorKind,
    Cost,
    Input,
    Unknown,
    Vanished,
    source_input,
    unpinned_anchor,
)
from jammi_lab.core.verdicts import (
    Cause,
    Damaged,
    DefinitionChanged,
    Fresh,
    InputAdvanced,
    InputVanished,
    MissingManifest,
    PossiblyStale,
    Stale,
    Undecidable,
    Verdict,
    verdict_code,
)
from jammi_lab.freshness.table_verdict import MAX_CAUSES, Evidence, State, evaluate_table

NOW = "2026-11-20T09:00:00.000000Z"


def source(name: str) -> Input:
    return source_input(name)


def anchor(
    name: str,
    value: str = "one",
    method: str = "digest",
    kind: AnchorKind = AnchorKind.SOURCE_VERSION,
) -> Anchor:
    return Anchor(input=source(name), kind=kind, value=value, method=method)


def facts(*anchors: Anchor, now: dict[str, State] | None = None, **changes: object) -> Evidence:
    """A table whose definition and inputs are as recorded, but for what is given."""
    seen: dict[tuple[str, str, str], State] = {a.input.identity: a for a in anchors}
    seen |= {source(name).identity: state for name, state in (now or {}).items()}
    return Evidence(
        **{
            "recorded": "d1",
            "current": "d1",
            "anchors": anchors,
            "current_states": seen,
            "observed_at": NOW,
            **changes,
        }
    )  # type: ignore[arg-type]


def test_anchors_compare_without_the_version_for_people_and_the_cost_of_the_look():
    one = Anchor(
        input=source("a"),
        kind=AnchorKind.RESULT_DIGEST,
        value="one",
        method="digest",
        version=1,
        cost=Cost.SCAN,
    )
    assert (
        one == replace(one, version=2, cost=Cost.FREE)
        and one != replace(one, value="two")
        and one != replace(one, types=("INTEGER",))
        and one != 5
    )
    assert Stale([InputAdvanced(source("a"), one, one)]) == Stale(
        [InputAdvanced(source("a"), one, replace(one, cost=Cost.FREE))]
    )
    with pytest.raises(TypeError):
        hash(one)


@pytest.mark.parametrize(
    "current",
    [
        anchor("a", "two"),
        anchor("a", method="other digest"),
        anchor("a", kind=AnchorKind.RESULT_DIGEST),
    ],
)
def test_an_input_of_another_value_method_or_kind_has_advanced(current):
    reason = InputAdvanced(current.input, anchor("a"), current)
    assert evaluate_table(facts(anchor("a"), now={"a": current})) == Stale([reason])


# -- a table on its own ----------------------------------------------------------------------------


def test_fresh_verdicts_are_equal_and_never_unequal():
    for one, other in itertools.product((Fresh(), Fresh(["a word"])), repeat=2):
        assert one == other
        assert not one != other  # noqa: SIM202
    assert Fresh() != DOUBT


# -- what is inherited -----------------------------------------------------------------------------

ADVANCED = InputAdvanced(source("s"), anchor("s"), anchor("s", "two"))
STALE = Stale([ADVANCED])
DOUBT = Undecidable([unpinned_anchor(source("s"), NOW, "down")], [ADVANCED])


def test_the_way_grows_from_the_direct_parent_to_the_table_with_the_reason():
    child = evaluate_table(facts(), [("p", STALE)])
    grandchild = evaluate_table(facts(), [("c", child)])
    assert grandchild == PossiblyStale([Cause(ADVANCED, ["c", "p"])])
    assert str(grandchild) == "possibly stale: s changed, by way of c ← p"


BOTH = [DefinitionChanged("x", "y"), ADVANCED]


@pytest.mark.parametrize(
    ("parent", "expected"),
    [
        (Fresh(), Fresh()),
        (STALE, PossiblyStale([Cause(ADVANCED, ["p"])])),
        (Stale(BOTH), PossiblyStale([Cause(reason, ["p"]) for reason in BOTH])),
        (Damaged("ff"), PossiblyStale([Cause(Damaged("ff"), ["p"])])),
    ],
)
def test_a_parent_gives_its_reasons_as_causes(parent, expected):
    assert evaluate_table(facts(), [("p", parent)]) == expected


@pytest.mark.parametrize("parent", [STALE, DOUBT], ids=["root", "doubt"])
def test_a_diamond_names_its_root_or_doubt_once_by_the_shortest_way(parent):
    near = evaluate_table(facts(), [("r", parent)])
    far = evaluate_table(facts(), [("x", near)])
    for order in itertools.permutations([("left", far), ("right", near)]):
        verdict = evaluate_table(facts(), order)
        assert isinstance(verdict, PossiblyStale if parent is STALE else Undecidable)
        told = verdict.causes if parent is STALE else verdict.unpinned
        assert [each.path for each in told] == [["right", "r"]]


def test_own_doubts_and_inherited_ones_are_told_together():
    verdict = evaluate_table(facts(anchor("a"), now={"a": Unknown("down")}), [("p", DOUBT)])
    assert isinstance(verdict, Undecidable)
    assert [(a.input.name, a.path) for a in verdict.unpinned] == [("a", []), ("s", ["p"])]


def test_a_parent_without_manifest_makes_it_undecidable():
    verdict = evaluate_table(facts(), [("p", MissingManifest())])
    assert isinstance(verdict, Undecidable)
    assert verdict.unpinned[0].path == ["p"]
    assert "no manifest" in verdict.unpinned[0].note


# -- for every combination -------------------------------------------------------------------------

names = st.sampled_from("abcd")
states = st.sampled_from(["same", "moved", "gone", "unknown", "unseen", "loose"])
verdicts = st.sampled_from([Fresh(), STALE, PossiblyStale([Cause(ADVANCED, ["q"])]), DOUBT, Undecidable([unpinned_anchor(source("t"), NOW, "down")]),
                            MissingManifest(), Damaged(None), Damaged("ff")])  # fmt: skip


Situation = tuple[Evidence, dict[str, str], list[tuple[str, Verdict]]]
"""Facts, what happened to each input, and parents."""


@st.composite
def situations(draw: st.DrawFn) -> Situation:
    inputs = draw(st.dictionaries(names, states, max_size=4))
    anchors, now = [], {}
    for name, state in inputs.items():
        recorded = unpinned_anchor(source(name), NOW, "loose") if state == "loose" else anchor(name)
        anchors.append(recorded)
        seen: dict[str, State] = {
            "same": anchor(name),
            "moved": anchor(name, "two"),
            "gone": Vanished(),
            "unknown": Unknown("down"),
            "loose": anchor(name),
        }
        if state in seen:
            now[recorded.input.identity] = seen[state]
    ready = draw(st.booleans()) or draw(st.booleans())
    built = Evidence(
        recorded=draw(st.sampled_from(["d1", "d1", "d1", None])),
        current=draw(st.sampled_from(["d1", "d1", "d2", None, Unknown("not here")])),
        anchors=tuple(anchors),
        current_states=now,
        damage=draw(st.sampled_from([None, None, None, Damaged("ff"), Unknown("unreadable")])),
        observed_at=NOW,
        ready=ready,
    )
    return (
        built,
        inputs,
        draw(
            st.lists(
                st.tuples(st.sampled_from(["p", "q", "r"]), verdicts),
                max_size=3,
                unique_by=lambda p: p[0],
            )
        ),
    )


def own_doubts(what: Evidence, inputs: dict[str, str]) -> bool:
    return (
        isinstance(what.current, Unknown)
        or isinstance(what.damage, Unknown)
        or bool({"unknown", "unseen", "loose"} & set(inputs.values()))
    )


@given(situations())
def test_the_verdict_follows_the_order_of_precedence(
    situation,
):
    what, inputs, parents = situation
    if not what.ready:
        expected = "stale"
    elif what.recorded is None:
        expected = "missing_manifest"
    elif isinstance(what.damage, Damaged):
        expected = "damaged"
    elif own_doubts(what, inputs) or any(
        isinstance(v, Undecidable | MissingManifest) for _, v in parents
    ):
        expected = "undecidable"
    elif what.current != what.recorded or {"moved", "gone"} & set(inputs.values()):
        expected = "stale"
    elif any(isinstance(v, Stale | PossiblyStale | Damaged) for _, v in parents):
        expected = "possibly_stale"
    else:
        expected = "fresh"
    assert verdict_code(evaluate_table(what, parents)) == expected


@given(situations())
def test_reasons_are_exactly_what_moved_in_order(
    situation,
):
    what, inputs, parents = situation
    verdict = evaluate_table(what, parents)
    if not what.ready or not isinstance(verdict, Stale | Undecidable):
        return
    reasons = verdict.reasons if isinstance(verdict, Stale) else verdict.decided_reasons
    definition = (
        [("DefinitionChanged", "")]
        if not isinstance(what.current, Unknown) and what.current != what.recorded
        else []
    )
    moved = [
        ("InputAdvanced" if inputs[n] == "moved" else "InputVanished", n)
        for n in sorted(inputs)
        if inputs[n] in ("moved", "gone")
    ]
    assert [
        (type(r).__name__, "" if isinstance(r, DefinitionChanged) else r.input.name)
        for r in reasons
    ] == definition + moved


@given(situations(), st.randoms())
def test_the_order_in_which_things_are_told_does_not_matter(situation, random):
    what, _, parents = situation
    anchors = list(what.anchors)
    random.shuffle(anchors)  # type: ignore[attr-defined]
    shuffled = dataclasses.replace(what, anchors=tuple(anchors))
    assert evaluate_table(shuffled, parents) == evaluate_table(what, parents)


@given(situations())
def test_every_verdict_reads_as_a_sentence_and_comes_back_from_its_dict(
    situation,
):
    verdict = evaluate_table(situation[0], situation[2])
    assert str(verdict)
    assert verdict.to_dict()["kind"] == verdict_code(verdict)
    assert json.loads(json.dumps(verdict.to_dict())) == verdict.to_dict()
    assert msgspec.convert(verdict.to_dict(), Verdict) == verdict


# -- nothing but its arguments ---------------------------------------------------------------------

PURE = {
    "jammi_lab.freshness.table_verdict",
    "jammi_lab.core.verdicts",
    "jammi_lab.core.anchors",
    "jammi_lab.core.input_kinds",
    "jammi_lab.core.value",
}
KNOWS = {
    "collections.abc",
    "functools",
    "dataclasses",
    "typing",
    "enum",
    "re",
    "msgspec",
    "msgspec.structs",
    "jammi_lab.core.html",
    "jammi_lab.core.attribute_suggestions",
    "jammi_lab.core.canonical_json",
    "jammi_lab.core.errors",
}


@pytest.mark.parametrize("module", sorted(PURE))
def test_the_evaluator_and_its_values_can_reach_nothing(module):
    tree = ast.parse(
        Path(importlib.import_module(module).__file__ or "").read_text(encoding="utf-8")
    )
    named = {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
    named |= {n.module or "" for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
    assert not named - KNOWS - PURE
    assert not {n.id for n in ast.walk(tree) if isinstance(n, ast.Name)} & {
        "open",
        "exec",
        "eval",
        "__import__",
        "globals",
        "print",
    }


@given(situations())
def test_the_evaluator_changes_nothing_and_says_the_same_again(
    situation,
):
    before = copy.deepcopy((situation[0], situation[2]))
    first = evaluate_table(situation[0], situation[2])
    assert (
        evaluate_table(situation[0], situation[2])
        == first
        == evaluate_table(*copy.deepcopy(before))
    )
    assert (situation[0], situation[2]) == before


# -- very many roots -------------------------------------------------------------------------------


def many_ways(parent: str, roots: int, length: int) -> tuple[str, Verdict]:
    """A parent with that many root causes, each that far up."""
    reason = [InputVanished(source(f"{parent}{i}"), anchor(f"{parent}{i}")) for i in range(roots)]
    return parent, PossiblyStale(
        [
            Cause(r, [*(f"{parent}way{n}" for n in range(length - 1)), f"{parent}root{i}"])
            for i, r in enumerate(reason)
        ]
    )


def test_up_to_the_bound_every_root_is_named_then_the_nearest_and_at_least_one_by_each_parent():
    half = MAX_CAUSES // 2
    for near, far, kept in ((half, half, half), (40, 40, 1)):
        parents = [many_ways("near", near, 1), many_ways("far", far, 5)]
        verdict = evaluate_table(facts(anchor("a")), parents)
        assert isinstance(verdict, PossiblyStale)
        ways = [cause.path[0] for cause in verdict.causes]
        assert (len(ways), ways.count("far")) == (MAX_CAUSES, kept)


def test_every_parent_keeps_a_cause_even_when_there_are_more_parents_than_the_bound():
    verdict = evaluate_table(
        facts(anchor("a")), [many_ways(f"p{n}", 2, 1) for n in range(3 * MAX_CAUSES)]
    )
    assert isinstance(verdict, PossiblyStale)
    assert {cause.path[0] for cause in verdict.causes} == {f"p{n}" for n in range(3 * MAX_CAUSES)}
