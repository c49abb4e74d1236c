"""Models as people hold them: `ws.models` and what it gives.

A row says that a model is there; the encoder object itself lives with the kernel that registered it, like a frame, and files stay where they are.
`minilm` and `hashing` come with jammi_lab: `get` always finds them, `list` does not list them, and nothing else can be called so.
"""

import builtins
import math
import numbers
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from jammi_lab import forms, model_files
from jammi_lab.catalog.models import Record
from jammi_lab.clock import rfc3339
from jammi_lab.errors import InvalidArgument, ModelNotFound, NameInvalid, WorkspaceReadOnly
from jammi_lab.markup import Form, Shown, count, facts
from jammi_lab.model_encoders import COME_ALONG, ModelEncoders, as_named, built_in, digest_of_encoder
from jammi_lab.names import check_name, fold, near
from jammi_lab.values.base import short
from jammi_lab.values.models import Evaluation, ModelRecord, Reference, Training
from jammi_lab.wiring import Rooms

__all__ = ["Evaluation", "Model", "Models", "Reference", "Training"]


class Model(Shown):
    """A version of a model."""

    def __init__(self, models: "Models", record: ModelRecord) -> None:
        self._models, self._record = models, record

    @property
    def name(self) -> str:
        """What it is called; versions share it."""
        return self._record.name

    @property
    def version(self) -> int:
        """Counted from 1."""
        return self._record.version

    @property
    def key(self) -> str:
        """`name::version`, or `tenant::name::version` for a tenant's own."""
        return self._record.key

    @property
    def type(self) -> str:
        """What kind of model it is."""
        return self._record.type

    @property
    def backend(self) -> str:
        """What runs it: python (an encoder object), files, numpy (built in), external."""
        return self._record.backend

    @property
    def task(self) -> str:
        """What it does."""
        return self._record.task

    @property
    def dimensions(self) -> int | None:
        """Width of its vectors; None when that is not known."""
        return self._record.dimensions

    @property
    def digest(self) -> str | None:
        """SHA-256 of what shapes its vectors, or over its files; None for a model that was registered by name alone."""
        return self._record.digest

    @property
    def artifact(self) -> str | None:
        """The absolute path of its files."""
        return None if self._record.artifact is None else str(self._models._folder / self._record.artifact)

    @property
    def base(self) -> str | None:
        """The model that it was made from, as it was registered."""
        return self._record.base

    @property
    def config(self) -> dict[str, Any] | None:
        """What else was registered about it."""
        return self._record.config

    @property
    def status(self) -> str:
        """registered, or built-in."""
        return self._record.status

    @property
    def created_at(self) -> str:
        """When this version was first registered; empty for what is built in."""
        return self._record.created_at

    @property
    def tenant(self) -> str | None:
        """Whose it is; None is shared."""
        return self._record.tenant

    @property
    def available(self) -> bool:
        """Whether this kernel has its encoder, or files to make it from."""
        return self._models._encoders.available(self._record)

    @property
    def references(self) -> list[Reference]:
        """What refers to it now and keeps it from being deleted: result_tables, training_output, training_base, evaluation, in this order.

        Tables and outputs of trainings refer to the name, whatever the version. To a shared model all tenants' do; where some are
        other tenants' they are a number without names.
        """
        return list(self._models._rooms.catalog.models.references(self._record))

    def _form(self) -> Form:
        record = self._record
        pairs = [
            ("what", f"{record.type}, {record.task}" + (f", {record.dimensions:,} dimensions" if record.dimensions else "")),
            ("runs", f"{record.backend}: {self._models._encoders.where(record)}"),
            ("digest", short(record.digest) if record.digest else ""),
            ("files", _from_here(self.artifact)),
            ("base", record.base or ""),
            ("tenant", record.tenant or ""),
            ("referred to", ", ".join(map(str, self.references))),
        ]
        return facts(f"{record.name}, version {record.version}", pairs)


