"""What the children of the crash tests run. `serve` is a server: for each line `<out> <what> <folder> …` on its standard input it
forks a child that writes to the file `<out>`, says its process id, and when it has ended its wait status. A fork is twenty times quicker than a start.

    points FOLDER            run the scenario and say every fault point that it passes
    die FOLDER POINT N       run it and kill -9 this very process when POINT is passed for the N-th time
    recover FOLDER POINT N   the same for opening the workspace; N = 0 dies nowhere and says the points
    increment FOLDER POINT N  the same for bringing a workspace up to date by increments
    map FOLDER POINT N       the same for a row map
    forever FOLDER SEED      make and drop tables until killed from outside
    change FOLDER SEED      change a mutable table, publish and hold ephemeral sessions until killed from outside
    hold FOLDER              begin a table, say BUILDING, and never end it
    drop FOLDER NAME         drop a recipe
    explore FOLDER SCENARIO MUTANT…   stop at once; when continued run a scenario of the crash explorer

`ACK` lines are promises: a call has returned.
"""

import os
import random
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars  # noqa: F401  before the fork, so that no child has to

import jammi_lab as jl
from jammi_lab.steps import increment
from jammi_lab.storage.files import install_fault_hook
from tests.processes import import_packages

CANARY = "xyzzy-canary-value-plugh"
ROW_MAP = "lengths"
CALLS = "calls"
"""The file in which the function of the row map notes its calls."""


def say(*words: str) -> None:
    """Tell the parent, in one write."""
    line = (" ".join(words) + "\n").encode()
    try:
        os.write(1, line)
    except OSError:  # a failure that was injected for the workspace hit this report
        os.write(1, line)


def scenario(folder: Path) -> None:
    """Two tables made, one of them from the other, a third made and dropped."""
    with jl.open(folder) as ws:
        say(
            "ACK materialize one",
            ws.materialize("one", "SELECT i, i * i AS s FROM range(1000) t(i)", key="i").table_name,
        )
        say(
            "ACK materialize two",
            ws.materialize("two", "SELECT count(*) AS n FROM jammi.one").table_name,
        )
        say("ACK materialize gone", ws.materialize("gone", "SELECT 7 AS x").table_name)
        say("TRY drop gone")
        ws.drop("gone")
        say("ACK drop gone")


def cut(run: Callable[[], Any], point: str, nth: int) -> None:
    """The run, killed at one point; for `nth` = 0 uncut, and its points are said."""
    passed: list[str] = []

    def hook(name: str) -> None:
        passed.append(name)
        if nth and name == point and passed.count(point) == nth:
            os.kill(os.getpid(), signal.SIGKILL)

    install_fault_hook(hook)
    run()
    say("POINTS", *passed)


def recompute_small(folder: Path) -> None:
    """Bring a workspace up to date, by increments however small it is, its row map first."""
    increment.MIN_INPUT_ROWS, increment.MAX_SHARE = 0, 1e9
    with jl.open(folder) as ws:
        if ROW_MAP in ws:
            map_texts(ws, folder)
        say("ACK", *(step.outcome for step in ws.recompute().steps))


def slow_length(text: str) -> dict[str, int]:
    """The function of the row map: tells the file system that it was called."""
    with open(CALLS, "a") as calls:
        calls.write(f"{text}\n")
    time.sleep(0.012)  # longer than what is saved together
    return {"length": len(text)}


def map_texts(ws: Any, folder: Path) -> Any:
    """The row map over the texts of a workspace, whose function notes its calls."""
    global CALLS
    CALLS = str(folder / "calls")
    return ws.map(ROW_MAP, slow_length, "texts", key="id", inputs=["text"], version="1")


def map_rows(folder: Path) -> None:
    """Recompute the row map of a workspace."""
    with jl.open(folder) as ws:
        say("ACK", map_texts(ws, folder).outcome)


