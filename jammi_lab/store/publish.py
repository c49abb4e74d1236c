"""Publication of result tables: the only way from `building` to `ready`.

Parquet file and manifest are made durable, then one catalog transaction compares and sets the
status. A blocking check that does not pass on the sealed bytes ends as `rejected`, with the bytes
and without a manifest. Any other failure ends as `failed`, without files.
"""

import contextlib
import hashlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import pyarrow as pa

from jammi_lab.catalog.catalog import Catalog
from jammi_lab.catalog.table_status import AlreadyBuilding, AlreadyReady
from jammi_lab.core.anchors import Anchor, schema_digest
from jammi_lab.core.checks import Audit
from jammi_lab.core.clock import Clock, rfc3339
from jammi_lab.core.errors import (
    CheckFailed,
    DuplicateTable,
    JammiError,
    LostOwnership,
    message_of,
)
from jammi_lab.core.identifiers import physical_name
from jammi_lab.core.interrupts import attempts
from jammi_lab.core.manifest import Artifact, Increment, InputFiles, Leaf, Manifest
from jammi_lab.core.records import TableRecord, TableStatus, VersionRecord
from jammi_lab.engine.duckdb_errors import stopped_error
from jammi_lab.storage.digests import digest_parquet
from jammi_lab.storage.files import (
    AtomicFile,
    BackgroundFsync,
    atomic_file,
    commit_with,
    fault_point,
    make_folder,
    write_atomic,
)
from jammi_lab.storage.parquet import WRITER, ParquetSink
from jammi_lab.store import manifests
from jammi_lab.store.completed_records import attested_fields, completed_record
from jammi_lab.store.result_files import ResultFiles, remove_table_files
from jammi_lab.store.sidecars import PARTIAL_SUMS_SUFFIX, sidecar_path
from jammi_lab.store.storage_errors import remains_of, storage_error

__all__ = ["AlreadyBuilding", "AlreadyReady", "Publisher", "TableWriter"]

_CLOSE_TIMEOUT_SECONDS, POLL_SECONDS = 10.0, 0.02
"""How long closing waits for running builds. A build that takes longer to notice is settled at the
next open."""


class Derivation(NamedTuple):
    """How the rows of a table came from the files of its inputs."""

    files: Sequence[InputFiles] = ()
    """The files that were read, of inputs that are file sets."""
    increment: Increment | None = None
    """The increment by which it was computed; None for a full computation."""
    partial_sums: bytes | None = None
    """The file of partial sums beside the table, by which an increment continues its sums."""


_IN_FULL = Derivation()


