"""Row-wise work: the one way in which embeddings, words of texts and row maps are computed.

A run reads the rows in key order and takes a digest of each row's inputs. Rows whose digest a
previous version or a checkpoint has are taken over; of the others, each distinct one is computed
once. Finished rows are appended to the checkpoint, which the next run uses if this one does not
publish. What is computed, and where, is a `RowWork`.
"""

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from jammi_lab.catalog.catalog import Catalog
from jammi_lab.core.anchors import Identity, Observed
from jammi_lab.core.errors import DuplicateKey, JammiError, SchemaMismatch, TableDamaged
from jammi_lab.core.manifest import Manifest
from jammi_lab.core.recipes import RecipeValue, definition_hash
from jammi_lab.core.records import CallEstimate, OnProgress, Progress, Reuse, TableStatus
from jammi_lab.engine.prepared_statement import PreparedStatement
from jammi_lab.steps.checkpoint import Checkpoint, CheckpointFolder
from jammi_lab.steps.jobs import RunningJob, TableRows
from jammi_lab.steps.row_digests import Digests, digests_of, to_column
from jammi_lab.storage.files import StoragePath, open_for_reading
from jammi_lab.storage.parquet import open_parquet
from jammi_lab.storage.vector_arrays import (
    RowNumbers,
    find_rows,
    storage_array,
    to_arrow_rows,
    to_keys,
    to_numpy,
)
from jammi_lab.store import manifests, read_leases
from jammi_lab.store.result_files import ResultFiles
from jammi_lab.store.storage_errors import attach_remains

# --------------------------------------------------------------------------------------------------
# The version of a recipe that a new one may take rows from.

_BATCH_ROWS = 1024
"""Rows in memory at a time: a version may be as large as the new one."""


@dataclass(frozen=True)
class PreviousVersion:
    """The version that rows are taken over from. One whose file disappears has no rows."""

    path: StoragePath | None = None
    """Its file; None when there is none."""
    damaged: tuple[int, ...] = ()
    """The newer versions that would be taken instead, if they were not damaged."""

    def columns(self, names: Sequence[str]) -> pa.Table | None:
        """Its first column and those of some names that it has; None without a file."""
        try:
            with self._open() as file:
                present = file.schema_arrow.names
                wanted = [present[0], *(name for name in names if name in present)]
                return file.read(wanted, use_threads=False)
        except FileNotFoundError:
            return None

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Its rows with all columns."""
        with contextlib.suppress(FileNotFoundError), self._open() as file:
            yield from file.iter_batches(_BATCH_ROWS, use_threads=False)

    @contextlib.contextmanager
    def _open(self) -> Iterator[pq.ParquetFile]:
        if self.path is None:
            raise FileNotFoundError("there is no previous version")
        release = read_leases.acquire_lease(self.path)
        try:
            # Without a size of buffers each column would be read by whole row groups.
            with (
                open_for_reading(self.path) as raw,
                open_parquet(raw, 1 << 20) as file,
            ):
                yield file
        finally:
            release()


def find_previous_version(
    catalog: Catalog,
    results: ResultFiles,
    name: str,
    kind: str,
    is_reusable: Callable[[Manifest], bool],
) -> PreviousVersion:
    """The newest ready and intact version of that kind whose manifest is reusable."""
    versions = catalog.result_tables.versions(name)
    if not versions and (shared := catalog.result_tables.newest(name)) is not None:
        versions = [shared]
    damaged: tuple[int, ...] = ()
    for version, record in versions:
        if record.status is not TableStatus.READY or record.kind != kind:
            continue
        manifest = manifests.parse(catalog.result_tables.manifest(record.table_name))
        if manifest is None or not is_reusable(manifest):
            continue
        if results.is_intact(record):
            return PreviousVersion(results.parquet(record), damaged)
        damaged = (*damaged, version.version)
    return PreviousVersion(damaged=damaged)


# --------------------------------------------------------------------------------------------------
# The work on the rows.

ERROR_COLUMN = "_error"
"""The message of an error in place of a row's outputs. Such a row is computed again."""
_CALLS = "calls"
"""The count of a run's calls in its manifest."""
_MAX_EARLIER_RUNS = 10
_SAVE_INTERVAL_SECONDS = 0.01
"""A checkpoint is written at most this often: rows that take longer are saved one by one."""
_PROGRESS_INTERVAL_SECONDS = 0.05


