"""The encoder protocol, the identity of an encoder in definitions, the validation of its output,
and encoding in batches: every batch is delivered before the next one starts."""

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
    message_of,
)
from jammi_lab.core.value import Value

Floats = NDArray[np.float32]
RowNumbers = NDArray[np.int64]


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
        problem = "a vector that is not finite"
        if np.isfinite(vectors[position]).all():
            problem = "a vector of zeros"
        raise _output_error(
            encoder,
            f"returned {problem}",
            keys,
            position,
            "finite numbers, not all zero",
            problem,
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


def encode_texts(encoder: Encoder, texts: Sequence[str]) -> Floats:
    """Encode texts as (len(texts), dimensions) float32, equal ones once. Raises as `encode_rows`;
    errors name the text."""
    row_of = {text: row for row, text in enumerate(dict.fromkeys(texts))}
    distinct = list(row_of)
    out = np.empty((len(distinct), encoder.dimensions), np.float32)

    def texts_of(rows: RowNumbers) -> list[str]:
        return [distinct[row] for row in rows]

    lengths = np.fromiter(map(len, distinct), np.int64, len(distinct))
    for rows, vectors in encode_rows(
        encoder, np.argsort(lengths, kind="stable"), texts_of, texts_of
    ):
        out[rows] = vectors
    return out[[row_of[text] for text in texts]]


def encode_rows(
    encoder: Encoder,
    rows: RowNumbers,
    texts_of: Callable[[RowNumbers], list[str]],
    keys_of: Callable[[RowNumbers], list[Any]],
    *,
    batch: int = 128,
    run_batches: BatchRunner = map,
) -> Iterator[tuple[RowNumbers, Floats]]:
    """Yield rows with the vectors of their texts, as soon as their batch is encoded. `rows`: in the
    order of the length of their texts, because batches of similar length cost an encoder the least;
    `keys_of`: names of rows in errors; `run_batches`: where the encoder is called.

    Raises SchemaMismatch (with the encoder's own exception as its cause), SourceUnavailable and
    ResourceExhausted. An error about unusable vectors names the first bad row: after one is found,
    the texts of the rows before it are still encoded.
    """
    first_error: SchemaMismatch | None = None
    while len(rows):
        batches = [np.sort(rows[start : start + batch]) for start in range(0, len(rows), batch)]
        rows = rows[:0]
        outputs = run_batches(encoder.encode, map(texts_of, batches))
        for number, batch_rows in enumerate(batches):
            keys = keys_of(batch_rows)
            try:
                vectors = _next_vectors(encoder, outputs, keys)
            except SchemaMismatch as error:
                if error.key is None:
                    raise
                first_error, bad_row = error, batch_rows[keys.index(error.key)]
                remaining = np.concatenate(batches[number:])
                rows = remaining[remaining < bad_row]
                break
            yield batch_rows, vectors
    if first_error is not None:
        raise first_error


def _next_vectors(encoder: Encoder, outputs: Iterator[Any], keys: list[Any]) -> Floats:
    try:
        output = next(outputs)
    except JammiError:
        raise
    except MemoryError as error:
        raise ResourceExhausted(
            f"Memory ran out while the model {encoder.name!r} encoded {len(keys)} texts.",
            hint="Encode them in several parts inside its encode().",
        ) from error
    except Exception as error:
        reason = " ".join(message_of(error).split())[:200] or "no message"
        message = (
            f"The model {encoder.name!r} failed on the batch that starts at key {keys[0]!r}: "
            f"{type(error).__name__}: {reason}."
        )
        if isinstance(error, OSError):  # a service that does not respond, a file that is gone
            hint = "Embed again when it is back; the vectors so far are kept."
            raise SourceUnavailable(message, hint=hint) from error
        raise SchemaMismatch(message, column="vector") from error
    return check_vectors(output, encoder, keys)
