"""Databases as sources: PostgreSQL and MySQL servers, SQLite and DuckDB files. Begin with
`server.py` and `database_file.py`."""
