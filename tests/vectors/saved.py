"""An index as bytes."""

import tempfile
from pathlib import Path

from jammi_lab.vectors.ann import Ann


def bytes_of(index: Ann) -> bytes:
    """What it saves."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "index")
        index.save(path)
        return path.read_bytes()
