"""The recipe of an embedding: the vectors of the texts of a table."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Self

import msgspec

from jammi_lab.core.anchors import Unknown
from jammi_lab.core.definitions import TEXT_DIGEST_COLUMN, CanonicalStatement
from jammi_lab.core.errors import JammiError
from jammi_lab.core.identifiers import list_of_names
from jammi_lab.core.recipes import NAMES, Stored
from jammi_lab.steps.recipe import BindContext
from jammi_lab.steps.row_recipe import RowRecipe

if TYPE_CHECKING:
    from jammi_lab.features.vectors.encoders.base import Encoder
    from jammi_lab.features.vectors.model_lookup import ModelEncoders
    from jammi_lab.steps.jobs import Job

Precision = Literal["bf16", "f32", "f16", "i8"]
"""How an index stores vectors; the table itself has them in float32."""


def _model_name(model: Any) -> str | None:
    """The name of a model; None for an encoder object."""
    return model if isinstance(model, str) else None


@dataclass(frozen=True)
class EncoderSource:
    """The encoders of a workspace in this process, which are loaded when one is needed."""

    registry: "Callable[[], ModelEncoders]"


@dataclass(frozen=True)
class Embedding(RowRecipe):
    """The vectors of the texts of a source, table or SQL."""

    kind = "embedding"
    has_vectors = has_texts = has_encoder = True
    metric = "cosine"
    stored_as = {
        **RowRecipe.stored_statement,
        "source": Stored("asked", hashed=False),
        "text": NAMES,
        "model": Stored(type=str, hashed=False, optional=True, write=_model_name),
        "precision": None,
        "index": None,
        "where": None,
        "_encoder": Stored("encoder", dict[str, Any]),
        "_resolved": None,
    }

    source: str
    """The source, table or SQL that holds the texts."""
    _: KW_ONLY
    key: str
    """The column that identifies a row."""
    text: str | Sequence[str]
    """The columns that are embedded."""
    model: Any = "minilm"
    """A registered name, an encoder, or a sentence-transformers model."""
    precision: Precision = "bf16"
    """How the index stores the vectors; no part of the definition."""
    index: Literal["now", "later"] = "now"
    """Whether to wait for the index; no part of the definition."""
    where: str | None = None
    """A condition that rows must satisfy."""
    _statement: str = field(default="", init=False)
    _canonical: CanonicalStatement | None = field(default=None, init=False)
    _encoder: Mapping[str, Any] | None = field(default=None, init=False)
    """What shapes the vectors: the identity of the encoder, beginning with the digest of its
    weights. None until the recipe is bound."""
    _resolved: "tuple[Encoder, str | None] | None" = field(default=None, init=False, compare=False)
    """The encoder, and the catalog key of the registered model that it is."""

    def bind(self, ctx: BindContext) -> "Job":
        """Raises InvalidArgument, ModelNotFound, TableNotFound, SchemaMismatch, and what binding
        SQL raises."""
        from jammi_lab.features.vectors.embedding_work import EmbeddingWork
        from jammi_lab.features.vectors.encoders.base import identity_of
        from jammi_lab.steps.executor import Executor
        from jammi_lab.steps.jobs import vector_columns
        from jammi_lab.steps.text_statement import check_text_columns

        written = self.with_values(text=self.input_columns())
        check_text_columns(self.key, written.input_columns(), "an embedding")
        # resolved once: publishing must notice a model that was deleted since
        resolved = self._resolved or self._resolve(ctx)
        encoder, model_key = resolved
        identity = identity_of(encoder).to_dict()
        executor = ctx.part(Executor)  # type: ignore[type-abstract]
        read, prepared = written.with_statement(ctx, self.source, self.where, "to embed")
        recipe = read.with_values(_encoder=identity, _resolved=resolved)
        rows = recipe.row_wise(
            ctx,
            prepared,
            "key",
            lambda: EmbeddingWork(encoder, executor),
            lambda manifest: manifest.descriptor.get("encoder") == identity,
        )
        return ctx.job(
            recipe,
            [prepared],
            start=rows.start,
            key=["key"],
            dimensions=encoder.dimensions,
            columns=vector_columns(prepared.output[0][1], encoder.dimensions, TEXT_DIGEST_COLUMN),
            model_id=encoder.name,
            model_key=model_key,
            estimate=rows.estimate,
        )

    def input_columns(self) -> Sequence[str]:
        """The columns of texts."""
        return list_of_names(self.text)

    def _resolve(self, ctx: BindContext) -> "tuple[Encoder, str | None]":
        """The encoder that is meant today. For a recorded object: the same one, else the one that
        its name and version refer to today. Raises ModelNotFound."""
        from jammi_lab.features.vectors.encoders.base import EncoderIdentity

        encoders = ctx.part(EncoderSource).registry()
        if self._encoder is None or self.model is not None:
            return encoders.resolve(self.model)
        identity = msgspec.convert(self._encoder, EncoderIdentity)
        encoder = encoders.recorded(identity)
        return encoder, encoders.key_of(encoder)

    def current(self, ctx: BindContext, _import_modules: bool) -> Self | Unknown:
        """With the encoder that is meant today. One that is not in this kernel is as recorded, or
        Unknown when another kernel has registered the model again with other settings."""
        from jammi_lab.features.vectors.encoders.base import EncoderIdentity, identity_of

        try:
            return self.with_values(_encoder=identity_of(self._resolve(ctx)[0]).to_dict())
        except JammiError:
            identity = msgspec.convert(self._encoder, EncoderIdentity)
            if not ctx.part(EncoderSource).registry().is_replaced(identity, self.model):
                return self
        return Unknown(
            f"the model {identity.name!r} is not in this kernel, and has been registered again "
            "with other weights or settings"
        )

    def verdict_grounds(self) -> list[str]:
        """The version of an encoder of whose weights and code nothing is compared."""
        encoder = self._encoder
        if encoder is None or encoder["weights"] or encoder["revision"]:
            return []
        return [f"on version {encoder['version']} of its encoder {encoder['name']}"]

    def missing_requirement(self, ctx: BindContext) -> str | None:
        """Why the encoder cannot run in this kernel."""
        try:
            self._resolve(ctx)
        except JammiError as error:
            return error.message
        return None
