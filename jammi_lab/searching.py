"""Vectors: the verbs of a workspace that make and search embedding tables."""

import functools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Unpack, overload

import msgspec

from jammi_lab.conditions import Conditions
from jammi_lab.errors import InvalidArgument, ModelNotFound, RowNotFound, SchemaMismatch
from jammi_lab.handles import ResultTable
from jammi_lab.hits import Behind, as_table
from jammi_lab.making import Made, Making, names_of, refuse_defining
from jammi_lab.names import near
from jammi_lab.noticing import Noticing
from jammi_lab.result import Ready, Result
from jammi_lab.selected import Selections
from jammi_lab.sensing.reports import OnProgress
from jammi_lab.store.sidecars import Wish
from jammi_lab.values.anchors import Input, InputKind
from jammi_lab.values.records import Reuse, TableKind, TableRecord
from jammi_lab.vectors.indexes import SEARCHABLE

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

    from jammi_lab.catalog.tables import Tables
    from jammi_lab.embedders.base import Encoder
    from jammi_lab.vectors.exact import Hits
    from jammi_lab.vectors.matrix import Matrix

Precision = Literal["bf16", "f32", "f16", "i8"]
_PRECISIONS = ("bf16", "f32", "f16", "i8")
_KNOWN_DESCRIPTORS = 256
_SHOWN_DIGITS = 4
"""Of a similarity: what is beyond may differ from one kind of processor to the next, as that of the encoder's vectors does."""


