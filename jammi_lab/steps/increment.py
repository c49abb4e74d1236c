"""Increments: a statement over an input that only gained rows is computed over the new rows alone
and merged with an earlier table.

The rule comes from the algebra of the statement (`engine/sql/append_algebra.py`), the new files of
a folder from the digests in the manifest of the earlier table, the new rows of a table from its
earlier states (`ReadPlan.added_since`). Whatever is not proved leads to a full computation.

A rounded sum of floating-point numbers cannot be continued. The partial sums of a table are
therefore in a file beside it, whose digest is in the manifest; without it, the table is no base.
"""

import contextlib
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import pyarrow as pa

from jammi_lab.core.anchors import Anchor, FileState, Identity, Snapshot, result_input
from jammi_lab.core.canonical_json import digest_of
from jammi_lab.core.errors import JammiError
from jammi_lab.core.manifest import Increment, InputFiles, Manifest
from jammi_lab.core.records import TableRecord
from jammi_lab.engine.engine import Engine
from jammi_lab.engine.name_resolution import FixedNames
from jammi_lab.engine.prepared_statement import ObservedStates, PreparedStatement
from jammi_lab.engine.sql.append_algebra import BASE, AppendRule, NotIncremental, base_statement
from jammi_lab.engine.stream import Stream
from jammi_lab.sources.base import (
    AddedRows,
    InputRead,
    NotAppended,
    PartOfFiles,
    ReadPlan,
    Relation,
    Requirements,
)
from jammi_lab.storage.arrow_values import read_rows
from jammi_lab.storage.files import open_for_reading
from jammi_lab.store import manifests, read_leases
from jammi_lab.store.result_files import ResultFiles
from jammi_lab.store.sidecars import PARTIAL_SUMS_SUFFIX, sidecar_path

MIN_INPUT_ROWS = 100_000
"""Below this number of input rows a full computation is as fast."""
MAX_SHARE = 0.75
"""An increment reads at most this share of the rows that a full computation reads."""
_MERGE_COST, _PARTIAL_MERGE_COST = 2, 20
"""What merging a row of the base costs, as reading so many rows of the input: reading and sorting
it; for partial sums measured."""
_MERGE_SECONDS = 3e-7
"""The time that a unit of this cost takes, about."""
_MAX_PARTIAL_ROWS = 1_000_000
"""Of larger tables no partial sums are kept: they are in memory while the table is written."""


@dataclass(frozen=True)
class PlannedIncrement:
    """An increment that is possible for the observed states of the inputs."""

    rule: AppendRule
    base: TableRecord
    """The earlier table."""
    identity: Identity
    """The input that gained rows."""
    added: AddedRows
    """The new rows."""
    partial_digest: str = ""
    """The digest of the partial sums beside the earlier table, if they are what is merged."""

    @property
    def record(self) -> Increment:
        """The entry of the manifest."""
        return Increment(
            rule=self.rule.kind, base=self.base.table_name, delta=sorted(self.added.delta)
        )


def input_files(source: str, state: Snapshot) -> InputFiles | None:
    """The files of an observed input; None when it is no file set."""
    if state.files is None:
        return None
    return InputFiles(
        source=source, columns=digest_of(list(state.columns.items())), files=dict(state.files)
    )


