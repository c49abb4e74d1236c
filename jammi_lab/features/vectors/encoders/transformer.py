"""Forward pass of a small BERT in plain numpy: token ids → one float32 unit vector per text.

Texts of all lengths go through the dense layers as one tall matrix of tokens; only attention is
computed separately, for all texts of one length together. So nothing is masked, and the vector of a
text does not depend on the other texts: rows are padded to a multiple of `TILE_ROWS`, from where on
BLAS sums a row in the same order whatever the number of rows. With most BLAS kernels the row's
position does not matter either. Where it does (OpenBLAS for AVX2 splits twelve rows into two blocks
of six), every text starts where such a block starts.

Method: Devlin et al. 2018 (BERT); mean pooling over all tokens, Reimers and Gurevych 2019.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Linear = tuple[Floats, Floats]

TILE_ROWS = 48
"""The number of rows of a product is a multiple of this: whole tiles of every common BLAS
kernel."""
_START_MULTIPLES = (1, 4, 6, 8, 12, 16, 24, 48)
"""Candidates for the multiple of rows at which a text may start; the first sufficient one is
used."""
_GELU_CHUNK_ROWS, _NORM_CHUNK_ROWS = 32, 96
"""Rows per step of GELU and LayerNorm, so that they and their temporaries stay in a core's
cache."""
MAX_SCORES_SIZE = 1 << 17
"""Attention scores computed at a time, to stay in the cache; those of one text at least."""
_MIN_TRANSPOSE_LENGTH = 24
"""Text length in tokens from which on the keys are transposed before the product; without that,
BLAS takes twice as long."""
_MAX_SAFE_SCORE = 60.0
"""Scores within ±60 need no shift before `exp`: sums of 256 of them neither over- nor underflow."""
_EPSILON = np.float32(1e-12)
# atanh(2Φ(x) − 1) = x·p(x²), with p fitted so that the error of x·Φ(x) is below 6e-7 in float32
# everywhere. The highest coefficient is positive, so large x saturate tanh.
_P = (
    1.8056176636776582e-09,
    -1.3344646544952953e-07,
    3.969110371056999e-06,
    -5.5240165170992036e-05,
    -3.312997136188333e-05,
    0.03633428348465973,
    0.7978842161249594,
)
# With λ·x in place of x, where λ¹³ is the highest coefficient, that coefficient becomes 1, which
# saves one product.
SCALE = _P[0] ** (1 / 13)
_Q = tuple(np.float32(c / SCALE ** (13 - 2 * i)) for i, c in enumerate(_P))[1:]
_ONE = np.float32(1)


@dataclass(frozen=True, slots=True)
class Layer:
    """Weights of one layer; matrices are (in, out)."""

    qkv: Linear
    """Queries, keys and values side by side; the bias is that of the queries."""
    attention: Linear
    attention_norm: Linear
    up: Linear
    """Scaled by `SCALE`; the bias repeated `_ROWS` times, because adding arrays of equal shape is
    faster."""
    down: Linear
    """Divided by twice that scale."""
    down_norm: Linear


@dataclass(frozen=True, slots=True)
class TextGroup:
    """The texts of one length, as they lie in the tall matrix."""

    start: int
    count: int
    size: int
    """Tokens per text."""
    stride: int
    """Rows from the start of one text to the next."""

    @property
    def rows(self) -> int:
        """Rows of all texts of the group."""
        return self.count * self.stride

    def part_of(self, matrix: Floats) -> Floats:
        """The group's part of a matrix: (texts, tokens, columns)."""
        return matrix[self.start : self.start + self.rows].reshape(self.count, self.stride, -1)[
            :, : self.size
        ]


class ScratchMemory:
    """Working memory for intermediate results, reused between calls: to allocate it each time takes
    a few percent of the time.

    For one call at a time; about 10 KB per token of the largest call.
    """

    def __init__(self) -> None:
        self._buffers: dict[str, Floats] = {}

    def array(self, name: str, rows: int, width: int) -> Floats:
        """An uninitialised array (rows, width)."""
        buffer = self._buffers.get(name)
        if buffer is None or buffer.size < rows * width:
            buffer = self._buffers[name] = np.empty(rows * width, np.float32)
        return buffer[: rows * width].reshape(rows, width)


