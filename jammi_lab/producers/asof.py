"""The producer `asof_join`: each row of a spine with the fact that was known at its time. Facts are held in memory, the spine passes by."""

import datetime
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from jammi_lab.engine.resolve import Provider
from jammi_lab.engine.session import Engine
from jammi_lab.engine.stream import Stream
from jammi_lab.errors import AmbiguousMatch, InvalidArgument, SchemaMismatch
from jammi_lab.names import fold
from jammi_lab.people import for_people
from jammi_lab.producers.base import Job, OnProgress, Running
from jammi_lab.producers.inputs import Asked, Inputs, Taken, column_of, shared
from jammi_lab.producers.matching import Groups, arrow_of, common_type, whole
from jammi_lab.producers.sql import environment as sql_environment
from jammi_lab.producers.times import Facts, Rule, scale_of, times_of
from jammi_lab.values.descriptors import AsofJoinDescriptor, decode_param, encode_param
from jammi_lab.values.records import Progress, TableKind

REVISION = 1
"""Raised when equal spines and facts would give other rows than before."""
_CHOICES = {"direction": ("backward", "forward", "nearest"), "boundary": ("inclusive", "exclusive")}


class AsofProducer:
    """Binds spines and facts."""

    def __init__(self, inputs: Inputs, engine: Engine) -> None:
        self._inputs, self._engine = inputs, engine

    def job(
        self,
        name: str,
        spine: str,
        facts: str,
        times: tuple[str, str],
        by: Sequence[str | tuple[str, str]],
        extra: Sequence[Provider] = (),
        *,
        tolerance: datetime.timedelta | int | None,
        tie_break: str | None,
        project: Sequence[str] | None,
        **chosen: str,
    ) -> Job:
        """The join as a job; `chosen`: direction, boundary. TableNotFound; SchemaMismatch; InvalidArgument."""
        for what, choices in _CHOICES.items():
            if chosen[what] not in choices:
                raise InvalidArgument(f"{what} is {', '.join(choices[:-1])} or {choices[-1]}, not {chosen[what]!r}.")
        pairs = [_pair(each) for each in by]
        read = None if project is None else [*(f for _, f in pairs), times[1], *([] if tie_break is None else [tie_break]), *project]
        told = {
            "spine_time": times[0],
            "facts_time": times[1],
            "by": pairs,
            **chosen,
            "tolerance": encode_param(_tolerance(tolerance)),
            "tie_break": tie_break,
            "project": None if project is None else list(project),
        }
        asked = self._inputs.table_named(spine, None, extra), self._inputs.table_named(facts, read, extra)
        return self._bound(name, *asked, told, extra)

    def from_descriptor(self, name: str, said: AsofJoinDescriptor, extra: Sequence[Provider] = ()) -> Job:
        """A recorded definition as a job over its inputs as they are now. Raises as binding does."""
        fields = ("spine_time", "facts_time", "by", *_CHOICES, "tolerance", "tie_break", "project")
        told = {field: getattr(said, field) for field in fields}
        return self._bound(name, (said.spine.asked, said.spine.statement), (said.facts.asked, said.facts.statement), told, extra)

    def environment(self) -> dict[str, Any]:
        """What else shapes the rows."""
        return {"revision": REVISION, "select": sql_environment(self._engine)}

    def _bound(self, name: str, spine: Asked, facts: Asked, told: dict[str, Any], extra: Sequence[Provider]) -> Job:
        left, right = self._inputs.take(spine, extra), self._inputs.take(facts, extra)
        plan = Plan(left, right, told)
        descriptor = AsofJoinDescriptor(spine=left.said, facts=right.said, **plan.spelt(told))

        def rows(on_progress: OnProgress | None) -> Running:
            if on_progress:
                on_progress(Progress(stage=f"read facts of {name}", done=0, total=None, unit="rows"))
            return Running(_Joined(left, right, plan))

        return Job(
            kind=TableKind.ASOF_JOIN,
            descriptor=descriptor,
            environment=self.environment(),
            rows=rows,
            again=lambda: self._bound(name, spine, facts, told, extra),
            key=_key(left),
            **shared([left, right]) | {"order_sensitive": True},  # its rows come in the order of the spine
        )


