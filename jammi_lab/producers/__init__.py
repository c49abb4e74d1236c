"""Producers: definitions → rows. Each kind of table has a module of its name (`sql.py`,
`embedding.py`, `asof_join.py`, …); the others are their parts. `build.py` runs every job the same
way: observe the inputs, reuse or build, observe again, publish. Imports everything below. Begin
with `registry.py` and `build.py`.
"""
