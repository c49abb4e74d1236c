"""Lexical tables: their rows, what is taken over from an earlier version, and their index."""

import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import jammi_lab as jl
from jammi_lab.core import errors
from jammi_lab.store.result_files import ResultFiles
from tests.inside import record_of, services_of
from tests.sizes import sized, soak

TEXTS = {1: "a red fox", 2: "red red wine", 3: None, 4: "the and of", 5: "blue fox"}


def write(path: Path, texts: dict[int, str | None]) -> None:
    kinds = pa.schema([("id", pa.int64()), ("text", pa.string())])
    pq.write_table(pa.table({"id": list(texts), "text": list(texts.values())}, schema=kinds), path)


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    write(tmp_path / "docs.parquet", TEXTS)
    return tmp_path / "docs.parquet"


@pytest.fixture
def lab(ws: Any, docs: Path) -> Any:
    ws.sources.add("docs", docs)
    return ws


def make(ws: Any, name: str = "w", **how: Any) -> Any:
    return ws.lexical(name, "docs", **{"key": "id", "text": "text", **how})


def postings(ws: Any, table: Any) -> list[Any]:
    index = services_of(ws).words.table(record_of(table)).index
    return [each.tolist() for each in index.postings]


def hits(ws: Any, text: str, **how: Any) -> list[dict[str, Any]]:
    return list(ws.search("w", text, **how).arrow().select(["key", "score"]).to_pylist())


def test_a_row_holds_the_terms_of_its_text_with_their_counts(lab):
    table = make(lab)
    assert table.kind == "lexical" and table.key == ["key"] and table.row_count == 5
    rows = table.read().arrow().drop_columns("_text_digest").to_pylist()
    assert rows == [
        {"key": 1, "terms": "fox red", "length": 2},
        {"key": 2, "terms": "red red wine", "length": 3},
        {"key": 3, "terms": "", "length": 0},
        {"key": 4, "terms": "", "length": 0},
        {"key": 5, "terms": "blue fox", "length": 2},
    ]


@soak
@pytest.mark.parametrize("seed", range(sized(2, 20)))
def test_after_any_edits_a_table_and_its_index_are_those_built_anew(lab, docs, seed):
    chance, texts = random.Random(seed), dict(TEXTS)
    words = ["ant", "bee", "cow", "the", "dogs", "東京都", ""]
    for _ in range(5):
        for _ in range(chance.randrange(4)):
            key = chance.randrange(8)
            texts[key] = " ".join(chance.choices(words, k=chance.randrange(5)))
            if chance.random() < 0.3:
                del texts[chance.choice(list(texts))]
        write(docs, dict(sorted(texts.items())))
        table = make(lab)
        anew = make(lab, "anew", cache="bypass")
        assert Path(table.path).read_bytes() == Path(anew.path).read_bytes()
        assert postings(lab, table) == postings(lab, anew)


def test_terms_of_another_analyzer_are_not_taken_over(lab):
    make(lab, analyzer="exact", where="id < 3")
    table, anew = make(lab, where="id < 3"), make(lab, "anew", where="id < 3", cache="bypass")
    assert postings(lab, table) == postings(lab, anew)
    assert not hits(lab, "a")


def test_the_index_lies_in_memory_alone_and_another_process_finds_the_same(lab):
    table, expected = make(lab), hits(lab, "red fox")
    assert len(expected) == 3 and table.index_path is None
    assert {each.suffix for each in Path(table.path).parent.iterdir()} == {".json", ".parquet"}
    folder = lab.path
    lab.close()
    with jl.open(folder, read_only=True) as again:
        assert hits(again, "red fox") == expected


def test_a_damaged_table_is_not_searched(lab):
    table = make(lab)
    hits(lab, "red")
    path = Path(table.path)
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(errors.TableDamaged):
        hits(lab, "red")


@pytest.mark.parametrize(
    "forged",
    [pa.array([["red"]] * 5), pa.array([b"\xff"] * 5), pa.array([{"a": "red"}] * 5)],
    ids=lambda forged: str(forged.type),
)
def test_terms_of_another_type_that_were_forged_with_their_digest_are_damage(
    lab, forged, monkeypatch
):
    path = Path(make(lab).path)
    rows = pq.read_table(path)
    place = rows.column_names.index("terms")
    pq.write_table(rows.set_column(place, "terms", forged[: len(rows)]), path)
    monkeypatch.setattr(ResultFiles, "require_intact", lambda *_: path)
    with pytest.raises(errors.TableDamaged):
        hits(lab, "red")


def test_wrong_columns_keys_and_analyzers_are_refused(lab):
    with pytest.raises(errors.InvalidArgument, match="analyzer must be"):
        make(lab, analyzer="german")
    with pytest.raises(errors.InvalidArgument, match="A lexical table needs at least one text"):
        make(lab, text=[])
    with pytest.raises(errors.SchemaMismatch, match="has no column 'txt'"):
        make(lab, text="txt")
    with pytest.raises(errors.SchemaMismatch, match="not text"):
        make(lab, text="id")
    with pytest.raises(errors.DuplicateKey):
        lab.lexical(
            "w", "SELECT 1 AS id, 'a' AS text UNION ALL SELECT 1, 'b'", key="id", text="text"
        )
    assert "w" not in lab
