"""Data outside the workspace: one connector per kind of source.

A connector checks its source, lists the tables, gives DuckDB a relation to read and observes the
state. Begin with `base.py`. `registry.py` alone knows all connectors; `files`, `databases` and
`lakehouse` know `base.py`. Imports `core`, `storage`.
"""
