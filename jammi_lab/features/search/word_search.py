"""Search by words: from a text to the BM25 hits of a lexical table."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from jammi_lab.core.errors import InvalidArgument, SchemaMismatch
from jammi_lab.core.records import TableRecord
from jammi_lab.features.search.context import SearchContext
from jammi_lab.features.search.hits import WORD_HIT_COLUMNS, SearchAnswer, hits_table
from jammi_lab.features.search.queries import SearchRequest, texts_of
from jammi_lab.features.search.source_rows import SourceRows
from jammi_lab.features.words.word_tables import WordTable, WordTables

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from jammi_lab.features.words.word_index import WordHits


class WordSearch:
    """Searches lexical tables, which are passed as catalog records."""

    def __init__(self, context: SearchContext, words: WordTables) -> None:
        self.context, self._words = context, words

    def search(self, record: TableRecord, request: SearchRequest) -> SearchAnswer:
        """The rows that match the words of a text best, with the selected columns of their source
        rows. SchemaMismatch, InvalidArgument, TableDamaged, and what binding the condition
        raises."""
        import numpy as np

        from jammi_lab.storage.vector_arrays import to_arrow

        rows, table = SourceRows(self.context, record), self.table(record)
        columns = rows.select_columns(request.select, WORD_HIT_COLUMNS)
        mask = rows.matching_mask(request, table.keys)
        found = self.hits(record, table, self.check_texts(record, request.query), request.k, mask)
        positions = np.concatenate([np.empty(0, np.int64), *(each.rows for each in found)])
        scores = np.concatenate([np.empty(0), *(each.scores for each in found)])
        hits = hits_table(
            table.keys.keys_at(positions),
            [len(each.rows) for each in found],
            {"score": to_arrow(scores)},
            has_query_column=not isinstance(request.query, str),
        )
        return rows.answer(hits, columns, filtered=request.has_only_present_rows)

    def table(self, record: TableRecord) -> WordTable:
        """A lexical table, ready to search. SchemaMismatch for another kind; TableDamaged."""
        return self._words.table(check_lexical(record))

    def hits(
        self,
        record: TableRecord,
        table: WordTable,
        texts: Sequence[str],
        k: int,
        mask: "NDArray[np.bool_] | None" = None,
    ) -> "list[WordHits]":
        """The hits of each text."""
        from jammi_lab.storage.vector_arrays import check_k

        count, order = check_k(k), table.keys.order
        return [
            table.index.search(self.terms(record, text), count, allow=mask, order=order)
            for text in texts
        ]

    def terms(self, record: TableRecord, text: str) -> list[str]:
        """The terms of a text, as the table has them."""
        from jammi_lab.features.words.analyzers import analyze

        return analyze(text, self.analyzer(record))

    def analyzer(self, record: TableRecord) -> str:
        """The analyzer of a table."""
        return str(self.context.descriptor(record).get("analyzer", "english"))

    @staticmethod
    def check_texts(record: TableRecord, query: Any) -> list[str]:
        """The texts of a query. InvalidArgument for vectors."""
        texts = texts_of(query)
        if texts is None:
            raise InvalidArgument(
                f"{record.recipe!r} is a lexical table: the query must be a string, got "
                f"{type(query).__name__}."
            )
        return texts


def check_lexical(record: TableRecord) -> TableRecord:
    """The record of a lexical table. SchemaMismatch for another kind."""
    if not record.recipe_class.has_words:
        raise SchemaMismatch(
            f"{record.recipe!r} is a table of kind {record.kind}, not a lexical table.",
            table=record.recipe,
            column="terms",
            hint="ws.lexical(…) creates one.",
        )
    return record
