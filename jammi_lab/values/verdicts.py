"""Verdicts and their reasons, and the answers of `verify`: closed sums that read as sentences."""

from collections.abc import Sequence
from typing import Any

from jammi_lab.markup import Form, answer
from jammi_lab.values.anchors import Anchor, Input
from jammi_lab.values.base import Value, short


class Answer(Value, frozen=True):
    """What is answered about a table; a notebook shows it as its sentence, with a sign."""

    def _form(self, name: str = "") -> Form:
        return answer(_SIGNS[type(self)], str(self), clauses_of(self), name)

    def _repr_html_(self) -> str:
        return self._form().html

    def _repr_pretty_(self, printer: Any, _cycle: bool) -> None:
        printer.text(self._form().text)


class DefinitionChanged(Value, frozen=True, tag="definition_changed", tag_field="kind"):
    """The recipe is not what the table was made by."""

    recorded: str | None
    """Definition hash of the table; None when no version is ready."""
    current: str | None
    """Definition hash of the recipe as it stands; None when the recipe is gone."""

    def __str__(self) -> str:
        if self.recorded is None:
            return "defined, never computed"
        return f"definition changed ({short(self.recorded)} → {short(self.current)})"


class InputAdvanced(Value, frozen=True, tag="input_advanced", tag_field="kind"):
    """An input is not in the state that was read."""

    input: Input
    """The input, with the columns read."""
    recorded: Anchor
    """Its state as read."""
    current: Anchor
    """Its state now."""

    def __str__(self) -> str:
        if self.current.note:
            return f"{self.input.label} changed and cannot be read: {self.current.note} ({self.current.method})"
        if self.recorded.types != self.current.types or self.recorded.columns != self.current.columns:
            return f"{self.input.label} changed its columns ({self.current.method})"
        before, after = self.recorded, self.current
        if before.version is not None and after.version is not None and before.version != after.version:
            return f"{self.input.label} changed, version {before.version} → {after.version} ({after.method})"
        if before.row_count is not None and after.row_count is not None and before.row_count != after.row_count:
            return f"{self.input.label} changed, {before.row_count:,} → {after.row_count:,} rows ({after.method})"
        return f"{self.input.label} changed ({after.method})"


class InputVanished(Value, frozen=True, tag="input_vanished", tag_field="kind"):
    """An input is not there any more."""

    input: Input
    """The input."""
    recorded: Anchor
    """Its state as read."""

    def __str__(self) -> str:
        return f"{self.input.label} is gone"


Reason = DefinitionChanged | InputAdvanced | InputVanished


class Damaged(Answer, frozen=True, tag="damaged", tag_field="kind"):
    """The table's bytes are not the ones that were published."""

    found: str | None
    """The digest found; None when the bytes are gone."""

    def __str__(self) -> str:
        return "damaged: its bytes are gone" if self.found is None else f"damaged: its bytes now have the digest {short(self.found)}"


class Cause(Value, frozen=True):
    """Why a table may be stale although its own inputs have not moved: something further up."""

    reason: Reason | Damaged
    """What is the matter there."""
    path: list[str]
    """The names from the direct parent to the table that has the reason."""

    def __str__(self) -> str:
        return f"{self.reason}, by way of {' ← '.join(self.path)}"


