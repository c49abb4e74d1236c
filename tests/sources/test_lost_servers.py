"""Servers that are lost in the middle, and what else may listen on a port."""

from __future__ import annotations

import itertools
import os
import signal
import threading
from collections.abc import Iterator

import pytest

import jammi_lab
from jammi_lab.core.errors import SourceUnavailable
from tests.services.proxy import Proxy, listening
from tests.sources.servers import RUN, URLS

pytestmark = pytest.mark.services


@pytest.fixture(params=["postgresql", "mysql"])
def proxied(request, tmp_path) -> Iterator[tuple[jammi_lab.Workspace, Proxy, str]]:
    kind = request.param
    url, run = request.getfixturevalue(URLS[kind]), RUN[kind]
    rows = "generate_series(1, 100000) AS i" if kind == "postgresql" else "seq_1_to_100000"
    number = "i" if kind == "postgresql" else "seq"
    run(
        url,
        "DROP TABLE IF EXISTS lost",
        f"CREATE TABLE lost AS SELECT {number} AS id FROM {rows}",
    )
    proxy = Proxy(url)
    with jammi_lab.open(tmp_path / "ws") as ws:
        ws.sources.add("s", proxy.url)
        yield ws, proxy, "SELECT id FROM s.lost"
        proxy.close()
    run(url, "DROP TABLE lost")


def test_a_server_that_is_lost_during_a_materialization_is_named(proxied):
    ws, proxy, statement = proxied
    proxy.sent, proxy.ends_after = 0, 100_000
    with pytest.raises(
        SourceUnavailable,
        match=r"cannot be read.*(connection was lost|response could not be parsed)",
    ) as raised:
        ws.materialize("t", statement)
    assert "file" not in str(raised.value)


def test_a_server_that_sends_no_more_is_waited_for_until_an_interrupt(proxied):
    ws, proxy, statement = proxied
    proxy.sent, proxy.ends_after, proxy.is_silent = 0, 100_000, True
    knock = threading.Timer(2, lambda: os.kill(os.getpid(), signal.SIGINT))
    knock.start()
    with pytest.raises(KeyboardInterrupt):
        ws.materialize("t", statement)
    proxy.ends_after = None
    assert ws.materialize("t", statement).row_count == 100_000


GARBAGE = {
    "bytes": b"\xff\xfe\x80garbage\xc3\x28" * 20,
    "ssh": b"SSH-2.0-OpenSSH_9.2\r\n",
    "http": b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n",
}
NEARLY_MYSQL = {
    "a report of progress": b"\x05\0\0\0\xff\xff\xff\xff\xff",
    "an empty error": b"\x01\0\0\0\xff",
    "no end of the version": b"\x4a\0\0\0\x0a" + b"5" * 73,
    "half of a greeting": b"\x4a\0\0\0\x0a5.5.5-10.11\0",
}
"""The client of the extension ended the process with the first, and waited for the last."""


@pytest.mark.parametrize(
    ("kind", "sends"),
    [
        *itertools.product(["postgresql", "mysql"], GARBAGE.values()),
        *(("mysql", packet) for packet in NEARLY_MYSQL.values()),
    ],
)
def test_bytes_of_another_program_are_a_typed_error(ws, kind, sends):
    with (
        listening(sends, ends=True) as port,
        pytest.raises(SourceUnavailable, match="another program may") as told,
    ):
        ws.sources.add("s", f"{kind}://u@127.0.0.1:{port}/d")
    assert ("does not follow the expected protocol" in told.value.message) or kind == "postgresql"
