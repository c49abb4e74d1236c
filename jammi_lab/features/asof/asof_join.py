"""The producer `asof_join`: each row of a spine with the fact that held at its time. The facts are
in memory; the spine is streamed."""

import datetime
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from jammi_lab.core.definitions import AsofJoinDescriptor, decode_param, encode_param
from jammi_lab.core.display_values import to_display
from jammi_lab.core.errors import AmbiguousMatch, InvalidArgument, SchemaMismatch
from jammi_lab.core.identifiers import fold
from jammi_lab.core.records import OnProgress, Progress, TableKind
from jammi_lab.engine.engine import Engine
from jammi_lab.engine.name_resolution import NameResolver
from jammi_lab.engine.stream import Stream
from jammi_lab.features.asof.asof_times import AsofIndex, MatchRule, common_scale, to_times
from jammi_lab.steps.input_tables import (
    InputLoader,
    InputReference,
    InputTable,
    check_choices,
    find_column,
    input_fields,
)
from jammi_lab.steps.jobs import Job, RunningJob
from jammi_lab.steps.key_types import RowGroups, common_type, single_array, to_arrow_type
from jammi_lab.steps.sql import environment as sql_environment

OUTPUT_VERSION = 1
"""Increment when equal spines and facts would give other rows than before."""
_CHOICES = {"direction": ("backward", "forward", "nearest"), "boundary": ("inclusive", "exclusive")}


class AsofProducer:
    """Binds spines and facts."""

    def __init__(self, inputs: InputLoader, engine: Engine) -> None:
        self._inputs, self._engine = inputs, engine

    def job(
        self,
        name: str,
        spine: str,
        facts: str,
        times: tuple[str, str],
        by: Sequence[str | tuple[str, str]],
        resolvers: Sequence[NameResolver] = (),
        *,
        tolerance: datetime.timedelta | int | None,
        tie_break: str | None,
        project: Sequence[str] | None,
        **choices: str,
    ) -> Job:
        """The job of a join. `choices`: direction and boundary. Raises TableNotFound,
        SchemaMismatch, InvalidArgument."""
        check_choices(choices, _CHOICES)
        pairs = [_parse_by(each) for each in by]
        facts_columns = (
            None
            if project is None
            else [
                *(f for _, f in pairs),
                times[1],
                *([] if tie_break is None else [tie_break]),
                *project,
            ]
        )
        options = {
            "spine_time": times[0],
            "facts_time": times[1],
            "by": pairs,
            **choices,
            "tolerance": encode_param(_check_tolerance(tolerance)),
            "tie_break": tie_break,
            "project": None if project is None else list(project),
        }
        references = (
            self._inputs.select_columns(spine, None, resolvers),
            self._inputs.select_columns(facts, facts_columns, resolvers),
        )
        return self._bind(name, *references, options, resolvers)

    def from_descriptor(
        self, name: str, descriptor: AsofJoinDescriptor, resolvers: Sequence[NameResolver] = ()
    ) -> Job:
        """The job of a recorded definition over the current inputs. Raises what binding raises."""
        fields = ("spine_time", "facts_time", "by", *_CHOICES, "tolerance", "tie_break", "project")
        options = {field: getattr(descriptor, field) for field in fields}
        return self._bind(
            name, descriptor.spine.reference, descriptor.facts.reference, options, resolvers
        )

    def environment(self) -> dict[str, Any]:
        """Everything besides the descriptor that shapes the rows."""
        return {"revision": OUTPUT_VERSION, "select": sql_environment(self._engine)}

    def _bind(
        self,
        name: str,
        spine: InputReference,
        facts: InputReference,
        options: dict[str, Any],
        resolvers: Sequence[NameResolver],
    ) -> Job:
        spine_table = self._inputs.load(spine, resolvers)
        facts_table = self._inputs.load(facts, resolvers)
        plan = JoinPlan(spine_table, facts_table, options)
        descriptor = AsofJoinDescriptor(
            spine=spine_table.step_input,
            facts=facts_table.step_input,
            **plan.descriptor_fields(options),
        )

        def rows(on_progress: OnProgress | None) -> RunningJob:
            if on_progress:
                on_progress(
                    Progress(stage=f"read facts of {name}", done=0, total=None, unit="rows")
                )
            return RunningJob(_JoinedRows(spine_table, facts_table, plan))

        return Job(
            kind=TableKind.ASOF_JOIN,
            descriptor=descriptor,
            environment=self.environment(),
            start=rows,
            rebind=lambda: self._bind(name, spine, facts, options, resolvers),
            key=_spine_key(spine_table),
            columns=plan.output_types,
            # the rows come in the order of the spine
            **input_fields([spine_table, facts_table]) | {"order_sensitive": True},
        )


