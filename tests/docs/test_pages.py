"""The pages are true: what stands in a block runs, shows what the page says, and every link leads
somewhere."""

import functools
import re

import pytest

from tests.docs.pages import DOCS, PAGES, ROOT, blocks, read, reading, same, where

RUNNING = [page for page in PAGES if any(block.runs for block in blocks(page))]
LANGUAGES = "python ipython text sh toml json sql mermaid yaml {toctree}".split()
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


def name(page):
    return str(page.relative_to(ROOT))


def anchors(page):
    """The places in a page that a link can lead to, as GitHub names them."""
    return {
        re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")
        for heading in _HEADING.findall(_without_blocks(page))
    }


@functools.cache
def _without_blocks(page):
    return re.sub(r"^( *)```.*?^\1```", "", read(page), flags=re.MULTILINE | re.DOTALL)


@pytest.mark.every_case
@pytest.mark.parametrize("page", RUNNING, ids=name)
def test_every_block_of_a_page_runs_and_shows_what_it_says(page, tmp_path):
    with reading(tmp_path) as reader:
        for block in (b for b in blocks(page) if b.runs):
            shown = reader.run(block)
            assert block.shows is None or same(shown, block.shows), f"{where(block)} shows\n{shown}"


def test_every_block_has_a_language_that_is_known_and_says_why_it_does_not_run():
    every = [block for page in PAGES for block in blocks(page)]
    assert not [where(b) for b in every if b.language not in LANGUAGES]
    assert not [where(b) for b in every if b.word.startswith("skip:") and len(b.word.split()) < 4]


def test_every_link_leads_somewhere():
    lost = []
    for page in PAGES:
        for link in _LINK.findall(_without_blocks(page)):
            path, _, anchor = link.partition("#")
            target = (page.parent / path).resolve() if path else page
            if "://" not in link and (
                not target.exists() or (anchor and anchor not in anchors(target))
            ):
                lost.append((name(page), link))
    assert not lost


def test_what_is_written_by_hand_has_at_most_sixty_thousand_words():
    pages = [*PAGES, ROOT / "CHANGELOG.md", ROOT / "CONTRIBUTING.md"]
    text = " ".join(read(page) for page in pages)
    written = re.sub(r"<!-- generated: .*?<!-- end -->", "", text, flags=re.DOTALL)
    assert len(written.split()) <= 60_000


def test_the_comparison_has_the_neighbours_that_follow_files():
    page = read(DOCS / "comparison.md")
    tools = re.findall(r"^\| (\S+)", page, re.MULTILINE)
    assert {"DVC", "Snakemake", "redun", "Calkit", "{targets}"} <= {*tools}


def test_no_line_installs_the_package_by_name_as_no_registry_has_it():
    text = "".join(read(page) for page in PAGES)
    assert not re.findall(r"pip install [\"']?jammi.*", text)


def test_the_first_pages_show_the_workbench_and_the_landing_page_describes_each_notebook():
    landing = read(DOCS / "index.md")
    assert "](pictures/workbench.png)" in landing
    assert "](docs/pictures/workbench.png)" in read(ROOT / "README.md")
    named = re.findall(r"^- `(\S+\.ipynb)`: .{20}", landing, re.MULTILINE)
    assert named == sorted(path.name for path in (ROOT / "notebooks").glob("*.ipynb"))


def test_every_page_can_be_reached_from_the_first():
    seen, stack = set(), [DOCS / "index.md"]
    while stack:
        page = stack.pop()
        if page in seen:
            continue
        seen.add(page)
        links = [
            (page.parent / link.partition("#")[0]).resolve()
            for link in _LINK.findall(read(page))
            if "://" not in link
        ]
        stack += [link for link in links if link.suffix == ".md" and link.is_relative_to(DOCS)]
    assert not [name(page) for page in DOCS.rglob("*.md") if page not in seen]
