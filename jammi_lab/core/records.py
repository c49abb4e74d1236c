"""Catalog rows, steps of runs and progress events as frozen values."""

import enum
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, NamedTuple, TypeVar

import msgspec

from jammi_lab.core.anchors import Anchor, Input
from jammi_lab.core.html import count_noun, round_up_duration
from jammi_lab.core.input_kinds import input_kind
from jammi_lab.core.manifest import ManifestColumn
from jammi_lab.core.recipes import RecipeValue, recipe_class
from jammi_lab.core.value import Value
from jammi_lab.core.verdicts import Reason


class TableStatus(enum.StrEnum):
    """The life-cycle status of a result table."""

    BUILDING = "building"
    READY = "ready"
    FAILED = "failed"
    REJECTED = "rejected"
    """Complete, but a blocking check did not pass. Its bytes are kept for a while."""
    DELETING = "deleting"


READABLE_STATUSES = frozenset({TableStatus.READY, TableStatus.REJECTED})
"""The statuses of tables whose rows can be read. Names in SQL mean ready ones only."""


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


class RecipeRecord(Value, frozen=True):
    """A logical name and its current definition."""

    name: str
    kind: str
    """The kind of table that it makes."""
    descriptor: dict[str, Any]
    environment: dict[str, Any]
    definition_hash: str
    tenant: str | None = None
    inputs: list[tuple[str, str, str]] = []
    """`Input.identity` of what the definition reads."""
    created_at: str = ""
    updated_at: str = ""

    @property
    def recipe_class(self) -> type[RecipeValue]:
        """The class of such recipes."""
        return recipe_class(self.kind)

    @property
    def parents(self) -> list[str]:
        """The result tables that the definition reads, by name."""
        return [name for kind, name, _ in self.inputs if input_kind(kind).is_result]

    @property
    def reads(self) -> list[Input]:
        """What the definition reads."""
        return [Input(kind, name, table or None) for kind, name, table in self.inputs]


def recipe_statement(recipe: RecipeRecord) -> str:
    """The text of a recipe for display: its statement, the source of its function, the producer of
    its rows, or a call of its producer with all arguments."""
    descriptor = recipe.descriptor
    if any(isinstance(v, dict) and "asked" in v for v in descriptor.values()):
        return _producer_call(descriptor)
    if descriptor.get("function"):  # a row map has a statement, too: that of its inputs
        return str(descriptor.get("source") or descriptor["function"])
    return str(descriptor.get("statement") or descriptor.get("producer_id") or "")


def _producer_call(descriptor: dict[str, Any]) -> str:
    """A producer call, such as `context_set(vectors=v, members=m, pool=mean)`, with inputs as the
    user wrote them."""
    arguments = {
        k: v["asked"] if isinstance(v, dict) and "asked" in v else v
        for k, v in descriptor.items()
        if k != "producer" and v is not None
    }
    return f"{descriptor['producer']}({', '.join(f'{k}={v}' for k, v in arguments.items())})"


class TableRecord(Value, frozen=True):
    """A row of the catalog's result tables."""

    table_name: str
    kind: str
    status: TableStatus
    recipe: str
    """The recipe it was first built for."""
    version: int
    """The version it was first built as."""
    tenant: str | None = None
    writer_id: str = ""
    definition_hash: str | None = None
    path: str = ""
    """Path of the Parquet file, relative to the workspace, with `/`."""
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
    columns: list[ManifestColumn] = []
    anchors: list[Anchor] = []
    digest: str | None = None
    """SHA-256 of the Parquet file."""
    manifest_digest: str | None = None
    """SHA-256 of the manifest file's bytes."""
    order_sensitive: bool = False
    flight: bool = True
    """Whether others may wait for it while it is being built."""
    error: str | None = None
    """Why it failed."""

    @property
    def recipe_class(self) -> type[RecipeValue]:
        """The class of recipes that make such tables."""
        return recipe_class(self.kind)


