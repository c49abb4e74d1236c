"""Vectors: embedding tables and what is made of them (graphs, projections, context sets), models,
encoders, indexes, search and its evaluation. Begin with `embedding.py`, `exact_search.py` and
`search/search.py`.
"""
