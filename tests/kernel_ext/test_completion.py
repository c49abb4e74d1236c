"""Tab: in the kernel's own process for the many cases, through a real kernel for the
way there."""

import contextlib
import types
from pathlib import Path

import pyarrow as pa
import pytest

import jammi_lab as jl
from jammi_kernel_ext.completion import Completion
from tests.cases import cases


class Shelf:
    """A notebook with a workspace and variables."""

    def __init__(self, ws):
        self.shell = types.SimpleNamespace(user_ns_hidden={"In": []})
        self.current, self.namespace = (
            ws,
            {
                "ws": ws,
                "year": 2020,
                "frame": pa.table({"a": [1]}),
                "_hidden": 1,
                "In": [],
                "open": open,
            },
        )


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """A folder with a workspace that no test changes."""
    folder = tmp_path_factory.mktemp("shared")
    (folder / "sub" / "deep").mkdir(parents=True)
    (folder / "sub" / "a b.csv").write_text("id\n1\n")
    with filled(folder):
        pass
    return folder


@pytest.fixture
def there(shared, monkeypatch):
    """The workspace, from inside its folder."""
    monkeypatch.chdir(shared)
    with jl.open("lab") as ws:
        yield ws


@pytest.fixture
def ws(tmp_path):
    with filled(tmp_path) as ws:
        yield ws


@contextlib.contextmanager
def filled(tmp_path):
    path = tmp_path / "papers.csv"
    path.write_text("id,title,Published Year\n1,a,2020\n")
    with jl.open(tmp_path / "lab") as ws:
        ws.sources.add("papers", path)
        ws.sources.add("my papers", path)
        ws.materialize("recent", "SELECT id, title FROM papers")
        ws.materialize("two words", "SELECT 1 AS one")
        yield ws


@pytest.fixture
def tab(ws):
    return pressed_in(ws)


def pressed_in(ws):
    completion = Completion(Shelf(ws))

    def press(text):
        """The candidates where `|` stands."""
        head, _, tail = text.partition("|")
        lines = head.split("\n")
        found = completion.candidates_at(head + tail, len(lines) - 1, len(lines[-1]))
        return None if found is None else [text for text, _ in found[0]]

    return press


@pytest.mark.timeout(30)
def test_a_long_word_is_looked_through_once(tab):
    """A quadratic search would take minutes."""
    assert tab(f'sequence = "{"ACGT" * 100_000}|') is None


@pytest.mark.parametrize(
    ("typed", "offered"),
    cases("cells/completion", "typed", "offered"),
)
def test_what_fits_is_offered(there, typed, offered):
    assert pressed_in(there)(typed) == offered


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("%jammi add t |", ["lab/", "plain.csv"]),
        ("%jammi embed v lines --key |", ["n"]),
        ('ws.table("|', ["kept"]),
        ("ws.sources['|", ["lines"]),
    ],
)
def test_a_name_that_would_be_code_where_it_is_inserted_is_not_offered(
    tmp_path, monkeypatch, typed, offered
):
    monkeypatch.chdir(tmp_path)
    for name in ("plain.csv", "a\n!x.csv", "b\x1b.csv", "--replace.csv"):
        Path(name).write_text('"id\n!x",n\n1,2\n')
    with jl.open("lab") as ws:
        ws.sources.add("lines", "plain.csv")
        ws.sources.add("it's", "plain.csv")
        ws.materialize("kept", "SELECT 1 AS n")
        ws.materialize('x"); exit("', "SELECT 1 AS n")
        assert pressed_in(ws)(typed) == offered


@pytest.fixture(scope="module")
def flown(tmp_path_factory):
    """A folder with a workspace over the flights and the weather of the tour."""
    folder = tmp_path_factory.mktemp("flown")
    data = Path(__file__).resolve().parents[2] / "notebooks" / "data"
    with jl.open(folder / "lab") as ws:
        ws.sources.add("weather", data / "weather.csv")
        ws.sources.add("flights", data / "flights" / "*.parquet")
        ws.materialize("late", "SELECT origin, avg(dep_delay) AS minutes FROM flights GROUP BY 1")
    return folder


REVIEWED = cases("cells/completion_reviewed", "typed", "wanted")


def test_in_a_wide_table_what_is_meant_is_among_the_first_three(flown):
    with jl.open(flown / "lab") as ws:
        press = pressed_in(ws)
        offered = {typed: press(f"%%jammi\n{typed}")[:3] for typed, _ in REVIEWED}
    assert not {typed: offered[typed] for typed, wanted in REVIEWED if wanted not in offered[typed]}


def test_tables_come_after_columns_and_before_keywords_and_functions(there):
    offered = pressed_in(there)("%%jammi\nSELECT | FROM papers")
    places = [offered.index(each) for each in ("title", "jammi.recent", "SELECT", "abs(")]
    assert places == sorted(places)


def test_a_type_in_a_cast_is_no_column(there):
    assert "INTEGER" not in pressed_in(there)("%%jammi\nSELECT CAST(id AS INTEGER), i| FROM papers")


def test_a_table_that_cannot_be_read_offers_no_columns_and_no_error(tab, ws, tmp_path):
    (tmp_path / "papers.csv").unlink()
    assert tab("%%jammi\nSELECT p.| FROM papers p") == []


def test_without_a_workspace_words_are_offered_and_none_is_opened(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    completion = Completion(Shelf(None))
    assert [t for t, _ in completion.candidates_at("%%jammi\nSEL", 1, 3)[0]] == ["SELECT"]
    assert completion.candidates_at("%jammi why ", 0, 11) == ([], "")
    assert not list(tmp_path.iterdir())


def test_another_tenants_names_are_not_offered(tab, ws):
    with ws.tenant("acme"):
        ws.materialize("secret", "SELECT 1 AS a")
        assert tab("%jammi why sec|") == ["secret"]
    assert tab("%jammi why sec|") == []


def test_where_nothing_of_ours_fits_python_is_not_offered_either(cell):
    code = "%%jammi\nSELECT 1 -- prin"
    assert asked(cell, code, len(code))["matches"] in ([], ["prin"], [""])
    assert asked(cell, "%jammi tenant pri", 17)["matches"] == ["pri"]


def asked(kernel, code, at):
    number = kernel.client.complete(code, at)
    while True:
        reply = kernel.client.get_shell_msg(timeout=30)
        if reply["parent_header"].get("msg_id") == number:
            return reply["content"]
