"""Tests on another release of DuckDB (`make newer`): what cannot hold there is skipped here, and nowhere else."""

from collections.abc import Generator

import duckdb
import pytest

from jammi_lab.core.errors import ExtensionMissing
from jammi_lab.engine.sql import releases

ONLY_ON_1_5 = pytest.mark.skipif(
    releases.IS_2,
    reason=f"about the messages and faults of DuckDB 1.5, not of {duckdb.__version__}",
)

IS_PINNED = duckdb.__version__ == "1.5.5"
"""Whether it is the release of `requirements.txt`, for which there are wheels of extensions."""
ONLY_ON_PINNED = pytest.mark.skipif(not IS_PINNED, reason="about the list of the pinned DuckDB")


def skip_without_extension() -> Generator[None, object, object]:
    """A hook around a test or fixture: skips it on another release than the pinned one when it needs an extension."""
    try:
        return (yield)
    except ExtensionMissing as error:
        if not IS_PINNED and "The DuckDB extension" in error.message:
            pytest.skip(error.message)
        raise
