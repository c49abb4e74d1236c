"""Checks that several tests add."""

from typing import Any

import jammi_lab as jl


def limit_rows(ws: Any, name: str, on: str, most: int, **how: Any) -> None:
    """Check that a table has at most so many rows."""
    ws.checks.add(name, jl.checks.row_count(max=most), on=on, **how)
