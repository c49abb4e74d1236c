"""Servers that stop sending in the middle of a read without closing the connection.

The clients of PostgreSQL and MySQL wait for an answer without a time limit, inside DuckDB, where no
interrupt reaches them. Therefore a statement that waits looks in /proc which threads of the process
are blocked in a read from the socket of an attached server. A thread that nothing has woken for the
time limit gets its socket shut down: the client reports a lost connection, the statement ends with
an error, and no thread is left behind. Without /proc (macOS) nothing is watched.

A server may compute for long before it sends the first byte. In that case the time limit applies
only if it does not accept new connections either; else the wait is limited to an hour.
"""

import contextlib
import os
import platform
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from jammi_lab.core.errors import SourceUnavailable
from jammi_lab.sources.attach import responds
from jammi_lab.sources.base import Attachment, Relation

MAX_FIRST_BYTE_SECONDS = 3600.0
"""The longest wait for the first byte of an answer of a server that accepts connections."""
_ERROR_SECONDS = 10.0
"""How long after a shutdown an error of the source is attributed to it."""
_RECONNECTED_SECONDS = 5.0
"""The limit during that time: the clients connect again by themselves and repeat the query."""
_CHECKS_PER_LIMIT, _MAX_CHECK_SECONDS = 10.0, 1.0
_ENGINE_THREADS = ("jammi-engine", "jammi-statement")
"""The Python threads that call DuckDB for us. Others may have connections of their own to the same
server (a catalog, a notebook's own client)."""
_READS, _POLLS = {
    "x86_64": ((0, 45, 47), (7, 271)),  # read, recvfrom, recvmsg; poll, ppoll
    "aarch64": ((63, 207, 212), (73,)),
}.get(platform.machine(), ((), ()))
_POLLFD = struct.Struct("ihh")
_LAST_DATA = struct.Struct("44xI4xI")
"""In `struct tcp_info`: milliseconds since data was last sent, and received."""
_Wait = tuple[int, int, int]
"""A thread's wait: its id, the descriptor, and how often the thread has been woken."""


@dataclass(slots=True)
class _Server:
    attachment: Attachment
    peers: frozenset[object]


class SilenceWatch:
    """The watch over the servers that are attached to one instance."""

    def __init__(
        self, limit_seconds: Callable[[], float], attached: Callable[[], Iterable[Attachment]]
    ) -> None:
        self._limit_seconds, self._attached = limit_seconds, attached
        self._lock = threading.Lock()
        self._next_check = 0.0
        self._since: dict[_Wait, float] = {}
        self._ended: dict[str, float] = {}

    def check(self) -> None:
        """End the reads that have waited for too long. Called repeatedly by everybody who waits for
        a statement; checks at most once a second."""
        now, limit = time.monotonic(), self._limit_seconds()
        if not limit or now < self._next_check or not self._lock.acquire(blocking=False):
            return
        try:
            self._next_check = now + min(limit / _CHECKS_PER_LIMIT, _MAX_CHECK_SECONDS)
            if servers := _servers(self._attached()):
                waits = _blocked_reads()
                self._since = {wait: self._since.get(wait, now) for wait in waits}
                for wait, since in self._since.items():
                    if now - since >= min(limit, _RECONNECTED_SECONDS):
                        self._end_if_silent(wait, servers, now - since, limit)
        finally:
            self._lock.release()

    def _end_if_silent(
        self, wait: _Wait, servers: Iterable[_Server], waited: float, limit: float
    ) -> None:
        try:
            connection = socket.socket(fileno=os.dup(wait[1]))
        except OSError:
            return
        with connection, contextlib.suppress(OSError):
            peer = _peer(connection)
            server = next((server for server in servers if peer in server.peers), None)
            if server is None or wait not in _blocked_reads():
                return
            if waited < limit and not self._was_ended(server.attachment):
                return
            if (
                _is_within_answer(connection)
                or waited > MAX_FIRST_BYTE_SECONDS
                or not responds(server.attachment)
            ):
                self._ended[server.attachment.alias] = time.monotonic()
                connection.shutdown(socket.SHUT_RDWR)

    def explain(self, relations: Iterable[Relation]) -> SourceUnavailable | None:
        """The error of a statement over these relations that this watch has ended a moment ago."""
        for relation in relations:
            attachment = relation.requirements.attachment
            if attachment is not None and self._was_ended(attachment):
                return SourceUnavailable(
                    f"The source {relation.input.name!r} cannot be read: its server sent nothing "
                    f"for {self._limit_seconds():g} s (the setting sources.read_timeout_seconds).",
                    hint="Check whether it is overloaded or stopped.",
                )
        return None

    def _was_ended(self, attachment: Attachment) -> bool:
        """Whether a read from this server was ended a moment ago."""
        ended = self._ended.get(attachment.alias)
        return ended is not None and time.monotonic() - ended < _ERROR_SECONDS


def _servers(attached: Iterable[Attachment]) -> list[_Server]:
    """The servers among the attachments, with the addresses of their sockets."""
    servers = []
    for attachment in attached:
        host, port = (dict(attachment.secret or {}).get(name, "") for name in ("HOST", "PORT"))
        if host.startswith("/"):
            servers.append(_Server(attachment, frozenset({f"{host}/.s.PGSQL.{port}"})))
        elif host and port.isdigit():
            with contextlib.suppress(OSError):
                addresses = socket.getaddrinfo(host, int(port), type=socket.SOCK_STREAM)
                servers.append(
                    _Server(attachment, frozenset(address[:2] for *_, address in addresses))
                )
    return servers


def _peer(connection: socket.socket) -> object:
    address = connection.getpeername()
    return address[:2] if isinstance(address, tuple) else address


def _is_within_answer(connection: socket.socket) -> bool:
    """Whether the last thing that happened on a connection is that data was received."""
    if connection.family == socket.AF_UNIX:
        return False
    info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _LAST_DATA.size)
    sent_ms, received_ms = _LAST_DATA.unpack(info)
    return bool(received_ms < sent_ms)


def _blocked_reads() -> frozenset[_Wait]:
    """The waits of DuckDB's threads for one descriptor, without a time limit of their own."""
    if sys.platform != "linux" or not _READS:
        return frozenset()
    others = {t.native_id for t in threading.enumerate() if t.name not in _ENGINE_THREADS}
    waits = set[_Wait]()
    with contextlib.suppress(OSError):
        for thread in map(int, os.listdir("/proc/self/task")):
            if thread not in others and (wait := _blocked_read(thread)) is not None:
                waits.add(wait)
    return frozenset(waits)


def _blocked_read(thread: int) -> _Wait | None:
    folder = f"/proc/self/task/{thread}"
    with contextlib.suppress(OSError, ValueError, struct.error):  # it has ended meanwhile
        with open(f"{folder}/syscall") as file:
            number, *arguments = file.read().split()
        if not arguments:  # it is running
            return None
        values = [int(argument, 16) for argument in arguments]
        if int(number) in _READS:
            descriptor = values[0]
        elif int(number) in _POLLS and values[1] == 1:
            with open("/proc/self/mem", "rb", buffering=0) as memory:
                memory.seek(values[0])
                descriptor, *_ = _POLLFD.unpack(memory.read(_POLLFD.size))
        else:
            return None
        with open(f"{folder}/status") as file:
            wakes = [int(line.split()[1]) for line in file if "ctxt_switches" in line]
        return thread, descriptor, sum(wakes)
    return None
