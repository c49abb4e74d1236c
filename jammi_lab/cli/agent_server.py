"""The command `mcp`: a server of the Model Context Protocol over standard input and output, with
which an agent reads a workspace. What an agent acts on is what stands in the answer itself, so each
answer that holds rows begins with the verdict on them."""

import contextlib
import functools
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, Any

from jammi_lab.core.cancellable import abandoned_work
from jammi_lab.core.errors import ExtensionMissing, JammiError, SqlError
from jammi_lab.core.interrupts import time_limit

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mcp.server.mcpserver import MCPServer

    from jammi_lab.core.verdicts import Verdict

MAX_SENTENCE_CHARACTERS = 180
"""Length of a verdict before rows: below 60 tokens."""
DEFAULT_ROWS, MAX_ROWS = 50, 1000
MAX_ANSWER_CHARACTERS = 200_000
MAX_STATEMENT_CHARACTERS = 20_000
"""DuckDB's parser holds the interpreter's lock, and takes the square of the number of beginnings of
a comment in each other: 2 s here, minutes at 150,000 characters, without any other answer."""
MAX_SECONDS = 60.0
"""How long a statement of an agent may take."""
MAX_ABANDONED = 2
"""How many statements may go on after their time, each on a core: nothing ends a text that DuckDB
parses or binds."""
OTHER_MEMORY_BYTES = 2 << 30
"""What the server may allocate besides the memory of the engine: libraries, stacks, an answer."""
_INSTRUCTIONS = (
    "Tables of a jammi_lab workspace, each with its recipe and whether it is up to date. Ask "
    "`board` first. Each answer with rows begins with their verdict; do not report rows of a table "
    "that is not fresh without saying so. `why` explains a verdict."
)


def serve(ws: Any, open_writable: Callable[[], Any] | None) -> None:
    """Serve a workspace until the input ends. All tools only read, unless `open_writable` opens the
    workspace for one more that recomputes."""
    limit_memory(ws)
    # ends at once: the thread that waits for input cannot be interrupted
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    build_server(AgentTools(ws, open_writable)).run("stdio")
    if abandoned_work():
        # Python would end these threads inside of DuckDB, which aborts the process.
        sys.stdout.flush()
        os._exit(0)


def limit_memory(ws: Any) -> None:
    """Let this process allocate no more than the engine may use, and some for the rest. DuckDB's
    own limit leaves out the texts and lists that functions return."""
    limit = "SELECT parse_formatted_bytes(current_setting('memory_limit'))"
    [[engine_bytes]] = ws._services.engine.query(limit)
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    soft = int(engine_bytes) + OTHER_MEMORY_BYTES
    resource.setrlimit(resource.RLIMIT_DATA, (soft if hard < 0 else min(soft, hard), hard))


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

        if (going_on := abandoned_work()) >= MAX_ABANDONED:
            raise SqlError(
                f"{going_on} statements go on after their time, so that no other is run.",
                hint="Ask again later, or start the server again.",
            )
        if len(sql) > MAX_STATEMENT_CHARACTERS:
            raise SqlError(
                f"The statement has {len(sql):,} characters; {MAX_STATEMENT_CHARACTERS:,} are "
                "the most.",
                hint="Join with a table in place of a list of values.",
            )
        services = self._ws._services
        with self._lock, _time_limit():
            names = RegisteredNames(services.catalog, services.engine.known_names)
            services.engine.check_names(sql, names)
            result = services.statements.read(sql, {})
            try:
                result.limit = max(0, min(limit, MAX_ROWS))
                _check_size(result._read_first(result.limit + 1))
                return f"{verdict_of_rows(result)}\n{result._content().text}"
            finally:
                result.close()


@contextlib.contextmanager
def _time_limit() -> Iterator[None]:
    """Raise SqlError where a statement of the block is waited for and its time is over."""
    deadline, check_call = time.monotonic() + MAX_SECONDS, time_limit.get()

    def check() -> None:
        check_call()
        if time.monotonic() > deadline:
            raise SqlError(
                f"The statement was ended after {MAX_SECONDS:g} seconds.",
                hint="Read fewer rows, or the rows of a table that holds them.",
            )

    token = time_limit.set(check)
    try:
        yield
    finally:
        time_limit.reset(token)


def _check_size(rows: Any) -> None:
    """Raise SqlError for rows that are too large to be shown."""
    from jammi_lab.workspace.result import MAX_CACHED_BYTES

    if rows.nbytes > MAX_CACHED_BYTES:
        raise SqlError(
            f"The rows have {rows.nbytes / 1e6:,.0f} MB, which no answer can hold.",
            hint="Select fewer columns or rows, or parts of long texts: left(text, 100).",
        )


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
    # refusals are answers; nobody may read what is logged, and a full pipe is waited for
    server = MCPServer("jammi-lab", instructions=_INSTRUCTIONS, log_level="ERROR")
    for tool in (tools.board, tools.why, tools.lineage, tools.plan, tools.query):
        server.add_tool(
            _with_messages(tool),
            annotations=ToolAnnotations(read_only_hint=True),
            structured_output=False,
        )
    if tools.open_writable is not None:
        server.add_tool(_with_messages(tools.recompute), structured_output=False)
    return server


def _with_messages(tool: Callable[..., str]) -> Callable[..., Awaitable[str]]:
    """The tool in a thread, whose errors are errors of the protocol with message and hint. It is
    interrupted when its call is cancelled: it holds the lock for which other calls wait."""
    import anyio.to_thread
    from mcp.server.mcpserver.exceptions import ToolError

    def run(*args: Any, **kwargs: Any) -> str:
        try:
            text = tool(*args, **kwargs)
            hidden = len(text) - MAX_ANSWER_CHARACTERS
            end = f"\n… {hidden:,} more characters: ask for less." if hidden > 0 else ""
            return text[:MAX_ANSWER_CHARACTERS] + end
        except JammiError as error:
            raise ToolError("\n".join(error.rendered_lines())) from None
        except MemoryError:
            raise ToolError("The answer needs more memory than the server may use.") from None

    @functools.wraps(tool)
    async def call(*args: Any, **kwargs: Any) -> str:
        is_cancelled = False

        def check() -> None:
            if is_cancelled:
                raise KeyboardInterrupt

        time_limit.set(check)
        work = functools.partial(run, *args, **kwargs)
        try:
            return await anyio.to_thread.run_sync(work, abandon_on_cancel=True)
        finally:
            is_cancelled = True

    return call
