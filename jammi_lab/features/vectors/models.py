"""The model registry of a workspace: `ws.models` and its handles.

The catalog records that a model is registered. The encoder object itself lives in the kernel that
registered it, like a frame, and files stay where they are. `minilm` and `hashing` are built in:
`get` always finds them, `list` omits them, and their names are reserved.
"""

import builtins
import math
import numbers
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from jammi_lab.catalog.catalog import Catalog
from jammi_lab.catalog.models import Record
from jammi_lab.core.clock import Clock, rfc3339
from jammi_lab.core.errors import InvalidArgument, ModelNotFound, NameInvalid, WorkspaceReadOnly
from jammi_lab.core.forms import form, listing_table
from jammi_lab.core.html import CalledCollection, Rendered, ReprMixin, count_noun
from jammi_lab.core.identifiers import check_name, fold
from jammi_lab.core.model_records import Evaluation, ModelRecord, Reference, Training
from jammi_lab.core.tenancy import TenantScope
from jammi_lab.core.value import short_digest
from jammi_lab.features.vectors import model_files
from jammi_lab.features.vectors.model_lookup import (
    BUILT_IN_NAMES,
    ModelEncoders,
    built_in_record,
    digest_of_encoder,
    to_named_encoder,
)

__all__ = ["Evaluation", "Model", "Models", "Reference", "Training"]


class Model(ReprMixin):
    """A version of a model."""

    def __init__(self, models: "Models", record: ModelRecord) -> None:
        self._models, self._record = models, record

    @property
    def name(self) -> str:
        """The name, which all versions share."""
        return self._record.name

    @property
    def version(self) -> int:
        """The version number, from 1."""
        return self._record.version

    @property
    def key(self) -> str:
        """`name::version`, or `tenant::name::version` for a tenant's own."""
        return self._record.key

    @property
    def type(self) -> str:
        """The type of model."""
        return self._record.type

    @property
    def backend(self) -> str:
        """What runs it: python (an encoder object), files, numpy (built in), external."""
        return self._record.backend

    @property
    def task(self) -> str:
        """The task, such as text_embedding."""
        return self._record.task

    @property
    def dimensions(self) -> int | None:
        """The width of its vectors; None when unknown."""
        return self._record.dimensions

    @property
    def digest(self) -> str | None:
        """The SHA-256 of everything that determines its vectors, or of its files; None for a model
        registered by name alone."""
        return self._record.digest

    @property
    def artifact(self) -> str | None:
        """The absolute path of its files."""
        if self._record.artifact is None:
            return None
        return str(self._models._folder / self._record.artifact)

    @property
    def base(self) -> str | None:
        """The model that it was trained from, as registered."""
        return self._record.base

    @property
    def config(self) -> dict[str, Any] | None:
        """The registered configuration."""
        return self._record.config

    @property
    def status(self) -> str:
        """registered, or built-in."""
        return self._record.status

    @property
    def created_at(self) -> str:
        """When this version was first registered; empty for a built-in model."""
        return self._record.created_at

    @property
    def tenant(self) -> str | None:
        """The owner; None is shared."""
        return self._record.tenant

    @property
    def available(self) -> bool:
        """Whether this kernel has its encoder, or files to load it from."""
        return self._models._encoders.is_available(self._record)

    @property
    def references(self) -> list[Reference]:
        """The references that prevent its deletion: result_tables, training_output, training_base,
        evaluation, in this order.

        Tables and outputs of trainings refer to the name, not to a version. A shared model also has
        the references of other tenants, as a number without names.
        """
        return list(self._models._catalog.models.references(self._record))

    def _rendered(self) -> Rendered:
        record = self._record
        pairs = [
            (
                "what",
                f"{record.type}, {record.task}"
                + (f", {record.dimensions:,} dimensions" if record.dimensions else ""),
            ),
            ("runs", f"{record.backend}: {self._models._encoders.availability(record)}"),
            ("digest", short_digest(record.digest) if record.digest else ""),
            ("files", _relative_to_cwd(self.artifact)),
            ("base", record.base or ""),
            ("tenant", record.tenant or ""),
            ("referred to", ", ".join(map(str, self.references))),
        ]
        return form(f"{record.name}, version {record.version}", facts=pairs)