class RowWork(Protocol):
    """What one run computes for rows, and the outputs that it has so far. Rows are numbers, in key
    order."""

    stage: str
    """What progress calls it, before the name of the table."""
    unit: str
    """What it computes: a row, a text."""
    done_word: str
    """What is done with it: computed, encoded."""
    digest_column: str
    """The column of the digests."""
    save_pause: float
    """After the checkpoint was written it is not written for this many times as long."""

    def load(self, columns: Sequence[pa.ChunkedArray]) -> Digests:
        """Receive the inputs of all rows, and return the digest of each. Raises SchemaMismatch."""

    def take_over(self, rows: RowNumbers, outputs: pa.Table) -> None:
        """Receive the known outputs of some rows, with their digests. Raises SchemaMismatch."""

    def compute(self, rows: RowNumbers, keys: pa.Array, /) -> Iterator[int]:
        """Compute the outputs of some rows, and yield after each call for how many. `keys`: those
        of all rows, for errors."""

    def unsaved(self) -> Iterable[tuple[RowNumbers, pa.Table]]:
        """The outputs computed since the last time, with their rows. May be called after an
        error."""

    def outputs(self, same_row: RowNumbers) -> Mapping[str, pa.Array | pa.ChunkedArray]:
        """The output columns of all rows. `same_row`: for each row the one with its outputs."""

    def call_count(self, rows: int) -> int:
        """How many calls compute so many rows."""


class OutputParts:
    """Outputs of rows in tables, as they came."""

    def __init__(self) -> None:
        self.tables: list[pa.Table] = []
        self._rows: list[RowNumbers] = []
        self._unsaved: list[tuple[RowNumbers, pa.Table]] = []

    def add(self, rows: RowNumbers, table: pa.Table, *, is_saved: bool) -> None:
        """Add a table with the outputs of these rows."""
        self.tables.append(table)
        self._rows.append(rows)
        if not is_saved:
            self._unsaved.append((rows, table))

    def take_unsaved(self) -> list[tuple[RowNumbers, pa.Table]]:
        """What was added since the last time and is not saved."""
        unsaved, self._unsaved = self._unsaved, []
        return unsaved

    def positions(self, same_row: RowNumbers) -> pa.Array:
        """Where each row's outputs are in the tables, one after the other."""
        rows = np.concatenate([np.empty(0, np.int64), *self._rows])
        position_of = np.empty(len(same_row), np.int64)
        position_of[rows] = np.arange(len(rows))
        return to_arrow_rows(position_of[same_row])


