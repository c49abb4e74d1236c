"""The result of a statement: its rows are streamed once and cached when small."""

import itertools
import re
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from jammi_lab.core import reprs
from jammi_lab.core.anchors import Anchor, FrameOrigin, Identity, Input
from jammi_lab.core.dataframes import TableMixin, to_rows
from jammi_lab.core.display_values import DEFAULT_DIGITS, to_rows_display
from jammi_lab.core.errors import InvalidArgument, SourceUnavailable
from jammi_lab.core.html import Rendered, count_noun, dim_text, plain_text, vstack
from jammi_lab.core.identifiers import check_count
from jammi_lab.core.surfaces import load_surface
from jammi_lab.core.verdicts import Verdict, not_fresh_sentence
from jammi_lab.engine.prepared_statement import PreparedStatement
from jammi_lab.engine.stream import Stream
from jammi_lab.features.outputs.badge import BadgeMixin, BadgeService
from jammi_lab.features.outputs.stamps import (
    Stamp,
    StampedSource,
    StampedTable,
    stamped_source,
    stamped_table,
    value_digest,
)
from jammi_lab.inputs.observation import PinnedState, origin_of_inputs
from jammi_lab.sources.frame_origins import origins
from jammi_lab.workspace.export import export

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl
    import pyarrow as pa

    from jammi_lab.features.live.dml_commits import CommitResult
    from jammi_lab.workspace.column_profile import ColumnQuery


RecordedInputs = tuple[list[StampedTable], list[StampedSource], list[str]]
"""What was read: tables and other inputs in the states that were read, and the names of inputs
whose state was not recorded."""


FrameT = TypeVar("FrameT")
_WHOLE_TABLE = re.compile(r"\s*(SELECT\s+\*\s+)?FROM\s+jammi\.(\w+|\"[^\"]+\")\s*", re.IGNORECASE)


def whole_table(statement: str) -> str | None:
    """The result table of which a statement reads all rows as they are; None for any other."""
    match = _WHOLE_TABLE.fullmatch(statement)
    return None if match is None else match[2].strip('"')


MAX_CACHED_BYTES = 64 * 1024 * 1024
_MAX_SHOWN_ROWS = 20