def find_increment(
    results: ResultFiles,
    incremental: "IncrementalStatement",
    anchors: Sequence[Anchor],
    files: Mapping[Identity, InputFiles],
    candidates: Sequence[TableRecord],
) -> PlannedIncrement:
    """The increment from the newest of the earlier tables of the same definition, of which there is
    one at least. Raises NotIncremental with the reason why a full computation is needed."""
    base = candidates[0]
    full_seconds = max(each.seconds or 0.0 for each in candidates)  # increments are quicker
    former, current_anchor = _moved_anchors(base.anchors, anchors)
    identity = former.input.identity
    base_rows = base.row_count or 0
    _check_is_worthwhile(
        former.row_count, current_anchor.row_count, _MERGE_COST * base_rows, full_seconds
    )
    rule = incremental.rule(identity)  # before what looks at rows
    if (added := incremental.added_since(former)) is None:
        if (current := files.get(identity)) is None:
            raise NotIncremental(f"which rows {former.input.label} gained is not known")
        manifest = _manifest(results, base)
        added = _added_files(_former_files(manifest, base, current), current.files)
    cost = _PARTIAL_MERGE_COST if rule.partial_columns else _MERGE_COST
    former_rows = added.total_rows - added.rows
    _check_is_worthwhile(former_rows, added.total_rows, cost * base_rows, full_seconds)
    if rule.keeps_order and not added.are_last:
        raise NotIncremental("the new rows may come before others")
    if not results.is_intact(base):
        raise NotIncremental(f"version {base.version} of {base.recipe} is damaged")
    partial = _manifest(results, base).partial_sums if rule.partial_columns else ""
    if rule.partial_columns and not partial:
        raise NotIncremental(f"version {base.version} of {base.recipe} has no partial sums")
    return PlannedIncrement(rule, base, identity, added, partial)


def _check_is_worthwhile(
    former_rows: int | None, total_rows: int | None, merge_cost: int, full_seconds: float
) -> None:
    """Raise NotIncremental when, by these numbers of rows of the input and the time that a full
    computation took, another one is as fast."""
    if former_rows is None or total_rows is None:
        return
    new_rows = total_rows - former_rows
    share = (new_rows + merge_cost) / max(total_rows, 1)
    if full_seconds:  # a costly row takes longer to compute than to merge
        seconds = full_seconds * new_rows / max(total_rows, 1) + merge_cost * _MERGE_SECONDS
        share = min(share, seconds / full_seconds)
    if total_rows < MIN_INPUT_ROWS or share > MAX_SHARE:
        raise NotIncremental("a full computation is as fast")


def _moved_anchors(former: Sequence[Anchor], current: Sequence[Anchor]) -> tuple[Anchor, Anchor]:
    """The former and the current state of the one input that moved. Raises NotIncremental unless it
    has the same columns as before, and every other input is in the same state."""
    before = {anchor.input.identity: anchor for anchor in former}
    if len(before) != len(former) or before.keys() != {a.input.identity for a in current}:
        raise NotIncremental("inputs were added or removed")
    moved = [a for a in current if not a.same_state(before[a.input.identity])]
    if len(moved) != 1 or len(current) != len(former):
        raise NotIncremental("not exactly one input changed")
    [after] = moved
    earlier = before[after.input.identity]
    same_columns = (
        after.pinned
        and earlier.pinned
        and after.note == earlier.note == ""
        and (after.kind, after.method, after.types, after.schema, after.columns)
        == (earlier.kind, earlier.method, earlier.types, earlier.schema, earlier.columns)
    )
    if not same_columns or not after.input.kind_class.is_stored:
        raise NotIncremental(f"{after.input.label} changed in more than added rows")
    return earlier, after


def _manifest(results: ResultFiles, base: TableRecord) -> Manifest:
    """The manifest of the base. Raises NotIncremental when it is missing or not the published
    one."""
    try:
        body = manifests.read(results.parquet(base))
        manifest = manifests.parse(body)
    except (JammiError, OSError):
        body = manifest = None
    if body is None or manifest is None or manifests.digest(body) != base.manifest_digest:
        raise NotIncremental(f"the manifest of version {base.version} of {base.recipe} is missing")
    return manifest


def _former_files(
    manifest: Manifest, base: TableRecord, current: InputFiles
) -> Mapping[str, FileState]:
    """The files from which the base was computed. Raises NotIncremental when these are not known,
    or were read as other columns."""
    former = next((f for f in manifest.input_files if f.source == current.source), None)
    if former is None:
        raise NotIncremental(f"version {base.version} of {base.recipe} does not list its files")
    if former.columns != current.columns:
        raise NotIncremental(f"the columns of {current.source} changed")
    return former.files


