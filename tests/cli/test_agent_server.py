"""`jammi-lab mcp` with the official client: five tools that read, and one more when it is
allowed."""

import asyncio
import contextlib
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec

import duckdb
import pytest

import jammi_lab as jl
from jammi_lab.cli import agent_server
from jammi_lab.cli.agent_server import AgentTools
from tests.cases import lines
from tests.sizes import sized, soak

pytestmark = pytest.mark.skipif(find_spec("mcp") is None, reason="needs the extra mcp")


@pytest.fixture
def lab(tmp_path):
    (tmp_path / "a.csv").write_text("id,x\n1,2\n2,3\n")
    with jl.open(tmp_path / "lab") as ws:
        ws.sources.add("a", tmp_path / "a.csv")
        ws.materialize("big", "SELECT * FROM a WHERE x > 2")
        ws.materialize("top", "SELECT max(x) AS x FROM jammi.big")
    return tmp_path / "lab"


def test_an_agent_is_not_told_of_other_workspaces(lab, tmp_path):
    jl.open(tmp_path / "empty").close()
    with jl.open(tmp_path / "empty") as ws, pytest.raises(jl.TableNotFound, match="lab"):
        ws.table("big")
    with jl.open(tmp_path / "empty", read_only=True) as ws:
        with pytest.raises(jl.TableNotFound) as caught:
            ws.table("big")
        assert "lab" not in "".join(caught.value.rendered_lines()) and "lab" not in repr(ws)


