"""The release of DuckDB that definitions and verdicts were tried with is the only one."""

import duckdb
import pytest

import jammi_lab as jl
from jammi_lab.core.errors import ExtensionMissing


@pytest.mark.parametrize("release", ["1.4.2", "2.0.1"])
def test_another_release_is_refused_in_one_sentence(release, tmp_path, monkeypatch):
    monkeypatch.setattr(duckdb, "__version__", release)
    with pytest.raises(ExtensionMissing, match=f"runs on DuckDB 1.5, and DuckDB {release} is"):
        jl.open(tmp_path / "lab")
