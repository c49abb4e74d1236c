"""Producers: definitions → rows, one module per kind of producer. `build.py` runs every job the
same way: observe the inputs, reuse or build, observe again, publish. Imports everything below.
Begin with `registry.py` and `build.py`.
"""
