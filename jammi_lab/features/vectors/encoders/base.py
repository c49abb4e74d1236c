"""The encoder protocol, the identity of an encoder in definitions, the validation of its output,
and encoding in batches: each distinct text once, every batch delivered before the next one starts.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from jammi_lab.core.canonical_json import digest_of
from jammi_lab.core.errors import (
    InvalidArgument,
    JammiError,
    ResourceExhausted,
    SchemaMismatch,
    SourceUnavailable,
)
from jammi_lab.core.value import Value

Floats = NDArray[np.float32]


@runtime_checkable
class Encoder(Protocol):
    """Turns texts into vectors. The same text must always give the same vector, whatever other
    texts are in the call."""

    @property
    def name(self) -> str:
        """The name of the model."""

    @property
    def version(self) -> str:
        """A version that changes whenever the vectors may change."""

    @property
    def dimensions(self) -> int:
        """Width of a vector."""

    def encode(self, texts: list[str], /) -> Any:
        """(len(texts), dimensions) numbers, finite, no row all zeros; float32 or convertible to
        it."""


class EncoderIdentity(Value, frozen=True):
    """Everything that determines an encoder's vectors: equal identities give equal vectors for
    equal texts."""

    name: str
    """The name of the encoder."""
    version: str
    """Its version."""
    dimensions: int
    """Width of a vector."""
    weights: str | None = None
    """SHA-256 over the weights; None when the encoder does not expose them."""
    tokenizer: str | None = None
    """SHA-256 over the tokenizer's description."""
    revision: str | None = None
    """Revision of the code that runs the model."""
    max_tokens: int | None = None
    """Tokens of a text that are used; None for all."""
    pooling: str | None = None
    """How token vectors are combined into one."""
    precision: str = "float32"
    """Number type of the computation."""
    normalised: bool | None = None
    """Whether vectors have unit length; None when unknown."""
    settings: dict[str, Any] = {}
    """Further settings of the encoder that shape its vectors."""

    @property
    def digest(self) -> str:
        """SHA-256 over all fields."""
        return digest_of(self.to_dict())


def identity_of(encoder: Encoder) -> EncoderIdentity:
    """The identity of an encoder: its own `identity` if it has one, else its name, version and
    width."""
    declared = getattr(encoder, "identity", None)
    if isinstance(declared, EncoderIdentity):
        return declared
    return EncoderIdentity(
        name=encoder.name, version=encoder.version, dimensions=encoder.dimensions
    )


def check_encoder(encoder: Any) -> Encoder:
    """Validate the four members of an encoder and return it. Raises InvalidArgument for the first
    invalid one."""
    for member, kind, requirement in (
        ("name", str, "a non-empty string"),
        ("version", str, "a non-empty string"),
        ("dimensions", int, "a positive integer"),
    ):
        value = getattr(encoder, member, None)
        if (
            not isinstance(value, kind)
            or isinstance(value, bool)
            or not value
            or (isinstance(value, int) and value < 1)
        ):
            raise InvalidArgument(
                f"The {member} of an encoder must be {requirement}, got {value!r}.",
                hint="An encoder needs name, version, dimensions and encode(list of texts).",
            )
    if "::" in encoder.name:
        raise InvalidArgument(
            f"The name of an encoder must not contain '::', got {encoder.name!r}."
        )
    if not callable(getattr(encoder, "encode", None)):
        raise InvalidArgument(f"The encoder {encoder.name!r} has no method encode(list of texts).")
    checked: Encoder = encoder
    return checked


def check_vectors(output: Any, encoder: Encoder, keys: Sequence[Any]) -> Floats:
    """An encoder's output as C-contiguous float32 (len(keys), dimensions).

    `keys`: names of the texts in errors. Raises SchemaMismatch with the model and the first key
    whose vector is unusable.
    """
    try:
        array: NDArray[Any] = np.asarray(output)
        is_not_numeric = array.dtype.kind not in "fiu"
        with np.errstate(over="ignore"):
            vectors = None if is_not_numeric else np.ascontiguousarray(array, np.float32)
    except Exception:  # noqa: BLE001  user-defined arrays may raise anything
        array, vectors = np.empty(0, object), None
    expected = f"({len(keys)}, {encoder.dimensions})"
    if vectors is None:
        raise _output_error(
            encoder,
            "did not return an array of numbers",
            keys,
            0,
            expected,
            f"{type(output).__name__} of {array.dtype}",
        )
    if vectors.ndim != 2 or vectors.shape[0] != len(keys):
        # it is unknown which text each vector belongs to
        raise _output_error(
            encoder,
            f"returned an array of shape {vectors.shape} for {len(keys)} texts",
            keys,
            0,
            expected,
            str(vectors.shape),
        )
    if vectors.shape[1] != encoder.dimensions:
        problem = (
            f"returned vectors of width {vectors.shape[1]}, but declares "
            f"{encoder.dimensions} dimensions"
        )
        raise _output_error(encoder, problem, keys, 0, expected, str(vectors.shape))
    _check_values(vectors, encoder, keys)
    return vectors


def _check_values(vectors: Floats, encoder: Encoder, keys: Sequence[Any]) -> None:
    """Raise SchemaMismatch for the first vector that is not finite or has no direction."""
    is_unusable = ~np.isfinite(vectors).all(1) | ~vectors.any(1)
    if is_unusable.any():
        position = int(is_unusable.argmax())
        if np.isfinite(vectors[position]).all():
            raise _output_error(
                encoder,
                "returned a vector of zeros",
                keys,
                position,
                "a vector with a direction",
                "all zeros",
            )
        raise _output_error(
            encoder,
            "returned a vector that is not finite",
            keys,
            position,
            "finite numbers",
            "NaN or infinity",
        )


