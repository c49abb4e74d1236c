"""Words: tables of words, text analysis, BM25 over postings. Begin with `lexical.py`,
`analyzers.py` and `word_index.py`.
"""
