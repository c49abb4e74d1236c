"""The catalog: what the workspace knows, in SQLite or PostgreSQL. It has one transaction helper,
one tenant predicate and one repository per noun.

It imports `core`, `storage` and `sources.locations`; only `store` imports `table_status`. Begin
with `Catalog` in `catalog.py`.
"""

from jammi_lab.catalog.catalog import Catalog

__all__ = ["Catalog"]
