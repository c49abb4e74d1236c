"""The forward pass of a small BERT in plain numpy: token ids → one unit vector for each text, float32.

Texts of all lengths go through the dense layers as one tall matrix of tokens; only attention is done apart, for the texts of one length
together. So nothing is masked, and what a text becomes does not depend on the texts beside it: rows are filled up to a multiple of `TILE`,
past which BLAS adds up a row in the same order whatever the number of rows. Most kernels of BLAS do so whatever the row's place, too; where one
does not (OpenBLAS for AVX2 takes twelve rows as two times six), every text begins where such a block begins.

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

TILE = 48
"""Rows of a product come in such multiples: whole tiles of every BLAS kernel in use."""
_PLACES = (1, 4, 6, 8, 12, 16, 24, 48)
"""Where a text may begin; the first that is enough is taken."""
_ROWS, _NORM_ROWS = 32, 96
"""Rows that GELU and LayerNorm take at a time: they and their temporaries stay in the cache of a core."""
_SCORES = 1 << 17
"""Scores of attention that are computed at a time, for the same reason; those of one text at least."""
_TURNED = 24
"""Tokens of a text from which on its keys are turned round before they are multiplied: BLAS takes twice as long with them as they lie."""
_CALM = 60.0
"""Scores between −60 and 60 need no shift before `exp`: sums of 256 of them neither over- nor underflow."""
_EPSILON = np.float32(1e-12)
# atanh(2Φ(x) − 1) = x·p(x²), p fitted so that x·Φ(x) is off by less than 6e-7 in float32 anywhere; the highest coefficient is positive, so
# large x run into the flat ends of tanh.
_P = (1.8056176636776582e-09, -1.3344646544952953e-07, 3.969110371056999e-06, -5.5240165170992036e-05, -3.312997136188333e-05,
      0.03633428348465973, 0.7978842161249594)  # fmt: skip
# With λ·x in the place of x, λ¹³ being the highest coefficient, that coefficient is 1, and one product less is to be computed.
_SCALE = _P[0] ** (1 / 13)
_Q = tuple(np.float32(c / _SCALE ** (13 - 2 * i)) for i, c in enumerate(_P))[1:]
_ONE = np.float32(1)


@dataclass(frozen=True, slots=True)
class Layer:
    """Weights of one layer; matrices are (in, out)."""

    qkv: Linear
    """Queries, keys and values side by side; the bias is that of the queries."""
    attention: Linear
    attention_norm: Linear
    up: Linear
    """Times `_SCALE`; the bias `_ROWS` times, since adding two arrays of one shape is quicker."""
    down: Linear
    """Divided by twice that."""
    down_norm: Linear


@dataclass(frozen=True, slots=True)
class Group:
    """The texts of one length, as they lie in the tall matrix."""

    start: int
    count: int
    size: int
    """Tokens of a text."""
    stride: int
    """Rows from one text to the next."""

    @property
    def rows(self) -> int:
        """Rows of all of them."""
        return self.count * self.stride

    def of(self, matrix: Floats) -> Floats:
        """Their part of a matrix: (texts, tokens, columns)."""
        return matrix[self.start : self.start + self.rows].reshape(self.count, self.stride, -1)[:, : self.size]


class Scratch:
    """Memory for what lies between the layers, used again by the next texts: to ask the system for it anew costs a few hundredths of the time.

    For one call at a time; about 10 KB for each token of the largest one.
    """

    def __init__(self) -> None:
        self._held: dict[str, Floats] = {}

    def take(self, name: str, rows: int, width: int) -> Floats:
        """(rows, width) with anything in it."""
        held = self._held.get(name)
        if held is None or held.size < rows * width:
            held = self._held[name] = np.empty(rows * width, np.float32)
        return held[: rows * width].reshape(rows, width)


class Transformer:
    """A loaded model. `weights`: arrays by their names in a BERT checkpoint, which are used in place where they can be."""

    def __init__(self, weights: Mapping[str, Floats], *, layers: int, heads: int) -> None:
        self.heads = heads
        self.words = weights["embeddings.word_embeddings.weight"]
        self.dimensions = self.words.shape[1]
        # a position and the one segment always come together
        self.places = weights["embeddings.position_embeddings.weight"] + weights["embeddings.token_type_embeddings.weight"][0]
        self.first_norm = _pair(weights, "embeddings.LayerNorm")
        self.layers = [_layer(weights, f"encoder.layer.{i}.", heads) for i in range(layers)]
        self._place: int | None = None

    def _begin(self) -> int:
        """Texts begin at multiples of this row."""
        if self._place is None:  # asked of BLAS when it runs as it will for the texts, not when the weights are loaded
            first = self.layers[0]
            self._place = max((_place_of(m[0]) for m in (first.qkv, first.attention, first.up, first.down)), default=1)
        return self._place

    def encode(self, texts: Sequence[Sequence[int]], scratch: Scratch | None = None) -> Floats:
        """(texts, dimensions) float32 of unit length. `texts`: token ids of each text, ascending in length, none empty."""
        room = Scratch() if scratch is None else scratch
        begin = self._begin()
        groups, start = [], 0
        for size, same in itertools.groupby(texts, len):
            group = Group(start, sum(1 for _ in same), size, -(-size // begin) * begin)
            groups.append(group)
            start += group.rows
        h = self._embed(texts, groups, room)
        for layer in self.layers:
            self._layer(h, layer, groups, room)
        pooled: Floats = np.concatenate([group.of(h).mean(1) for group in groups])
        pooled /= np.sqrt(np.square(pooled).sum(1, keepdims=True))
        return pooled

    def _embed(self, texts: Sequence[Sequence[int]], groups: Sequence[Group], room: Scratch) -> Floats:
        """(tokens filled up to whole tiles, dimensions)."""
        h = room.take("h", -(-(groups[-1].start + groups[-1].rows) // TILE) * TILE, self.dimensions)
        h[groups[-1].start + groups[-1].rows :] = 0
        ids = iter(texts)
        for group in groups:
            if group.stride > group.size:
                h[group.start : group.start + group.rows] = 0
            some = group.of(h)
            some[...] = self.words[np.array(list(itertools.islice(ids, group.count)), np.intp)]
            some += self.places[: group.size]
        _norm(h, self.first_norm)
        return h

    def _layer(self, h: Floats, layer: Layer, groups: Sequence[Group], room: Scratch) -> None:
        """One layer, in place."""
        rows, width = h.shape
        inner = layer.up[0].shape[1]
        # what attention works on is done with before `wide` begins, and lies in the same memory, so that more of it stays in the cache
        memory = room.take("wide", rows, max(inner, 4 * width)).reshape(-1)
        mixed, qkv = memory[: rows * width].reshape(rows, -1), memory[rows * width : 4 * rows * width].reshape(rows, -1)
        wide = memory[: rows * inner].reshape(rows, -1)
        np.matmul(h, layer.qkv[0], out=qkv)
        mixed[groups[-1].start + groups[-1].rows :] = 0
        for group in groups:
            if group.stride > group.size:
                mixed[group.start : group.start + group.rows] = 0
            self._attend(group.of(qkv), layer.qkv[1], group.of(mixed), room)
        dense = room.take("dense", rows, width)
        _add_and_norm(h, np.matmul(mixed, layer.attention[0], out=dense), layer.attention[1], layer.attention_norm)
        np.matmul(h, layer.up[0], out=wide)
        square, y = room.take("square", _ROWS, inner), room.take("y", _ROWS, inner)
        for at in range(0, rows, _ROWS):
            some = wide[at : at + _ROWS]
            some += layer.up[1][: len(some)]
            _gelu(some, square[: len(some)], y[: len(some)])
        _add_and_norm(h, np.matmul(wide, layer.down[0], out=dense), layer.down[1], layer.down_norm)

    def _attend(self, qkv: Floats, bias: Floats, out: Floats, room: Scratch) -> None:
        """Softmax attention; both (texts, tokens, …). What is done to a text does not depend on the others.

        Of the three biases that of the keys cancels in the softmax, and that of the values is in the layer after; `bias` is that of the queries.
        """
        n, t, _ = qkv.shape
        heads, width = self.heads, self.dimensions // self.heads
        q, k, v = qkv.reshape(n, t, 3, heads, width).transpose(2, 0, 3, 1, 4)
        mixed = out.reshape(n, t, heads, width)
        ones = np.ones((t, 1), np.float32)
        fit = max(1, _SCORES // (t * t))
        texts, some_heads = max(1, fit // heads), min(fit, heads)
        for at, head in itertools.product(range(0, n, texts), range(0, heads, some_heads)):
            part = np.s_[at : at + texts, head : head + some_heads]
            if head == 0:
                qkv[at : at + texts, :, : self.dimensions] += bias
            scores = room.take("scores", texts * some_heads * t, t).reshape(texts, some_heads, t, t)[: n - at, : heads - head]
            keys = k[part].transpose(0, 1, 3, 2)
            if t >= _TURNED:
                turned = room.take("turned", texts * some_heads * width, t).reshape(texts, some_heads, width, t)[: n - at, : heads - head]
                np.copyto(turned, keys)
                keys = turned
            np.matmul(q[part], keys, out=scores)
            if not (scores.min() > -_CALM and scores.max() < _CALM):
                calm = (scores.max((1, 2, 3)) < _CALM) & (scores.min((1, 2, 3)) > -_CALM)
                for text in np.flatnonzero(~calm):
                    scores[text] -= scores[text].max(-1, keepdims=True)
            np.exp(scores, out=scores)
            # a softmax divides by its sums; here what it weighs is divided, which is less
            weighed = room.take("weighed", texts * some_heads * t, width).reshape(texts, some_heads, t, width)[: n - at, : heads - head]
            np.matmul(scores, v[part], out=weighed)
            np.divide(weighed.transpose(0, 2, 1, 3), (scores @ ones).transpose(0, 2, 1, 3), out=mixed[at : at + texts, :, head : head + some_heads])


def _place_of(matrix: Floats) -> int:
    """The smallest of _PLACES at which a row's product has the same bits whatever the place; the last one when none is enough."""
    row = np.random.default_rng(0).standard_normal((1, matrix.shape[0]), np.float32)
    products = np.tile(row, (4 * TILE, 1)) @ matrix
    same = (products == products[0]).all(1)
    return next((place for place in _PLACES if same[::place].all()), _PLACES[-1])


