import numpy as np
import pytest

from jammi_lab.core.errors import InvalidArgument, ModelNotFound
from jammi_lab.features.vectors.encoders.adapters import to_encoder
from jammi_lab.features.vectors.encoders.hashing import Hashing
from jammi_lab.features.vectors.encoders.minilm import MiniLM
from tests.inside import services_of


def make(name="mine", version="1", dimensions=2):
    return to_encoder(
        lambda texts: np.ones((len(texts), dimensions)),
        name=name,
        version=version,
        dimensions=dimensions,
    )


def test_the_names_of_jammi_lab_are_always_there(ws):
    get = services_of(ws).encoders.get
    assert isinstance(get("minilm"), MiniLM) and isinstance(get("HASHING"), Hashing)


def test_a_name_means_the_encoder_held_last_and_a_version_the_one_it_says(ws):
    encoders = services_of(ws).encoders
    first, second = encoders.keep(make(version="1")), encoders.keep(make(version="2"))
    assert (
        encoders.get("Mine") is second
        and encoders.get("mine", "1") is first
        and "mine" in encoders.names()
    )


def test_a_name_and_version_cannot_stand_for_other_weights(ws):
    encoders = services_of(ws).encoders
    encoders.keep(make())
    with pytest.raises(InvalidArgument, match="other weights"):
        encoders.keep(make(dimensions=3))


def test_holding_the_same_identity_again_takes_the_newer_object(ws):
    encoders = services_of(ws).encoders
    encoders.keep(make())
    newer = encoders.keep(make())
    assert encoders.get("mine") is newer


def test_nobody_takes_the_name_of_an_encoder_of_jammi_lab(ws):
    with pytest.raises(InvalidArgument, match="built-in"):
        services_of(ws).encoders.keep(make(name="MiniLM"))


def test_the_lexical_encoder_may_come_in_another_width(ws):
    assert services_of(ws).encoders.resolve(Hashing(64))[0].dimensions == 64


def test_an_unknown_name_has_near_ones(ws):
    with pytest.raises(ModelNotFound) as caught:
        services_of(ws).encoders.get("minilmm")
    assert "minilm" in caught.value.near and isinstance(caught.value, KeyError)


@pytest.mark.parametrize("name", ["mine", "minilm"])
def test_an_unknown_version_names_those_that_are_here(ws, name):
    encoders = services_of(ws).encoders
    encoders.keep(make())
    with pytest.raises(ModelNotFound) as caught:
        encoders.get(name, "9")
    assert caught.value.near == ("1",)
