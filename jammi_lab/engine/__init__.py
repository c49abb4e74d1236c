"""One DuckDB per tenant: statements in, Arrow out. What names mean is told by the rooms above, through providers."""

from jammi_lab.engine.prepared import Prepared
from jammi_lab.engine.resolve import Provider
from jammi_lab.engine.session import Engine
from jammi_lab.engine.stream import Stream

__all__ = ["Engine", "Prepared", "Provider", "Stream"]