class Plan:
    """What is compared with what, and what is put out under which name; found from names and types, before a row is read. SchemaMismatch."""

    def __init__(self, spine: Taken, facts: Taken, told: dict[str, Any]) -> None:
        left, right = dict(spine.prepared.output), dict(facts.prepared.output)
        asked = spine.said.asked, facts.said.asked
        self.times = column_of(asked[0], [*left], told["spine_time"]), column_of(asked[1], [*right], told["facts_time"])
        self.by = [(column_of(asked[0], [*left], s), column_of(asked[1], [*right], f)) for s, f in told["by"]]
        self.tie_break = None if told["tie_break"] is None else column_of(asked[1], [*right], told["tie_break"])
        self.named = (asked[0], self.times[0]), (asked[1], self.times[1])
        self.scale = scale_of(arrow_of(left[self.times[0]]), arrow_of(right[self.times[1]]), self.named)
        tolerance = decode_param(told["tolerance"])
        self.rule = Rule(told["direction"], told["boundary"] == "inclusive", self.scale.steps(tolerance))
        self.kinds = [_comparable(asked, s, left[s], f, right[f]) for s, f in self.by]
        if told["project"] is None:
            chosen = [c for c in right if c not in {f for _, f in self.by}]
        else:
            chosen = list(dict.fromkeys(column_of(asked[1], [*right], c) for c in told["project"]))
        self.put_out = _renamed([*left], chosen)

    def spelt(self, told: dict[str, Any]) -> dict[str, Any]:
        """What a descriptor keeps: columns as their tables spell them."""
        return {
            **told,
            "spine_time": self.times[0],
            "facts_time": self.times[1],
            "by": self.by,
            "tie_break": self.tie_break,
            "project": None if told["project"] is None else [*self.put_out],
        }


@dataclass
class _Held:
    """What is held of the facts."""

    groups: Groups
    facts: Facts
    put_out: dict[str, pa.Array]
    """The columns to give, under their names."""
    times: pa.Array
    """As they were read, for people."""


class _Joined:
    """The rows of the spine as they come, each with its fact."""

    def __init__(self, spine: Taken, facts: Taken, plan: Plan) -> None:
        self._plan, self._asked = plan, (spine.said.asked, facts.said.asked)
        self._held = self._read(facts)
        self._stream: Stream = spine.prepared.run_ordered(slowly=True)
        given = self._stream.schema
        self.schema = pa.schema([*given, *(pa.field(name, column.type) for name, column in self._held.put_out.items())])

    def batches(self, rows: int = 65536) -> Iterator[pa.RecordBatch]:
        """The rows, in the spine's order. AmbiguousMatch."""
        held, plan = self._held, self._plan
        for batch in self._stream.batches(rows):
            times, there = times_of(_column(batch, plan.times[0]), plan.scale)
            group = held.groups.of([_column(batch, s) for s, _ in plan.by], len(batch))
            found, tied = held.facts.matched(group, times, there, plan.rule)
            if tied.any():
                raise self._ambiguous(batch, int(np.argmax(tied)), int(found[np.argmax(tied)]))
            take = pa.array(found, mask=found < 0)
            yield pa.RecordBatch.from_arrays([*batch.columns, *(column.take(take) for column in held.put_out.values())], schema=self.schema)

    def close(self) -> None:
        """Stop reading, and let go of the facts."""
        self._stream.close()

    def _read(self, facts: Taken) -> _Held:
        plan, table = self._plan, facts.prepared.run().table()
        times = whole(table.column(plan.times[1]))
        groups = Groups([whole(table.column(f)) for _, f in plan.by], table.num_rows, plan.kinds)
        ties = None if plan.tie_break is None else whole(_ordered(table.column(plan.tie_break)))
        put_out = {name: _one(table.column(column)) for column, name in plan.put_out.items()}
        return _Held(groups, Facts(groups.numbers, *times_of(times, plan.scale), ties), put_out, times)

    def _ambiguous(self, batch: pa.RecordBatch, row: int, fact: int) -> AmbiguousMatch:
        plan = self._plan
        values = {s: _shown(batch.column(s), row) for s, _ in plan.by}
        of = f" for {', '.join(f'{name} = {value!r}' for name, value in values.items())}" if values else ""
        hint = (
            "Name a column that tells them apart with tie_break=; the greatest value counts."
            if plan.tie_break is None
            else f"They have the greatest {plan.tie_break} in common: make one of them in SQL first."
        )
        return AmbiguousMatch(
            f"Several rows of {self._asked[1]!r} have the time {_shown(self._held.times, fact)!s}{of}, and a row of {self._asked[0]!r} matches it.",
            hint=hint,
        )


