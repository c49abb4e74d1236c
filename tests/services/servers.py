"""The servers that tests marked `services` talk to, and a database of its own for each test
session.

A server is taken from JAMMI_TEST_POSTGRES or JAMMI_TEST_MYSQL (the URL of a user who may make
databases), else from what listens on the default port of this machine and lets such a user in
without a password, else it is started from what is installed here. Where none of that is to be had
the test is skipped, and fails under JAMMI_REQUIRE_SERVICES=1.
"""

import contextlib
import functools
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit, urlunsplit

import pytest

from jammi_lab.core.identifiers import sql_literal

if TYPE_CHECKING:
    import duckdb

HOST = "127.0.0.1"
_SECONDS = 60


class NoServer(Exception):
    """Why a server cannot be had here."""


def no_service(word: str) -> None:
    """Skip the running test for want of a server; a failure where servers are required."""
    if os.environ.get("JAMMI_REQUIRE_SERVICES") == "1":
        pytest.fail(f"JAMMI_REQUIRE_SERVICES=1, but {word}", pytrace=False)
    pytest.skip(word)


def in_database(url: str, name: str) -> str:
    """The URL of another database of the same server."""
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))


# -- PostgreSQL ------------------------------------------------------------------------------------


def run_postgres(url: str, *statements: str) -> list[tuple[object, ...]]:
    """Run statements on a PostgreSQL server, each on its own; the rows of the last one."""
    import psycopg

    with psycopg.connect(url, autocommit=True, connect_timeout=5) as connection:
        cursor = connection.cursor()
        for statement in statements:
            cursor.execute(statement)  # type: ignore[call-overload]  # psycopg wants a literal
        return cursor.fetchall() if cursor.description else []


def _postgres_answers(url: str) -> bool:
    import psycopg

    with contextlib.suppress(psycopg.Error):
        return run_postgres(
            url, "SELECT rolcreatedb OR rolsuper FROM pg_roles WHERE rolname = current_user"
        ) == [(True,)]
    return False


@contextlib.contextmanager
def _own_postgres(password: str = "") -> Iterator[str]:
    programs = _programs(
        "initdb", *sorted(map(str, Path("/usr/lib/postgresql").glob("*/bin")), reverse=True)
    )
    with _folder("postgres") as (folder, owner):
        data, port = folder / "data", free_port()
        asked = folder / "password"
        asked.write_text(password or "none")
        asked.chmod(0o644)
        entry = ("-A", "scram-sha-256" if password else "trust", f"--pwfile={asked}")
        _run(
            owner,
            f"{programs}/initdb",
            "-D",
            data,
            *entry,
            "-U",
            "postgres",
            "-E",
            "UTF8",
            "--locale=C",
            "--no-sync",
        )
        options = (
            "-p",
            str(port),
            "-k",
            folder,
            "-c",
            f"listen_addresses={HOST}",
            "-c",
            "fsync=off",
        )
        with _process(owner, signal.SIGINT, f"{programs}/postgres", "-D", data, *options):
            yield _answering(
                f"postgresql://postgres{password and ':'}{password}@{HOST}:{port}/postgres",
                _postgres_answers,
            )


@contextlib.contextmanager
def pgbouncer(url: str, mode: str, at_connect: str) -> Iterator[str]:
    """The URL of the same database behind PgBouncer, which pools by that mode and runs a statement
    on each new connection."""
    at, port = urlsplit(url), free_port()
    with _folder("postgres") as (folder, owner):
        (folder / "users").write_text('"postgres" ""\n')
        (folder / "ini").write_text(
            f"[databases]\n* = host={at.hostname} port={at.port} user={at.username} "
            f"connect_query='{at_connect}'\n[pgbouncer]\nlisten_addr={HOST}\nlisten_port={port}\n"
            f"unix_socket_dir=\nauth_type=any\nauth_file={folder}/users\npool_mode={mode}\n"
            "ignore_startup_parameters=options,extra_float_digits\n"
        )
        for name in ("users", "ini"):
            (folder / name).chmod(0o644)
        with _process(owner, signal.SIGINT, "pgbouncer", folder / "ini"):
            yield _answering(
                urlunsplit(at._replace(netloc=f"{at.username}@{HOST}:{port}")), _postgres_answers
            )


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """The URL of a PostgreSQL server's own database, as a user who may make others."""
    pytest.importorskip("psycopg")
    with _server(
        "JAMMI_TEST_POSTGRES",
        f"postgresql://postgres@{HOST}:5432/postgres",
        _postgres_answers,
        _own_postgres,
    ) as url:
        yield url


