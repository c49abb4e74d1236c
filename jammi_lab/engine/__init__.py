"""The SQL engine on DuckDB: SQL text in, Arrow out. It parses a statement, checks it against the
allowlist, resolves names through registered resolvers, binds, runs and interrupts it. `engine.sql`
is static analysis; the other modules own instances and threads. Imports `core`, `storage`,
`sources`. Start reading at `engine.py`.
"""

from jammi_lab.engine.engine import Engine
from jammi_lab.engine.name_resolution import NameResolver
from jammi_lab.engine.prepared_statement import PreparedStatement
from jammi_lab.engine.stream import Stream

__all__ = ["Engine", "NameResolver", "PreparedStatement", "Stream"]
