"""Verdicts and their reasons, and the results of `verify`: closed unions with a readable
`str()`."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from jammi_lab.core.anchors import Anchor, Input, compares_content
from jammi_lab.core.attribute_suggestions import answer_guess
from jammi_lab.core.html import Rendered, verdict_sentence
from jammi_lab.core.value import DisplayedValue, Value, short_digest


class VerdictBase(DisplayedValue, frozen=True):
    """Base class of verdicts and verification results. A notebook shows the sentence with an
    icon, and it equals its word: `verdict == "fresh"`."""

    if not TYPE_CHECKING:  # else a type checker would accept every attribute
        __getattr__ = answer_guess

    def __eq__(self, other: object) -> bool:
        if isinstance(other, str):
            return other.replace(" ", "_") == self.__struct_config__.tag
        return super().__eq__(other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash(self.__struct_config__.tag)

    def __str__(self) -> str:
        # "undecidable: sales changed" reads on after "is"
        return f"{verdict_label(self)}: {'; '.join(clauses_of(self))}"

    def _rendered(self, name: str = "") -> Rendered:
        return verdict_sentence(_ICONS[type(self)], str(self), clauses_of(self), name)


class DefinitionChanged(Value, frozen=True, tag="definition_changed", tag_field="kind"):
    """The recipe differs from the definition that the table was built with."""

    recorded: str | None
    """Definition hash of the table; None when no version is ready."""
    current: str | None
    """Definition hash of the recipe now; None when the recipe no longer exists."""

    def __str__(self) -> str:
        if self.recorded is None:
            return "defined, not computed yet"
        return "definition changed"


class InputAdvanced(Value, frozen=True, tag="input_advanced", tag_field="kind", omit_defaults=True):
    """An input is no longer in the state that was read."""

    input: Input
    """The input, with the columns read."""
    recorded: Anchor
    """Its state when it was read."""
    current: Anchor
    """Its state now."""
    difference: str = ""
    """In which columns and rows the two differ, where that is known: `only price, 3 → 4 rows`."""

    @property
    def change(self) -> str:
        """What is different, as far as that is known: version, columns and rows, types of columns;
        empty when only the content is known to differ."""
        recorded, current = self.recorded, self.current
        if current.note:
            return f"cannot be read: {current.note}"
        if columns := self._column_change():
            return columns
        parts = []
        if None not in (recorded.version, current.version) and recorded.version != current.version:
            parts.append(f"version {recorded.version} → {current.version}")
        if self.difference:
            parts.append(self.difference)
        elif None not in (recorded.row_count, current.row_count) and (
            recorded.row_count != current.row_count
        ):
            parts.append(f"{recorded.row_count:,} → {current.row_count:,} rows")
        return ", ".join(parts)

    def _column_change(self) -> str:
        """The columns read that are gone or whose types differ, with both types."""
        recorded, current = self.recorded, self.current
        if (
            recorded.types == current.types
            and recorded.columns == current.columns
            and recorded.same_server_types(current)
        ):
            return ""
        types = dict(zip(current.columns, current.types, strict=False))
        moved = []
        for name, before in zip(recorded.columns, recorded.types, strict=False):
            if types and name not in types:
                moved.append(f"{name} is gone")
            elif types.get(name, before) != before:
                moved.append(f"{name}: {before} → {types[name]}")
        return ", ".join(["columns", *moved])

    @property
    def sentence(self) -> str:
        """What changed, in full."""
        joint = " and " if self.current.note else " its " if self._column_change() else ", "
        return f"{self.input.label} changed{joint if self.change else ''}{self.change}"

    def __str__(self) -> str:
        method = "" if compares_content(self.current.method) else f" ({self.current.method})"
        if self.current.note or not self.change:
            return f"{self.sentence}{method}"
        shown = (not self._column_change() and self.difference) or self.change.split(", ")[0]
        return f"{self.sentence.removesuffix(self.change)}{shown}{method}"


MOVED = "ws.relocate(old, new) points to the new place of a file that moved"
"""What helps where a file of a source is gone."""


class InputVanished(Value, frozen=True, tag="input_vanished", tag_field="kind"):
    """An input no longer exists."""

    input: Input
    """The input."""
    recorded: Anchor
    """Its state when it was read."""

    def __str__(self) -> str:
        return f"{self.input.label} is gone"


Reason = DefinitionChanged | InputAdvanced | InputVanished


class Damaged(VerdictBase, frozen=True, tag="damaged", tag_field="kind", omit_defaults=True):
    """The bytes of the table, or of its manifest, differ from those that were published."""

    found: str | None
    """The actual digest; None when the file is missing."""
    what: str = "bytes"
    """What differs: bytes or manifest."""

    def __str__(self) -> str:
        if self.found is None:
            return "damaged: its bytes are gone"
        if self.what == "manifest":
            return "damaged: its manifest was edited"
        return f"damaged: its bytes now have the digest {short_digest(self.found)}"


class Cause(Value, frozen=True):
    """Why a table may be stale although its own inputs are unchanged: an upstream table is not
    fresh."""

    reason: Reason | Damaged
    """What is wrong with that table."""
    path: list[str]
    """The names from the direct parent to the table with the reason."""

    def __str__(self) -> str:
        return with_path(self.reason, self.path)


class Fresh(VerdictBase, frozen=True, tag="fresh", tag_field="kind", omit_defaults=True):
    """The output of the current definition over unchanged inputs. All Fresh values are equal,
    whatever their grounds."""

    grounds: list[str] = []
    """What the verdict relies on, where that is less than a comparison of everything that shapes
    the rows. Each is a clause; the last one is the nearest ground of an upstream table, with the
    path to it."""
    notes: list[str] = []
    """What else is worth knowing, such as rows that were compared because the bytes differ. Each is
    a clause; the verdict does not rely on it."""

    def __eq__(self, other: object) -> bool:
        return super().__eq__(other) if isinstance(other, str) else isinstance(other, Fresh)

    __hash__ = VerdictBase.__hash__

    def __str__(self) -> str:
        return ", ".join([marked_label(self), *self.grounds, *self.notes])


class PossiblyStale(VerdictBase, frozen=True, tag="possibly_stale", tag_field="kind"):
    """Its direct inputs are unchanged, but an upstream table is stale and may come out
    different."""

    causes: list[Cause]
    """The root causes, each with the path to it. When there are more than sixteen, the nearest
    ones, with at least one through each parent."""


class Stale(VerdictBase, frozen=True, tag="stale", tag_field="kind"):
    """The table is not the output of its definition over the current inputs."""

    reasons: list[Reason]
    """The reasons: the definition first, then inputs by name."""


class Undecidable(VerdictBase, frozen=True, tag="undecidable", tag_field="kind"):
    """The state of some input cannot be determined."""

    unpinned: list[Anchor]
    """The inputs that cannot be decided, each with the path to it."""
    decided_reasons: list[Reason] = []
    """The reasons that are certain nevertheless."""
    causes: list[Cause] = []
    """What is known to have changed upstream, as of a table that may be stale."""

    @property
    def known_stale(self) -> bool:
        """Whether it is certainly stale, whatever the state of the undecidable inputs."""
        return bool(self.decided_reasons)


class MissingManifest(VerdictBase, frozen=True, tag="missing_manifest", tag_field="kind"):
    """No manifest records what the table was built from."""

    def __str__(self) -> str:
        return "no manifest"


Verdict = Fresh | PossiblyStale | Stale | Undecidable | MissingManifest | Damaged


ROUNDING_RATIO = 1e-12
"""The relative difference up to which two floating-point numbers are equal but for rounding."""
BUT_FOR_ROUNDING = "equal but for rounding (≤ 1e-12 relative)"


class Match(VerdictBase, frozen=True, tag="match", tag_field="kind"):
    """Bytes, manifest and definition agree, and every input was pinned."""

    rounding: bool = False
    """Whether floating-point numbers that were computed again have other last bits."""

    def __str__(self) -> str:
        return f"match, {BUT_FOR_ROUNDING}" if self.rounding else "match"


class Mismatch(VerdictBase, frozen=True, tag="mismatch", tag_field="kind"):
    """Bytes, definition or manifest differ from what was attested."""

    expected: str
    """The attested or requested digest."""
    found: str
    """The actual digest."""
    what: str = "bytes"
    """What differs: bytes, definition, manifest, or recomputation: a full computation gives other
    bytes."""

    def __str__(self) -> str:
        return (
            f"mismatch of {self.what}: expected {short_digest(self.expected)}, found "
            f"{short_digest(self.found)}"
        )


class MatchWithUnpinnedInputs(
    VerdictBase, frozen=True, tag="match_with_unpinned_inputs", tag_field="kind"
):
    """Everything agrees, but some inputs could not be pinned when they were read."""

    unpinned: list[Anchor]
    """Those inputs."""

    def __str__(self) -> str:
        return "match, with unpinned inputs: " + "; ".join(map(str, self.unpinned))


class MissingBytes(VerdictBase, frozen=True, tag="missing_bytes", tag_field="kind"):
    """The Parquet file is missing."""

    def __str__(self) -> str:
        return "its bytes are gone"


Verification = Match | Mismatch | MatchWithUnpinnedInputs | MissingManifest | MissingBytes | Damaged

_LABELS: dict[type, str] = {
    Fresh: "fresh",
    PossiblyStale: "possibly stale",
    Stale: "stale",
    Undecidable: "undecidable",
    MissingManifest: "missing manifest",
    Damaged: "damaged",
}

_ICONS: dict[type, str] = {
    **_LABELS,
    Match: "fresh",
    Mismatch: "damaged",
    MissingBytes: "damaged",
    MatchWithUnpinnedInputs: "undecidable",
}


def not_fresh_sentence(verdicts: Mapping[str, Verdict]) -> str:
    """What is not fresh among named tables, as one sentence; empty when all are fresh."""
    not_fresh = []
    for name, verdict in verdicts.items():
        if not isinstance(verdict, Fresh):
            not_fresh.append(f"{name} is {verdict}")
    return "; ".join(not_fresh) + "." if not_fresh else ""


def verdicts_sentence(verdicts: Mapping[str, Verdict]) -> str:
    """The verdicts on named tables as one sentence: what is not fresh, else the marked label."""
    all_fresh = "fresh*" if any(map(grounds_of, verdicts.values())) else "fresh"
    return not_fresh_sentence(verdicts) or all_fresh


def verdict_label(verdict: VerdictBase) -> str:
    """The verdict as displayed, in one or two words."""
    return _LABELS[type(verdict)]


def verdict_code(verdict: Verdict) -> str:
    """The verdict as an identifier for programs: fresh, possibly_stale, stale, undecidable,
    missing_manifest, damaged."""
    return verdict_label(verdict).replace(" ", "_")


def with_path(clause: object, path: Sequence[str]) -> str:
    """A clause about the last table of a path of names, with that path; the clause alone when the
    path is empty."""
    return f"{clause}, by way of {' ← '.join(path)}" if path else str(clause)


def causes_of(verdict: Verdict) -> Sequence[Cause]:
    """What is known to be wrong. What is wrong with the table itself has no path."""
    match verdict:
        case Stale(reasons):
            return [Cause(reason, []) for reason in reasons]
        case PossiblyStale(causes):
            return causes
        case Undecidable(_, reasons, causes):
            return [*causes_of(Stale(reasons)), *causes]
        case Damaged():
            return [Cause(verdict, [])]
    return []


def reasons_of(verdict: Verdict) -> Sequence[str]:
    """Each reason of a verdict as one clause."""
    doubts = verdict.unpinned if isinstance(verdict, Undecidable) else []
    return [*map(str, causes_of(verdict)), *(with_path(doubt, doubt.path) for doubt in doubts)]


def grounds_of(verdict: Verdict) -> Sequence[str]:
    """What a fresh verdict relies on, as clauses; empty for any other verdict."""
    return verdict.grounds if isinstance(verdict, Fresh) else []


def remarks_on(verdict: Verdict) -> Sequence[str]:
    """What a verdict says beyond its word, as clauses: reasons, or grounds and notes."""
    if isinstance(verdict, Fresh):
        return [*verdict.grounds, *verdict.notes]
    return reasons_of(verdict)


def marked_label(verdict: Verdict) -> str:
    """The verdict's label, with an asterisk if it relies on grounds."""
    return verdict_label(verdict) + ("*" if grounds_of(verdict) else "")


def count_by_label(verdicts: Iterable[Verdict]) -> dict[str, int]:
    """How many verdicts there are by marked label, the most severe first."""
    labels = [*map(marked_label, verdicts)]
    return {word: labels.count(word) for word in LABELS_BY_SEVERITY if word in labels}


LABELS_BY_SEVERITY = (
    "damaged",
    "stale",
    "possibly stale",
    "undecidable",
    "missing manifest",
    "fresh*",
    "fresh",
)


def clauses_of(value: VerdictBase) -> Sequence[str]:
    """The reasons of a verdict, or the unpinned inputs of a match, as clauses."""
    match value:
        case Stale() | PossiblyStale() | Undecidable():
            return reasons_of(value)
        case MatchWithUnpinnedInputs(unpinned):
            return [*map(str, unpinned)]
    return []
