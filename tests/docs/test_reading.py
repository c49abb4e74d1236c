"""What reads the pages notices what is wrong with one."""

import shutil
from pathlib import Path

import pytest

import jammi_lab as jl
from tests.docs.pages import Block, blocks, reading, same


def block(body, *, language="python", word=""):
    return Block(Path(__file__), 1, language, word, body, None)


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        ("2 rows", "2 rows"),
        ("name  took\n────  ────\na     0.31 s", "name    took\n──────  ──\na  12.5 s"),
        ("at 24d44548ca54, 1,024 B", "at 000000000000, 7 kB"),
        ("one\ntwo\nthree", "one\n…\nthree"),
        ("in /tmp/x now", "in … now"),
    ],
)
def test_a_text_is_the_same_but_for_what_differs_from_run_to_run(shown, expected):
    assert same(shown, expected)


@pytest.mark.parametrize(
    ("shown", "expected"),
    [("2 rows", "3 rows"), ("fresh", "stale"), ("a\nb", "a"), ("a", "a\nb"), ("x y", "…x")],
)
def test_a_text_that_differs_is_noticed(shown, expected):
    assert not same(shown, expected)


def test_cells_are_parted_where_a_magic_begins():
    assert block(
        "%load_ext x\n%jammi add a b\n\n%%jammi\nSELECT 1,\n\n2\n\n%jammi why a\n",
        language="ipython",
    ).cells == [
        "%load_ext x\n%jammi add a b",
        "%%jammi\nSELECT 1,\n\n2",
        "%jammi why a",
    ]


def test_the_text_after_a_block_is_what_it_shows(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "```python\n1\n```\n\n```text\n1\n```\n\n```python skip: it needs a server\n2\n```\n\nword\n\n```text\n2\n```\n",
        encoding="utf-8",
    )
    assert [(b.body, b.shows, b.runs) for b in blocks(page) if b.language == "python"] == [
        ("1\n", "1\n", True),
        ("2\n", None, False),
    ]


def test_a_block_that_fails_is_named(tmp_path):
    with (
        reading(tmp_path) as reader,
        pytest.raises(AssertionError, match=r"test_reading\.py:1 fails"),
    ):
        reader.run(block("1 / 0"))


def test_a_block_that_should_fail_and_does_not_is_named(tmp_path):
    with reading(tmp_path) as reader, pytest.raises(AssertionError, match="does not fail"):
        reader.run(block("1", word="raises"))


def test_the_workspace_of_the_measured_figures_can_be_opened(tmp_path):
    shutil.copytree(Path(__file__).parents[2] / "docs/measured", tmp_path / "measured")
    with jl.open(tmp_path / "measured", read_only=True) as ws:
        assert {row.name for row in ws.status()} == {"growth", "materialize", "peer"}
