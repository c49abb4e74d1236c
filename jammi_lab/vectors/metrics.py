"""How well a ranking does against judgements: recall, reciprocal rank and discounted gain of one query, without I/O."""

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Scores:
    """One query."""

    recall: float
    """Of the keys that were judged relevant: the share that was found."""
    mrr: float
    """1 / the rank of the first relevant key; 0 when none was found."""
    ndcg: float
    """Σ relevance / log2(rank + 1) over what was found, against the best possible order."""


def scores(found: Sequence[Hashable], judged: Mapping[Hashable, float], k: int) -> Scores:
    """The scores of the keys found, best first, cut at `k`. `judged`: relevance by key, at least one above 0; keys that are not in it count as 0."""
    cut = found[:k]
    relevant = sum(1 for value in judged.values() if value > 0)
    ranks = [rank for rank, key in enumerate(cut, 1) if judged.get(key, 0) > 0]
    best = _discounted(sorted(judged.values(), reverse=True)[:k])
    return Scores(len(ranks) / relevant, 1 / ranks[0] if ranks else 0.0, _discounted([judged.get(key, 0) for key in cut]) / best)


def _discounted(gains: Sequence[float]) -> float:
    return math.fsum(gain / math.log2(rank + 1) for rank, gain in enumerate(gains, 1))
