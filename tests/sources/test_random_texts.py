"""Random tables that csv, json, pandas and polars write in many dialects are read as what stands in
the file, by Python's own readers, or are refused; never as something else."""

import csv
import datetime
import json
import random
from decimal import Decimal

import pandas as pd
import polars as pl
import pytest

from jammi_lab.core.errors import JammiError
from jammi_lab.core.records import SourceRecord
from jammi_lab.sources.files import row_copies, text_bytes
from jammi_lab.sources.registry import connector_for
from jammi_lab.sources.scratch_duckdb import query
from tests.sizes import sized, soak

WORDS = (
    *(
        "x",
        "Kyoto",
        "é",
        "a,b",
        "a;b",
        "a\tb",
        'say "hi"',
        "two\nlines",
        "NA",
        "true",
        "1E5",
        "007",
    ),
    *(
        "1-2-3",
        "#1",
        "=1+1",
        "'q'",
        " spaced ",
        "2.5x",
        "\\",
        "|",
        "-",
        "None",
        "12:30",
        "0",
        "0.10",
    ),
    *(
        "9007199254740993",
        "0.12345678901234567",
        "1e-07",
        "+1",
        "1,5",
        "1.234,5",
        "yes",
        "2024-13-01",
    ),
)
MAKERS = {
    "text": lambda dice: dice.choice(WORDS) + dice.choice(["", "", "z"]),
    "integer": lambda dice: dice.choice([0, 1, -1, dice.randrange(-(10**18), 10**18)]),
    "large": lambda dice: dice.randrange(2**62, 2**65),
    "float": lambda dice: dice.choice([0.5, -1.25, dice.random(), dice.uniform(-1e9, 1e9)]),
    "date": lambda dice: datetime.date(1900, 1, 1) + datetime.timedelta(dice.randrange(90_000)),
    "moment": lambda dice: (
        datetime.datetime(2000, 1, 1) + datetime.timedelta(seconds=dice.randrange(10**9) / 4)
    ),
    "flag": lambda dice: dice.random() < 0.5,
}


def column_of(dice, rows):
    """Values of one kind, or now and then of two; some are None."""
    kinds = dice.sample(sorted(MAKERS), dice.choice([1, 1, 1, 2]))
    missing = dice.choice([0, 0.1, 0.9])
    return [
        None if dice.random() < missing else MAKERS[dice.choice(kinds)](dice) for _ in range(rows)
    ]


def written(dice, path):
    """Write a random table as CSV in some dialect. Returns the options that it needs to be read, and
    the texts in the file."""
    width, rows = dice.randrange(1, 5), dice.choice([0, 1, 2, 30])
    names = [f"c{number}" for number in range(width)]
    columns = [column_of(dice, rows) for _ in names]
    delimiter, quote, encoding = dice.choice(",;\t|"), '"', "utf-8"
    writer = dice.choice(["csv", "csv", "pandas", "polars"])
    if writer == "csv":
        encoding = dice.choice(["utf-8", "utf-8-sig", "utf-16", "cp1252"])
        quote = dice.choice(['"', "'"])
        with open(path, "w", newline="", encoding=encoding) as file:
            sheet = csv.writer(
                file,
                delimiter=delimiter,
                quotechar=quote,
                quoting=dice.choice([csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC]),
                lineterminator=dice.choice(["\n", "\r\n"]),
            )
            sheet.writerow(names)
            sheet.writerows(zip(*columns, strict=True))
    elif writer == "pandas":
        table = dict(zip(names, columns, strict=True))
        pd.DataFrame(table, dtype=object).to_csv(path, index=False, sep=delimiter)
    else:
        style = dice.choice(["necessary", "always", "non_numeric"])
        texts_of(names, columns).write_csv(path, separator=delimiter, quote_style=style)
    with open(path, newline="", encoding=encoding) as file:
        [_, *texts] = csv.reader(file, delimiter=delimiter, quotechar=quote)
    options = {"delim": delimiter, "quote": quote}
    options |= {"encoding": encoding} if encoding == "cp1252" else {}
    return options, [row or [""] for row in texts if row or width == 1]


def texts_of(names, columns):
    texts = [[None if value is None else str(value) for value in each] for each in columns]
    return pl.DataFrame(dict(zip(names, texts, strict=True)), dict.fromkeys(names, pl.String))


