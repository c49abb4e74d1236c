"""URLs of database servers: parsing, stripping credentials, parameters of DuckDB secrets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote, unquote, urlsplit

from jammi_lab.core.errors import InvalidArgument
from jammi_lab.core.identifiers import is_text, near_names

KINDS = {"postgresql": "postgresql", "postgres": "postgresql", "mysql": "mysql", "mariadb": "mysql"}
"""The kind of source by URL scheme, without a driver behind `+`."""
PORTS = {"postgresql": 5432, "mysql": 3306}
URL_PARAMETERS = {
    "postgresql": (
        "sslmode",
        "sslrootcert",
        "sslcert",
        "sslkey",
        "channel_binding",
        "target_session_attrs",
        "host",
    ),
    "mysql": ("ssl_mode", "ssl_ca", "ssl_capath", "ssl_cert", "ssl_cipher", "ssl_key", "socket"),
}
"""Allowed query parameters by kind: how to reach the server, nothing secret."""


def kind_of(scheme: str | None) -> str | None:
    """The kind of server for a scheme, or None."""
    return None if scheme is None else KINDS.get(scheme.split("+", 1)[0])


@dataclass(frozen=True, slots=True)
class DatabaseAddress:
    """A parsed URL without its password."""

    scheme: str
    host: str
    port: int | None
    user: str
    database: str
    parameters: tuple[tuple[str, str], ...]
    """Query parameters, sorted by name."""

    @property
    def kind(self) -> str:
        """The kind of server: postgresql or mysql."""
        return KINDS[self.scheme]

    @property
    def server(self) -> tuple[str, int]:
        """Host and port."""
        return self.host, self.port or PORTS[self.kind]

    def __str__(self) -> str:
        user = f"{quote(self.user, safe='')}@" if self.user else ""
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = f":{self.port}" if self.port is not None and self.port != PORTS[self.kind] else ""
        query = "&".join(f"{name}={quote(value, safe='/')}" for name, value in self.parameters)
        database = quote(self.database, safe="")
        return f"{self.scheme}://{user}{host}{port}/{database}{'?' if query else ''}{query}"


def parse_url(location: str) -> tuple[DatabaseAddress, str | None]:
    """Parse a URL into its address and password. Raises InvalidArgument, whose message contains
    neither."""
    invalid = InvalidArgument(
        "The URL of the database is invalid.",
        hint="Write postgresql://user@host:5432/database; percent-encode @ as %40.",
    )
    try:
        parts = urlsplit(location)
        port = parts.port
    except ValueError:
        raise invalid from None
    scheme = parts.scheme.lower().split("+", 1)[0]
    scheme = "postgresql" if scheme == "postgres" else scheme
    database = unquote(parts.path.removeprefix("/"))
    if not is_text(unquote(location)) or "/" in database:
        raise invalid
    password = unquote(parts.password) if parts.password is not None else None
    parameters, password = _parse_query(KINDS[scheme], parts.query, password)
    host, user = unquote(parts.hostname or ""), unquote(parts.username or "")
    return DatabaseAddress(scheme, host, port, user, database, parameters), password


def _parse_query(
    kind: str, query: str, password: str | None
) -> tuple[tuple[tuple[str, str], ...], str | None]:
    parameters = {}
    for part in (p for p in query.split("&") if p):
        name, _, value = part.partition("=")
        name = name.lower()
        if name == "password":
            password = unquote(value)
        elif name in URL_PARAMETERS[kind]:
            parameters[name] = unquote(value)
        else:
            raise InvalidArgument(
                f"Unknown parameter {name[:40]!r} in the URL of a {kind} source.",
                near=near_names(name, URL_PARAMETERS[kind]),
                hint=f"Known parameters: {', '.join(URL_PARAMETERS[kind])}.",
            )
    return tuple(sorted(parameters.items())), password


def strip_password(location: str) -> tuple[str, dict[str, str]]:
    """The URL without its password, and the password as a credential. Raises InvalidArgument."""
    address, password = parse_url(location)
    return str(address), {} if password is None else {"password": password}


def secret_parameters(address: DatabaseAddress, password: str | None) -> Mapping[str, str]:
    """The parameters of the DuckDB secret for a server."""
    url_parameters = dict(address.parameters)
    host = url_parameters.get("host", address.host)
    values = {
        "HOST": host,
        "PORT": str(address.port or PORTS[address.kind]),
        "USER": address.user,
        "DATABASE": address.database,
    }
    if address.kind == "mysql":
        values |= {name.upper(): value for name, value in url_parameters.items()}
    if password is not None:
        values["PASSWORD"] = password
    return {name: value for name, value in values.items() if value}
