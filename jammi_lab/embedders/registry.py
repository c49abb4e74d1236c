"""Encoders by name: those that come with jammi_lab and those that people hold in this process."""

import threading
from collections.abc import Callable
from typing import Any

from jammi_lab.embedders.adapters import as_encoder
from jammi_lab.embedders.base import Encoder, EncoderIdentity, identity_of
from jammi_lab.errors import InvalidArgument, ModelNotFound
from jammi_lab.names import fold, near


def _minilm() -> Encoder:
    from jammi_lab.embedders.minilm import MiniLM

    return MiniLM()


def _hashing() -> Encoder:
    from jammi_lab.embedders.hashing import Hashing

    return Hashing()


BUILT_IN: dict[str, Callable[[], Encoder]] = {"minilm": _minilm, "hashing": _hashing}


class Encoders:
    """The encoders that this process can run, by name and version. What is made by a recipe of another kernel may not be here."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: dict[tuple[str, str], Encoder] = {}
        self._latest: dict[str, Encoder] = {}

    def hold(self, encoder: Encoder) -> Encoder:
        """Keeps an encoder under its name and version; the one held last is what the name means.

        InvalidArgument when that name and version stand for other weights here already, or the name for an encoder of jammi_lab.
        """
        identity = identity_of(encoder)
        if make := BUILT_IN.get(fold(encoder.name)):
            if identity.name == fold(encoder.name) and _same_built_in(encoder, make()):
                return encoder
            raise InvalidArgument(f"The name {encoder.name!r} is that of an encoder of jammi_lab.", hint="Give yours another name.")
        with self._lock:
            known = self._held.get((fold(encoder.name), encoder.version))
            if known is not None and known is not encoder and identity_of(known) != identity:
                raise InvalidArgument(
                    f"The encoder {encoder.name!r}, version {encoder.version!r}, is here already with other weights or settings.",
                    hint="Give yours another name or version.",
                )
            self._held[fold(encoder.name), encoder.version] = encoder
            self._latest[fold(encoder.name)] = encoder
        return encoder

    def get(self, name: str, version: str | None = None) -> Encoder:
        """The encoder of that name: the given version, else the one held last. ModelNotFound (KeyError) with near names."""
        with self._lock:
            held = self._latest.get(fold(name)) if version is None else self._held.get((fold(name), version))
            others = sorted(v for n, v in self._held if n == fold(name))
        if held is not None:
            return held
        if make := BUILT_IN.get(fold(name)):
            encoder = make()
            if version in (None, encoder.version):
                return encoder
            others = [encoder.version]
        if others:
            raise ModelNotFound(f"The model {name!r} has no version {version!r} here.", near=others)
        known = self.names()
        raise ModelNotFound(f"No model is called {name!r}.", near=near(name, known), hint=f"There are {', '.join(known)}.")

    def resolve(self, model: Any, version: str | None = None) -> Encoder:
        """The encoder that `model` means: a name, an encoder, a sentence-transformers model or a function; what is no name is held from now on."""
        if isinstance(model, str):
            return self.get(model, version)
        return self.hold(as_encoder(model, version=version))

    def meant(self, model: Any) -> tuple[Encoder, str | None]:
        """As `resolve`, with `key_of` the encoder."""
        encoder = self.resolve(model)
        return encoder, self.key_of(encoder)

    def key_of(self, encoder: Encoder) -> str | None:  # noqa: ARG002  # who knows registered models overrides it
        """The key of the registered model whose encoder this is; here none is registered."""
        return None

    def exact(self, identity: EncoderIdentity) -> Encoder | None:  # noqa: ARG002
        """The encoder of the registered model that is just what the identity says; here none is registered."""
        return None

    def replaced(self, identity: EncoderIdentity) -> bool:  # noqa: ARG002
        """Whether a model of that name is registered, and none as the identity says it was; here none is registered."""
        return False

    def names(self) -> list[str]:
        """All names, those of jammi_lab first."""
        with self._lock:
            return [*BUILT_IN, *sorted({e.name for e in self._latest.values()})]


def _same_built_in(encoder: Encoder, built_in: Encoder) -> bool:
    """Whether this is that encoder, or the lexical one in another width."""
    return type(encoder) is type(built_in)
