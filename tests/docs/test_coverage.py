"""The pages are complete: whatever a person can type or meet stands in them, and what comes from
the code is as the code has it."""

import ast
import importlib.util
import inspect
import re
import sys
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest

from jammi_lab.commands.table import CELL, LINE, STEP, commands
from jammi_lab.core import errors
from jammi_lab.core.errors import JammiError
from jammi_lab.core.settings import DEFAULTS
from jammi_lab.freshness.catalog_relations import COLUMNS
from tests.docs.pages import DOCS, ROOT, blocks, read

HELD = (
    "Workspace Sources Source Result ResultTable Recipes Recipe Status "
    "StatusRow Plan RunReport Lineage Why"
).split()
ERRORS = sorted(
    name
    for name, cls in inspect.getmembers(errors, inspect.isclass)
    if issubclass(cls, JammiError) and cls is not JammiError
)
FLAGS = [
    (verb.name or verb.magic, spelled)
    for verb in (*commands(LINE), CELL, STEP)
    for flag in verb.flags
    for spelled in flag.spellings
]


@cache
def generate() -> ModuleType:
    spec = importlib.util.spec_from_file_location("jammi_docs_generate", DOCS / "generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@cache
def text(page):
    return read(DOCS / page)


@cache
def reference(pages="**/*.md"):
    """The pages, one after the other."""
    return "\n".join(read(page) for page in DOCS.glob(pages))


@cache
def code(pages, language):
    """All that the blocks of pages run."""
    return "\n".join(
        block.body
        for page in sorted(DOCS.glob(pages))
        for block in blocks(page)
        if block.language == language
    )


def reachable():
    """The code that a call can come to: what workspace and cells import, and what that imports,
    inside functions too."""
    roots = {
        "jammi_lab": ROOT / "jammi_lab",
        "jammi_kernel_ext": ROOT / "kernel_ext" / "jammi_kernel_ext",
    }
    said, waiting = {}, ["jammi_lab.workspace.workspace", "jammi_kernel_ext.magics"]
    while waiting:
        module = waiting.pop()
        top, *rest = module.split(".")
        file = roots[top].joinpath(*rest).with_suffix(".py") if rest else roots[top] / "__init__.py"
        if module in said or not file.is_file():
            continue
        said[module] = file.read_text(encoding="utf-8")
        for node in ast.walk(ast.parse(said[module])):
            if (
                isinstance(node, ast.ImportFrom)
                and node.module
                and node.module.split(".")[0] in roots
            ):
                waiting += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return "\n".join(said.values())


def public():
    """Every public name of the objects that people hold; of those that it takes brackets or a
    keyword for, that."""
    return [
        (owner, name)
        for owner in HELD
        for name in generate().members(owner)
        if name not in generate().DUNDERS
    ]


@pytest.fixture(autouse=True)
def path_as_it_was():
    before = list(sys.path)
    yield
    sys.path[:] = before


def test_the_generated_parts_are_as_the_code_has_them(capsys):
    assert generate().main(["--check"]) == 0, capsys.readouterr().out


def test_a_page_that_is_behind_the_code_is_noticed():
    page = text("settings.md")
    assert generate().written(page) == page
    assert (
        generate().written(
            page.replace("`look.racy_seconds` | `2.0`", "`look.racy_seconds` | `9.0`")
        )
        == page
    )


def test_every_attribute_of_the_reference_has_a_type_and_a_meaning():
    rows = re.findall(r"^\| `(\w+)` \| (.*?) \| ?(.*) \|$", reference("python/*.md"), re.MULTILINE)
    assert len(rows) > 150
    assert not [name for name, kind, meaning in rows if not kind.strip() or not meaning.strip()]


def test_the_first_examples_use_what_an_install_brings():
    for page in (ROOT / "README.md", DOCS / "index.md", DOCS / "why.md"):
        calls = "\n".join(re.sub(r"#.*", "", block.body) for block in blocks(page))
        assert ".pandas()" not in calls, "pandas is optional"


@pytest.mark.parametrize("verb", [v.name for v in commands(LINE) if v.name])
def test_every_line_has_an_example(verb):
    assert re.search(rf"^%jammi {re.escape(verb)}\b", code("cells.md", "ipython"), re.MULTILINE)


@pytest.mark.parametrize(("verb", "flag"), FLAGS)
def test_every_flag_is_listed(verb, flag):
    heading = verb if verb.startswith("%") else f"%jammi {verb}"
    listed = text("lines.md").split(f"**`{heading}`**")[1].split("\n\n**`")[0]
    assert f"{flag}" in re.findall(r"-{1,2}[a-z-]+", listed)


@pytest.mark.parametrize("key", DEFAULTS)
def test_every_setting_has_a_meaning(key):
    assert re.search(
        rf"^\| `{re.escape(key)}` \| .* \| .{{10,}} \|$", text("settings.md"), re.MULTILINE
    )


def test_no_setting_is_told_that_does_not_exist():
    assert set(generate().SETTINGS) == set(DEFAULTS)


@pytest.mark.parametrize("name", ERRORS)
def test_every_error_is_explained(name):
    assert re.search(rf"^### {name}$|^- `{name}`: ", text("errors.md"), re.MULTILINE)


def test_every_error_with_a_section_of_its_own_is_raised_by_the_code():
    raised = set(re.findall(r"(?:raise|return|=) (?:errors\.)?(\w+)\(", reachable()))
    assert not [
        name
        for name in re.findall(r"^### (\w+)$", text("errors.md"), re.MULTILINE)
        if name not in raised
    ]


@pytest.mark.parametrize(("owner", "name"), public())
def test_every_public_name_has_its_description(owner, name):
    listed = re.search(rf"^\| `{name}` \| .* \| .{{3,}} \|$", reference(), re.MULTILINE) is not None
    told = listed or generate().part_members(owner, name) in reference()
    assert told, f"{owner}.{name} is in no generated part of docs/python/"


@pytest.mark.parametrize(("owner", "name"), public())
def test_every_public_name_has_an_example(owner, name):
    used = re.search(rf"\.{name}\b", code("python/*.md", "python")) is not None
    assert used, f"{owner}.{name} is used in no block of docs/python/"


def test_every_member_is_in_the_generated_part_of_its_own_class():
    parts = re.findall(r"<!-- generated: members (\w+)([^>]*?) -->", reference())
    for owner in HELD:
        named = {
            name
            for who, names in parts
            if who == owner
            for name in names.split() or generate().members(owner)
        }
        assert not set(generate().members(owner)) - set(generate().DUNDERS) - named, owner


def test_every_public_class_has_its_part_of_the_reference():
    import jammi_lab as jl

    parts = {
        word
        for names in re.findall(
            r"<!-- generated: (?:members|values|keys) ([^>]*?) -->", reference()
        )
        for word in names.split()
    }
    public = [
        name
        for name in jl.__all__
        if isinstance(cls := getattr(jl, name), type) and not issubclass(cls, JammiError)
    ]
    collections = (
        "Settings Sources Models MutableTables MutableTable Topics EphemeralSession Checks Metrics"
    ).split()
    assert not set(public + collections) - parts


def test_every_verdict_and_answer_is_listed():
    module = read(ROOT / "jammi_lab/core/verdicts.py")
    classes = {*re.findall(r"^class (\w+)", module, re.MULTILINE)} - {"VerdictBase"}
    assert not [name for name in classes if f"`jl.{name}`" not in text("python/verdicts.md")]


def test_every_name_that_the_package_gives_is_in_the_pages():
    import jammi_lab as jl

    assert not [
        name
        for name in jl.__all__
        if name != "widgets" and not re.search(rf"\b{name}\b", reference())
    ]


def paths_in(page: Path) -> set[str]:
    """The modules and folders that a page names in backticks."""
    return set(re.findall(r"`((?:[\w.]+/)+(?:[\w]+\.(?:py|txt))?)`", read(page)))


@pytest.mark.parametrize(
    "page", [DOCS / "tour.md", *sorted((DOCS / "why").glob("*.md"))], ids=lambda page: page.stem
)
def test_every_module_that_a_page_on_the_code_names_exists(page):
    roots = (ROOT, ROOT / "jammi_lab", ROOT / "kernel_ext" / "jammi_kernel_ext")
    roots += (ROOT / "widgets" / "jammi_widgets",)
    assert not [
        path for path in paths_in(page) if not any((root / path).exists() for root in roots)
    ]


def test_the_reasons_are_a_short_page_for_each_room():
    """Reasons that nobody reads in five minutes bind nobody."""
    pages = {page.name: read(page) for page in (DOCS / "why").glob("*.md")}
    index = pages.pop("index.md")
    assert pages and not [name for name in pages if f"]({name})" not in index]
    assert not [name for name, page in pages.items() if len(page.split()) > 1500]
    rooms = [room.parent.name for room in (ROOT / "jammi_lab").glob("*/__init__.py")]
    named = set(re.findall(r"[a-z_]+", " ".join(re.findall(r"`([^`]+)`", index))))
    assert rooms and not [room for room in rooms if room not in named | {"cli"}]


@pytest.mark.parametrize("relation", COLUMNS)
def test_every_column_of_the_catalog_is_listed_with_its_relation(relation):
    listed = re.search(rf"^\| `{relation}` \| (.*?) \| .{{10,}} \|$", text("sql.md"), re.MULTILINE)
    assert listed and listed[1] == ", ".join(f"`{column}`" for column in COLUMNS[relation])


def test_every_promise_of_the_security_page_names_a_test_that_exists():
    promises = re.findall(
        r"^\| .* \| `(tests/[\w/]+\.py)(?:::(\w+))?` \|$",
        read(ROOT / "SECURITY.md"),
        re.MULTILINE,
    )
    assert len(promises) > 20
    assert not [(file, test) for file, test in promises if f"def {test}" not in read(ROOT / file)]


def test_every_page_is_in_the_table_of_contents():
    """Of the site: a page that is in no toctree cannot be found there."""
    listed = {
        (page.parent / line.split("<")[-1].rstrip(">")).resolve()
        for page in DOCS.rglob("*.md")
        for block in blocks(page)
        if block.language == "{toctree}"
        for line in block.body.splitlines()
        if line and not line.startswith(":")
    }
    pages = [p.with_suffix("") for p in DOCS.rglob("*.md") if p != DOCS / "index.md"]
    notebooks = [p.with_suffix("") for p in (ROOT / "notebooks").glob("*.ipynb")]
    assert not [p for p in [*pages, *notebooks] if p.resolve() not in listed]
