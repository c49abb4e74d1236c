"""Lexical tables: their rows, what is taken over from an earlier version, and their index file."""

import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import jammi_lab as jl
from jammi_lab.core import errors
from jammi_lab.features.words import files
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


def index_file(table: Any) -> Path:
    path = files.words_path(Path(table.path))
    assert isinstance(path, Path)
    return path


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
        mine, theirs = (files.read_header(Path(each.path)) for each in (table, anew))
        assert mine == theirs and mine is not None


def test_terms_of_another_analyzer_are_not_taken_over(lab):
    make(lab, analyzer="exact", where="id < 3")
    table, anew = make(lab, where="id < 3"), make(lab, "anew", where="id < 3", cache="bypass")
    assert index_file(table).read_bytes() == index_file(anew).read_bytes()
    assert not hits(lab, "a")


@pytest.mark.parametrize("damage", ["flip", "cut", "gone", "empty", "folder", "foreign"])
def test_a_damaged_index_file_costs_no_hit_and_is_made_again(lab, tmp_path, damage):
    table = make(lab)
    path, expected = index_file(table), hits(lab, "red fox")
    sound = path.read_bytes()
    assert len(expected) == 3 and not lab.fsck(deep=True)
    match damage:
        case "flip":
            path.write_bytes(sound[:-70] + bytes([sound[-70] ^ 1]) + sound[-69:])
        case "cut":
            path.write_bytes(sound[:-64])
        case "gone":
            path.unlink()
        case "empty":
            path.write_bytes(b"")
        case "folder":
            path.unlink()
            path.mkdir()
        case "foreign":
            other = lab.lexical("other", "SELECT 1 AS id, 'red' AS text", key="id", text="text")
            path.write_bytes(index_file(other).read_bytes())
    assert hits(lab, "red fox") == expected
    assert path.read_bytes() == sound


def test_a_repair_makes_lost_and_damaged_index_files_again(lab):
    path = index_file(make(lab))
    sound = path.read_bytes()
    path.write_bytes(sound[:-70] + bytes([sound[-70] ^ 1]) + sound[-69:])
    assert [each.split()[0] for each in lab.fsck(deep=True).indexes]
    lab.fsck(repair=True, deep=True)
    assert path.read_bytes() == sound and not lab.fsck(deep=True)


def test_opening_a_workspace_makes_a_lost_index_file_again(lab):
    path, folder = index_file(make(lab)), lab.path
    sound = path.read_bytes()
    lab.close()
    path.unlink()
    with jl.open(folder) as again:
        assert again.recovery.healed and path.read_bytes() == sound
        assert not again.recover()


def test_a_read_only_workspace_searches_without_a_file_and_writes_none(lab, tmp_path):
    path, expected = index_file(make(lab)), hits(lab, "red fox")
    folder = lab.path
    lab.close()
    path.unlink()
    with jl.open(folder, read_only=True) as again:
        assert hits(again, "red fox") == expected
    assert not path.exists()


def test_a_dropped_table_leaves_no_file(lab):
    path = index_file(make(lab))
    lab.drop("w")
    assert not list(path.parent.iterdir())


def test_a_damaged_table_is_not_searched(lab):
    table = make(lab)
    hits(lab, "red")
    path = Path(table.path)
    path.write_bytes(path.read_bytes()[:-1] + b"x")
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
