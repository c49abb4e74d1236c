"""Writes that fail for want of space, in a process of their own because of its limit."""

import subprocess
import sys

WRITE = """
import resource, signal, jammi_lab
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
with jammi_lab.open("lab") as ws:
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, resource.RLIM_INFINITY))
    try:
        ws.materialize("t", "SELECT range AS k, md5(range::VARCHAR) AS v FROM range(1000000)")
    except jammi_lab.errors.ResourceExhausted as error:
        print(error.message)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    print(ws.materialize("t", "SELECT 1 AS k").outcome)
"""


def test_a_parquet_file_that_exceeds_the_limit_of_its_process_is_a_typed_error(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", WRITE], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    message, outcome = done.stdout.splitlines()
    assert "There is no space" in message and "too large" in message and outcome == "computed"