def run_loop(work):
    """What a coroutine gives, in a thread: the browser tests of this process keep a loop running in
    the main one."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, work).result()


def talk(path, *calls, flags=()):
    """The names of the tools, and the text of each answer; of an error of the protocol after
    `Error: `. A call is the name of a tool and its arguments, or a function."""
    from mcp import ClientSession, StdioServerParameters
    from mcp.client.stdio import stdio_client

    server = StdioServerParameters(
        command=sys.executable,
        args=["-m", "jammi_lab.cli", "mcp", str(path), *flags],
        env={**os.environ},
    )

    async def run():
        async with stdio_client(server) as streams, ClientSession(*streams) as session:
            await session.initialize()
            tools = await session.list_tools()
            answers = []
            for call in calls:
                if callable(call):
                    call()
                else:
                    answers.append(await session.call_tool(*call))
            texts = [f"{'Error: ' * bool(a.is_error)}{a.content[0].text}" for a in answers]
            return {tool.name: tool for tool in tools.tools}, texts

    return run_loop(run())


def test_five_tools_read_and_each_answer_with_rows_begins_with_the_verdict(lab, tmp_path):
    edited = "id,x\n1,2\n2,3\n3,9\n"
    tools, answers = talk(
        lab,
        ("query", {"sql": "FROM jammi.top"}),
        lambda: (tmp_path / "a.csv").write_text(edited),
        ("query", {"sql": "FROM jammi.top"}),
        ("board", {}),
        ("why", {"name": "top"}),
        ("lineage", {"name": "top"}),
        ("plan", {"name": "top"}),
        ("query", {"sql": "FROM a", "limit": 1}),
        ("query", {"sql": "INSERT INTO mutable.x VALUES (1)"}),
        ("query", {"sql": f"FROM read_csv('{tmp_path / 'a.csv'}')"}),
        ("why", {"name": "tip"}),
        ("query", {"sql": 5, "limit": "many"}),
    )  # fmt: skip
    fresh, query, board, why, lineage, plan, direct, dml, path, unknown, arguments = answers
    assert sorted(tools) == ["board", "lineage", "plan", "query", "why"]
    assert all(tool.annotations.read_only_hint for tool in tools.values())
    assert fresh == "Fresh.\n     x\nbigint\n──────\n     3\n1 row"
    cause = "top is possibly stale: a changed, 2 → 3 rows, by way of big"
    assert query.splitlines()[0] == f"NOT FRESH: {cause}."
    assert board.startswith("NOT FRESH: ") and "; and 1 of 2 others." in board.splitlines()[0]
    assert all(len(answer.splitlines()[0]) <= 180 for answer in (query, board))
    verdicts = [answer.splitlines()[0] for answer in (query, board)]
    parts = [re.findall(r"[^\W_]+|[^\w\s]|_", each) for each in verdicts]  # as tokenizers split
    assert all(len(each) <= 60 for each in parts), parts
    assert "a changed" in why and "big" in lineage and "big" in plan
    assert direct.startswith("Read directly from a.") and "first row" in direct
    assert dml.startswith("Error:") and path.startswith("Error:") and "Add the file as" in path
    assert unknown.startswith("Error:") and "top" in unknown
    assert arguments.startswith("Error:") and "sql" in arguments and "limit" in arguments


# Each names a file in another part of a statement.
REFUSED = lines("statements/of_files.sql")


@pytest.mark.parametrize("form", REFUSED)
def test_a_statement_about_a_file_opens_nothing_and_answers_the_same_without_it(
    lab, tmp_path, monkeypatch, form
):
    """`missing` is a registered source whose file is gone, `files.v` a view in a database file that
    reads a file; a CSV file named as a table of jammi stands in the current directory."""
    monkeypatch.chdir(tmp_path)
    path = "jammi.csv" if "current directory" in form else str(tmp_path / "found.csv")
    (tmp_path / "v.csv").write_text("x\n3\n")
    with duckdb.connect(str(tmp_path / "files.duckdb")) as db:
        db.execute("CREATE TABLE t AS SELECT 1 AS n")
        db.execute(f"CREATE VIEW v AS FROM read_csv('{tmp_path}/v.csv')")
    with jl.open(lab) as ws:
        ws.sources.add("missing", tmp_path / "gone.csv", check=False)
        ws.sources.add("files", tmp_path / "files.duckdb")
    answers = []
    with jl.open(lab, read_only=True) as ws:
        for text in ("id,x\n1,CANARY\n", "", None):
            for file in (tmp_path / path, tmp_path / "v.csv"):
                file.unlink(missing_ok=True)
                if text is not None:
                    file.write_text(text)
            with pytest.raises(jl.JammiError) as caught:
                AgentTools(ws).query(form.format(path))
            answers.append(str(caught.value))
    assert len(set(answers)) == 1 and "CANARY" not in answers[0], answers


@pytest.mark.only_soak
def test_recompute_is_a_tool_when_it_is_allowed(lab, tmp_path):
    (tmp_path / "a.csv").write_text("id,x\n1,2\n2,3\n3,9\n")
    tools, answers = talk(
        lab, ("recompute", {"name": "top"}), ("query", {"sql": "FROM jammi.top"}), flags=["--allow-recompute"]
    )  # fmt: skip
    assert not tools["recompute"].annotations and "computed" in answers[0]
    assert answers[1].startswith("Fresh.") and "9" in answers[1]


def test_statements_in_capitals_are_judged_like_others(ws, tmp_path):
    ws.materialize("t", "SELECT 42 AS n")
    tools = AgentTools(ws)
    assert tools.query("SELECT N FROM JAMMI.T") == tools.query("SELECT n FROM jammi.t")
    (tmp_path / "A.CSV").write_text("a\nCANARY\n")
    for text in (
        f"'{tmp_path}/A.CSV'",
        f"READ_CSV('{tmp_path}/A.CSV')",
        "READ_TEXT('/etc/passwd')",
    ):
        with pytest.raises(jl.JammiError) as caught:
            tools.query(f"SELECT * FROM {text}")
        assert "CANARY" not in str(caught.value)


# Each column is twice the one before it: DuckDB never ends to bind it.
DOUBLED = "SELECT 1 AS x0" + "".join(f", x{i} + x{i} AS x{i + 1}" for i in range(40))


HELLO = {
    "protocolVersion": "2025-06-18",
    "capabilities": {},
    "clientInfo": {"name": "t", "version": "1"},
}


@contextlib.contextmanager
def served(*command):
    """A server as a process: what sends it calls, or lines, and what reads an answer. It ends with
    its input."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen([sys.executable, *command], text=True, **pipes) as server:

        def send(*calls):
            for call in calls:
                line = call if isinstance(call, str) else json.dumps({"jsonrpc": "2.0", **call})
                server.stdin.write(line + "\n")
                server.stdin.flush()

        def answer():
            return json.loads(server.stdout.readline())

        try:
            send({"id": 0, "method": "initialize", "params": HELLO})
            assert answer()["id"] == 0
            yield send, answer
            server.stdin.close()
            assert server.wait(30) == 0, server.stderr.read()
        finally:
            server.kill()


@pytest.mark.parametrize(
    "text",
    [
        "SELECT count(*) FROM range(100000000) a, range(1000000) b",
        "SELECT repeat('x', 70000000)",
    ],
    ids=["long to run", "large"],
)
@pytest.mark.parametrize("more", ["", "; SELECT 2"])
def test_a_statement_has_a_limit_of_time_and_its_rows_one_of_size(ws, monkeypatch, text, more):
    monkeypatch.setattr(agent_server, "MAX_SECONDS", 60 if "repeat" in text else 0.5)
    monkeypatch.setattr(agent_server, "MAX_STATEMENT_CHARACTERS", 1_000_000)
    tools = AgentTools(ws)
    if more and "repeat" in text:
        assert tools.query(text + more).splitlines()[-2:] == ["      2", "1 row"]
        return
    with pytest.raises(jl.SqlError, match=r"was ended after 0\.5 seconds|The rows have 70 MB"):
        tools.query(text + more)
    assert "1 row" in tools.query("SELECT 1")


