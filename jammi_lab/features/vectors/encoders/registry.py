"""Encoders by name: built-in ones and those registered in this process."""

import threading
from collections.abc import Callable
from typing import Any

from jammi_lab.core.errors import InvalidArgument, ModelNotFound
from jammi_lab.core.identifiers import fold, near_names
from jammi_lab.features.vectors.encoders.adapters import to_encoder
from jammi_lab.features.vectors.encoders.base import Encoder, EncoderIdentity, identity_of


def _minilm() -> Encoder:
    from jammi_lab.features.vectors.encoders.minilm import MiniLM

    return MiniLM()


def _hashing() -> Encoder:
    from jammi_lab.features.vectors.encoders.hashing import Hashing

    return Hashing()


BUILT_IN: dict[str, Callable[[], Encoder]] = {"minilm": _minilm, "hashing": _hashing}


class EncoderRegistry:
    """The encoders that this process can run, by name and version. An encoder that another kernel's
    recipe uses may be missing."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._by_version: dict[tuple[str, str], Encoder] = {}
        self._latest: dict[str, Encoder] = {}

    def register(self, encoder: Encoder) -> Encoder:
        """Register an encoder under its name and version. The name then refers to it.

        Raises InvalidArgument when that name and version already belong to other weights in this
        process, or the name to a built-in encoder.
        """
        identity = identity_of(encoder)
        if create := BUILT_IN.get(fold(encoder.name)):
            if identity.name == fold(encoder.name) and _is_built_in(encoder, create()):
                return encoder
            raise InvalidArgument(
                f"{encoder.name!r} is the name of a built-in encoder.", hint="Choose another name."
            )
        with self._lock:
            registered = self._by_version.get((fold(encoder.name), encoder.version))
            if (
                registered is not None
                and registered is not encoder
                and identity_of(registered) != identity
            ):
                raise InvalidArgument(
                    f"The encoder {encoder.name!r}, version {encoder.version!r}, is already "
                    "registered with other weights or settings.",
                    hint="Choose another name or version.",
                )
            self._by_version[fold(encoder.name), encoder.version] = encoder
            self._latest[fold(encoder.name)] = encoder
        return encoder

    def get(self, name: str, version: str | None = None) -> Encoder:
        """The encoder of a name: the given version, else the last one registered. Raises
        ModelNotFound (KeyError) with near names."""
        with self._lock:
            registered = (
                self._latest.get(fold(name))
                if version is None
                else self._by_version.get((fold(name), version))
            )
            other_versions = sorted(v for n, v in self._by_version if n == fold(name))
        if registered is not None:
            return registered
        if create := BUILT_IN.get(fold(name)):
            encoder = create()
            if version in (None, encoder.version):
                return encoder
            other_versions = [encoder.version]
        if other_versions:
            raise ModelNotFound(
                f"The model {name!r} has no version {version!r} in this kernel.",
                near=other_versions,
            )
        names = self.names()
        raise ModelNotFound(
            f"There is no model {name!r}.",
            near=near_names(name, names),
            hint=f"Known models: {', '.join(names)}.",
        )

    def resolve(self, model: Any, version: str | None = None) -> Encoder:
        """The encoder for a user's argument: a name, an encoder, a sentence-transformers model or a
        function. Anything but a name is registered."""
        if isinstance(model, str):
            return self.get(model, version)
        return self.register(to_encoder(model, version=version))

    def resolve_with_key(self, model: Any) -> tuple[Encoder, str | None]:
        """As `resolve`, together with the encoder's `key_of`."""
        encoder = self.resolve(model)
        return encoder, self.key_of(encoder)

    # The three methods below are overridden where models are registered.
    def key_of(self, encoder: Encoder) -> str | None:  # noqa: ARG002
        """The catalog key of the encoder's registered model; always None here."""
        return None

    def find_by_identity(self, identity: EncoderIdentity) -> Encoder | None:  # noqa: ARG002
        """The encoder of the registered model with exactly this identity; always None here."""
        return None

    def is_replaced(self, identity: EncoderIdentity, model: str | None) -> bool:  # noqa: ARG002
        """Whether what `model` names today, or any model of the encoder's name, is known not to
        have this identity; always False here."""
        return False

    def names(self) -> list[str]:
        """All names, built-in ones first."""
        with self._lock:
            return [*BUILT_IN, *sorted({e.name for e in self._latest.values()})]


def _is_built_in(encoder: Encoder, built_in: Encoder) -> bool:
    """Whether an encoder is this built-in one, possibly with another width."""
    return type(encoder) is type(built_in)
