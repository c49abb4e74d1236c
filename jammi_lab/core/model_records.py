"""Models as catalog records, with their trainings, evaluations and references."""

from typing import Any

from jammi_lab.core.html import count_noun
from jammi_lab.core.value import Value

REGISTERED = "registered"
"""The status of a registered model."""
BUILT_IN = "built-in"
"""The status of an encoder that comes with jammi_lab and has no catalog row."""

RESULT_TABLES = "result_tables"
TRAINING_OUTPUT = "training_output"
TRAINING_BASE = "training_base"
EVALUATION = "evaluation"
_REFERENCE_NOUNS = {
    RESULT_TABLES: ("result table",),
    TRAINING_OUTPUT: ("training that made it", "trainings that made it"),
    TRAINING_BASE: ("training from it", "trainings from it"),
    EVALUATION: ("evaluation",),
}

VERSION_SEPARATOR = "::"
"""Parts a model's name from its version, in `name::version`. No name contains it."""


def model_key(tenant: str | None, name: str, version: int) -> str:
    """The unique key of a model version: `name::version` for a shared model,
    `tenant::name::version` for a tenant's. Keys are built only here."""
    return f"{name}::{version}" if tenant is None else f"{tenant}::{name}::{version}"


class ModelRecord(Value, frozen=True, kw_only=True):
    """A version of a model. The catalog assigns `key`, `version`, `status` and `created_at`."""

    name: str
    """Name of the model."""
    tenant: str | None = None
    """The owning tenant; None when shared."""
    version: int = 0
    """Version, counted from 1 per name."""
    key: str = ""
    """The `model_key` of tenant, name and version."""
    type: str = "embedding"
    """The kind of model."""
    backend: str = ""
    """The library that runs it."""
    task: str = "text_embedding"
    """The task that it performs."""
    dimensions: int | None = None
    """Dimension of its vectors; None when unknown."""
    digest: str | None = None
    """SHA-256 of everything that shapes its vectors; None for a model registered by name only."""
    artifact: str | None = None
    """Location of its files, relative to the workspace when inside it."""
    artifact_digest: str | None = None
    """SHA-256 over those files as they were when they were registered."""
    base: str | None = None
    """The model that it was derived from."""
    config: dict[str, Any] | None = None
    """Further properties."""
    status: str = REGISTERED
    """Its life-cycle status."""
    created_at: str = ""
    """When this version was first registered."""


class Training(Value, frozen=True, kw_only=True):
    """A recorded training: `output` was, or will be, trained from `base`."""

    output: str
    """Name of the trained model."""
    base: str
    """Key of the base model."""
    tenant: str | None = None
    """The tenant that owns the record."""
    record_id: str = ""
    """Unique id of the record."""
    created_at: str = ""
    """When it was recorded."""

    def __repr__(self) -> str:
        return f"Training(output={self.output!r}, base={self.base!r})"


class Evaluation(Value, frozen=True, kw_only=True):
    """A recorded evaluation of a model."""

    model: str
    """Key of the model."""
    metrics: dict[str, float]
    """Metric values by name."""
    tenant: str | None = None
    """The tenant that owns the record."""
    record_id: str = ""
    """Unique id of the record."""
    created_at: str = ""
    """When it was recorded."""

    def __repr__(self) -> str:
        return f"Evaluation(model={self.model!r}, metrics={self.metrics!r})"


class Reference(Value, frozen=True):
    """A reference that keeps a model from being deleted."""

    edge: str
    """The kind of reference: result_tables, training_output, training_base or evaluation."""
    name: str | None
    """The referring recipe, base, output or metrics. None when some of them belong to other
    tenants."""
    count: int
    """Number of such references."""

    def __str__(self) -> str:
        return count_noun(self.count, *_REFERENCE_NOUNS[self.edge]) + (
            f" ({self.name})" if self.name else ""
        )
