import numpy as np
import pytest

from jammi_lab.core.errors import InvalidArgument, SchemaMismatch
from jammi_lab.features.vectors.encoders.base import (
    EncoderIdentity,
    check_encoder,
    check_vectors,
    identity_of,
)


class Toy:
    name, version, dimensions = "toy", "1", 3

    def encode(self, texts):
        return np.ones((len(texts), 3), np.float32)


KEYS = ["a", "b", "c"]


@pytest.mark.parametrize(
    "made",
    [
        np.ones((3, 3), np.float64),
        np.ones((3, 3), np.float16),
        np.ones((3, 3), int),
        [[1, 2, 3]] * 3,
    ],
)
def test_numbers_of_any_type_become_float32(made):
    vectors = check_vectors(made, Toy(), KEYS)
    assert vectors.dtype == np.float32 and vectors.flags.c_contiguous


@pytest.mark.parametrize("bad", [0.0, -0.0, 1e-60])
def test_a_row_of_zeros_names_the_key(bad):
    made = np.ones((3, 3))
    made[2] = bad
    with pytest.raises(SchemaMismatch, match="zeros, first for key 'c'"):
        check_vectors(made, Toy(), KEYS)


@pytest.mark.parametrize(
    "change",
    [
        {"name": ""},
        {"name": 3},
        {"name": "a::b"},
        {"version": None},
        {"version": 2},
        {"dimensions": 0},
        {"dimensions": True},
        {"encode": 3},
    ],
)
def test_an_unsound_encoder_is_refused(change):
    with pytest.raises(InvalidArgument):
        check_encoder(type("Odd", (Toy,), change)())


def test_an_encoder_without_an_identity_is_known_by_name_version_and_width():
    assert identity_of(Toy()) == EncoderIdentity(name="toy", version="1", dimensions=3)


@pytest.mark.parametrize(
    "change",
    [
        {"weights": "0"},
        {"revision": "2"},
        {"max_tokens": 3},
        {"pooling": "cls"},
        {"settings": {"prompt": "x"}},
        {"normalised": True},
    ],
)
def test_whatever_shapes_vectors_changes_the_digest(change):
    plain = EncoderIdentity(name="toy", version="1", dimensions=3)
    assert EncoderIdentity(name="toy", version="1", dimensions=3, **change).digest != plain.digest
