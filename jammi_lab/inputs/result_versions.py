"""Versions of result tables as inputs."""

from jammi_lab.catalog.catalog import Catalog
from jammi_lab.core.anchors import Anchor
from jammi_lab.core.records import TableRecord
from jammi_lab.store.result_files import result_snapshot


def find_recorded_version(catalog: Catalog, name: str, recorded: Anchor) -> TableRecord | None:
    """The version of a recipe that an anchor recorded; None when it is gone, or when the version of
    that number is in another state."""
    if recorded.version is None:
        return None
    version = catalog.result_tables.version(name, recorded.version)
    if version is None or not result_snapshot(version[1], recorded.version).anchor(
        recorded.input, recorded.columns
    ).same_state(recorded):
        return None
    return version[1]
