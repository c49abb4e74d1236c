"""Words: text analysis, BM25 over postings, and the index file beside a table. Knows no SQL and no
catalog. Imports `core`, `storage`, `vectors`. Begin with `analyzers.py` and `word_index.py`."""