class VersionRecord(Value, frozen=True):
    """The table that a version of a recipe refers to. A name is resolved through these records
    only."""

    recipe: str
    version: int
    table_name: str
    tenant: str | None = None
    created_at: str = ""
    pinned: bool = False
    note: str | None = None


class Edge(Value, frozen=True):
    """One lineage edge: `derived` was anchored on `input`."""

    input: str
    derived: str
    kind: str


class Reuse(Value, frozen=True):
    """How many rows a producer reused from an earlier version, by key."""

    new: int
    """Keys that did not exist before."""
    changed: int
    """Existing keys with another text."""
    removed: int
    """Keys that no longer exist."""
    unchanged: int
    """Keys whose vector or terms were reused."""
    encoded_before: int = 0
    """New and changed ones whose vectors or outputs were reused from an unfinished run."""
    errors: int = 0
    """Rows of a row map with an error in place of outputs."""

    def __str__(self) -> str:
        text = (
            f"{self.new:,} new, {self.changed:,} changed, {self.removed:,} removed, "
            f"{self.unchanged:,} unchanged"
        )
        if self.encoded_before:
            text += f"; {self.encoded_before:,} taken over from an unfinished run"
        if self.errors:
            text += f"; {count_noun(self.errors, 'row')} with an error"
        return text

    @property
    def counts(self) -> dict[str, int]:
        """The counts as recorded in a manifest."""
        counts: dict[str, int] = msgspec.structs.asdict(self)
        if not self.errors:
            del counts["errors"]
        return counts

    @classmethod
    def from_counts(cls, counts: Mapping[str, int]) -> "Reuse | None":
        """The counts recorded in a manifest; None when there are none."""
        return msgspec.convert(counts, cls) if "unchanged" in counts else None


class Progress(Value, frozen=True):
    """How far a long operation has progressed."""

    stage: str
    """The current activity."""
    done: int
    """Units done."""
    total: int | None
    """Total units, where known."""
    unit: str
    """The unit: rows, percent, steps."""
    rate: float | None = None
    """Units per second, where known."""

    _volatile_fields = ("rate",)

    @property
    def seconds_left(self) -> float | None:
        """About how many seconds remain, where that is known."""
        return None if not self.rate or self.total is None else (self.total - self.done) / self.rate


OnProgress = Callable[[Progress], None]
"""Receives the progress of long work."""

ProgressOption = bool | OnProgress | None
"""What `progress=` of a verb takes. True: the workspace's default, else the terminal; a callable:
that; False: nowhere; None: the workspace's default."""


T = TypeVar("T")


def report_each(
    items: Collection[T], stage: str, unit: str, on_progress: OnProgress | None
) -> Iterator[T]:
    """Yield each item, and report after each how many are done."""
    for done, item in enumerate(items, 1):
        yield item
        if on_progress is not None:
            on_progress(Progress(stage=stage, done=done, total=len(items), unit=unit))


def percent_callback(on_progress: OnProgress | None) -> Callable[[float], None] | None:
    """Receives the percentage of a statement that is done, and reports it."""
    if on_progress is None:
        return None
    return lambda percent: on_progress(
        Progress(stage="run", done=int(percent), total=100, unit="percent")
    )


class CallEstimate(Value, frozen=True):
    """What the next run of a row map or an embedding will compute. As a sentence: `12 of 12,400
    rows to compute, about 4 s, cost 0.02`."""

    _volatile_fields = ("seconds",)

    rows_to_ask: int
    """Rows whose outputs are not known; of rows with equal inputs one counts."""
    rows: int
    """All rows."""
    calls: int
    """Calls of the function. Of an embedding: texts to encode."""
    seconds: float | None = None
    """Duration, by the calls of the last run; None when there was none."""
    cost: float | None = None
    """Cost of the calls; None when the cost of one is unknown."""
    unit: str = "row"
    """What is counted: row, or text of an embedding."""

    def __str__(self) -> str:
        verb = "encode" if self.unit == "text" else "compute"
        text = f"{self.rows_to_ask:,} of {count_noun(self.rows, self.unit)} to {verb}"
        if not self.calls:
            return text
        if self.calls != self.rows_to_ask:
            text += f" in {count_noun(self.calls, 'call')}"
        if self.seconds is not None:
            text += f", about {round_up_duration(self.seconds)}"
        if self.cost is None:
            return text
        cost = "below 0.01" if 0 < self.cost < 0.01 else f"{self.cost:,.2f}"
        return f"{text}, cost {cost}"


