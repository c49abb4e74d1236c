"""What every encoder must do: subclass `EncoderSuite`, give it an `encoder`, and its tests run
against yours."""

from __future__ import annotations

import numpy as np
import pytest

from jammi_lab.features.vectors.encoders.base import (
    Encoder,
    check_encoder,
    check_vectors,
    identity_of,
)

TEXTS = [
    "a cat sat on the mat",
    "",
    "the feline rested on a rug",
    "stock prices fell",
    "a cat sat on the mat",
    "🚀 naïve \x00 \ud800",
    "x" * 5000,
]


class EncoderSuite:
    @pytest.fixture
    def encoder(self) -> Encoder:
        raise pytest.UsageError("give the suite an encoder")

    def test_it_has_the_members_of_the_protocol(self, encoder: Encoder) -> None:
        assert isinstance(check_encoder(encoder), Encoder)

    def test_its_vectors_have_the_width_it_says_and_can_be_used(self, encoder: Encoder) -> None:
        vectors = check_vectors(encoder.encode(TEXTS), encoder, range(len(TEXTS)))
        assert vectors.shape == (len(TEXTS), encoder.dimensions) and vectors.dtype == np.float32

    def test_no_texts_are_no_rows(self, encoder: Encoder) -> None:
        assert check_vectors(encoder.encode([]), encoder, []).shape == (0, encoder.dimensions)

    def test_a_text_becomes_the_same_bits_whatever_is_beside_it(self, encoder: Encoder) -> None:
        together = np.asarray(encoder.encode(TEXTS))
        assert np.array_equal(together, np.concatenate([encoder.encode([text]) for text in TEXTS]))
        assert np.array_equal(together[::-1], encoder.encode(TEXTS[::-1]))

    def test_its_identity_says_its_name_version_and_width_and_stays(self, encoder: Encoder) -> None:
        identity = identity_of(encoder)
        assert (identity.name, identity.version, identity.dimensions) == (
            encoder.name,
            encoder.version,
            encoder.dimensions,
        )
        encoder.encode(["warm"])
        assert identity_of(encoder) == identity and len(identity.digest) == 64

    def test_vectors_of_a_normalised_encoder_have_unit_length(self, encoder: Encoder) -> None:
        if identity_of(encoder).normalised:
            assert np.allclose(np.linalg.norm(encoder.encode(TEXTS), axis=1), 1, atol=1e-5)
