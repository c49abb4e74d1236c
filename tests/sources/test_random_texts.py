"""Random tables that csv, pandas and polars write in many dialects are read as what stands in the
file, by Python's own csv reader, or are refused; never as something else."""

import contextlib
import csv
import datetime
import random
from decimal import Decimal

import pandas as pd
import polars as pl

import jammi_lab as jl
from jammi_lab.core.errors import JammiError
from jammi_lab.core.records import SourceRecord
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
    """Write a random table in some dialect. Returns the options that it needs to be read, and the
    texts in the file."""
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
        texts = [[None if value is None else str(value) for value in each] for each in columns]
        table = dict(zip(names, texts, strict=True))
        style = dice.choice(["necessary", "always", "non_numeric"])
        pl.DataFrame(table, dict.fromkeys(names, pl.String)).write_csv(
            path, separator=delimiter, quote_style=style
        )
    with open(path, newline="", encoding=encoding) as file:
        [_, *texts] = csv.reader(file, delimiter=delimiter, quotechar=quote)
    options = {"delim": delimiter, "quote": quote}
    options |= {"encoding": encoding} if encoding == "cp1252" else {}
    return options, [row or [""] for row in texts if row or width == 1]


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


@soak
def test_random_tables_are_read_as_what_stands_in_the_file_or_are_refused(tmp_path):
    read, refusals = 0, []
    for seed in range(sized(150, 2_000)):
        path = tmp_path / f"{seed}.csv"
        options, texts = written(random.Random(seed), path)
        record = SourceRecord(name="s", kind="csv", location=str(path), options=options)
        try:
            rows = query(connector_for(record, None, None).relation(None), "FROM it")
        except JammiError as error:
            refusals.append((seed, error))
            continue
        read += 1
        assert len(rows) == len(texts), (seed, options, path.read_bytes()[:500])
        for row, said in zip(rows, texts, strict=True):
            assert all(map(means, row, said)), (seed, options, row, said)
        path.unlink()
    assert read > 20 * len(refusals)
    assert all(f"{seed}.csv" in error.message and error.hint for seed, error in refusals), refusals


def test_one_more_row_never_turns_the_others(tmp_path):
    """What is read of the first rows means the same, whatever comes after them."""
    dice = random.Random(7)
    with jl.open(tmp_path / "lab") as ws:
        for turn in range(sized(25, 200)):
            texts = [str(MAKERS[dice.choice(sorted(MAKERS))](dice)) for _ in range(3)]
            texts = [text.replace("\n", " ") for text in texts]
            for count in (1, 2, 3):
                path = tmp_path / f"{turn}-{count}.csv"
                with open(path, "w", newline="", encoding="utf-8") as file:
                    sheet = csv.writer(file, quoting=csv.QUOTE_ALL)
                    sheet.writerow(["n", "v"])
                    sheet.writerows(enumerate(texts[:count]))
                with contextlib.suppress(JammiError):
                    ws.sources.add("a", path, replace=True)
                    rows = ws.sql("SELECT v FROM a ORDER BY n").fetchall()
                    assert all(means(v, text) for (v,), text in zip(rows, texts, strict=False))
