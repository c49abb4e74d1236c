"""One run of an encoder over the texts of a table: what is known already is taken over, the rest is encoded, nothing that was done is lost."""

import contextlib
import time
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from jammi_lab.catalog.catalog import Catalog
from jammi_lab.embedders.base import Encoder, Floats
from jammi_lab.embedders.driver import encode_texts
from jammi_lab.engine.prepared import Prepared
from jammi_lab.errors import DuplicateKey, SchemaMismatch
from jammi_lab.execution.executor import Executor
from jammi_lab.producers.base import OnProgress
from jammi_lab.producers.checkpoint import Checkpoint, Digests, as_column, no_digests
from jammi_lab.producers.texts import Texts, slices
from jammi_lab.sources.base import Relation
from jammi_lab.storage.below import files_below
from jammi_lab.storage.files import Place, opened, remove
from jammi_lab.storage.parquet import group_rows
from jammi_lab.store import manifests, readers
from jammi_lab.store.failures import leave
from jammi_lab.store.results import CHECKPOINT_SECONDS, Results
from jammi_lab.values.anchors import Observed
from jammi_lab.values.mutables import MutableRecord
from jammi_lab.values.records import Progress, Reuse, TableKind, TableRecord, TableStatus
from jammi_lab.vectors.arrays import array_of, keys_of, numbers_of, places_of
from jammi_lab.vectors.exact import Places

DIGEST = "_text_digest"
_READ = 1024
"""Rows of an earlier version that are held at a time."""
_SLAB = 4096
"""Texts whose vectors are held twice while they are being made."""
_SAVE_SECONDS, _SAVE_SHARE = 1.0, 0.02
"""A checkpoint is written at most this often, and takes at most this share of the time."""


class Memory:
    """What a run may take over: the vectors of the recipe's newest version, and what an interrupted run has left."""

    def __init__(self, catalog: Catalog, results: Results) -> None:
        self._catalog, self._results = catalog, results

    def earlier(self, name: str, identity: dict[str, object]) -> "Earlier":
        """The newest ready and intact version that was made with the same encoder; an empty one when there is none."""
        versions = [record for _, record in self._catalog.tables.versions(name)]
        if not versions and (shared := self._catalog.tables.newest(name)) is not None:
            versions = [shared[1]]
        return Earlier(next((self._results.parquet(record) for record in versions if self._fits(record, identity)), None))

    def _fits(self, record: TableRecord, identity: dict[str, object]) -> bool:
        if record.status is not TableStatus.READY or record.kind is not TableKind.EMBEDDING:
            return False
        manifest = manifests.parse(self._catalog.tables.manifest(record.table_name))
        return manifest is not None and manifest.descriptor.get("encoder") == identity and self._results.intact(record)

    def checkpoint(self, definition: str, inputs: Sequence[Relation]) -> Checkpoint:
        """Where an interrupted run of a definition leaves what it has done; nowhere, when it reads a table of an ephemeral session, whose values are
        to be in no file when that is over. What has lain there for too long goes.

        Each tenant has its own: who took over another's vectors would learn by the time which texts that one has."""
        now = self._results.clock.now_ns()
        for path, found in files_below(self._results.root, "checkpoints"):
            if now - found.since_ns > CHECKPOINT_SECONDS * 1_000_000_000:
                with contextlib.suppress(OSError):
                    remove(self._results.root / path)
        read = [state for state in (i.changing and i.changing.state for i in inputs) if isinstance(state, MutableRecord)]
        if any(record.session is not None for record in read):
            return Checkpoint(None)

        def still() -> bool:
            found = [self._catalog.mutables.get(record.name) for record in read]
            return [record.table_id for record in read] == [record and record.table_id for record in found]

        tenant = self._catalog.scope.tenant
        place = self._results.root / "checkpoints" / (f"{definition}.parquet" if tenant is None else f"{definition}__{tenant}.parquet")
        return Checkpoint(place, [record.table_id for record in read], still)


