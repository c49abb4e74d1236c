"""What the words of texts are computed by."""

from collections.abc import Iterator

import pyarrow as pa

from jammi_lab.features.words.documents import SCHEMA, analyze_texts
from jammi_lab.steps.row_texts import TextWork
from jammi_lab.steps.row_wise import OutputParts
from jammi_lab.storage.vector_arrays import RowNumbers

BATCH_ROWS = 8192
"""Texts analysed at a time."""


class LexicalWork(TextWork):
    """The terms of the texts of one run."""

    stage = "words of"
    done_word = "analysed"

    def __init__(self, analyzer: str) -> None:
        self._analyzer = analyzer
        self._parts = OutputParts()

    def take_over(self, rows: RowNumbers, outputs: pa.Table) -> None:
        """Receive the known terms of some rows."""
        self._parts.add(rows, outputs.select(SCHEMA.names).cast(SCHEMA), is_saved=True)

    def compute(self, rows: RowNumbers, _keys: pa.Array, /) -> Iterator[int]:
        """Analyse the texts of some rows."""
        for start in range(0, len(rows), BATCH_ROWS):
            block = rows[start : start + BATCH_ROWS]
            part = analyze_texts(self._texts.texts_of(block), self._analyzer)
            self._parts.add(block, pa.Table.from_batches([part]), is_saved=False)
            yield len(block)

    def unsaved(self) -> list[tuple[RowNumbers, pa.Table]]:
        """The terms of the texts analysed since the last time, with their rows."""
        return self._parts.take_unsaved()

    def outputs(self, same_row: RowNumbers) -> dict[str, pa.ChunkedArray]:
        """The terms of all rows."""
        tables = [pa.Table.from_batches([], SCHEMA), *self._parts.tables]
        terms = pa.concat_tables(tables).take(self._parts.positions(same_row))
        return {name: terms[name] for name in SCHEMA.names}
