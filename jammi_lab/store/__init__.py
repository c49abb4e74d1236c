"""Result tables on disk: publication (`publish.py`, the only way to `ready`), removal
(`removal.py`, the only way out), recovery, verification, consistency check, rebuild, retention.

Imports `core` to `engine`, and `vectors.index.files`.
"""