@pytest.fixture(scope="session")
def strict_postgres_url() -> Iterator[str]:
    """The URL, with the password, of a server that asks for one."""
    pytest.importorskip("psycopg")
    with contextlib.ExitStack() as stack:
        try:
            url = stack.enter_context(_own_postgres(secrets.token_hex(8)))
        except NoServer as why:
            no_service(f"no server that asks for a password could be started: {why}")
        yield url


@contextlib.contextmanager
def _postgres_database(server: str) -> Iterator[str]:
    name = _name()
    run_postgres(server, f'CREATE DATABASE "{name}"')
    try:
        yield in_database(server, name)
    finally:
        run_postgres(server, f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


@pytest.fixture(scope="session")
def postgres_url(postgres_server: str) -> Iterator[str]:
    """A database of this session (and xdist worker) on PostgreSQL:
    `postgresql://user@host:port/name`. Dropped afterwards."""
    with _postgres_database(postgres_server) as url:
        yield url


@pytest.fixture
def fresh_postgres_url(postgres_server: str) -> Iterator[str]:
    """A database of this test alone on PostgreSQL."""
    with _postgres_database(postgres_server) as url:
        yield url


@pytest.fixture(autouse=True)
def catalog_on_a_server(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """For a module that imports it: every workspace that is opened without a word has its catalog
    in a schema of the test."""
    schema = f"t_{secrets.token_hex(8)}"
    monkeypatch.setenv("JAMMI_CATALOG__URL", f"{postgres_url}?schema={schema}")
    yield
    run_postgres(postgres_url, f"DROP SCHEMA IF EXISTS {schema} CASCADE")


# -- MariaDB and MySQL -----------------------------------------------------------------------------


@functools.cache
def _mysql_client() -> "duckdb.DuckDBPyConnection":
    """DuckDB with its extension for MySQL, which takes longer to load than the statements of a test
    take."""
    import duckdb
    import duckdb_extension_mysql_scanner as wheel

    [extension] = Path(wheel.__file__ or "").parent.glob("extensions/*/*.duckdb_extension")
    connection = duckdb.connect(config={"threads": 1})
    connection.execute(f"LOAD {sql_literal(str(extension))}")
    return connection


def run_mysql(url: str, *statements: str) -> None:
    """Run statements on a MariaDB or MySQL server, in one session. duckdb.Error."""
    at, name = urlsplit(url), f"server_{secrets.token_hex(4)}"
    parts = {
        "HOST": at.hostname or "",
        "PORT": str(at.port or 3306),
        "USER": unquote(at.username or ""),
        "PASSWORD": unquote(at.password or ""),
    }
    said = ", ".join(f"{key} {sql_literal(value)}" for key, value in parts.items() if value)
    with _mysql_client().cursor() as connection, contextlib.ExitStack() as undo:
        connection.execute(
            f"CREATE SECRET {name} (TYPE mysql, {said}, DATABASE {sql_literal(at.path.lstrip('/'))})"
        )
        undo.callback(connection.execute, f"DROP SECRET {name}")
        connection.execute(f"ATTACH '' AS {name} (TYPE mysql, SECRET {name})")
        undo.callback(connection.execute, f"DETACH {name}")
        for statement in statements:
            connection.execute(f"CALL mysql_execute('{name}', {sql_literal(statement)})")


def _mysql_answers(url: str) -> bool:
    import duckdb

    name = _name()
    with contextlib.suppress(duckdb.Error):
        run_mysql(url, f"CREATE DATABASE {name}", f"DROP DATABASE {name}")
        return True
    return False


@contextlib.contextmanager
def _own_mysql() -> Iterator[str]:
    programs = _programs("mariadbd", "/usr/sbin", "/usr/local/sbin", "/usr/libexec")
    installer = shutil.which("mariadb-install-db")
    if installer is None:
        raise NoServer("mariadb-install-db is not installed")
    with _folder("mysql") as (folder, owner):
        data, port = folder / "data", free_port()
        base = ("--no-defaults", f"--datadir={data}")
        _run(owner, installer, *base, "--auth-root-authentication-method=normal", "--skip-test-db")
        options = (
            f"--port={port}",
            f"--bind-address={HOST}",
            f"--socket={folder}/socket",
            f"--pid-file={folder}/pid",
        )
        with _process(owner, signal.SIGTERM, f"{programs}/mariadbd", *base, *options):
            yield _answering(f"mysql://root@{HOST}:{port}/mysql", _mysql_answers)


@pytest.fixture(scope="session")
def mysql_server() -> Iterator[str]:
    """The URL of a MariaDB or MySQL server's own database, as a user who may make others."""
    pytest.importorskip("duckdb_extension_mysql_scanner")
    with _server(
        "JAMMI_TEST_MYSQL", f"mysql://root@{HOST}:3306/mysql", _mysql_answers, _own_mysql
    ) as url:
        yield url


@pytest.fixture(scope="session")
def mysql_url(mysql_server: str) -> Iterator[str]:
    """A database of this session (and xdist worker) on MariaDB or MySQL:
    `mysql://user@host:port/name`. Dropped afterwards."""
    name = _name()
    run_mysql(mysql_server, f"CREATE DATABASE {name} CHARACTER SET utf8mb4")
    try:
        yield in_database(mysql_server, name)
    finally:
        run_mysql(mysql_server, f"DROP DATABASE IF EXISTS {name}")


# -- finding and starting --------------------------------------------------------------------------


@contextlib.contextmanager
def _server(
    variable: str,
    usual: str,
    answers: Callable[[str], bool],
    own: Callable[[], contextlib.AbstractContextManager[str]],
) -> Iterator[str]:
    if url := os.environ.get(variable):
        if not answers(url):
            no_service(
                f"{variable} names a server that cannot be reached, or a user who may not make databases"
            )
        yield url
    elif answers(usual):
        yield usual
    else:
        with contextlib.ExitStack() as stack:
            try:
                url = stack.enter_context(own())
            except NoServer as why:
                no_service(
                    f"no server answers at {usual} ({variable} can name another), and none could be started: {why}"
                )
            yield url


def _name() -> str:
    return f"jammi_test_{os.getpid()}_{secrets.token_hex(4)}"


def free_port() -> int:
    """A port of this machine on which nothing listens."""
    with socket.create_server((HOST, 0)) as taken:
        return int(taken.getsockname()[1])


def _programs(program: str, *folders: str) -> str:
    for folder in (*os.get_exec_path(), *folders):
        if os.access(f"{folder}/{program}", os.X_OK):
            return folder
    raise NoServer(f"{program} is not installed")


@contextlib.contextmanager
def _folder(user: str) -> Iterator[tuple[Path, str | None]]:
    """A new folder, and as whom a server runs there: nobody else, or for root, which servers refuse
    to be, their own user."""
    owner = None
    if os.getuid() == 0:
        try:
            pwd.getpwnam(user)
        except KeyError:
            raise NoServer(f"root cannot run it, and there is no user {user}") from None
        owner = user
    folder = Path(
        tempfile.mkdtemp(prefix="jammi-server-")
    )  # not below pytest's folder, which other users cannot enter
    try:
        if owner is not None:
            shutil.chown(folder, owner)
        yield folder, owner
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _run(owner: str | None, *command: object) -> None:
    done = subprocess.run(
        list(map(str, command)),
        user=owner,
        capture_output=True,
        text=True,
        timeout=_SECONDS,
        check=False,
        cwd="/",
    )
    if done.returncode:
        raise NoServer(f"{command[0]} failed: {done.stderr.strip()[-500:]}")


@contextlib.contextmanager
def _process(owner: str | None, end: signal.Signals, *command: object) -> Iterator[None]:
    process = subprocess.Popen(
        list(map(str, command)),
        user=owner,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd="/",
    )
    try:
        yield
    finally:
        process.send_signal(end)
        try:
            process.wait(_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _answering(url: str, answers: Callable[[str], bool]) -> str:
    until = time.monotonic() + _SECONDS
    while not answers(url):
        if time.monotonic() > until:
            raise NoServer("it was started and does not answer")
        time.sleep(0.1)
    return url
