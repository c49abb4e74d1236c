"""Digests of the inputs of rows, as numpy and as an Arrow column."""

import hashlib
from collections.abc import Iterable

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

DIGEST_BYTES = 16
Digests = NDArray[np.void]
"""The first 16 bytes of a SHA-256 for each row."""


def digests_of(contents: Iterable[bytes]) -> Digests:
    """The digest of each content."""
    digests = bytearray()
    for content in contents:
        digests += hashlib.sha256(content).digest()
    # cut all at once: a slice of each takes as long as a third of its digest
    rows = np.frombuffer(digests, np.uint8).reshape(-1, hashlib.sha256().digest_size)
    return rows[:, :DIGEST_BYTES].copy().view(f"V{DIGEST_BYTES}")[:, 0]


def to_column(digests: Digests) -> pa.Array:
    """Digests as an Arrow column."""
    return pa.Array.from_buffers(
        pa.binary(DIGEST_BYTES), len(digests), [None, pa.py_buffer(np.ascontiguousarray(digests))]
    )
