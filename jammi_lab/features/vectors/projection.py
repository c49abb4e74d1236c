"""The producer `projection`: the vectors of an embedding table as points in a plane."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from jammi_lab.core.definitions import ProjectionDescriptor
from jammi_lab.core.errors import InvalidArgument
from jammi_lab.core.identifiers import near_names
from jammi_lab.core.records import OnProgress, Progress
from jammi_lab.features.vectors import projections
from jammi_lab.features.vectors.matrix import Matrix
from jammi_lab.features.vectors.projections import project_to_plane
from jammi_lab.steps.input_tables import InputLoader, InputReference, input_fields
from jammi_lab.steps.jobs import Job, RunningJob
from jammi_lab.storage.vector_arrays import Floats

OUTPUT_VERSION = 1
"""Increment when equal vectors would give other points than before."""
METHODS = ("pca", "tsne")
_LIBRARY = "scikit-learn"


class ProjectionProducer:
    """Binds embedding tables."""

    def __init__(self, inputs: InputLoader) -> None:
        self._inputs = inputs

    def job(self, name: str, table: str, method: str, perplexity: float, seed: int) -> Job:
        """The job of a projection. Raises TableNotFound, SchemaMismatch for a table without
        vectors, InvalidArgument, ExtensionMissing."""
        vectors = self._inputs.find_vectors(table)
        if check_method(method) == "pca":
            return self._bind(name, vectors, "pca", None, None)
        if (
            isinstance(perplexity, bool)
            or not isinstance(perplexity, int | float | np.integer | np.floating)
            or not 1 <= perplexity < math.inf
        ):
            raise InvalidArgument(f"perplexity must be a number of at least 1, got {perplexity!r}.")
        if (
            isinstance(seed, bool)
            or not isinstance(seed, int | np.integer)
            or not 0 <= seed < 2**32
        ):
            raise InvalidArgument(f"seed must be an integer from 0 to {2**32 - 1:,}, got {seed!r}.")
        projections.import_manifold()
        return self._bind(name, vectors, method, float(perplexity), int(seed))

    def from_descriptor(self, name: str, descriptor: ProjectionDescriptor) -> Job:
        """The job of a recorded definition over the current vectors. Raises what binding raises."""
        return self._bind(
            name,
            descriptor.vectors.reference,
            descriptor.method,
            descriptor.perplexity,
            descriptor.seed,
        )

    def environment(self, method: str, recorded: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Everything besides the descriptor that shapes the rows: the version of the library that
        computes them. `recorded` fills in when the library is not installed."""
        if method == "pca":
            return {"revision": OUTPUT_VERSION}
        return {
            "revision": OUTPUT_VERSION,
            _LIBRARY: projections.installed_version() or (recorded or {}).get(_LIBRARY),
        }

    def missing_requirement(self, descriptor: ProjectionDescriptor) -> str | None:
        """What this kernel lacks to compute such a projection, as one sentence; None when nothing
        is missing."""
        return (
            "t-SNE needs scikit-learn, which is not installed."
            if descriptor.method == "tsne" and projections.installed_version() is None
            else None
        )

    def _bind(
        self,
        name: str,
        reference: InputReference,
        method: str,
        perplexity: float | None,
        seed: int | None,
    ) -> Job:
        table = self._inputs.load(reference)
        descriptor = ProjectionDescriptor(
            vectors=table.step_input, method=method, perplexity=perplexity, seed=seed
        )

        def rows(on_progress: OnProgress | None) -> RunningJob:
            return RunningJob(_Points(name, self._inputs.matrix(table), descriptor, on_progress))

        return Job(
            descriptor=descriptor,
            environment=self.environment(method),
            start=rows,
            rebind=lambda: self._bind(name, reference, method, perplexity, seed),
            key=["key"],
            columns={"key": table.key_type, "x": "FLOAT", "y": "FLOAT"},
            **input_fields([table]),
        )


class _Points:
    """The output rows: key, x, y, in key order."""

    def __init__(
        self,
        name: str,
        matrix: Matrix,
        descriptor: ProjectionDescriptor,
        on_progress: OnProgress | None,
    ) -> None:
        self._matrix = matrix
        self.schema = pa.schema(
            [("key", matrix.keys.type), ("x", pa.float32()), ("y", pa.float32())]
        )

        def report_progress(unit: str, done: int, total: int) -> None:
            stage = (
                f"neighbours for {name}"
                if descriptor.method == "tsne" and unit == "rows"
                else f"projection {name}"
            )
            if on_progress:
                on_progress(Progress(stage=stage, done=done, total=total, unit=unit))

        self._descriptor, self._report_progress = descriptor, report_progress

    def batches(self, rows: int = 65536) -> Iterator[pa.RecordBatch]:
        """Yield the points."""
        points = self._compute_points()
        for start in range(0, len(points), rows):
            block = points[start : start + rows]
            columns = [
                self._matrix.keys.slice(start, rows),
                pa.array(block[:, 0].copy()),
                pa.array(block[:, 1].copy()),
            ]
            yield pa.RecordBatch.from_arrays(columns, schema=self.schema)

    def _compute_points(self) -> Floats:
        if self._descriptor.method == "pca":
            self._report_progress("rows", 0, len(self._matrix))
            return project_to_plane(self._matrix.vectors)[0]
        perplexity, seed = self._descriptor.perplexity, self._descriptor.seed
        assert perplexity is not None, "every t-SNE descriptor has one"
        assert seed is not None, "every t-SNE descriptor has one"
        return projections.tsne(self._matrix.exact, perplexity, seed, self._report_progress)

    def close(self) -> None:
        """Do nothing."""


def check_method(method: Any) -> str:
    """A validated projection method. Raises InvalidArgument."""
    if method not in METHODS:
        raise InvalidArgument(
            f"method must be {' or '.join(METHODS)}, got {method!r}.",
            near=near_names(method, METHODS) if isinstance(method, str) else (),
        )
    return str(method)
