"""Documents with planted edits: tables with two or three versions, prose about them made from templates,
and for each number in it what the generator knows of it. Nothing here asks the checker."""

import json
import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jammi_lab as jl

ROWS = {
    "model": "LLM BM25 Ridge RoBERTa GPT-4o Llama-70B XGBoost FastText SVM MiniLM".split(),
    "site": ["Oslo", "Porto Alegre", "Kyoto", "Lagos", "New Haven", "Graz", "Tartu", "Quito"],
    "gene": "BRCA1 TP53 EGFR MYC KRAS PTEN APOE CFTR".split(),
    "query": "join scan window sort merge lookup filter union".split(),
}
COLUMNS = {
    "share": ("f1", "accuracy", "recall", "precision", "coverage", "error_rate", "auc"),
    "count": ("papers", "patients", "tokens", "visits", "edges", "documents"),
    "measure": ("latency_ms", "mean_depth", "weight", "temperature", "runtime_s", "loss"),
}
TABLES = (
    "scores sites expression timings audit baseline ablation cohort panel survey wards harvest"
).split()
FOREIGN = [
    "Prior work reported {n} on another corpus.",
    "The original paper gives {n} for their own data.",
    "We set the weight decay to {n}.",
    "A threshold of {n} was taken from the manual.",
    "In the pilot study it was {n}.",
]
NOISE = [
    "See [the issue](https://example.org/issues/0.{d}) of 2023-04-{e:02d} and version 1.{e}.{e}.",
    "As shown in Table {d} and Figure 3.{e}, p < 0.0{e}1.",
    "Run `python eval.py --lr 0.{d}` first.",
    "The code was written in 20{e:02d} (see issue #{d}).",
]


@dataclass
class Table:
    name: str
    key: str
    rows: list[str]
    columns: dict[str, str]
    versions: list[dict[tuple[str, str], Any]] = field(default_factory=list)


@dataclass
class Mention:
    text: str
    """The number as it stands in the document."""
    truth: str
    """current, outdated or foreign."""


@dataclass
class Planted:
    file: Path
    mentions: list[Mention]


def value(random_: random.Random, kind: str) -> Any:
    if kind == "share":
        return round(random_.uniform(0.05, 0.99), random_.choice((3, 4, 5)))
    if kind == "count":
        return random_.randint(101, 2_500_000)
    return round(random_.uniform(1, 900), random_.choice((2, 3)))


def sql(number: Any) -> str:
    """A number in a statement: a DOUBLE, else a whole number."""
    return f"{number!r}e0" if isinstance(number, float) else repr(number)


def make_tables(random_: random.Random, ws: Any, number: int) -> list[Table]:
    tables = []
    for name in random_.sample(TABLES, number):
        key = random_.choice([*ROWS])
        kinds = [random_.choice([*COLUMNS]) for _ in range(random_.randint(1, 4))]
        columns = {random_.choice(COLUMNS[kind]): kind for kind in kinds}
        rows = random_.sample(ROWS[key], random_.randint(2, 7))
        table = Table(name, key, rows, columns)
        cells = {(row, c): value(random_, kind) for row in rows for c, kind in columns.items()}
        for _ in range(random_.choice((2, 2, 3))):
            table.versions.append(cells)
            cells = {
                place: value(random_, columns[place[1]]) if random_.random() < 0.4 else old
                for place, old in cells.items()
            }
        for version in table.versions:
            lines = [[f"'{row}'", *(sql(version[row, c]) for c in columns)] for row in rows]
            values = ", ".join(f"({', '.join(line)})" for line in lines)
            names = ", ".join((key, *columns))
            has_key = {"key": key} if random_.random() < 0.7 else {}
            ws.materialize(name, f"SELECT * FROM (VALUES {values}) t({names})", **has_key)
        tables.append(table)
    return tables


def add_background(random_: random.Random, ws: Any) -> None:
    """Tables that no text means, full of numbers that others have by chance, in two versions."""
    for number in range(3):
        column = random_.choice([name for names in COLUMNS.values() for name in names])
        for version in range(2):
            ws.materialize(
                f"runs_{number}",
                f"SELECT 'run-' || i AS run, round((hash(i, {number}, {version}, {random_.random()}) % "
                f"1000000) / 1000000, 4) AS {column}, (hash(i, {version}) % 9000) / 10 AS cost "
                "FROM range(400) t(i)",
                key="run",
            )


def written(random_: random.Random, kind: str, number: Any) -> str:
    """A number as people write it."""
    if kind == "count":
        if number >= 100_000 and random_.random() < 0.3:
            return f"{number / 1e6:.2f} million" if number >= 1e6 else f"{number / 1e3:.1f}k"
        return f"{number:,}" if number >= 1000 else str(number)
    if kind == "share":
        style = random_.random()
        if style < 0.35:
            return f"{number * 100:.1f} %"
        return f"{number:.3f}"
    return f"{number:.1f}" if number >= 10 else f"{number:.2f}"