class JoinPlan:
    """Which columns are compared, in which types, and which are output under which names. It needs
    names and types only, no rows. Raises SchemaMismatch."""

    def __init__(self, spine: InputTable, facts: InputTable, options: dict[str, Any]) -> None:
        spine_types, facts_types = dict(spine.prepared.output), dict(facts.prepared.output)
        names = spine.step_input.asked, facts.step_input.asked
        self.times = (
            find_column(names[0], [*spine_types], options["spine_time"]),
            find_column(names[1], [*facts_types], options["facts_time"]),
        )
        self.by = [
            (find_column(names[0], [*spine_types], s), find_column(names[1], [*facts_types], f))
            for s, f in options["by"]
        ]
        self.tie_break = (
            None
            if options["tie_break"] is None
            else find_column(names[1], [*facts_types], options["tie_break"])
        )
        self.time_columns = (names[0], self.times[0]), (names[1], self.times[1])
        self.scale = common_scale(
            to_arrow_type(spine_types[self.times[0]]),
            to_arrow_type(facts_types[self.times[1]]),
            self.time_columns,
        )
        tolerance = decode_param(options["tolerance"])
        self.rule = MatchRule(
            options["direction"], options["boundary"] == "inclusive", self.scale.to_steps(tolerance)
        )
        self.compare_types = [
            _comparison_type(names, s, spine_types[s], f, facts_types[f]) for s, f in self.by
        ]
        if options["project"] is None:
            selected = [c for c in facts_types if c not in {f for _, f in self.by}]
        else:
            selected = list(
                dict.fromkeys(find_column(names[1], [*facts_types], c) for c in options["project"])
            )
        self.output_names = _output_names([*spine_types], selected)
        self.output_types = spine_types | {
            output: facts_types[column] for column, output in self.output_names.items()
        }

    def descriptor_fields(self, options: dict[str, Any]) -> dict[str, Any]:
        """The fields of a descriptor, with columns as their tables spell them."""
        return {
            **options,
            "spine_time": self.times[0],
            "facts_time": self.times[1],
            "by": self.by,
            "tie_break": self.tie_break,
            "project": None if options["project"] is None else [*self.output_names],
        }


@dataclass
class _LoadedFacts:
    """The facts in memory."""

    groups: RowGroups
    index: AsofIndex
    output_columns: dict[str, pa.Array]
    """The output columns of the facts, by output name."""
    times: pa.Array
    """The times as read, for messages."""


class _JoinedRows:
    """The output rows: the streamed spine, each row with its fact."""

    def __init__(self, spine: InputTable, facts: InputTable, plan: JoinPlan) -> None:
        self._plan, self._names = plan, (spine.step_input.asked, facts.step_input.asked)
        self._facts = self._load_facts(facts)
        self._stream: Stream = spine.prepared.run_ordered(buffer=True)
        spine_schema = self._stream.schema
        self.schema = pa.schema(
            [
                *spine_schema,
                *(
                    pa.field(name, column.type)
                    for name, column in self._facts.output_columns.items()
                ),
            ]
        )

    def batches(self, rows: int = 65536) -> Iterator[pa.RecordBatch]:
        """Yield the rows in the order of the spine. Raises AmbiguousMatch."""
        loaded, plan = self._facts, self._plan
        for batch in self._stream.batches(rows):
            times, valid = to_times(_batch_column(batch, plan.times[0]), plan.scale)
            group = loaded.groups.numbers_of_rows(
                [_batch_column(batch, s) for s, _ in plan.by], len(batch)
            )
            fact_rows, ambiguous = loaded.index.match(group, times, valid, plan.rule)
            if ambiguous.any():
                raise self._ambiguous_error(
                    batch, int(np.argmax(ambiguous)), int(fact_rows[np.argmax(ambiguous)])
                )
            fact_indexes = pa.array(fact_rows, mask=fact_rows < 0)
            yield pa.RecordBatch.from_arrays(
                [
                    *batch.columns,
                    *(column.take(fact_indexes) for column in loaded.output_columns.values()),
                ],
                schema=self.schema,
            )

    def close(self) -> None:
        """Close the stream and release the facts."""
        self._stream.close()

    def _load_facts(self, facts: InputTable) -> _LoadedFacts:
        plan, table = self._plan, facts.prepared.run().table()
        times = single_array(table.column(plan.times[1]))
        groups = RowGroups(
            [single_array(table.column(f)) for _, f in plan.by], table.num_rows, plan.compare_types
        )
        ties = (
            None
            if plan.tie_break is None
            else single_array(_sort_values(table.column(plan.tie_break)))
        )
        put_out = {
            name: _combine_chunks(table.column(column))
            for column, name in plan.output_names.items()
        }
        return _LoadedFacts(
            groups, AsofIndex(groups.numbers, *to_times(times, plan.scale), ties), put_out, times
        )

    def _ambiguous_error(self, batch: pa.RecordBatch, row: int, fact: int) -> AmbiguousMatch:
        plan = self._plan
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
            f"{_display_value(self._facts.times, fact)!s}{key_text}, and a row of "
            f"{self._names[0]!r} matches it.",
            hint=hint,
        )


