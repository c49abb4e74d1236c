"""Ctrl-C at many moments of the first call that imports a large library: the next call works."""

import subprocess
import sys

import pytest

from tests.sizes import soak, thinned

KERNELS = """
import os, signal, sys, threading, time, traceback
import jammi_lab as jl, jammi_lab.workspace.workspace, duckdb, numpy, pyarrow
assert not {"pandas", "polars", "altair"} & sys.modules.keys()
folder, call, moments = sys.argv[1], sys.argv[2], [int(each) for each in sys.argv[3].split(",")]

def kernel(moment):
    ws = jl.open(f"{folder}/{moment}")
    result = ws.sql("SELECT i AS n, i * 2 AS m FROM range(5) t(i)")
    result.arrow()
    calling = threading.Event()  # so that the interrupt does not hit the start of the thread
    def interrupt():
        calling.wait()
        time.sleep(moment / 1000)
        os.kill(os.getpid(), signal.SIGINT)
    threading.Thread(target=interrupt, daemon=True).start()
    seen = False
    try:
        calling.set()
        eval(call)
        time.sleep(30)
    except KeyboardInterrupt:
        seen = True
    assert seen, "the interrupt was lost"
    assert eval(call) is not None
    ws.close()

for moment in moments:
    pid = os.fork()
    if not pid:
        try:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            kernel(moment)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    if os.waitpid(pid, 0)[1]:
        print(f"broken after an interrupt at {moment} ms of {call}")
"""


@soak
@pytest.mark.parametrize(
    "call",
    [
        "result.polars()",
        "result.pandas()",
        "result.chart(kind='bar', x='n', y='m')._repr_mimebundle_()",
    ],
)
def test_the_first_call_after_an_interrupt_of_an_import_works(tmp_path, call):
    moments = thinned([1, 5, 15, 30, 45, 60, 90, 120, 160, 220, 300, 400, 600], 6)
    done = subprocess.run(
        [sys.executable, "-c", KERNELS, str(tmp_path), call, ",".join(map(str, moments))],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr
