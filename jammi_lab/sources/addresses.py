"""Addresses of database servers: what is typed, what may be stored and shown, and the credentials that are taken out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from urllib.parse import quote, unquote, urlsplit

from jammi_lab.errors import InvalidArgument
from jammi_lab.names import near

KINDS = {"postgresql": "postgresql", "postgres": "postgresql", "mysql": "mysql", "mariadb": "mysql"}
"""The kind of source by the scheme of its address, a driver behind `+` left out."""
OPTIONS: Mapping[str, Mapping[str, tuple[type, ...]]] = {
    "postgresql": {"schemas": (list, tuple), "numeric": (str,)},
    "mysql": {"schemas": (list, tuple)},
}
"""For each kind, its options and their types."""
PORTS = {"postgresql": 5432, "mysql": 3306}
WORDS = {
    "postgresql": ("sslmode", "sslrootcert", "sslcert", "sslkey", "channel_binding", "target_session_attrs", "host"),
    "mysql": ("ssl_mode", "ssl_ca", "ssl_capath", "ssl_cert", "ssl_cipher", "ssl_key", "socket"),
}
"""What may stand behind the `?` of an address, by kind: how the server is reached, nothing secret."""


def kind_of(scheme: str | None) -> str | None:
    """The kind of server that a scheme means, or None."""
    return None if scheme is None else KINDS.get(scheme.split("+", 1)[0])


@dataclass(frozen=True, slots=True)
class Address:
    """Where a database is, without any password."""

    scheme: str
    host: str
    port: int | None
    user: str
    database: str
    words: tuple[tuple[str, str], ...]
    """What stands behind the `?`."""

    @property
    def kind(self) -> str:
        """Which server: postgresql or mysql."""
        return KINDS[self.scheme]

    @property
    def server(self) -> tuple[str, int]:
        """Host and port."""
        return self.host, self.port or PORTS[self.kind]

    def __str__(self) -> str:
        user = f"{quote(self.user, safe='')}@" if self.user else ""
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = f":{self.port}" if self.port is not None and self.port != PORTS[self.kind] else ""
        words = "&".join(f"{name}={quote(value, safe='/')}" for name, value in self.words)
        return f"{self.scheme}://{user}{host}{port}/{quote(self.database, safe='')}{'?' if words else ''}{words}"


def read(location: str) -> tuple[Address, str | None]:
    """An address and the password that was in it. InvalidArgument, telling neither, for one that cannot be read."""
    try:
        parts = urlsplit(location)
        port = parts.port
        host = parts.hostname or ""
    except ValueError:
        raise InvalidArgument(
            "The address of the database cannot be read.", hint="Write postgresql://user@host:5432/database; special characters as %40."
        ) from None
    scheme = parts.scheme.lower().split("+", 1)[0]
    database = unquote(parts.path.removeprefix("/"))
    if "\0" in unquote(location) or "/" in database:
        raise InvalidArgument("The address of the database cannot be read.", hint="Write postgresql://user@host:5432/database.")
    password = unquote(parts.password) if parts.password is not None else None
    words, password = _words(KINDS[scheme], parts.query, password)
    address = Address(scheme, unquote(host), port, unquote(parts.username or ""), database, words)
    return replace(address, scheme="postgresql" if scheme == "postgres" else scheme), password


def _words(kind: str, query: str, password: str | None) -> tuple[tuple[tuple[str, str], ...], str | None]:
    words = {}
    for part in (p for p in query.split("&") if p):
        name, _, value = part.partition("=")
        name = name.lower()
        if name == "password":
            password = unquote(value)
        elif name in WORDS[kind]:
            words[name] = unquote(value)
        else:
            raise InvalidArgument(
                f"The address of a {kind} source takes no {name[:40]!r}.", near=near(name, WORDS[kind]), hint=f"It takes {', '.join(WORDS[kind])}."
            )
    return tuple(sorted(words.items())), password


def taken_out(location: str) -> tuple[str, dict[str, str]]:
    """The address as it may be stored and shown, and the password that was in it. InvalidArgument."""
    address, password = read(location)
    return str(address), {} if password is None else {"password": password}


def parameters(address: Address, password: str | None) -> Mapping[str, str]:
    """The parameters of DuckDB's secret for a server."""
    words = dict(address.words)
    host = words.get("host", address.host)
    said = {"HOST": host, "PORT": str(address.port or PORTS[address.kind]), "USER": address.user, "DATABASE": address.database}
    if address.kind == "mysql":
        said |= {name.upper(): value for name, value in words.items()}
    if password is not None:
        said["PASSWORD"] = password
    return {name: value for name, value in said.items() if value}
