"""Static analysis of SQL statements: parsing, the allowlist, canonical form, row order, read sets.
The only DuckDB instance it opens is the parser's. Start reading at `parse.py`.
"""
