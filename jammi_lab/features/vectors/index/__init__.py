"""Approximate search: usearch graphs, their files, and when they are built. Begin with
`indexes.py`."""
