"""Vectors that were computed outside the workspace, checked and sorted by key."""

import numpy as np
import pyarrow as pa

from jammi_lab.core.errors import SchemaMismatch
from jammi_lab.core.identifiers import find_name, fold, near_names
from jammi_lab.features.vectors.exact_search import check_directions, row_norms
from jammi_lab.storage.parquet import decoded_column
from jammi_lab.storage.vector_arrays import chunk_matrices, key_ranks, to_arrow, to_keys


def _find_column(table: pa.Table, name: str) -> str:
    names = table.schema.names
    match = find_name(name, names)
    if match is None:
        raise SchemaMismatch(
            f"The data has no column {name!r}.",
            column=name,
            expected=name,
            actual=", ".join(names),
            near=near_names(name, names),
            hint="Name the key with key=, the vectors with vector=.",
        )
    return match


def _vector_column(table: pa.Table, vector: str) -> str:
    """The vector column. The default name `vec` also finds `vector`, which our own and many other
    tables use."""
    names = {fold(n) for n in table.schema.names}
    if fold(vector) == "vec" and "vec" not in names and "vector" in names:
        return "vector"
    return vector


def sorted_table(table: pa.Table, key_name: str, vector_name: str) -> pa.Table:
    """Validate a table: columns key, vector, then the others, in ascending key order.

    Raises SchemaMismatch for a missing column, a wrong width, numbers that are not finite and a
    zero vector; DuplicateKey for missing or duplicate keys."""
    key = _find_column(table, key_name)
    vector = _find_column(table, _vector_column(table, vector_name))
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
    norms, vectors = [], []
    # chunk by chunk: the vectors of a large table are in memory only once
    for part in chunk_matrices(table.column(vector), name=vector):
        norms.append(row_norms(part))
        vectors.append(pa.FixedSizeListArray.from_arrays(to_arrow(part), part.shape[1]))
    check_directions(np.concatenate(norms), keys, vector, hint="Correct or exclude it.")
    other_columns = {n: table.column(n) for n in table.schema.names if n not in (key, vector)}
    if conflicting := [n for n in other_columns if fold(n) in ("key", "vector")]:
        raise SchemaMismatch(
            f"No other column can be named {conflicting[0]!r}.",
            column=conflicting[0],
            hint="Rename it.",
        )
    table_in_order = pa.table({"key": keys, "vector": pa.chunked_array(vectors), **other_columns})
    return table_in_order if ranks is None else table_in_order.take(pa.array(np.argsort(ranks)))


def _uuids_to_text(keys: pa.Array) -> pa.Array:
    """UUIDs as text, as SQL returns them. As bytes they would match no key of a source, graph or
    set."""
    if not isinstance(keys.type, pa.UuidType):
        return keys
    return pa.array([str(key) for key in keys.to_pylist()], pa.string())