def _pair(weights: Mapping[str, Floats], name: str) -> Linear:
    return weights[name + ".weight"], weights[name + ".bias"]


def _layer(weights: Mapping[str, Floats], at: str, heads: int) -> Layer:
    """Weights of one layer as they are used: (in, out), with constant factors and biases moved to where they cost nothing."""
    (query, query_bias), (key, _), (value, value_bias) = (_pair(weights, f"{at}attention.self.{n}") for n in ("query", "key", "value"))
    scale = np.float32(1 / math.sqrt(query.shape[0] // heads))
    attention, attention_bias = _pair(weights, at + "attention.output.dense")
    up, up_bias = _pair(weights, at + "intermediate.dense")
    down, down_bias = _pair(weights, at + "output.dense")
    return Layer(
        qkv=(np.ascontiguousarray(np.concatenate([query * scale, key, value]).T), query_bias * scale),
        # a softmax sums to 1, so the bias of the values passes through it
        attention=(np.ascontiguousarray(attention.T), attention_bias + attention @ value_bias),
        attention_norm=_pair(weights, at + "attention.output.LayerNorm"),
        up=(np.ascontiguousarray(up.T) * np.float32(_SCALE), np.tile(up_bias * np.float32(_SCALE), (_ROWS, 1))),
        down=(np.ascontiguousarray(down.T) * np.float32(0.5 / _SCALE), down_bias),
        down_norm=_pair(weights, at + "output.LayerNorm"),
    )


def _add_and_norm(h: Floats, dense: Floats, bias: Floats, norm: Linear) -> None:
    """LayerNorm of the residual sum, in `h`; `dense` is used up."""
    for at in range(0, len(h), _NORM_ROWS):
        some, part = h[at : at + _NORM_ROWS], dense[at : at + _NORM_ROWS]
        part += bias
        some += part
        _norm(some, norm)


def _norm(x: Floats, norm: Linear) -> None:
    """LayerNorm over the last axis, in place."""
    share = np.full(x.shape[1], 1 / x.shape[1], np.float32)
    x -= np.vecdot(x, share)[:, None]
    spread = np.vecdot(x, x)
    spread *= share[0]
    spread += _EPSILON
    x *= np.reciprocal(np.sqrt(spread, out=spread), out=spread)[:, None]
    x *= norm[0]
    x += norm[1]


def _gelu(x: Floats, square: Floats, y: Floats) -> None:
    """For `_SCALE`·x: 2·`_SCALE`·x·Φ(x), in place; what it is too much is in the weights that follow. `square`, `y`: room of the same shape."""
    np.square(x, out=square)
    np.add(square, _Q[0], out=y)
    for c in _Q[1:]:
        y *= square
        y += c
    y *= x
    np.tanh(y, out=y)
    y += _ONE
    x *= y
