"""BM25 written out from its formula, without any code of the product."""

import math
from collections import Counter
from collections.abc import Sequence


def scores(documents: Sequence[Sequence[str]], query: Sequence[str]) -> list[float]:
    """The score of each document; k1 = 1.2, b = 0.75, with the factor k1 + 1."""
    mean = sum(map(len, documents)) / max(1, len(documents))
    containing = {term: sum(term in document for document in documents) for term in query}
    result = []
    for document in documents:
        counts, score = Counter(document), 0.0
        for term in query:
            number = containing[term]
            rarity = math.log(1 + (len(documents) - number + 0.5) / (number + 0.5))
            if counts[term]:
                damping = 1.2 * (1 - 0.75 + 0.75 * len(document) / mean)
                score += rarity * counts[term] * 2.2 / (counts[term] + damping)
        result.append(score)
    return result


def ranked(documents: Sequence[Sequence[str]], query: Sequence[str], k: int) -> list[int]:
    """The positions of the best documents; equal ones in their order."""
    told = scores(documents, query)
    return sorted((n for n, s in enumerate(told) if s > 0), key=lambda n: (-told[n], n))[:k]
