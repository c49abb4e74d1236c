"""The house around the code: what a clone must hold so that `make` works anywhere and nothing leads
elsewhere."""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
PYPROJECT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
PROJECT = tomllib.loads(PYPROJECT)
PINS = (ROOT / "requirements.txt").read_text(encoding="utf-8")
# Hosts and switches by which an installer would be sent to one registry; written so that this file
# does not hold them itself.
REGISTRY = re.compile(
    r"py"  # noqa: ISC003
    + r"pi\.org|python"
    + r"hosted|--(?:extra-)?index"
    + r"-url[ =]|--find"
    + r"-links|registry\.npm|\[\[tool\.uv\."
    + r"index\]\]",
    re.IGNORECASE,
)
TEXT = {
    ".py",
    ".toml",
    ".txt",
    ".md",
    ".cfg",
    ".in",
    ".yml",
    ".yaml",
    ".json",
    ".ipynb",
    ".js",
    ".css",
    "",
}


def shipped() -> list[Path]:
    """The files of the clone: what git tracks or would track."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return [ROOT / name for name in listed.split("\0") if name and (ROOT / name).is_file()]


def pinned() -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for name, version in re.findall(r"^([A-Za-z0-9._-]+)==([^ ;\\]+)", PINS, re.MULTILINE):
        found.setdefault(name.lower(), set()).add(version)
    return found


UNTESTED_EXTRAS = ("gcs", "azure")
"""What no test here can run against: their many parts are not installed by the development
set-up."""


def asked_for() -> list[Requirement]:
    extras = [
        parts
        for name, parts in PROJECT["project"]["optional-dependencies"].items()
        if name not in UNTESTED_EXTRAS
    ]
    lines = [
        *PROJECT["project"]["dependencies"],
        *(line for extra in extras for line in extra),
        *PROJECT["build-system"]["requires"],
    ]
    return [r for r in map(Requirement, lines) if r.name != "jammi-lab"]


def test_no_file_names_a_package_registry():
    texts = [file for file in shipped() if file.suffix in TEXT]
    assert texts
    assert not [
        str(f.relative_to(ROOT))
        for f in texts
        if REGISTRY.search(f.read_text(encoding="utf-8", errors="replace"))
    ]


def test_no_file_names_a_folder_of_the_machine_it_was_written_on():
    places = re.compile(r"/wo" + r"rk/|/home" + r"/\w+/|/Us" + r"ers/\w+/|/ro" + r"ot/")
    assert not [
        str(f.relative_to(ROOT))
        for f in shipped()
        if f.suffix in TEXT and places.search(f.read_text(encoding="utf-8", errors="replace"))
    ]


@pytest.mark.parametrize("requirement", asked_for(), ids=str)
def test_the_pins_satisfy_what_the_project_asks_for(requirement):
    versions = pinned().get(requirement.name.lower(), set())
    assert versions
    assert all(requirement.specifier.contains(version) for version in versions)


def test_only_duckdb_is_bound_from_above_so_that_it_installs_beside_others():
    """Its results and read sets depend on the release, and its extensions on one."""
    bounds = {r.name: {each.operator for each in r.specifier} for r in asked_for()}
    bound = {name for name, operators in bounds.items() if not operators <= {">="}}
    assert len(bounds) > 30 and bound == {n for n in bounds if n.startswith("duckdb")}


def test_every_pin_has_its_hashes():
    blocks = re.split(r"^(?=[A-Za-z0-9])", PINS, flags=re.MULTILINE)[1:]
    assert blocks
    assert not [block.split()[0] for block in blocks if "--hash=sha256:" not in block]


def test_every_module_of_the_engine_has_its_layer_in_the_import_contract():
    layers = " ".join(PROJECT["tool"]["importlinter"]["contracts"][0]["layers"])
    folder = ROOT / "jammi_lab"
    there = {f.stem for f in folder.glob("*.py") if f.stem != "__init__"} | {
        f.parent.name for f in folder.glob("*/__init__.py")
    }
    assert there == set(re.findall(r"jammi_lab\.(\w+)", layers)), (
        "what has no layer may be imported from anywhere, and nothing says so"
    )


def test_every_ignored_rule_has_its_reason_beside_it():
    ruff = PYPROJECT[PYPROJECT.index("[tool.ruff.lint]") : PYPROJECT.index("[tool.ruff.format]")]
    ignored = ruff[ruff.index("ignore = [") :]
    rules = [line for line in ignored.splitlines() if re.match(r'\s+"[A-Z]+\d*",', line)]
    assert rules
    assert not [line for line in rules if not re.search(r"#\s*\S.{8,}", line)]


def test_every_suppressed_warning_names_its_rule():
    bare = re.compile(r"#\s*(?:no" + r"qa|type:\s*ign" + r"ore)\s*(?:$|[^:\[])")
    python = [f for f in shipped() if f.suffix == ".py"]
    assert not [
        f"{f.relative_to(ROOT)}: {line.strip()}"
        for f in python
        for line in f.read_text(encoding="utf-8").splitlines()
        if bare.search(line)
    ]


def test_every_target_of_the_makefile_is_in_its_help():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    phony = re.search(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)
    assert phony
    shown = subprocess.run(
        ["make", "-s", "help"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    assert not [target for target in phony[1].split() if f"make {target} " not in shown]


def test_the_data_of_the_tour_stays_small_and_says_its_licence():
    data = ROOT / "notebooks" / "data"
    assert sum(f.stat().st_size for f in data.rglob("*") if f.is_file()) < 3_000_000
    assert "CC0" in (data / "README.md").read_text(encoding="utf-8")


def test_the_licence_is_whole():
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert "Apache License" in text
    assert "END OF TERMS AND CONDITIONS" in text


def test_one_version_is_named_everywhere():
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    newest = re.search(r"^## (\S+)", changelog, re.MULTILINE)
    assert newest
    assert newest[1] == PROJECT["project"]["version"]