class RowWiseRun(TableRows):
    """The rows of one run. Columns: key, the outputs, and the digest of the inputs."""

    def __init__(
        self,
        definition: "RowWise",
        work: RowWork,
        previous: PreviousVersion,
        checkpoint: Checkpoint,
    ) -> None:
        super().__init__()
        self._definition, self._work = definition, work
        self._previous, self._checkpoint = previous, checkpoint
        self._digests: Digests = digests_of(())
        self._resumed_count = self._saved_count = self._todo_count = 0
        self._snapshots: dict[Identity, Observed] = {}

    def run(self, on_progress: OnProgress | None) -> RunningJob:
        """Compute all rows that are not known. An error or interrupt leaves a checkpoint.

        Raises SchemaMismatch, DuplicateKey, what the work raises, and what reading raises."""
        keys = self._read()
        try:
            with self._reading_known():
                previous = self._read_previous()
                same_row, todo = self._take_over(previous)
            self._compute(todo, keys, on_progress)
            with self._reading_known():
                outputs = self._work.outputs(same_row)
                digests = {self._work.digest_column: to_column(self._digests)}
                self._table = pa.table({self._definition.key_column: keys, **outputs, **digests})
                reuse = self._count_reuse(keys, previous)
        except BaseException as error:
            self._on_lost(error)
            raise
        return RunningJob(
            self,
            reuse,
            self._on_published,
            self._on_lost,
            self._snapshots,
            {**reuse.counts, _CALLS: self._work.call_count(len(todo))},
            damaged_versions=self._previous.damaged,
        )

    def count_todo(self) -> tuple[int, int]:
        """How many rows a run would compute now, and how many there are. Changes nothing."""
        self._read()
        with self._reading_known():
            sources = self._find_previous(self._read_previous())
            todo = {*self._digests[sources < 0].tolist()}
            for part in self._checkpoint.load():
                todo.difference_update(part[self._work.digest_column].to_pylist())
        return len(todo), len(self._digests)

    @contextlib.contextmanager
    def _reading_known(self) -> Iterator[None]:
        """Raise TableDamaged in the block for known outputs, which may be forged, with other
        columns or types than those of this run."""
        try:
            yield
        except (JammiError, MemoryError):
            raise
        except (LookupError, TypeError, ValueError, OverflowError, pa.ArrowException) as error:
            raise TableDamaged(
                f"What earlier runs of {self._definition.name!r} computed is damaged.",
                hint='cache="bypass" computes all rows without it.',
            ) from error

    def _read(self) -> pa.Array:
        """Read the inputs; returns the keys."""
        table = self._definition.prepared.run_by_key(self._snapshots).table()
        keys = sorted_keys(table.column(0), table.column_names[0])
        self._digests = self._work.load([table.column(n) for n in self._definition.positions])
        return keys

    def _read_previous(self) -> pa.Table:
        """The keys, digests and errors of the previous version; no rows where there is none."""
        names = [self._work.digest_column, ERROR_COLUMN]
        no_rows = [pa.nulls(0), to_column(digests_of(()))]
        return self._previous.columns(names) or pa.table(no_rows, names=["", names[0]])

    def _find_previous(self, previous: pa.Table) -> RowNumbers:
        """For each row the one of the previous version with its outputs; −1 where there is none."""
        column = previous[self._work.digest_column].combine_chunks()
        sources = find_rows(to_column(self._digests), column)
        if ERROR_COLUMN in previous.column_names:
            is_error = to_numpy(previous[ERROR_COLUMN].combine_chunks().is_valid())
            sources[np.isin(sources, np.flatnonzero(is_error))] = -1
        return sources

    def _take_over(self, previous: pa.Table) -> tuple[RowNumbers, RowNumbers]:
        """Take known outputs over. Returns for each row the one with its outputs, and the rows that
        are left to compute."""
        sources = self._find_previous(previous)
        is_known = np.zeros(len(sources), np.bool_)
        for rows, outputs in self._previous_outputs(sources):
            self._work.take_over(rows, outputs)
            is_known[rows] = True
        unknown = np.flatnonzero(~is_known)
        digests = to_column(self._digests[unknown])
        same_row = np.arange(len(sources))
        same_row[unknown] = unknown[find_rows(digests, digests)]
        distinct = unknown[same_row[unknown] == unknown]
        todo = self._take_over_checkpoint(distinct)
        self._resumed_count, self._todo_count = len(distinct) - len(todo), len(todo)
        return same_row, todo

    def _previous_outputs(self, sources: RowNumbers) -> Iterator[tuple[RowNumbers, pa.Table]]:
        """Yield rows with their outputs. `sources`: where these are in the previous version."""
        order = np.argsort(sources, kind="stable")
        sources = sources[order]
        first, start = 0, int(np.searchsorted(sources, 0))
        if start == len(sources):
            return
        for batch in self._previous.batches():
            end = int(np.searchsorted(sources, first + len(batch)))
            if start < end:
                outputs = pa.Table.from_batches([batch]).drop_columns(batch.schema.names[:1])
                yield order[start:end], outputs.take(to_arrow_rows(sources[start:end] - first))
            first, start = first + len(batch), end

    def _take_over_checkpoint(self, rows: RowNumbers) -> RowNumbers:
        """Take outputs of the checkpoint over. Returns the rows that are left."""
        row_of = dict(zip(self._digests[rows].tolist(), rows.tolist(), strict=True))
        for part in self._checkpoint.load():
            digests = part[self._work.digest_column].to_pylist()
            found = np.array([row_of.pop(digest, -1) for digest in digests], np.int64)
            outputs = part.take(to_arrow_rows(np.flatnonzero(found >= 0)))
            self._work.take_over(found[found >= 0], outputs)
        return np.fromiter(row_of.values(), np.int64, len(row_of))

    def _compute(self, todo: RowNumbers, keys: pa.Array, on_progress: OnProgress | None) -> None:
        started_at = next_report = time.monotonic()
        next_save, done = started_at + _SAVE_INTERVAL_SECONDS, 0
        for count in self._work.compute(todo, keys):
            done += count
            now = time.monotonic()
            if on_progress and (now >= next_report or done == len(todo)):
                next_report = now + _PROGRESS_INTERVAL_SECONDS
                seconds = now - started_at
                on_progress(
                    Progress(
                        stage=f"{self._work.stage} {self._definition.name}",
                        done=done,
                        total=len(todo),
                        unit=f"{self._work.unit}s",
                        rate=done / seconds if seconds else None,
                    )
                )
            if (save_started := time.monotonic()) >= next_save:
                self._save()
                saved_at = time.monotonic()
                pause_seconds = (saved_at - save_started) * self._work.save_pause
                next_save = saved_at + max(_SAVE_INTERVAL_SECONDS, pause_seconds)

    def _save(self) -> None:
        for rows, outputs in self._work.unsaved():
            digests = to_column(self._digests[rows])
            if self._checkpoint.append(outputs.append_column(self._work.digest_column, digests)):
                self._saved_count += len(rows)

    def _on_lost(self, error: BaseException) -> None:
        """Keep what was computed, after the run failed with `error`."""
        self._save()
        self._checkpoint.flush()
        self._checkpoint.close()
        if kept := self._resumed_count + self._saved_count:
            total = self._resumed_count + self._todo_count
            done = f"{self._work.unit}s are {self._work.done_word}"
            clause = f"{kept:,} of {total:,} {done} and saved for the next run"
            attach_remains(error, clause)
            if isinstance(error, JammiError):
                error.hint = f"{error.hint} {clause}.".lstrip()
        self.release()

    def _on_published(self) -> None:
        self._checkpoint.remove()
        self.release()

    def release(self) -> None:
        """Drop all rows."""
        super().release()
        del self._work

    def _count_reuse(self, keys: pa.Array, previous: pa.Table) -> Reuse:
        """Compare the rows with those of the previous version, by key."""
        previous_rows = find_rows(keys, previous.column(0).combine_chunks())
        known = np.flatnonzero(previous_rows >= 0)
        digests = previous[self._work.digest_column].take(to_arrow_rows(previous_rows[known]))
        is_equal = pc.equal(digests, to_column(self._digests[known]))
        unchanged = pc.sum(is_equal).as_py() or 0
        errors = 0
        if ERROR_COLUMN in self._table.column_names:
            errors = len(keys) - self._table[ERROR_COLUMN].null_count
        return Reuse(
            new=len(keys) - len(known),
            changed=len(known) - unchanged,
            removed=len(previous) - len(known),
            unchanged=unchanged,
            encoded_before=self._resumed_count,
            errors=errors,
        )


