import functools

import numpy as np
import pytest

from jammi_lab.core.errors import InvalidArgument, SchemaMismatch
from jammi_lab.features.vectors.encoders.adapters import to_encoder
from jammi_lab.features.vectors.encoders.base import identity_of
from jammi_lab.features.vectors.encoders.hashing import Hashing
from tests.contracts.encoder import EncoderSuite


def by_length(texts):
    return np.array([[1, len(t)] for t in texts], np.float32).reshape(-1, 2)


class Tensor:
    """What a torch tensor shows of itself."""

    def __init__(self, values, dtype="float32"):
        self.values, self.dtype = np.asarray(values, np.float32), dtype

    def detach(self):
        return self

    def cpu(self):
        return self

    def float(self):
        return self.values

    def __array__(self, dtype=None, copy=None):
        if self.dtype == "bfloat16":
            raise TypeError("Got unsupported ScalarType BFloat16")
        return self.values


class Pooling:
    def __init__(self, mode):
        self.mode = mode

    def get_config_dict(self):
        return {"pooling_mode": self.mode}


class SentenceModel:
    """What a sentence-transformers model shows of itself."""

    max_seq_length = 128

    def __init__(self, dtype="float32"):
        self.weight, self.kind, self.modules = 1.0, dtype, [Pooling("mean")]
        self.asked = {}

    def __iter__(self):
        return iter(self.modules)

    def state_dict(self):
        return {"w": Tensor([[self.weight, 2]], self.kind)}

    def get_sentence_embedding_dimension(self):
        return 2

    def encode(self, texts, **options):
        self.asked = options
        return by_length(texts) * self.weight


class TestFunction(EncoderSuite):
    @pytest.fixture
    def encoder(self):
        return to_encoder(by_length, name="by length", version="1")


class TestSentenceTransformer(EncoderSuite):
    @pytest.fixture
    def encoder(self):
        return to_encoder(SentenceModel())


def test_an_object_of_the_protocol_stays_itself():
    encoder = Hashing()
    assert to_encoder(encoder) is encoder


def test_a_given_name_and_version_win_and_the_rest_of_the_identity_stays():
    identity = identity_of(to_encoder(Hashing(), name="mine", version="7"))
    assert (identity.name, identity.version, identity.pooling) == (
        "mine",
        "7",
        Hashing().identity.pooling,
    )


@pytest.mark.parametrize("given", [{}, {"name": "f"}, {"version": "1"}])
def test_a_function_must_bring_name_and_version(given):
    with pytest.raises(InvalidArgument, match="has no"):
        to_encoder(by_length, **given)


def test_a_function_may_bring_them_as_attributes():
    function = functools.partial(by_length)
    function.name, function.version = "partial", "3"
    encoder = to_encoder(function)
    assert (encoder.name, encoder.version, encoder.dimensions) == ("partial", "3", 2)


def test_a_given_width_is_not_probed():
    encoder = to_encoder(lambda texts: pytest.fail("called"), name="f", version="1", dimensions=5)
    assert encoder.dimensions == 5


def test_a_function_that_fails_when_probed_is_the_cause():
    error = RuntimeError("no")

    def fail(texts):
        raise error

    with pytest.raises(SchemaMismatch) as caught:
        to_encoder(fail, name="f", version="1")
    assert caught.value.__cause__ is error


def test_a_function_that_gives_no_matrix_is_refused():
    with pytest.raises(SchemaMismatch, match="shape"):
        to_encoder(lambda texts: np.ones(3), name="f", version="1")


@pytest.mark.parametrize("obj", [3, None, {"encode": by_length}])
def test_what_is_no_encoder_says_what_would_be_one(obj):
    with pytest.raises(InvalidArgument, match="not an encoder"):
        to_encoder(obj)


def test_a_sentence_transformer_is_asked_for_an_array_without_progress():
    model = SentenceModel()
    to_encoder(model).encode(["a"])
    assert model.asked == {"convert_to_numpy": True, "show_progress_bar": False}


def test_another_precision_is_another_identity():
    small, plain = (to_encoder(SentenceModel(kind)) for kind in ("bfloat16", "float32"))
    assert identity_of(small) != identity_of(plain)


def test_a_model_that_is_trained_on_is_another_one():
    model = SentenceModel()
    encoder = to_encoder(to_encoder(model), name="mine")
    before = identity_of(encoder)
    model.weight = 2.0
    trained = identity_of(encoder)
    model.max_seq_length = 64
    cut = identity_of(encoder)
    model.modules[0].mode = "max"
    assert len({before.digest, trained.digest, cut.digest, identity_of(encoder).digest}) == 4
    model.weight, model.max_seq_length, model.modules[0].mode = 1.0, 128, "mean"
    assert identity_of(encoder) == before and encoder.version == before.version


class Counted(Tensor):
    """A tensor that tells where it lies and how often it was written to, as torch's do."""

    shape, _version, read = (1,), 0, 0

    def data_ptr(self):
        return id(self.values)

    def __array__(self, dtype=None, copy=None):
        self.read += 1
        return self.values


def test_weights_that_were_not_written_to_are_not_digested_again():
    model, tensor = SentenceModel(), Counted([1.0])
    model.state_dict = lambda: {"w": tensor}
    encoder = to_encoder(model)
    before = [identity_of(encoder) for _ in range(3)]
    assert tensor.read == 1
    tensor.values[0], tensor._version = 2, 1
    assert identity_of(encoder) != before[0] == before[2]


def test_a_model_without_weights_needs_a_version():
    model = SentenceModel()
    model.state_dict = None
    with pytest.raises(InvalidArgument, match="has no weights"):
        to_encoder(model)
    assert to_encoder(model, name="m", version="1").version == "1"
