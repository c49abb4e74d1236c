"""The protocol of an encoder, what is said about one in a definition, and what is asked of the vectors that come out."""

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from jammi_lab.canonical import digest_of
from jammi_lab.errors import InvalidArgument, SchemaMismatch
from jammi_lab.values.base import Value

Floats = NDArray[np.float32]


@runtime_checkable
class Encoder(Protocol):
    """Turns texts into vectors. The same text always becomes the same vector, whatever the texts beside it."""

    @property
    def name(self) -> str:
        """What people call it."""

    @property
    def version(self) -> str:
        """Another one whenever the vectors may be others."""

    @property
    def dimensions(self) -> int:
        """Width of a vector."""

    def encode(self, texts: list[str], /) -> Any:
        """(len(texts), dimensions) numbers: finite, no row of zeros; float32 or what turns into it."""


class EncoderIdentity(Value, frozen=True):
    """What shapes the vectors of an encoder: two encoders of one identity give the same vectors for the same texts."""

    name: str
    """What the encoder is called."""
    version: str
    """Its version."""
    dimensions: int
    """Width of a vector."""
    weights: str | None = None
    """SHA-256 over the weights; None when the encoder does not show any."""
    tokenizer: str | None = None
    """SHA-256 over the tokenizer's description."""
    revision: str | None = None
    """Revision of the code that computes with the weights."""
    max_tokens: int | None = None
    """Tokens of a text that count; None for all."""
    pooling: str | None = None
    """How tokens become one vector."""
    precision: str = "float32"
    """Numbers that are computed with."""
    normalised: bool | None = None
    """Whether vectors have unit length; None when it is not known."""
    settings: dict[str, Any] = {}
    """What else the encoder says shapes its vectors."""

    @property
    def digest(self) -> str:
        """SHA-256 over all of it."""
        return digest_of(self.to_dict())


def identity_of(encoder: Encoder) -> EncoderIdentity:
    """What is known of an encoder: its own `identity` when it brings one, else name, version and width."""
    own = getattr(encoder, "identity", None)
    if isinstance(own, EncoderIdentity):
        return own
    return EncoderIdentity(name=encoder.name, version=encoder.version, dimensions=encoder.dimensions)


def check_encoder(encoder: Any) -> Encoder:
    """The object, when it has the four members of an encoder in sound form. InvalidArgument names the one that is not."""
    for member, kind, meant in (("name", str, "a text"), ("version", str, "a text"), ("dimensions", int, "a positive whole number")):
        value = getattr(encoder, member, None)
        if not isinstance(value, kind) or isinstance(value, bool) or not value or (isinstance(value, int) and value < 1):
            raise InvalidArgument(
                f"The {member} of an encoder is {meant}, not {value!r}.", hint="An encoder has name, version, dimensions and encode(list of texts)."
            )
    if "::" in encoder.name:
        raise InvalidArgument(f"The name of an encoder cannot hold '::': {encoder.name!r}.")
    if not callable(getattr(encoder, "encode", None)):
        raise InvalidArgument(f"The encoder {encoder.name!r} has no method encode(list of texts).")
    checked: Encoder = encoder
    return checked


def check_vectors(made: Any, encoder: Encoder, keys: Sequence[Any]) -> Floats:
    """What an encoder made as C-contiguous float32 (len(keys), dimensions).

    `keys`: what to call each text in an error. SchemaMismatch names the model and the first key whose vector cannot be used.
    """
    try:
        array: NDArray[Any] = np.asarray(made)
        wild = array.dtype.kind not in "fiu"
        with np.errstate(over="ignore"):
            vectors = None if wild else np.ascontiguousarray(array, np.float32)
    except Exception:  # noqa: BLE001  whatever an encoder's own array does when it is read
        array, vectors = np.empty(0, object), None
    expected = f"({len(keys)}, {encoder.dimensions})"
    if vectors is None:
        raise _bad(encoder, "gave no array of numbers", keys, 0, expected, f"{type(made).__name__} of {array.dtype}")
    if vectors.ndim != 2 or vectors.shape[0] != len(keys):
        # nothing says which text the vectors belong to
        raise _bad(encoder, f"gave an array of shape {vectors.shape} for {len(keys)} texts", keys, 0, expected, str(vectors.shape))
    if vectors.shape[1] != encoder.dimensions:
        what = f"gave vectors of width {vectors.shape[1]} and says {encoder.dimensions}"
        raise _bad(encoder, what, keys, 0, expected, str(vectors.shape))
    unusable = ~np.isfinite(vectors).all(1) | ~vectors.any(1)
    if unusable.any():
        at = int(unusable.argmax())
        if np.isfinite(vectors[at]).all():
            raise _bad(encoder, "gave a vector of zeros", keys, at, "a vector with a direction", "all zeros")
        raise _bad(encoder, "gave a vector that is not finite", keys, at, "finite numbers", "NaN or infinity")
    return vectors


def _bad(encoder: Encoder, what: str, keys: Sequence[Any], at: int, expected: str, actual: str) -> SchemaMismatch:
    key = keys[at] if len(keys) else None
    where = f", first for key {key!r}" if len(keys) else ""
    return SchemaMismatch(f"The model {encoder.name!r} {what}{where}.", column="vector", expected=expected, actual=actual, key=key)
