"""Jobs: one definition bound to its inputs, ready to run, and the rows that a run gives."""

import functools
import mmap
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import pyarrow as pa

from jammi_lab.core.anchors import Anchor, Identity, Observed
from jammi_lab.core.manifest import Increment
from jammi_lab.core.recipes import RecipeValue, definition_hash
from jammi_lab.core.records import (
    CallEstimate,
    OnProgress,
    RecipeRecord,
    Reuse,
)
from jammi_lab.sources.base import InputRead
from jammi_lab.steps.increment import IncrementalStatement
from jammi_lab.storage.parquet import row_group_rows


class RowStream(Protocol):
    """The output of a producer, as a stream of record batches."""

    @property
    def schema(self) -> pa.Schema:
        """Column names and types."""
        ...

    def batches(self, rows: int = 65536) -> Iterator[pa.RecordBatch]:
        """Yield the rows in their final order, `rows` per batch."""
        ...

    def close(self) -> None:
        """Release all resources."""
        ...


class TableRows:
    """Output rows in one Arrow table in memory; empty until they are computed."""

    def __init__(self, table: pa.Table | None = None) -> None:
        self._table = pa.table({}) if table is None else table

    @property
    def schema(self) -> pa.Schema:
        """Column names and types."""
        return self._table.schema

    def batches(self, rows: int | None = None) -> Iterator[pa.RecordBatch]:
        """Yield the rows in their final order. Without `rows`, batches are whole row groups, which
        are written without a copy."""
        for batch in self._table.to_batches(max_chunksize=rows or row_group_rows(self.schema)):
            yield batch
            # else the writer's buffers pile up until all batches are written
            pa.default_memory_pool().release_unused()

    def close(self) -> None:
        """Do nothing: the rows stay until it is known whether they were published."""

    def release(self) -> None:
        """Drop the rows, after they were published or lost: an error that a notebook keeps would
        keep them."""
        self._table = pa.Table.from_batches([], self.schema)


def spool(tables: Iterator[pa.Table]) -> pa.Table:
    """The rows of one or more tables with one schema, in an unnamed temporary file that is mapped:
    they need not fit in memory. Raises OSError."""
    first = next(tables)
    with tempfile.TemporaryFile(prefix="jammi-") as file:
        with pa.ipc.new_file(file, first.schema) as sink:
            sink.write_table(first)
            for table in tables:
                sink.write_table(table)
        file.flush()
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    return pa.ipc.open_file(pa.BufferReader(pa.py_buffer(mapped))).read_all()


@dataclass(frozen=True)
class RunningJob:
    """A computation that has started."""

    rows: RowStream
    reuse: Reuse | None = None
    """The rows taken over from an earlier version; None for producers that reuse no rows."""
    on_published: Callable[[], None] = lambda: None
    """Called once the rows are published."""
    on_lost: Callable[[BaseException], None] = lambda _: None
    """Called when the rows will not be published, with the error."""
    snapshots: Mapping[Identity, Observed] = field(default_factory=dict)
    """The states of inputs by identity, as seen by the transaction that read them. Filled when all
    rows are read."""
    counts: Mapping[str, int] = field(default_factory=dict)
    """Row counts for the manifest (ignored input rows, reused rows …). Filled when all rows are
    read."""
    increment: Increment | None = None
    """The increment that is computed; None for a full computation."""
    damaged_versions: Sequence[int] = ()
    """Earlier versions whose rows would be taken over, if they were not damaged."""
    partial_sums: Callable[[], bytes | None] = lambda: None
    """Returns, when all rows are read, the partial sums to store beside the table, if any."""


@dataclass(frozen=True)
class Job:
    """One definition bound to its inputs, ready to run."""

    descriptor: RecipeValue
    environment: Mapping[str, Any]
    inputs: Sequence[InputRead]
    """Each input once."""
    start: Callable[[OnProgress | None], RunningJob]
    """Starts the computation; called after the building row is in the catalog."""
    rebind: "Callable[[], Job]"
    """Binds the same definition again."""
    key: Sequence[str] = ()
    rows_anchor: Anchor | None = None
    """The anchor of rows that were given with the job, where what they were made from is known."""
    volatile: Sequence[str] = ()
    """Functions whose value does not depend on the inputs alone, such as random()."""
    reads_date: bool = False
    """Whether the job reads the current date."""
    order_sensitive: bool = False
    dimensions: int | None = None
    model_id: str | None = None
    model_key: str | None = None
    """The catalog key of the registered model that the job runs."""
    incremental: Callable[[], IncrementalStatement] | None = None
    """How to extend an earlier table of this definition; None where that is not possible."""
    columns: Mapping[str, str] | None = None
    """The names and SQL types of its rows; None where they are known only after a run."""
    estimate: Callable[[], CallEstimate] | None = None
    """Of a row map and an embedding: counts the rows that a run would compute now, by reading its
    inputs."""

    @functools.cached_property
    def stored_form(self) -> dict[str, Any]:
        """The stored form of the definition."""
        return self.descriptor.to_descriptor()

    @property
    def kind(self) -> str:
        """The kind of table."""
        return self.descriptor.kind

    @property
    def reads(self) -> frozenset[tuple[Identity, tuple[str, ...]]]:
        """The inputs by identity, each with the columns read."""
        return frozenset((bound.relation.input.identity, bound.columns) for bound in self.inputs)

    @functools.cached_property
    def definition(self) -> str:
        """The definition hash."""
        return definition_hash(self.descriptor, self.environment)

    def recipe(self, name: str, tenant: str | None, now: str) -> RecipeRecord:
        """The catalog record of the recipe."""
        return RecipeRecord(
            name=name,
            kind=self.kind,
            tenant=tenant,
            descriptor=self.stored_form,
            environment=dict(self.environment),
            definition_hash=self.definition,
            inputs=[bound.relation.input.identity for bound in self.inputs],
            created_at=now,
            updated_at=now,
        )


def vector_columns(key: str, dimensions: int | None, digest: str | None = None) -> dict[str, str]:
    """The columns of an embedding table whose key has this SQL type. `digest`: the column of the
    digests of its texts."""
    columns = {"key": key, "vector": f"FLOAT[{dimensions}]"}
    return columns if digest is None else {**columns, digest: "BLOB"}