class TableWriter:
    """Writer of one table: `write` batches, then `seal` and `publish`, or `abort`.

    Each step raises ResourceExhausted or WorkspaceReadOnly when the disk fails, LostOwnership when
    another writer settled the row.
    """

    def __init__(
        self,
        publisher: "Publisher",
        record: TableRecord,
        schema: pa.Schema,
        started_at: float | None = None,
    ) -> None:
        self._publisher, self.record = publisher, record
        self.path = publisher.results.parquet(record)
        with self._publisher.typed_errors(self.record):
            make_folder(self.path.parent, inside=publisher.results.root)
        self._started = publisher.clock.monotonic() if started_at is None else started_at
        self._file = atomic_file(self.path, create=True)
        self._sink = ParquetSink(self._file.temp, schema)
        self.rows = 0

    def write(self, batch: pa.RecordBatch) -> None:
        """Append a batch. Raises SchemaMismatch when it does not have the schema."""
        with self._publisher.typed_errors(self.record):
            self._sink.write(batch)
        self.rows += batch.num_rows

    def seal(self) -> Path:
        """Close the Parquet file, and return where it can be read until publication. Only `publish`
        or `abort` may follow."""
        with self._publisher.typed_errors(self.record):
            self.rows = self._sink.close()
            if isinstance(self._file, AtomicFile):
                self._file.finish()  # fsync in the background while the caller reads the bytes
            fault_point("publish:sealed")
        return self._file.temp

    def publish(
        self,
        types: dict[str, str],
        descriptor: dict[str, Any],
        environment: dict[str, Any],
        anchors: list[Anchor],
        counts: Mapping[str, int] | None = None,
        derivation: Derivation = _IN_FULL,
        raise_if_unwanted: Callable[[], object] = bool,
        audit: Callable[[TableRecord], Audit] = lambda _: Audit(),
    ) -> TableRecord:
        """Make the sealed table ready and return its row; or raise what `audit` returns as the
        failure of a blocking check, and leave the table as rejected.

        `types` are the SQL types of the columns as read from the file; `counts` counts input
        rows that do not contribute. `raise_if_unwanted` is called in the publishing transaction,
        and raises to cancel it. `audit` runs the checks of the table on the sealed bytes, before
        they have a manifest, which is what recovery promotes.
        """
        with self._publisher.typed_errors(self.record):
            digests = digest_parquet(self._file.temp, self._sink.footer)
            record = completed_record(
                self.record,
                self.rows,
                digests,
                types,
                anchors,
                completed_at=rfc3339(self._publisher.clock.now_ns()),
                seconds=round(self._publisher.clock.monotonic() - self._started, 6),
            )
            audited = audit(record)
            if audited.failure is not None:
                self._reject(record, audited, audited.failure, raise_if_unwanted)
            body = self._publisher.build_manifest(
                record,
                digests.leaves,
                descriptor,
                environment,
                dict(counts or {}),
                derivation,
            ).encode_sealed()
            # Recovery promotes a table that has a manifest: its results must be stored before.
            if audited.results:
                self._publisher.catalog.checks.add_results(audited.results)
            if derivation.partial_sums is not None:
                if (row_sync := self._publisher.row_sync(self.record)) is not None:
                    row_sync.wait()
                partial_path = sidecar_path(self.path, PARTIAL_SUMS_SUFFIX)
                write_atomic(partial_path, derivation.partial_sums)
            # The row was committed without a sync. No file gets its name before it is durable: else
            # a power failure could leave a complete table without a row. And no ready row is
            # durable before the names of its files.
            commit_with(
                self._file,
                manifests.manifest_path(self.path),
                body,
                self._publisher.row_sync(self.record),
            )
            fault_point("publish:manifest-durable")
            record = record.with_values(manifest_digest=manifests.digest(body))
            with self._publisher.catalog.transaction():
                raise_if_unwanted()
                self._publisher.require_complete(record.tenant, record.recipe, audited)
                self._publisher.catalog.table_status.publish(record, body)
                # Observations of the inputs. The table itself has none yet: so recent a stat proves
                # nothing.
                self._publisher.results.cache.save()
            fault_point("publish:ready")
            return record

    def _reject(
        self,
        record: TableRecord,
        audited: Audit,
        failure: CheckFailed,
        raise_if_unwanted: Callable[[], object],
    ) -> NoReturn:
        """Keep the bytes of a table that a blocking check did not pass, and raise its failure. They
        get no manifest, so that neither recovery nor a rebuilt catalog can make them ready."""
        if (row_sync := self._publisher.row_sync(self.record)) is not None:
            row_sync.wait()
        self._file.commit()
        fault_point("publish:rejected-durable")
        with self._publisher.catalog.transaction():
            raise_if_unwanted()
            self._publisher.catalog.checks.add_results(audited.results)
            self._publisher.catalog.table_status.reject(record, failure.message)
        fault_point("publish:rejected")
        raise failure

    def abort(self) -> None:
        """Close and remove the unfinished file."""
        with contextlib.suppress(OSError):  # settling the row removes the files again
            self._sink.abort()
            self._file.abort()


