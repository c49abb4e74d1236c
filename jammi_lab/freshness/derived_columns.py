"""Column lineage of producers other than SQL: neighbor graphs, derived vectors and as-of joins. It
combines what each producer does with the column lineage of the statements that read its inputs."""

from collections.abc import Callable, Iterable, Mapping, Sequence

from jammi_lab.core.definitions import (
    AsofJoinDescriptor,
    ContextSetDescriptor,
    GraphPropagationDescriptor,
    NeighborGraphDescriptor,
    ProjectionDescriptor,
    StepInput,
)
from jammi_lab.core.identifiers import fold
from jammi_lab.engine.sql.column_lineage import ColumnReads, Identity

DerivedDescriptor = (
    NeighborGraphDescriptor
    | GraphPropagationDescriptor
    | ContextSetDescriptor
    | ProjectionDescriptor
    | AsofJoinDescriptor
)
LineageOf = Callable[[StepInput], list[ColumnReads] | None]
Reads = Mapping[Identity, frozenset[str]]


def derive_columns(
    descriptor: DerivedDescriptor, names: Sequence[str], lineage_of: LineageOf
) -> list[ColumnReads] | None:
    """One entry for each of the table's columns `names`; None when a statement of the definition
    has changed its meaning since."""
    match descriptor:
        case NeighborGraphDescriptor():
            if (vectors := lineage_of(descriptor.vectors)) is None:
                return None
            key, vector = vectors
            dependencies = {"src": [key], "dst": [key], "rank": [vector], "similarity": [vector]}
            return [_combined(name, dependencies[name], vectors) for name in names]
        case GraphPropagationDescriptor():
            vectors, edges = lineage_of(descriptor.vectors), lineage_of(descriptor.edges)
            if vectors is None or edges is None:
                return None
            key, vector = vectors
            return [
                _combined("key", [key], []),
                _combined("vector", [vector, *edges[2:]], [key, *edges]),
            ]
        case ContextSetDescriptor():
            vectors, members = lineage_of(descriptor.vectors), lineage_of(descriptor.members)
            if vectors is None or members is None:
                return None
            key, vector = vectors
            return [
                _combined("key", [members[0]], [*members, key]),
                _combined("vector", [vector], [key, *members]),
            ]
        case ProjectionDescriptor():
            if (vectors := lineage_of(descriptor.vectors)) is None:
                return None
            key, vector = vectors
            return [
                _combined("key", [key], []),
                *(_combined(axis, [vector], [key]) for axis in ("x", "y")),
            ]
        case AsofJoinDescriptor():
            spine, facts = lineage_of(descriptor.spine), lineage_of(descriptor.facts)
            return (
                None
                if spine is None or facts is None
                else _asof_columns(descriptor, names, spine, facts)
            )


def _asof_columns(
    descriptor: AsofJoinDescriptor,
    names: Sequence[str],
    spine: Sequence[ColumnReads],
    facts: Sequence[ColumnReads],
) -> list[ColumnReads] | None:
    """The columns of an as-of join. Spine columns depend on the spine alone; fact columns also on
    the columns that select the fact."""
    match_columns = _select_columns(
        spine, [descriptor.spine_time, *(s for s, _ in descriptor.by)]
    ) + _select_columns(facts, [descriptor.facts_time, *(f for _, f in descriptor.by)])
    if descriptor.tie_break is not None:
        match_columns += _select_columns(facts, [descriptor.tie_break])
    join_columns = {f for _, f in descriptor.by}
    projected = (
        _select_columns(facts, descriptor.project)
        if descriptor.project is not None
        else [f for f in facts if f.column not in join_columns]
    )
    if len(spine) + len(projected) != len(names):
        return None
    return [
        *(_combined(name, [column], []) for name, column in zip(names, spine, strict=False)),
        *(
            _combined(name, [column], match_columns)
            for name, column in zip(names[len(spine) :], projected, strict=True)
        ),
    ]


def _select_columns(columns: Sequence[ColumnReads], names: Iterable[str]) -> list[ColumnReads]:
    by_fold = {fold(c.column): c for c in columns}
    return [by_fold[fold(name)] for name in names]


def _combined(
    name: str, values: Sequence[ColumnReads], others: Sequence[ColumnReads]
) -> ColumnReads:
    """The lineage of a column whose values come from `values`; `others` affect which rows there are
    or which belong together."""
    return ColumnReads(
        name,
        union_reads(c.reads for c in (*values, *others)),
        union_reads(c.direct for c in values),
    )


def union_reads(reads_of_columns: Iterable[Reads]) -> dict[Identity, frozenset[str]]:
    """The union of several dependencies."""
    merged: dict[Identity, frozenset[str]] = {}
    for reads in reads_of_columns:
        for identity, columns in reads.items():
            merged[identity] = merged.get(identity, frozenset()) | columns
    return merged
