"""The option `types`: what the columns of a CSV file are read as."""

from decimal import Decimal

import pytest

import jammi_lab
from jammi_lab.core import errors
from tests.verdicts import is_stale


def test_columns_of_a_text_are_read_as_what_is_said_of_them(tmp_path):
    (tmp_path / "x.csv").write_text(
        "zip,Id,price\n01234,123456789012345678901234,1.10\n99999,123456789012345678901235,2\n"
    )
    with jammi_lab.open(tmp_path / "lab") as ws:
        ws.sources.add("guessed", tmp_path / "x.csv")
        assert ws.sql("SELECT id FROM guessed").fetchall() == [
            (123456789012345678901234,),
            (123456789012345678901235,),
        ]
        ws.sources.add(
            "said",
            tmp_path / "x.csv",
            options={"types": {"zip": "VARCHAR", "id": "decimal(38, 0)", "price": "DECIMAL(12,2)"}},
        )
        assert ws.sql("SELECT zip, id, price FROM said").fetchall() == [
            ("01234", Decimal(123456789012345678901234), Decimal("1.10")),
            ("99999", Decimal(123456789012345678901235), Decimal("2.00")),
        ]
        table = ws.materialize("top", "SELECT zip FROM said")
        ws.sources.add(
            "said", tmp_path / "x.csv", options={"types": {"zip": "INTEGER"}}, replace=True
        )
        assert is_stale(ws, table)
    with jammi_lab.open(tmp_path / "lab") as ws:
        assert [c.type for c in ws.sources["said"].columns()][:1] == ["INTEGER"]


@pytest.mark.parametrize(
    ("types", "error", "says"),
    [
        (
            {"zap": "VARCHAR"},
            errors.SourceUnavailable,
            "the column 'zap', which is not in the file",
        ),
        ({"zip": "VARCHARR"}, errors.InvalidArgument, "Unknown type 'VARCHARR'"),
        ({"zip": "INTEGER[]"}, errors.InvalidArgument, "Unknown type"),
        ({"zip": "VARCHAR'}) --"}, errors.InvalidArgument, "Unknown type"),
        ({"zip": 3}, errors.InvalidArgument, "Unknown type 3"),
        ({1: "VARCHAR"}, errors.InvalidArgument, "1 is not a name"),
        ({"zip'\"": "VARCHAR"}, errors.SourceUnavailable, "which is not in the file"),
        ("zip", errors.InvalidArgument, "of type dict"),
    ],
)
def test_types_that_cannot_be_are_refused_and_nothing_is_added(ws, tmp_path, types, error, says):
    (tmp_path / "x.csv").write_text("zip,v\n01234,1\n")
    with pytest.raises(error) as caught:
        ws.sources.add("x", tmp_path / "x.csv", options={"types": types})
    assert says in caught.value.message
    assert "x" not in ws.sources
