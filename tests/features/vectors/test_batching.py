import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jammi_lab.core.errors import (
    ResourceExhausted,
    SchemaMismatch,
    SessionClosed,
    SourceUnavailable,
)
from jammi_lab.features.vectors.encoders.base import encode_rows, encode_texts
from jammi_lab.features.vectors.encoders.hashing import Hashing
from tests.cases.texts import ENCODABLE


class Counting:
    """Encodes a text by its length, and keeps what it was asked."""

    name, version, dimensions = "counting", "1", 2

    def __init__(self, fail_at: int | None = None, error: BaseException | None = None) -> None:
        self.calls: list[list[str]] = []
        self.fail_at, self.error = fail_at, error

    def encode(self, texts):
        if len(self.calls) == self.fail_at:
            raise self.error
        self.calls.append(list(texts))
        return np.array([[1, len(t)] for t in texts], np.float32)


def encode(encoder, texts, *, keys=None, batch=128, done=None, run_batches=map):
    """The vectors of texts by `encode_rows`; `done` receives the rows as they come."""
    order = np.argsort([len(text) for text in texts], kind="stable").astype(np.int64)
    out = np.empty((len(texts), encoder.dimensions), np.float32)
    for rows, vectors in encode_rows(
        encoder,
        order,
        lambda rows: [texts[row] for row in rows],
        lambda rows: [keys[row] if keys else row for row in rows.tolist()],
        batch=batch,
        run_batches=run_batches,
    ):
        out[rows] = vectors
        if done is not None:
            done.extend(rows.tolist())
    return out


@given(st.lists(st.text(ENCODABLE, max_size=5), max_size=30), st.integers(1, 7))
def test_batches_change_no_vector_and_hand_over_every_row_once(texts, batch):
    done: list[int] = []
    out = encode(Hashing(16), texts, batch=batch, done=done)
    assert np.array_equal(out, Hashing(16).encode(texts))
    assert sorted(done) == list(range(len(texts)))
    for start in range(0, len(done), batch):
        assert done[start : start + batch] == sorted(done[start : start + batch])


@pytest.mark.parametrize("error", [KeyboardInterrupt(), ValueError("boom")])
def test_what_was_done_before_an_interrupt_or_error_was_handed_over(error):
    done: list[int] = []
    with pytest.raises((KeyboardInterrupt, SchemaMismatch)):
        encode(Counting(2, error), ["a", "bb", "ccc", "dddd"], batch=1, done=done)
    assert done == [0, 1]


def test_batches_are_encoded_only_when_they_are_asked_for():
    encoder = Counting()
    coming = encode_rows(encoder, np.arange(2), lambda _: ["a"], np.ndarray.tolist, batch=1)
    next(coming)
    assert encoder.calls == [["a"]]


@pytest.mark.parametrize("error", [TimeoutError(), ConnectionResetError("gone")])
def test_a_service_that_does_not_respond_is_no_mismatch(error):
    with pytest.raises(SourceUnavailable, match=type(error).__name__) as caught:
        encode_texts(Counting(0, error), ["a"])
    assert caught.value.__cause__ is error


def test_a_jammi_error_of_the_encoder_stays_what_it_is():
    with pytest.raises(SessionClosed):
        encode_texts(Counting(0, SessionClosed("over")), ["a"])


def test_no_memory_is_an_exhausted_resource():
    with pytest.raises(ResourceExhausted):
        encode_texts(Counting(0, MemoryError()), ["a"])


class Spoiling(Counting):
    """Gives a vector that cannot be used for some texts."""

    def __init__(self, *spoilt: str, into: float = np.nan) -> None:
        super().__init__()
        self.spoilt, self.into = spoilt, into

    def encode(self, texts):
        made = super().encode(texts)
        made[[t in self.spoilt for t in texts]] = self.into
        return made


def test_an_encoder_that_is_wrong_throughout_is_not_asked_about_every_text():
    encoder = Spoiling(*(str(i) for i in range(1000)))
    with pytest.raises(SchemaMismatch, match="first for key 0"):
        encode(encoder, [str(i) for i in range(1000)], batch=10)
    assert len(encoder.calls) == 1
