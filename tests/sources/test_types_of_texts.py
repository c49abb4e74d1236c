"""The option `types`: what the columns of a CSV file are read as."""

import pytest

from jammi_lab.core import errors


def test_types_that_cannot_be_are_refused_and_nothing_is_added(ws, tmp_path):
    for types, error, says in (
        (
            {"zap": "VARCHAR"},
            errors.SourceUnavailable,
            "the column 'zap', which is not in the file",
        ),
        ({"zip": "VARCHARR"}, errors.InvalidArgument, "'types' cannot be {'zip': 'VARCHARR'}"),
        ({"zip": "INTEGER[]"}, errors.InvalidArgument, "'types' cannot be"),
        ({"zip": "VARCHAR'}) --"}, errors.InvalidArgument, "'types' cannot be"),
        ({"zip": 3}, errors.InvalidArgument, "'types' cannot be {'zip': 3}"),
        ({1: "VARCHAR"}, errors.SourceUnavailable, "which is not in the file"),
        ({("zip", 1): "VARCHAR"}, errors.InvalidArgument, "'types' cannot be {('zip', 1)"),
        ({"zip'\"": "VARCHAR"}, errors.SourceUnavailable, "which is not in the file"),
        ("zip", errors.InvalidArgument, "'types' cannot be 'zip'"),
    ):
        (tmp_path / "x.csv").write_text("zip,v\n01234,1\n")
        with pytest.raises(error) as caught:
            ws.sources.add("x", tmp_path / "x.csv", options={"types": types})
        assert says in caught.value.message
        assert "x" not in ws.sources