def _display_value(column: pa.Array, row: int) -> Any:
    """One value for a message; as text when Python has no such value (a far date, say)."""
    return to_display(pa.chunked_array([column.slice(row, 1)]))[0]


def _parse_by(element: str | tuple[str, str]) -> tuple[str, str]:
    """The spine column and the facts column of one `by` element. Raises InvalidArgument."""
    pair = (
        (element, element)
        if isinstance(element, str)
        else tuple(element)
        if isinstance(element, list | tuple)
        else ()
    )
    if len(pair) != 2 or not all(isinstance(name, str) and name for name in pair):
        raise InvalidArgument(
            "by= takes column names that both have, or (spine, facts) pairs of names, got "
            f"{element!r}."
        )
    return pair[0], pair[1]


def _check_tolerance(tolerance: datetime.timedelta | int | None) -> datetime.timedelta | int | None:
    """A validated tolerance. Raises InvalidArgument unless it is None, a duration or a number of
    steps, and at least zero."""
    if tolerance is None:
        return None
    if not isinstance(tolerance, datetime.timedelta | int | np.integer) or isinstance(
        tolerance, bool | np.timedelta64
    ):
        raise InvalidArgument(
            "tolerance must be a timedelta (for times), an integer (for integer times) or None, "
            f"got {tolerance!r}."
        )
    # pandas.Timedelta counts nanoseconds; a definition records Python's timedelta, which does not
    if getattr(tolerance, "nanoseconds", 0):
        raise InvalidArgument(f"tolerance must be in whole microseconds, got {tolerance!r}.")
    plain_tolerance = (
        datetime.timedelta(tolerance.days, tolerance.seconds, tolerance.microseconds)
        if isinstance(tolerance, datetime.timedelta)
        else int(tolerance)
    )
    if (
        plain_tolerance.days if isinstance(plain_tolerance, datetime.timedelta) else plain_tolerance
    ) < 0:
        raise InvalidArgument(f"tolerance must be at least zero, got {tolerance!r}.")
    return plain_tolerance


def _comparison_type(
    names: tuple[str, str], spine: str, spine_type: str, facts: str, facts_type: str
) -> pa.DataType:
    kind = (
        common_type(to_arrow_type(spine_type), to_arrow_type(facts_type))
        if "UUID" not in (spine_type, facts_type) or spine_type == facts_type
        else None
    )
    if kind is None:
        raise SchemaMismatch(
            f"{facts!r} of {names[1]!r} is {facts_type} and {spine!r} of {names[0]!r} is "
            f"{spine_type}: these types cannot be compared.",
            table=names[1],
            column=facts,
            expected=spine_type,
            actual=facts_type,
            hint="Cast one of them in SQL.",
        )
    return kind


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


def _spine_key(spine: InputTable) -> list[str]:
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


def _batch_column(batch: pa.RecordBatch, name: str) -> pa.Array:
    return single_array(pa.chunked_array([batch.column(name)]))


def _combine_chunks(column: pa.ChunkedArray) -> pa.Array:
    array = column.combine_chunks() if column.num_chunks else pa.array([], column.type)
    return array.chunk(0) if isinstance(array, pa.ChunkedArray) and array.num_chunks else array