@dataclass(frozen=True)
class RowWise:
    """Row-wise work over the rows of a statement, for one recipe."""

    catalog: Catalog
    results: ResultFiles
    name: str
    """The name of the recipe."""
    recipe: RecipeValue
    environment: Mapping[str, Any]
    prepared: PreparedStatement
    """Gives the rows, in key order; its first output column is the key."""
    positions: Sequence[int]
    """The output columns of the statement that are inputs."""
    key_column: str
    """What the key is called in the table."""
    new_work: Callable[[], RowWork]
    is_reusable: Callable[[Manifest], bool]
    """Whether equal inputs of a version have equal outputs."""
    ignore_known: bool = False
    """Whether all rows are computed."""

    def start(self, on_progress: OnProgress | None) -> RunningJob:
        """Compute the rows. Raises as `RowWiseRun.run`."""
        CheckpointFolder(self.catalog, self.results).remove_old()
        checkpoint = self._checkpoint()
        if self.ignore_known:
            checkpoint.remove()
        return self._run(self.new_work(), checkpoint).run(on_progress)

    def estimate(self, cost: float | None = None) -> CallEstimate:
        """What a run would compute now. `cost`: that of a call. Reads the inputs; raises what
        reading raises."""
        work = self.new_work()
        todo, rows = self._run(work, self._checkpoint()).count_todo()
        calls = work.call_count(todo)
        total_cost = None if cost is None else calls * cost
        return CallEstimate(todo, rows, calls, self._seconds_of(calls), total_cost, work.unit)

    def _seconds_of(self, calls: int) -> float | None:
        """The duration of so many calls, in proportion to the largest of the newest runs; None
        without one."""
        runs = []
        for _, record in self.catalog.result_tables.versions(self.name)[:_MAX_EARLIER_RUNS]:
            manifest = manifests.parse(self.catalog.result_tables.manifest(record.table_name))
            if manifest is not None and manifest.counts.get(_CALLS):
                runs.append((manifest.counts[_CALLS], manifest.seconds))
        if not runs:
            return None
        largest, seconds = max(runs)
        return seconds * calls / largest

    def _checkpoint(self) -> Checkpoint:
        definition = definition_hash(self.recipe, self.environment)
        inputs = [bound.relation for bound in self.prepared.inputs]
        return CheckpointFolder(self.catalog, self.results).checkpoint(definition, inputs)

    def _run(self, work: RowWork, checkpoint: Checkpoint) -> RowWiseRun:
        previous = PreviousVersion()
        if not self.ignore_known:
            previous = find_previous_version(
                self.catalog, self.results, self.name, self.recipe.kind, self.is_reusable
            )
        return RowWiseRun(self, work, previous, checkpoint)


def sorted_keys(column: pa.ChunkedArray, name: str) -> pa.Array:
    """The keys, which come sorted. Raises SchemaMismatch for a NULL, DuplicateKey for equal
    keys."""
    if column.null_count:
        raise SchemaMismatch(
            f"{column.null_count:,} of {len(column):,} rows have no key in {name!r}.",
            column=name,
            expected="a key in every row",
            actual="NULL",
            hint=f"Leave them out: where='{name} IS NOT NULL'.",
        )
    keys = to_keys(column, name)
    storage = storage_array(keys)
    equals_previous = pc.equal(storage[1:], storage[:-1])
    if pc.any(equals_previous).as_py():
        duplicates = keys[1:].filter(equals_previous).slice(0, 50).to_pylist()
        distinct_duplicates = list(dict.fromkeys(duplicates))[:5]
        raise DuplicateKey(
            f"The key {name!r} is not unique: {', '.join(map(repr, distinct_duplicates))}.",
            keys=distinct_duplicates,
            hint="Choose a column that identifies a row.",
        )
    return keys
