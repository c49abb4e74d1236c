"""The file of sums beside a result table: for each row the sum and the count behind each `avg` of
an SQL recipe, from which an increment computes the averages of more rows.

It is written with the table and gets its name before the manifest, which has its digest. It cannot
be made again from the table; without it the next run is a full one, which writes the next.
"""

import pyarrow as pa

from jammi_lab.core.manifest import Artifact
from jammi_lab.storage.digests import sha256_file
from jammi_lab.storage.files import AtomicFile, StoragePath, atomic_file
from jammi_lab.storage.parquet import ParquetSink

SUFFIX = ".sums"


def sums_path(parquet: StoragePath) -> StoragePath:
    """The path of the file of sums beside a Parquet file."""
    return parquet.with_name(parquet.name.removesuffix(".parquet") + SUFFIX)


class SumsWriter:
    """Writes the file of sums of one table, in the order of its rows. Raises OSError."""

    def __init__(self, parquet: StoragePath, schema: pa.Schema) -> None:
        self.file = atomic_file(sums_path(parquet), create=True)
        self._sink = ParquetSink(self.file.temp, schema)

    def write(self, batch: pa.RecordBatch) -> None:
        """Append the sums of some rows."""
        self._sink.write(batch)

    def seal(self) -> Artifact:
        """Complete the file, which then waits for its name."""
        self._sink.close()
        if isinstance(self.file, AtomicFile):
            self.file.finish()  # fsync in the background
        return Artifact(digest=sha256_file(self.file.temp))

    def abort(self) -> None:
        """Close and remove the unfinished file."""
        self._sink.abort()
        self.file.abort()
