"""Vectors: exact and approximate search over a matrix (numpy, usearch), index files, projections
to two dimensions, and encoders. Knows no SQL and no catalog. Imports `core`, `storage`. Begin with
`exact_search.py` and `matrix.py`.
"""