def readings(text: str) -> float:
    """The number as the generator wrote it, to compare two spellings."""
    return float(text.split(maxsplit=1)[0].strip("k").replace(",", ""))


def mention(random_: random.Random, table: Table, row: str, column: str) -> Mention | None:
    """A value of some version as written, and whether it still holds; None for one of too few
    digits to count."""
    kind, newest = table.columns[column], table.versions[-1][row, column]
    version = random_.choice([-1, -1, *range(-len(table.versions), -1)])
    text = written(random_, kind, table.versions[version][row, column])
    digits = text.split()[0].strip("k").replace(".", "").replace(",", "").strip("0")
    if len(digits) < 3 or (text.isdigit() and text.endswith("0")):
        return None
    state = random_.getstate()
    spellings = set()
    for seed in range(20):  # every style that the number may have been written in
        random_.seed(seed)
        spellings.add(written(random_, kind, newest))
    random_.setstate(state)
    outdated = text not in spellings
    if not outdated:
        return Mention(text, "current")
    # it is a figure of the past only if no other spelling of the newest value reads the same
    near = any(readings(text) == readings(other) and text[-1] == other[-1] for other in spellings)
    return None if near else Mention(text, "outdated")


SHAPES = [
    "For {r} the {c} is {n0}.",
    "{r} has a {c} of {n0}, {s} only {n1}.",
    "The {t} table gives {n0} for {r} ({c}).",
    "We then looked at {r}. Its {c} came out at {n0}.",
    "### {r} in {t}\n\nWe measured a {c} of {n0}.",
    "| {k} | {d} |\n|---|---|\n| {r} | {n0} |\n| {s} | {n1} |",
    "{c} ({t}): {r} {n0}; {s} {n1}.",
    "In the {t}, {r} reached {n0} in {c}.",
    "{r} stayed at {n0}, whatever we tried.",
    "Compared with {s}, {r} does better: {n0} against {n1} ({c}).",
    "- {r}: {n0}\n- {s}: {n1}",
]
"""What is written of one value or two: `r` and `s` name the rows, `c` and `d` the column, `k` the key."""


def sentences(random_: random.Random, tables: list[Table]) -> tuple[list[str], list[Mention]]:
    """Paragraphs about the tables, and the numbers in them in order."""
    texts, mentions = list[str](), list[Mention]()
    while len(mentions) < random_.randint(8, 16):
        table = random_.choice(tables)
        row, other = random_.sample(table.rows, 2)
        column = random_.choice([*table.columns])
        words = {"r": row, "s": other, "c": column.replace("_", " "), "d": column}
        words |= {"t": table.name, "k": table.key}
        values = [mention(random_, table, each, column) for each in (row, other)]
        shape = SHAPES[random_.randrange(len(SHAPES))]
        found = [each for each in values[: 1 + ("{n1}" in shape)] if each]
        if len(found) == 1 + ("{n1}" in shape):
            numbers = {f"n{i}": each.text for i, each in enumerate(found)}
            texts.append(shape.format(**numbers, **words))
            mentions.extend(found)
        if random_.random() < 0.3:
            n = f"{random_.choice((1, 1, 90)) * random_.uniform(0.1, 1):.3f}"
            texts.append(random_.choice(FOREIGN).format(n=n))
            mentions.append(Mention(n, "foreign"))
        if random_.random() < 0.3:
            noise = random_.choice(NOISE)
            texts.append(noise.format(d=random_.randint(101, 999), e=random_.randint(1, 28)))
    return texts, mentions


def save(path: Path, texts: list[str]) -> Path:
    """The texts as Markdown, as cells of a notebook, or as Quarto."""
    if path.suffix == ".ipynb":
        cells = [{"cell_type": "markdown", "metadata": {}, "source": [text]} for text in texts]
        cells.insert(1, {"cell_type": "code", "source": ["0.123 + 45.6"], "outputs": []})
        path.write_text(json.dumps({"cells": cells, "nbformat": 4, "nbformat_minor": 5}))
    else:
        path.write_text("# Results\n\n" + "\n\n".join(texts) + "\n")
    return path


def plant(folder: Path, documents: int, seed: int) -> list[Planted]:
    """Documents about the tables of a new workspace, with what is true of their numbers."""
    random_ = random.Random(seed)
    with jl.open(folder / "lab") as ws:
        tables = make_tables(random_, ws, random_.randint(3, 10))
        if seed % 2:
            add_background(random_, ws)
    planted = []
    for number in range(documents):
        suffix = random_.choice((".md", ".md", ".qmd", ".ipynb"))
        texts, mentions = sentences(random_, tables)
        planted.append(Planted(save(folder / f"paper{number}{suffix}", texts), mentions))
    return planted
