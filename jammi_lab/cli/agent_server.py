"""The command `mcp`: a server of the Model Context Protocol over standard input and output, with
which an agent reads a workspace. What an agent acts on is what stands in the answer itself, so each
answer that holds rows begins with the verdict on them."""

import functools
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from jammi_lab.core.errors import ExtensionMissing, JammiError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mcp.server.mcpserver import MCPServer

    from jammi_lab.core.verdicts import Verdict

MAX_SENTENCE_CHARACTERS = 180
"""Length of a verdict before rows: below 60 tokens."""
DEFAULT_ROWS, MAX_ROWS = 50, 1000
_INSTRUCTIONS = (
    "Tables of a jammi_lab workspace, each with its recipe and whether it is up to date. Ask "
    "`board` first. Each answer with rows begins with their verdict; do not report rows of a table "
    "that is not fresh without saying so. `why` explains a verdict."
)


def serve(ws: Any, open_writable: Callable[[], Any] | None) -> None:
    """Serve a workspace until the input ends. All tools only read, unless `open_writable` opens the
    workspace for one more that recomputes."""
    build_server(AgentTools(ws, open_writable)).run("stdio")


class AgentTools:
    """The answers of the tools, as text."""

    def __init__(self, ws: Any, open_writable: Callable[[], Any] | None = None) -> None:
        self._ws, self.open_writable, self._lock = ws, open_writable, threading.Lock()

    def board(self) -> str:
        """Every table with its verdict, reasons, rows and age."""
        with self._lock:
            status = self._ws.status()
            return f"{verdict_sentence({row.name: row.verdict for row in status})}\n{status}"

    def why(self, name: str) -> str:
        """Why a table has its verdict: the tree of causes, with old and new state of each input."""
        with self._lock:
            return str(self._ws.why(name))

    def lineage(self, name: str | None = None) -> str:
        """What a table was made from, and what was made from it; without a name, everything."""
        with self._lock:
            return str(self._ws.lineage(name))

    def plan(self, name: str | None = None) -> str:
        """What a recomputation of one table, or of all, would run, and why. Nothing is run."""
        with self._lock:
            return str(self._ws.plan(name))

    def recompute(self, name: str | None = None) -> str:
        """Bring one table and what it needs up to date, or all tables. Runs the plan."""
        assert self.open_writable is not None
        with self._lock, self.open_writable() as ws:
            return str(ws.recompute(name))

    def query(self, sql: str, limit: int = DEFAULT_ROWS) -> str:
        """Run a read-only SQL statement (DuckDB): tables are `jammi.<name>`, sources have their own
        names, `jammi_catalog.tables` and `jammi_catalog.columns` list them."""
        from jammi_lab.inputs.registered_names import RegisteredNames

        services = self._ws._services
        with self._lock:
            names = RegisteredNames(services.catalog, services.engine.known_names)
            services.engine.check_names(sql, names)
            result = services.statements.read(sql, {})
            try:
                result.limit = max(0, min(limit, MAX_ROWS))
                return f"{verdict_of_rows(result)}\n{result._content().text}"
            finally:
                result.close()


def verdict_of_rows(result: Any) -> str:
    """The verdict on the tables that a result read, with the first root cause."""
    verdicts = result.staleness()
    if verdicts:
        return verdict_sentence(verdicts)
    sources = list(dict.fromkeys(each.label for each in result.inputs))
    return f"Read directly from {', '.join(sources)[:100]}." if sources else "No table was read."


def verdict_sentence(verdicts: "Mapping[str, Verdict]") -> str:
    """The verdict on some tables in one short sentence: the first that is not fresh with its cause,
    and how many others."""
    from jammi_lab.core.verdicts import Fresh, reasons_of, remarks_on, verdict_label

    not_fresh = {name: each for name, each in verdicts.items() if not isinstance(each, Fresh)}
    if not verdicts:
        return "There are no tables yet."
    if not not_fresh:
        remarked = [str(each) for each in verdicts.values() if remarks_on(each)]
        sentence = (remarked or ["fresh"])[0]
        return _shortened(f"F{sentence[1:]}", "")
    name, worst = next(iter(not_fresh.items()))
    reasons = reasons_of(worst)
    cause = f": {reasons[0]}" if reasons else ""
    others = len(not_fresh) - 1
    return _shortened(
        f"NOT FRESH: {name} is {verdict_label(worst)}{cause}",
        f"; and {others} of {len(verdicts)} others" if others else "",
    )


def _shortened(text: str, end: str) -> str:
    room = MAX_SENTENCE_CHARACTERS - len(end) - 1
    return (text if len(text) <= room else text[: room - 1].rstrip() + "…") + end + "."


def build_server(tools: AgentTools) -> "MCPServer":
    """The server. ExtensionMissing without the package mcp."""
    try:
        from mcp.server.mcpserver import MCPServer
        from mcp.types import ToolAnnotations
    except ImportError:
        raise ExtensionMissing(
            "The package mcp is not installed.", hint="pip install 'jammi-lab[mcp]'"
        ) from None
    server = MCPServer("jammi-lab", instructions=_INSTRUCTIONS)
    for tool in (tools.board, tools.why, tools.lineage, tools.plan, tools.query):
        server.add_tool(
            _with_messages(tool),
            annotations=ToolAnnotations(read_only_hint=True),
            structured_output=False,
        )
    if tools.open_writable is not None:
        server.add_tool(_with_messages(tools.recompute), structured_output=False)
    return server


def _with_messages(tool: Callable[..., str]) -> Callable[..., str]:
    """The tool, whose errors are errors of the protocol with message and hint."""
    from mcp.server.mcpserver.exceptions import ToolError

    @functools.wraps(tool)
    def run(*args: Any, **kwargs: Any) -> str:
        try:
            return tool(*args, **kwargs)
        except JammiError as error:
            raise ToolError("\n".join(error.rendered_lines())) from None

    return run
