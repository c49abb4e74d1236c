"""Vectors that are searched: the resident matrix, exact search, and what keeps matrices in memory."""
