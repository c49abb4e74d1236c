"""What the commands share: exit codes, the report of an error, and `--fail` with a value."""

import contextlib
import sys
from collections.abc import Iterator

import click

from jammi_lab.core.errors import JammiError

FAILED_EXIT_CODE, REFUSED_EXIT_CODE = 1, 3


class FailCommand(click.Command):
    """A command whose flag `--fail` may have a value: `--fail=WORD` where it has a hidden flag
    `--fail-WORD`. An option with an optional value would take the path that follows a bare `--fail`
    for it."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        flags = {name for parameter in self.params for name in parameter.opts}
        return super().parse_args(
            ctx, [flag if (flag := arg.replace("=", "-", 1)) in flags else arg for arg in args]
        )


@contextlib.contextmanager
def reported_errors() -> Iterator[None]:
    """Print a JammiError of the block on standard error, with its hint, and exit."""
    try:
        yield
    except JammiError as error:
        for line in error.rendered_lines():
            click.echo(line, err=True)
        sys.exit(REFUSED_EXIT_CODE)
