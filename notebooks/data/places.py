"""Puts the tables of the notebook on federated SQL where they live there, edits them as their
owners would, and takes them away again; and the catalog and the bucket of the one on sharing.

A server that does not answer is said. A DuckDB file takes the place of its table: the notebook goes
on with what there is; the one on sharing ends.
"""

import atexit
import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import duckdb

from jammi_lab.sources import duckdb_extensions as extensions

DATA = Path(__file__).parent
NAME = f"jammi_notebook_{os.getpid()}"
USUAL = {
    "postgres": "postgresql://postgres@127.0.0.1:5432/postgres",
    "mysql": "mysql://root@127.0.0.1:3306/mysql",
}
CALLED = {"postgres": "PostgreSQL", "mysql": "MariaDB or MySQL"}
_FIRST_DATABASE = {"postgres": "postgres", "mysql": "mysql"}


class Server:
    """A database of our own on a server, or a DuckDB file where no server answers."""

    def __init__(
        self, kind: str, folder: Path, instead: str = "Its table goes into a DuckDB file."
    ) -> None:
        self.kind, self._file = kind, folder / f"{kind}.duckdb"
        self._url = os.environ.get(f"JAMMI_NOTEBOOK_{kind.upper()}", USUAL[kind])
        self.here = False
        try:
            with self._attached(_FIRST_DATABASE[kind]) as connection:
                self._call(connection, f"CREATE DATABASE {NAME}")
            self.here = True
            atexit.register(self.drop)  # also when the notebook is not run to its end
        except Exception as error:  # noqa: BLE001  whatever is missing, the extension or the server: it is said, and the file takes its place
            where = urlsplit(self._url)
            print(
                f"No {CALLED[kind]} server answers at {where.hostname}:{where.port} "
                f"({type(error).__name__})."
            )
            print(f"{instead} JAMMI_NOTEBOOK_{kind.upper()} can name another server.")

    @property
    def location(self) -> str:
        """What `ws.sources.add` takes."""
        return f"{self._url.rsplit('/', 1)[0]}/{NAME}" if self.here else str(self._file)

    def load(self, table: str) -> None:
        """Make a table of one of the CSV files beside this one."""
        with self._connected() as (connection, where):
            connection.execute(
                f"CREATE OR REPLACE TABLE {where}{table} AS SELECT * FROM "
                f"read_csv('{DATA}/{table}.csv', nullstr='NA')"
            )
        if self.here and self.kind == "mysql":
            time.sleep(
                2.1
                # it tells in whole seconds when a table was made: of one that has just been, nobody
                # knows whether it stays as it was
            )

    def run(self, statement: str) -> None:
        """Change something, as the owner of the database would."""
        with self._connected() as (connection, _):
            if self.here:
                self._call(connection, statement)
            else:
                connection.execute(statement)

    def drop(self) -> None:
        """Take the database away."""
        if self.here:
            with self._attached(_FIRST_DATABASE[self.kind]) as connection:
                self._call(
                    connection,
                    f"DROP DATABASE {NAME}" + (" WITH (FORCE)" if self.kind == "postgres" else ""),
                )
            self.here = False
        self._file.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _connected(self) -> Iterator[tuple[duckdb.DuckDBPyConnection, str]]:
        if self.here:
            with self._attached(NAME) as connection:
                yield connection, "there."
        else:
            with duckdb.connect(str(self._file)) as connection:
                yield connection, ""

    @contextlib.contextmanager
    def _attached(self, database: str) -> Iterator[duckdb.DuckDBPyConnection]:
        at = urlsplit(self._url)
        parts = {
            "HOST": at.hostname,
            "PORT": str(at.port or ""),
            "USER": unquote(at.username or ""),
            "PASSWORD": unquote(at.password or ""),
        }
        with duckdb.connect() as connection:
            extensions.load(connection, [f"{self.kind}_scanner"])
            said = ", ".join(f"{key} '{value}'" for key, value in parts.items() if value)
            connection.execute(f"CREATE SECRET s (TYPE {self.kind}, {said}, DATABASE '{database}')")
            connection.execute(f"ATTACH '' AS there (TYPE {self.kind}, SECRET s)")
            yield connection

    def _call(self, connection: duckdb.DuckDBPyConnection, statement: str) -> None:
        quoted = statement.replace("'", "''")
        if (
            self.kind == "postgres" and "DATABASE" in statement
        ):  # DuckDB would put it into a transaction, which PostgreSQL does not allow
            import psycopg

            with psycopg.connect(self._url, autocommit=True, connect_timeout=5) as own:
                own.execute(statement)  # type: ignore[call-overload]  # psycopg wants a literal
            return
        connection.execute(f"CALL {self.kind}_execute('there', '{quoted}')")


class Team:
    """What two people share: a database for the catalog, and a bucket of an S3 server that runs
    beside the notebook. Their environments name both, as their profiles would."""

    def __init__(self, folder: Path) -> None:
        self._database = Server("postgres", folder, "The catalog needs one.")
        if not self._database.here:
            raise RuntimeError("This notebook needs a PostgreSQL server.")
        self._store = subprocess.Popen(
            [sys.executable, str(DATA / "s3_server.py")],
            stdin=subprocess.PIPE,  # it ends with this process
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._store.stdout is not None
        os.environ |= {
            "AWS_ENDPOINT_URL": self._store.stdout.readline().strip(),
            "AWS_ACCESS_KEY_ID": "team",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "JAMMI_CATALOG__URL": self._database.location.replace(":", "+psycopg:", 1),
        }
        self._files().mkdir("team")

    def put(self, location: str, text: str) -> None:
        """Put an object into the bucket."""
        self._files().pipe(location, text.encode())

    def drop(self) -> None:
        """Take the database and the bucket away."""
        self._store.communicate("")
        self._database.drop()

    @staticmethod
    def _files() -> Any:
        import s3fs

        return s3fs.S3FileSystem(skip_instance_cache=True, use_listings_cache=False)


def fresh(folder: str) -> Path:
    """A folder of our own, empty, with the flights in it."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(DATA / "flights", Path(folder) / "flights")
    return Path(folder)