def written_as_json(dice, path):
    """Write a random table as JSON, one object a line or a list of them. Returns the values in the
    file."""
    names = [f"c{number}" for number in range(dice.randrange(1, 5))]
    columns = [column_of(dice, dice.choice([1, 2, 30])) for _ in names[:1]]
    columns += [column_of(dice, len(columns[0])) for _ in names[1:]]
    records = [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]
    lines = [
        json.dumps(record, default=str, ensure_ascii=dice.random() < 0.5) for record in records
    ]
    if path.suffix == ".json":
        text = "[" + dice.choice([", ", ",\n"]).join(lines) + "]"
    elif dice.random() < 0.5:
        text = "".join(line + dice.choice(["\n", "\r\n"]) for line in lines)
    else:
        text = texts_of(names, columns).write_ndjson()
    path.write_text(text, encoding=dice.choice(["utf-8", "utf-8-sig", "utf-16"]), newline="")
    parse = json.JSONDecoder(parse_float=Decimal).decode
    said = parse(text) if path.suffix == ".json" else list(map(parse, text.splitlines()))
    return [[record[name] for name in names] for record in said]


def means(value, text):
    """Whether a value that was read is what the text says, with all its digits."""
    match value:
        case None:
            return text == ""
        case bool():
            return text.lower() == str(value).lower()
        case int():
            return str(value) == text
        case float():
            return float(text) == value and Decimal(repr(value)) == Decimal(text)
        case datetime.datetime():
            return datetime.datetime.fromisoformat(text) == value
        case datetime.date():
            return value.isoformat() == text
        case datetime.time():
            return datetime.time.fromisoformat(text) == value
    return value == text


def is_value(value, kind, said):
    """Whether a value that was read in a column of this type is the one in a JSON file."""
    if value is None or said is None:
        return value is said
    if kind == "JSON":
        return json.loads(value, parse_float=Decimal) == said
    if isinstance(said, str):
        return value == said or (
            isinstance(value, datetime.date | datetime.time) and means(value, said)
        )
    if isinstance(said, bool):
        return value is said
    return not isinstance(value, bool) and Decimal(repr(value).strip("'")) == said


@pytest.fixture(autouse=True)
def _every_file_is_copied(monkeypatch):
    for module in (row_copies, text_bytes):
        monkeypatch.setattr(module, "CLOCK_SECONDS", -1.0)
    monkeypatch.setattr(row_copies, "MIN_COPIED_BYTES", 0)


def read(path, kind, **options):
    """The types and rows of a file, and the same of a copy where one is made."""
    record = SourceRecord(name="s", kind=kind, location=str(path), options=options)
    relation = connector_for(record).relation(None)
    rows = query(relation, "FROM it")
    if relation.acquire is not None:
        relation.acquire()
        again = connector_for(record).relation(None)
        assert "rows.parquet" in again.read.body
        assert repr(query(again, "FROM it")) == repr(rows)
    return list(relation.columns.values()), rows


@soak
@pytest.mark.parametrize("part", range(4))
@pytest.mark.parametrize("kind", ["csv", "json"])
def test_random_tables_are_read_as_what_stands_in_the_file_or_are_refused(tmp_path, kind, part):
    count, refusals = sized(30, {"csv": 1_600, "json": 650}[kind]), []
    for seed in range(part * count, (part + 1) * count):
        dice, options = random.Random(seed), {}
        path = tmp_path / f"{seed}.{kind if seed % 2 else kind.replace('json', 'ndjson')}"
        if kind == "csv":
            options, said = written(dice, path)
        else:
            said = written_as_json(dice, path)
        try:
            types, rows = read(path, path.suffix[1:], **options)
        except JammiError as error:
            refusals.append((seed, error))
            continue
        assert len(rows) == len(said), (seed, options, path.read_bytes()[:500])
        for row, values in zip(rows, said, strict=True):
            cells = zip(row, types, values, strict=True)
            for value, type_, cell in cells:
                is_same = means(value, cell) if kind == "csv" else is_value(value, type_, cell)
                assert is_same, (seed, options, type_, value, cell)
        path.unlink()
    assert count > 20 * len(refusals)
    assert all(f"{seed}." in error.message and error.hint for seed, error in refusals), refusals