class Fresh(Answer, frozen=True, tag="fresh", tag_field="kind", omit_defaults=True, eq=False):
    """The output of the current definition over inputs that are as they were. One is like the other, whatever it rests on."""

    grounds: list[str] = []
    """What it rests on, where that is less than a comparison of everything that shapes the rows; clauses."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Fresh)

    def __hash__(self) -> int:
        return hash(Fresh)

    def __str__(self) -> str:
        return ", ".join(["fresh", *self.grounds])


class PossiblyStale(Answer, frozen=True, tag="possibly_stale", tag_field="kind"):
    """Its own inputs have not moved, but a table further up is stale and may come out different."""

    causes: list[Cause]
    """The root causes, each with the way there; of more than sixteen the nearest, at least one by each parent."""

    def __str__(self) -> str:
        return "possibly stale: " + "; ".join(map(str, self.causes))


class Stale(Answer, frozen=True, tag="stale", tag_field="kind"):
    """Not the output of its definition over its inputs as they are."""

    reasons: list[Reason]
    """Why: the definition first, then inputs by name."""

    def __str__(self) -> str:
        return "stale: " + "; ".join(map(str, self.reasons))


class Undecidable(Answer, frozen=True, tag="undecidable", tag_field="kind"):
    """The state of some input cannot be told."""

    unpinned: list[Anchor]
    """What cannot be decided, each with the way there."""
    decided_reasons: list[Reason] = []
    """What is certain all the same."""

    @property
    def known_stale(self) -> bool:
        """Whether it is stale for certain, whatever the undecidable inputs are."""
        return bool(self.decided_reasons)

    def __str__(self) -> str:
        doubts = "undecidable: " + "; ".join(str(a) + (f", by way of {' ← '.join(a.path)}" if a.path else "") for a in self.unpinned)
        return "; ".join([*map(str, self.decided_reasons), doubts])


class MissingManifest(Answer, frozen=True, tag="missing_manifest", tag_field="kind"):
    """Nothing attests what the table was made from."""

    def __str__(self) -> str:
        return "no manifest"


Verdict = Fresh | PossiblyStale | Stale | Undecidable | MissingManifest | Damaged


class Match(Answer, frozen=True, tag="match", tag_field="kind"):
    """Bytes, manifest and definition agree, and every input was pinned."""

    def __str__(self) -> str:
        return "match"


class Mismatch(Answer, frozen=True, tag="mismatch", tag_field="kind"):
    """Something is not as attested."""

    expected: str
    """The digest that was attested or asked for."""
    found: str
    """The digest that is there."""
    what: str = "bytes"
    """Which: bytes, definition or manifest."""

    def __str__(self) -> str:
        return f"mismatch of {self.what}: expected {short(self.expected)}, found {short(self.found)}"


class MatchWithUnpinnedInputs(Answer, frozen=True, tag="match_with_unpinned_inputs", tag_field="kind"):
    """All agrees, but some inputs could not be pinned when they were read."""

    unpinned: list[Anchor]
    """Those inputs."""

    def __str__(self) -> str:
        return "match, with unpinned inputs: " + "; ".join(map(str, self.unpinned))


class MissingBytes(Answer, frozen=True, tag="missing_bytes", tag_field="kind"):
    """The Parquet file is gone."""

    def __str__(self) -> str:
        return "its bytes are gone"


Verification = Match | Mismatch | MatchWithUnpinnedInputs | MissingManifest | MissingBytes

_WORDS: dict[type, str] = {
    Fresh: "fresh",
    PossiblyStale: "possibly stale",
    Stale: "stale",
    Undecidable: "undecidable",
    MissingManifest: "missing manifest",
    Damaged: "damaged",
}

_SIGNS: dict[type, str] = {**_WORDS, Match: "fresh", Mismatch: "damaged", MissingBytes: "damaged", MatchWithUnpinnedInputs: "undecidable"}


def word(verdict: Verdict) -> str:
    """The verdict in one or two words, as people see it."""
    return _WORDS[type(verdict)]


def code(verdict: Verdict) -> str:
    """The verdict as programs see it: fresh, possibly_stale, stale, undecidable, missing_manifest, damaged."""
    return word(verdict).replace(" ", "_")


def reasons_of(verdict: Verdict) -> Sequence[str]:
    """Each reason as a clause, for lists."""
    match verdict:
        case Stale(reasons):
            return [str(r) for r in reasons]
        case PossiblyStale(causes):
            return [str(c) for c in causes]
        case Undecidable(doubts, decided):
            return [str(r) for r in (*decided, *doubts)]
        case Damaged():
            return [str(verdict)]
        case _:
            return []


def clauses_of(value: Answer) -> Sequence[str]:
    """The reasons of a verdict, or the unpinned inputs of a match."""
    match value:
        case Stale() | PossiblyStale() | Undecidable():
            return reasons_of(value)
        case MatchWithUnpinnedInputs(doubts):
            return [str(a) for a in doubts]
        case _:
            return []
