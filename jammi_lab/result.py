"""The rows of a statement, as people hold them: they come once, and are kept when small."""

import importlib
import itertools
import operator
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from jammi_lab import forms
from jammi_lab.badged import Badged
from jammi_lab.engine.prepared import Prepared
from jammi_lab.engine.stream import Stream
from jammi_lab.errors import InvalidArgument, SourceUnavailable
from jammi_lab.framed import Framed
from jammi_lab.markup import Form, count, dim, plain, stack
from jammi_lab.noticing import Noticing
from jammi_lab.observing.look import Pinned
from jammi_lab.people import for_people
from jammi_lab.values.anchors import Input, InputKind
from jammi_lab.values.verdicts import Verdict

if TYPE_CHECKING:
    import pyarrow as pa

    from jammi_lab.live.committing import Done

_KEPT_BYTES = 64 * 1024 * 1024
_SHOWN = 20


def _whole(number: object, least: int, what: str) -> int:
    """A number of rows. InvalidArgument for what is none."""
    if not hasattr(number, "__index__") or (whole := operator.index(number)) < least:
        raise InvalidArgument(f"{what} has a whole number of rows{', at least 1' * least}, not {number!r}.")
    return whole


class Result(Badged, Framed):
    """The rows of a statement: run once, streamed; small ones are kept, larger ones are run again on the same versions when asked for again."""

    changes_before = 0
    """How many changes the statements before it made, in the text that it was the last one of."""
    unshown_before = 0
    """How many statements before it gave rows, which nobody sees."""
    _noticing: Noticing

    def __init__(
        self,
        prepared: Prepared,
        noticing: Noticing,
        on_progress: Callable[[float], None] | None = None,
        on_end: Callable[[], None] = lambda: None,
        *,
        step: bool = False,
    ) -> None:
        """`step`: it is the input of a Python step, whose rows come in one order, and whose maker looks whether they have changed meanwhile."""
        if step:
            stream = prepared.run_ordered(on_progress=on_progress, slowly=True)
        else:
            prepared, stream = prepared.started(on_progress=on_progress)
        self._prepared, self._noticing, self._on_end, self._step = prepared, noticing, on_end, step
        self._stream: Stream | None = stream
        self._schema: pa.Schema = stream.schema
        self._head: list[pa.RecordBatch] = []
        self._rest: Iterator[pa.RecordBatch] | None = self._stream.batches()
        self._kept: pa.Table | None = None
        self._lent: weakref.ref[pa.Table] | None = None
        self._rows: int | None = None
        self._types = [kind for _, kind in prepared.output]
        self.inputs = [Input(kind=i.kind, name=i.name, table=i.table, columns=b.columns) for b in prepared.inputs for i in [b.relation.input]]
        """What was read, with the columns read."""
        self.limit = _SHOWN
        self.decimals: dict[str, int] = {}
        """By column, how many digits after the point are shown; the rows have all."""

    @property
    def schema(self) -> "pa.Schema":
        """The Arrow schema."""
        return self._schema

    @property
    def columns(self) -> list[str]:
        """The column names."""
        return list(self._schema.names)

    def __len__(self) -> int:
        """The number of rows, once they have all been read. InvalidArgument before that."""
        if self._rows is None:
            raise InvalidArgument(
                "The number of rows is not known yet: the rows come as they are read.", hint="Call .arrow() first, or ask for count(*)."
            )
        return self._rows

    def __bool__(self) -> bool:
        return True

    def arrow(self) -> "pa.Table":
        """All rows as an Arrow table."""
        import pyarrow as pa

        if self._kept is not None:
            return self._kept
        if self._lent is not None and (lent := self._lent()) is not None:
            return lent
        table = pa.Table.from_batches(list(self._each()), self._schema)
        if self._kept is not None:
            return self._kept
        self._lent = weakref.ref(table)
        return table

    def fetchall(self) -> list[tuple[Any, ...]]:
        """All rows as Python tuples. InvalidArgument for dates and times that Python has not."""
        try:
            return [row for batch in self.arrow().to_batches() for row in zip(*(c.to_pylist() for c in batch.columns), strict=True)]
        except OverflowError:
            raise InvalidArgument(
                "A date of these rows lies outside the years 1 to 9999, which is all that Python has.",
                hint="Cast it to a text, or take the rows as .arrow() or .polars().",
            ) from None
        except ValueError as error:  # pyarrow asks pandas for what is finer than a microsecond
            raise InvalidArgument(
                "A time of these rows is in nanoseconds, finer than all that Python has.",
                hint="Cast it to a text, or take the rows as .arrow() or .polars().",
            ) from error

    def batches(self, rows: int = 65536) -> "pa.RecordBatchReader":
        """All rows, batch by batch of at most `rows`, as an Arrow reader; read to the end, small ones are kept.

        InvalidArgument when `rows` is no whole number above 0; SourceUnavailable, while it is read, when they are gone and cannot be read again
        unchanged."""
        import pyarrow as pa

        return pa.RecordBatchReader.from_batches(self._schema, self._each(_whole(rows, 1, "A batch")))

    def _each(self, rows: int = 65536) -> Iterator["pa.RecordBatch"]:
        import pyarrow as pa

        if self._kept is not None:
            yield from self._kept.to_batches(max_chunksize=rows)
            return
        if self._rest is None:
            self._run_again()
        head, rest = self._head, self._rest
        self._head, self._rest = [], None
        seen, size = 0, 0
        kept: list[pa.RecordBatch] = []
        for batch in itertools.chain(head, rest or ()):
            seen, size = seen + batch.num_rows, size + batch.nbytes
            kept = kept if size <= _KEPT_BYTES else []
            kept.append(batch)
            for start in range(0, batch.num_rows, rows):
                yield batch.slice(start, rows)
        self._rows = seen
        if size <= _KEPT_BYTES:
            self._kept = pa.Table.from_batches(kept, self._schema)
        self._let_go()

    def close(self) -> None:
        """Let go of what is read; rows that were not taken yet do not come any more. Closing twice is fine."""
        self._head, self._rest = [], None
        self._let_go()

    def _let_go(self) -> None:
        if self._stream is not None:
            self._stream.close()
            self._on_end()

    def preview(self, n: int = 1000) -> "pa.Table":
        """The first `n` rows as an Arrow table; what lies beyond is not read. InvalidArgument when `n` is no whole number."""
        import pyarrow as pa

        n = _whole(n, 0, "A preview")
        if self._kept is None and self._rest is None and (self._lent is None or self._lent() is None):
            self._run_again()
        if self._rest is None:
            return self.arrow().slice(0, n)
        held = sum(b.num_rows for b in self._head)
        try:
            while held < n and (batch := next(self._rest, None)) is not None:
                self._head.append(batch)
                held += batch.num_rows
        except BaseException:  # what came before it is not all there is
            self._head, self._rest = [], None
            raise
        if held < n:  # the end was reached: everything is here
            self._kept = pa.Table.from_batches(self._head, self._schema)
            self._rows, self._head, self._rest = self._kept.num_rows, [], None
            self._let_go()
            return self._kept
        return pa.Table.from_batches(self._head, self._schema).slice(0, n)

    def chart(self, kind: str = "bar", x: str | None = None, y: str | None = None, color: str | None = None) -> Any:
        """An altair chart of the rows: bar, line, point, area, box or hist; of more than 5,000 rows a sample, and it says so.

        Columns that are not named are the first two. Raises InvalidArgument for a kind or column that there is not; ExtensionMissing without altair.
        """
        return importlib.import_module("jammi_widgets.charts").chart(self, kind, x, y, color)  # by name: the engine sees no front end

    def staleness(self) -> dict[str, Verdict]:
        """The verdicts on the result tables that were read, by name, as they are now."""
        return dict(self._noticing.now(self._tables()))

    def _tables(self) -> list[str]:
        return list(dict.fromkeys(i.name for i in self.inputs if i.kind is InputKind.RESULT))

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        return self.batches().__arrow_c_stream__(requested_schema)

    def _run_again(self) -> None:
        """Read the same versions once more; a file may have changed since, so it is refused."""
        live = [b.relation.input.label for b in self._prepared.inputs if not isinstance(b.relation.token, Pinned)]
        if (live and not self._step) or self._prepared.volatile:
            raise SourceUnavailable(
                f"These rows were streamed and are gone; reading {', '.join(live) or 'them'} again could give others.",
                hint="Keep them with .arrow() the first time, or run the statement again.",
            )
        self._stream = self._prepared.run_ordered(slowly=True) if self._step else self._prepared.run()
        self._rest = self._stream.batches()

    def _body(self) -> Form:
        shown = self.preview(self.limit + 1)
        more = shown.num_rows > self.limit
        shown = shown.slice(0, self.limit)
        cells = [for_people(column, self.decimals.get(name)) for name, column in zip(shown.column_names, shown.columns, strict=True)]
        rows = [list(row) for row in zip(*cells, strict=True)]
        table, unshown = forms.preview(self.columns, self._types, rows, total=self._rows, more=more), self.unshown_before
        return stack(table, dim(f"the rows of {count(unshown, 'statement')} before it are not shown")) if unshown else table


