"""Forward pass of a small BERT in plain numpy: token ids → one float32 unit vector per text.

Texts of all lengths go through the dense layers as one tall matrix of tokens; only attention is
computed separately, for all texts of one length together. So nothing is masked, and the vector of a
text does not depend on the other texts: rows are padded to a multiple of `TILE_ROWS`, from where on
BLAS sums a row in the same order whatever the number of rows. With most BLAS kernels the row's
position does not matter either. Where it does (OpenBLAS for AVX2 splits twelve rows into two blocks
of six), every text starts where such a block starts.

Method: Devlin et al. 2018 (BERT); mean pooling over all tokens, Reimers and Gurevych 2019.
"""

import functools
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
_MAX_SCORES_SIZE = 1 << 17
"""Attention scores computed at a time, to stay in the cache; those of one text at least."""
_EPSILON = np.float32(1e-12)
_P = tuple(
    map(
        np.float32,
        (
            1.8056176636776582e-09,
            -1.3344646544952953e-07,
            3.969110371056999e-06,
            -5.5240165170992036e-05,
            -3.312997136188333e-05,
            0.03633428348465973,
            0.7978842161249594,
        ),
    )
)
"""Coefficients of p in atanh(2Φ(x) − 1) = x·p(x²), fitted so that the error of x·Φ(x) is below 6e-7
in float32 everywhere. The highest is positive, so large x saturate tanh."""
_ONE = np.float32(1)


@dataclass(frozen=True, slots=True)
class Layer:
    """Weights of one layer; matrices are (in, out)."""

    qkv: Linear
    """Queries, keys and values side by side; the bias is that of the queries."""
    attention: Linear
    attention_norm: Linear
    up: Linear
    down: Linear
    """Divided by two, for `gelu`."""
    down_norm: Linear


@dataclass(frozen=True, slots=True)
class TextGroup:
    """The texts of one length, as they lie in the tall matrix."""

    ids: NDArray[np.intp]
    """(texts, tokens): token ids."""
    start: int
    """The first row."""
    stride: int
    """Rows from the start of one text to the next."""

    @property
    def end(self) -> int:
        """The row after the last one."""
        return self.start + len(self.ids) * self.stride

    def part_of(self, matrix: Floats) -> Floats:
        """The group's part of a matrix: (texts, tokens, columns)."""
        count, size = self.ids.shape
        return matrix[self.start : self.end].reshape(count, self.stride, -1)[:, :size]


