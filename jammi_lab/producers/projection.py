"""The producer `projection`: each row of an embedding table as a point of a plane."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from jammi_lab.errors import InvalidArgument
from jammi_lab.names import near
from jammi_lab.producers.base import Job, OnProgress, Running
from jammi_lab.producers.inputs import Asked, Inputs, shared
from jammi_lab.values.descriptors import ProjectionDescriptor
from jammi_lab.values.records import Progress, TableKind
from jammi_lab.vectors import tsne
from jammi_lab.vectors.arrays import Floats
from jammi_lab.vectors.matrix import Matrix
from jammi_lab.vectors.projection import plane

REVISION = 1
"""Raised when equal vectors would give other points than before."""
METHODS = ("pca", "tsne")
_LIBRARY = "scikit-learn"


class ProjectionProducer:
    """Binds embedding tables."""

    def __init__(self, inputs: Inputs) -> None:
        self._inputs = inputs

    def job(self, name: str, asked: str, method: str, perplexity: float, seed: int) -> Job:
        """The points as a job. TableNotFound; SchemaMismatch for a table without vectors; InvalidArgument; ExtensionMissing."""
        vectors = self._inputs.vectors_named(asked)
        if checked_method(method) == "pca":
            return self._bound(name, vectors, "pca", None, None)
        if isinstance(perplexity, bool) or not isinstance(perplexity, int | float | np.integer | np.floating) or not 1 <= perplexity < math.inf:
            raise InvalidArgument(f"perplexity is a number from 1 on, not {perplexity!r}.")
        if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or not 0 <= seed < 2**32:
            raise InvalidArgument(f"seed is a whole number from 0 to {2**32 - 1:,}, not {seed!r}.")
        tsne.manifold()
        return self._bound(name, vectors, method, float(perplexity), int(seed))

    def from_descriptor(self, name: str, said: ProjectionDescriptor) -> Job:
        """A recorded definition as a job over the vectors as they are now. Raises as binding does."""
        return self._bound(name, (said.vectors.asked, said.vectors.statement), said.method, said.perplexity, said.seed)

    def environment(self, method: str, recorded: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """What else shapes the rows: the version of the library, when one does the work; the recorded one when it is not in this kernel."""
        if method == "pca":
            return {"revision": REVISION}
        return {"revision": REVISION, _LIBRARY: tsne.installed() or (recorded or {}).get(_LIBRARY)}

    def hindrance(self, said: ProjectionDescriptor) -> str | None:
        """What this kernel lacks to place such points, one sentence; None when it lacks nothing."""
        return "t-SNE needs scikit-learn, which is not installed." if said.method == "tsne" and tsne.installed() is None else None

    def _bound(self, name: str, asked: Asked, method: str, perplexity: float | None, seed: int | None) -> Job:
        taken = self._inputs.take(asked)
        descriptor = ProjectionDescriptor(vectors=taken.said, method=method, perplexity=perplexity, seed=seed)

        def rows(on_progress: OnProgress | None) -> Running:
            return Running(_Points(name, self._inputs.matrix(taken), descriptor, on_progress))

        return Job(
            kind=TableKind.PROJECTION,
            descriptor=descriptor,
            environment=self.environment(method),
            rows=rows,
            again=lambda: self._bound(name, asked, method, perplexity, seed),
            key=["key"],
            **shared([taken]),
        )


class _Points:
    """Rows with their places: key, x, y, in the order of keys."""

    def __init__(self, name: str, matrix: Matrix, said: ProjectionDescriptor, on_progress: OnProgress | None) -> None:
        self._matrix = matrix
        self.schema = pa.schema([("key", matrix.keys.type), ("x", pa.float32()), ("y", pa.float32())])

        def told(what: str, done: int, total: int) -> None:
            stage = f"neighbours for {name}" if said.method == "tsne" and what == "rows" else f"projection {name}"
            if on_progress:
                on_progress(Progress(stage=stage, done=done, total=total, unit=what))

        self._said, self._told = said, told

    def batches(self, rows: int = 65536) -> Iterator[pa.RecordBatch]:
        """The points."""
        points = self._placed()
        for at in range(0, len(points), rows):
            some = points[at : at + rows]
            columns = [self._matrix.keys.slice(at, rows), pa.array(some[:, 0].copy()), pa.array(some[:, 1].copy())]
            yield pa.RecordBatch.from_arrays(columns, schema=self.schema)

    def _placed(self) -> Floats:
        if self._said.method == "pca":
            self._told("rows", 0, len(self._matrix))
            return plane(self._matrix.vectors)[0]
        perplexity, seed = self._said.perplexity, self._said.seed
        assert perplexity is not None, "t-SNE is told it"
        assert seed is not None, "t-SNE is told it"
        return tsne.tsne(self._matrix.exact, perplexity, seed, self._told)

    def close(self) -> None:
        """Nothing is open."""


def checked_method(method: Any) -> str:
    """A way to place points. InvalidArgument."""
    if method not in METHODS:
        raise InvalidArgument(f"method is {' or '.join(METHODS)}, not {method!r}.", near=near(method, METHODS) if isinstance(method, str) else ())
    return str(method)