class Models(CalledCollection, ReprMixin):
    """The models of a workspace, in the bound tenant's scope."""

    def __init__(
        self,
        catalog: Catalog,
        scope: TenantScope,
        clock: Clock,
        folder: Path,
        encoders: ModelEncoders,
    ) -> None:
        """`encoders` also resolves `model=` of the producers, so that it accepts registered
        names."""
        self._catalog, self._scope, self._clock = catalog, scope, clock
        self._folder, self._encoders = folder, encoders

    def register(
        self,
        name: str,
        path_or_encoder: Any = None,
        *,
        version: int | None = None,
        weights: str | None = None,
        dimensions: int | None = None,
        type: str = "embedding",
        backend: str | None = None,
        task: str = "text_embedding",
        base: str | None = None,
        config: Mapping[str, Any] | None = None,
    ) -> Model:
        """Register an encoder, which lives with this kernel (an object with `encode`, a function of
        a list of texts, a sentence-transformers model), a folder or file of model files, which stay
        where they are, or a name alone.

        `weights`: any text that changes whenever the vectors do, for an encoder whose weights
        cannot be read, such as a function or the client of an API. Without `version` it is the
        version with the same digest, else the next one. Registering a version again replaces its
        type, backend, task, base and config; it keeps its status, its creation time, and its files
        unless other ones are passed.
        Raises NameInvalid, InvalidArgument, SourceUnavailable; then nothing is registered.
        """
        if self._catalog.read_only:
            raise WorkspaceReadOnly("This workspace is open read-only; no model can be registered.")
        _check_model_name(name)
        for what, number in (("version", version), ("number of dimensions", dimensions)):
            _check_number(what, number)
        _check_texts(type=type, backend=backend, task=task, base=base, weights=weights)
        encoder, draft = None, ModelRecord(name=name, backend="external")
        if isinstance(path_or_encoder, str | os.PathLike):
            draft = self._record_of_files(name, path_or_encoder)
        elif path_or_encoder is not None:
            encoder = to_named_encoder(path_or_encoder, name, version, dimensions, weights)
            draft = ModelRecord(
                name=name,
                backend="python",
                digest=digest_of_encoder(encoder),
                dimensions=encoder.dimensions,
            )
        record = draft.with_values(
            tenant=self._scope.current,
            type=type,
            backend=backend or draft.backend,
            task=task,
            dimensions=dimensions or draft.dimensions,
            base=base,
            config=_json_config(config),
        )
        with self._catalog.transaction():
            stored = self._catalog.models.put(record, version)
            if encoder is not None:
                self._encoders.store(stored, encoder)
        return Model(self, stored)

    def _record_of_files(self, name: str, path: "str | os.PathLike[str]") -> ModelRecord:
        artifact = model_files.stored_path(path, self._folder)
        digest = model_files.digest_files(self._folder / artifact)
        return ModelRecord(
            name=name, backend="files", digest=digest, artifact=artifact, artifact_digest=digest
        )

    def get(self, name: str, version: int | None = None) -> Model:
        """The newest version of a model, own before shared, or one version. ModelNotFound
        (KeyError), with near names."""
        _check_number("version", version)
        return Model(self, self._record(name, version))

    def list(self) -> builtins.list[Model]:
        """Every visible version, in the order of registration."""
        return [Model(self, record) for record in self._catalog.models.list()]

    def delete(self, name: str, *, version: int | None = None, if_exists: bool = False) -> None:
        """Delete the version that `get` finds; files stay where they are.

        Raises ModelReferenced, with `.references`, while anything refers to it;
        ModelNotFound unless `if_exists`; TenantForbidden.
        """
        _check_number("version", version)
        if built_in_record(name, version) is not None:
            raise InvalidArgument(f"The model {name!r} is built in and cannot be deleted.")
        with self._catalog.transaction():
            removed = self._catalog.models.remove(name, version)
            if removed is not None:
                self._encoders.evict(removed.key)
        if removed is None and not if_exists:
            raise self._missing_error(name, version)

    def record_training(self, output: str, base: str, base_version: int | None = None) -> Training:
        """Record that the model `output`, which may be registered later, is trained from `base`.
        Neither can be deleted while the record exists.

        Raises ModelNotFound for the base, NameInvalid.
        """
        _check_model_name(output)
        _check_number("base_version", base_version)
        with self._catalog.transaction():
            record = Training(
                output=output,
                base=self._record(base, base_version).key,
                tenant=self._scope.current,
                **self._new_record_fields(),
            )
            self._catalog.models.add(record)
        return record

    def record_evaluation(
        self, name: str, metrics: Mapping[str, float], version: int | None = None
    ) -> Evaluation:
        """Record the metrics of a model, as numbers by name. The model cannot be deleted while the
        record exists. Raises ModelNotFound, InvalidArgument."""
        _check_number("version", version)
        plain_metrics = _plain_metrics(metrics)
        with self._catalog.transaction():
            record = Evaluation(
                model=self._record(name, version).key,
                metrics=plain_metrics,
                tenant=self._scope.current,
                **self._new_record_fields(),
            )
            self._catalog.models.add(record)
        return record

    def records(self, name: str | None = None) -> builtins.list[Record]:
        """The recorded trainings and evaluations, oldest first; with a name, those of any version
        of that model. ModelNotFound."""
        records = list(self._catalog.models.records())
        if name is None:
            return records
        keys = {model.key for model in self._catalog.models.versions(name)}
        if (built_in_model := built_in_record(name)) is not None:
            keys.add(built_in_model.key)
        matches = []
        for r in records:
            if (
                r.base in keys or fold(r.output) == fold(name)
                if isinstance(r, Training)
                else r.model in keys
            ):
                matches.append(r)
        if not keys and not matches:
            raise self._missing_error(name, None)
        return matches

    def forget(self, record: Training | Evaluation) -> bool:
        """Delete a record. Returns whether it existed. TenantForbidden for a shared one while a
        tenant is bound; InvalidArgument for other types."""
        if not isinstance(record, Training | Evaluation):
            raise InvalidArgument(
                f"record must be a Training or Evaluation, got {record.__class__.__name__}.",
                hint="ws.models.records() lists the records.",
            )
        return self._catalog.models.remove_record(record)

    def _record(self, name: str, version: int | None) -> ModelRecord:
        record = built_in_record(name, version) or self._catalog.models.get(name, version)
        if record is None:
            raise self._missing_error(name, version)
        return record

    def _missing_error(self, name: str, version: int | None) -> ModelNotFound:
        versions = sorted({model.version for model in self._catalog.models.versions(name)})
        if fold(name) in BUILT_IN_NAMES:
            versions = [1]
        if versions:
            return ModelNotFound(
                f"The model {name!r} has no version {version}; it has "
                f"{', '.join(map(str, versions))}."
            )
        return self._encoders.unknown_name(name)

    def _new_record_fields(self) -> dict[str, str]:
        clock = self._clock
        return {"record_id": clock.token(32), "created_at": rfc3339(clock.now_ns())}

    def _rendered(self) -> Rendered:
        registered = self._catalog.models.list()
        built_in_models = filter(None, map(built_in_record, BUILT_IN_NAMES))
        rows = [
            (
                m.name,
                m.version,
                m.dimensions,
                m.base,
                m.tenant,
                f"{m.backend}: {self._encoders.availability(m)}",
            )
            for m in [*registered, *built_in_models]
        ]
        note = (
            f"{count_noun(len(registered), 'registered version')}; {' and '.join(BUILT_IN_NAMES)} "
            "come with jammi_lab"
        )
        return listing_table(
            ["model", "version", "dimensions", "base", "tenant", "runs"],
            rows,
            aligned="lrrlll",
            note=note,
        )