def _shown(column: pa.Array, row: int) -> Any:
    """A value for a message; one that Python has not, a far date say, as text."""
    return for_people(pa.chunked_array([column.slice(row, 1)]))[0]


def _pair(given: str | tuple[str, str]) -> tuple[str, str]:
    """A column of the spine and one of the facts. InvalidArgument."""
    pair = (given, given) if isinstance(given, str) else tuple(given) if isinstance(given, list | tuple) else ()
    if len(pair) != 2 or not all(isinstance(each, str) and each for each in pair):
        raise InvalidArgument(f"by= holds names common to both, or (spine, facts) pairs, not {given!r}.")
    return pair[0], pair[1]


def _tolerance(given: datetime.timedelta | int | None) -> datetime.timedelta | int | None:
    """InvalidArgument for what is no duration or number of steps, or one below zero."""
    if given is None:
        return None
    if not isinstance(given, datetime.timedelta | int | np.integer) or isinstance(given, bool | np.timedelta64):
        raise InvalidArgument(f"tolerance is a timedelta for times, a whole number for integers, or None, not {given!r}.")
    if getattr(given, "nanoseconds", 0):  # of pandas; Python's own, which a definition holds, has none
        raise InvalidArgument(f"tolerance is a timedelta of whole microseconds, not {given!r}.")
    said = datetime.timedelta(given.days, given.seconds, given.microseconds) if isinstance(given, datetime.timedelta) else int(given)
    if (said.days if isinstance(said, datetime.timedelta) else said) < 0:
        raise InvalidArgument(f"tolerance is how far at most, not below zero: {given!r}.")
    return said


def _comparable(asked: tuple[str, str], spine: str, one: str, facts: str, other: str) -> pa.DataType:
    kind = common_type(arrow_of(one), arrow_of(other)) if "UUID" not in (one, other) or one == other else None
    if kind is None:
        raise SchemaMismatch(
            f"{facts!r} of {asked[1]!r} is {other} and {spine!r} of {asked[0]!r} is {one}: they cannot be equal.",
            table=asked[1],
            column=facts,
            expected=one,
            actual=other,
            hint="Cast one of them in SQL.",
        )
    return kind


def _renamed(spine: Sequence[str], chosen: Sequence[str]) -> dict[str, str]:
    """What each column of the facts is called: one that is called as a column of the spine `<name>_facts`, `<name>_facts_2` …"""
    taken = {fold(name) for name in spine}
    colliding = [c for c in chosen if fold(c) in taken]
    taken |= {fold(c) for c in chosen}
    names = {}
    for column in colliding:
        number = 1
        while fold(name := f"{column}_facts{f'_{number}' if number > 1 else ''}") in taken:
            number += 1
        taken.add(fold(name))
        names[column] = name
    return {column: names.get(column, column) for column in chosen}


def _key(spine: Taken) -> list[str]:
    """What identifies a row of the spine identifies one of the join: the key of the table that it is."""
    record = spine.record
    plain = spine.said.statement.startswith("SELECT * FROM ") and not spine.said.statement.startswith("SELECT * FROM (")
    return list(record.key) if record is not None and plain and set(record.key) <= set(spine.columns) else []


def _ordered(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """An ENUM as the places of its values in their list, by which SQL orders them; anything else as it is."""
    if not pa.types.is_dictionary(column.type):
        return column
    return pa.chunked_array([chunk.indices for chunk in column.chunks], column.type.index_type)


def _column(batch: pa.RecordBatch, name: str) -> pa.Array:
    return whole(pa.chunked_array([batch.column(name)]))


def _one(column: pa.ChunkedArray) -> pa.Array:
    array = column.combine_chunks() if column.num_chunks else pa.array([], column.type)
    return array.chunk(0) if isinstance(array, pa.ChunkedArray) and array.num_chunks else array
