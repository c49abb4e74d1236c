"""Topics across real processes: one order for all, an event whole or not at all, seen by others
within a second. Over both kinds of catalog."""

import os
import signal
import time

import pytest

import jammi_lab as jl

WRITER = """
import sys, jammi_lab as jl
folder, catalog, who, n = sys.argv[1], sys.argv[2] or None, sys.argv[3], int(sys.argv[4])
with jl.open(folder, catalog=catalog) as ws:
    print("open", flush=True)
    sys.stdin.readline()
    for i in range(n):
        print(ws.topics.publish("events", [{"who": who, "n": i, "text": "x" * 2000}] * 3), flush=True)
"""


@pytest.fixture
def lab(place):
    folder, url = place
    with jl.open(folder, catalog=url or None) as ws:
        ws.topics.register("events", {"who": "string", "n": "int64", "text": "string"})
        yield ws


@pytest.fixture
def writer(place, start_python):
    """Starts a process that publishes when it is told to: `writer(who, n)`."""

    def start(who, n):
        process = start_python(WRITER, *place, who, n)
        assert process.stdout.readline() == "open\n"
        return process

    return start


def go(process):
    process.stdin.write("\n")
    process.stdin.flush()


def test_writers_in_two_processes_share_one_order(lab, writer):
    children = [writer(who, 20) for who in ("a", "b")]
    for each in children:
        go(each)
    mine = [lab.topics.publish("events", [{"who": "me", "n": i}]) for i in range(20)]
    theirs = [[int(line) for line in each.communicate(timeout=180)[0].split()] for each in children]
    assert sorted([*mine, *theirs[0], *theirs[1]]) == list(range(60))
    events = list(lab.topics.replay("events"))
    assert [e.offset for e in events] == list(range(60))
    for who in ("a", "b", "me"):  # and each writer's own events in the order in which it wrote them
        assert [
            e.batch["n"][0].as_py() for e in events if e.batch["who"][0].as_py() == who
        ] == list(range(20))


def test_an_event_of_another_process_comes_within_a_second(lab, writer):
    child = writer("a", 1)
    following = lab.topics.subscribe("events", timeout=20)
    go(child)
    assert child.stdout.readline() == "0\n"
    published = time.monotonic()
    assert next(following).offset == 0
    assert time.monotonic() - published < 1
    following.close()


def test_a_writer_that_is_killed_leaves_whole_events_only(lab, writer):
    acknowledged = []
    for turn in range(3):
        child = writer(f"w{turn}", 10_000)
        go(child)
        for _ in range(5 + turn):
            acknowledged.append(int(child.stdout.readline()))
        os.kill(child.pid, signal.SIGKILL)
        acknowledged += [
            int(line) for line in child.communicate()[0].split("\n")[:-1] if line.isdigit()
        ]
    events = list(lab.topics.replay("events"))
    assert [e.offset for e in events] == list(range(len(events)))
    assert set(acknowledged) <= {e.offset for e in events}
    assert {e.batch.num_rows for e in events} == {3}
    assert lab.topics.publish("events", [{"n": 0}]) == len(events)


DIE = """
import os, sys, jammi_lab as jl
from jammi_lab.storage.files import install_fault_hook
folder, catalog, point, act = sys.argv[1], sys.argv[2] or None, *sys.argv[3:]
with jl.open(folder, catalog=catalog) as ws:
    install_fault_hook(lambda name: os._exit(9) if name == point else None)
    exec(act)
"""


@pytest.mark.parametrize("point", ["catalog:before-commit", "catalog:after-commit"])
@pytest.mark.parametrize(
    ("act", "after"),
    [
        ('ws.topics.register("new", {"id": "int64"})', {"events": [0], "new": []}),
        (
            'ws.topics.publish("events", [{"who": "w", "n": n, "text": "x" * 9000} for n in range(300)])',
            {"events": [0, 1]},
        ),
        ('ws.topics.drop("events")', {}),
    ],
    ids=["register", "publish", "drop"],
)
def test_a_writer_that_dies_in_the_middle_of_anything_has_done_it_or_not(
    lab, place, run_python, act, after, point
):
    lab.topics.publish("events", [{"n": 0}])
    run_python(DIE, str(place[0]), place[1], point, act, check=False)
    found = {
        topic.name: [e.offset for e in lab.topics.replay(topic.name)] for topic in lab.topics.list()
    }
    assert found == (after if point == "catalog:after-commit" else {"events": [0]})
    if "events" in found:
        assert lab.topics.publish("events", [{"n": 1}]) == len(found["events"])
        assert sum(e.batch.num_rows for e in lab.topics.replay("events")) == 2 + 300 * (
            len(found["events"]) - 1
        )


def test_the_log_outlives_its_writer(lab, writer, place):
    child = writer("a", 2)
    go(child)
    child.communicate(timeout=180)
    with jl.open(place[0], catalog=place[1] or None) as again:
        assert [e.offset for e in again.topics.replay("events", where="who = 'a' AND n >= 1")] == [
            1
        ]
        assert again.sql("SELECT count(*) FROM topics.events").fetchall() == [(6,)]
