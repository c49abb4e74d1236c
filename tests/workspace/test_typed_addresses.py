"""An address with a password that is typed where a path belongs, or in FROM: no folder or file gets
its name, no message repeats it, and nothing of it is stored."""

from pathlib import Path

import pytest

import jammi_lab as jl
from jammi_lab.workspace.copy import copy_workspace
from tests.sizes import product

SECRET = "CANARYzq9"
NO_PATHS = [
    f"host=127.0.0.1 user=rd password={SECRET}",
    f"host=127.0.0.1 user=rd password='{SECRET}'",
    f"server=h;uid=u;pwd={SECRET}",
    f"postgresql:u:{SECRET}@h/d",
    f"postgres:/u:{SECRET}@h/d",
    f"mysql:u:{SECRET}@h/d",
    f"https:u:{SECRET}@h/x.csv",
    f"u:{SECRET}@h/d",
    f"jdbc:postgresql:u:{SECRET}@h/d",
    f"DefaultEndpointsProtocol=https;AccountKey={SECRET};x",
]
URLS = [
    f"https://h.invalid/x.csv#sig={SECRET}",
    f"https://h.invalid/x.csv#access_token={SECRET}&a=1",
    f"HTTPS://h.invalid/x.csv?sig={SECRET}",
    f"http://h.invalid/x.csv;token={SECRET}",
    f"https://h.invalid/x.csv?sig%3D{SECRET}",
    f"s3://b/x.csv#secret={SECRET}",
    f"az://c/x.csv?sv=1&sig={SECRET}",
    f"foo://u:{SECRET}@h/d.csv",
]
CALLS = {
    "open": lambda ws, text: jl.open(text),
    "read only": lambda ws, text: jl.open(text, read_only=True),
    "not created": lambda ws, text: jl.open(text, create=False),
    "rebuild": lambda ws, text: jl.rebuild(text),
    "trust": lambda ws, text: jl.trust(text),
    "source": lambda ws, text: ws.sources.add("s", text),
    "unchecked": lambda ws, text: ws.sources.add("s", text, check=False),
    "export": lambda ws, text: ws.table("t").export(text),
    "backup": lambda ws, text: ws.backup(text),
    "copy": lambda ws, text: copy_workspace(ws, text),
    "model": lambda ws, text: ws.models.register("m", text),
}
STATEMENTS = ["FROM '{}'", "FROM read_csv('{}')", 'FROM "{}"', "SELECT (SELECT 1 FROM '{}')"]


def check(ws, tmp_path, call):
    with pytest.raises(jl.JammiError) as caught:
        call()
    assert SECRET not in f"{caught.value} {caught.value!r} {caught.value.statement}"
    assert [each for each in tmp_path.rglob("*") if SECRET in str(each)] == []
    assert "s" not in ws.sources


@product
@pytest.mark.parametrize("text", NO_PATHS)
@pytest.mark.parametrize("verb", CALLS)
def test_an_address_in_place_of_a_path_is_refused_and_not_repeated(
    lab, tmp_path, monkeypatch, verb, text
):
    monkeypatch.chdir(tmp_path)
    check(lab, tmp_path, lambda: CALLS[verb](lab, text))
    assert SECRET.encode() not in b"".join(
        each.read_bytes() for each in (tmp_path / "lab").iterdir() if each.is_file()
    )


@product
@pytest.mark.parametrize("text", URLS)
@pytest.mark.parametrize("form", STATEMENTS)
def test_a_signed_url_in_from_is_neither_in_the_excerpt_nor_in_the_advice(
    lab, tmp_path, monkeypatch, form, text
):
    monkeypatch.chdir(tmp_path)
    statement = form.format(text)
    check(lab, tmp_path, lambda: lab.sql(statement).fetchall())
    check(lab, tmp_path, lambda: lab.materialize("m", statement))
    check(lab, tmp_path, lambda: lab.explain(statement))


def test_a_path_that_only_has_such_a_character_is_a_path(lab, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("a:b@c").mkdir()
    jl.open("a:b@c").close()
    lab.table("t").export("key=1,token=2.csv")
    lab.table("t").export("mail@example.csv")
    Path("token=5").mkdir()
    lab.table("t").export("token=5/x.parquet")
    lab.sources.add("s", "token=*/x.parquet")
    assert lab.sql("SELECT n FROM s").fetchall() == [(42,)]


@pytest.fixture
def lab(tmp_path):
    with jl.open(tmp_path / "lab") as ws:
        ws.materialize("t", "SELECT 42 AS n")
        yield ws


NO_NAMES = ["a\0b", "a\udcffb", "http://[::1", "http://\udcff/x.csv", "postgresql://h/\udcff", "/"]


@pytest.mark.every_case
@pytest.mark.parametrize("text", NO_NAMES)
def test_a_text_that_is_no_name_of_a_file_or_server_is_refused(ws, tmp_path, text):
    ws.materialize("t", "SELECT 1 AS n")
    calls = [
        lambda: ws.sources.add("s", text),
        lambda: ws.sources.add("s", "postgresql://u@h/d", secret=text),
        lambda: jl.open(text, create=False),
        lambda: ws.backup(text),
        lambda: ws.export_openlineage(text),
        lambda: jl.rebuild(text),
    ]
    for call in calls:
        with pytest.raises(jl.JammiError):
            call()


def test_a_path_that_is_too_long_or_no_path_is_refused(ws):
    for call in (jl.rebuild, ws.export_openlineage):
        for path in ("x" * 5000, b"x", 5, None):
            with pytest.raises(jl.JammiError):
                call(path)
