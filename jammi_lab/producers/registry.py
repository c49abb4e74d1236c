"""The one registry of producers: from a recipe to today's definition, to a job, and to what its statement reads today."""

import functools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from jammi_lab.catalog.catalog import Catalog
from jammi_lab.config import Settings
from jammi_lab.engine.resolve import Provider
from jammi_lab.engine.session import Engine
from jammi_lab.execution.executor import Executor
from jammi_lab.producers import external, python, sql
from jammi_lab.producers.base import Bound, Job
from jammi_lab.store.results import Results
from jammi_lab.tenancy import TenantScope
from jammi_lab.values.anchors import Unknown
from jammi_lab.values.descriptors import (
    AsofJoinDescriptor,
    ContextSetDescriptor,
    EmbeddingDescriptor,
    ExternalDescriptor,
    GraphPropagationDescriptor,
    ImportedDescriptor,
    NeighborGraphDescriptor,
    ProjectionDescriptor,
    PythonDescriptor,
    SqlDescriptor,
    decode_param,
    definition_hash,
    parse_descriptor,
)
from jammi_lab.values.records import RecipeRecord
from jammi_lab.vectors.indexes import Indexes

if TYPE_CHECKING:
    from jammi_lab.embedders.registry import Encoders
    from jammi_lab.producers.asof import AsofProducer
    from jammi_lab.producers.context import ContextProducer
    from jammi_lab.producers.embedding import EmbeddingProducer
    from jammi_lab.producers.imported import ImportedProducer
    from jammi_lab.producers.inputs import Inputs
    from jammi_lab.producers.neighbors import NeighborsProducer
    from jammi_lab.producers.projection import ProjectionProducer
    from jammi_lab.producers.propagation import PropagationProducer