class Models(Shown):
    """The models of a workspace, in the bound tenant's scope."""

    def __init__(self, rooms: Rooms, folder: Path) -> None:
        self._rooms, self._folder = rooms, folder
        self._encoders = ModelEncoders(rooms.catalog, folder)
        rooms.producers.encoders = self._encoders  # so that `model=` of a producer takes a registered name

    def register(
        self,
        name: str,
        path_or_encoder: Any = None,
        *,
        version: int | None = None,
        dimensions: int | None = None,
        type: str = "embedding",
        backend: str | None = None,
        task: str = "text_embedding",
        base: str | None = None,
        config: Mapping[str, Any] | None = None,
    ) -> Model:
        """Register an encoder object, which lives with this kernel, a folder or file of model files, which stay where they are, or a name alone.

        Without `version` it is the version that has the same digest, else the next one. What is registered again takes the type, backend, task,
        base and config of this call, keeps its status and age, and its files unless other ones are given.
        Raises NameInvalid, InvalidArgument, SourceUnavailable; nothing is registered then.
        """
        if self._rooms.catalog.read_only:
            raise WorkspaceReadOnly("This workspace is open read-only; no model can be registered.")
        _check_model_name(name)
        for what, number in (("version", version), ("number of dimensions", dimensions)):
            _check_number(what, number)
        _check_texts(type=type, backend=backend, task=task, base=base)
        if path_or_encoder is None:
            encoder, draft = None, ModelRecord(name=name, backend="external")
        elif isinstance(path_or_encoder, str | os.PathLike):
            artifact = model_files.stored(path_or_encoder, self._folder)
            digest = model_files.digest_files(self._folder / artifact)
            encoder, draft = None, ModelRecord(name=name, backend="files", digest=digest, artifact=artifact, artifact_digest=digest)
        else:
            encoder = as_named(path_or_encoder, name, version, dimensions)
            draft = ModelRecord(name=name, backend="python", digest=digest_of_encoder(encoder), dimensions=encoder.dimensions)
        record = msgspec.structs.replace(
            draft,
            tenant=self._rooms.scope.current,
            type=type,
            backend=backend or draft.backend,
            task=task,
            dimensions=dimensions or draft.dimensions,
            base=base,
            config=_plain(config),
        )
        with self._rooms.catalog.transaction():
            put = self._rooms.catalog.models.put(record, version)
            if encoder is not None:
                self._encoders.keep(put, encoder)
        return Model(self, put)

    def get(self, name: str, version: int | None = None) -> Model:
        """The newest version of a model, own before shared, or one version. ModelNotFound (KeyError), with near names."""
        _check_number("version", version)
        return Model(self, self._record(name, version))

    def list(self) -> builtins.list[Model]:
        """Every version that was registered and is visible, in the order in which they were."""
        return [Model(self, record) for record in self._rooms.catalog.models.list()]

    def delete(self, name: str, *, version: int | None = None, if_exists: bool = False) -> None:
        """Delete the version that `get` finds; files stay where they are.

        Raises ModelReferenced, whose `.references` say by what, while anything refers to it; ModelNotFound unless `if_exists`; TenantForbidden.
        """
        _check_number("version", version)
        if built_in(name, version) is not None:
            raise InvalidArgument(f"The model {name!r} comes with jammi_lab and cannot be deleted.")
        with self._rooms.catalog.transaction():
            gone = self._rooms.catalog.models.remove(name, version)
            if gone is not None:
                self._encoders.release(gone.key)
        if gone is None and not if_exists:
            raise self._missing(name, version)

    def record_training(self, output: str, base: str, base_version: int | None = None) -> Training:
        """Note that the model `output`, which may be registered later, is trained from `base`. Neither can be deleted while the record is there.

        Raises ModelNotFound for the base, NameInvalid.
        """
        _check_model_name(output)
        _check_number("base_version", base_version)
        with self._rooms.catalog.transaction():
            record = Training(output=output, base=self._record(base, base_version).key, tenant=self._rooms.scope.current, **self._stamp())
            self._rooms.catalog.models.add(record)
        return record

    def record_evaluation(self, name: str, metrics: Mapping[str, float], version: int | None = None) -> Evaluation:
        """Note how a model did, as numbers by name. It cannot be deleted while the record is there. Raises ModelNotFound, InvalidArgument."""
        _check_number("version", version)
        numbered = _numbers(metrics)
        with self._rooms.catalog.transaction():
            record = Evaluation(model=self._record(name, version).key, metrics=numbered, tenant=self._rooms.scope.current, **self._stamp())
            self._rooms.catalog.models.add(record)
        return record

    def records(self, name: str | None = None) -> builtins.list[Record]:
        """What was recorded, oldest first; with a name, only what refers to that model by any of its versions. ModelNotFound."""
        records = list(self._rooms.catalog.models.records())
        if name is None:
            return records
        keys = {model.key for model in self._rooms.catalog.models.list() if fold(model.name) == fold(name)}
        if (along := built_in(name)) is not None:
            keys.add(along.key)
        found = [r for r in records if (r.base in keys or fold(r.output) == fold(name) if isinstance(r, Training) else r.model in keys)]
        if not keys and not found:
            raise self._missing(name, None)
        return found

    def forget(self, record: Training | Evaluation) -> bool:
        """Whether the record was there and is gone. TenantForbidden for a shared one under a tenant; InvalidArgument for anything else."""
        if not isinstance(record, Training | Evaluation):
            raise InvalidArgument(
                f"A {record.__class__.__name__} is no record of a training or evaluation.", hint="ws.models.records() lists what there is."
            )
        return self._rooms.catalog.models.forget(record)

    def _record(self, name: str, version: int | None) -> ModelRecord:
        record = built_in(name, version) or self._rooms.catalog.models.get(name, version)
        if record is None:
            raise self._missing(name, version)
        return record

    def _missing(self, name: str, version: int | None) -> ModelNotFound:
        there = self._rooms.catalog.models.list()
        versions = sorted({m.version for m in there if fold(m.name) == fold(name)} | ({1} if fold(name) in COME_ALONG else set()))
        if versions:
            return ModelNotFound(f"The model {name!r} has no version {version}; it has {', '.join(map(str, versions))}.")
        known = [*dict.fromkeys(m.name for m in there), *COME_ALONG]
        return ModelNotFound(
            f"There is no model {name!r}.", near=near(name, known), hint="ws.models shows what there is; ws.models.register adds one."
        )

    def _stamp(self) -> dict[str, str]:
        clock = self._rooms.clock
        return {"record_id": clock.token(32), "created_at": rfc3339(clock.now_ns())}

    def _form(self) -> Form:
        registered = self._rooms.catalog.models.list()
        along = [record for name in COME_ALONG if (record := built_in(name)) is not None]
        rows = [(m.name, m.version, m.dimensions, m.base, m.tenant, f"{m.backend}: {self._encoders.where(m)}") for m in [*registered, *along]]
        note = f"{count(len(registered), 'registered version')}; {' and '.join(COME_ALONG)} come with jammi_lab"
        return forms.listing(["model", "version", "dimensions", "base", "tenant", "runs"], rows, aligned="lrrlll", note=note)