class Earlier:
    """An earlier version, read piece by piece: it may be as large as the one that is being made. One that goes away is as none."""

    def __init__(self, path: Place | None = None) -> None:
        self._path = path

    def digests(self) -> dict[object, bytes]:
        """Text digest by key."""
        if self._path is None:
            return {}
        release = readers.hold(self._path)
        try:
            with opened(self._path) as raw, pq.ParquetFile(raw) as file:
                table = file.read(["key", DIGEST])
        except FileNotFoundError:
            return {}
        finally:
            release()
        return dict(zip(table["key"].to_pylist(), table[DIGEST].to_pylist(), strict=True))

    def vectors(self) -> Iterator[tuple[list[bytes], Floats]]:
        """Text digests with their vectors, some rows at a time."""
        if self._path is None:
            return
        release = readers.hold(self._path)
        try:
            with opened(self._path) as raw, pq.ParquetFile(raw, buffer_size=1 << 20, pre_buffer=False) as file:
                for batch in file.iter_batches(_READ, columns=["vector", DIGEST], use_threads=False):
                    yield batch.column(DIGEST).to_pylist(), numbers_of(batch.column("vector").flatten()).reshape(batch.num_rows, -1)
        except FileNotFoundError:
            return
        finally:
            release()


class Embedding:
    """One run: reads keys and texts in key order, takes over what is known, encodes the rest."""

    def __init__(
        self,
        prepared: Prepared,
        places: Sequence[int],
        encoder: Encoder,
        earlier: Earlier,
        checkpoint: Checkpoint,
        name: str,
        key: str,
        executor: Executor,
    ) -> None:
        """`places`: the output columns whose texts are joined; the first output column is the key. `executor`: where the encoder is called."""
        self._executor = executor
        self._prepared, self._places, self._encoder, self._earlier = prepared, places, encoder, earlier
        self._checkpoint, self._name, self._key = checkpoint, name, key
        self._table = pa.table({})
        self._digests: Digests = no_digests()
        self._vectors: Floats = np.empty((0, encoder.dimensions), np.float32)
        self._own: Places = np.empty(0, np.int64)
        """Rows whose vectors no earlier version has, in the order in which they are made: those that are belong into a checkpoint."""
        self._made = self._saved = self._resumed = 0
        self.reuse: Reuse | None = None
        self.witnesses: dict[tuple[str, str, str], Observed] = {}

    @property
    def schema(self) -> pa.Schema:
        """key, vector, text digest."""
        return self._table.schema

    def batches(self, rows: int | None = None) -> Iterator[pa.RecordBatch]:
        """The rows in key order; whole row groups unless a number of rows is said, which are then written without a copy."""
        for batch in self._table.to_batches(max_chunksize=rows or group_rows(self.schema)):
            yield batch
            pa.default_memory_pool().release_unused()  # what writing it took would else pile up until all is written

    def close(self) -> None:
        """Nothing is open; the vectors stay until it is known whether they were published."""

    def published(self) -> None:
        """The rows are ready: let go of them and of the checkpoint."""
        self._let_go()
        self._checkpoint.remove()

    def lost(self, error: BaseException) -> None:
        """The rows will not be ready, because of this: what was encoded goes into the checkpoint."""
        self._save()
        if self._saved:
            leave(error, f"{self._saved:,} of {len(self._own):,} texts are encoded and kept for the next time")
        self._let_go()

    def run(self, on_progress: OnProgress | None) -> None:
        """Encode. What is interrupted or fails leaves a checkpoint of the texts that were done."""
        read = self._prepared.run_ordered(witnesses=self.witnesses).table()
        keys = _checked(read.column(0), self._key)
        texts = Texts([read.column(place) for place in self._places])
        del read
        self._digests = texts.digests
        self._vectors = np.empty((len(texts), self._encoder.dimensions), np.float32)
        like, todo = self._taken_over()
        try:
            self._encode(keys, texts, todo, on_progress)
        except BaseException as error:
            self.lost(error)
            raise
        del texts
        again = np.flatnonzero(like != np.arange(len(like)))
        for start in range(0, len(again), _SLAB):
            some = again[start : start + _SLAB]
            self._vectors[some] = self._vectors[like[some]]
        self.reuse = self._counted(keys)
        flat = pa.FixedSizeListArray.from_arrays(array_of(self._vectors), self._encoder.dimensions)
        self._table = pa.table({"key": keys, "vector": flat, DIGEST: as_column(self._digests)})

    def _taken_over(self) -> tuple[Places, Places]:
        """Fill in what an earlier version or a checkpoint knows. Of each row the first one with its text; one row of each text that is left."""
        first: dict[bytes, int] = {}
        like = np.empty(len(self._digests), np.int64)
        for at, some in slices(self._digests):
            like[at : at + len(some)] = [first.setdefault(digest, row) for row, digest in enumerate(some, at)]
        self._fill(first, self._earlier.vectors())
        kept = self._fill(first, self._checkpoint.load(self._encoder.dimensions)) if first else []
        self._own = np.array([*kept, *first.values()], np.int64)
        self._made = self._saved = self._resumed = len(kept)
        return like, self._own[len(kept) :].copy()

    def _fill(self, wanted: dict[bytes, int], known: Iterable[tuple[list[bytes], Floats]]) -> list[int]:
        filled: list[int] = []
        for digests, vectors in known:
            if not wanted or vectors.shape[1] != self._vectors.shape[1]:
                break
            found = [(row, at) for at, digest in enumerate(digests) if (row := wanted.pop(digest, None)) is not None]
            if found:
                places = np.array(found, np.int64)
                self._vectors[places[:, 0]] = vectors[places[:, 1]]
                filled += [row for row, _ in found]
        return filled

    def _encode(self, keys: pa.Array, texts: Texts, todo: Places, on_progress: OnProgress | None) -> None:
        """Texts of like length together: they cost an encoder the least. After vectors that cannot be used only the rows before them."""
        total, next_save = len(todo), time.monotonic() + _SAVE_SECONDS
        bad: SchemaMismatch | None = None
        todo = todo[np.argsort(texts.lengths[todo], kind="stable")]
        while len(todo):
            slab, todo = np.sort(todo[:_SLAB]), todo[_SLAB:]

            def on_batch(rows: Places, made: Floats, slab: Places = slab) -> None:
                nonlocal next_save
                self._vectors[slab[rows]] = made
                self._own[self._made : self._made + len(rows)] = slab[rows]
                self._made += len(rows)
                if on_progress:
                    on_progress(Progress(stage=f"embed {self._name}", done=self._made - self._resumed, total=total, unit="texts"))
                if (began := time.monotonic()) >= next_save:
                    self._save()
                    now = time.monotonic()
                    next_save = now + max(_SAVE_SECONDS, (now - began) / _SAVE_SHARE)

            named = keys.take(places_of(slab)).to_pylist()
            try:
                encode_texts(self._encoder, texts.at(slab), on_batch=on_batch, keys=named, run=self._executor.map)
            except SchemaMismatch as error:
                if error.key is None:
                    raise
                bad, first = error, slab[named.index(error.key)]
                todo = todo[todo < first]
        if bad is not None:
            raise bad

    def _save(self) -> None:
        made = self._made
        if made > self._saved and self._checkpoint.save(self._digests, self._vectors, self._own[:made]):
            self._saved = made

    def _let_go(self) -> None:
        self._table, self._digests, self._own = pa.Table.from_batches([], self.schema), no_digests(), self._own[:0].copy()
        self._vectors = self._vectors[:0].copy()
        self._made = self._saved = 0

    def _counted(self, keys: pa.Array) -> Reuse:
        before = self._earlier.digests()
        new = changed = 0
        for at, some in slices(self._digests):
            for key, digest in zip(keys.slice(at, len(some)).to_pylist(), some, strict=True):
                was = before.pop(key, None)
                new += was is None
                changed += was is not None and was != digest
        return Reuse(new=new, changed=changed, removed=len(before), unchanged=len(self._digests) - new - changed, encoded_before=self._resumed)


def _checked(column: pa.ChunkedArray, name: str) -> pa.Array:
    """The keys, which come in order. SchemaMismatch when one is NULL, DuplicateKey when two are equal."""
    if column.null_count:
        raise SchemaMismatch(
            f"{column.null_count:,} of {len(column):,} rows have no key in {name!r}.",
            column=name,
            expected="a key in every row",
            actual="NULL",
            hint=f"Leave them out: where='{name} IS NOT NULL'.",
        )
    keys = keys_of(column, name)
    plain = keys.storage if isinstance(keys, pa.ExtensionArray) else keys
    same = pc.equal(plain[1:], plain[:-1])
    if pc.any(same).as_py():
        found = keys[1:].filter(same).slice(0, 50).to_pylist()
        twice = list(dict.fromkeys(found))[:5]
        raise DuplicateKey(
            f"The key {name!r} is not unique: {', '.join(map(repr, twice))}.", keys=twice, hint="Choose a column that identifies a row."
        )
    return keys
