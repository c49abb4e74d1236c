"""Batched encoding: each distinct text once, batch by batch, with every batch delivered before the
next one starts."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jammi_lab.core.errors import InvalidArgument, JammiError, ResourceExhausted, SchemaMismatch
from jammi_lab.vectors.encoders.base import Encoder, Floats, check_vectors

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
            hint="Use smaller batches.",
        ) from error
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise SchemaMismatch(
            f"The model {encoder.name!r} failed on the batch that starts at key {keys[0]!r}: "
            f"{type(error).__name__}: {reason}.",
            column="vector",
        ) from error
    return check_vectors(output, encoder, keys)
