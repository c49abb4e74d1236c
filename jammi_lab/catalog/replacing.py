"""A new catalog in the place of an old one on a server, which is kept aside under another name. For `jammi_lab.rebuild`."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import sqlalchemy as sa

from jammi_lab.catalog.postgres import Postgres
from jammi_lab.errors import InvalidArgument, JammiError


@contextlib.contextmanager
def replacing(url: str, token: str) -> Iterator[tuple[str, Callable[[], str | None]]]:
    """A URL to make the new catalog by, and what puts it in the old one's place, at once or not at all: the name of the schema that the old one is
    kept in, if there was one. What is not put there is removed.

    InvalidArgument while anybody has the catalog open; nobody can open it until the block ends. Raises as opening it does.
    """
    server = Postgres(url, read_only=False, create=True)
    made, aside = f"{server.schema}_new_{token}", f"{server.schema}_before_{token}"
    connection: Any = server.taken()
    with contextlib.closing(connection), _explained(server):
        [alone] = connection.execute(f"SELECT pg_try_advisory_lock({server.key('use')})").fetchone()
        if not alone:
            raise InvalidArgument(
                f"The catalog {server.label} is open somewhere; a catalog in use cannot be replaced.",
                hint="Close it there first: ws.close(), %jammi close, or end the kernel.",
            )
        _remove_new(connection, server.schema)  # of a rebuild that died

        def put() -> str | None:
            there = connection.execute("SELECT to_regnamespace(%s) IS NOT NULL", [server.schema]).fetchone() == (True,)
            with connection.transaction():
                if there:
                    connection.execute(f"ALTER SCHEMA {server.schema} RENAME TO {aside}")
                connection.execute(f"ALTER SCHEMA {made} RENAME TO {server.schema}")
            return aside if there else None

        try:
            yield sa.make_url(url).update_query_dict({"schema": made}).render_as_string(hide_password=False), put
        finally:
            _remove_new(connection, server.schema)


def _remove_new(connection: Any, schema: str) -> None:
    for (left,) in connection.execute("SELECT nspname FROM pg_namespace WHERE starts_with(nspname, %s)", [f"{schema}_new_"]).fetchall():
        connection.execute(f'DROP SCHEMA "{left}" CASCADE')


@contextlib.contextmanager
def _explained(server: Postgres) -> Iterator[None]:
    try:
        yield
    except JammiError:
        raise
    except Exception as error:
        if hasattr(error, "sqlstate") and (typed := server.typed(error)) is not None:
            raise typed from None
        raise