def _output_error(
    encoder: Encoder, problem: str, keys: Sequence[Any], position: int, expected: str, actual: str
) -> SchemaMismatch:
    key = keys[position] if len(keys) else None
    where = f", first for key {key!r}" if len(keys) else ""
    return SchemaMismatch(
        f"The model {encoder.name!r} {problem}{where}.",
        column="vector",
        expected=expected,
        actual=actual,
        key=key,
    )


BatchRunner = Callable[[Callable[[list[str]], Any], Iterable[list[str]]], Iterator[Any]]
"""Maps a function over batches, as the builtin `map` does; possibly in other processes."""
OnBatch = Callable[[NDArray[np.int64], Floats], None]
"""Receives the finished rows (ascending indexes into the texts) and their vectors."""


def encode_texts(
    encoder: Encoder,
    texts: Sequence[str | None],
    *,
    batch: int = 128,
    on_batch: OnBatch | None = None,
    keys: Sequence[Any] | None = None,
    run_batches: BatchRunner = map,
) -> Floats:
    """Encode texts as (len(texts), dimensions) float32. None counts as the empty text; equal texts
    are encoded once. `keys`: names of the texts in errors; `run_batches`: where the encoder is
    called.

    Texts go to the encoder in order of length, `batch` at a time. After each batch `on_batch`
    receives all rows with one of its texts, so a later error or interrupt loses none of them.
    Raises SchemaMismatch (with the encoder's own exception as its cause) and ResourceExhausted. An
    error about unusable vectors names the first bad row: after one is found, the texts of the rows
    before it are still encoded.
    """
    if batch < 1:
        raise InvalidArgument(f"batch must be at least 1, got {batch}.")
    rows_of: dict[str, list[int]] = {}
    for row, text in enumerate(texts):
        if text is not None and not isinstance(text, str):
            raise SchemaMismatch(
                f"The model {encoder.name!r} encodes strings, but key {_text_key(keys, row)!r} "
                f"has a value of type {type(text).__name__}.",
                expected="text",
                actual=repr(text),
            )
        rows_of.setdefault(text or "", []).append(row)
    out = np.empty((len(texts), encoder.dimensions), np.float32)
    name_by_text = {text: _text_key(keys, rows[0]) for text, rows in rows_of.items()}
    for batch_texts, vectors in _encode_batches(encoder, name_by_text, batch, run_batches):
        rows = np.array([r for t in batch_texts for r in rows_of[t]], np.int64)
        out[rows] = np.repeat(vectors, [len(rows_of[t]) for t in batch_texts], axis=0)
        if on_batch is not None:
            rows.sort()
            on_batch(rows, out[rows])
    return out


def _encode_batches(
    encoder: Encoder, name_by_text: dict[str, Any], batch: int, run_batches: BatchRunner
) -> Iterator[tuple[list[str], Floats]]:
    """Yield texts and their vectors, batch by batch. `name_by_text`: the name in errors of each
    text, in row order."""
    position = {text: index for index, text in enumerate(name_by_text)}
    # batches of similar length cost an encoder the least
    remaining = sorted(name_by_text, key=len)
    first_error: SchemaMismatch | None = None
    while remaining:
        batches = [
            sorted(remaining[start : start + batch], key=position.__getitem__)
            for start in range(0, len(remaining), batch)
        ]
        # copies, because an encoder may sort or clear its list
        outputs = run_batches(encoder.encode, [list(batch_texts) for batch_texts in batches])
        for batch_texts in batches:
            keys = [name_by_text[text] for text in batch_texts]
            try:
                vectors = _next_vectors(encoder, outputs, len(batch_texts), keys)
            except SchemaMismatch as error:
                if error.key is None:
                    raise
                first_error, bad_position = error, position[batch_texts[keys.index(error.key)]]
                remaining_batches = batches[batches.index(batch_texts) :]
                remaining = [
                    text
                    for several in remaining_batches
                    for text in several
                    if position[text] < bad_position
                ]
                break
            yield batch_texts, vectors
        else:
            break
    if first_error is not None:
        raise first_error


def _text_key(keys: Sequence[Any] | None, row: int) -> Any:
    return row if keys is None else keys[row]


def _next_vectors(encoder: Encoder, outputs: Iterator[Any], count: int, keys: list[Any]) -> Floats:
    try:
        output = next(outputs)
    except JammiError:
        raise
    except MemoryError as error:
        raise ResourceExhausted(
            f"Memory ran out while the model {encoder.name!r} encoded {count} texts.",
            hint="Encode them in several parts inside its encode().",
        ) from error
    except Exception as error:
        reason = " ".join(str(error).split())[:200] or "no message"
        message = (
            f"The model {encoder.name!r} failed on the batch that starts at key {keys[0]!r}: "
            f"{type(error).__name__}: {reason}."
        )
        if isinstance(error, OSError):  # a service that does not respond, a file that is gone
            hint = "Embed again when it is back; the vectors so far are kept."
            raise SourceUnavailable(message, hint=hint) from error
        raise SchemaMismatch(message, column="vector") from error
    return check_vectors(output, encoder, keys)