class Result(TableMixin, BadgeMixin):
    """The rows of a statement, which runs once and is streamed. Small results are cached; larger
    ones are read again from the same versions on the next use."""

    _changes_before = 0
    """Number of earlier statements in the same text that changed a table."""
    _unshown_before = 0
    """Number of earlier statements in the same text whose rows are not shown."""
    limit: int = _MAX_SHOWN_ROWS
    digits: int = DEFAULT_DIGITS
    """With how many digits floating-point numbers are shown at most; 17 shows them exactly."""
    _badges: BadgeService
    _stream: Stream | None = None
    _remaining: "Iterator[pa.RecordBatch] | None" = None
    _last_table: "weakref.ref[pa.Table] | None" = None
    _is_step_input = False
    _read_as: StampedTable | None = None
    """The table that these are the rows of; None for any other statement."""
    _is_whole_recipe = False
    """Whether they are all its rows, and it was asked for by its recipe."""
    _recorded: RecordedInputs | None = None
    """What a search read, which no statement of this result names."""
    _origin: FrameOrigin | None = None
    """The tables whose rows these are, in the state that was read, for the frames made from them.
    None until the first use."""

    def __init__(
        self,
        prepared: PreparedStatement,
        stream: Stream,
        badges: BadgeService,
        on_end: Callable[[], object] = lambda: None,
        *,
        is_step_input: bool = False,
    ) -> None:
        """`prepared` is the statement as bound for `stream`. `step`: the result is an input of a
        Python step; its rows are ordered, and the producer checks whether they changed."""
        self._prepared = prepared
        self._badges = badges
        self._on_end = on_end
        self._is_step_input = is_step_input
        self._stream = stream
        self._schema: pa.Schema = stream.schema
        self._head: list[pa.RecordBatch] = []
        self._remaining = stream.batches()
        self._cached: pa.Table | None = None
        self._rows: int | None = None
        self._types = [kind for _, kind in prepared.output]
        if len(self._types) != len(self._schema):  # a PIVOT has the columns that its rows give
            from jammi_lab.sources.scratch_duckdb import shown_types

            self._types = shown_types(self._schema)
        self.inputs = [b.relation.input.with_values(columns=b.columns) for b in prepared.inputs]
        """What was read, with the columns read."""
        self.decimals: dict[str, int] = {}
        """Displayed decimal places by column; the rows themselves are not rounded."""
        self._source_states: Mapping[Identity, Anchor] = {}
        """The states of sources just before the statement ran, by identity, where they were
        observed."""

    @property
    def schema(self) -> "pa.Schema":
        """The Arrow schema."""
        return self._schema

    @property
    def columns(self) -> list[str]:
        """The column names."""
        return list(self._schema.names)

    def __len__(self) -> int:
        """The number of rows. Before they have been read, all of them are, batch by batch. Raises
        as reading them."""
        if self._rows is None:
            return sum(batch.num_rows for batch in self.batches())
        return self._rows

    def __bool__(self) -> bool:
        return True

    def arrow(self) -> "pa.Table":
        """All rows as an Arrow table."""
        return self._record_read(self._read_all(), "arrow")

    def polars(self) -> "pl.DataFrame":
        """All rows as a polars frame. Raises SchemaMismatch when two columns share a name."""
        return self._record_read(super().polars(), "polars")

    def pandas(self, *, exact: bool = False) -> "pd.DataFrame":
        """All rows as a pandas frame of numpy types: integers int64 (float64 with NULLs), DECIMAL
        float64, DATE and TIMESTAMP datetime64, INTERVAL timedelta64. `exact`: nullable integers,
        Decimal and date objects. ExtensionMissing without pandas."""
        return self._record_read(super().pandas(exact=exact), "exact" if exact else "pandas")

    def _record_read(self, rows: FrameT, form: str = "") -> FrameT:
        """Record that rows leave the workspace, for tables made from them in Python. The inputs of
        a Python step do not: its table is anchored on them. `form`: of a frame of all rows."""
        if not self._is_step_input:
            if self._origin is None:
                self._origin = self._read_origin()
            is_table = self._is_whole_recipe
            if self._read_as is None:
                text, _ = self._statement() or ("", None)
                is_table = whole_table(text) is not None
            origins.record_read(self._origin.with_values(form=form if is_table else ""), rows)
        return rows

    def _read_origin(self) -> FrameOrigin:
        inputs = ((b.relation, b.columns) for b in self._prepared.inputs)
        return origin_of_inputs(inputs, self._source_states)

    def _read_all(self) -> "pa.Table":
        import pyarrow as pa

        if self._cached is not None:
            return self._cached
        if self._last_table is not None and (last_table := self._last_table()) is not None:
            return last_table
        batches = list(self._stream_batches())
        if self._cached is not None:
            return self._cached
        table = pa.Table.from_batches(batches, self._schema)
        self._last_table = weakref.ref(table)
        return table

    def fetchall(self) -> list[tuple[Any, ...]]:
        """All rows as Python tuples; `sum` of integers is an int. InvalidArgument for dates and
        times that Python cannot represent."""
        try:
            return list(to_rows(self.arrow()))
        except OverflowError:
            raise InvalidArgument(
                "A date in these rows is outside the years 1 to 9999, which Python cannot "
                "represent.",
                hint="Cast it to VARCHAR, or get the rows with .arrow() or .polars().",
            ) from None
        except ValueError as error:  # pyarrow needs pandas for times finer than a microsecond
            raise InvalidArgument(
                "A time in these rows has nanoseconds, or a struct has fields of one name, which "
                "Python cannot represent.",
                hint="Cast it to VARCHAR, or get the rows with .arrow() or .polars().",
            ) from error

    def batches(self, rows: int = 65536) -> "pa.RecordBatchReader":
        """All rows as an Arrow reader of batches of at most `rows` rows. A small result is cached
        when it was read to the end.

        InvalidArgument when `rows` is no integer above 0. Reading raises SourceUnavailable when the
        rows were streamed before and cannot be read again unchanged."""
        import pyarrow as pa

        return self._record_read(
            pa.RecordBatchReader.from_batches(
                self._schema, self._stream_batches(check_count("rows", rows, 1))
            )
        )

    def _stream_batches(self, rows: int = 65536) -> Iterator["pa.RecordBatch"]:
        import pyarrow as pa

        if self._cached is not None:
            yield from self._cached.to_batches(max_chunksize=rows)
            return
        if self._remaining is None:
            self._run_again()
        head, remaining = self._head, self._remaining
        self._head, self._remaining = [], None
        row_count, size = 0, 0
        cached: list[pa.RecordBatch] = []
        for batch in itertools.chain(head, remaining or ()):
            row_count, size = row_count + batch.num_rows, size + batch.nbytes
            cached = cached if size <= MAX_CACHED_BYTES else []
            cached.append(batch)
            for start in range(0, batch.num_rows, rows):
                yield batch.slice(start, rows)
        self._rows = row_count
        if size <= MAX_CACHED_BYTES:
            self._cached = pa.Table.from_batches(cached, self._schema)
        self._close_stream()

    def close(self) -> None:
        """Stop reading and release all resources; rows that were not read yet are lost.
        Idempotent."""
        self._head, self._remaining = [], None
        self._close_stream()

    def _close_stream(self) -> None:
        if self._stream is not None:
            self._stream.close()
            self._on_end()

    def preview(self, n: int = 1000) -> "pa.Table":
        """The first `n` rows as an Arrow table; further rows are not read. InvalidArgument when `n`
        is no integer."""
        return self._record_read(self._read_first(n))

    def _read_first(self, n: int) -> "pa.Table":
        import pyarrow as pa

        n = check_count("n", n)
        if (
            self._cached is None
            and self._remaining is None
            and (self._last_table is None or self._last_table() is None)
        ):
            self._run_again()
        if self._remaining is None:
            return self._read_all().slice(0, n)
        row_count = sum(b.num_rows for b in self._head)
        try:
            while row_count < n and (batch := next(self._remaining, None)) is not None:
                self._head.append(batch)
                row_count += batch.num_rows
        except BaseException:  # the rows read so far are incomplete
            self._head, self._remaining = [], None
            raise
        if row_count < n:  # the end was reached: all rows are in memory
            self._cached = pa.Table.from_batches(self._head, self._schema)
            self._rows, self._head, self._remaining = self._cached.num_rows, [], None
            self._close_stream()
            return self._cached
        return pa.Table.from_batches(self._head, self._schema).slice(0, n)

    def chart(
        self,
        kind: str = "bar",
        x: str | None = None,
        y: str | None = None,
        color: str | None = None,
    ) -> Any:
        """An altair chart of the rows: bar, line, point, area, box or hist. Of more than 5,000 rows
        it draws a sample, and its title reports so.

        `y` defaults to a column of numbers, `x` to the first of the others. Raises InvalidArgument
        for an unknown kind or column; ExtensionMissing without altair.
        """
        return load_surface("widgets").draw_chart(self, kind, x, y, color)

    def export(self, path: str | Path) -> Path:
        """Write the rows to a .parquet, .csv, .arrow or .feather file, by the extension, with a
        stamp as `ResultTable.export`. An existing file is replaced when the copy is complete.
        Returns the path.

        InvalidArgument for another extension and for a folder that is missing, not writable or part
        of a workspace; SchemaMismatch for a column that the file cannot hold; ResourceExhausted."""
        return export(path, self, self._write_parquet, self._stamp)

    def _write_parquet(self, target: Path) -> None:
        from jammi_lab.storage.parquet import ParquetSink

        sink = ParquetSink(target, self.schema)
        try:
            for batch in self.batches():
                sink.write(batch)
            sink.close()
        except BaseException:
            sink.abort()
            raise

    def staleness(self) -> dict[str, Verdict]:
        """The current verdicts on the result tables that were read, by name."""
        return dict(self._badges.verdicts(self._tables()))

    @property
    def verdict(self) -> str:
        """What is not fresh among the result tables that were read, as one sentence; empty when all
        of them are fresh."""
        return not_fresh_sentence(self.staleness())

    def _tables(self) -> list[str]:
        inputs = [*self.inputs, *(a.input for a in self._frame_inputs())]
        return list(dict.fromkeys(i.name for i in inputs if i.kind_class.is_result))

    def _frame_inputs(self) -> list[Anchor]:
        """The tables that the frames which were read were made from."""
        return [
            source
            for bound in self._prepared.inputs
            if isinstance(token := bound.relation.token, PinnedState) and token.origin is not None
            for source in token.origin.inputs
        ]

    def _stamp(self) -> Stamp | None:
        if self._badges.stamps is None:
            return None
        tables, sources, unrecorded = self._recorded or self._recorded_inputs()
        badge = self._badge()
        statement = self._statement()
        params = {} if statement is None else statement[1]
        return self._badges.stamps.stamp(
            tables,
            sources=sources,
            unrecorded=unrecorded,
            tenant=self._badges.current_tenant(),
            verdict="" if badge is None else badge.sentence(),
            params={name: value_digest(value) for name, value in params.items()},
        )

    def _recorded_inputs(self) -> RecordedInputs:
        """The tables and other inputs in the states that were read, and what has no recorded
        state."""
        tables, sources = list[StampedTable](), list[StampedSource]()
        unrecorded = list(self._prepared.volatile)
        unrecorded += ["the date"] if self._prepared.reads_clock else []
        for bound in self._prepared.inputs:
            relation, token = bound.relation, bound.relation.token
            source, state = relation.input, self._source_states.get(relation.input.identity)
            if not isinstance(token, PinnedState):
                if state is None or not state.pinned:
                    unrecorded.append(source.label)
                else:
                    sources.append(stamped_source(state))
            elif token.record is not None:
                version = token.snapshot.version or token.record.version
                exact = stamped_table(source.name, version, token.record)
                tables.append(self._read_as or exact)
            elif source.kind_class.has_origin:
                unrecorded.append(f"the frame {source.name}")
                tables += [
                    StampedTable(each.input.name, each.version, "")
                    for each in (token.origin.inputs if token.origin is not None else ())
                    if each.input.kind_class.is_result and each.version is not None
                ]
            else:
                sources.append(stamped_source(token.snapshot.anchor(source, bound.columns)))
        return tables, sources, unrecorded

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        return self.batches().__arrow_c_stream__(requested_schema)

    def _unpinned_inputs(self) -> list[str]:
        return [
            b.relation.input.label
            for b in self._prepared.inputs
            if not isinstance(b.relation.token, PinnedState)
        ]

    def _column_query(self) -> "ColumnQuery | None":
        """Runs a SELECT over all rows of the result, read again; None when they could be
        others."""
        if self._unpinned_inputs() or self._prepared.volatile or not self._prepared.output:
            return None
        return lambda select, clauses="": self._prepared.run_over(select, clauses).table()

    def _statement(self) -> tuple[str, dict[str, Any]] | None:
        """The SQL and the parameters that give these rows; None for rows that no statement gave."""
        return self._prepared.statement, self._prepared.params

    def _run_again(self) -> None:
        """Read the same versions again. SourceUnavailable for inputs without versions, such as
        files, because they may have changed."""
        unpinned = self._unpinned_inputs()
        if (unpinned and not self._is_step_input) or self._prepared.volatile:
            raise SourceUnavailable(
                "These rows were streamed and not stored; reading "
                f"{', '.join(unpinned) or 'them'} again could return different rows.",
                hint="Call .arrow() before the first use to keep them, or run the statement again.",
            )
        self._stream = (
            self._prepared.run_ordered(buffer=True) if self._is_step_input else self._prepared.run()
        )
        self._remaining = self._stream.batches()

    def _content(self) -> Rendered:
        first_rows = self._read_first(self.limit + 1)
        has_more = first_rows.num_rows > self.limit
        first_rows = first_rows.slice(0, self.limit)
        rows = to_rows_display(first_rows, self.decimals, self.digits)
        table = reprs.preview(self.columns, self._types, rows, total=self._rows, has_more=has_more)
        hidden_count = self._unshown_before
        if hidden_count:
            return vstack(
                table,
                dim_text(
                    f"the rows of {count_noun(hidden_count, 'statement')} before it are not shown"
                ),
            )
        return table