def _check_model_name(name: str) -> None:
    check_name(name, "model")
    if "::" in name:
        raise NameInvalid(
            f"The model name {name!r} contains '::', which separates a model's name from its "
            "version.",
            name=name,
            hint="Choose a name without '::'.",
        )
    if fold(name) in BUILT_IN_NAMES:
        raise InvalidArgument(
            f"{name!r} is the name of a built-in encoder.",
            hint="Choose another name.",
        )


def _check_number(field: str, number: int | None) -> None:
    if number is not None and (
        not isinstance(number, int) or isinstance(number, bool) or not 1 <= number < 2**63
    ):
        raise InvalidArgument(
            f"The {field} of a model must be a positive integer, got {number!r}.",
            hint=f"A text that identifies its weights is weights={number!r}."
            if field == "version" and isinstance(number, str)
            else "",
        )


def _check_texts(**texts: str | None) -> None:
    for field, text in texts.items():
        if text is not None and (not isinstance(text, str) or not text or "\0" in text):
            raise InvalidArgument(
                f"The {field} of a model must be a non-empty string, got {text!r}."
            )


def _json_config(config: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if config is None:
        return None
    try:
        decoded: dict[str, Any] = msgspec.json.decode(
            msgspec.json.encode(dict(config)), type=dict[str, Any]
        )
    except (TypeError, ValueError) as error:
        raise InvalidArgument(
            f"The config of a model must be a mapping of JSON values: {error}."
        ) from None
    return decoded


def _plain_metrics(metrics: Mapping[str, float]) -> dict[str, float]:
    """The metrics as Python numbers. InvalidArgument."""
    if (
        not isinstance(metrics, Mapping)
        or not metrics
        or not all(isinstance(name, str) and name for name in metrics)
    ):
        raise InvalidArgument(
            "The metrics of an evaluation must map names to numbers.",
            hint='For example {"recall@10": 0.94}.',
        )
    plain_metrics: dict[str, float] = {}
    for name, value in metrics.items():
        if not isinstance(value, numbers.Real) or not math.isfinite(value):
            raise InvalidArgument(f"The metric {name!r} must be a finite number, got {value!r}.")
        plain_metrics[name] = int(value) if isinstance(value, numbers.Integral) else float(value)
    return plain_metrics


def _relative_to_cwd(path: str | None) -> str:
    """A path, relative to the current directory when it is below it."""
    return "" if path is None else path.removeprefix(os.getcwd() + os.sep)
