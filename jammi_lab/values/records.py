"""Rows of the catalog and reports, as values."""

import enum
from collections.abc import Mapping
from typing import Any

import msgspec

from jammi_lab.markup import Form, bullets, count, details, heading, plain, stack
from jammi_lab.values.anchors import Anchor
from jammi_lab.values.base import Value
from jammi_lab.values.manifest import Column
from jammi_lab.values.verdicts import Reason


class TableKind(enum.StrEnum):
    """What made a result table."""

    SQL = "sql"
    PYTHON = "python"
    EMBEDDING = "embedding"
    IMPORTED = "imported"
    NEIGHBOR_GRAPH = "neighbor_graph"
    GRAPH_PROPAGATION = "graph_propagation"
    CONTEXT_SET = "context_set"
    ASOF_JOIN = "asof_join"
    EXTERNAL = "external"
    PROJECTION = "projection"


class TableStatus(enum.StrEnum):
    """Where a result table is in its life."""

    BUILDING = "building"
    READY = "ready"
    FAILED = "failed"
    DELETING = "deleting"


class SourceRecord(Value, frozen=True, kw_only=True):
    """A registered source, without credentials."""

    name: str
    kind: str
    location: str
    tenant: str | None = None
    options: dict[str, Any] = {}
    anchor: str = "auto"
    tenant_column: str | None = None
    secret: str | None = None
    created_at: str = ""


class RecipeRecord(Value, frozen=True, kw_only=True):
    """A logical name and its current definition."""

    name: str
    kind: TableKind
    descriptor: dict[str, Any]
    environment: dict[str, Any]
    definition_hash: str
    tenant: str | None = None
    inputs: list[tuple[str, str, str]] = []
    """`Input.identity` of what the definition reads."""
    created_at: str = ""
    updated_at: str = ""


def statement_of(recipe: RecipeRecord) -> str:
    """What a recipe says, for people: its statement, the source of its function, who makes its rows, or its producer with all that it was told."""
    descriptor = recipe.descriptor
    if any(isinstance(v, dict) and "asked" in v for v in descriptor.values()):
        return _as_call(descriptor)
    return str(descriptor.get("statement") or descriptor.get("producer_id") or descriptor.get("source") or descriptor.get("function") or "")


def _as_call(descriptor: dict[str, Any]) -> str:
    """`context_set(vectors=v, members=m, pool=mean)`: inputs as they were written, and what was said beside them."""
    told = {k: v["asked"] if isinstance(v, dict) and "asked" in v else v for k, v in descriptor.items() if k != "producer" and v is not None}
    return f"{descriptor['producer']}({', '.join(f'{k}={v}' for k, v in told.items())})"


class TableRecord(Value, frozen=True, kw_only=True):
    """A result table as the catalog knows it."""

    table_name: str
    kind: TableKind
    status: TableStatus
    recipe: str
    """The recipe it was first made for."""
    version: int
    """The version it was first made as."""
    tenant: str | None = None
    writer_id: str = ""
    definition_hash: str | None = None
    path: str = ""
    """Parquet file, relative to the workspace, with `/`."""
    source_id: str | None = None
    model_id: str | None = None
    derived_from: str | None = None
    key: list[str] = []
    dimensions: int | None = None
    row_count: int | None = None
    bytes: int | None = None
    created_at: str = ""
    completed_at: str | None = None
    seconds: float | None = None
    columns: list[Column] = []
    anchors: list[Anchor] = []
    digest: str | None = None
    """SHA-256 of the Parquet file."""
    manifest_digest: str | None = None
    """SHA-256 of the manifest file's bytes."""
    order_sensitive: bool = False
    flight: bool = True
    """Whether others may wait for it while it is building."""
    error: str | None = None
    """Why it failed."""


class VersionRecord(Value, frozen=True, kw_only=True):
    """What a version of a recipe refers to. This alone says what a name means."""

    recipe: str
    version: int
    table_name: str
    tenant: str | None = None
    created_at: str = ""
    pinned: bool = False
    note: str | None = None


class Edge(Value, frozen=True):
    """One edge of the lineage: `derived` was anchored on `input`."""

    input: str
    derived: str
    kind: str


_RECOVERED = {
    "promoted": "finished by a writer that is gone, now ready",
    "failed": "begun and never finished, marked failed",
    "healed": "whose manifest was written again from the catalog, or index made again from the vectors",
    "quarantined": "whose bytes no manifest vouches for, put aside",
    "reaped": "half removed, now gone",
    "spared": "that a living writer is still building",
    "missing": "whose bytes are gone",
}