def forever(folder: Path, seed: int) -> None:
    """Random changes of tables, each told as it begins and when it has returned."""
    chance = random.Random(seed)
    with jl.open(folder) as ws:
        say("OPEN")
        for turn in range(1_000_000):
            name = f"t{chance.randrange(4)}"
            rows = chance.choice([1, 10, 200_000])
            statement = f"SELECT i, {seed} AS seed, {turn} AS turn FROM range({rows}) t(i)"
            verb = chance.choice(["drop", "expire", "fsck", "recompute", *["materialize"] * 4])
            say("VERB", verb)
            match verb:
                case "drop":
                    say("TRY drop", name)
                    ws.drop(name, if_exists=True, force=True)
                    say("ACK drop", name)
                case "expire" if name in ws:
                    say("TRY expire", name)
                    ws.expire(name)
                case "fsck":
                    report = ws.fsck(deep=True, repair=True, grace=0)
                    assert not (report.missing or report.damaged or report.errors), report
                case "recompute":
                    say("TRY materialize", name)
                    ws.define(name, statement)
                    ws.recompute()
                    say("ACK materialize", name, ws.table(name).table_name)
                case _:
                    say("TRY materialize", name)
                    made = ws.materialize(name, statement)
                    say("ACK materialize", name, made.table_name)


def change(folder: Path, seed: int) -> None:
    """Random changes of what changes: the table `notes`, the topic `events`, sessions with rows;
    each told as it begins and when it has returned."""
    chance = random.Random(seed)
    with jl.open(folder) as ws:
        say("OPEN")
        notes = ws.mutable["notes"]
        keys = notes.read().arrow()["k"].to_pylist()
        for turn in range(1_000_000):
            match chance.randrange(4):
                case 0:
                    say("VERB publish")
                    say("TRY publish")
                    say(
                        "ACK publish",
                        str(
                            ws.topics.publish(
                                "events", [{"seed": seed, "turn": turn, "text": "x" * 3000}] * 3
                            )
                        ),
                    )
                case 1:
                    say("VERB session")
                    with ws.tenant("acme"):
                        session = ws.ephemeral()
                        session.create("scratch", {"k": "int64", "word": "string"}, primary_key="k")
                        session.insert(
                            "scratch", [{"k": k, "word": CANARY * 100} for k in range(50)]
                        )
                        if chance.random() < 0.5:
                            session.close()
                case 2 if keys:
                    key = keys.pop(chance.randrange(len(keys)))
                    say("VERB delete")
                    say("TRY note", str(key), "-")
                    notes.delete(f"k = {key}")
                    say("ACK note", str(notes.version))
                case _:
                    key, value = chance.randrange(30), seed * 1_000_000 + turn
                    keys = [*{*keys, key}]
                    say("VERB upsert")
                    say("TRY note", str(key), str(value))
                    notes.upsert([{"k": key, "v": value, "text": "y" * chance.choice([1, 10_000])}])
                    say("ACK note", str(notes.version))


def hold(folder: Path) -> None:
    """A build that does not end."""

    def wait(_: object) -> None:
        say("BUILDING")
        time.sleep(3600)

    with jl.open(folder) as ws:
        ws.materialize("held", "SELECT 1 AS x", progress=wait)


def run(what: str, folder: Path, rest: list[str]) -> None:
    """One child's work."""
    match what, rest:
        case "points", []:
            cut(lambda: scenario(folder), "", 0)
        case "die", [point, nth]:
            cut(lambda: scenario(folder), point, int(nth))
        case "recover", [point, nth]:
            cut(lambda: jl.open(folder).close(), point, int(nth))
        case "increment", [point, nth]:
            cut(lambda: recompute_small(folder), point, int(nth))
        case "map", [point, nth]:
            cut(lambda: map_rows(folder), point, int(nth))
        case "forever", [seed]:
            forever(folder, int(seed))
        case "change", [seed]:
            change(folder, int(seed))
        case "hold", []:
            hold(folder)
        case "drop", [name]:
            with jl.open(folder) as ws:
                ws.drop(name, force=True)
        case "explore", [which, *mutants]:
            from tests.crash.explorer.child import traced

            traced(folder, which, mutants)


def serve() -> None:
    """Fork a child for each line, one after the other."""
    import_packages()
    say("SERVING")
    for line in sys.stdin:
        out, what, folder, *rest = line.rstrip("\n").split("\t")
        child = os.fork()
        if child == 0:
            code = 1
            try:
                os.dup2(os.open(out, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), 1)
                run(what, Path(folder), rest)
                code = 0
            except BaseException:
                say(traceback.format_exc())
            finally:
                os._exit(code)
        say(str(child))
        say(str(os.waitpid(child, 0)[1]))