def test_a_long_answer_is_cut_and_says_so():
    cut = run_loop(agent_server._with_messages(lambda: "x" * 200_007)())
    assert cut == "x" * 200_000 + "\n… 7 more characters: ask for less."


def test_a_statement_whose_names_are_never_bound_has_a_limit_of_time(tmp_path, run_python):
    """In a process of its own, which a thread inside of DuckDB does not end with."""
    done = run_python(
        f"""
import os, sys, jammi_lab as jl
from jammi_lab.cli import agent_server
agent_server.MAX_SECONDS = 0.5
with jl.open(sys.argv[1]) as ws:
    tools = agent_server.AgentTools(ws)
    try:
        tools.query({DOUBLED!r})
    except jl.SqlError as error:
        print(error.message)
    agent_server.MAX_SECONDS = 60
    print(tools.query("SELECT 42 AS n").splitlines()[-2], flush=True)
    agent_server.MAX_SECONDS = 0.5
    for sql in ({DOUBLED.replace("1", "2", 1)!r}, "SELECT 42 AS n"):
        try:
            tools.query(sql)
        except jl.SqlError as error:
            print(error.message, flush=True)
    os._exit(0)
""",
        tmp_path / "lab",
    )
    assert done.stdout.splitlines() == [
        "The statement was ended after 0.5 seconds.",
        "     42",
        "The statement was ended after 0.5 seconds.",
        "2 statements go on after their time, so that no other is run.",
    ]


def test_an_overlong_statement_is_not_parsed(ws):
    """Beginnings of comments in each other took DuckDB minutes, in which nothing else ran."""
    with pytest.raises(jl.SqlError, match="has 100,000 characters; 20,000 are the most"):
        AgentTools(ws).query("/*" * 50_000)


@pytest.mark.every_case
@pytest.mark.timeout(20)
@pytest.mark.parametrize("text", ["n", "?sig", "Function with name ", '{"exception_type":', "["])
def test_an_error_that_repeats_a_long_text_is_short_typed_and_ready_at_once(ws, text):
    """Patterns that began again at each place in it, and JSON in it that Python does not decode,
    took minutes or ended in a bare error."""
    with pytest.raises(jl.SqlError) as caught:
        AgentTools(ws).query(f"SELECT error(repeat('{text}', {200_000 // len(text)}))")
    lines = caught.value.rendered_lines()
    assert 900 < max(map(len, lines)) <= 1000 and len(str(caught.value)) > 100_000
    for tool in (AgentTools(ws).why, AgentTools(ws).plan):
        with pytest.raises(jl.TableNotFound) as caught:
            tool(text * 10_000)
        assert max(map(len, caught.value.rendered_lines())) <= 1000


def test_a_server_with_a_statement_that_never_ends_ends_with_its_input(lab):
    """Where it returns from DuckDB while the interpreter ends, Python ends its thread by unwinding
    the stack, which C++ does not allow (SIGABRT)."""
    program = """
import sys, time
from jammi_lab.cli import agent_server, main

class Slow:
    def __del__(self, sleep=time.sleep):
        sleep(60)

agent_server.MAX_SECONDS = 0.2
the_end_takes_long = Slow()
sys.exit(main())
"""
    ask = {"name": "query", "arguments": {"sql": DOUBLED}}
    with served("-c", program, "mcp", str(lab)) as (send, answer):
        send({"method": "notifications/initialized"})
        send({"id": 1, "method": "tools/call", "params": ask})
        assert "was ended after 0.2 seconds" in str(answer())


@pytest.mark.timeout(60)
def test_a_client_that_reads_no_log_is_answered_and_an_interrupt_ends_the_server(lab):
    command = [sys.executable, "-m", "jammi_lab.cli", "mcp", str(lab)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, text=True, stdin=pipe, stdout=pipe, stderr=pipe) as server:
        try:
            wrong = {"name": "query", "arguments": {"sql": f"SELECT {'x' * 300}"}}
            calls = [
                {"id": 0, "method": "initialize", "params": HELLO},
                {"method": "notifications/initialized"},
                *({"id": n, "method": "tools/call", "params": wrong} for n in range(1, 60)),
            ]
            for call in calls:
                server.stdin.write(json.dumps({"jsonrpc": "2.0", **call}) + "\n")
                server.stdin.flush()
                if "id" in call:
                    assert json.loads(server.stdout.readline())["id"] == call["id"]
            server.send_signal(signal.SIGINT)
            assert server.wait(30) == -signal.SIGINT
        finally:
            server.kill()


