"""Vectors: embedding tables and what is made of them (graphs, projections, context sets), models,
encoders, indexes and their search. Begin with `embedding.py`, `exact_search.py` and
`index/search.py`.
"""
