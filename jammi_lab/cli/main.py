"""From the words of the shell to an exit code."""

import io
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

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
    _prepare_streams()
    try:
        with _output_errors_end_it():
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


def _prepare_streams() -> None:
    """Stand in for the streams that this process was started without, whose numbers files of the
    workspace would get; and have characters written that an encoding lacks."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115  as long as the process
    with suppress(OSError):  # another file was put in its place
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="backslashreplace")


@contextmanager
def _output_errors_end_it() -> Iterator[None]:
    """End with code 3 when the output cannot be written: without a word when nobody reads it any
    more, as `head` does."""
    try:
        yield
    except OSError as error:
        if error.filename is not None:  # of another file
            raise
        if not isinstance(error, BrokenPipeError):
            with suppress(OSError):
                print_error(f"The output cannot be written: {error.strerror}.")
        # What is left in the buffers would raise again when the process ends.
        for stream in (sys.stdout, sys.stderr):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        sys.exit(REFUSED_EXIT_CODE)
