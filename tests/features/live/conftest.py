"""Where the catalog of a workspace is."""

from pathlib import Path

import pytest


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.services)])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, str]:
    """The folder of a workspace, and the URL of its catalog or an empty text."""
    url = request.getfixturevalue("fresh_postgres_url") if request.param == "postgresql" else ""
    return tmp_path / "lab", url