class Publisher:
    """Starts and publishes the builds of one writer."""

    def __init__(
        self,
        catalog: Catalog,
        results: ResultFiles,
        clock: Clock,
        writer_id: str,
        run_id: str,
        engine_version: str,
    ) -> None:
        self.catalog, self.results, self.clock = catalog, results, clock
        self._writer_id, self._run_id, self._engine_version = writer_id, run_id, engine_version
        self._pending_cleanup: dict[str, tuple[TableRecord, str]] = {}
        self._running: dict[str, str] = {}
        """Definition hashes of running builds, by table name."""
        self._row_syncs: dict[str, BackgroundFsync | None] = {}
        """The background sync of the catalog row of each running build, by table name."""
        self._stopping = False

    @contextlib.contextmanager
    def build_row(
        self,
        order: TableRecord,
        source_part: str,
        model_key: str | None = None,
        rejected: Collection[str] | None = None,
        keep_recipe: Callable[[], object] = bool,
    ) -> Iterator[TableRecord]:
        """Context manager for the build of one table. On entry it creates a `building` row with
        name, path, version and writer. An exception or interrupt leaves a `failed` row and no
        files.

        `rejected` are the ready tables of the definition that were rejected for reuse; None
        builds in any case. `keep_recipe` is called in the transaction of the row. Raises
        what it raises; `AlreadyBuilding` when another build of the same definition can
        be awaited, `AlreadyReady` when one has just ended; ModelNotFound when the registered
        model with that key is gone; SessionClosed while the workspace is closing.
        """
        if self._stopping:
            raise stopped_error()
        record = self._new_record(order, source_part)
        self.retry_cleanup()
        # Without its lock this writer would count as dead, and recovery settle the row below.
        self.catalog.writers.reacquire_lost()
        self._running[record.table_name] = record.definition_hash or ""
        row = None
        try:
            with self.catalog.database.write_without_fsync():
                keep_recipe()
                begun = self.catalog.table_status.begin(record, model_key, rejected)
            row = begun  # is committed
            with self.typed_errors(record):
                # The row is synced in the background while the rows are computed.
                self._row_syncs[record.table_name] = self.catalog.database.start_sync()
            fault_point("publish:building")
            yield row
        except (AlreadyBuilding, AlreadyReady, DuplicateTable):
            raise  # `begin` refused: there is no row to mark as failed and there are no files
        except BaseException as error:
            if isinstance(error, CheckFailed) and self._is_rejected(record):
                raise
            reason = self._failure_reason(record, error)
            # Recorded first: if an interrupt stops the cleanup below, `retry_cleanup` repeats it.
            self._pending_cleanup[record.table_name] = (record, reason)
            ownership_error = (
                None if row is None else self._underlying_ownership_error(record, error)
            )
            if self._mark_failed(record, reason) and isinstance(error, KeyboardInterrupt):
                error.add_note(f"{order.recipe!r} was not computed; {remains_of(error)}.")
            if ownership_error is not None:
                # Whoever settled the row removed the files; errors for want of them are secondary.
                raise ownership_error from error
            raise
        finally:
            self._running.pop(record.table_name, None)
            self._row_syncs.pop(record.table_name, None)

    def row_sync(self, record: TableRecord) -> BackgroundFsync | None:
        """The sync of a build's catalog row, which must be complete before any file gets its name;
        None when it already is."""
        return self._row_syncs.get(record.table_name)

    def stop(self) -> None:
        """Refuse new builds."""
        self._stopping = True

    def wait_idle(self, except_for: Collection[str]) -> None:
        """Wait, with a time limit, until no build is running except those of some definitions, and
        failed ones are cleaned up."""
        for _ in attempts(_CLOSE_TIMEOUT_SECONDS, pause=POLL_SECONDS):
            if all(definition in except_for for definition in list(self._running.values())):
                return

    def _failure_reason(self, record: TableRecord, error: BaseException) -> str:
        """The recorded reason of a failure. An error may quote a row, so only its class is recorded
        while its tenant has ephemeral sessions, of which nothing may remain."""
        try:
            is_confidential = record.tenant is not None and bool(self.catalog.sessions.list())
        except JammiError:
            is_confidential = True
        return (
            type(error).__name__
            if is_confidential and isinstance(error, Exception)
            else _error_clause(error)
        )

    def _new_record(self, order: TableRecord, source_part: str) -> TableRecord:
        name = physical_name(source_part, order.kind, order.model_id, self.clock)
        tenant = self.catalog.scope.tenant
        return order.with_values(
            table_name=name,
            status=TableStatus.BUILDING,
            tenant=tenant,
            writer_id=self._writer_id,
            path=self.results.relative_path(name, tenant),
            created_at=rfc3339(self.clock.now_ns()),
        )

    def require_complete(self, tenant: str | None, recipe: str, audited: Audit) -> None:
        """Raise LostOwnership, in the transaction that makes a version the newest, when a blocking
        check was added since its audit."""
        if not audited.covers(self.catalog.checks.of_recipe(tenant, recipe)):
            raise LostOwnership(
                f"A check was added to {recipe!r} while it was being built; nothing was published.",
                hint="Run it again; the check is then part of it.",
            )

    def reuse(self, recipe: str, table_name: str, audited: Audit) -> VersionRecord:
        """A new version of the recipe that refers to a ready table, which passed its checks; the
        newest version if it is that already. Raises TableNotFound when it is no longer ready;
        LostOwnership when the recipe is gone, or as `require_complete`."""
        with self.catalog.transaction():
            existing = self.catalog.recipes.get(recipe)
            if existing is None or existing.tenant != self.catalog.scope.tenant:
                raise LostOwnership(
                    f"The recipe {recipe!r} was dropped or renamed while a reusable table was "
                    "searched for; nothing was changed.",
                    hint="Run it again if it is still needed.",
                )
            newest = self.catalog.result_tables.newest_of_owner(existing.tenant, recipe)
            if newest is None or newest[1].table_name != table_name:
                self.require_complete(existing.tenant, recipe, audited)
                self.catalog.checks.add_results(audited.results)
            return self.catalog.table_status.reuse(recipe, table_name)

    @contextlib.contextmanager
    def open_writer(
        self,
        row: TableRecord,
        schema: pa.Schema,
        started_at: float | None = None,
    ) -> Iterator[TableWriter]:
        """Context manager that writes the bytes of a table being built. `started_at` is the
        start of the build on the monotonic clock (None: now)."""
        writer = TableWriter(self, row, schema, started_at)
        try:
            yield writer
        except BaseException:
            writer.abort()
            raise

    def retry_cleanup(self) -> bool:
        """Repeat cleanups that failed because the disk was full or a second interrupt came. Returns
        whether none is left."""
        for record, reason in list(self._pending_cleanup.values()):
            self._mark_failed(record, reason)
        return not self._pending_cleanup

    def has_failed(self, record: TableRecord) -> bool:
        """Whether a row that seems to be building is a failed build of this kernel, which the
        catalog could not record."""
        return record.table_name in self._pending_cleanup

    @contextlib.contextmanager
    def typed_errors(self, record: TableRecord) -> Iterator[None]:
        """Context manager that raises OSErrors about a table being built as typed errors:
        LostOwnership when another writer removed its files, else as `storage_error`."""
        try:
            yield
        except OSError as error:
            lost = self.ownership_error(record) if isinstance(error, FileNotFoundError) else None
            raise lost or storage_error(error, record.recipe) from error

    def ownership_error(self, record: TableRecord) -> LostOwnership | None:
        """The error to raise when the row no longer belongs to this writer; None when it does."""
        row = self._row(record)
        if (
            row is not None
            and row.status is TableStatus.BUILDING
            and row.writer_id == record.writer_id
        ):
            return None
        return LostOwnership(
            f"The table {record.table_name!r} was completed or removed by another kernel "
            "while it was being built; nothing was published.",
            hint="Run it again; the other kernel's table is reused if it is the same.",
        )

    def _underlying_ownership_error(
        self, record: TableRecord, error: BaseException
    ) -> LostOwnership | None:
        """As `ownership_error`, when a less specific error of ours or of the disk occurred; None
        when the catalog cannot be read."""
        if isinstance(error, (JammiError, OSError)) and not isinstance(error, LostOwnership):
            with contextlib.suppress(JammiError):
                return self.ownership_error(record)
        return None

    def _is_rejected(self, record: TableRecord) -> bool:
        row = self._row(record)
        return row is not None and row.status is TableStatus.REJECTED

    def _mark_failed(self, record: TableRecord, reason: str) -> bool:
        """Mark the table as failed and remove its files. Returns whether both was done. The row
        comes first: files of a row that became ready, or that another writer settles, must stay."""
        cleaned_up = False
        # After an error it stays recorded, and recovery settles it in the end.
        with contextlib.suppress(JammiError, OSError):
            failed = self.catalog.table_status.mark_failed(
                record.table_name, record.writer_id, reason
            )
            cleaned_up = (
                failed or (row := self._row(record)) is None or row.status is TableStatus.FAILED
            )
            if cleaned_up:
                fault_point("publish:failed")
                remove_table_files(self.results.parquet(record))
            self._pending_cleanup.pop(record.table_name, None)
        return cleaned_up

    def _row(self, record: TableRecord) -> TableRecord | None:
        with self.catalog.all_tenants():
            return self.catalog.result_tables.get(record.table_name)

    def build_manifest(
        self,
        record: TableRecord,
        leaves: list[Leaf],
        descriptor: dict[str, Any],
        environment: dict[str, Any],
        counts: dict[str, int],
        derivation: Derivation = _IN_FULL,
    ) -> Manifest:
        """The manifest that corresponds to the row, field by field."""
        return Manifest(
            artifact=Artifact(digest=record.digest or ""),
            leaves=leaves,
            schema_digest=schema_digest({c.name: c.type for c in record.columns}),
            definition_hash=record.definition_hash or "",
            descriptor=descriptor,
            environment=environment,
            row_count=record.row_count or 0,
            produced_by=self._run_id,
            produced_at=record.completed_at or "",
            engine_version=self._engine_version,
            seconds=record.seconds or 0.0,
            **attested_fields(record),
            counts=counts,
            input_files=list(derivation.files),
            increment=derivation.increment,
            partial_sums=hashlib.sha256(derivation.partial_sums).hexdigest()
            if derivation.partial_sums is not None
            else "",
            writer=WRITER,
        )


def _error_clause(error: BaseException) -> str:
    """The first line of an error, as a run reports it; with its class unless it is one of ours."""
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    text = message_of(error)
    if not isinstance(error, JammiError):
        text = f"{type(error).__name__}: {text}"
    return text.split("\n")[0][:500]
