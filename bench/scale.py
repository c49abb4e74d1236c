"""A measure of work past one machine: how often a catalog on a server is asked."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import duckdb

import jammi_lab as jl
from bench import fixtures
from bench.harness import Line, unmeasured_line
from bench.sources import database
from jammi_lab.catalog.connection import Statement

_TABLES, _SOURCES, _STATEMENTS = 10_000, 50, 12


def far_catalog(folder: Path, repeats: int) -> Iterator[Line]:  # noqa: ARG001  # it is counted
    """A status asks a catalog on a server about as often as there are kinds of things in it."""
    what = f"status of {_TABLES:,} tables over {_SOURCES} sources, its catalog on a server"
    with contextlib.ExitStack() as stack:
        try:
            url, _ = stack.enter_context(database("postgresql"))
        except duckdb.Error:
            yield unmeasured_line(what, "there is no PostgreSQL server")
            return
        place = fixtures.workspace_of_copies(folder / "lab", _TABLES, _TABLES // _SOURCES, url)
        ws = stack.enter_context(jl.open(place, catalog=url))
        for turn in ("first", "second"):
            asked = asked_of_catalog(lambda: len(ws.status()))
            yield Line(
                f"{what}: {turn} one, statements (not seconds) against {_STATEMENTS}",
                asked,
                _STATEMENTS,
                asked / _STATEMENTS,
                1.0,
            )


def asked_of_catalog(work: Callable[[], object]) -> int:
    """How many statements a call sends to the catalog."""
    asked, fetch = [], Statement.fetch

    def counted(self: Statement, *given: Any) -> list[Any]:
        asked.append(self.text)
        return fetch(self, *given)

    Statement.fetch = counted  # type: ignore[assignment,method-assign]
    try:
        work()
    finally:
        Statement.fetch = fetch  # type: ignore[method-assign]
    return len(asked)


CASES = {"far_catalog": far_catalog}
