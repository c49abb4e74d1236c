"""A workspace beside a folder of data."""

from tests.freshness.conftest import lab, papers

__all__ = ["lab", "papers"]
