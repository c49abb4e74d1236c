"""Keys keep their type, as far as Arrow has it; those for which it has none come back to their rows
all the same."""

import datetime
import decimal
import uuid
from typing import Any

import pytest

import jammi_lab as jl
from jammi_lab.core.errors import DuplicateKey, SchemaMismatch

_UUIDS = "('00000000-0000-0000-0000-00000000000' || i)::UUID"
_LARGE = 2**62
SAME = {
    "TINYINT": ("i::TINYINT", 1),
    "BIGINT": (f"i - {_LARGE}", 1 - _LARGE),
    "UBIGINT": (f"(i + {_LARGE})::UBIGINT", 1 + _LARGE),
    "BOOLEAN": ("i > 0", True),
    "VARCHAR": ("'it''s ' || i", "it's 1"),
    "DATE": ("DATE '2020-01-01' + i::INTEGER", datetime.date(2020, 1, 2)),
    "TIMESTAMP": ("TIMESTAMP '2020-01-01' + to_days(i::INTEGER)", datetime.datetime(2020, 1, 2)),
    "DECIMAL(10,2)": ("i::DECIMAL(10,2)", decimal.Decimal("1.00")),
    "DECIMAL(38,0)": (f"(i + {_LARGE})::DECIMAL(38,0)", decimal.Decimal(1 + _LARGE)),
    "BLOB": ("('k' || i)::BLOB", b"k1"),
    "DOUBLE": ("i / 2", 0.5),
}
OTHER = {
    "UUID": (_UUIDS, "VARCHAR", uuid.UUID(int=1)),
    "HUGEINT": ("i::HUGEINT", "DECIMAL(38,0)", 1),
    "ENUM('b', 'a', 'c')": ("(['a', 'b', 'c'][i + 1])::ENUM('b', 'a', 'c')", "VARCHAR", "b"),
}


def rows(expression: str) -> str:
    return f"SELECT {expression} AS id, 'text number ' || i AS body FROM range(2) r(i)"


@pytest.mark.parametrize("kind", SAME | OTHER)
def test_a_key_has_in_the_vectors_a_type_that_brings_it_back_to_its_row(ws, kind):
    expression, *stored, one = (SAME | OTHER)[kind]
    assert ws.sql(f"SELECT DISTINCT typeof(id) FROM ({rows(expression)})").fetchall() == [(kind,)]
    ws.embed("v", rows(expression), key="id", text="body", model="hashing")
    assert ws.sql("SELECT DISTINCT typeof(key) FROM jammi.v").fetchall() == [
        (stored[0] if stored else kind,)
    ]
    assert _comes_back(ws, expression, one)


def _comes_back(ws: Any, expression: str, one: Any) -> bool:
    """Whether each vector joins its row, is found by a value of the key's own Python type and by
    what stands for it in a statement, and is kept when a text beside it changes."""
    joined = ws.sql(
        f"SELECT count(*) FROM jammi.v JOIN ({rows(expression)}) r ON v.key = r.id"
    ).fetchall()
    assert joined == [(2,)]
    assert len(ws.vector("v", one)) == ws.table("v").dimensions
    [hit] = ws.search("v", row=one, k=2, select="body").arrow().to_pylist()
    assert hit["body"] == "text number 0" and not hit["source_missing"]
    assert ws.sql("SELECT key FROM neighbors('v', $one)", one=one).fetchall() == [(hit["key"],)]
    text = one.decode() if isinstance(one, bytes) else str(one)
    written = ["'" + text.replace("'", "''") + "'"]
    if isinstance(one, int):
        written.append(text)
    for literal in written:
        assert ws.sql(f"SELECT key FROM neighbors('v', {literal})").fetchall() == [(hit["key"],)]
    changed = rows(expression).replace(
        "i AS body", "CASE i WHEN 1 THEN 'another' ELSE i::VARCHAR END AS body"
    )
    reuse = ws.embed("v", changed, key="id", text="body", model="hashing").reuse
    return (reuse.changed, reuse.unchanged, reuse.new, reuse.removed) == (1, 1, 0, 0)


def test_equal_keys_that_python_has_no_date_for_are_named(tmp_path):
    with jl.open(tmp_path / "ws") as ws, pytest.raises(DuplicateKey, match="infinity") as caught:
        ws.materialize("k", "SELECT DATE 'infinity' AS v FROM range(2)", key="v")
    assert caught.value.keys == ["infinity"]


def test_a_key_that_is_no_number_is_refused(tmp_path):
    with jl.open(tmp_path / "ws") as ws, pytest.raises(SchemaMismatch, match="NaN"):
        ws.embed(
            "v", "SELECT 'nan'::DOUBLE AS id, 'x' AS body", key="id", text="body", model="hashing"
        )
