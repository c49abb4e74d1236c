"""The producer `imported`: vectors that were computed elsewhere, checked and put in key order."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from jammi_lab.canonical import digest_of
from jammi_lab.engine.session import Engine
from jammi_lab.errors import InvalidArgument, NotRecomputable, SchemaMismatch, SourceUnavailable, TableNotFound
from jammi_lab.names import fold, near
from jammi_lab.producers.addresses import address
from jammi_lab.producers.base import Bound, Job, OnProgress, Running
from jammi_lab.producers.external import ExternalProducer, Given
from jammi_lab.storage.digests import arrow_digests
from jammi_lab.storage.parquet import group_rows, plain_column
from jammi_lab.tenancy import TenantScope
from jammi_lab.values.descriptors import ImportedDescriptor
from jammi_lab.values.records import TableKind
from jammi_lab.vectors.arrays import ascending, keys_of, matrix_of
from jammi_lab.vectors.exact import norms_of

REVISION = 1


class Vectors(Given):
    """Rows that are there already, in batches of whole row groups, which are written without a copy."""

    def batches(self, rows: int | None = None) -> Iterator[pa.RecordBatch]:
        """The rows, as given."""
        yield from super().batches(rows or group_rows(self.schema))


class ImportedProducer:
    """Takes a table with a key and a column of vectors."""

    def __init__(self, engine: Engine, scope: TenantScope) -> None:
        self._engine, self._scope = engine, scope
        self._external = ExternalProducer(engine, scope)

    def job(self, table: pa.Table, key: str, vector: str, source: str | None, model_id: str) -> Job:
        """The vectors as a job. SchemaMismatch for a missing column, a wrong width, values that are not finite, a vector of zeros; DuplicateKey for
        keys that are missing or not unique; TableNotFound for an unknown source."""
        laid_out = _laid_out(table, _column(table, key), _column(table, _called(table, vector)))
        digests = arrow_digests(laid_out)
        digest = digest_of([[name, str(laid_out.schema.field(name).type), digests[name]] for name in laid_out.schema.names])
        descriptor = ImportedDescriptor(model_id=_model_id(model_id), rows_digest=digest, key=key, vector=vector, source=source)
        return self._bound(laid_out, descriptor)

    def _bound(self, laid_out: pa.Table, descriptor: ImportedDescriptor) -> Job:
        """The laid out rows with their source as it is now; the rows themselves cannot move."""
        inputs = [] if descriptor.source is None else self._behind(descriptor.source)

        def rows(_: OnProgress | None) -> Running:
            return Running(Vectors(laid_out))

        return Job(
            kind=TableKind.IMPORTED,
            descriptor=descriptor,
            environment=self.environment(),
            inputs=[Bound(b.relation, b.columns) for b in inputs],
            rows=rows,
            again=lambda: self._bound(laid_out, descriptor),
            key=["key"],
            dimensions=laid_out.schema.field("vector").type.list_size,
            model_id=descriptor.model_id,
        )

    def _behind(self, source: str) -> list[Bound]:
        """All that is read of the rows that the vectors are of: a source, a recipe, or SQL. TableNotFound, and what binding SQL raises."""
        try:
            return [self._external.bind(source)]
        except (TableNotFound, SourceUnavailable):  # SQL with an asterisk is no pattern for names of files
            if not any(c.isspace() for c in source.strip()):
                raise
        said = address(self._engine, self._scope.current, source)
        [prepared] = self._engine.prepare(f"SELECT * FROM {said}", tenant=self._scope.current)
        return [Bound(b.relation, b.columns) for b in prepared.inputs]

    def environment(self) -> dict[str, Any]:
        """What else shapes the rows: nothing but how they are stored."""
        return {"revision": REVISION}

    def from_descriptor(self, name: str, descriptor: ImportedDescriptor) -> Job:
        """Never: the vectors come from outside. NotRecomputable."""
        raise NotRecomputable(
            f"{name!r} was imported, as vectors of {descriptor.model_id!r}; it cannot be made again from here.",
            hint=f"Compute the vectors again and call ws.import_embeddings({name!r}, data, …).",
        )


def _column(table: pa.Table, name: str) -> str:
    names = [str(n) for n in table.schema.names]
    found = next((n for n in names if fold(n) == fold(name)), None)
    if found is None:
        raise SchemaMismatch(f"The data have no column {name!r}.", column=name, expected=name, actual=", ".join(names), hint=_meant(name, names))
    return found


def _called(table: pa.Table, vector: str) -> str:
    """`vec`, which is asked for where nothing is said, is `vector` in our own tables and in many others."""
    names = {fold(str(n)) for n in table.schema.names}
    return "vector" if fold(vector) == "vec" and "vec" not in names and "vector" in names else vector


def _meant(name: str, names: list[str]) -> str:
    close = near(name, names)
    return f"Did you mean {close[0]}?" if close else "Name the key with key=, the vectors with vector=."


def _model_id(given: str) -> str:
    if not isinstance(given, str) or not given.strip():
        raise InvalidArgument(f"The model of imported vectors is a name, not {given!r}.", hint='For example model_id="text-embedding-3-small".')
    return given


def _laid_out(table: pa.Table, key: str, vector: str) -> pa.Table:
    """key, vector, then the other columns, in ascending key order; checked."""
    if fold(key) == fold(vector):
        raise SchemaMismatch(
            f"Key and vector cannot both be the column {key!r}.", column=key, hint="Name the key with key=, the vectors with vector=."
        )
    if nulls := table.column(key).null_count:
        raise SchemaMismatch(
            f"{nulls:,} of {table.num_rows:,} rows have no key in {key!r}.",
            column=key,
            expected="a key in every row",
            actual="NULL",
            hint="Leave them out.",
        )
    keys = _texts_of_uuids(keys_of(plain_column(table.column(key)), key))
    place = ascending(keys, key)
    matrix = matrix_of(table.column(vector), name=vector)
    _check(matrix, keys, vector)
    flat = pa.FixedSizeListArray.from_arrays(pa.array(matrix.reshape(-1)), matrix.shape[1])
    others = {str(n): table.column(n) for n in table.schema.names if n not in (key, vector)}
    if clash := [n for n in others if fold(n) in ("key", "vector")]:
        raise SchemaMismatch(f"A further column cannot be called {clash[0]!r}.", column=clash[0], hint="Rename it.")
    whole = pa.table({"key": keys, "vector": flat, **others})
    return whole if place is None else whole.take(pa.array(np.argsort(place)))


def _texts_of_uuids(keys: pa.Array) -> pa.Array:
    """UUIDs as text, which is what SQL hands over: as bytes they would meet no row of a source, a graph or a set (decision 047)."""
    if not isinstance(keys.type, pa.UuidType):
        return keys
    return pa.array([str(key) for key in keys.to_pylist()], pa.string())


def _check(matrix: NDArray[np.float32], keys: pa.Array, vector: str) -> None:
    """Nothing, when every vector can be searched. The norm in float64 tells all at once: it is finite and above zero."""
    norms = norms_of(matrix)
    bad = ~(np.isfinite(norms) & (norms > 0))
    if bad.any():
        at = int(np.argmax(bad))
        what = "is all zeros" if norms[at] == 0 else "is not finite"
        raise SchemaMismatch(
            f"The vector of key {keys[at].as_py()!r} {what}.",
            column=vector,
            expected="finite numbers, not all zero",
            actual=what,
            hint="Correct or leave it out.",
        )
