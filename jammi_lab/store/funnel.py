"""The funnel: the only way from `building` to `ready`.

Parquet and manifest durable → one catalog transaction that compares and sets. Whatever fails before that ends in `failed` and no files.
"""

import contextlib
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa

from jammi_lab.catalog.catalog import Catalog
from jammi_lab.catalog.publish import Building as BuiltElsewhere
from jammi_lab.catalog.publish import ReadyMeanwhile
from jammi_lab.clock import Clock, rfc3339
from jammi_lab.engine.faults import stopped
from jammi_lab.errors import DuplicateTable, JammiError, LostOwnership
from jammi_lab.names import physical_name
from jammi_lab.storage.digests import column_digests, digest_parquet
from jammi_lab.storage.files import AtomicFile, atomic_file, commit_with, fault_point, make_folder
from jammi_lab.storage.parquet import WRITER, ParquetSink
from jammi_lab.storage.syncing import Syncing
from jammi_lab.store import manifests
from jammi_lab.store.failures import left_by, storage_error
from jammi_lab.store.results import Results, clear
from jammi_lab.values.anchors import Anchor, InputKind, schema_digest
from jammi_lab.values.manifest import Artifact, Column, Leaf, Manifest
from jammi_lab.values.records import TableRecord, TableStatus, VersionRecord

__all__ = ["Building", "BuiltElsewhere", "Funnel", "ReadyMeanwhile"]

_PATIENCE, _STEP = 10.0, 0.02
"""Seconds that closing waits for what is being made; what takes longer to notice, the next open settles."""


class Building:
    """The bytes of one table on their way: batches go in, then `seal` and `publish`, or `abandon`.

    Every step raises ResourceExhausted or WorkspaceReadOnly when the disk does not do it, LostOwnership when another writer settled the row."""

    def __init__(self, funnel: "Funnel", record: TableRecord, schema: pa.Schema, since: float | None = None) -> None:
        self._funnel, self.record = funnel, record
        self._explained = _Explained(funnel, record)
        self.path = funnel.results.parquet(record)
        with self._explained:
            make_folder(self.path.parent)
        self._started = funnel.clock.monotonic() if since is None else since
        self._file = atomic_file(self.path, create=True)
        self._sink = ParquetSink(self._file.temp, schema)
        self.rows = 0

    def write(self, batch: pa.RecordBatch) -> None:
        """Append a batch. SchemaMismatch when it is not of the schema."""
        with self._explained:
            self._sink.write(batch)
        self.rows += batch.num_rows

    def seal(self) -> Path:
        """Close the Parquet file and return where it can be read until it is published; only `publish` or `abandon` may follow."""
        with self._explained:
            self.rows = self._sink.close()
            if isinstance(self._file, AtomicFile):
                self._file.finish()  # while its bytes are looked at
            fault_point("funnel:sealed")
        return self._file.temp

    def publish(
        self,
        types: dict[str, str],
        descriptor: dict[str, Any],
        environment: dict[str, Any],
        anchors: list[Anchor],
        counts: Mapping[str, int] | None = None,
        wanted: Callable[[], object] = bool,
    ) -> TableRecord:
        """Make the sealed table ready and return its row; `types` are the SQL types that reading the file gives, `counts` what was left out. `wanted`
        is asked in the transaction that publishes, and raises when the table is not."""
        with self._explained:
            return self._publish(types, descriptor, environment, anchors, dict(counts or {}), wanted)

    def _publish(
        self,
        types: dict[str, str],
        descriptor: dict[str, Any],
        environment: dict[str, Any],
        anchors: list[Anchor],
        counts: dict[str, int],
        wanted: Callable[[], object],
    ) -> TableRecord:
        found = digest_parquet(self._file.temp, self._sink.growing, self._sink.footer)
        whole, leaves, digests = found.whole, found.leaves, column_digests(found.leaves)
        columns = [Column(name=name, type=type_, digest=digests.get(name, "")) for name, type_ in types.items()]
        now = rfc3339(self._funnel.clock.now_ns())
        seconds = round(self._funnel.clock.monotonic() - self._started, 6)
        record = self._funnel.finished(self.record, self.rows, found.bytes, columns, anchors, whole, now, seconds)
        body = self._funnel.attest(record, leaves, descriptor, environment, counts).sealed()
        named = commit_with(self._file, manifests.manifest_path(self.path), body, self._funnel.entering(self.record))
        fault_point("funnel:manifest-durable")
        record = _replaced(record, manifest_digest=manifests.digest(body))
        with self._funnel.catalog.transaction():
            wanted()
            self._funnel.catalog.publish.ready(record, body, [(a.input.identity, a.kind) for a in anchors])
            self._funnel.results.memo.save()  # of the inputs; a stat that is so young proves nothing of the table itself
            named()
        fault_point("funnel:ready")
        return record

    def abandon(self) -> None:
        """Close and remove the unfinished file."""
        with contextlib.suppress(OSError):  # the file is looked for again when the row is settled
            self._sink.abort()
            self._file.abort()


