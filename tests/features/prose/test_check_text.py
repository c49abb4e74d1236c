"""Numbers in prose: `check-text`, ties and `ws.find_value`."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from decimal import Decimal
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

import jammi_lab as jl
from jammi_lab.features.prose import documents
from jammi_lab.features.prose.documents import read_document
from jammi_lab.features.prose.text_check import Outline
from jammi_lab.features.prose.written_numbers import decimal_mark, find_numbers, parse_number
from jammi_lab.workspace.stamp_checks import Workspaces
from tests.cases import cases
from tests.features.prose.planted import plant
from tests.inside import services_of
from tests.processes import environment
from tests.shell import run_shell
from tests.sizes import sized
from tests.templates import Template

BY_HAND = Path(__file__).with_name("by_hand.txt").read_text(encoding="utf-8")
MARK = re.compile(r"⟦(?P<number>[^⟧]+?) (?P<outcome>\w+)⟧")
SCORES = [
    [("LLM", 0.364, 0.511, 1204), ("BM25", 0.212, 0.43, 1204), ("Ridge", 0.298, 0.377, 980)],
    [("LLM", 0.4551, 0.511, 1310), ("BM25", 0.212, 0.441, 1204), ("Ridge", 0.298, 0.377, 980)],
]
WARDS = [
    [("Oncology", 8120, 0.0875), ("Cardiology", 12345, 0.0312), ("Surgery", 23456, 0.015)],
    [("Oncology", 8345, 0.0875), ("Cardiology", 12345, 0.0298), ("Surgery", 23456, 0.015)],
]


def put(ws, name, columns, rows, **options):
    lines = [
        [f"{each!r}e0" if isinstance(each, float) else repr(each) for each in row] for row in rows
    ]
    values = ", ".join(f"({', '.join(line)})" for line in lines)
    ws.materialize(name, f"SELECT * FROM (VALUES {values}) t({columns})", **options)


def _build(folder):
    with jl.open(folder / "lab") as ws:
        for number in range(2):
            lasso = [("Lasso", 0.119, 0.2, 5)] * (number == 0)
            put(ws, "scores", "model, f1, recall, n", SCORES[number] + lasso, key="model")
            put(ws, "wards", "ward, patients, mortality", WARDS[number], key="ward")
            timing = [(12.84, 1250000), (9.31, 1250000)][number]
            put(ws, "timings", "seconds, rows", [timing])
            acl = [("ACL", 412, 0.206), ("ACL", 415, 0.2051)][number]
            put(ws, "venues", "venue, n, share", [acl, ("ICML", 388, 0.194)])
            ws.materialize("best", "SELECT model, f1 FROM jammi.scores ORDER BY f1 DESC LIMIT 1")


TEMPLATES = {"lab": Template(_build)}


@pytest.fixture
def lab(tmp_path):
    with jl.open(tmp_path / "lab") as ws:
        yield ws


def check(*words):
    result = run_shell("check-text", *words, "--json")
    return result.exit_code, json.loads(result.stdout)


def outcomes(tmp_path, text, name="a.md"):
    (tmp_path / name).write_text(text, encoding="utf-8")
    return [(each["number"], each["outcome"]) for each in check(tmp_path / name)[1]]


@pytest.mark.parametrize("part", BY_HAND.split("=== ")[1:], ids=lambda part: part.split("\n")[0])
def test_documents_written_by_hand(lab, tmp_path, part):
    name, text = part.split("\n", 1)
    plan = [(" ".join(match["number"].split()), match["outcome"]) for match in MARK.finditer(text)]
    found = outcomes(tmp_path, MARK.sub(lambda match: match["number"], text), name)
    assert len(found) >= len(plan)
    rest = iter(found)
    for number, outcome in plan:
        written = next(each for each in rest if each[0].startswith(number))
        assert written[1] == outcome, (number, found)
    accused = Counter(number for number, outcome in found if outcome == "outdated")
    assert accused.total() == sum(outcome == "outdated" for _, outcome in plan), found


def test_planted_edits_are_found_and_nothing_else_is_accused(tmp_path):
    counted = Counter()
    for seed in range(sized(3, 10)):
        folder = tmp_path / str(seed)
        folder.mkdir()
        planted = plant(folder, sized(20, 30), seed)
        with Workspaces(None, None) as workspaces:
            prose = workspaces.nearest(planted[0].file).prose
            for each in planted:
                found = prose.check(read_document(each.file))
                assert len(found) == len(each.mentions)
                for mention, entry in zip(each.mentions, found, strict=True):
                    assert entry.number.startswith(mention.text)
                    counted[mention.truth == "outdated", entry.outcome == "outdated"] += 1
    assert counted.total() > sized(600, 3000) and counted[True, True] + counted[True, False] > 100
    assert counted[True, True] >= 0.95 * (counted[True, True] + counted[True, False])
    assert counted[False, True] <= 0.01 * (counted[False, True] + counted[False, False])


def test_what_is_reported_and_what_fails(lab, tmp_path):
    file = tmp_path / "README.md"
    file.write_text("# Results\n\nLLM has an F1 of 0.364 and a recall of 0.511; x is 0.7777.\n")
    code, [outdated, backed, unfound] = check(file, "--fail")
    assert code == 1 and len(check(file, file)[1]) == 3
    assert outdated == {
        "file": str(file),
        "cell": None,
        "line": 3,
        "number": "0.364",
        "tied": False,
        "table": "scores",
        "version": 1,
        "row": {"model": "LLM"},
        "column": "f1",
        "now": "0.455",
        "outcome": "outdated",
        "reason": "it was scores version 1, row LLM, column f1; now 0.455",
    }
    assert backed["reason"] == "by scores version 2, row LLM, column recall"
    assert (unfound["outcome"], unfound["table"]) == ("unfound", None)
    assert run_shell("check-text", file).stdout.splitlines()[0] == (
        f"{file}:3: 0.364: outdated: it was scores version 1, row LLM, column f1; now 0.455"
    )
    assert run_shell("check-text", file).exit_code == 0
    run_shell("check-text", file, "--junit", tmp_path / "x.xml")
    suite = ElementTree.parse(tmp_path / "x.xml").getroot()
    assert [suite.get(name) for name in ("tests", "failures", "skipped")] == ["3", "1", "1"]

    file.write_text("LLM has an F1 of 0.455; x is 0.7777.\n")
    assert check(file, "--fail")[0] == 0
    assert check(file, "--fail=unfound")[0] == 1


def test_a_tie_is_checked_exactly_and_updated_on_request_only(lab, tmp_path):
    file = tmp_path / "paper.md"
    text = (
        "\ufeffIt is **0.36**<!-- jammi scores/LLM/f1 --> or 36.4 %<!-- jammi scores/LLM/f1 -->,\r\n"
        "was 1,204 <!-- jammi scores/LLM/n -->, took 12.8 s<!-- jammi timings/seconds -->, and "
        "0.21<!-- jammi scores/BM25/f1 --> stays; 0.364 without a tie.\r\n"
    )
    file.write_bytes(text.encode())
    code, found = check(file, "--fail")
    assert code == 1 and [each["outcome"] for each in found] == ["outdated"] * 4 + [
        "backed",
        "outdated",
    ]
    assert [each["now"] for each in found[:4]] == ["0.46", "45.5 %", "1,310", "9.3 s"]
    assert file.read_bytes() == text.encode()
    lines = run_shell("check-text", file, "--update").stdout.splitlines()
    assert sum("updated: it was" in line for line in lines) == 4
    new = text.replace("**0.36**", "**0.46**").replace("36.4 %", "45.5 %")
    new = new.replace("1,204 ", "1,310 ").replace("12.8 s", "9.3 s")
    assert file.read_bytes() == new.encode()
    _, found = check(file, "--fail")
    assert [each["outcome"] for each in found] == ["backed"] * 5 + ["outdated"]


@pytest.mark.parametrize("new_names", [["marks"], ["aside", "marks"], ["Scores"]])
def test_the_tie_of_a_table_that_was_renamed_names_it(tmp_path, new_names):
    with jl.open(tmp_path / "lab") as ws:
        put(ws, "scores", "model, f1", [("LLM", 0.364)], key="model")
        name = "scores"
        for new_name in new_names:
            ws.rename(name, name := new_name)
        (tmp_path / "a.md").write_text("It is 0.364<!-- jammi scores/LLM/f1 -->.")
        _, [entry] = check(tmp_path / "a.md")
        place = f"{name} version 1, row LLM, column f1"
        assert (entry["outcome"], entry["reason"]) == ("backed", f"by {place}")
        put(ws, name, "model, f1", [("LLM", 0.455)], key="model")
        _, [entry] = check(tmp_path / "a.md")
        assert (entry["outcome"], entry["now"]) == ("outdated", "0.455")
        tie = services_of(ws).prose.tie_of("scores", {"model": "LLM", "f1": 0.455}, "f1")
        assert tie == f"0.455<!-- jammi {name}/LLM/f1 -->"


@pytest.mark.parametrize(
    ("tie", "reason"),
    cases("prose/wrong_ties", "tie", "reason"),
)
def test_a_tie_that_names_nothing_fails(lab, tmp_path, tie, reason):
    (tmp_path / "a.md").write_text(f"It is {tie}.")
    code, [entry] = check(tmp_path / "a.md", "--fail")
    assert (code, entry["outcome"], entry["tied"]) == (1, "unknown", True)
    assert reason in entry["reason"]


def test_an_outcome_says_what_is_missing(lab, tmp_path):
    file = tmp_path / "a.md"
    file.write_text("No<!-- jammi scores/LLM/f1 --> number.\n\nIt was 43 %.\n")
    outcomes = [
        line.partition("a.md:")[2] for line in run_shell("check-text", file).stdout.splitlines()
    ]
    perhaps = (
        "perhaps scores version 1, row BM25, column recall, "
        "but nothing near it names the row or the table"
    )
    assert sorted(outcomes) == [
        "1: a tie: unknown: no number stands right before scores/LLM/f1",
        f"3: 43 %: ambiguous: {perhaps}",
    ]


def test_ties_of_latex_and_of_keys_with_odd_letters(lab, tmp_path):
    put(lab, "odd", "a, b, x", [("a/b c", 3, 1.25), ("50%", 4, 2.5)], key=["a", "b"])
    tied = "1.25<!-- jammi odd/a%2Fb%20c/3/x --> 2.5<!-- jammi odd/50%25/4/x -->"
    assert outcomes(tmp_path, tied) == [("1.25", "backed"), ("2.5", "backed")]


def test_a_key_at_midnight_is_its_day_as_tables_show_it(lab, tmp_path):
    lab.materialize(
        "days",
        "SELECT TIMESTAMP '2025-01-01' + i * INTERVAL 12 HOUR AS at, 1.25 + i AS x FROM range(2) r(i)",
        key="at",
    )
    [found] = lab.find_value(1.25)
    assert found.row == {"at": "2025-01-01"}
    ties = (
        ("1.25", "2025-01-01"),
        ("1.25", "2025-01-01%2000:00:00"),
        ("2.25", "2025-01-01%2012:00:00"),
    )
    text = " ".join(f"{number}<!-- jammi days/{row}/x -->" for number, row in ties)
    assert outcomes(tmp_path, text) == [(number, "backed") for number, _ in ties]
    tex = "\\begin{document}\nIt is \\jammi{scores/LLM/f1}{0.364}.\n\\end{document}\n"
    assert outcomes(tmp_path, tex, "a.tex") == [("0.364", "outdated")]
    run_shell("check-text", tmp_path / "a.tex", "--update")
    assert (tmp_path / "a.tex").read_text() == tex.replace("0.364", "0.455")


def test_a_tie_in_code_is_text_about_ties(lab, tmp_path):
    text = "Write `0.364<!-- jammi scores/LLM/f1 -->`:\n\n```\n0.364<!-- jammi x/y -->\n```\n"
    assert outcomes(tmp_path, text) == []


def notebook(path, *sources, **options):
    cells = [{"cell_type": kind, "metadata": {}, "source": source} for kind, source in sources]
    book = {"cells": cells, "metadata": {"a": "é"}, "nbformat": 4, "nbformat_minor": 5}
    path.write_text(json.dumps(book, ensure_ascii=False, indent=1, **options) + "\n")
    return path


def test_a_notebook_is_checked_in_its_markdown_cells(lab, tmp_path):
    file = notebook(
        tmp_path / "n.ipynb",
        ("code", ["llm = 0.364"]),
        ("markdown", ["LLM reaches\n", "0.364 in F1."]),
        ("markdown", "Tied: 0.364<!-- jammi scores/LLM/f1 -->"),
    )
    before = file.read_text()
    _, found = check(file)
    assert [(each["cell"], each["line"], each["outcome"]) for each in found] == [
        (2, 2, "outdated"),
        (3, 1, "outdated"),
    ]
    run_shell("check-text", file, "--update")
    assert file.read_text() == before.replace("Tied: 0.364", "Tied: 0.455")


def test_bad_files_are_refused_by_name_and_nothing_is_written(lab, tmp_path):
    tied = tmp_path / "tied.md"
    tied.write_text("0.364<!-- jammi scores/LLM/f1 -->")
    bad = {
        "large.md": b"LLM 0.364 " * (5 << 20),
        "binary.md": b"\x89PNG\r\n\x00\x01",
        "utf16.md": "LLM 0.364".encode("utf-16"),
        "latin.md": "é 0.364".encode("latin-1"),
        "broken.ipynb": b'{"cells": [',
        "old.ipynb": b'{"worksheets": []}',
        "deep.ipynb": b"[" * 100_000,
        "list.ipynb": b'{"cells": [1]}',
        "a.docx": b"PK",
        "none": b"LLM 0.364",
    }
    for name, data in bad.items():
        (tmp_path / name).write_bytes(data)
        result = run_shell("check-text", tied, tmp_path / name, "--update")
        assert result.exit_code == 3 and name in result.stderr, name
    (tmp_path / "folder.md").mkdir()
    problems = {
        "missing.md": "No such file",
        "lab": "is a folder",
        "folder.md": "is a folder",
        "long" * 99: "does not read a file without suffix",
    }
    for name, problem in problems.items():
        result = run_shell("check-text", tied, tmp_path / name)
        assert result.exit_code == 3 and problem in result.stderr
    assert "0.364" in tied.read_text()
    (tmp_path / "empty.md").write_bytes(b"")
    assert run_shell("check-text", tmp_path / "empty.md").stdout == "No numbers.\n"


def test_a_workspace_that_is_gone_or_not_alone(lab, tmp_path):
    file = tmp_path / "papers" / "drafts" / "a.md"
    file.parent.mkdir(parents=True)
    file.write_text("LLM has an F1 of 0.364.")
    assert check(file)[1][0]["outcome"] == "outdated"
    shutil.copytree(tmp_path / "lab", tmp_path / "copy")
    result = run_shell("check-text", file)
    assert result.exit_code == 3 and "2 workspaces are equally near" in result.stderr
    assert "copy" in result.stderr
    for number in range(3):
        shutil.copytree(tmp_path / "lab", tmp_path / f"copy{number}")
    result = run_shell("check-text", file)
    assert "5 workspaces are equally near" in result.stderr and "copy" not in result.stderr
    for number in range(3):
        shutil.rmtree(tmp_path / f"copy{number}")
    assert check(file, "--workspace", tmp_path / "copy")[1][0]["outcome"] == "outdated"
    shutil.rmtree(tmp_path / "copy")
    lab.close()
    shutil.rmtree(tmp_path / "lab")
    assert "No workspace is next to" in run_shell("check-text", file).stderr
    result = run_shell("check-text", file, "--workspace", tmp_path / "lab")
    assert result.exit_code == 3 and "There is no workspace" in result.stderr


@pytest.mark.parametrize("other", [0.455, "a text"])
def test_a_forged_table_with_two_columns_of_one_name_is_named(lab, tmp_path, other):
    rows = pa.table([["LLM"], [0.364], [other]], ["model", "f1", "f1"])
    for file in (tmp_path / "lab" / "results").rglob("scores*.parquet"):
        pq.write_table(rows, file)
    assert {each.table for each in lab.find_value(0.364)} == {"best"}
    (tmp_path / "a.md").write_text("LLM has an F1 of 0.364; 0.455<!-- jammi scores/LLM/f1 -->")
    told = run_shell("check-text", tmp_path / "a.md").stdout
    assert "scores version 2 cannot be read" in told and "unknown: scores cannot be read" in told


def test_a_table_whose_file_is_lost_or_too_large_is_named(lab, tmp_path, monkeypatch):
    (tmp_path / "a.md").write_text("LLM has an F1 of 0.364; 0.455<!-- jammi scores/LLM/f1 -->")
    for file in (tmp_path / "lab" / "results").rglob("scores*.parquet"):
        file.write_bytes(b"nothing")
    result = run_shell("check-text", tmp_path / "a.md", "--fail")
    assert result.exit_code == 1 and "scores version 2 cannot be read" in result.stdout
    assert "unknown: scores cannot be read" in result.stdout
    monkeypatch.setattr("jammi_lab.features.prose.value_search.MAX_TABLE_ROWS", 2)
    result = run_shell("check-text", tmp_path / "a.md")
    assert "wards version 1 is too large to search" in result.stdout


def test_find_value_tells_where_a_number_stands_by_version(lab):
    [found] = lab.find_value(0.364)[:1]
    assert (found.table, found.version, found.row, found.column) == ("best", 1, {}, "f1")
    [found] = [each for each in lab.find_value(0.364) if each.table == "scores"]
    assert (found.version, found.row, found.value) == (1, {"model": "LLM"}, 0.364)
    assert (found.newest_version, found.newest) == (2, 0.4551)
    for same in ("45.5 %", Decimal("0.455"), np.float64(0.455), "0,455"):
        assert {each.table for each in lab.find_value(same)} == {"best", "scores"}
    assert [each.version for each in lab.find_value(np.int64(12345))] == [2, 1]
    assert lab.find_value(0.7777) == [] and "no table" in repr(lab.find_value(0.7777))
    assert "newest value" in repr(lab.find_value(0.364))
    frame = lab.find_value(0.364).polars()
    assert ("scores", 1, "LLM", "f1", 0.364, 0.4551) in frame.rows()
    assert lab.find_value(0.7777).pandas().shape == (0, 6)
    for bad in ("many", None, True, float("nan"), float("inf"), [1], "1 2", 10**60):
        with pytest.raises(jl.errors.InvalidArgument, match="find_value takes a number"):
            lab.find_value(bad)


@pytest.mark.parametrize(
    ("written", "holds", "others"),
    cases("prose/rounded", "written", "holds", "others"),
)
def test_a_number_is_backed_by_what_rounds_to_it(written, holds, others):
    number = parse_number(written)
    assert number is not None and number.counts == (written != "0.36")
    assert all(number.is_rounded_from(Decimal(each)) for each in holds)
    assert not any(number.is_rounded_from(Decimal(each)) for each in others)


def test_the_decimal_mark_is_that_of_the_document():
    german, english = "Es sind 1.234,5 und 0,45 und 2.345.", "It is 1,234.5 and 0.45 and 2.345."
    assert [number.value for number in find_numbers(german, decimal_mark(german))] == [
        Decimal("1234.5"),
        Decimal("0.45"),
        Decimal(2345),
    ]
    values = [number.value for number in find_numbers(english, decimal_mark(english))]
    assert values == [Decimal("1234.5"), Decimal("0.45"), Decimal("2.345")]


@pytest.mark.parametrize(
    ("written", "value", "new"),
    cases("prose/rewritten", "written", "value", "new"),
)
def test_a_new_value_is_written_as_the_old_one_was(written, value, new):
    assert parse_number(written).write_value(Decimal(value)) == new


def test_an_empty_heading_and_code_between_number_and_unit(lab, tmp_path):
    tex = "\\begin{document}\n\\section{}\nLLM has 0.364.\n\\end{document}\n"
    assert outcomes(tmp_path, tex, "a.tex") == [("0.364", "outdated")]
    assert outcomes(tmp_path, "LLM has 0.364 `x` % in F1.") == [("0.364", "outdated")]
    assert outcomes(tmp_path, "LLM has 0.364<br>\n\n\\times 10^{3}.") == [("0.364", "outdated")]


def test_what_a_sentence_names_is_near_the_number(tmp_path):
    """The time for a sentence of many numbers would be their square."""
    (tmp_path / "a.md").write_text("far " + "word " * 200 + "near 0.364 " + "word " * 200 + "last.")
    [prose] = read_document(tmp_path / "a.md").proses
    sentence, paragraph, _ = Outline(prose).contexts(prose.numbers[0])
    assert {"near", "far", "last"} & sentence.distances.keys() == {"near"}
    assert {"near", "far", "last"} <= paragraph.distances.keys()


def test_hostile_texts_are_read_in_time(tmp_path, run_python):
    texts = [
        "<!--",
        "`a",
        "[",
        "(1,",
        "1",
        "<a ",
        "\\jammi{",
        "    a\n\n",
        "---\n",
        "[](",
        "{a=b",
        "{.a",
        "$1",
        "0.1 ",
        "[" + "\\" * 200,
        ":",
        "<pre ",
        "\\cite(",
        "\\cite[",
    ]
    for number, text in enumerate(texts):
        for suffix in (".md", ".tex", ".rst", ".html"):
            hostile = text * (sized(3_000, 100_000) // len(text))
            (tmp_path / f"{number}{suffix}").write_text(hostile)
    run_python(
        "from pathlib import Path; from jammi_lab.features.prose.documents import read_document;"
        "print(sum(bool(read_document(file)) for file in Path().glob('[0-9]*')))",
        timeout=60,
    )


ROOT = Path(__file__).resolve().parents[3]


def copy_tracked(target, *folders):
    """What a fresh clone has of some paths."""
    names = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z", *folders],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    for name in filter(None, names.split("\0")):
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, target / name)


def test_the_page_on_performance_has_the_figures_that_were_measured(tmp_path):
    copy_tracked(tmp_path, "docs/measured", "docs/performance.md")
    page = tmp_path / "docs" / "performance.md"
    code, found = check(page, "--fail")
    tied = [each for each in found if each["tied"]]
    assert code == 0 and len(tied) > 50 and {each["outcome"] for each in tied} == {"backed"}
    page.write_text(page.read_text().replace("| 5.8 ms<!--", "| 6.8 ms<!--"))
    assert check(page, "--fail")[0] == 1


def blocks_of_guide():
    page = (ROOT / "docs" / "guides" / "check-numbers.md").read_text(encoding="utf-8")
    return [yaml.safe_load(text) for text in re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)]


@pytest.fixture
def repository(lab, tmp_path):
    """A git repository with a workspace, a text whose numbers hold, and the hook of the guide."""
    [hook] = blocks_of_guide()[0]["repos"][0]["hooks"]
    repository = tmp_path / "paper"
    repository.mkdir()
    lab.close()
    shutil.copytree(tmp_path / "lab", repository / "lab")
    shutil.rmtree(tmp_path / "lab")
    (repository / "README.md").write_text("LLM has an F1 of 0.455.\n")
    (repository / "main.py").write_text("f1 = 0.364  # LLM\n")

    def git(*words):
        bin_folder = Path(sys.executable).parent
        env = environment() | {"PATH": f"{bin_folder}:{os.environ['PATH']}", "HOME": str(tmp_path)}
        command = ["git", "-c", "user.name=a", "-c", "user.email=a@b", *words]
        return subprocess.run(command, cwd=repository, env=env, capture_output=True, text=True)

    git("init", "-q")
    # as pre-commit runs a hook of language "system": the entry with the changed files that match
    (repository / ".git" / "hooks" / "pre-commit").write_text(
        "#!/bin/sh\nfiles=$(git diff --cached --name-only --diff-filter=d | "
        f"grep -E '{hook['files']}') || exit 0\nexec {hook['entry']} $files\n"
    )
    (repository / ".git" / "hooks" / "pre-commit").chmod(0o755)
    git("add", ".")
    return repository, git


def test_the_hook_of_the_guide_stops_a_commit_with_an_outdated_number(repository):
    folder, git = repository
    done = git("commit", "-qm", "first")
    assert done.returncode == 0, done.stderr
    (folder / "README.md").write_text("LLM has an F1 of 0.364.\n")
    git("add", "README.md")
    done = git("commit", "-qm", "second")
    assert done.returncode == 1 and "README.md:1: 0.364: outdated" in done.stdout + done.stderr


@pytest.mark.only_soak
def test_the_action_of_the_guide_runs_in_a_clone(repository, tmp_path):
    folder, _ = repository
    (folder / "docs").mkdir()
    (folder / "docs" / "a.md").write_text("BM25 has an F1 of 0.212.\n")
    [job] = blocks_of_guide()[1]["jobs"].values()
    [command] = [step["run"] for step in job["steps"] if "check-text" in step.get("run", "")]
    for text, code in (("LLM has an F1 of 0.455.\n", 0), ("LLM has an F1 of 0.364.\n", 1)):
        clone = tmp_path / f"clone{code}"
        shutil.copytree(folder, clone)
        (clone / "README.md").write_text(text)
        env = environment() | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
        done = subprocess.run(command, shell=True, cwd=clone, env=env, capture_output=True)
        assert done.returncode == code, done
        assert ElementTree.parse(clone / "numbers.xml").getroot().get("failures") == str(code)


def test_want_of_memory_is_said(tmp_path, monkeypatch):
    def fail(_):
        raise MemoryError

    monkeypatch.setattr(documents, "_read_text", fail)
    result = run_shell("check-text", tmp_path / "a.md")
    assert result.exit_code == 3
    assert result.stderr.startswith("ResourceExhausted: Memory is exhausted")


def test_an_updated_file_keeps_its_permissions_and_nothing_of_a_killed_update(lab, tmp_path):
    file = tmp_path / "a.md"
    left = tmp_path / ".a.md.0123abcd.tmp"
    left.write_text("The LLM")
    file.write_text("The LLM has 36 %<!-- jammi scores/LLM/f1 --> in F1.\n")
    file.chmod(0o600)
    run_shell("check-text", "--update", file)
    assert "46 %" in file.read_text()
    assert file.stat().st_mode & 0o777 == 0o600
    assert not left.exists()
