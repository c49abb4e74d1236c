"""Tests on the other release of DuckDB (`make newer`): what cannot hold there is skipped here, and nowhere else."""

from collections.abc import Generator

import duckdb
import pytest

from jammi_lab.core.errors import ExtensionMissing
from jammi_lab.engine.sql import releases

ONLY_ON_1_5 = pytest.mark.skipif(
    releases.IS_2,
    reason=f"about the messages and faults of DuckDB 1.5, not of {duckdb.__version__}",
)


def skip_without_extension() -> Generator[None, object, object]:
    """A hook around a test or fixture: skips it on DuckDB 2 when it needs an extension, of which there are wheels for 1.5.5 alone."""
    try:
        return (yield)
    except ExtensionMissing as error:
        if releases.IS_2 and "The DuckDB extension" in error.message:
            pytest.skip(error.message)
        raise
