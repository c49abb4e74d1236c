"""Words: tables of words, text analysis, BM25 over postings, search by words and by both. Begin
with `lexical.py`, `analyzers.py` and `word_index.py`.
"""
