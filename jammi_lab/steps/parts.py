"""Parts: a statement over many files is computed by the workers of a cluster, each over some of the
files, and merged in this kernel by the rule of increments (`engine/sql/append_algebra.py`).

A worker reads the files itself. It has the statement as this kernel bound it, and the credentials
of its sources as long as the task lives: they are in no key, no representation and no result, which
Dask may write to logs and disks. Whatever a worker cannot do as this kernel would is computed here:
errors, too, are then those of a run in this kernel.
"""

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, groupby

import duckdb
import pyarrow as pa

from jammi_lab.core.anchors import source_input
from jammi_lab.core.errors import JammiError
from jammi_lab.core.manifest import Parts
from jammi_lab.core.records import OnProgress, percent_callback
from jammi_lab.core.settings import Settings
from jammi_lab.core.version import __version__
from jammi_lab.engine.engine import Engine
from jammi_lab.engine.prepared_statement import PreparedStatement
from jammi_lab.engine.sql.append_algebra import AppendRule, NotIncremental
from jammi_lab.sources.base import InputRead, NotAppended, ReadFile, ReadPlan, Relation
from jammi_lab.steps.executor import Executor
from jammi_lab.steps.increment import (
    ComputedRows,
    IncrementalStatement,
    PartialSums,
    check_partition_columns,
)
from jammi_lab.steps.jobs import spool
from jammi_lab.storage.files import Stat, stat_of

PART_BYTES = 64_000_000
"""A part has about so many bytes of files: enough that starting it costs little, and few enough
that it is soon done again or given up."""
RELEASE = (__version__, duckdb.__version__)


@dataclass(frozen=True)
class PlannedParts:
    """A statement in parts."""

    rule: AppendRule
    read: InputRead
    """The input whose files are divided."""
    parts: Sequence[Sequence[ReadFile]]
    """The files of each part, in the order of their rows."""
    bodies: Sequence[ReadPlan]
    """How the files of each part are read."""
    shared: Sequence[ReadFile]
    """The files of all other inputs, which every worker reads."""

    @property
    def record(self) -> Parts:
        """The entry of the manifest."""
        files = [[file.name for file in part] for part in self.parts]
        return Parts(rule=self.rule.kind, source=self.read.relation.input.name, files=files)


def plan_parts(
    incremental: IncrementalStatement, executor: Executor, settings: Settings
) -> PlannedParts:
    """The parts in which workers compute a statement. Raises NotIncremental with the reason why
    this kernel does; SourceUnavailable."""
    reads = incremental.query.inputs
    by_input = [_files_of(read) for read in reads]
    counts = [len(divide(files, 1)) for files in by_input]
    if max(counts, default=0) < 2:
        raise NotIncremental("it is as quick")
    largest = counts.index(max(counts))
    read, threads = reads[largest], executor.threads
    rule = incremental.rule(read.relation.input.identity)
    if rule.keeps_order and read.relation.read.added_since is not None:
        raise NotIncremental("the order of its files is not known")
    if threads < (settings["engine.threads"] or os.cpu_count() or 1):
        raise NotIncremental("the cluster has fewer threads than this kernel")
    check_partition_columns(file.name for file in by_input[largest])
    shared = [file for files in by_input if files is not by_input[largest] for file in files]
    parts = divide(by_input[largest], threads)
    bodies = [incremental.read_of_files(read, [f.address for f in files]) for files in parts]
    return PlannedParts(rule, read, parts, bodies, shared)


def _files_of(read: InputRead) -> Sequence[ReadFile]:
    """The files of an input, as a worker reads them. Raises NotIncremental, SourceUnavailable."""
    relation = read.relation
    if relation.read.files is None or relation.requirements.filesystem is not None:
        raise NotIncremental(f"only this kernel can read {relation.input.label}")
    try:
        return relation.read.files()
    except NotAppended as error:
        raise NotIncremental(f"{relation.input.label}: {error}") from None


