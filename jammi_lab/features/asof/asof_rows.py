"""The rows of an as-of join: each row of a spine with the fact that held at its time. The facts are
in memory; the spine is read in parts."""

import contextlib
import datetime
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from jammi_lab.core.display_values import to_display
from jammi_lab.core.errors import AmbiguousMatch, InvalidArgument, SchemaMismatch
from jammi_lab.core.identifiers import fold
from jammi_lab.engine.duckdb_errors import source_error
from jammi_lab.engine.stream import Stream
from jammi_lab.sources import scratch_duckdb
from jammi_lab.steps.input_tables import InputTable, find_column
from jammi_lab.steps.key_types import single_array
from jammi_lab.steps.text_statement import UNORDERED_TYPES

# --------------------------------------------------------------------------------------------------
# The as-of match: DuckDB's ASOF JOIN over keys and times, with a count of the facts that tie.

_DAY = datetime.timedelta(days=1)
_MICROSECOND = datetime.timedelta(microseconds=1)
STEPS_PER_DAY = {
    "DATE": 1,
    "TIMESTAMP_S": 86_400,
    "TIMESTAMP_MS": 86_400_000,
    "TIMESTAMP": 86_400_000_000,
    "TIMESTAMP WITH TIME ZONE": 86_400_000_000,
    "TIMESTAMP_NS": 86_400_000_000_000,
}
"""The types of times, with the steps of their integers per day."""
_MAX_TOLERANCE = 2**64
"""Beyond the distance of any two times."""
_SIDES = {"backward": ["before"], "forward": ["after"], "nearest": ["before", "after"]}
"""The facts of which each direction takes one: the last before a time, and the first after it."""


def tolerance_steps(tolerance: datetime.timedelta | int | None, time_type: str) -> int | None:
    """A tolerance in whole steps of an SQL type of times, rounded down. Raises InvalidArgument for
    a duration between integers, and for a number between times."""
    if tolerance is None:
        return None
    per_day = STEPS_PER_DAY.get(time_type)
    if isinstance(tolerance, datetime.timedelta) != (per_day is not None):
        expected = "an integer, because the times are integers"
        if per_day is not None:
            expected = "a timedelta, because the times are dates or timestamps"
        raise InvalidArgument(f"tolerance must be {expected}, got {tolerance!r}.")
    if isinstance(tolerance, datetime.timedelta):
        tolerance = (tolerance // _MICROSECOND) * (per_day or 0) // (_DAY // _MICROSECOND)
    return min(int(tolerance), _MAX_TOLERANCE)


@dataclass(frozen=True)
class MatchRule:
    """The match rule of an as-of join."""

    direction: str
    """"backward", "forward" or "nearest"."""
    inclusive: bool
    """Whether a fact at exactly the same time matches."""
    tolerance: int | None
    """The greatest distance in steps; None for any."""


class AsofMatcher:
    """The facts, one for each key and time, in a DuckDB instance of the caller."""

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        rule: MatchRule,
        keys: Sequence[pa.ChunkedArray],
        times: pa.ChunkedArray,
        ties: pa.ChunkedArray | None,
    ) -> None:
        """`ties`: the tie-break values; of equal times the fact with the greatest is kept, NULL
        being the least and NaN the greatest."""
        self._connection = connection
        connection.execute(f"SET threads = {os.cpu_count() or 1}")
        self._load("facts_read", keys, times, {} if ties is None else {"tie": ties})
        group = ", ".join([*(f"key{number}" for number in range(len(keys))), "step"])
        winners = (
            ""
            if ties is None
            else f"QUALIFY rank() OVER (PARTITION BY {group} ORDER BY tie DESC NULLS LAST) = 1"
        )
        connection.execute(
            f"CREATE TEMP TABLE facts AS SELECT {group}, min(number) AS number, count(*) AS ties "
            f"FROM (FROM facts_read {winners}) GROUP BY {group}"
        )
        connection.execute("DROP TABLE facts_read")
        self._match_statement = _match_statement(rule, len(keys))

    def match(self, keys: Sequence[pa.ChunkedArray], times: pa.ChunkedArray) -> pa.Table:
        """For each row of the spine, in order, the number of its fact (NULL for none) and how many
        facts tie with it."""
        self._load("spine", keys, times, {})
        return self._connection.execute(self._match_statement).to_arrow_table()

    def _load(
        self,
        table: str,
        keys: Sequence[pa.ChunkedArray],
        times: pa.ChunkedArray,
        more: dict[str, pa.ChunkedArray],
    ) -> None:
        """Create a table of row numbers, keys and the integers behind times. (An ASOF JOIN whose
        left side is Arrow data takes quadratic time in DuckDB 1.5.5, so the rows are copied.)"""
        steps = single_array(times)
        if pa.types.is_date32(steps.type):
            steps = steps.cast(pa.int32())
        columns = {f"key{number}": single_array(column) for number, column in enumerate(keys)}
        read = pa.table({"step": steps.cast(pa.int64()), **columns, **more})
        self._connection.register("read", read)
        self._connection.execute(
            f"CREATE OR REPLACE TEMP TABLE {table} AS "
            "SELECT *, row_number() OVER () - 1 AS number FROM read"
        )
        self._connection.unregister("read")


