"""What is kept of a step, of rows from outside and of a pinned version holds no password."""

import contextlib
import importlib
import sys
import time
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from jammi_lab.core import redaction as scrubbing
from jammi_lab.core.errors import StatementNotAllowed
from jammi_lab.engine.sql import credential_check as passwords

CANARY = "CANARY7f3a91c2"
ADDRESS = f"postgresql://me:{CANARY}@db/crm"


@pytest.fixture
def lab(ws: Any) -> Any:
    ws.sources.add("s", pl.DataFrame({"id": [1, 2]}))
    return ws


@pytest.fixture
def step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: Any) -> Any:
    """A function of a module with this source."""

    def made(source: str) -> Any:
        (tmp_path / "steps_of_passwords.py").write_text(source)
        monkeypatch.syspath_prepend(tmp_path)
        importlib.invalidate_caches()
        request.addfinalizer(lambda: sys.modules.pop("steps_of_passwords", None))
        return importlib.import_module("steps_of_passwords").step

    return made


def kept(ws: Any) -> list[Path]:
    ws.sql("SELECT 1").fetchall()
    return [
        path
        for path in Path(ws.path).rglob("*")
        if path.is_file() and CANARY.encode() in path.read_bytes()
    ]


@pytest.mark.parametrize(
    "source",
    [
        f"def step(s):\n    dsn = '{ADDRESS}'\n    return s.arrow()\n",
        f"def step(s, dsn='{ADDRESS}'):\n    return s.arrow()\n",
        f"def step(s):\n    return s.arrow()  # psql {ADDRESS}\n",
        f"def step(s):\n    dsn = 'host=db user=me password={CANARY}'\n    return s.arrow()\n",
        f'def step(s):\n    """Reads {ADDRESS}."""\n    return s.arrow()\n',
    ],
)
def test_a_step_whose_source_holds_a_password_is_refused_and_neither_kept_nor_shown(
    lab, step, source
):
    with pytest.raises(
        StatementNotAllowed, match=r"Python step 'p' contains .* password"
    ) as caught:
        lab.compute("p", step(source), inputs=["s"])
    assert (
        CANARY not in "\n".join(caught.value.lines())
        and "os.environ" in caught.value.hint
        and "****" in caught.value.excerpt
    )
    assert not kept(lab) and len(lab.recipes()) == 0


def test_the_secret_of_a_source_is_found_in_a_text_and_in_a_comment_and_not_in_a_name(lab, step):
    scrubbing.remember_credential("Tr0ub4dorAnd3")
    for source in (
        'def step(s, key="Tr0ub4dorAnd3"):\n    return s.arrow()\n',
        "def step(s):\n    return s.arrow()  # Tr0ub4dorAnd3\n",
    ):
        with pytest.raises(StatementNotAllowed, match="contains the secret of a source"):
            passwords.check_step("p", source)
    passwords.check_step("p", "def step(Tr0ub4dorAnd3):\n    return Tr0ub4dorAnd3.arrow()\n")


@pytest.mark.parametrize(
    "line",
    [
        'f"postgresql://{user}:{word}@db/crm"',
        '"postgresql://%s:%s@db/crm" % pair',
        '"postgresql://me@db/crm"',
        '"password=x"',
        'connect(host="db", password=read())',
        '"host=db password=…"',
    ],
)
def test_what_stands_for_a_password_is_none(line):
    passwords.check_step("p", f"    def step(s):\n        dsn = {line}\n        return s\n")


@pytest.mark.parametrize("part", ["x", "a://b:", "://x", "pwd=/*", "pwd='a//*", "host=pwd= "])
def test_a_long_text_is_searched_in_time(part):
    """Of 25 kB, in a processor second; a search from each of its characters takes twenty."""
    with contextlib.suppress(StatementNotAllowed):
        began = time.process_time()
        passwords.check_value("x", part * (150_000 // len(part)))
    assert time.process_time() - began < 5


def test_versions_values_producers_and_notes_hold_no_password_either(lab, step):
    plain = step("def step(s, dsn=''):\n    return s.arrow()\n")
    table = lab.materialize("t", "SELECT id FROM s")
    rows = pl.DataFrame({"a": [1]})
    for ask in (
        lambda: lab.compute("p", plain, inputs=["s"], version=ADDRESS),
        lambda: lab.compute("p", plain, inputs=["s"], params={"dsn": ADDRESS}),
        lambda: lab.register("r", rows, producer=f"job {ADDRESS}"),
        lambda: lab.register("r", rows, producer="job", params={"dsn": ADDRESS}),
        lambda: table.pin(f"as it came from {ADDRESS}, it's final"),
    ):
        with pytest.raises(StatementNotAllowed, match="contains a password") as caught:
            ask()
        assert CANARY not in "\n".join(caught.value.lines())
    table.pin("it's final: see https://example.org:80/x")
    assert table.pinned and not kept(lab)
