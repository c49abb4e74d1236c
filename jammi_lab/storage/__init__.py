"""Durable bytes: atomic writes, fsync, object stores, deterministic Parquet, digests of files and
of columns. A file is complete or absent, never partly written.

Imports `core`. Begin with `files.py`, then `parquet.py`.
"""
