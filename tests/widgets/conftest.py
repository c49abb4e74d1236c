"""A small workspace whose tables can go stale, and panels whose messages are kept instead of
sent."""

import pytest

import jammi_lab as jl
from tests.templates import Template


def _build(folder):
    (folder / "papers.csv").write_text("id,title,year,venue\n1,a,2020,X\n2,b,2021,Y\n3,c,2022,X\n")
    (folder / "notes.csv").write_text("id,note\n1,hi\n")
    with jl.open(folder / "lab") as ws:
        ws.sources.add("papers", folder / "papers.csv")
        ws.sources.add("notes", folder / "notes.csv")
        ws.materialize("recent", "SELECT * FROM papers WHERE year > 2020", key="id")
        ws.materialize("venues", "SELECT venue, count(*) AS n FROM jammi.recent GROUP BY ALL")
        ws.materialize("noted", "SELECT p.id, title, note FROM papers p LEFT JOIN notes USING (id)")
        ws.materialize(
            "summary",
            "SELECT (SELECT count(*) FROM jammi.venues) AS v, (SELECT count(*) FROM jammi.noted) AS n",
        )


_template = Template(_build)


@pytest.fixture
def papers():
    """The file behind papers → recent → venues → summary; beside it that of notes → noted →
    summary."""
    return _template.restore() / "papers.csv"


@pytest.fixture
def ws(papers):
    with jl.open(papers.parent / "lab") as ws:
        yield ws


@pytest.fixture
def rows(ws):
    """The result of a statement."""
    return ws.sql


@pytest.fixture
def edited(papers):
    """Calling it adds a paper."""
    return lambda: papers.open("a").write("4,d,2023,Z\n")


N = 40
"""The number of rows of `things`."""


def write_things(path, group=lambda i: f"g{i % 13}", ids=range(N)):
    path.write_text("id,title,group\n" + "".join(f"{i},t{i},{group(i)}\n" for i in reversed(ids)))


@pytest.fixture
def things(tmp_path):
    write_things(tmp_path / "things.csv")
    return tmp_path / "things.csv"


@pytest.fixture
def lab(tmp_path, things):
    """Vectors of the titles in the file `things`."""
    with jl.open(tmp_path / "lab") as ws:
        ws.sources.add("things", things)
        ws.embed("v", "things", key="id", text="title", model="hashing")
        yield ws


class Told:
    """What a panel told its page, and a way to ask it."""

    def __init__(self, panel):
        self.panel, self.messages, self._number = panel, [], 0
        panel.send = lambda content, buffers=None: self.messages.append(content)

    def give(self, message):
        """Give the panel a message as it would come from a page."""
        self.panel._on_message(self.panel, message, [])

    def send(self, kind, **fields):
        """Ask without waiting; the number of the message."""
        self._number += 1
        self.give({"v": 1, "ask": self._number, "kind": kind, **fields})
        return self._number

    def of(self, number):
        """What was answered to a message."""
        return [m for m in self.messages if m.get("ask") == number]

    def wait(self):
        """Wait until everything is answered."""
        self.panel._reply_queue.wait(30)

    @property
    def waits(self):
        """Whether an answer waits for others."""
        return self.panel._reply_queue.busy

    def ask(self, kind, **fields):
        number = self.send(kind, **fields)
        self.wait()
        return next(m for m in self.of(number) if m["kind"] != "reading")

    def answer(self, kind, **fields):
        """What is in the answer."""
        return self.ask(kind, **fields)["body"]

    def act(self, action, *names):
        """Begin something and wait for its end: the last message."""
        assert self.ask("act", action=action, names=list(names))["body"] == {"begun": True}
        self.panel._runner.wait(30)
        return next(
            m for m in reversed(self.messages) if m["kind"] in ("done", "failed", "stopped")
        )


@pytest.fixture
def told():
    return Told
