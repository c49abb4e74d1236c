"""Running an encoder over many texts: equal ones once, a batch at a time, each batch handed over before the next begins."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jammi_lab.embedders.base import Encoder, Floats, check_vectors
from jammi_lab.errors import InvalidArgument, JammiError, ResourceExhausted, SchemaMismatch

Run = Callable[[Callable[[list[str]], Any], Iterable[list[str]]], Iterator[Any]]
"""Runs a function over batches, as `map` does; possibly elsewhere."""
OnBatch = Callable[[NDArray[np.int64], Floats], None]
"""Takes the rows that are done (indexes into the texts, ascending) and their vectors."""


def encode_texts(
    encoder: Encoder,
    texts: Sequence[str | None],
    *,
    batch: int = 128,
    on_batch: OnBatch | None = None,
    keys: Sequence[Any] | None = None,
    run: Run = map,
) -> Floats:
    """(len(texts), dimensions) float32. None counts as the empty text; equal texts are encoded once; `keys` name the texts in errors. `run` says
    where the encoder is called.

    Texts go to the encoder in order of their length, `batch` at a time. After each batch `on_batch` gets every row whose text was in it;
    an error or interrupt later loses none of those. Raises SchemaMismatch (with what the encoder raised as its cause), ResourceExhausted.
    Of vectors that cannot be used the one of the first row is told: after one was met, the texts of the rows before it are still encoded.
    """
    if batch < 1:
        raise InvalidArgument(f"A batch holds at least one text, not {batch}.")
    rows_of: dict[str, list[int]] = {}
    for row, text in enumerate(texts):
        if text is not None and not isinstance(text, str):
            raise SchemaMismatch(
                f"The model {encoder.name!r} takes texts, and key {_key(keys, row)!r} has a {type(text).__name__}.",
                expected="text",
                actual=repr(text),
            )
        rows_of.setdefault(text or "", []).append(row)
    out = np.empty((len(texts), encoder.dimensions), np.float32)
    named = {text: _key(keys, rows[0]) for text, rows in rows_of.items()}
    for some, vectors in _batches(encoder, named, batch, run):
        rows = np.array([r for t in some for r in rows_of[t]], np.int64)
        out[rows] = np.repeat(vectors, [len(rows_of[t]) for t in some], axis=0)
        if on_batch is not None:
            rows.sort()
            on_batch(rows, out[rows])
    return out


def _batches(encoder: Encoder, named: dict[str, Any], batch: int, run: Run) -> Iterator[tuple[list[str], Floats]]:
    """Texts and their vectors, batch by batch. `named`: the texts in the order of their rows, and what to call each in an error."""
    place = {text: at for at, text in enumerate(named)}
    # texts of like length cost an encoder the least together
    left = sorted(named, key=len)
    bad: SchemaMismatch | None = None
    while left:
        batches = [sorted(left[start : start + batch], key=place.__getitem__) for start in range(0, len(left), batch)]
        made = run(encoder.encode, [list(some) for some in batches])  # it is an encoder's own, to sort and to clear
        for some in batches:
            keys = [named[text] for text in some]
            try:
                vectors = _encoded(encoder, made, len(some), keys)
            except SchemaMismatch as error:
                if error.key is None:
                    raise
                bad, first = error, place[some[keys.index(error.key)]]
                undone = batches[batches.index(some) :]
                left = [text for several in undone for text in several if place[text] < first]
                break
            yield some, vectors
        else:
            break
    if bad is not None:
        raise bad


def _key(keys: Sequence[Any] | None, row: int) -> Any:
    return row if keys is None else keys[row]


def _encoded(encoder: Encoder, coming: Iterator[Any], count: int, keys: list[Any]) -> Floats:
    try:
        made = next(coming)
    except JammiError:
        raise
    except MemoryError as error:
        raise ResourceExhausted(f"Memory ran out while the model {encoder.name!r} encoded {count} texts.", hint="Use smaller batches.") from error
    except Exception as error:
        said = " ".join(str(error).split())[:200]
        raise SchemaMismatch(
            f"The model {encoder.name!r} failed on the texts from key {keys[0]!r} on: {type(error).__name__}: {said}.", column="vector"
        ) from error
    return check_vectors(made, encoder, keys)
