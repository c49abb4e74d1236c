"""Outputs that know their tables: stamps in notebooks and files, badges below cells, and the checks
of both. Begin with `stamps.py` and `stamp_checks.py`."""
