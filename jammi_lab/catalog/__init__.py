"""What a workspace knows: rows, transactions, writers. SQLAlchemy Core over SQLite; `Catalog` is the way in."""

from jammi_lab.catalog.catalog import Catalog

__all__ = ["Catalog"]
