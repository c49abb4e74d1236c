"""How well an embedding table finds what people judged relevant: `ws.evaluate`, and what it gives."""

import math
import statistics
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from jammi_lab import forms
from jammi_lab.errors import InvalidArgument, ModelNotFound, SchemaMismatch
from jammi_lab.framed import Framed
from jammi_lab.handles import ResultTable
from jammi_lab.hits import Behind
from jammi_lab.markup import Form, Shown, count
from jammi_lab.names import fold
from jammi_lab.searching import Searching
from jammi_lab.values.models import Evaluation
from jammi_lab.values.records import TableRecord

if TYPE_CHECKING:
    import pyarrow as pa

    from jammi_lab.models import Models
    from jammi_lab.vectors.matrix import Matrix
    from jammi_lab.vectors.metrics import Scores

_HINT = 'Give a frame or a list of dicts with the columns "query" (a text or a vector) or "row" (a key of the table), "key", and maybe "relevance".'
_COLUMNS = ("query", "row", "key", "relevance")


class Metrics(Shown, Mapping[str, float]):
    """The scores of one table: `metrics["recall@10"]`, `["mrr"]`, `["ndcg@10"]`; also `.recall`, `.mrr`, `.ndcg`. Means over the queries."""

    def __init__(
        self, table: ResultTable, k: int, per_query: "Sequence[tuple[str, Scores]]", skipped: int, own: int, recorded: Evaluation | None
    ) -> None:
        self.table, self.k = table, k
        """Which table, and how many hits counted."""
        self._per_query = list(per_query)
        self.recall = statistics.fmean(s.recall for _, s in per_query)
        """The share of the relevant keys that was found."""
        self.mrr = statistics.fmean(s.mrr for _, s in per_query)
        """1 / the rank of the first relevant key."""
        self.ndcg = statistics.fmean(s.ndcg for _, s in per_query)
        """The discounted gain, against that of the best order."""
        self.skipped = skipped
        """Queries without a relevant key, which say nothing."""
        self.own = own
        """Judgements of a row about itself, which are left out: no row is among its own hits."""
        self.recorded = recorded
        """The record against the model; None when the model is not known here."""
        self._values = {f"recall@{k}": self.recall, "mrr": self.mrr, f"ndcg@{k}": self.ndcg}

    @property
    def queries(self) -> int:
        """Queries that counted."""
        return len(self._per_query)

    def __getitem__(self, name: str) -> float:
        asked = fold(name) if isinstance(name, str) else name
        return self._values[asked if asked in self._values or asked == "mrr" else f"{asked}@{self.k}"]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def per_query(self) -> "pa.Table":
        """Columns query, recall, mrr, ndcg: one row a query, in the order in which they were given."""
        import pyarrow as pa

        rows = [{"query": query, "recall": s.recall, "mrr": s.mrr, "ndcg": s.ndcg} for query, s in self._per_query]
        numbers = [(name, pa.float64()) for name in ("recall", "mrr", "ndcg")]
        return pa.Table.from_pylist(rows, schema=pa.schema([("query", pa.string()), *numbers]))

    def _form(self) -> Form:
        return _listing([self])


class Comparison(Shown, Framed):
    """The scores of several tables on the same queries: iterable, `len()`, by recipe name or place; also a frame."""

    def __init__(self, rows: Sequence[Metrics]) -> None:
        self._rows = list(rows)

    def __iter__(self) -> Iterator[Metrics]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, name: str | int) -> Metrics:
        """The scores of one table. KeyError, IndexError."""
        if isinstance(name, int):
            return self._rows[name]
        for row in self._rows:
            if fold(name) in (fold(row.table.name), fold(row.table.table_name)):
                return row
        raise KeyError(name)

    def arrow(self) -> "pa.Table":
        """Columns table, version, model, queries, recall, mrr, ndcg; one row a table."""
        import pyarrow as pa

        columns: dict[str, tuple[list[Any], pa.DataType]] = {
            "table": ([m.table.name for m in self], pa.string()),
            "version": ([m.table.version for m in self], pa.int64()),
            "model": ([m.table.model_id for m in self], pa.string()),
            "queries": ([m.queries for m in self], pa.int64()),
            "recall": ([m.recall for m in self], pa.float64()),
            "mrr": ([m.mrr for m in self], pa.float64()),
            "ndcg": ([m.ndcg for m in self], pa.float64()),
        }
        return pa.table({name: pa.array(values, kind) for name, (values, kind) in columns.items()})

    def _form(self) -> Form:
        return _listing(self._rows)


def _listing(rows: Sequence[Metrics]) -> Form:
    k, skipped, own = rows[0].k, rows[0].skipped, rows[0].own
    lines = [(m.table.name, m.table.version, m.table.model_id, f"{m.recall:.4f}", f"{m.mrr:.4f}", f"{m.ndcg:.4f}") for m in rows]
    said = count(rows[0].queries, "query", "queries") + (f", {skipped:,} without a relevant key left out" if skipped else "")
    said += f", without {count(own, 'judgement')} of a row about itself" if own else ""
    return forms.listing(["table", "version", "model", f"recall@{k}", "mrr", f"ndcg@{k}"], lines, aligned="lrlrrr", note=said)


