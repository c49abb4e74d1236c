"""Commands of the shell from the table of commands, exit codes, and how an error is reported."""

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import click

from jammi_lab.core.command_hints import cell_commands
from jammi_lab.core.commands import COMMANDS, Flag
from jammi_lab.core.errors import JammiError
from jammi_lab.core.packaged_tables import packaged_table
from jammi_lab.core.suggestions import by_guess, translate_advice

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
            given_words = arguments.get(other.name or "")
            if other.required and not (isinstance(given_words, str | tuple) and given_words):
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
        name, known = args[0], packaged_table("suggestions")["shell"]
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


Values = dict[str, Any]
"""The values of a command's arguments and flags, by the keys of the table."""


def workspace_command(
    name: str,
) -> Callable[[Callable[[WorkspaceCall, Values], None]], click.Command]:
    """A decorator: the function becomes the command of that name in the table, with the options
    common to all commands that open a workspace. Its errors are reported."""
    [verb] = [each for each in COMMANDS if (each.magic, each.name) == ("jammi-lab", name)]
    arguments = {argument.name.lower(): argument.name for argument in verb.arguments}
    parameters: list[click.Parameter] = [click.Argument(["path"], default=DEFAULT_FOLDER)]
    for argument in verb.arguments:
        count = -1 if argument.repeated else 1
        parameters.append(
            click.Argument([argument.name.lower()], required=argument.required, nargs=count)
        )
    for flag in verb.flags:
        parameters += _options(flag)

    def decorate(function: Callable[[WorkspaceCall, Values], None]) -> click.Command:
        def run(
            path: str, catalog: str | None, tenant: str | None, as_json: bool, **given: Any
        ) -> None:
            values = {arguments.get(key, key): value for key, value in given.items()}
            with report_errors(path), cell_commands():
                function(WorkspaceCall(path, catalog, tenant, as_json), values)

        return FailCommand(name, params=[*parameters, *_COMMON], callback=run, help=verb.help)

    return decorate


_COMMON = (
    click.Option(
        ["--catalog"],
        help="The URL of the PostgreSQL database that stores the catalog, if it is not in the "
        "folder.",
    ),
    click.Option(
        ["--tenant"], help="The tenant whose tables to use; without it, shared tables only."
    ),
    click.Option(
        ["--json", "as_json"], is_flag=True, help="Print one JSON value on standard output."
    ),
)


def _options(flag: Flag) -> list[click.Option]:
    """The option of a flag; a value of a switch is a hidden flag (see `FailCommand`)."""
    names, about = [*flag.spellings, flag.key], f"{flag.help[:1].upper()}{flag.help[1:]}."
    if flag.value_name:
        kind = _Converted(flag) if flag.value_name != "FILE" else click.Path(dir_okay=False)
        return [
            click.Option(
                names, type=kind, metavar=flag.value_name, multiple=flag.repeated, help=about
            )
        ]
    hidden = [
        click.Option([f"{flag.spellings[-1]}-{word}"], is_flag=True, hidden=True)
        for word in flag.words
    ]
    return [click.Option(names, is_flag=True, help=about), *hidden]


class _Converted(click.ParamType[Any]):
    """The value of a flag, converted as in a cell."""

    def __init__(self, flag: Flag) -> None:
        self.name, self._flag = flag.value_name, flag

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            return self._flag.convert(value)
        except ValueError as expected:
            self.fail(f"{value!r} is not {expected}.", param, ctx)


@contextlib.contextmanager
def report_errors(path: str) -> Iterator[None]:
    """Print a JammiError with its hint in the syntax of the shell, and exit."""
    with reported_errors():
        try:
            yield
        except JammiError as error:
            error.hint = translate_advice(error.hint, "shell", path)
            raise