class Transformer:
    """A loaded model. `weights`: arrays by their names in a BERT checkpoint, used in place where
    possible."""

    def __init__(self, weights: Mapping[str, Floats], *, layers: int, heads: int) -> None:
        self.heads = heads
        self.word_embeddings = weights["embeddings.word_embeddings.weight"]
        self.dimensions = self.word_embeddings.shape[1]
        # position and segment embeddings always occur together, and there is one segment
        self.position_embeddings = (
            weights["embeddings.position_embeddings.weight"]
            + weights["embeddings.token_type_embeddings.weight"][0]
        )
        self.first_norm = _weight_and_bias(weights, "embeddings.LayerNorm")
        self.layers = [_prepare_layer(weights, f"encoder.layer.{i}.", heads) for i in range(layers)]
        self._start_multiple: int | None = None

    def _text_alignment(self) -> int:
        """The multiple of rows at which texts must start."""
        # measured here, not on loading: BLAS must have the settings with which it will run
        if self._start_multiple is None:
            first = self.layers[0]
            self._start_multiple = max(
                (_find_alignment(m[0]) for m in (first.qkv, first.attention, first.up, first.down)),
                default=1,
            )
        return self._start_multiple

    def encode(
        self, texts: Sequence[Sequence[int]], scratch: ScratchMemory | None = None
    ) -> Floats:
        """(texts, dimensions) float32 of unit length. `texts`: the token ids of each text, by
        ascending length, none empty."""
        memory = ScratchMemory() if scratch is None else scratch
        alignment = self._text_alignment()
        groups, start = [], 0
        for size, group_texts in itertools.groupby(texts, len):
            group = TextGroup(
                start, sum(1 for _ in group_texts), size, -(-size // alignment) * alignment
            )
            groups.append(group)
            start += group.rows
        h = self._embed(texts, groups, memory)
        for layer in self.layers:
            self._run_layer(h, layer, groups, memory)
        pooled: Floats = np.concatenate([group.part_of(h).mean(1) for group in groups])
        pooled /= np.sqrt(np.square(pooled).sum(1, keepdims=True))
        return pooled

    def _embed(
        self, texts: Sequence[Sequence[int]], groups: Sequence[TextGroup], memory: ScratchMemory
    ) -> Floats:
        """The embedding layer: (tokens padded to whole tiles, dimensions)."""
        h = memory.array(
            "h", -(-(groups[-1].start + groups[-1].rows) // TILE_ROWS) * TILE_ROWS, self.dimensions
        )
        h[groups[-1].start + groups[-1].rows :] = 0
        ids = iter(texts)
        for group in groups:
            if group.stride > group.size:
                h[group.start : group.start + group.rows] = 0
            group_rows = group.part_of(h)
            group_rows[...] = self.word_embeddings[
                np.array(list(itertools.islice(ids, group.count)), np.intp)
            ]
            group_rows += self.position_embeddings[: group.size]
        _layer_norm(h, self.first_norm)
        return h

    def _run_layer(
        self, h: Floats, layer: Layer, groups: Sequence[TextGroup], memory: ScratchMemory
    ) -> None:
        """Run one layer, in place."""
        rows, width = h.shape
        inner = layer.up[0].shape[1]
        # attention is finished before `wide` is written, so both share memory, which keeps more of
        # it in the cache
        shared = memory.array("wide", rows, max(inner, 4 * width)).reshape(-1)
        attended = shared[: rows * width].reshape(rows, -1)
        qkv = shared[rows * width : 4 * rows * width].reshape(rows, -1)
        wide = shared[: rows * inner].reshape(rows, -1)
        np.matmul(h, layer.qkv[0], out=qkv)
        attended[groups[-1].start + groups[-1].rows :] = 0
        for group in groups:
            if group.stride > group.size:
                attended[group.start : group.start + group.rows] = 0
            self._attend(group.part_of(qkv), layer.qkv[1], group.part_of(attended), memory)
        dense = memory.array("dense", rows, width)
        _add_and_norm(
            h,
            np.matmul(attended, layer.attention[0], out=dense),
            layer.attention[1],
            layer.attention_norm,
        )
        np.matmul(h, layer.up[0], out=wide)
        square = memory.array("square", _GELU_CHUNK_ROWS, inner)
        y = memory.array("y", _GELU_CHUNK_ROWS, inner)
        for start in range(0, rows, _GELU_CHUNK_ROWS):
            chunk = wide[start : start + _GELU_CHUNK_ROWS]
            chunk += layer.up[1][: len(chunk)]
            gelu(chunk, square[: len(chunk)], y[: len(chunk)])
        _add_and_norm(h, np.matmul(wide, layer.down[0], out=dense), layer.down[1], layer.down_norm)

    def _attend(self, qkv: Floats, bias: Floats, out: Floats, memory: ScratchMemory) -> None:
        """Softmax attention; both arrays are (texts, tokens, …). The result for a text does not
        depend on the other texts.

        Of the three biases, that of the keys cancels in the softmax, that of the values is part of
        the following layer, and `bias` is that of the queries.
        """
        n, t, _ = qkv.shape
        heads, width = self.heads, self.dimensions // self.heads
        q, k, v = qkv.reshape(n, t, 3, heads, width).transpose(2, 0, 3, 1, 4)
        output_heads = out.reshape(n, t, heads, width)
        ones = np.ones((t, 1), np.float32)
        max_text_heads = max(1, MAX_SCORES_SIZE // (t * t))
        text_step, head_step = max(1, max_text_heads // heads), min(max_text_heads, heads)
        for start, head in itertools.product(range(0, n, text_step), range(0, heads, head_step)):
            selection = np.s_[start : start + text_step, head : head + head_step]
            if head == 0:
                qkv[start : start + text_step, :, : self.dimensions] += bias
            scores = memory.array("scores", text_step * head_step * t, t).reshape(
                text_step, head_step, t, t
            )[: n - start, : heads - head]
            keys = k[selection].transpose(0, 1, 3, 2)
            if t >= _MIN_TRANSPOSE_LENGTH:
                transposed = memory.array("turned", text_step * head_step * width, t).reshape(
                    text_step, head_step, width, t
                )[: n - start, : heads - head]
                np.copyto(transposed, keys)
                keys = transposed
            np.matmul(q[selection], keys, out=scores)
            if not (scores.min() > -_MAX_SAFE_SCORE and scores.max() < _MAX_SAFE_SCORE):
                is_safe = (scores.max((1, 2, 3)) < _MAX_SAFE_SCORE) & (
                    scores.min((1, 2, 3)) > -_MAX_SAFE_SCORE
                )
                for text in np.flatnonzero(~is_safe):
                    scores[text] -= scores[text].max(-1, keepdims=True)
            np.exp(scores, out=scores)
            # dividing the weighted values instead of the weights takes fewer operations
            weighted = memory.array("weighed", text_step * head_step * t, width).reshape(
                text_step, head_step, t, width
            )[: n - start, : heads - head]
            np.matmul(scores, v[selection], out=weighted)
            np.divide(
                weighted.transpose(0, 2, 1, 3),
                (scores @ ones).transpose(0, 2, 1, 3),
                out=output_heads[start : start + text_step, :, head : head + head_step],
            )


def _find_alignment(matrix: Floats) -> int:
    """The smallest of `_START_MULTIPLES` at whose multiples a row's product has the same bits; the
    last one when none suffices."""
    row = np.random.default_rng(0).standard_normal((1, matrix.shape[0]), np.float32)
    products = np.tile(row, (4 * TILE_ROWS, 1)) @ matrix
    is_same = (products == products[0]).all(1)
    return next(
        (multiple for multiple in _START_MULTIPLES if is_same[::multiple].all()),
        _START_MULTIPLES[-1],
    )


def _weight_and_bias(weights: Mapping[str, Floats], name: str) -> Linear:
    return weights[name + ".weight"], weights[name + ".bias"]


def _prepare_layer(weights: Mapping[str, Floats], prefix: str, heads: int) -> Layer:
    """Weights of one layer in the form used here: (in, out), with constant factors and biases moved
    to where they cost nothing."""
    (query, query_bias), (key, _), (value, value_bias) = (
        _weight_and_bias(weights, f"{prefix}attention.self.{n}") for n in ("query", "key", "value")
    )
    scale = np.float32(1 / math.sqrt(query.shape[0] // heads))
    attention, attention_bias = _weight_and_bias(weights, prefix + "attention.output.dense")
    up, up_bias = _weight_and_bias(weights, prefix + "intermediate.dense")
    down, down_bias = _weight_and_bias(weights, prefix + "output.dense")
    return Layer(
        qkv=(
            np.ascontiguousarray(np.concatenate([query * scale, key, value]).T),
            query_bias * scale,
        ),
        # a softmax sums to 1, so the bias of the values passes through it
        attention=(np.ascontiguousarray(attention.T), attention_bias + attention @ value_bias),
        attention_norm=_weight_and_bias(weights, prefix + "attention.output.LayerNorm"),
        up=(
            np.ascontiguousarray(up.T) * np.float32(SCALE),
            np.tile(up_bias * np.float32(SCALE), (_GELU_CHUNK_ROWS, 1)),
        ),
        down=(np.ascontiguousarray(down.T) * np.float32(0.5 / SCALE), down_bias),
        down_norm=_weight_and_bias(weights, prefix + "output.LayerNorm"),
    )


def _add_and_norm(h: Floats, dense: Floats, bias: Floats, norm: Linear) -> None:
    """Set `h` to the LayerNorm of the residual sum; overwrites `dense`."""
    for start in range(0, len(h), _NORM_CHUNK_ROWS):
        chunk, part = h[start : start + _NORM_CHUNK_ROWS], dense[start : start + _NORM_CHUNK_ROWS]
        part += bias
        chunk += part
        _layer_norm(chunk, norm)


def _layer_norm(x: Floats, norm: Linear) -> None:
    """LayerNorm over the last axis, in place."""
    mean_weights = np.full(x.shape[1], 1 / x.shape[1], np.float32)
    x -= np.vecdot(x, mean_weights)[:, None]
    variance = np.vecdot(x, x)
    variance *= mean_weights[0]
    variance += _EPSILON
    x *= np.reciprocal(np.sqrt(variance, out=variance), out=variance)[:, None]
    x *= norm[0]
    x += norm[1]


def gelu(x: Floats, square: Floats, y: Floats) -> None:
    """Compute 2·`SCALE`·x·Φ(x) from `SCALE`·x, in place; the factor is compensated in the weights
    that follow. `square`, `y`: working memory of the same shape."""
    np.square(x, out=square)
    np.add(square, _Q[0], out=y)
    for c in _Q[1:]:
        y *= square
        y += c
    y *= x
    np.tanh(y, out=y)
    y += _ONE
    x *= y
