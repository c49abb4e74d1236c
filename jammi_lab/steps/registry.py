"""Registry of producers. For a recorded recipe it gives the current definition hash, a job bound to
the current inputs, and the inputs that the recipe reads."""

import functools
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from jammi_lab.catalog.catalog import Catalog
from jammi_lab.core.anchors import Input, InputKind, Unknown
from jammi_lab.core.definitions import (
    CanonicalStatement,
    EmbeddingDescriptor,
    LexicalDescriptor,
    RowMapDescriptor,
)
from jammi_lab.core.errors import TableNotFound, invalid_row_error
from jammi_lab.core.manifest import ManifestColumn
from jammi_lab.core.recipes import definition_hash, parse_descriptor, recipe_class
from jammi_lab.core.records import RecipeRecord, TableKind, TableRecord, TableStatus
from jammi_lab.core.settings import Settings
from jammi_lab.core.tenancy import TenantScope
from jammi_lab.engine.engine import Engine
from jammi_lab.engine.name_resolution import NameResolver
from jammi_lab.features.vectors.index.indexes import VectorIndexes
from jammi_lab.inputs.observation import PinnedState
from jammi_lab.inputs.result_names import reading_unbuilt
from jammi_lab.sources.base import Relation
from jammi_lab.sources.outside_access import OutsideAccess
from jammi_lab.steps import sql
from jammi_lab.steps.executor import Executor
from jammi_lab.steps.function_source import NoSource
from jammi_lab.steps.jobs import BoundInput, Job
from jammi_lab.steps.python import InputOpener, OpenInput
from jammi_lab.steps.recipe import BindContext, Producer
from jammi_lab.steps.step_functions import SOURCE_BASIS, StepFunctions, package_of, unwatched_files
from jammi_lab.store.result_files import ResultFiles, result_snapshot

if TYPE_CHECKING:
    from jammi_lab.engine.prepared_statement import PreparedStatement
    from jammi_lab.features.rows.row_map import RowMapProducer
    from jammi_lab.features.vectors.embedding import EmbeddingProducer
    from jammi_lab.features.vectors.encoders.registry import EncoderRegistry
    from jammi_lab.features.words.lexical import LexicalProducer
    from jammi_lab.steps.input_tables import InputLoader


