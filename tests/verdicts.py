"""What tests ask of the verdict about a table."""

from typing import Any

from jammi_lab.core.verdicts import Fresh, Stale, Undecidable


def is_fresh(ws: Any, of: str = "t") -> bool:
    return isinstance(ws.staleness(of), Fresh)


def is_stale(ws: Any, of: str = "t") -> bool:
    return isinstance(ws.staleness(of), Stale)


def doubt(ws: Any, of: str = "t") -> str:
    """Why nothing can be said of a table."""
    verdict = ws.staleness(of)
    assert isinstance(verdict, Undecidable), verdict
    return str(verdict)
