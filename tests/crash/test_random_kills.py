"""kill -9 at random moments, again and again on one workspace. `JAMMI_CRASHES=400` kills that many times."""

import os
import random
import signal
import time

import pytest

from tests.crash.check import Promises, asked, hold_true

KILLS = asked(30, every=400)


@pytest.mark.timeout(3600)
def test_a_workspace_survives_being_killed_again_and_again(server, tmp_path):
    folder, chance, promised, settled = tmp_path / "lab", random.Random(7), Promises(), 0
    for seed in range(KILLS):
        child = server.start("forever", folder, seed)
        server.await_lines(2 + chance.randrange(10))
        time.sleep(chance.random() * 0.1)
        os.kill(child, signal.SIGKILL)
        code, said = server.end()
        assert code == -signal.SIGKILL, said
        settled += bool(hold_true(folder, promised.hear(said)))
    assert settled or KILLS < 10, "no kill fell into a build"