@pytest.mark.timeout(40)
@pytest.mark.parametrize("tool", ["query", "recompute"])
def test_a_call_that_is_cancelled_keeps_no_other_waiting(lab, tool):
    """Its answer would come after 60 seconds, of a recomputation at no time."""
    endless = "SELECT count(*) AS n FROM range(100000000) a, range(1000000) b"
    with jl.open(lab) as ws:
        ws.define("endless", endless)
    arguments = {"query": {"sql": endless}, "recompute": {"name": "endless"}}[tool]
    why = {"name": "why", "arguments": {"name": "top"}}
    command = ("-m", "jammi_lab.cli", "mcp", str(lab), "--allow-recompute")
    with served(*command) as (send, answer):
        send({"method": "notifications/initialized"})
        called = {"name": tool, "arguments": arguments}
        send({"id": 1, "method": "tools/call", "params": called})
        time.sleep(2)
        send({"method": "notifications/cancelled", "params": {"requestId": 1}})
        send({"id": 2, "method": "tools/call", "params": why})
        assert answer()["id"] == 2
    with jl.open(lab) as ws:
        assert "endless" not in str(ws.recovery)


@pytest.mark.timeout(60)
def test_a_view_of_a_database_file_that_never_ends_has_a_limit_of_time(tmp_path, monkeypatch):
    """The reader process answers what values it has before the statement is prepared."""
    with contextlib.closing(sqlite3.connect(tmp_path / "d.sqlite")) as db:
        endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n"
        db.execute(f"CREATE VIEW v AS {endless}")
    monkeypatch.setattr(agent_server, "MAX_SECONDS", 0.5)
    with jl.open(tmp_path / "lab") as ws:
        ws.sources.add("d", tmp_path / "d.sqlite")
        with pytest.raises(jl.SqlError, match=r"was ended after 0\.5 seconds"):
            AgentTools(ws).query("FROM d.v")


@pytest.mark.skipif(sys.platform != "linux", reason="no other system counts what is allocated")
@soak
def test_a_statement_takes_no_more_memory_than_the_engine_may_use(tmp_path, run_python):
    """Of texts that a function returns, which the engine does not count, and of a text that is
    parsed: the long one fails at another point of it, after 10 seconds. The server goes on."""
    done = run_python(
        f"""
import resource, sys, jammi_lab as jl
from jammi_lab.cli import agent_server

def limit_to(tools, ws, bytes, sql):
    with open("/proc/self/status") as status:
        [used] = [int(line.split()[1]) << 10 for line in status if line.startswith("VmData")]
    agent_server.OTHER_MEMORY_BYTES = used + bytes
    agent_server.MAX_STATEMENT_CHARACTERS = 1_000_000
    agent_server.limit_memory(ws)
    try:
        print(tools.query(sql).splitlines()[-2], flush=True)
    except jl.JammiError as error:
        print(error.message, flush=True)

with jl.open(sys.argv[1], settings={{"engine.memory_limit": "100MB", "engine.threads": 2}}) as ws:
    tools = agent_server.AgentTools(ws)
    tools.query("SELECT 41 AS n")
    limit_to(tools, ws, 200 << 20, "SELECT repeat('x', 10000000) FROM range(100)")
    limit_to(tools, ws, 200 << 20, "SELECT 42 AS n")
    limit_to(tools, ws, 0, {sized("SELECT 1 IN (" + "2," * 100_000 + "2)", "SELECT 1" + " AND true" * 60_000)!r})
""",
        tmp_path / "lab",
    )
    sentence = "The statement needed more memory than it may use."
    assert done.stdout.splitlines() == [sentence, "     42", sentence], done.stderr


def test_lines_that_are_no_messages_are_passed_over(lab):
    lines = [
        "SELECT 1", "", "[" * 100_000, '{"jsonrpc": "2.0"}', '{"jsonrpc": "1.0", "id": 1, "method": "ping"}',
        '[{"jsonrpc": "2.0", "id": 2, "method": "ping"}]', '{"jsonrpc": "2.0", "id": "\\ud83d", "method": "ping"}',
        '{"jsonrpc": "2.0", "id": "a", "method": "ping", "params": {"x": "\\ud83d"}}',
        '{"jsonrpc": "2.0", "id": 3, "method": "ping"}',
    ]  # fmt: skip
    with served("-m", "jammi_lab.cli", "mcp", str(lab)) as (send, answer):
        send(*lines)
        assert answer().keys() == {"jsonrpc", "id", "result"}
