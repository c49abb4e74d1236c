"""An index as bytes."""

import tempfile
from pathlib import Path

from jammi_lab.features.vectors.index.hnsw import AnnIndex


def bytes_of(index: AnnIndex) -> bytes:
    """What it saves."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "index")
        index.save(path)
        return path.read_bytes()
