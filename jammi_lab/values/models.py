"""Models as the catalog knows them, what was recorded about them, and what refers to one."""

from typing import Any

from jammi_lab.markup import count
from jammi_lab.values.base import Value

REGISTERED = "registered"
"""The status of a model that somebody registered."""
BUILT_IN = "built-in"
"""The status of an encoder that comes with jammi_lab and stands in no row."""

RESULT_TABLES, TRAINING_OUTPUT, TRAINING_BASE, EVALUATION = "result_tables", "training_output", "training_base", "evaluation"
_WORDS = {
    RESULT_TABLES: ("result table",),
    TRAINING_OUTPUT: ("training that made it", "trainings that made it"),
    TRAINING_BASE: ("training from it", "trainings from it"),
    EVALUATION: ("evaluation",),
}


def model_key(tenant: str | None, name: str, version: int) -> str:
    """Which model of all: `name::version` for a shared one, `tenant::name::version` for a tenant's. The only place where keys are made.

    (The tenant-qualified key is that of jammi-db's model repository.)
    """
    return f"{name}::{version}" if tenant is None else f"{tenant}::{name}::{version}"


class ModelRecord(Value, frozen=True, kw_only=True):
    """A version of a model. `key`, `version`, `status` and `created_at` are given by the catalog."""

    name: str
    """What people call it."""
    tenant: str | None = None
    """Whose it is; None is shared."""
    version: int = 0
    """Counted from 1 for each name."""
    key: str = ""
    """`model_key` of the three."""
    type: str = "embedding"
    """What kind of model it is."""
    backend: str = ""
    """What runs it."""
    task: str = "text_embedding"
    """What it does."""
    dimensions: int | None = None
    """Width of its vectors; None when that is not known."""
    digest: str | None = None
    """SHA-256 of what shapes its vectors; None for a model that was registered by name alone."""
    artifact: str | None = None
    """Its files, relative to the workspace when they lie inside it."""
    artifact_digest: str | None = None
    """SHA-256 over those files as they were when they were registered."""
    base: str | None = None
    """The model that it was made from."""
    config: dict[str, Any] | None = None
    """What else is to be known about it."""
    status: str = REGISTERED
    """Where it is in its life."""
    created_at: str = ""
    """When this version was first registered."""


class Training(Value, frozen=True, kw_only=True):
    """That a model was trained: `output` came, or is to come, out of `base`."""

    output: str
    """Name of the model that comes out."""
    base: str
    """Key of the model that it began from."""
    tenant: str | None = None
    """Whose record it is."""
    record_id: str = ""
    """Tells it from other records."""
    created_at: str = ""
    """When it was recorded."""

    def __repr__(self) -> str:
        return f"Training(output={self.output!r}, base={self.base!r})"


class Evaluation(Value, frozen=True, kw_only=True):
    """How a model did."""

    model: str
    """Key of the model."""
    metrics: dict[str, float]
    """Numbers by name."""
    tenant: str | None = None
    """Whose record it is."""
    record_id: str = ""
    """Tells it from other records."""
    created_at: str = ""
    """When it was recorded."""

    def __repr__(self) -> str:
        return f"Evaluation(model={self.model!r}, metrics={self.metrics!r})"


class Reference(Value, frozen=True):
    """Something that refers to a model and keeps it from being deleted."""

    edge: str
    """result_tables, training_output, training_base or evaluation."""
    name: str | None
    """What refers: a recipe, the base, the output, the metrics. None when some of them are other tenants'."""
    count: int
    """How many of them."""

    def __str__(self) -> str:
        return count(self.count, *_WORDS[self.edge]) + (f" ({self.name})" if self.name else "")