@dataclass(frozen=True)
class _Judged:
    """One query with its judgements."""

    asked: Any
    by_row: bool
    relevance: dict[Hashable, float]

    @property
    def shown(self) -> str:
        """What per_query calls it."""
        return str(self.asked) if self.by_row or isinstance(self.asked, str) else f"vector of {len(self.asked)}"


class Evaluating(Searching):
    """The part of a Workspace that judges embedding tables."""

    models: "Models"

    def evaluate(
        self,
        table: str | ResultTable | Sequence[str | ResultTable],
        golden: Any,
        *,
        k: int = 10,
        exact: bool | None = None,
        record: bool = True,
    ) -> Metrics | Comparison:
        """How well a table finds what was judged relevant; of several tables over the same source, a comparison on the same queries.

        `golden`: a frame or a list of dicts with `query` (a text, or a vector) or `row` (a key of the table, which is left out of its own hits),
        `key`, and maybe `relevance` (a number from 0; 1 when not said); a list of (query, key) or (query, key, relevance) does too. What was not
        judged counts as not relevant, and what was judged of a row about itself not at all. `exact` as in `search`. The scores are recorded
        against the model that made the vectors, unless `record=False`, the model is not known here or the workspace is read-only. Raises as
        `search`, and InvalidArgument for judgements that are none.
        """
        from jammi_lab.vectors.arrays import check_exact, check_k

        if check_k(k) < 1:
            raise InvalidArgument("k is a whole number from 1 on: nothing can be found among no hits.")
        exact = check_exact(exact)
        one = isinstance(table, str | ResultTable)
        asked: Sequence[str | ResultTable] = [table] if isinstance(table, str | ResultTable) else table
        if not isinstance(asked, Iterable):
            raise InvalidArgument(f"A table is given by its name, several in a list, and none by a {type(table).__name__}.")
        tables = [self._naming.table(each) for each in asked]
        if not tables:
            raise InvalidArgument("There is no table to evaluate.")
        if len({t.source_id for t in tables} - {None}) > 1:
            raise InvalidArgument(
                f"The tables are over different sources: {', '.join(dict.fromkeys(str(t.source_id) for t in tables))}.",
                hint="Judgements are about keys of one source.",
            )
        judged, own = _of_others(_judged(golden), [self._matrix(self._searchable(each)) for each in tables])
        useful = [each for each in judged if any(value > 0 for value in each.relevance.values())]
        if not useful:
            raise InvalidArgument("No query has a relevant key, so there is nothing to find.", hint=_HINT)
        left_out = (len(judged) - len(useful), own)
        found = [self._evaluated(each, useful, k, exact, left_out, record=record) for each in tables]
        return found[0] if one else Comparison(found)

    def _evaluated(
        self, table: ResultTable, judged: Sequence[_Judged], k: int, exact: bool | None, left_out: tuple[int, int], *, record: bool
    ) -> Metrics:
        from jammi_lab.vectors.metrics import scores

        record_of = self._searchable(table)
        matrix = self._matrix(record_of)
        keys = _cast([key for each in judged for key in each.relevance], matrix, record_of)
        hits = self._ranked(record_of, matrix, judged, k, exact)
        taken = iter(keys)
        per_query = []
        for each, places in zip(judged, hits, strict=True):
            by_key: dict[Hashable, float] = {}
            for value in each.relevance.values():
                key = next(taken)
                by_key[key] = max(by_key.get(key, 0.0), value)  # one key may be said in two ways: 17 and '17'
            per_query.append((each.shown, scores(matrix.keys_at(places).to_pylist(), by_key, k)))
        made = Metrics(table, k, per_query, *left_out, None)
        if record and not self._rooms.catalog.read_only:
            made.recorded = self._noted(record_of, made)
        return made

    def _ranked(self, record: TableRecord, matrix: "Matrix", judged: Sequence[_Judged], k: int, exact: bool | None) -> list[Any]:
        """Places of the hits of each query. Raises as `search`."""
        found: list[Any] = [None] * len(judged)
        descriptor = Behind(self, record).descriptor
        for kind in (str, object):  # texts go to the encoder together, and so do vectors to the search
            some = [at for at, j in enumerate(judged) if not j.by_row and isinstance(j.asked, str) == (kind is str)]
            if some:
                queries, _ = self._queries(record, descriptor, [judged[at].asked for at in some])
                for at, places in zip(some, self._found(record, matrix, queries, k, None, None, exact).rows, strict=True):
                    found[at] = places
        for at, each in enumerate(judged):
            if each.by_row:
                row = self._row(matrix, record, _meant(each.asked, matrix))
                found[at] = self._found(record, matrix, None, k, None, row, exact).rows[0]
        return found

    def _noted(self, record: TableRecord, made: Metrics) -> Evaluation | None:
        """The record against the model that made the vectors; None when nothing is known of it here."""
        encoder = Behind(self, record).descriptor.get("encoder")
        version = str(encoder.get("version")) if isinstance(encoder, dict) else ""
        for number in dict.fromkeys((int(version) if version.isdecimal() and int(version) else None, None)):
            try:
                return self.models.record_evaluation(record.model_id or "", dict(made), version=number)
            except ModelNotFound:
                continue
        return None