class Searching(Making):
    """The part of a Workspace that is about vectors."""

    _noticing: Noticing

    @overload
    def embed(
        self,
        name: str,
        source: str,
        *,
        key: str,
        text: str | Sequence[str],
        model: Any = "minilm",
        precision: Precision = "bf16",
        index: Literal["now", "later"] = "now",
        where: str | None = None,
        **made: Unpack[Made],
    ) -> ResultTable: ...

    @overload
    def embed(
        self,
        name: str,
        source: str,
        *,
        key: str,
        text: str | Sequence[str],
        model: Any = "minilm",
        precision: Precision = "bf16",
        index: Literal["now", "later"] = "now",
        where: str | None = None,
        define_only: Literal[True],
    ) -> None: ...

    def embed(
        self,
        name: str,
        source: str,
        *,
        key: str,
        text: str | Sequence[str],
        model: Any = "minilm",
        precision: Precision = "bf16",
        index: Literal["now", "later"] = "now",
        where: str | None = None,
        cache: Literal["use", "bypass"] = "use",
        refresh: Literal["no", "inputs"] = "no",
        progress: OnProgress = None,
        define_only: bool = False,
    ) -> ResultTable | None:
        """Turn the texts of a source, table or SQL into vectors: columns key, vector (float32), _text_digest, in key order.

        Only new and changed texts, told by `_text_digest`, go to the encoder; `.reuse` of the answer says how many were new, changed, removed,
        unchanged. `model` is a name, an encoder or a sentence-transformers model. Interrupted, what was done is kept for the next call.
        `define_only` gives the recipe the definition without running it. The table is ready first, then its index is made: `precision` is how it
        stores the vectors (the table has them whole, and another precision is no other table), `index="later"` does not wait for it. Raises as
        binding SQL does, and ModelNotFound, DuplicateKey, SchemaMismatch (with what the encoder raised as its cause), InvalidArgument.
        """
        wish = _wish(precision, index)
        job = self._rooms.producers.embedding.job(name, source, key, names_of(text), model, where, afresh=cache == "bypass")
        if define_only:
            self._define(name, job)
            return None
        table = self._make(name, job, cache, refresh, progress, wish)
        if table.outcome == "reused":
            table._reuse = Reuse(new=0, changed=0, removed=0, unchanged=table.row_count or 0)
        return table

    def import_embeddings(
        self,
        name: str,
        data: Any,
        *,
        key: str = "id",
        vector: str = "vec",
        source: str | None = None,
        model_id: str = "external",
        precision: Precision = "bf16",
        index: Literal["now", "later"] = "now",
        cache: Literal["use", "bypass"] = "use",
        refresh: Literal["no", "inputs"] = "no",
        progress: OnProgress = None,
        define_only: Literal[False] = False,
    ) -> ResultTable:
        """Take vectors that were computed elsewhere. `vector`: their column, which may be called `vector` where nothing is said. `source`: whose
        rows they are, a source, table or SQL; without it the other columns of `data` are kept beside them. `precision` and `index` as for `embed`.

        Raises SchemaMismatch for a wrong width, values that are not finite or a vector of zeros; DuplicateKey; TableNotFound; InvalidArgument for
        `define_only`: without its rows there is nothing to define.
        """
        from jammi_lab.sources.frames import as_arrow

        refuse_defining(define_only)
        wish = _wish(precision, index)
        job = self._rooms.producers.imported.job(as_arrow(data), key, vector, source, model_id)
        return self._make(name, job, cache, refresh, progress, wish)

    def vector(self, table: str | ResultTable, key: Any) -> "NDArray[np.float32]":
        """The stored vector of one row, float32. TableNotFound; RowNotFound (a KeyError)."""
        record = self._searchable(table)
        matrix = self._matrix(record)
        import numpy as np

        found: NDArray[np.float32] = matrix.at(np.array([self._row(matrix, record, key)], np.int64))[0].copy()
        return found

    def search(
        self,
        table: str | ResultTable,
        query: Any = None,
        *,
        row: Any = None,
        k: int = 10,
        where: str | None = None,
        params: Mapping[str, Any] | None = None,
        select: str | Sequence[str] | None = None,
        exact: bool | None = None,
    ) -> Result:
        """The `k` rows most similar to a text, a vector or a row of the table: key, rank (from 1), similarity, `select`ed columns of the source,
        source_missing. Ties come in ascending key order.

        Several texts or a matrix make one answer with a column `query` first. `where` is SQL over the source's columns as they are now, and `key`.
        `exact=None` reads all vectors where that is fast (up to `vectors.exact_max_rows`, 20,000) or the index would be no help, and goes through
        the index elsewhere; `True` always reads all; `False` always goes through the index, which is made first when it is missing. Similarities are
        exact either way. Raises TableNotFound, RowNotFound, ModelNotFound, SchemaMismatch, InvalidArgument, and what binding `where` raises.
        """
        return self._searched(table, query, row, k, where, params, select, exact)[0]

    def _searched(
        self,
        table: str | ResultTable,
        query: Any,
        row: Any,
        k: int,
        where: str | None,
        params: Mapping[str, Any] | None,
        select: str | Sequence[str] | None,
        exact: bool | None,
    ) -> tuple[Result, bool]:
        """What `search` answers, and whether an index found it."""
        if (query is None) == (row is None):
            raise InvalidArgument("A search is for a query or for the neighbours of a row: give one of the two.")
        from jammi_lab.vectors.arrays import check_exact

        exact = check_exact(exact)
        if params and where is None:
            raise InvalidArgument(f"There is no where= that could name {', '.join(map(str, params))}.")
        record = self._searchable(table)
        matrix, behind = self._matrix(record), Behind(self, record)
        wanted = names_of(select)
        laid = behind.laid(wanted, matrix.keys) if wanted else None
        chosen = behind.chosen(wanted) if laid is None else []
        allow = None if where is None else matrix.mask_of(Conditions(behind).keys(where, params))
        at = None if row is None else self._row(matrix, record, row)
        queries, many = (None, False) if row is not None else self._queries(record, behind.descriptor, query)
        through = self._through_index(record, matrix, queries, k, allow, at, exact)
        found = _exactly(matrix, queries, k, allow, at) if through is None else through
        hits, places = as_table(matrix, found, many=many), found.rows.reshape(-1)
        if laid is not None:
            result = behind.beside(laid, hits, places)
        else:
            result = behind.answer(hits, chosen, filtered=where is not None, keys=matrix.keys, places=places)
        result.decimals["similarity"] = _SHOWN_DIGITS
        return result, through is not None

    def _found(
        self,
        record: TableRecord,
        matrix: "Matrix",
        queries: Any,
        k: int,
        allow: "NDArray[np.bool_] | None",
        without: int | None,
        exact: bool | None,
    ) -> "Hits":
        """The hits of queries, or of the row `without`, through the index where that is asked for or less work. Raises as `Matrix.search`."""
        found = self._through_index(record, matrix, queries, k, allow, without, exact)
        return _exactly(matrix, queries, k, allow, without) if found is None else found

    def _through_index(
        self,
        record: TableRecord,
        matrix: "Matrix",
        queries: Any,
        k: int,
        allow: "NDArray[np.bool_] | None",
        without: int | None,
        exact: bool | None,
    ) -> "Hits | None":
        """The same, as far as the index answers; None where it does not."""
        vectors, settings = self._rooms.vectors, self._rooms.settings
        if exact is False or (exact is None and len(matrix) > settings["vectors.exact_max_rows"]):
            import numpy as np

            from jammi_lab.vectors import approximate

            expansion = settings["vectors.search_expansion"]
            index = vectors.index(record, build=exact is False, only_graphs=exact is None and not expansion)
            if index is None and exact is None:
                vectors.soon(record)
            elif index is not None:
                oversample, asked = max(1, settings["vectors.oversample"]), queries if without is None else matrix.at(np.array([without]))
                return approximate.search(
                    matrix, index, asked, k, allow=allow, without=without, oversample=oversample, expansion=expansion, forced=exact is False
                )
        return None

    @functools.cached_property
    def _descriptors(self) -> dict[str, Mapping[str, Any]]:
        """Descriptors by the digest of the manifest that they stand in, which names one content for ever."""
        return {}

    @functools.cached_property
    def _complete(self) -> dict[tuple[str | None, str], bool]:
        """By tenant and imported table, whether every key had its row in the source as it was then."""
        return {}

    @functools.cached_property
    def _selections(self) -> Selections:
        return Selections()

    def _descriptor(self, record: TableRecord) -> Mapping[str, Any]:
        """How a table was made, as its manifest says; empty for one without."""
        digest = record.manifest_digest
        if digest is not None and (known := self._descriptors.get(digest)) is not None:
            return known
        manifest = self._manifest(record)
        found: Mapping[str, Any] = manifest.descriptor if manifest else {}
        if digest is not None and manifest is not None:
            if len(self._descriptors) >= _KNOWN_DESCRIPTORS:
                self._descriptors.clear()
            self._descriptors[digest] = found
        return found

    def _matrix(self, record: TableRecord) -> "Matrix":
        """The vectors of a table. TableDamaged."""
        return self._rooms.vectors.matrix(record)

    def _rows(self, table: "pa.Table", types: Sequence[str], inputs: Sequence[Input]) -> Result:
        return Ready(table, types, inputs, self._noticing)

    def _searchable(self, table: str | ResultTable) -> TableRecord:
        record = self._naming.table(table)._record
        if record.kind not in SEARCHABLE:
            raise SchemaMismatch(
                f"{record.recipe!r} is a table of kind {record.kind.value} and has no vectors.",
                table=record.recipe,
                column="vector",
                hint="ws.embed makes a table that has.",
            )
        return record

    @staticmethod
    def _row(matrix: "Matrix", record: TableRecord, key: Any) -> int:
        row = matrix.row_of(key)
        if row is None:
            raise RowNotFound(f"{record.recipe!r} has no row with the key {key!r}.")
        return row

    def _queries(self, record: TableRecord, descriptor: Mapping[str, Any], query: Any) -> tuple[Any, bool]:
        """The queries as vectors, and whether it was several. SchemaMismatch, InvalidArgument, ModelNotFound."""
        texts = texts_of(query)
        if texts is None:
            from jammi_lab.vectors.arrays import queries_of

            return queries_of(query, record.dimensions or 0)
        from jammi_lab.embedders.driver import encode_texts

        return encode_texts(self._encoder_of(record, descriptor), texts, keys=texts), not isinstance(query, str)

    def _encoder_of(self, record: TableRecord, descriptor: Mapping[str, Any]) -> "Encoder":
        """The encoder that made a table's vectors. ModelNotFound."""
        from jammi_lab.embedders.base import EncoderIdentity, identity_of

        recorded = descriptor.get("encoder")
        if not isinstance(recorded, dict):
            raise no_encoder(record, self._rooms.catalog.tables)
        try:
            encoders = self._rooms.producers.encoders
            encoder = encoders.exact(msgspec.convert(recorded, EncoderIdentity)) or encoders.get(recorded["name"], recorded["version"])
        except ModelNotFound as error:
            raise ModelNotFound(error.message, near=error.near, hint=f"{error.hint} Or pass a vector.".lstrip()) from error
        if identity_of(encoder).to_dict() != recorded:
            raise ModelNotFound(
                f"The encoder {recorded['name']!r} has other weights or settings than the one that made {record.recipe!r}.", hint="Pass a vector."
            )
        return encoder


