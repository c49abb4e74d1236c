"""What has no versions cannot be checked, and is refused with the way that works."""

import pyarrow as pa
import pytest

import jammi_lab as jl
from jammi_lab.core.errors import CheckFailed, InvalidArgument, TableNotFound


def test_a_check_on_a_source_or_a_mutable_table_is_refused_with_the_way_that_works(ws):
    ws.sources.add("papers", pa.table({"id": [1, 2], "year": [2001, None]}))
    ws.mutable.create("orders", {"id": "int64"}, primary_key=["id"])
    ws.topics.register("clicks", {"id": "int64"})
    for name in ("papers", "mutable.orders", "topics.clicks", "orders"):
        with pytest.raises(InvalidArgument, match="on the versions of a table") as caught:
            ws.checks.add("years", jl.checks.not_null("id"), on=name)
        read_as = "mutable.orders" if name == "orders" else name
        assert f"'FROM {read_as}'" in caught.value.hint
    for name in ("mutable.papers", "jammi.papers", "elsewhere.papers"):
        with pytest.raises(TableNotFound):
            ws.checks.add("years", jl.checks.not_null("id"), on=name)
    ws.materialize("dated", "FROM papers WHERE id = 1")
    ws.checks.add("years", jl.checks.not_null("year"), on="dated")
    with pytest.raises(CheckFailed):
        ws.materialize("dated", "FROM papers")