_FEW = 5


def _named(what: str, names: list[str]) -> Form:
    """A finding with its tables; many of them behind a click."""
    if len(names) <= _FEW:
        return plain(f"{what}: {', '.join(names)}")
    return details(plain(f"{what}: {', '.join(names[:_FEW])}, and {len(names) - _FEW:,} more"), bullets(names))


class RecoveryReport(Value, frozen=True):
    """What a recovery did; physical table names. Falsy when there was nothing to do."""

    promoted: list[str] = []
    failed: list[str] = []
    healed: list[str] = []
    quarantined: list[str] = []
    reaped: list[str] = []
    spared: list[str] = []
    missing: list[str] = []
    errors: list[str] = []
    """What could not be settled, and why."""
    recipes: dict[str, str] = {}
    """The recipe of each table that is named above; what is shown names these."""

    def __bool__(self) -> bool:
        return any((self.promoted, self.failed, self.healed, self.quarantined, self.reaped, self.missing, self.errors))

    def _form(self) -> Form:
        found = [(getattr(self, field), told) for field, told in _RECOVERED.items()]
        said = [([self.recipes.get(n, n) for n in names], told) for names, told in found if names]  # physical names differ from run to run
        lines = [_named(f"{count(len(names), 'table')} {told}", names) for names, told in said]
        lines += [plain(f"could not be settled: {e}") for e in self.errors]
        return stack(heading("Recovery"), bullets(lines)) if lines else plain("recovery: nothing to do")

    def _repr_html_(self) -> str:
        return self._form().html

    def _repr_pretty_(self, printer: Any, _cycle: bool) -> None:
        printer.text(self._form().text)

    def __str__(self) -> str:
        parts = [f"{len(names)} {field}" for field, names in self.to_dict().items() if names and field != "recipes"]
        return "recovery: " + (", ".join(parts) if parts else "nothing to do")


class Reuse(Value, frozen=True):
    """How many rows a producer took over from an earlier version, by key."""

    new: int
    """Keys that were not there before."""
    changed: int
    """Keys that were there with another text."""
    removed: int
    """Keys that are gone."""
    unchanged: int
    """Keys whose vector was taken over."""
    encoded_before: int = 0
    """New and changed texts that were not encoded again, because a run that did not come to its end had kept them."""

    def __str__(self) -> str:
        counted = f"{self.new:,} new, {self.changed:,} changed, {self.removed:,} removed, {self.unchanged:,} unchanged"
        return counted + (f"; {count(self.encoded_before, 'text')} encoded before" if self.encoded_before else "")

    @property
    def counts(self) -> dict[str, int]:
        """As a manifest keeps it."""
        return msgspec.structs.asdict(self)

    @classmethod
    def told(cls, counts: Mapping[str, int]) -> "Reuse | None":
        """What a manifest kept; None when it kept nothing."""
        return msgspec.convert(counts, cls) if "unchanged" in counts else None


class Progress(Value, frozen=True):
    """How far long work has come."""

    stage: str
    """What is being done."""
    done: int
    """Units done."""
    total: int | None
    """Units in all, where known."""
    unit: str
    """Of what: rows, percent, steps."""


class Step(Value, frozen=True):
    """A planned step."""

    _untold = ("seconds",)

    name: str
    action: str
    """recompute, reuse or blocked."""
    reasons: list[Reason | Any] = []
    """Why: reasons, causes of a possible step, damage. As texts: first which step's table answers this one; last, of a blocked step, who makes its
    rows or what this kernel lacks to make them, and which inputs are gone."""
    seconds: float | None = None
    """What the last run took; None when it never ran."""
    waiting: list[str] = []
    """Of a blocked step: the tables that stay possibly stale because of it."""


class RunStep(Value, frozen=True):
    """A step of a plan as it went."""

    _untold = ("seconds", "table_name")

    name: str
    outcome: str
    """computed, reused, cut_off, blocked, failed or skipped."""
    seconds: float = 0.0
    rows: int | None = None
    table_name: str | None = None
    error: str | None = None
    waiting: list[str] = []
    """Of a blocked step: the tables that stay possibly stale because of it."""
    reuse: Reuse | None = None
    """New, changed, removed and unchanged rows of a step that took rows over; None for producers that take none over."""
    meanwhile: bool = False
    """Of a cut-off step: whether it was true by then for another reason than that its inputs came out equal."""
