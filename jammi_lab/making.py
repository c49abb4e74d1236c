"""Making tables: the verbs of a workspace that end in a new version of a recipe."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, TypedDict, TypeVar, Unpack, overload

from jammi_lab.errors import InvalidArgument, WorkspaceReadOnly
from jammi_lab.handles import ResultTable, Tables
from jammi_lab.naming import Naming
from jammi_lab.producers.base import Job, produce
from jammi_lab.producers.python import Step
from jammi_lab.sensing.questions import Questions
from jammi_lab.sensing.reports import OnProgress, teller
from jammi_lab.store.sidecars import Wish
from jammi_lab.values.records import Progress
from jammi_lab.wiring import Rooms

T = TypeVar("T")


class Made(TypedDict, total=False):
    """How a verb that could also only define makes its table."""

    cache: Literal["use", "bypass"]
    refresh: Literal["no", "inputs"]
    progress: OnProgress
    define_only: Literal[False]


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
        DependencyCycle, DuplicateKey, SchemaMismatch. Interrupted or failed while it runs, no rows are left behind; a recipe that had versions
        keeps them, and the new definition, by which they are stale.
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
        define_only: Literal[False] = False,
    ) -> ResultTable:
        """Take rows that were computed elsewhere as the next version of `name`; they go stale when `inputs` (sources, recipes) move.

        Raises NameInvalid, TableNotFound, SchemaMismatch, DuplicateKey, DependencyCycle; InvalidArgument for `define_only`: without its rows there is
        nothing to define.
        """
        from jammi_lab.sources.frames import as_arrow

        refuse_defining(define_only)
        job = self._rooms.producers.external.job(as_arrow(frame), producer, params or {}, inputs, names_of(key))
        return self._make(name, job, cache, refresh, progress)

    @overload
    def compute(
        self,
        name: str,
        function: Callable[..., Any],
        *,
        inputs: str | Sequence[str] = (),
        params: Mapping[str, Any] | None = None,
        version: str | None = None,
        key: str | Sequence[str] | None = None,
        **made: Unpack[Made],
    ) -> ResultTable: ...

    @overload
    def compute(
        self,
        name: str,
        function: Callable[..., Any],
        *,
        inputs: str | Sequence[str] = (),
        params: Mapping[str, Any] | None = None,
        version: str | None = None,
        key: str | Sequence[str] | None = None,
        define_only: Literal[True],
    ) -> None: ...

    def compute(
        self,
        name: str,
        function: Callable[..., Any],
        *,
        inputs: str | Sequence[str] = (),
        params: Mapping[str, Any] | None = None,
        version: str | None = None,
        key: str | Sequence[str] | None = None,
        cache: Literal["use", "bypass"] = "use",
        refresh: Literal["no", "inputs"] = "no",
        progress: OnProgress = None,
        define_only: bool = False,
    ) -> ResultTable | None:
        """Make what a function gives the next version of the recipe `name`, or answer with a ready table that is the same.

        The function gets a Result for each of `inputs` (sources, tables, SQL) and `params` as keywords; it returns a frame, a list of dicts, or an
        iterator of these. Its definition is `version`, or its source with the plain values and helper functions that it names; imported modules are
        not followed. Rows are ordered by `key`, then by the other columns. `define_only` gives the recipe the definition without running it.

        Raises InvalidArgument for a function whose definition cannot be told (a lambda, a value that cannot be compared) without a version;
        StepFailed with what the function raised as its cause; SchemaMismatch; else as `materialize`. It is called again when inputs moved meanwhile.
        """
        if version is not None and not isinstance(version, str):
            raise InvalidArgument(f"A version is a text, not {version!r}.")
        job = self._rooms.producers.python.job(name, Step(function), names_of(inputs), params or {}, version, names_of(key))
        if define_only:
            self._define(name, job)
            return None
        return self._make(name, job, cache, refresh, progress)

    def _cell_compute(
        self,
        name: str,
        step: Step,
        inputs: Sequence[str],
        version: str | None,
        key: Sequence[str],
        cache: Literal["use", "bypass"],
        progress: OnProgress,
    ) -> ResultTable:
        job = self._rooms.producers.python.job(name, step, inputs, {}, version, key, [self._rooms.frames])
        return self._make(name, job, cache, "no", progress)

    def define(self, name: str, sql: str, *, params: Mapping[str, Any] | None = None, key: str | Sequence[str] | None = None) -> None:
        """Give a recipe a definition without running it. Raises as `materialize` does. Other producers have `define_only=True`."""
        self._define(name, self._rooms.producers.sql.job(sql, params or {}, names_of(key)))

    def _define(self, name: str, job: Job) -> None:
        self._writable()
        self._naming.define(name, job)

    def lookup(self, sql: str, *, params: Mapping[str, Any] | None = None, key: str | Sequence[str] | None = None) -> ResultTable | None:
        """The ready table that answers this exact definition, the key included, over its inputs as they are now; computes nothing. Raises as `sql`
        does, and SchemaMismatch for a key that is no column."""
        return self._naming.lookup(self._rooms.producers.sql.job(sql, params or {}, names_of(key)))

    def _make(self, name: str, job: Job, cache: str, refresh: str, progress: OnProgress, wish: Wish = Wish()) -> ResultTable:  # noqa: B008  # frozen
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
        try:
            self._rooms.results.sidecars.follow(made.record, wish, report)
        except KeyboardInterrupt as stop:
            stop.add_note(f"{name!r} is made, but its index is not: until it is there, a search reads all vectors.")
            raise
        return ResultTable(self, made.version, made.record, made.outcome, made.reuse)

    def _writable(self) -> None:
        if self._rooms.catalog.read_only:
            raise WorkspaceReadOnly("This workspace is open read-only; nothing can be made or changed.", hint="Open it without read_only=True.")

    def _progress(self, progress: OnProgress) -> Callable[[Progress], None] | None:
        return teller(progress, self.default_progress)


def refuse_defining(define_only: object) -> None:
    """Nothing, unless rows from outside are to be defined without being taken: InvalidArgument."""
    if define_only:
        raise InvalidArgument(
            "Rows that were computed elsewhere are their own definition: they cannot be defined without being taken.", hint="Leave out define_only=."
        )


def names_of(given: str | Iterable[T] | None) -> list[T | str]:
    """One name or several as a list; None is none. InvalidArgument for what holds no names."""
    if not isinstance(given, str | Iterable | None):
        raise InvalidArgument(f"Columns and tables are named by a text or by several, not by a value of type {type(given).__name__}.")
    if given is None or isinstance(given, str):
        return [] if given is None else [given]
    return [*given]
