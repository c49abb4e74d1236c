"""`jammi-lab` in the test's own process."""

import contextlib
import io
from dataclasses import dataclass
from unittest import mock

from jammi_lab.cli import main


@dataclass
class Ran:
    """What a command printed, and its exit code."""

    exit_code: int
    stdout: str
    stderr: str

    @property
    def output(self) -> str:
        return self.stdout + self.stderr


def run_shell(*words: object, given: str = "") -> Ran:
    """Run a command. `given`: its standard input."""
    out, err = io.StringIO(), io.StringIO()
    with (
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        mock.patch("sys.stdin", io.StringIO(given)),
    ):
        code = main([str(word) for word in words])
    return Ran(code, out.getvalue(), err.getvalue())
