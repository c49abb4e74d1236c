import numpy as np
import pytest

from jammi_lab.embedders.adapters import as_encoder
from jammi_lab.embedders.hashing import Hashing
from jammi_lab.embedders.minilm import MiniLM
from jammi_lab.embedders.registry import Encoders
from jammi_lab.errors import InvalidArgument, ModelNotFound


def make(name="mine", version="1", dimensions=2):
    return as_encoder(lambda texts: np.ones((len(texts), dimensions)), name=name, version=version, dimensions=dimensions)


def test_the_names_of_jammi_lab_are_always_there():
    assert isinstance(Encoders().get("minilm"), MiniLM) and isinstance(Encoders().get("HASHING"), Hashing)


def test_a_name_means_the_encoder_held_last_and_a_version_the_one_it_says():
    encoders = Encoders()
    first, second = encoders.hold(make(version="1")), encoders.hold(make(version="2"))
    assert encoders.get("Mine") is second and encoders.get("mine", "1") is first and "mine" in encoders.names()


def test_a_name_and_version_cannot_stand_for_other_weights():
    encoders = Encoders()
    encoders.hold(make())
    with pytest.raises(InvalidArgument, match="other weights"):
        encoders.hold(make(dimensions=3))


def test_holding_the_same_identity_again_takes_the_newer_object():
    encoders = Encoders()
    encoders.hold(make())
    newer = encoders.hold(make())
    assert encoders.get("mine") is newer


def test_nobody_takes_the_name_of_an_encoder_of_jammi_lab():
    with pytest.raises(InvalidArgument, match="jammi_lab"):
        Encoders().hold(make(name="MiniLM"))


def test_the_lexical_encoder_may_come_in_another_width():
    assert Encoders().resolve(Hashing(64)).dimensions == 64


def test_an_unknown_name_has_near_ones():
    with pytest.raises(ModelNotFound) as caught:
        Encoders().get("minilmm")
    assert "minilm" in caught.value.near and isinstance(caught.value, KeyError)


@pytest.mark.parametrize("name", ["mine", "minilm"])
def test_an_unknown_version_names_those_that_are_here(name):
    encoders = Encoders()
    encoders.hold(make())
    with pytest.raises(ModelNotFound) as caught:
        encoders.get(name, "9")
    assert caught.value.near == ("1",)


def test_an_object_is_held_when_it_is_resolved():
    encoders = Encoders()
    encoder = make()
    assert encoders.resolve(encoder) is encoder and encoders.resolve("mine") is encoder