def _exactly(matrix: "Matrix", queries: Any, k: int, allow: "NDArray[np.bool_] | None", without: int | None) -> "Hits":
    """The hits with all vectors compared."""
    return matrix.search(queries, k, allow=allow) if without is None else matrix.neighbours(without, k, allow=allow)


def no_encoder(record: TableRecord, tables: "Tables") -> ModelNotFound:
    """What is said of a text that is to be searched among vectors that no encoder made; of derived ones with the table where a text can be."""
    hint, first, seen = "Pass a vector, for example that of a row: ws.vector('table', key).", record, set[str]()
    while first.kind in (TableKind.GRAPH_PROPAGATION, TableKind.CONTEXT_SET) and first.table_name not in seen:
        seen.add(first.table_name)  # what a name means may have changed since: then it may be made of this very table
        names = [a.input.name for a in first.anchors if a.input.kind is InputKind.RESULT and a.columns == ("key", "vector")]
        newest = [tables.get(name) or tables.newest(name) for name in names]
        first = next((each if isinstance(each, TableRecord) else each[1] for each in newest if each is not None), first)
    if first.kind is TableKind.EMBEDDING:
        hint += f" A text can be searched in {first.recipe!r}, of whose vectors these were made."
    return ModelNotFound(f"{record.recipe!r} has no encoder that a text could be searched with.", hint=hint)


def texts_of(query: Any) -> list[str] | None:
    """The texts of a query; None when it is vectors. InvalidArgument for a mixture."""
    if isinstance(query, str):
        return [query]
    if not isinstance(query, list | tuple) or not any(issubclass(t, str) for t in set(map(type, query))):
        return None
    if wrong := [q for q in query if not isinstance(q, str)]:
        raise InvalidArgument(f"Several queries are all texts or all vectors; there is a {type(wrong[0]).__name__} among the texts.")
    return list(query)


def _wish(precision: str, index: str) -> Wish:
    """What is asked of the index. InvalidArgument."""
    for what, value, choices in (("precision", precision, _PRECISIONS), ("index", index, ("now", "later"))):
        if value not in choices:
            raise InvalidArgument(
                f"{what} is one of {', '.join(choices)}, not {value!r}.", near=near(value, choices) if isinstance(value, str) else ()
            )
    return Wish(precision, index == "later")
