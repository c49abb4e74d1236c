"""The inputs of a row map: their values in Python, and a digest for each row."""

import hashlib

import numpy as np
import pyarrow as pa

from jammi_lab.core.errors import SchemaMismatch
from jammi_lab.producers.checkpoint import DIGEST_BYTES, Digests

_BLOCK_ROWS = 4096
"""Rows that are in Python memory at a time."""


def input_digests(inputs: pa.Table) -> Digests:
    """A digest of the values of each row. Column types are not in it: they belong to the
    definition. Raises SchemaMismatch for values that Python cannot represent."""
    digests = bytearray()
    for start in range(0, len(inputs), _BLOCK_ROWS):
        for row in zip(*python_columns(inputs.slice(start, _BLOCK_ROWS)), strict=True):
            # repr() is exact for all types that a column has, and never equal for unequal values
            text = repr(row).encode("utf-8", "surrogatepass")
            digests += hashlib.sha256(text).digest()[:DIGEST_BYTES]
    return np.frombuffer(digests, f"V{DIGEST_BYTES}")


def python_columns(inputs: pa.Table) -> list[list[object]]:
    """The columns as Python values. Raises SchemaMismatch for values that Python cannot
    represent."""
    columns = []
    for name, column in zip(inputs.column_names, inputs.columns, strict=True):
        try:
            columns.append(column.to_pylist())
        except (pa.ArrowException, ValueError) as error:
            raise SchemaMismatch(
                f"The column {name!r} has values of type {column.type} that Python cannot "
                f"represent ({str(error).splitlines()[0][:160]}).",
                column=name,
                actual=str(column.type),
                hint="Cast it in SQL, for example to TIMESTAMP or VARCHAR.",
            ) from None
    return columns