class Ready(Result):
    """A Result whose rows are there already, all of them."""

    def __init__(self, table: "pa.Table", types: Sequence[str], inputs: Sequence[Input], noticing: Noticing) -> None:
        self._noticing, self._on_end = noticing, lambda: None
        self._stream, self._rest, self._head = None, None, []
        self._schema, self._kept, self._rows = table.schema, table, table.num_rows
        self._lent, self._types = None, list(types)
        self.inputs, self.limit, self.decimals = list(inputs), _SHOWN, {}


class Changed(Ready):
    """What an INSERT, UPDATE or DELETE gives: one row, `Count`, or what RETURNING asked for."""

    def __init__(self, done: "Done") -> None:
        import pyarrow as pa

        from jammi_lab.sources.scratch import sql_types

        table = pa.table({"Count": pa.array([done.rows], pa.int64())}) if done.answer is None else done.answer
        types = ["BIGINT"] if done.answer is None else [*sql_types(table.schema).values()]
        super().__init__(table, types, [], Noticing(lambda _, __: {}))
        self._done = done

    @property
    def version(self) -> int:
        """The version of the table after the change."""
        return self._done.committed.version

    def _form(self) -> Form:
        said = plain(str(self._done))
        return said if self._done.answer is None else stack(said, super()._form())