class _Explained:
    """A block in which what the disk says is raised in our words."""

    def __init__(self, funnel: "Funnel", record: TableRecord) -> None:
        self._funnel, self._record = funnel, record

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError):
            lost = self._funnel.lost(self._record) if isinstance(error, FileNotFoundError) else None
            raise lost or storage_error(error, self._record.table_name) from error


class Funnel:
    """Begins tables and publishes them, for one writer."""

    def __init__(self, catalog: Catalog, results: Results, clock: Clock, writer_id: str, run_id: str, engine_version: str) -> None:
        self.catalog, self.results, self.clock = catalog, results, clock
        self._writer_id, self._run_id, self._engine_version = writer_id, run_id, engine_version
        self._unsettled: dict[str, tuple[TableRecord, str]] = {}
        self._running: dict[str, str] = {}
        """Definitions that are being made, by table name."""
        self._entering: dict[str, Syncing | None] = {}
        """What makes the row durable of each table that is being made, by its name."""
        self._stopping = False

    @contextlib.contextmanager
    def begun(self, order: TableRecord, source_part: str, model_key: str | None = None, seen: Collection[str] | None = None) -> Iterator[TableRecord]:
        """A block in which one table is made: at its start there is a `building` row with name, path, version and writer; what leaves it by an
        exception or interrupt leaves a `failed` row and no files.

        `seen`: the ready tables of the definition that do not answer; None to build anyway. `BuiltElsewhere` when another build of the same
        definition can be waited for, `ReadyMeanwhile` when one has just ended; ModelNotFound when the registered model of that key is gone;
        SessionClosed when the workspace is being closed."""
        if self._stopping:
            raise stopped()
        record = self._named(order, source_part)
        self.tidy()
        self.catalog.writers.assure()
        self._running[record.table_name] = record.definition_hash or ""
        begun = None
        try:
            begun = self.catalog.publish.begin(record, model_key, seen)
            with _Explained(self, record):
                self._entering[record.table_name] = self.catalog.database.syncing()  # while the rows are being made
            fault_point("funnel:building")
            yield begun
        except (BuiltElsewhere, ReadyMeanwhile, DuplicateTable):
            raise
        except BaseException as error:
            why = self._why(record, error)
            self._unsettled[record.table_name] = (record, why)  # noted first: what interrupts the settling is made up for by `tidy`
            lost = None if begun is None else self._lost_meanwhile(record, error)
            if self._settled(record, why) and isinstance(error, KeyboardInterrupt):
                error.add_note(f"{order.recipe!r} was not made; {left_by(error)}.")
            if lost is not None:  # who settled it took the files away, and what fails for want of them is not the matter
                raise lost from error
            raise
        finally:
            self._running.pop(record.table_name, None)
            self._entering.pop(record.table_name, None)

    def entering(self, record: TableRecord) -> Syncing | None:
        """What makes the row of a begun table durable, before which no file may have its name; None when it is."""
        return self._entering.get(record.table_name)

    def stop(self) -> None:
        """Begin nothing any more."""
        self._stopping = True

    def ended(self, besides: Collection[str]) -> None:
        """Wait until nothing is being made, besides some definitions, and what failed is settled; for a while."""
        until = time.monotonic() + _PATIENCE
        while any(each not in besides for each in list(self._running.values())) and time.monotonic() < until:
            time.sleep(_STEP)

    def _why(self, record: TableRecord, error: BaseException) -> str:
        """What is kept of why a table failed. An error may quote a row: while its tenant has ephemeral sessions, of which nothing may stay, its kind
        alone is kept."""
        try:
            quiet = record.tenant is not None and bool(self.catalog.sessions.list())
        except JammiError:
            quiet = True
        return type(error).__name__ if quiet and isinstance(error, Exception) else _clause(error)

    def _named(self, order: TableRecord, source_part: str) -> TableRecord:
        name = physical_name(source_part, order.kind.value, order.model_id, self.clock)
        tenant = self.catalog.scope.tenant
        return _replaced(
            order,
            table_name=name,
            status=TableStatus.BUILDING,
            tenant=tenant,
            writer_id=self._writer_id,
            path=self.results.relative(name, tenant),
            created_at=rfc3339(self.clock.now_ns()),
        )

    def reuse(self, recipe: str, table_name: str) -> VersionRecord:
        """The recipe's version that refers to a ready table. TableNotFound when it is no longer ready; LostOwnership when the recipe is gone."""
        with self.catalog.transaction():
            kept = self.catalog.recipes.get(recipe)
            if kept is None or kept.tenant != self.catalog.scope.tenant:
                raise LostOwnership(
                    f"The recipe {recipe!r} was dropped or renamed while a table was looked for that answers it; nothing was changed.",
                    hint="Run it again if it is still wanted.",
                )
            return self.catalog.publish.reuse(recipe, table_name)

    @contextlib.contextmanager
    def build(self, begun: TableRecord, schema: pa.Schema, since: float | None = None) -> Iterator[Building]:
        """A block in which the bytes of a begun table are written; `since` is when its making began, by the monotonic clock (None: now)."""
        building = Building(self, begun, schema, since)
        try:
            yield building
        except BaseException:
            building.abandon()
            raise

    def tidy(self) -> bool:
        """Settle tables that could not be settled when they failed, because the disk was full or a second interrupt came; whether none is left."""
        for record, why in list(self._unsettled.values()):
            self._settled(record, why)
        return not self._unsettled

    def lost(self, record: TableRecord) -> LostOwnership | None:
        """The error that says so when the row is no longer this writer's to build."""
        row = self._row(record)
        if row is not None and row.status is TableStatus.BUILDING and row.writer_id == record.writer_id:
            return None
        return LostOwnership(
            f"The table {record.table_name!r} was settled by another kernel while it was being built; nothing was published.",
            hint="Run it again; the other kernel's table is reused if it is the same.",
        )

    def _lost_meanwhile(self, record: TableRecord, error: BaseException) -> LostOwnership | None:
        """As `lost`, for an error of ours or of the disk that says less; None where that cannot be asked."""
        if isinstance(error, (JammiError, OSError)) and not isinstance(error, LostOwnership):
            with contextlib.suppress(JammiError):
                return self.lost(record)
        return None

    def _settled(self, record: TableRecord, why: str) -> bool:
        """Whether the table is failed and gone now. The row first: files of a row that became ready, or that another writer settles, stay."""
        gone = False
        with contextlib.suppress(JammiError, OSError):  # it stays noted, and is recovery's in the end
            failed = self.catalog.publish.failed(record.table_name, record.writer_id, why)
            gone = failed or (row := self._row(record)) is None or row.status is TableStatus.FAILED
            if gone:
                fault_point("funnel:failed")
                clear(self.results.parquet(record))
            self._unsettled.pop(record.table_name, None)
        return gone

    def _row(self, record: TableRecord) -> TableRecord | None:
        with self.catalog.everyone():
            return self.catalog.tables.get(record.table_name)

    def finished(
        self, record: TableRecord, rows: int, size: int, columns: list[Column], anchors: list[Anchor], whole: str, now: str, seconds: float
    ) -> TableRecord:
        """The row as it will be when it is ready."""
        results = [a.input for a in anchors if a.input.kind is InputKind.RESULT]
        return _replaced(
            record,
            status=TableStatus.READY,
            row_count=rows,
            bytes=size,
            columns=columns,
            anchors=sorted(anchors, key=lambda a: a.input.identity),
            derived_from=results[0].name if len(results) == 1 else None,
            digest=whole,
            completed_at=now,
            seconds=seconds,
        )

    def attest(
        self, record: TableRecord, leaves: list[Leaf], descriptor: dict[str, Any], environment: dict[str, Any], counts: dict[str, int]
    ) -> Manifest:
        """The manifest that agrees with the row field by field."""
        return Manifest(
            artifact=Artifact(digest=record.digest or ""),
            leaves=leaves,
            schema_digest=schema_digest({c.name: c.type for c in record.columns}),
            definition_hash=record.definition_hash or "",
            descriptor=descriptor,
            environment=environment,
            anchors=record.anchors,
            row_count=record.row_count or 0,
            produced_by=self._run_id,
            produced_at=record.completed_at or "",
            engine_version=self._engine_version,
            table_name=record.table_name,
            recipe=record.recipe,
            version=record.version,
            kind=record.kind.value,
            columns=record.columns,
            tenant=record.tenant,
            source_id=record.source_id,
            model_id=record.model_id,
            derived_from=record.derived_from,
            key=record.key,
            dimensions=record.dimensions,
            order_sensitive=record.order_sensitive,
            seconds=record.seconds or 0.0,
            counts=counts,
            writer=WRITER,
        )


def _clause(error: BaseException) -> str:
    return "interrupted" if isinstance(error, KeyboardInterrupt) else f"{type(error).__name__}: {error}".split("\n")[0][:500]


def _replaced(record: TableRecord, **changes: Any) -> TableRecord:
    return msgspec.structs.replace(record, **changes)
