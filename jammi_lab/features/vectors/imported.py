"""The producer `imported`: vectors computed outside the workspace, checked and sorted by key."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from jammi_lab.core.canonical_json import digest_of
from jammi_lab.core.definitions import ImportedDescriptor
from jammi_lab.core.errors import (
    InvalidArgument,
    NotRecomputable,
    SchemaMismatch,
    SourceUnavailable,
    TableNotFound,
)
from jammi_lab.core.identifiers import fold, near_names
from jammi_lab.core.records import OnProgress, TableKind
from jammi_lab.core.tenancy import TenantScope
from jammi_lab.engine.engine import Engine
from jammi_lab.features.vectors.exact_search import row_norms
from jammi_lab.steps.external import ExternalProducer
from jammi_lab.steps.from_clause import from_text
from jammi_lab.steps.jobs import BoundInput, Job, RunningJob, TableRows
from jammi_lab.storage.digests import arrow_digests
from jammi_lab.storage.parquet import decoded_column, row_group_rows
from jammi_lab.storage.vector_arrays import key_ranks, to_keys, to_matrix

OUTPUT_VERSION = 1
"""Increment when equal vectors would be stored otherwise than before."""


class ImportedRows(TableRows):
    """Output rows in memory, in batches of whole row groups, which are written without a copy."""

    def batches(self, rows: int | None = None) -> Iterator[pa.RecordBatch]:
        """Yield the rows, in the order given."""
        yield from super().batches(rows or row_group_rows(self.schema))


class ImportedProducer:
    """Imports tables with a key column and a vector column."""

    def __init__(self, engine: Engine, scope: TenantScope) -> None:
        self._engine, self._scope = engine, scope
        self._external = ExternalProducer(engine, scope)

    def job(self, table: pa.Table, key: str, vector: str, source: str | None, model_id: str) -> Job:
        """The job of importing vectors.

        Raises SchemaMismatch for a missing column, a wrong width, numbers that are not finite and a
        zero vector; DuplicateKey for missing or duplicate keys; TableNotFound for an unknown
        source."""
        sorted_table = _sorted_table(
            table, _find_column(table, key), _find_column(table, _vector_column(table, vector))
        )
        digests = arrow_digests(sorted_table)
        digest = digest_of(
            [
                [name, str(sorted_table.schema.field(name).type), digests[name]]
                for name in sorted_table.schema.names
            ]
        )
        descriptor = ImportedDescriptor(
            model_id=_check_model_id(model_id),
            rows_digest=digest,
            key=key,
            vector=vector,
            source=source,
        )
        return self._bind(sorted_table, descriptor)

    def _bind(self, sorted_table: pa.Table, descriptor: ImportedDescriptor) -> Job:
        """Bind the source as it is now. The rows are in memory and cannot change."""
        inputs = [] if descriptor.source is None else self._source_inputs(descriptor.source)

        def rows(_: OnProgress | None) -> RunningJob:
            return RunningJob(ImportedRows(sorted_table))

        return Job(
            kind=TableKind.IMPORTED,
            descriptor=descriptor,
            environment=self.environment(),
            inputs=[BoundInput(b.relation, b.columns) for b in inputs],
            start=rows,
            rebind=lambda: self._bind(sorted_table, descriptor),
            key=["key"],
            dimensions=sorted_table.schema.field("vector").type.list_size,
            model_id=descriptor.model_id,
        )

    def _source_inputs(self, source: str) -> list[BoundInput]:
        """The inputs that the vectors' rows come from: a source, a recipe or SQL. Raises
        TableNotFound and what binding SQL raises."""
        try:
            return [self._external.bind(source)]
        except (TableNotFound, SourceUnavailable):
            # SQL with an asterisk looks like a file pattern to the name lookup
            if not any(c.isspace() for c in source.strip()):
                raise
        source_text = from_text(self._engine, self._scope.current, source)
        [prepared] = self._engine.prepare(
            f"SELECT * FROM {source_text}", tenant=self._scope.current
        )
        return [BoundInput(b.relation, b.columns) for b in prepared.inputs]

    def environment(self) -> dict[str, Any]:
        """Everything besides the descriptor that shapes the rows: only how they are stored."""
        return {"revision": OUTPUT_VERSION}

    def from_descriptor(self, name: str, descriptor: ImportedDescriptor) -> Job:
        """Raise NotRecomputable: vectors from outside cannot be computed here."""
        raise NotRecomputable(
            f"{name!r} was imported, as vectors of {descriptor.model_id!r}; it cannot be "
            "recomputed here.",
            hint=f"Compute the vectors again and call ws.import_embeddings({name!r}, data, …).",
        )


def _find_column(table: pa.Table, name: str) -> str:
    names = [str(n) for n in table.schema.names]
    match = next((n for n in names if fold(n) == fold(name)), None)
    if match is None:
        raise SchemaMismatch(
            f"The data has no column {name!r}.",
            column=name,
            expected=name,
            actual=", ".join(names),
            hint=_column_hint(name, names),
        )
    return match


def _vector_column(table: pa.Table, vector: str) -> str:
    """The vector column. The default name `vec` also finds `vector`, which our own and many other
    tables use."""
    names = {fold(str(n)) for n in table.schema.names}
    return (
        "vector" if fold(vector) == "vec" and "vec" not in names and "vector" in names else vector
    )


def _column_hint(name: str, names: list[str]) -> str:
    suggestions = near_names(name, names)
    return (
        f"Did you mean {suggestions[0]}?"
        if suggestions
        else "Name the key with key=, the vectors with vector=."
    )


def _check_model_id(model_id: str) -> str:
    if not isinstance(model_id, str) or not model_id.strip():
        raise InvalidArgument(
            f"model_id must be a non-empty string, got {model_id!r}.",
            hint='For example model_id="text-embedding-3-small".',
        )
    return model_id


def _sorted_table(table: pa.Table, key: str, vector: str) -> pa.Table:
    """Validate a table: columns key, vector, then the others, in ascending key order."""
    if fold(key) == fold(vector):
        raise SchemaMismatch(
            f"Key and vector cannot both be the column {key!r}.",
            column=key,
            hint="Name the key with key=, the vectors with vector=.",
        )
    if nulls := table.column(key).null_count:
        raise SchemaMismatch(
            f"{nulls:,} of {table.num_rows:,} rows have no key in {key!r}.",
            column=key,
            expected="a key in every row",
            actual="NULL",
            hint="Exclude these rows.",
        )
    keys = _uuids_to_text(to_keys(decoded_column(table.column(key)), key))
    ranks = key_ranks(keys, key)
    matrix = to_matrix(table.column(vector), name=vector)
    _check_vectors(matrix, keys, vector)
    flat = pa.FixedSizeListArray.from_arrays(pa.array(matrix.reshape(-1)), matrix.shape[1])
    other_columns = {str(n): table.column(n) for n in table.schema.names if n not in (key, vector)}
    if conflicting := [n for n in other_columns if fold(n) in ("key", "vector")]:
        raise SchemaMismatch(
            f"No other column can be named {conflicting[0]!r}.",
            column=conflicting[0],
            hint="Rename it.",
        )
    table_in_order = pa.table({"key": keys, "vector": flat, **other_columns})
    return table_in_order if ranks is None else table_in_order.take(pa.array(np.argsort(ranks)))


def _uuids_to_text(keys: pa.Array) -> pa.Array:
    """UUIDs as text, as SQL returns them. As bytes they would match no key of a source, graph or
    set."""
    if not isinstance(keys.type, pa.UuidType):
        return keys
    return pa.array([str(key) for key in keys.to_pylist()], pa.string())


def _check_vectors(matrix: NDArray[np.float32], keys: pa.Array, vector: str) -> None:
    """Raise SchemaMismatch unless every vector can be searched. One test suffices: the norm in
    float64 is finite and above zero."""
    norms = row_norms(matrix)
    invalid = ~(np.isfinite(norms) & (norms > 0))
    if invalid.any():
        row = int(np.argmax(invalid))
        problem = "is all zeros" if norms[row] == 0 else "is not finite"
        raise SchemaMismatch(
            f"The vector of key {keys[row].as_py()!r} {problem}.",
            column=vector,
            expected="finite numbers, not all zero",
            actual=problem,
            hint="Correct or exclude it.",
        )