def _of_others(judged: Sequence[_Judged], matrices: "Sequence[Matrix]") -> tuple[list[_Judged], int]:
    """The queries without what was judged of a row about itself, and how many judgements that were."""
    found, own = [], 0
    for each in judged:
        kept = each.relevance
        if each.by_row:
            rows = [(matrix, _meant(each.asked, matrix)) for matrix in matrices]
            kept = {key: value for key, value in kept.items() if not any(_meant(key, matrix) == row for matrix, row in rows)}
        own += len(each.relevance) - len(kept)
        found.append(replace(each, relevance=kept))
    return found, own


def _cast(keys: Sequence[Any], matrix: "Matrix", record: TableRecord) -> list[Any]:
    """Judged keys as keys of the table's type; a key that is of another one is in no table, unless all are: SchemaMismatch."""
    from jammi_lab.vectors.arrays import as_key

    kind = matrix.keys.type
    cast = [_meant(key, matrix) for key in keys]
    if len(matrix) and all(as_key(key, kind) is None and not isinstance(key, type(matrix.keys[0].as_py())) for key in keys):
        raise SchemaMismatch(
            f"No judged key is of the type that the keys of {record.recipe!r} have.", column="key", expected=str(kind), actual=type(keys[0]).__name__
        )
    return cast


def _meant(key: Any, matrix: "Matrix") -> Any:
    """A key as one of the table's type, as a literal means one in SQL; as it is where it cannot be one."""
    from jammi_lab.vectors.arrays import as_key

    return key if (made := as_key(key, matrix.keys.type)) is None else made


def _judged(golden: Any) -> list[_Judged]:
    """The queries with their judgements, in the order in which they first come. InvalidArgument."""
    queries: dict[Any, _Judged] = {}
    for number, row in enumerate(_rows_of(golden), 1):
        by_row = row.get("query") is None
        asked, key = row["row"] if by_row and "row" in row else row.get("query"), row.get("key")
        if asked is None or key is None or (not by_row and row.get("row") is not None):
            raise InvalidArgument(f"Judgement {number} has no key, or not one of query and row.", hint=_HINT)
        relevance = 1.0 if row.get("relevance") is None else row["relevance"]
        if not _is_weight(relevance):
            raise InvalidArgument(f"The relevance of judgement {number} is a number from 0, not {relevance!r}.")
        if isinstance(asked, set | Mapping):  # of which Python would make lists, in whichever order
            raise InvalidArgument(f"The query of judgement {number} is no text and no vector: {asked!r:.80}.", hint=_HINT)
        if not isinstance(asked, Hashable):
            asked = asked.tolist() if hasattr(asked, "tolist") else list(asked)
        what = tuple(asked) if isinstance(asked, list) else asked
        for each, value in (("query", what), ("key", key)):
            if not _hashable(value):
                raise InvalidArgument(f"The {each} of judgement {number} is {'several' if each == 'query' else 'no key'}: {value!r:.80}.", hint=_HINT)
        known = queries.setdefault((by_row, what), _Judged(asked, by_row, {}))
        known.relevance[key] = max(known.relevance.get(key, 0.0), float(relevance))
    if not queries:
        raise InvalidArgument("There are no judgements.", hint=_HINT)
    return list(queries.values())


def _is_weight(given: Any) -> bool:
    """Whether it is a finite number from 0."""
    try:
        return hasattr(given, "__float__") and math.isfinite(given) and bool(given >= 0)
    except OverflowError:  # a whole number that no float holds
        return False


def _hashable(value: Any) -> bool:
    """Whether a value can be told from others: a list inside a tuple makes that impossible, though tuples claim it."""
    try:
        hash(value)
    except TypeError:
        return False
    return True


def _rows_of(golden: Any) -> list[dict[str, Any]]:
    from jammi_lab.sources.frames import as_arrow, is_frame

    if is_frame(golden) or hasattr(golden, "arrow"):
        table = golden.arrow() if not is_frame(golden) else as_arrow(golden)
        rows: list[dict[str, Any]] = table.to_pylist()
    elif isinstance(golden, list | tuple) and all(isinstance(row, Mapping | tuple | list) for row in golden):
        names = ("query", "key", "relevance")
        if wrong := [row for row in golden if not isinstance(row, Mapping) and len(row) not in (2, 3)]:
            raise InvalidArgument(f"A judgement is (query, key) or (query, key, relevance), not {len(wrong[0])} values.", hint=_HINT)
        rows = [dict(row) if isinstance(row, Mapping) else dict(zip(names, row, strict=False)) for row in golden]
    else:
        raise InvalidArgument(f"Judgements are a frame or a list, not a {type(golden).__name__}.", hint=_HINT)
    spelt = [{fold(str(name)): value for name, value in row.items()} for row in rows]
    if unknown := [name for row in spelt for name in row if name not in _COLUMNS]:
        raise InvalidArgument(f"Judgements have no column {unknown[0]!r}.", hint=_HINT)
    return spelt