class Producers:
    """All producers of one workspace."""

    def __init__(
        self,
        engine: Engine,
        scope: TenantScope,
        resolvers: Sequence[NameResolver],
        catalog: Catalog,
        results: ResultFiles,
        executor: Executor,
        settings: Settings,
        indexes: VectorIndexes,
        encoders: "Callable[[], EncoderRegistry]",
        outside: OutsideAccess,
        open_input: "Callable[[PreparedStatement], OpenInput]",
    ) -> None:
        """`encoders`: the encoders of the workspace; called when the first one is needed, because
        importing numpy is slow."""
        self._executor = executor
        self._find_encoders = encoders
        self._functions = functions = StepFunctions(outside)
        self._parts: Mapping[type, Callable[[], Any]] = {
            Settings: lambda: settings,
            VectorIndexes: lambda: indexes,
            StepFunctions: lambda: functions,
            InputOpener: lambda: InputOpener(open_input),
        }
        self._engine = engine
        self._scope = scope
        self._resolvers = resolvers
        self._catalog = catalog
        self._results = results

    @property
    def encoders(self) -> "EncoderRegistry":
        """The encoders of the workspace in this process."""
        return self._find_encoders()

    @functools.cached_property
    def embedding(self) -> "EmbeddingProducer":
        """The producer `embedding`; created on first use."""
        from jammi_lab.features.vectors.embedding import EmbeddingProducer

        return EmbeddingProducer(
            self._engine,
            self._scope,
            self.encoders,
            self._catalog,
            self._results,
            self._executor,
        )

    @functools.cached_property
    def lexical(self) -> "LexicalProducer":
        """The producer `lexical`; created on first use."""
        from jammi_lab.features.words.lexical import LexicalProducer

        return LexicalProducer(self._engine, self._scope, self._catalog, self._results)

    @functools.cached_property
    def row_map(self) -> "RowMapProducer":
        """The producer `row_map`; created on first use."""
        from jammi_lab.features.rows.row_map import RowMapProducer

        return RowMapProducer(
            self._engine,
            self._scope,
            self._catalog,
            self._results,
            self._functions,
            self._executor,
        )

    @functools.cached_property
    def inputs(self) -> "InputLoader":
        """Input binding for producers that read several tables; created on first use."""
        from jammi_lab.steps.input_tables import InputLoader

        return InputLoader(self._engine, self._scope)

    def environment(
        self, descriptor: Mapping[str, Any], recorded: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """Everything besides the descriptor that shapes the output today (revisions, engine and
        library versions). `recorded` fills in for libraries that this kernel lacks. Raises
        TableDamaged for an unknown producer."""
        match descriptor.get("producer"):
            case "embedding":
                return self.embedding.environment()
            case "lexical":
                return self.lexical.environment()
            case "row_map":
                return self.row_map.environment()
        recipe = parse_descriptor(descriptor)
        if isinstance(recipe, Producer):
            return recipe.environment(self.bind_context(), recorded)
        raise invalid_row_error()

    def current_definition(
        self, recipe: RecipeRecord, *, import_modules: bool = True
    ) -> str | Unknown:
        """The definition hash of a recipe in today's environment.

        Unknown for a Python step whose function is not loaded (with `import_modules`, its module is
        imported), and for a model that was registered again and is not in this kernel."""
        environment = self.environment(recipe.descriptor, recipe.environment)
        descriptor = self.current_descriptor(recipe, import_modules=import_modules)
        if isinstance(descriptor, Unknown):
            return descriptor
        if environment == recipe.environment and (
            descriptor is recipe.descriptor or descriptor == recipe.descriptor
        ):
            return recipe.definition_hash
        return definition_hash(parse_descriptor(descriptor), environment)

    def current_descriptor(
        self, recipe: RecipeRecord, *, import_modules: bool = True
    ) -> Mapping[str, Any] | Unknown:
        """The descriptor of a recipe with the encoder or function as it is now. Unknown as for
        `current_definition`."""
        descriptor = recipe.descriptor
        if descriptor.get("producer") == "embedding" and isinstance(
            texts := parse_descriptor(descriptor), EmbeddingDescriptor
        ):
            encoder = self.embedding.current_identity(texts)
            if isinstance(encoder, Unknown):
                return encoder
            descriptor = {**descriptor, "encoder": encoder}
        if descriptor.get("producer") == "row_map" and isinstance(
            row_map := parse_descriptor(descriptor), RowMapDescriptor
        ):
            step = self._functions.find(row_map, import_module=import_modules)
            if isinstance(step, str):
                return Unknown(step)
            if row_map.version is None:
                try:
                    descriptor = {**descriptor, "digest": step.digest()}
                except NoSource as error:
                    return Unknown(f"its function cannot be fingerprinted: {error}")
        value = parse_descriptor(descriptor)
        if isinstance(value, Producer):
            current = value.current(self.bind_context(), import_modules)
            return current if isinstance(current, Unknown) else current.to_descriptor()
        return descriptor

    def current_definitions(
        self, *, import_modules: bool = True
    ) -> Callable[[RecipeRecord], str | Unknown]:
        """`current_definition` for the recipes of one pass: environments are compared once, since
        recipes that were read together share equal ones."""
        of_statements = sql.environment(self._engine)
        compared = dict[int, tuple[Mapping[str, Any], bool]]()

        def find(recipe: RecipeRecord) -> str | Unknown:
            if recipe.descriptor.get("producer") != "sql":
                return self.current_definition(recipe, import_modules=import_modules)
            environment = recipe.environment
            known = compared.get(id(environment))
            if known is None:  # kept, so that no other one gets its id
                known = compared[id(environment)] = environment, environment == of_statements
            return recipe.definition_hash if known[1] else self.current_definition(recipe)

        return find

    def missing_requirement(self, descriptor: Mapping[str, Any]) -> str | None:
        """What this kernel lacks to run such a recipe, as one sentence; None when nothing is
        missing."""
        match parse_descriptor(descriptor):
            case Producer() as recipe:
                return recipe.missing_requirement(self.bind_context())
            case EmbeddingDescriptor() as texts:
                return self.embedding.missing_requirement(texts)
            case RowMapDescriptor() as step:
                found = self._functions.find(step, import_module=True)
                return found if isinstance(found, str) else None
            case _:
                return None

    def verdict_grounds(self, descriptor: Mapping[str, Any]) -> list[str]:
        """What a fresh verdict on such a recipe relies on when not everything that shapes its rows
        is compared."""
        recipe = parse_descriptor(descriptor)
        if isinstance(recipe, Producer):
            return recipe.verdict_grounds()
        if descriptor.get("producer") != "row_map":
            return []
        if descriptor["version"] is not None:
            return [f"on its version {descriptor['version']}"]
        if (package := package_of(descriptor["function"])) is not None:
            return [f"on the version of its package, {package}"]
        return [SOURCE_BASIS, *unwatched_files(descriptor["source"])]

    def bind_context(
        self,
        name: str = "",
        resolvers: Sequence[NameResolver] = (),
        *,
        bypass_cache: bool = False,
    ) -> BindContext:
        """What the recipe of a table is bound with."""
        return BindContext(
            self._engine,
            self._scope,
            self._parts,
            name,
            resolvers,
            bypass_cache=bypass_cache,
        )

    def bind(
        self,
        name: str,
        recipe: Producer,
        resolvers: Sequence[NameResolver] = (),
        *,
        bypass_cache: bool = False,
    ) -> Job:
        """The job of a recipe over the current inputs. Raises what binding raises."""
        return recipe.bind(self.bind_context(name, resolvers, bypass_cache=bypass_cache))

    def needs_rows(self, descriptor: Mapping[str, Any]) -> bool:
        """Whether the rows of a recorded recipe come from outside the workspace."""
        found = recipe_class(descriptor.get("producer"))
        return found is not None and found.needs_rows

    def job(self, name: str, descriptor: Mapping[str, Any]) -> Job:
        """The job of a recorded definition, bound to the current inputs. Raises what binding
        raises, and NotRecomputable for external and imported rows."""
        match parse_descriptor(descriptor):
            case Producer() as recipe:
                return self.bind(name, recipe, self._resolvers)
            case EmbeddingDescriptor() as texts:
                return self.embedding.from_descriptor(name, texts, self._resolvers)
            case LexicalDescriptor() as words:
                return self.lexical.from_descriptor(name, words, self._resolvers)
            case RowMapDescriptor() as row_map:
                return self.row_map.from_descriptor(name, row_map, self._resolvers)
        raise invalid_row_error()

    def reading_unbuilt(self) -> AbstractContextManager[None]:
        """A block in which definitions may read recipes that have no version yet. What is bound in
        it is stored or bound again, not run."""
        return reading_unbuilt(self._unbuilt_relation)

    def _unbuilt_relation(self, recipe: RecipeRecord) -> Relation:
        """A recipe as an input of which only the columns are known. TableNotFound when its
        definition does not tell them; raises what binding raises."""
        with self._scope.use(recipe.tenant):
            job = self.job(recipe.name, recipe.descriptor)
        if job.columns is None:
            raise TableNotFound(
                f"The columns of {recipe.name!r} are known only after it has run: it is a "
                f"{'row map without schema=' if job.kind is TableKind.ROW_MAP else 'Python step'}.",
                hint=f"ws.recompute({recipe.name!r}) runs it.",
            )
        record = TableRecord(
            table_name=recipe.name,
            kind=job.kind,
            status=TableStatus.BUILDING,
            recipe=recipe.name,
            version=0,
            tenant=recipe.tenant,
            key=[*job.key],
            dimensions=job.dimensions,
            model_id=job.model_id,
            columns=[ManifestColumn(name, kind) for name, kind in job.columns.items()],
        )
        return Relation(
            Input(kind=InputKind.RESULT, name=recipe.name),
            columns=job.columns,
            token=PinnedState(result_snapshot(record), record),
        )

    def job_with_statement(self, descriptor: Mapping[str, Any], statement: str) -> Job:
        """The job of a recorded SQL definition with another statement. It keeps the key and those
        bound values that the new statement names. Raises what binding raises."""
        recorded = parse_descriptor(descriptor)
        assert isinstance(recorded, sql.Sql), "only a statement can be put in the place of one"
        names = self._engine.parameters(statement)
        params = {n: value for n, value in (recorded.params or {}).items() if n in names}
        recipe = recorded.with_values(text=statement, params=params)
        return self.bind("", recipe, self._resolvers)

    def current_inputs(self, descriptor: Mapping[str, Any]) -> tuple[list[BoundInput], bool] | None:
        """The inputs of a recorded definition with the columns read today, and whether its
        statements still mean the same; None when the producer reads whole inputs. Raises what
        binding raises."""
        match parse_descriptor(descriptor):
            case (
                EmbeddingDescriptor(statement=select, canonical=canonical)
                | LexicalDescriptor(statement=select, canonical=canonical)
                | RowMapDescriptor(statement=select, canonical=canonical)
            ):
                return self._statement_inputs(select, canonical)
            case Producer() as recipe:
                return recipe.current_inputs(self.bind_context("", self._resolvers))
        raise invalid_row_error()

    def _statement_inputs(
        self, statement: str, canonical: CanonicalStatement
    ) -> tuple[list[BoundInput], bool]:
        """The inputs of a recorded SELECT, and whether it still means the same. Needs neither the
        encoder nor the analyzer of the definition."""
        [prepared] = self._engine.prepare(
            statement, tenant=self._scope.current, extra_resolvers=self._resolvers
        )
        inputs = [BoundInput(b.relation, b.columns) for b in prepared.inputs]
        return inputs, prepared.canonical() == canonical
