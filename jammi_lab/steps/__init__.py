"""Steps: definitions → rows. `sql.py`, `python.py` and `external.py` are kinds of tables; those of
the features lie there. `build.py` runs every job the same way: observe the inputs, reuse or build,
observe again, publish. Begin with `registry.py` and `build.py`.
"""