def divide(files: Sequence[ReadFile], threads: int) -> list[list[ReadFile]]:
    """Runs of files with equal shares of the bytes, about `PART_BYTES` at most: so many that all
    threads have work to the end."""
    ends = list(accumulate(file.size for file in files))
    total = max([1, *ends])
    count = -(-total // PART_BYTES)
    if count > 1:
        count += -count % min(threads, 4 * count)
    runs = groupby(zip(files, ends, strict=True), lambda each: (each[1] * count - 1) // total)
    return [[file for file, _ in run] for _, run in runs]


def start_parts(
    planned: PlannedParts,
    incremental: IncrementalStatement,
    executor: Executor,
    settings: Settings,
    on_progress: OnProgress | None,
) -> ComputedRows | PartialSums:
    """Compute all parts on the workers, and merge them. Raises NotIncremental when this kernel has
    to compute the statement, SourceUnavailable when the cluster is lost."""
    with contextlib.ExitStack() as leases:
        for each in incremental.query.inputs:
            if each.relation.acquire is not None:
                leases.callback(each.relation.acquire())
        tasks = list(_tasks(planned, incremental, settings))
        try:
            rows = gather(executor, tasks, on_progress)
        except (JammiError, NotIncremental):
            raise
        except Exception as error:  # noqa: BLE001  of a worker of another release, or without the package
            raise NotIncremental(f"the cluster failed with {type(error).__name__}") from None
    columns = [name for name, _ in incremental.query.output]
    frame = ReadPlan(frame=rows.rename_columns(columns))
    return incremental.merge(planned.rule, Relation(source_input(""), frame))


def gather(
    executor: Executor, tasks: "Sequence[PartTask]", on_progress: OnProgress | None
) -> pa.Table:
    """The rows of all parts. Raises what a part raises, SourceUnavailable, OSError."""
    report_percent = percent_callback(on_progress)

    def reported(results: Iterator[pa.Table]) -> Iterator[pa.Table]:
        for done, rows in enumerate(results, start=1):
            yield rows
            if report_percent is not None:
                report_percent(100 * done / len(tasks))

    with contextlib.closing(executor.map(compute_part, tasks)) as results:
        return spool(reported(results))


def _tasks(
    planned: PlannedParts, incremental: IncrementalStatement, settings: Settings
) -> "Iterator[PartTask]":
    identity = planned.read.relation.input.identity
    keys = ("engine.timezone", "engine.float_sums")
    for files, read in zip(planned.parts, planned.bodies, strict=True):
        paths = [file.path for file in (*files, *planned.shared) if file.path]
        yield PartTask(
            RELEASE,
            {key: settings[key] for key in keys},
            incremental.query.over_part(planned.rule, identity, read),
            {path: _stat_anywhere(path) for path in paths},
        )


def _stat_anywhere(path: str) -> Stat | None:
    """The stat of a file as it is on every machine that has its disk; None where there is none."""
    stat = stat_of(path)
    return None if stat is None else stat.with_values(device=0)


# -- on a worker


@dataclass(frozen=True, repr=False)
class PartTask:
    """What a worker needs to compute a part. Dask logs its representation, which is empty."""

    release: tuple[str, str]
    """The releases of jammi_lab and DuckDB."""
    settings: Mapping[str, str]
    """The settings that shape rows."""
    statement: PreparedStatement
    """The statement over the part."""
    stats: Mapping[str, Stat | None]
    """The local files that it reads, as the kernel sees them."""


def compute_part(task: PartTask) -> pa.Table:
    """The rows of a part. Raises NotIncremental when this worker does not read what the kernel
    observed, or fails."""
    if task.release != RELEASE:
        raise NotIncremental("a worker has another release of jammi_lab or DuckDB")
    # one thread: Dask runs as many parts at a time as the worker has threads
    engine = Engine(Settings({**task.settings, "engine.threads": 1}))
    try:
        _check_files(task.stats)
        rows = task.statement.run_part(engine).table()
        _check_files(task.stats)
        return rows
    except NotIncremental:
        raise
    except Exception as error:  # noqa: BLE001  no text of any of them is for a log of Dask
        raise NotIncremental(f"a worker failed with {type(error).__name__}") from None
    finally:
        engine.close()


def _check_files(stats: Mapping[str, Stat | None]) -> None:
    """Raise NotIncremental unless the paths are the files that the kernel observed."""
    for path, stat in stats.items():
        if stat is None or _stat_anywhere(path) != stat:
            raise NotIncremental(
                f"a worker does not see {os.path.basename(path)} as this kernel does"
            )