def _added_files(former: Mapping[str, FileState], current: Mapping[str, FileState]) -> AddedRows:
    """The added files. Raises NotIncremental when a former file is gone or differs, or when the
    folders of the files do not all name the same partition columns: which columns come from the
    paths depends on all of them."""
    if any(current.get(file) != state for file, state in former.items()):
        raise NotIncremental("a file was removed or rewritten")
    if len({_partition_columns(file) for file in current}) > 1:
        raise NotIncremental("not all files are in folders of the same partition columns")
    added = tuple(file for file in current if file not in former)
    if not added or not former:
        raise NotIncremental("no file was added")
    return AddedRows(
        delta=added,
        rows=sum(current[file].rows for file in added),
        total_rows=sum(state.rows for state in current.values()),
        are_last=min(added) > max(former),
        addresses=added,
        file_count=len(current),
    )


def _partition_columns(file: str) -> tuple[str, ...]:
    return tuple(part.partition("=")[0] for part in file.split("/")[:-1] if "=" in part)


class PartialSums:
    """A stream without its columns of partial sums, which are kept."""

    def __init__(self, rule: AppendRule, stream: Stream) -> None:
        self._stream, self._schema = stream, stream.schema
        partial = rule.partial_columns
        count = len(self._schema) - len(partial)
        self._columns = range(count)
        self._kept_columns = [count + partial.index(i) if i in partial else i for i in range(count)]
        self._kept: list[pa.RecordBatch] | None = []
        self._rows = 0
        self.schema = pa.schema([self._schema.field(i) for i in self._columns])

    def batches(self, rows: int = 65536) -> Iterator[pa.RecordBatch]:
        """Yield the rows in their final order, `rows` per batch."""
        for batch in self._stream.batches(rows):
            self._rows += batch.num_rows
            if self._rows > _MAX_PARTIAL_ROWS:
                self._kept = None
            if self._kept is not None:
                self._kept.append(
                    batch.select(self._kept_columns).rename_columns(self.schema.names)
                )
            yield batch.select(self._columns)

    def file_body(self) -> bytes | None:
        """The rows with partial sums in place of sums, as an Arrow file; None for very many."""
        if not self._kept:
            return None
        sink = pa.BufferOutputStream()
        options = pa.ipc.IpcWriteOptions(compression="zstd")
        with pa.ipc.new_file(sink, self._kept[0].schema, options=options) as file:
            for batch in self._kept:
                file.write_batch(batch)
        return bytes(sink.getvalue())

    def close(self) -> None:
        """Release all resources."""
        self._stream.close()


class ComputedRows:
    """Rows as a stream: those of the base first, or those of one statement. Raises NotIncremental
    when the streams have different types."""

    def __init__(self, streams: Sequence[Stream]) -> None:
        self.schema, self._streams = streams[0].schema, streams
        if any(stream.schema != self.schema for stream in streams):
            self.close()
            raise NotIncremental("the merged rows have other types")

    def batches(self, rows: int = 65536) -> Iterator[pa.RecordBatch]:
        """Yield the rows in their final order, `rows` per batch."""
        for stream in self._streams:
            yield from stream.batches(rows)

    def close(self) -> None:
        """Release all resources."""
        for stream in self._streams:
            stream.close()


def _part_of_files(read: ReadPlan, addresses: Sequence[str]) -> PartOfFiles:
    """How some files of a file set are read. Raises NotIncremental."""
    if read.part_of_files is None:
        raise NotIncremental("the files of the input cannot be read one by one")
    return read.part_of_files(addresses)


