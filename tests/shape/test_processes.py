"""The forked processes of tests are what `subprocess` would give."""

import os
import signal
import subprocess
import sys

import pytest

from tests import processes


@pytest.mark.parametrize(
    ("code", "ends"),
    [
        ("pass", 0),
        ("import sys; sys.exit(7)", 7),
        ("import sys; sys.exit('a-last-word')", 1),
        ("1 / 0", 1),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", -signal.SIGKILL),
        ("raise KeyboardInterrupt", -signal.SIGINT),
    ],
)
def test_a_process_ends_as_its_code_says(code, ends):
    done = processes.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == ends
    assert ("a-last-word" in done.stderr) == ("a-last-word" in code)
    assert ("ZeroDivisionError" in done.stderr) == (code == "1 / 0")


def test_it_has_its_own_words_variables_folder_and_pipes(tmp_path):
    code = "import os, sys, atexit; atexit.register(print, 'end'); print(sys.argv, os.environ['A'], os.getcwd(), os.getppid(), sys.stdin.read())"
    done = processes.run(
        [sys.executable, "-c", code, "x"],
        input="in",
        cwd=tmp_path,
        env=processes.environment({"A": "b"}),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout == f"['-c', 'x'] b {tmp_path} {os.getpid()} in\nend\n", done.stderr


def test_what_is_killed_is_waited_for_and_leaves_no_zombie():
    with processes.Popen(
        [sys.executable, "-c", "print(flush=True); import time; time.sleep(60)"],
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout.readline() == "\n" and process.poll() is None
        process.kill()
    assert process.returncode == -signal.SIGKILL
    with pytest.raises(ProcessLookupError):
        os.kill(process.pid, 0)