def _match_statement(rule: MatchRule, key_count: int) -> str:
    keys = "".join(f" AND spine.key{number} = {{side}}.key{number}" for number in range(key_count))
    equal = "=" if rule.inclusive else ""
    joins = {
        "before": f"spine.step >{equal} before.step",
        "after": f"spine.step <{equal} after.step",
    }
    sides = _SIDES[rule.direction]
    joined = " ".join(
        f"ASOF LEFT JOIN facts AS {side} ON {joins[side]}{keys.format(side=side)}" for side in sides
    )
    found = f"{sides[0]}.{{0}}"
    if rule.direction == "nearest":
        is_later = f"before.step IS NULL OR {_distance('after.step')} < {_distance('before.step')}"
        found = f"CASE WHEN {is_later} THEN after.{{0}} ELSE before.{{0}} END"
    if rule.tolerance is not None:
        found = f"CASE WHEN {_distance(found.format('step'))} <= {rule.tolerance} THEN {found} END"
    return (
        f"SELECT {found.format('number')} AS fact, {found.format('ties')} AS ties "
        f"FROM spine {joined} ORDER BY spine.number"
    )


def _distance(step: str) -> str:
    """The distance of a fact's step from that of the spine."""
    return f"abs(spine.step::HUGEINT - {step})"


# --------------------------------------------------------------------------------------------------
# The rows of the join.

_ROWS_PER_JOIN = 1 << 20
"""So many rows of the spine, or a batch more, are in memory and joined at once."""
_INTEGERS = re.compile(r"U?(TINY|SMALL|BIG|HUGE)INT|U?INTEGER")
_WHOLE_TIMES = re.compile(r"U?(TINY|SMALL)INT|U?INTEGER|BIGINT")