class IncrementalStatement:
    """A prepared statement that can be extended by new rows of an input."""

    def __init__(
        self, engine: Engine, query: PreparedStatement, key: Sequence[str], tenant: str | None
    ) -> None:
        self.query, self.key = query, key
        self._engine, self._tenant = engine, tenant

    def rule(self, identity: Identity) -> AppendRule:
        """The rule when only this input gained rows. Raises NotIncremental."""
        return self.query.append_rule(identity)

    def added_since(self, former: Anchor) -> AddedRows | None:
        """The rows that an input gained since it was anchored; None for an input that cannot tell.
        Raises NotIncremental."""
        read = self._read_of(former.input.identity)
        if (find_added := read.relation.read.added_since) is None:
            return None
        try:
            return find_added(former, read.schema)
        except NotAppended as error:
            raise NotIncremental(f"{former.input.label}: {error}") from None

    def start(
        self, planned: PlannedIncrement, base: Relation, observed_states: ObservedStates
    ) -> ComputedRows | PartialSums:
        """Compute the statement over the new rows, and merge. Raises NotIncremental when the rows
        would be read or written otherwise than by a full computation; and as `run_ordered`."""
        whole = self._read_of(planned.identity)
        read = self._read_of_files(whole, planned.added.addresses)
        query = self.query.restricted_to(planned.identity, read)
        if not planned.rule.keeps_order:
            merged = query.run_merged(planned.rule, base, self.key, observed_states)
            if planned.rule.partial_columns:
                return PartialSums(planned.rule, merged)
            return ComputedRows([merged])
        new = query.run_ordered(self.key, observed_states=observed_states)
        former = self._prepare(base_statement(self.query.output), {BASE: base}).run_ordered()
        return ComputedRows([former, new])

    def _read_of_files(self, whole: InputRead, addresses: Sequence[str]) -> ReadPlan:
        """How some files of an input are read. Raises NotIncremental for files with other
        columns, types or partition columns than a full computation binds over all files."""
        part = _part_of_files(whole.relation.read, addresses)
        read = replace(whole.relation.read, body=part.body)
        # Of a table with snapshots it is the same scan, with a condition.
        if read.added_since is None:
            relation = replace(whole.relation, read=read)
            columns = part.columns or self._engine.describe(relation, self._tenant)
            if list(columns.items()) != list(whole.schema.items()):
                raise NotIncremental("some files alone have other columns or types")
        return read

    def _read_of(self, identity: Identity) -> InputRead:
        [read] = [r for r in self.query.inputs if r.relation.input.identity == identity]
        return read

    def _prepare(self, statement: str, relations: Mapping[str, Relation]) -> PreparedStatement:
        [prepared] = self._engine.prepare(
            statement, tenant=self._tenant, overriding_resolvers=[FixedNames(relations)]
        )
        return prepared


def partial_rule(query: PreparedStatement) -> AppendRule | None:
    """The rule by which a statement could be extended, if partial sums must be kept for it."""
    for read in query.inputs:
        plan = read.relation.read
        if plan.part_of_files is None:
            continue
        if plan.added_since is None and plan.local_bytes is None:
            continue  # which files a store gained is not known
        try:
            rule = query.append_rule(read.relation.input.identity)
        except NotIncremental:
            continue
        return rule if rule.partial_columns else None
    return None


def _partial_rows(results: ResultFiles, base: TableRecord, digest: str) -> pa.Table:
    """The partial sums of an earlier table. Raises NotIncremental when they are missing or other
    ones."""
    path = sidecar_path(results.parquet(base), PARTIAL_SUMS_SUFFIX)
    try:
        with open_for_reading(path) as file:
            body = file.read()
    except OSError:
        body = b""
    with contextlib.suppress(pa.ArrowException):
        if hashlib.sha256(body).hexdigest() == digest:
            return read_rows(pa.ipc.open_file, body)
    raise NotIncremental(
        f"the partial sums of version {base.version} of {base.recipe} are damaged or gone"
    )


def base_relation(results: ResultFiles, planned: PlannedIncrement) -> Relation:
    """The rows of the earlier table that are merged. Raises TableDamaged, NotIncremental."""
    base = planned.base
    if planned.partial_digest:
        rows = _partial_rows(results, base, planned.partial_digest)
        return Relation(result_input(base.table_name), ReadPlan(frame=rows))
    lease = read_leases.ReadLease(results.require_intact(base))
    return Relation(
        result_input(base.table_name),
        ReadPlan(body=results.select_sql(base)),
        columns={column.name: column.type for column in base.columns},
        requirements=Requirements(filesystem=results.filesystem),
        acquire=lease,
    )
