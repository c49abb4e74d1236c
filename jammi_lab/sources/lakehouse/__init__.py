"""Delta and Iceberg connectors, which read a pinned snapshot. Begin with `connector.py`."""