class JoinPlan:
    """Which columns are compared, in which types, and which are output under which names. It needs
    names and types only, no rows. `join`: the recipe. Raises SchemaMismatch."""

    def __init__(self, spine: InputTable, facts: InputTable, join: Any) -> None:
        spine_types, facts_types = dict(spine.prepared.output), dict(facts.prepared.output)
        names = spine.step_input.asked, facts.step_input.asked
        self.times = (
            find_column(names[0], [*spine_types], join.spine_time),
            find_column(names[1], [*facts_types], join.facts_time),
        )
        self.by = [
            (find_column(names[0], [*spine_types], s), find_column(names[1], [*facts_types], f))
            for s, f in join.by
        ]
        self.tie_break = (
            None
            if join.tie_break is None
            else find_column(names[1], [*facts_types], join.tie_break)
        )
        time_types = spine_types[self.times[0]], facts_types[self.times[1]]
        _check_times(names, self.times, time_types)
        for s, f in self.by:
            _check_comparable(names, (s, f), (spine_types[s], facts_types[f]))
        self.rule = MatchRule(
            direction=join.direction,
            inclusive=join.boundary == "inclusive",
            tolerance=tolerance_steps(join.tolerance, time_types[0]),
        )
        if join.project is None:
            selected = [c for c in facts_types if c not in {f for _, f in self.by}]
        else:
            selected = list(
                dict.fromkeys(find_column(names[1], [*facts_types], c) for c in join.project)
            )
        self.output_names = _output_names([*spine_types], selected)
        self.output_types = spine_types | {
            output: facts_types[column] for column, output in self.output_names.items()
        }


class JoinedRows:
    """The output rows: the streamed spine, each row with its fact."""

    def __init__(self, spine: InputTable, facts: InputTable, plan: JoinPlan) -> None:
        self._plan, self._names = plan, (spine.step_input.asked, facts.step_input.asked)
        self._facts: pa.Table = facts.prepared.run().table()
        self._output_columns = {
            name: _combine_chunks(self._facts.column(column))
            for column, name in plan.output_names.items()
        }
        self._stream: Stream = spine.prepared.run_ordered(buffer=True)
        fields = [pa.field(name, column.type) for name, column in self._output_columns.items()]
        self.schema = pa.schema([*self._stream.schema, *fields])

    def batches(self, rows: int = 65536) -> Iterator[pa.RecordBatch]:
        """Yield the rows in the order of the spine. Raises AmbiguousMatch, ResourceExhausted."""
        plan = self._plan
        keys = [self._facts.column(f) for _, f in plan.by]
        times = self._facts.column(plan.times[1])
        ties = None if plan.tie_break is None else _sort_values(self._facts.column(plan.tie_break))
        with _translated(), scratch_duckdb.open_bare() as connection:
            matcher = AsofMatcher(connection, plan.rule, keys, times, ties)
            for batches in _chunks(self._stream.batches(rows)):
                spine = pa.Table.from_batches(batches)
                keys = [spine.column(s) for s, _ in plan.by]
                matches = matcher.match(keys, spine.column(plan.times[0])).combine_chunks()
                start = 0
                for batch in batches:
                    yield self._joined_batch(batch, matches.slice(start, len(batch)))
                    start += len(batch)

    def close(self) -> None:
        """Close the stream."""
        self._stream.close()

    def _joined_batch(self, batch: pa.RecordBatch, matches: pa.Table) -> pa.RecordBatch:
        [facts] = matches.column("fact").chunks or [pa.array([], pa.int64())]
        ambiguous = pc.index(pc.greater(matches.column("ties"), 1), value=True).as_py()
        if ambiguous >= 0:
            raise self._ambiguous_error(batch, ambiguous, facts[ambiguous].as_py())
        found = [column.take(facts) for column in self._output_columns.values()]
        return pa.RecordBatch.from_arrays([*batch.columns, *found], schema=self.schema)

    def _ambiguous_error(self, batch: pa.RecordBatch, row: int, fact: int) -> AmbiguousMatch:
        plan, times = self._plan, self._facts.column(self._plan.times[1])
        values = {s: _display_value(batch.column(s), row) for s, _ in plan.by}
        key_text = (
            f" for {', '.join(f'{name} = {value!r}' for name, value in values.items())}"
            if values
            else ""
        )
        hint = (
            "Name a column with tie_break= to choose among them; the greatest value wins."
            if plan.tie_break is None
            else f"They also share the greatest {plan.tie_break}: remove the duplicates in SQL "
            "first."
        )
        return AmbiguousMatch(
            f"Several rows of {self._names[1]!r} have the time "
            f"{_display_value(times, fact)!s}{key_text}, and a row of "
            f"{self._names[0]!r} matches it.",
            hint=hint,
        )


