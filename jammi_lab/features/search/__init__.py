"""Search over vectors, over words, and over both, with SQL filters and columns of the source rows.
Takes table records and returns Arrow with the inputs that were read. Begin with `search.py`.
"""