class Transformer:
    """A loaded model. `weights`: arrays by their names in a BERT checkpoint, used in place where
    possible."""

    def __init__(self, weights: Mapping[str, Floats], *, layers: int, heads: int) -> None:
        self.heads = heads
        self.word_embeddings = weights["embeddings.word_embeddings.weight"]
        # position and segment embeddings always occur together, and there is one segment
        self.position_embeddings = (
            weights["embeddings.position_embeddings.weight"]
            + weights["embeddings.token_type_embeddings.weight"][0]
        )
        self.first_norm = _weight_and_bias(weights, "embeddings.LayerNorm")
        self.layers = [_prepare_layer(weights, f"encoder.layer.{i}.", heads) for i in range(layers)]

    @functools.cached_property
    def _text_alignment(self) -> int:
        """The multiple of rows at which texts must start."""
        # measured here, not on loading: BLAS must have the settings with which it will run
        first = self.layers[0]
        products = first.qkv, first.attention, first.up, first.down
        return max(_find_alignment(matrix) for matrix, _ in products)

    def encode(self, texts: Sequence[Sequence[int]]) -> Floats:
        """(texts, dimensions) float32 of unit length. `texts`: the token ids of each text, by
        ascending length, none empty."""
        groups, end = list[TextGroup](), 0
        for size, group_texts in itertools.groupby(texts, len):
            stride = _round_up(size, self._text_alignment)
            group = TextGroup(np.array(list(group_texts), np.intp), end, stride)
            groups.append(group)
            end = group.end
        h = np.zeros((_round_up(end, TILE_ROWS), self.word_embeddings.shape[1]), np.float32)
        for group in groups:
            positions = self.position_embeddings[: group.ids.shape[1]]
            group.part_of(h)[...] = self.word_embeddings[group.ids] + positions
        _layer_norm(h, self.first_norm)
        for layer in self.layers:
            self._run_layer(h, layer, groups)
        pooled: Floats = np.concatenate([group.part_of(h).mean(1) for group in groups])
        pooled /= np.sqrt(np.square(pooled).sum(1, keepdims=True))
        return pooled

    def _run_layer(self, h: Floats, layer: Layer, groups: Sequence[TextGroup]) -> None:
        """Run one layer, in place."""
        qkv = h @ layer.qkv[0]
        qkv[:, : h.shape[1]] += layer.qkv[1]
        attended = np.zeros_like(h)
        for group in groups:
            self._attend(group.part_of(qkv), group.part_of(attended))
        _add_and_norm(h, attended, layer.attention, layer.attention_norm)
        wide = h @ layer.up[0]
        gelu(wide, layer.up[1])
        _add_and_norm(h, wide, layer.down, layer.down_norm)

    def _attend(self, qkv: Floats, out: Floats) -> None:
        """Softmax attention; both arrays are (texts, tokens, …)."""
        count, size, _ = qkv.shape
        q, k, v = qkv.reshape(count, size, 3, self.heads, -1).transpose(2, 0, 3, 1, 4)
        output_heads = out.reshape(count, size, self.heads, -1).transpose(0, 2, 1, 3)
        step = max(1, _MAX_SCORES_SIZE // (self.heads * size * size))
        for start in range(0, count, step):
            texts = slice(start, start + step)
            # BLAS takes twice as long for a product with a transposed view
            scores = q[texts] @ np.ascontiguousarray(k[texts].transpose(0, 1, 3, 2))
            scores -= scores.max(-1, keepdims=True)
            np.exp(scores, out=scores)
            # dividing the weighted values instead of the weights takes fewer operations
            weighted = scores @ v[texts]
            weighted /= scores.sum(-1, keepdims=True)
            output_heads[texts] = weighted


def _round_up(count: int, multiple: int) -> int:
    return -(-count // multiple) * multiple


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


def _linear(weights: Mapping[str, Floats], name: str) -> Linear:
    weight, bias = _weight_and_bias(weights, name)
    return np.ascontiguousarray(weight.T), bias


def _prepare_layer(weights: Mapping[str, Floats], prefix: str, heads: int) -> Layer:
    """Weights of one layer in the form used here: (in, out), with constant factors and biases moved
    to where they cost nothing."""
    (query, query_bias), (key, _), (value, value_bias) = (
        _linear(weights, f"{prefix}attention.self.{n}") for n in ("query", "key", "value")
    )
    scale = np.float32(1 / math.sqrt(query.shape[1] // heads))
    attention, attention_bias = _linear(weights, prefix + "attention.output.dense")
    down, down_bias = _linear(weights, prefix + "output.dense")
    return Layer(
        # the bias of the keys cancels in the softmax
        qkv=(np.concatenate([query * scale, key, value], axis=1), query_bias * scale),
        # a softmax sums to 1, so the bias of the values passes through it
        attention=(attention, attention_bias + value_bias @ attention),
        attention_norm=_weight_and_bias(weights, prefix + "attention.output.LayerNorm"),
        up=_linear(weights, prefix + "intermediate.dense"),
        down=(down * np.float32(0.5), down_bias),
        down_norm=_weight_and_bias(weights, prefix + "output.LayerNorm"),
    )


def _add_and_norm(h: Floats, x: Floats, linear: Linear, norm: Linear) -> None:
    """Set `h` to the LayerNorm of its sum with the dense layer of `x`."""
    dense = x @ linear[0]
    for start in range(0, len(h), _NORM_CHUNK_ROWS):
        chunk, part = h[start : start + _NORM_CHUNK_ROWS], dense[start : start + _NORM_CHUNK_ROWS]
        part += linear[1]
        chunk += part
        _layer_norm(chunk, norm)


def _layer_norm(x: Floats, norm: Linear) -> None:
    """LayerNorm over the last axis, in place."""
    mean_weights = np.full(x.shape[1], 1 / x.shape[1], np.float32)
    x -= np.vecdot(x, mean_weights)[:, None]
    variance = np.vecdot(x, x) * mean_weights[0]
    x *= np.reciprocal(np.sqrt(variance + _EPSILON))[:, None]
    x *= norm[0]
    x += norm[1]


def gelu(x: Floats, bias: Floats) -> None:
    """Set `x` to 2·y·Φ(y) with y = `x` + `bias`; the factor is compensated in the weights that
    follow."""
    square, y = np.empty((2, _GELU_CHUNK_ROWS, x.shape[1]), np.float32)
    for start in range(0, len(x), _GELU_CHUNK_ROWS):
        chunk = x[start : start + _GELU_CHUNK_ROWS]
        square, y = square[: len(chunk)], y[: len(chunk)]
        chunk += bias
        np.square(chunk, out=square)
        np.multiply(square, _P[0], out=y)
        for coefficient in _P[1:-1]:
            y += coefficient
            y *= square
        y += _P[-1]
        y *= chunk
        np.tanh(y, out=y)
        y += _ONE
        chunk *= y
