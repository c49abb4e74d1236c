"""From the words of the shell to an exit code."""

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from jammi_lab.cli.commands import ShellVerbs
from jammi_lab.cli.printing import print_answer, print_error
from jammi_lab.commands.shared import Answer
from jammi_lab.commands.table import SHELL
from jammi_lab.commands.words import parse_command
from jammi_lab.core.command_hints import cell_commands
from jammi_lab.core.errors import InvalidArgument, JammiError
from jammi_lab.core.suggestions import translate_advice
from jammi_lab.core.version import __version__

FAILED_EXIT_CODE, USAGE_EXIT_CODE, REFUSED_EXIT_CODE = 1, 2, 3


def main(words: Sequence[str] | None = None) -> int:
    """Run a command; without words, that of the process. Returns the exit code."""
    words = sys.argv[1:] if words is None else words
    try:
        with _broken_pipe_is_silent():
            code = _run(words)
            sys.stdout.flush()
    except KeyboardInterrupt as stop:
        print_error("Interrupted.", *getattr(stop, "__notes__", ()))
        return REFUSED_EXIT_CODE
    return code


def _run(words: Sequence[str]) -> int:
    if words == ["--version"]:
        print(f"{SHELL} {__version__}")
        return 0
    try:
        verb, values = parse_command(SHELL, words)
    except InvalidArgument as error:
        print_error(*error.lines())
        return USAGE_EXIT_CODE
    shell = ShellVerbs(verb, values)
    try:
        with cell_commands(), shell:
            answer = shell.run(verb, values)
            print_answer(answer, values, shell.path)
    except JammiError as error:
        error.hint = translate_advice(error.hint, "shell", shell.path)
        print_error(*error.rendered_lines())
        return REFUSED_EXIT_CODE
    if not isinstance(answer, Answer):
        return 0
    failed = answer.broken or (answer.failed and values.get("fail"))
    return FAILED_EXIT_CODE if failed else 0


@contextmanager
def _broken_pipe_is_silent() -> Iterator[None]:
    """End with code 1 when nobody reads the output any more, as `head` does."""
    try:
        yield
    except BrokenPipeError:
        # What is left in the buffer would raise again when the process ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(FAILED_EXIT_CODE)
