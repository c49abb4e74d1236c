"""Vector search: from a query to the hits of a table, exactly or through an index."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import msgspec

from jammi_lab.core.errors import InvalidArgument, ModelNotFound, RowNotFound, SchemaMismatch
from jammi_lab.core.identifiers import near_or_all
from jammi_lab.core.records import TableRecord
from jammi_lab.core.settings import Settings
from jammi_lab.features.search.context import SearchContext
from jammi_lab.features.search.hits import HIT_COLUMNS, SearchAnswer, hits_table
from jammi_lab.features.search.queries import SearchRequest, list_of_texts, texts_of
from jammi_lab.features.search.source_rows import SourceRows, origin_of
from jammi_lab.features.search.word_search import WordSearch
from jammi_lab.features.vectors.index.indexes import VectorIndexes

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

    from jammi_lab.catalog.result_tables import ResultTableRepository
    from jammi_lab.features.search import fusion
    from jammi_lab.features.vectors.encoders.base import Encoder
    from jammi_lab.features.vectors.exact_search import Hits
    from jammi_lab.features.vectors.index.hnsw import AnnIndex
    from jammi_lab.features.vectors.matrix import Matrix
    from jammi_lab.features.vectors.model_lookup import ModelEncoders

_MAX_COMPARED_KEYS = 1000
"""Keys that are compared with one that no row has."""


class SearchService:
    """Searches embedding and lexical tables, which are passed as catalog records."""

    def __init__(
        self,
        context: SearchContext,
        vectors: VectorIndexes,
        words: WordSearch,
        encoders: "Callable[[], ModelEncoders]",
        settings: Settings,
    ) -> None:
        self.context, self._vectors, self._settings = context, vectors, settings
        self.words = words
        # Registering models replaces the encoders of the producers, so each search reads them anew.
        self._find_encoders = encoders

    def search(
        self, record: TableRecord, request: SearchRequest, words: TableRecord | None = None
    ) -> SearchAnswer:
        """The rows most similar to a text, a vector or a row of the table, with the selected
        columns of their source rows; `words`: a lexical table that is searched, too. Raises
        RowNotFound, ModelNotFound, SchemaMismatch, InvalidArgument, and what binding the condition
        raises."""
        request.check()
        if words is not None:
            if request.query is None:
                raise InvalidArgument("words= needs a text query; it cannot be combined with row=.")
            return self._search_both(record, words, request)
        if record.recipe_class.has_words and request.row is None:
            return self.words.search(record, request)
        from jammi_lab.storage.vector_arrays import check_exact, to_arrow

        exact = check_exact(request.exact)
        matrix, rows = self.matrix(check_searchable(record)), self.source_rows(record)
        columns = rows.select_columns(request.select)
        mask = rows.matching_mask(request, matrix)
        has_several_queries = False
        if request.row is not None:
            row = self.row_of(record, matrix, request.row)
            hits = self.neighbors(record, matrix, row, request.k, mask=mask, exact=exact)
        else:
            queries, has_several_queries = self.query_vectors(record, request.query)
            hits = self.hits(record, matrix, queries, request.k, mask=mask, exact=exact)
        query_count, hits_per_query = hits.rows.shape
        table = hits_table(
            matrix.keys_at(hits.rows.reshape(-1)),
            [hits_per_query] * query_count,
            {"similarity": to_arrow(hits.similarities)},
            has_query_column=has_several_queries,
        )
        return rows.answer(table, columns, filtered=request.has_only_present_rows)

    def _search_both(
        self, record: TableRecord, words_record: TableRecord, request: SearchRequest
    ) -> SearchAnswer:
        """The best rows by meaning and words."""
        from jammi_lab.storage.vector_arrays import check_exact

        rows = self.source_rows(record)
        columns = rows.select_columns(request.select, HIT_COLUMNS)
        keys = None
        if request.where is not None:
            keys = rows.matching_keys(request.where, request.params)
        exact = check_exact(request.exact)
        pair, hits = self.fused_hits(
            record, words_record, request.query, request.k, keys=keys, exact=exact
        )
        filtered = request.has_only_present_rows
        # A key that only the table of words has need not have a row where all vectors have one.
        if pair.has_equal_keys or (filtered and not columns):
            answer = rows.answer(hits, columns, filtered=filtered)
        else:
            answer = rows.join_with_source(hits, columns)
        words_input = SourceRows(self.context, words_record).own_input
        return replace(answer, inputs=[*answer.inputs, words_input])

    def fused_hits(
        self,
        record: TableRecord,
        words_record: TableRecord,
        query: Any,
        k: int,
        *,
        keys: "pa.ChunkedArray | None" = None,
        exact: bool | None = None,
    ) -> "tuple[fusion.TablePair, pa.Table]":
        """The `k` best rows by meaning and words of each text; `keys`: the only rows that may be
        hits. SchemaMismatch, InvalidArgument, ModelNotFound, TableDamaged."""
        import pyarrow as pa

        from jammi_lab.features.search import fusion
        from jammi_lab.storage.vector_arrays import check_k

        texts = self.words.check_texts(words_record, query)
        matrix, table = self.matrix(check_searchable(record)), self.words.table(words_record)
        pair = fusion.TablePair.from_tables(matrix, table, (record.recipe, words_record.recipe))
        mask = None if keys is None else matrix.key_mask(keys)
        word_mask = None if keys is None else table.keys.key_mask(keys)
        count = fusion.candidate_count(check_k(k))
        queries, _ = self.query_vectors(record, texts)
        meaning = self.hits(record, matrix, queries, count, mask=mask, exact=exact)
        by_words = self.words.hits(words_record, table, texts, count, word_mask)
        ranked = [
            pair.rank(
                queries[n], self.words.terms(words_record, text), found, hits_of_words.rows, k
            )
            for n, (text, found, hits_of_words) in enumerate(
                zip(texts, meaning.rows, by_words, strict=True)
            )
        ]
        combined = pa.concat_tables(ranked)
        names = [name for name in combined.column_names if name != "key"]
        hits = hits_table(
            combined["key"],
            [len(each) for each in ranked],
            {name: combined[name] for name in names},
            has_query_column=not isinstance(query, str),
        )
        return pair, hits

    def neighbors(
        self,
        record: TableRecord,
        matrix: "Matrix",
        row: int,
        k: int,
        *,
        mask: "NDArray[np.bool_] | None" = None,
        exact: bool | None = None,
    ) -> "Hits":
        """The hits of the row at a position, which is none of them. Raises as `Matrix.search`."""
        import numpy as np

        others = np.ones(len(matrix), np.bool_) if mask is None else mask.copy()
        others[row] = False
        query = matrix.vectors_at(np.array([row]))
        return self.hits(record, matrix, query, k, mask=others, exact=exact)

    def hits(
        self,
        record: TableRecord,
        matrix: "Matrix",
        queries: Any,
        k: int,
        *,
        mask: "NDArray[np.bool_] | None" = None,
        exact: bool | None = None,
    ) -> "Hits":
        """The hits of query vectors; `mask`: the rows that may be found. Raises as
        `Matrix.search`."""
        index = self._usable_index(record, exact)
        if index is not None:
            from jammi_lab.features.vectors.index import search as approximate

            hits = approximate.search(
                matrix,
                index,
                queries,
                k,
                allow=mask,
                oversample=self._settings["vectors.oversample"],
                expansion=self._settings["vectors.search_expansion"],
                always_use_index=exact is False,
            )
            if hits is not None:
                return hits
        return matrix.search(queries, k, allow=mask)

    def _usable_index(self, record: TableRecord, exact: bool | None) -> "AnnIndex | None":
        """The index to ask; None where all vectors are to be compared."""
        max_rows = self._settings["vectors.exact_max_rows"]
        if exact is True or (exact is None and (record.row_count or 0) <= max_rows):
            return None
        index = self._vectors.index(record, build=exact is False)
        if index is None and exact is None:
            self._vectors.build_in_background(record)
        return index

    def vector(self, record: TableRecord, key: Any) -> "NDArray[np.float32]":
        """The stored vector of one row. SchemaMismatch; RowNotFound."""
        import numpy as np

        matrix = self.matrix(check_searchable(record))
        position = np.array([self.row_of(record, matrix, key)], np.int64)
        vector: NDArray[np.float32] = matrix.vectors_at(position)[0].copy()
        return vector

    def matrix(self, record: TableRecord) -> "Matrix":
        """The vectors of a table. TableDamaged."""
        return self._vectors.matrix(record)

    def source_rows(self, record: TableRecord) -> SourceRows:
        """The source rows of a table with vectors. SchemaMismatch."""
        return SourceRows(self.context, check_searchable(record))

    @staticmethod
    def row_of(record: TableRecord, matrix: "Matrix", key: Any) -> int:
        """The position of the row with that key. RowNotFound."""
        row = matrix.find_row(key)
        if row is None:
            keys = map(str, matrix.first_keys(_MAX_COMPARED_KEYS))
            raise RowNotFound(
                f"{record.recipe!r} has no row with the key {key!r}.",
                **near_or_all(str(key), keys, "Its keys are"),
            )
        return row

    def query_vectors(self, record: TableRecord, query: Any) -> tuple[Any, bool]:
        """The queries as vectors, and whether there are several. SchemaMismatch, InvalidArgument,
        ModelNotFound."""
        texts = texts_of(query)
        if texts is None:
            from jammi_lab.storage.vector_arrays import parse_queries

            return parse_queries(query, record.dimensions or 0)
        from jammi_lab.features.vectors.encoders.base import encode_texts

        return encode_texts(self._encoder_of(record), texts), not isinstance(query, str)

    def encode(self, model: Any, texts: str | Sequence[str]) -> "NDArray[np.float32]":
        """The vectors of texts by a model, float32 (texts, dimensions). Raises as `ws.encode`."""
        from jammi_lab.features.vectors.encoders.base import encode_texts

        checked = [texts] if isinstance(texts, str) else list_of_texts(texts)
        return encode_texts(self._find_encoders().resolve(model)[0], checked)

    def _encoder_of(self, record: TableRecord) -> "Encoder":
        """The encoder that made a table's vectors. ModelNotFound."""
        from jammi_lab.features.vectors.encoders.base import EncoderIdentity, identity_of

        identity = self.context.descriptor(record).get("encoder")
        if not isinstance(identity, dict):
            raise missing_encoder_error(record, self.context.tables)
        try:
            encoder = self._find_encoders().recorded(msgspec.convert(identity, EncoderIdentity))
        except ModelNotFound as error:
            raise ModelNotFound(
                error.message, near=error.near, hint=f"{error.hint} Or pass a vector.".lstrip()
            ) from error
        if identity_of(encoder).to_dict() != identity:
            raise ModelNotFound(
                f"The encoder {identity['name']!r} has other weights or settings than the "
                f"one that made {record.recipe!r}.",
                hint="Pass a vector.",
            )
        return encoder


def check_searchable(record: TableRecord) -> TableRecord:
    """The record of a table with vectors. SchemaMismatch for another kind."""
    if not record.recipe_class.has_vectors:
        # the words of a lexical table are those of its source
        source = record.source_id if record.recipe_class.has_words else record.recipe
        raise SchemaMismatch(
            f"{record.recipe!r} is a table of kind {record.kind} and has no vectors.",
            table=record.recipe,
            column="vector",
            hint=f"ws.embed(name, {source!r}, key=…, text=…) creates a table to search by "
            "meaning, ws.lexical(…) one to search by words.",
        )
    return record


def missing_encoder_error(record: TableRecord, tables: "ResultTableRepository") -> ModelNotFound:
    """The error of a text query for vectors that no encoder made; for derived vectors it names the
    embedding table that a text can be searched in."""
    hint = "Pass a vector, for example that of a row: ws.vector('table', key)."
    origin = origin_of(record, tables, lambda each: each.recipe_class.combines_vectors)
    if origin.recipe_class.has_encoder:
        hint += f" Text queries work on {origin.recipe!r}, from which these vectors were computed."
    return ModelNotFound(f"{record.recipe!r} has no encoder for text queries.", hint=hint)
