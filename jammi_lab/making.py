"""Making tables: the verbs of a workspace that end in a new version of a recipe."""

import contextlib
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal

from jammi_lab.errors import InvalidArgument, WorkspaceReadOnly
from jammi_lab.handles import ResultTable, Tables
from jammi_lab.naming import Naming
from jammi_lab.producers.base import Job, produce
from jammi_lab.sensing.questions import Questions
from jammi_lab.sensing.reports import OnProgress
from jammi_lab.values.records import Progress
from jammi_lab.wiring import Rooms


class Making(Tables):
    """The part of a Workspace that makes tables."""

    _rooms: Rooms
    _naming: Naming
    _questions: Questions
    default_progress: Callable[[Progress], None] | None

    def materialize(
        self,
        name: str,
        sql: str,
        *,
        params: Mapping[str, Any] | None = None,
        key: str | Sequence[str] | None = None,
        cache: Literal["use", "bypass"] = "use",
        refresh: Literal["no", "inputs"] = "no",
        progress: OnProgress = None,
    ) -> ResultTable:
        """Make the statement's rows the next version of the recipe `name`, or answer with a ready table that is the same.

        `key`: columns that identify a row (checked). `refresh="inputs"` makes stale inputs true first. Raises as `sql` does, and NameInvalid,
        DependencyCycle, DuplicateKey, SchemaMismatch. Interrupted or failed, nothing is left behind.
        """
        job = self._rooms.producers.sql.job(sql, params or {}, names_of(key))
        return self._make(name, job, cache, refresh, progress)

    def _cell_materialize(
        self, name: str, sql: str, params: Mapping[str, Any], key: Sequence[str], cache: Literal["use", "bypass"], progress: OnProgress = None
    ) -> ResultTable:
        return self._make(name, self._rooms.producers.sql.job(sql, params, key, [self._rooms.frames]), cache, "no", progress)

    def register(
        self,
        name: str,
        frame: Any,
        *,
        producer: str,
        params: Mapping[str, Any] | None = None,
        inputs: Sequence[str] = (),
        key: str | Sequence[str] | None = None,
        cache: Literal["use", "bypass"] = "use",
        refresh: Literal["no", "inputs"] = "no",
        progress: OnProgress = None,
    ) -> ResultTable:
        """Take rows that were computed elsewhere as the next version of `name`; they go stale when `inputs` (sources, recipes) move.

        Raises NameInvalid, TableNotFound, SchemaMismatch, DuplicateKey, DependencyCycle.
        """
        from jammi_lab.sources.frames import as_arrow

        job = self._rooms.producers.external.job(as_arrow(frame), producer, params or {}, inputs, names_of(key))
        return self._make(name, job, cache, refresh, progress)

    def define(self, name: str, sql: str, *, params: Mapping[str, Any] | None = None, key: str | Sequence[str] | None = None) -> None:
        """Give a recipe a definition without running it. Raises as `materialize` does."""
        self._writable()
        self._naming.define(name, self._rooms.producers.sql.job(sql, params or {}, names_of(key)))

    def lookup(self, sql: str, *, params: Mapping[str, Any] | None = None) -> ResultTable | None:
        """The ready table that answers this exact definition over its inputs as they are now; computes nothing."""
        return self._naming.lookup(self._rooms.producers.sql.job(sql, params or {}, ()))

    def _make(self, name: str, job: Job, cache: str, refresh: str, progress: OnProgress) -> ResultTable:
        if cache not in ("use", "bypass"):
            raise InvalidArgument(f'cache is "use" or "bypass", not {cache!r}.')
        if refresh not in ("no", "inputs"):
            raise InvalidArgument(f'refresh is "no" or "inputs", not {refresh!r}.')
        self._writable()
        self._naming.check(name, job)
        report = self._progress(progress)
        if refresh == "inputs":
            self._questions.refresh(job, report)
        made = produce(self._rooms.kitchen, name, job, bypass=cache == "bypass", on_progress=report)
        return ResultTable(self, made.version, made.record, made.outcome, made.reuse)

    def _writable(self) -> None:
        if self._rooms.catalog.read_only:
            raise WorkspaceReadOnly("This workspace is open read-only; nothing can be made or changed.", hint="Open it without read_only=True.")

    def _progress(self, progress: OnProgress) -> Callable[[Progress], None] | None:
        if callable(progress):
            return progress
        return None if progress is False else self.default_progress or (_to_terminal if progress else None)


def names_of(given: str | Iterable[str] | None) -> list[str]:
    """One name or several as a list; None is none."""
    return [] if given is None else [given] if isinstance(given, str) else list(given)


def _to_terminal(progress: Progress) -> None:
    total = f" of {progress.total:,}" if progress.total is not None else ""
    with contextlib.suppress(OSError):
        sys.stderr.write(f"\r{progress.stage}: {progress.done:,}{total} {progress.unit}\033[K")
        sys.stderr.flush()
