"""Vectors that are drawn at random."""

from typing import Any

import numpy as np


def normal(seed: Any, *shape: int) -> Any:
    """Normally distributed numbers in float32, of a seed or of a generator."""
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