class Hold(Value, frozen=True):
    """A recipe that a recompute of everything leaves as it is."""

    since: str
    """When it was held, RFC 3339."""
    by: str
    """Who held it: user and host."""
    note: str = ""
    """Why."""

    def __str__(self) -> str:
        since = f"{self.since[:10]} {self.since[11:19]} UTC"
        return f"held since {since} by {self.by}" + (f": {self.note}" if self.note else "")

    @property
    def summary(self) -> str:
        """The day and the note, for a column of a table."""
        return f"since {self.since[:10]}" + (f": {self.note}" if self.note else "")


class Step(Value, frozen=True):
    """A step of a plan."""

    _volatile_fields = ("seconds",)

    name: str
    action: str
    """recompute, increment (only the new rows of an input are computed), reuse, blocked, or check:
    the name is then that of a check."""
    reasons: list[Reason | Any] = []
    """Why it is planned: reasons, causes of a possible step, damage. As strings: first the step
    whose table answers this one; last, for a blocked step, who supplies its rows or what this
    kernel lacks to compute them, and which inputs are missing."""
    seconds: float | None = None
    """Estimated duration: that of the last run; None when it never ran. Of a row map and an
    embedding: by the rows to compute. Of an increment: by its share of the input rows."""
    waiting: list[str] = []
    """For a blocked step: the tables that remain possibly stale because of it."""
    estimate: CallEstimate | None = None
    """Of a row map and an embedding: what it will compute. None while a step upstream may change
    its inputs."""
    increment: str | None = None
    """Of an increment: its extent in words, `1 of 21 files`."""
    full_run_reason: str | None = None
    """Why a statement is computed in full and not by an increment, as one clause. None while a step
    upstream may change its inputs."""

    @property
    def calls(self) -> int | None:
        """How many calls a row map will make, or how many texts an embedding will encode, where
        known."""
        return None if self.estimate is None else self.estimate.calls

    @property
    def cost(self) -> float | None:
        """What these calls will cost, where known."""
        return None if self.estimate is None else self.estimate.cost


class RunStep(Value, frozen=True):
    """A step of a plan after it was run."""

    _volatile_fields = ("seconds", "table_name")

    name: str
    outcome: str
    """computed, reused, cut_off, blocked, failed, rejected (a blocking check did not pass) or
    skipped; of a check pass, fail or error."""
    seconds: float = 0.0
    rows: int | None = None
    table_name: str | None = None
    error: str | None = None
    hint: str = ""
    """What to do about the error."""
    waiting: list[str] = []
    """For a blocked step: the tables that remain possibly stale because of it."""
    reuse: Reuse | None = None
    """New, changed, removed and unchanged rows of a step that reused rows; None for producers that
    reuse none."""
    meanwhile: bool = False
    """For a cut-off step: whether it was up to date for another reason than that its inputs came
    out equal."""


class Committed(Value, frozen=True):
    """The effect of one change on a mutable table."""

    version: int
    """The table's version afterwards; unchanged when no row differed."""
    inserted: int = 0
    """Rows added."""
    updated: int = 0
    """Existing rows that now differ."""
    deleted: int = 0
    """Rows removed."""
    matched: int = 0
    """Rows that the change applied to, whether or not they changed."""


class TableVersion(NamedTuple):
    """A version of a recipe with the table that it refers to."""

    version: VersionRecord
    record: TableRecord
