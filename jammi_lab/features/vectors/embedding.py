"""The producer `embedding`: vectors of the texts of a table. Texts that an earlier version or a
checkpoint has vectors for are not encoded again."""

from collections.abc import Sequence
from typing import Any

import msgspec

from jammi_lab.catalog.catalog import Catalog
from jammi_lab.core.anchors import Unknown
from jammi_lab.core.definitions import TEXT_DIGEST_COLUMN, EmbeddingDescriptor
from jammi_lab.core.errors import JammiError, SqlError
from jammi_lab.core.records import TableKind
from jammi_lab.core.tenancy import TenantScope
from jammi_lab.engine.engine import Engine
from jammi_lab.engine.name_resolution import NameResolver
from jammi_lab.features.vectors.embedding_work import EmbeddingWork
from jammi_lab.features.vectors.encoders.base import Encoder, EncoderIdentity, identity_of
from jammi_lab.features.vectors.encoders.registry import EncoderRegistry
from jammi_lab.steps.executor import Executor
from jammi_lab.steps.from_clause import from_text
from jammi_lab.steps.jobs import Job, vector_columns
from jammi_lab.steps.row_wise import RowWise
from jammi_lab.steps.sql import environment as sql_environment
from jammi_lab.steps.text_statement import (
    check_text_columns,
    missing_column_error,
    text_columns_of,
    text_statement,
)
from jammi_lab.store.result_files import ResultFiles

OUTPUT_VERSION = 1
"""Increment when equal texts through an equal encoder would give other rows than before: how texts
are joined, how rows are laid out."""


class EmbeddingProducer:
    """Binds texts to encoders."""

    def __init__(
        self,
        engine: Engine,
        scope: TenantScope,
        encoders: EncoderRegistry,
        catalog: Catalog,
        results: ResultFiles,
        executor: Executor,
    ) -> None:
        self._engine = engine
        self._scope = scope
        self._encoders = encoders
        self._catalog, self._results = catalog, results
        self._executor = executor

    def job(
        self,
        name: str,
        source: str,
        key: str,
        text: Sequence[str],
        model: Any,
        where: str | None = None,
        *,
        ignore_known_vectors: bool = False,
        resolvers: Sequence[NameResolver] = (),
    ) -> Job:
        """The job of embedding a source, table or SQL statement, for the recipe `name`.
        `ignore_known_vectors` reuses no vectors of an earlier version.

        Raises InvalidArgument, ModelNotFound, TableNotFound, SchemaMismatch, and what binding SQL
        raises.
        """
        check_text_columns(key, text, "an embedding")
        encoder_and_key = self._encoders.resolve_with_key(model)
        from_sql = self.from_text(source, resolvers)
        statement = text_statement(from_sql, key, text, where)
        try:
            return self._bind(
                name,
                statement,
                source,
                key,
                list(text),
                encoder_and_key,
                model if isinstance(model, str) else None,
                ignore_known_vectors,
                resolvers,
            )
        except SqlError as error:
            raise (
                missing_column_error(
                    self._engine, self._scope.current, source, from_sql, key, text, resolvers
                )
                or error
            ) from None

    def from_descriptor(
        self, name: str, descriptor: EmbeddingDescriptor, resolvers: Sequence[NameResolver] = ()
    ) -> Job:
        """The job of a recorded definition over the current inputs. Raises ModelNotFound when the
        encoder is not in this kernel."""
        encoder = self._current_encoder(descriptor)
        encoder_and_key = encoder, self._encoders.key_of(encoder)
        return self._bind(
            name,
            descriptor.statement,
            descriptor.asked,
            descriptor.key,
            descriptor.text,
            encoder_and_key,
            descriptor.model,
            False,
            resolvers,
        )

    def current_identity(self, descriptor: EmbeddingDescriptor) -> dict[str, Any] | Unknown:
        """The identity of the encoder that a recorded definition refers to today.

        For an encoder that is not in this kernel it is the recorded identity, or Unknown when
        another kernel has registered the model again with other settings."""
        recorded = descriptor.encoder
        try:
            return identity_of(self._current_encoder(descriptor)).to_dict()
        except JammiError:
            if not self._encoders.is_replaced(
                msgspec.convert(recorded, EncoderIdentity), descriptor.model
            ):
                return dict(recorded)
        return Unknown(
            f"the model {recorded['name']!r} is not in this kernel, and has been registered again "
            "with other weights or settings"
        )

    def missing_requirement(self, descriptor: EmbeddingDescriptor) -> str | None:
        """Why the encoder of a recorded definition cannot run in this kernel, as one sentence; None
        when it can."""
        try:
            self._current_encoder(descriptor)
        except JammiError as error:
            return error.message
        return None

    def _current_encoder(self, descriptor: EmbeddingDescriptor) -> Encoder:
        """The encoder that the recorded model name means today. For an encoder object: the same
        one, else the one that its name and version refer to today. Raises ModelNotFound."""
        if descriptor.model is not None:
            return self._encoders.resolve(descriptor.model)
        recorded = descriptor.encoder
        return self._encoders.find_by_identity(
            msgspec.convert(recorded, EncoderIdentity)
        ) or self._encoders.get(recorded["name"], recorded["version"])

    def environment(self) -> dict[str, Any]:
        """Everything besides the descriptor that shapes the rows."""
        return {"revision": OUTPUT_VERSION, "select": sql_environment(self._engine)}

    def _bind(
        self,
        name: str,
        statement: str,
        source: str,
        key: str,
        text: list[str],
        encoder_and_key: tuple[Encoder, str | None],
        model: str | None,
        ignore_known_vectors: bool,
        resolvers: Sequence[NameResolver],
    ) -> Job:
        arguments = name, statement, source, key, text, encoder_and_key, model
        encoder, model_key = encoder_and_key
        [prepared] = self._engine.prepare(
            statement, tenant=self._scope.current, extra_resolvers=resolvers
        )
        text_columns = text_columns_of(prepared, key, text)
        descriptor = EmbeddingDescriptor(
            statement=statement,
            canonical=prepared.canonical(),
            asked=source,
            key=key,
            text=text,
            encoder=identity_of(encoder).to_dict(),
            model=model,
        )
        environment = self.environment()

        rows = RowWise(
            self._catalog,
            self._results,
            name,
            TableKind.EMBEDDING,
            descriptor,
            environment,
            prepared,
            text_columns,
            "key",
            lambda: EmbeddingWork(encoder, self._executor),
            lambda manifest: manifest.descriptor.get("encoder") == descriptor.encoder,
            ignore_known=ignore_known_vectors,
        )
        return rows.job(
            rebind=lambda: self._bind(*arguments, ignore_known_vectors, resolvers),
            key=["key"],
            dimensions=encoder.dimensions,
            columns=vector_columns(prepared.output[0][1], encoder.dimensions, TEXT_DIGEST_COLUMN),
            model_id=encoder.name,
            estimate=rows.estimate,
            # resolved once: publishing must notice a model that was deleted since
            model_key=model_key,
        )

    def from_text(self, source: str, resolvers: Sequence[NameResolver] = ()) -> str:
        """The FROM text for a source name, `source.table`, a recipe, or SQL in parentheses. Raises
        TableNotFound, StatementNotAllowed, InvalidArgument."""
        return from_text(self._engine, self._scope.current, source, resolvers, purpose="to embed")