class InMemoryResult(Result):
    """A Result whose rows are all in memory."""

    def __init__(
        self,
        table: "pa.Table",
        inputs: Sequence[Input],
        badges: BadgeService,
        types: Sequence[str] = (),
        states: Sequence[Anchor] = (),
    ) -> None:
        """`types` are those that SQL gave the columns; without them, those of the Arrow types.
        `states` are those of inputs that were recorded."""
        from jammi_lab.sources.scratch_duckdb import sql_types

        self._badges, self._on_end = badges, lambda: None
        self._schema, self._cached, self._rows = table.schema, table, table.num_rows
        self._types = [*(types or sql_types(table.schema).values())]
        self.inputs, self.decimals, self._states = list(inputs), {}, list(states)

    def _frame_inputs(self) -> list[Anchor]:
        return []

    def _statement(self) -> None:
        return None

    def _recorded_inputs(self) -> RecordedInputs:
        unrecorded = [] if self._states else [each.label for each in self.inputs]
        return [], [stamped_source(each) for each in self._states], unrecorded

    def _read_origin(self) -> FrameOrigin:
        if self._states:
            return FrameOrigin(self._states)
        names = ", ".join(sorted({i.label for i in self.inputs})) or "a change"
        return FrameOrigin(grounds=[f"the state of {names} was not recorded"])


class ChangeResult(InMemoryResult):
    """The result of an INSERT, UPDATE or DELETE: one row, `Count`, or the rows of RETURNING."""

    def __init__(self, commit: "CommitResult") -> None:
        import pyarrow as pa

        table = (
            pa.table({"Count": pa.array([commit.rows], pa.int64())})
            if commit.returned_rows is None
            else commit.returned_rows
        )
        super().__init__(table, [], BadgeService(lambda _, __: {}))
        self._commit = commit

    @property
    def version(self) -> int:
        """The version of the table after the change."""
        return self._commit.committed.version

    def _rendered(self, *, dated: bool = False) -> Rendered:
        summary = plain_text(str(self._commit))
        if self._commit.returned_rows is None:
            return summary
        return vstack(summary, super()._rendered(dated=dated))
