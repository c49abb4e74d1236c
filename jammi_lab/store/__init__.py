"""Result tables on disk: publication (`publish.py`, the only way to `ready`), removal
(`removal.py`, the only way out), recovery, verification, consistency check, rebuild, retention.

Imports `core` to `engine`. Begin with `publish.py`, then `result_files.py` and `recovery.py`.
"""