def _check_model_name(name: str) -> None:
    check_name(name, "model")
    if "::" in name:
        raise NameInvalid(f"The model name {name!r} holds '::', which parts a model's name from its version.", name=name, hint="Use another mark.")
    if fold(name) in COME_ALONG:
        raise InvalidArgument(f"The name {name!r} is that of an encoder of jammi_lab.", hint="Give yours another name.")


def _check_number(what: str, number: int | None) -> None:
    if number is not None and (not isinstance(number, int) or isinstance(number, bool) or not 1 <= number < 2**63):
        raise InvalidArgument(f"The {what} of a model is a whole number from 1, not {number!r}.")


def _check_texts(**given: str | None) -> None:
    for what, text in given.items():
        if text is not None and (not isinstance(text, str) or not text or "\0" in text):
            raise InvalidArgument(f"The {what} of a model is a text that is not empty, not {text!r}.")


def _plain(config: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if config is None:
        return None
    try:
        plain: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(dict(config)), type=dict[str, Any])
    except (TypeError, ValueError) as error:
        raise InvalidArgument(f"The config of a model is a mapping of what JSON holds: {error}.") from None
    return plain


def _numbers(metrics: Mapping[str, float]) -> dict[str, float]:
    """The metrics as plain numbers. InvalidArgument."""
    if not isinstance(metrics, Mapping) or not metrics or not all(isinstance(name, str) and name for name in metrics):
        raise InvalidArgument("The metrics of an evaluation are numbers by name.", hint='For example {"recall@10": 0.94}.')
    plain: dict[str, float] = {}
    for name, value in metrics.items():
        if not isinstance(value, numbers.Real) or not math.isfinite(value):
            raise InvalidArgument(f"The metric {name!r} is a finite number, not {value!r}.")
        plain[name] = int(value) if isinstance(value, numbers.Integral) else float(value)
    return plain


def _from_here(path: str | None) -> str:
    """A path below the current directory as it would be typed there."""
    return "" if path is None else path.removeprefix(os.getcwd() + os.sep)