class Producers:
    """All producers of a workspace."""

    def __init__(
        self,
        engine: Engine,
        scope: TenantScope,
        extra: Sequence[Provider],
        catalog: Catalog,
        results: Results,
        executor: Executor,
        settings: Settings,
        vectors: Indexes,
    ) -> None:
        self._executor, self._settings, self._vectors = executor, settings, vectors
        self.sql = sql.SqlProducer(engine, scope)
        self.external = external.ExternalProducer(engine, scope)
        self.python = python.PythonProducer(engine, scope)
        self._engine, self._scope, self._extra, self._catalog, self._results = engine, scope, extra, catalog, results

    @functools.cached_property
    def encoders(self) -> "Encoders":
        """The encoders of this process; loaded on first use, as numpy is heavy."""
        from jammi_lab.embedders.registry import Encoders

        return Encoders()

    @functools.cached_property
    def embedding(self) -> "EmbeddingProducer":
        """Texts into vectors; loaded on first use."""
        from jammi_lab.producers.embedding import EmbeddingProducer
        from jammi_lab.producers.encoding import Memory

        return EmbeddingProducer(self._engine, self._scope, self.encoders, Memory(self._catalog, self._results), self._executor)

    @functools.cached_property
    def imported(self) -> "ImportedProducer":
        """Vectors from outside; loaded on first use."""
        from jammi_lab.producers.imported import ImportedProducer

        return ImportedProducer(self._engine, self._scope)

    @functools.cached_property
    def inputs(self) -> "Inputs":
        """What the producers over several tables read; loaded on first use."""
        from jammi_lab.producers.inputs import Inputs

        return Inputs(self._engine, self._scope, self._vectors)

    @functools.cached_property
    def neighbors(self) -> "NeighborsProducer":
        """Rows with those most similar to them; loaded on first use."""
        from jammi_lab.producers.neighbors import NeighborsProducer

        return NeighborsProducer(self.inputs, self._settings)

    @functools.cached_property
    def propagation(self) -> "PropagationProducer":
        """Vectors mixed with those of their neighbours; loaded on first use."""
        from jammi_lab.producers.propagation import PropagationProducer

        return PropagationProducer(self.inputs, self._engine)

    @functools.cached_property
    def context(self) -> "ContextProducer":
        """Vectors of members, pooled; loaded on first use."""
        from jammi_lab.producers.context import ContextProducer

        return ContextProducer(self.inputs, self._engine)

    @functools.cached_property
    def projection(self) -> "ProjectionProducer":
        """Vectors as points of a plane; loaded on first use."""
        from jammi_lab.producers.projection import ProjectionProducer

        return ProjectionProducer(self.inputs)

    @functools.cached_property
    def asof(self) -> "AsofProducer":
        """Rows with the fact known at their time; loaded on first use."""
        from jammi_lab.producers.asof import AsofProducer

        return AsofProducer(self.inputs, self._engine)

    def environment(self, descriptor: Mapping[str, Any], recorded: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """What else shapes the output of such a descriptor, today; as `recorded` what is not in this kernel."""
        match descriptor.get("producer"):
            case "sql":
                return sql.environment(self._engine)
            case "external":
                return external.environment()
            case "embedding":
                return self.embedding.environment()
            case "imported":
                return self.imported.environment()
            case "python":
                return python.environment()
            case "neighbor_graph":
                return self.neighbors.environment()
            case "graph_propagation":
                return self.propagation.environment()
            case "context_set":
                return self.context.environment()
            case "projection":
                return self.projection.environment(descriptor["method"], recorded)
            case "asof_join":
                return self.asof.environment()
        raise ValueError(f"no producer {descriptor.get('producer')!r}")

    def definition_today(self, recipe: RecipeRecord, *, deep: bool = True) -> str | Unknown:
        """The definition hash of a recipe as it stands, with today's environment; Unknown for a Python step whose function is not here, for which
        a deep look imports its module, and for a model that was replaced and is not here."""
        environment, descriptor = self.environment(recipe.descriptor, recipe.environment), recipe.descriptor
        if descriptor.get("producer") == "embedding":
            encoder = self.embedding.identity_today(descriptor["encoder"])
            if isinstance(encoder, Unknown):
                return encoder
            descriptor = {**descriptor, "encoder": encoder}
        if descriptor.get("producer") == "python" and isinstance(step := parse_descriptor(descriptor), PythonDescriptor):
            digest = self.python.digest_today(step, importing=deep)
            if isinstance(digest, Unknown):
                return digest
            descriptor = {**descriptor, "digest": digest}
        if environment == recipe.environment and descriptor == recipe.descriptor:
            return recipe.definition_hash
        return definition_hash(parse_descriptor(descriptor), environment)

    def hindrance(self, descriptor: Mapping[str, Any]) -> str | None:
        """What this kernel lacks to make such a recipe's tables, one sentence; None when it lacks nothing."""
        if descriptor.get("producer") not in ("embedding", "python", "projection"):
            return None
        match parse_descriptor(descriptor):
            case EmbeddingDescriptor() as texts:
                return self.embedding.hindrance(texts.encoder)
            case PythonDescriptor() as step:
                return self.python.hindrance(step)
            case ProjectionDescriptor() as points:
                return self.projection.hindrance(points)
            case _:
                return None

    def grounds(self, descriptor: Mapping[str, Any]) -> str:
        """What a verdict on such a recipe rests on, when that is less than a comparison of all that shapes its rows; else empty."""
        if descriptor.get("producer") != "python":
            return ""
        return python.ON_SOURCE if descriptor["version"] is None else f"on its version {descriptor['version']}"

    def job(self, name: str, descriptor: Mapping[str, Any]) -> Job:
        """A recorded definition, bound to its inputs as they are now. Raises as the producer's binding does; NotRecomputable for external rows."""
        match parse_descriptor(descriptor):
            case SqlDescriptor() as statement:
                return self.sql.from_descriptor(statement, self._extra)
            case ExternalDescriptor() as given:
                return self.external.from_descriptor(name, given)
            case EmbeddingDescriptor() as texts:
                return self.embedding.from_descriptor(name, texts, self._extra)
            case ImportedDescriptor() as vectors:
                return self.imported.from_descriptor(name, vectors)
            case PythonDescriptor() as step:
                return self.python.from_descriptor(name, step, self._extra)
            case NeighborGraphDescriptor() as graph:
                return self.neighbors.from_descriptor(name, graph)
            case GraphPropagationDescriptor() as mixed:
                return self.propagation.from_descriptor(name, mixed, self._extra)
            case ContextSetDescriptor() as pooled:
                return self.context.from_descriptor(name, pooled, self._extra)
            case ProjectionDescriptor() as points:
                return self.projection.from_descriptor(name, points)
            case AsofJoinDescriptor() as joined:
                return self.asof.from_descriptor(name, joined, self._extra)

    def redefined(self, descriptor: Mapping[str, Any], statement: str) -> Job:
        """Another statement in the place of a recorded one, with its key and those of its bound values that the new one names. Raises as binding."""
        made = parse_descriptor(descriptor)
        assert isinstance(made, SqlDescriptor), "only a statement can be put in the place of one"
        named = self._engine.parameters(statement)
        return self.sql.job(statement, {n: decode_param(v) for n, v in made.params.items() if n in named}, made.key, self._extra)

    def bound_today(self, descriptor: Mapping[str, Any]) -> tuple[list[Bound], bool] | None:
        """What a statement reads, bound to its inputs' columns as they are now, and whether it still says what it said: the same output, by the same
        meaning. None when the producer reads whole inputs. Raises as binding does."""
        match parse_descriptor(descriptor):
            case SqlDescriptor() as statement:
                job = self.sql.from_descriptor(statement, self._extra)
                return list(job.inputs), job.descriptor.identity() == statement.identity()
            case EmbeddingDescriptor() as texts:
                return self.embedding.bound_today(texts, self._extra)
            case PythonDescriptor() as step:
                return self.python.bound_today(step, self._extra)
            case NeighborGraphDescriptor(vectors=vectors) | ProjectionDescriptor(vectors=vectors):
                return self.inputs.taken_today([vectors], self._extra)
            case GraphPropagationDescriptor(vectors=vectors, edges=second) | ContextSetDescriptor(vectors=vectors, members=second):
                return self.inputs.taken_today([vectors, second], self._extra)
            case AsofJoinDescriptor(spine=spine, facts=facts):
                return self.inputs.taken_today([spine, facts], self._extra)
            case ExternalDescriptor() | ImportedDescriptor():
                return None
