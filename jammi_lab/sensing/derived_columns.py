"""Which columns of their inputs the columns of graphs, derived vectors and as-of joins rest on: what is known of the producer, over what the engine
says of the statements that read its inputs."""

from collections.abc import Callable, Iterable, Mapping, Sequence

from jammi_lab.engine.outputs import ColumnReads, Identity
from jammi_lab.names import fold
from jammi_lab.values.descriptors import (
    AsofJoinDescriptor,
    ContextSetDescriptor,
    GraphPropagationDescriptor,
    NeighborGraphDescriptor,
    ProjectionDescriptor,
    StepInput,
)

Derived = NeighborGraphDescriptor | GraphPropagationDescriptor | ContextSetDescriptor | ProjectionDescriptor | AsofJoinDescriptor
Ask = Callable[[StepInput], list[ColumnReads] | None]
Reads = Mapping[Identity, frozenset[str]]


def derived_columns(said: Derived, names: Sequence[str], ask: Ask) -> list[ColumnReads] | None:
    """One entry per column of the table, whose columns are called `names`; None when a statement means something else now."""
    match said:
        case NeighborGraphDescriptor():
            if (vectors := ask(said.vectors)) is None:
                return None
            key, vector = vectors
            own = {"src": [key], "dst": [key], "rank": [vector], "similarity": [vector]}
            return [_column(name, own[name], vectors) for name in names]
        case GraphPropagationDescriptor():
            vectors, edges = ask(said.vectors), ask(said.edges)
            if vectors is None or edges is None:
                return None
            key, vector = vectors
            return [_column("key", [key], []), _column("vector", [vector, *edges[2:]], [key, *edges])]
        case ContextSetDescriptor():
            vectors, members = ask(said.vectors), ask(said.members)
            if vectors is None or members is None:
                return None
            key, vector = vectors
            return [_column("key", [members[0]], [*members, key]), _column("vector", [vector], [key, *members])]
        case ProjectionDescriptor():
            if (vectors := ask(said.vectors)) is None:
                return None
            key, vector = vectors
            return [_column("key", [key], []), *(_column(axis, [vector], [key]) for axis in ("x", "y"))]
        case AsofJoinDescriptor():
            spine, facts = ask(said.spine), ask(said.facts)
            return None if spine is None or facts is None else _joined(said, names, spine, facts)


def _joined(said: AsofJoinDescriptor, names: Sequence[str], spine: Sequence[ColumnReads], facts: Sequence[ColumnReads]) -> list[ColumnReads] | None:
    """The spine's columns rest on the spine alone; a fact's on whatever decides which fact it is, too."""
    matched = _of(spine, [said.spine_time, *(s for s, _ in said.by)]) + _of(facts, [said.facts_time, *(f for _, f in said.by)])
    if said.tie_break is not None:
        matched += _of(facts, [said.tie_break])
    theirs = {f for _, f in said.by}
    chosen = _of(facts, said.project) if said.project is not None else [f for f in facts if f.column not in theirs]
    if len(spine) + len(chosen) != len(names):
        return None
    return [
        *(_column(name, [column], []) for name, column in zip(names, spine, strict=False)),
        *(_column(name, [column], matched) for name, column in zip(names[len(spine) :], chosen, strict=True)),
    ]


def _of(columns: Sequence[ColumnReads], names: Iterable[str]) -> list[ColumnReads]:
    by_fold = {fold(c.column): c for c in columns}
    return [by_fold[fold(name)] for name in names]


def _column(name: str, own: Sequence[ColumnReads], others: Sequence[ColumnReads]) -> ColumnReads:
    """A column whose values come from some columns, and whose rows or place in them from others."""
    return ColumnReads(name, united(c.reads for c in (*own, *others)), united(c.direct for c in own))


def united(each: Iterable[Reads]) -> dict[Identity, frozenset[str]]:
    """All that several columns rest on."""
    found: dict[Identity, frozenset[str]] = {}
    for reads in each:
        for identity, columns in reads.items():
            found[identity] = found.get(identity, frozenset()) | columns
    return found
