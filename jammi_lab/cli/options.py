"""Options that several commands share, exit codes, and how an error is reported."""

import contextlib
import os
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import wraps
from typing import Any, ClassVar, TypeVar

import click

from jammi_lab.core.command_hints import cell_commands
from jammi_lab.core.errors import JammiError
from jammi_lab.core.suggestions import by_guess, suggestions, translate_advice

F = TypeVar("F", bound=Callable[..., Any])
FAILED_EXIT_CODE, REFUSED_EXIT_CODE = 1, 3


DEFAULT_FOLDER = ".jammi"
"""The workspace of a command without PATH, as in cells."""


class WorkspaceCommand(click.Command):
    """A command whose PATH may be left out. The first argument is PATH unless one that the command
    requires would be missing, or nothing has this path and there is a workspace in the default
    folder."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        path, *others = [each for each in self.params if isinstance(each, click.Argument)]
        arguments, _, _ = self.make_parser(ctx).parse_args(list(args))
        given = arguments.get(path.name or "")
        has_path = isinstance(given, str) and (
            os.path.lexists(given) or not os.path.isdir(DEFAULT_FOLDER)
        )
        for other in others:
            if other.required and not isinstance(arguments.get(other.name or ""), str):
                has_path = False
        if others and not has_path:
            args = [DEFAULT_FOLDER, *args]
        return super().parse_args(ctx, args)


class FailCommand(WorkspaceCommand):
    """A command whose flag `--fail` may have a value: `--fail=WORD` where it has a hidden flag
    `--fail-WORD`. An option with an optional value would take the path that follows a bare `--fail`
    for it."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        flags = {name for parameter in self.params for name in parameter.opts}
        return super().parse_args(
            ctx, [flag if (flag := arg.replace("=", "-", 1)) in flags else arg for arg in args]
        )


class CommandGroup(click.Group):
    """A group that answers an unknown command with the one that does it, here or in Python."""

    command_class = WorkspaceCommand

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name, known = args[0], suggestions()["shell"]
        if (meant := by_guess(known["synonyms"]).get(name)) is not None:
            ctx.fail(f"No such command {name!r}. Did you mean {meant!r}?")
        if (call := known["python"].get(name)) is not None:
            ctx.fail(f"No such command {name!r}. In Python: jammi_lab.open(path){call}")
        return super().resolve_command(ctx, args)


@contextlib.contextmanager
def reported_errors() -> Iterator[None]:
    """Print a JammiError of the block on standard error, with its hint, and exit."""
    try:
        yield
    except JammiError as error:
        for line in error.rendered_lines():
            click.echo(line, err=True)
        sys.exit(REFUSED_EXIT_CODE)


@dataclass(frozen=True)
class WorkspaceCall:
    """What the common options of a command say: which workspace, for whom, and how to answer."""

    path: str
    catalog: str | None = None
    tenant: str | None = None
    as_json: bool = False

    @contextlib.contextmanager
    def open(self, *, read_only: bool = True) -> Iterator[Any]:
        """The existing workspace, closed afterwards."""
        from jammi_lab.workspace.opening import open as open_workspace

        with open_workspace(
            self.path, catalog=self.catalog, tenant=self.tenant, read_only=read_only, create=False
        ) as ws:
            yield ws


def workspace_options(function: F) -> F:
    """Add the options common to all commands that open a workspace, which it takes as a
    `WorkspaceCall`, and report its errors."""
    for option in (
        click.option(
            "--json", "as_json", is_flag=True, help="Print one JSON value on standard output."
        ),
        click.option(
            "--tenant", help="The tenant whose tables to use; without it, shared tables only."
        ),
        click.option(
            "--catalog",
            help="The URL of the PostgreSQL database that stores the catalog, if it is not in the "
            "folder.",
        ),
        click.argument("path", default=DEFAULT_FOLDER),
    ):
        function = option(function)

    @wraps(function)
    def run_and_report(
        path: str, catalog: str | None, tenant: str | None, as_json: bool, **options: Any
    ) -> None:
        with report_errors(path), cell_commands():
            function(WorkspaceCall(path, catalog, tenant, as_json), **options)

    return run_and_report  # type: ignore[return-value]  # click's decorators keep the signature


@contextlib.contextmanager
def report_errors(path: str) -> Iterator[None]:
    """Print a JammiError with its hint in the syntax of the shell, and exit."""
    with reported_errors():
        try:
            yield
        except JammiError as error:
            error.hint = translate_advice(error.hint, "shell", path)
            raise


fail = click.option(
    "--fail", is_flag=True, help="Exit with 1 when something is stale, damaged or mismatched."
)


class Duration(click.ParamType[float]):
    """A number with a unit: 90s, 30m, 24h, 7d. The value is in seconds."""

    name = "duration"
    _UNITS: ClassVar[dict[str, int]] = {"s": 1, "m": 60, "h": 3600, "d": 86400}

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", str(value))
        if match is None:
            self.fail(f"{value!r} is not a duration such as 90s, 30m, 24h or 7d.", param, ctx)
        return float(match[1]) * self._UNITS[match[2]]


def fail_on_verdict(command: Callable[..., None]) -> Callable[..., None]:
    """The options `--fail` and `--fail=grounds`."""
    command = click.option("--fail-grounds", is_flag=True, hidden=True)(command)
    return click.option(
        "--fail",
        is_flag=True,
        help="Exit with 1 when something is not fresh; with --fail=grounds also when a fresh "
        "verdict relies on grounds.",
    )(command)