def _chunks(batches: Iterator[pa.RecordBatch]) -> Iterator[list[pa.RecordBatch]]:
    """The batches of a spine in lists, one for each join."""
    chunk: list[pa.RecordBatch] = []
    for batch in batches:
        chunk.append(batch)
        if sum(map(len, chunk)) >= _ROWS_PER_JOIN:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except duckdb.Error as error:
        raise source_error(error) from error


def _display_value(column: pa.Array | pa.ChunkedArray, row: int) -> Any:
    """One value for a message; as text when Python has no such value (a far date, say)."""
    value = column.slice(row, 1)
    return to_display(value if isinstance(value, pa.ChunkedArray) else pa.chunked_array([value]))[0]


def _check_times(names: tuple[str, str], columns: tuple[str, str], types: tuple[str, str]) -> None:
    """Raise SchemaMismatch unless both columns are times of one type, or integers."""
    for table, column, kind in zip(names, columns, types, strict=True):
        if kind not in STEPS_PER_DAY and not _WHOLE_TIMES.fullmatch(kind):
            raise SchemaMismatch(
                f"The time column {column!r} of {table!r} has type {kind}.",
                table=table,
                column=column,
                expected="timestamps, dates or integers up to BIGINT",
                actual=kind,
                hint="Cast it in SQL; round floating-point times first.",
            )
    _check_comparable(names, columns, types)


def _check_comparable(
    names: tuple[str, str], columns: tuple[str, str], types: tuple[str, str]
) -> None:
    """Raise SchemaMismatch unless both columns have one type, which has an order, or are
    integers."""
    are_integers = all(_INTEGERS.fullmatch(kind) for kind in types)
    if not are_integers and (types[0] != types[1] or UNORDERED_TYPES.search(types[0])):
        raise SchemaMismatch(
            f"{columns[1]!r} of {names[1]!r} is {types[1]} and {columns[0]!r} of {names[0]!r} is "
            f"{types[0]}: these types cannot be compared.",
            table=names[1],
            column=columns[1],
            expected=types[0],
            actual=types[1],
            hint="Cast one of them in SQL.",
        )


def _output_names(spine: Sequence[str], columns: Sequence[str]) -> dict[str, str]:
    """Output names of the facts' columns. A name that the spine has, too, becomes `<name>_facts`,
    then `<name>_facts_2` …"""
    used_names = {fold(name) for name in spine}
    colliding = [c for c in columns if fold(c) in used_names]
    used_names |= {fold(c) for c in columns}
    names = {}
    for column in colliding:
        number = 1
        while fold(name := f"{column}_facts{f'_{number}' if number > 1 else ''}") in used_names:
            number += 1
        used_names.add(fold(name))
        names[column] = name
    return {column: names.get(column, column) for column in columns}


def spine_key(spine: InputTable) -> list[str]:
    """The key of the output: the key of the spine when the spine is a whole result table, because a
    join keeps each spine row once."""
    record = spine.record
    is_whole_table = spine.step_input.statement.startswith(
        "SELECT * FROM "
    ) and not spine.step_input.statement.startswith("SELECT * FROM (")
    return (
        list(record.key)
        if record is not None and is_whole_table and set(record.key) <= set(spine.columns)
        else []
    )


def _sort_values(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """An ENUM column as the positions of its values, which is how SQL orders them; any other column
    unchanged."""
    if not pa.types.is_dictionary(column.type):
        return column
    return pa.chunked_array([chunk.indices for chunk in column.chunks], column.type.index_type)


def _combine_chunks(column: pa.ChunkedArray) -> pa.Array:
    array = column.combine_chunks() if column.num_chunks else pa.array([], column.type)
    return array.chunk(0) if isinstance(array, pa.ChunkedArray) and array.num_chunks else array
