"""Texts into vectors: what is bound, what is encoded, what is taken over, what an interruption
leaves."""

import hashlib
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest

import jammi_lab as jl
from jammi_lab.core import errors
from jammi_lab.core.records import Progress, Reuse
from jammi_lab.core.verdicts import DefinitionChanged, Fresh, Stale
from jammi_lab.engine.sql.tokens import check_expression
from jammi_lab.steps.text_statement import recorded_from_text
from tests.cases import cases
from tests.features.vectors.test_adapters import SentenceModel


class Counting:
    """Vectors out of a digest of the text; remembers what it was given."""

    def __init__(self, name: str = "counting", version: str = "1", dimensions: int = 8) -> None:
        self.name, self.version, self.dimensions = name, version, dimensions
        self.seen: list[str] = []
        self.fail_on: str | None = None

    def encode(self, texts: list[str]) -> Any:
        if self.fail_on is not None and self.fail_on in texts:
            raise RuntimeError("the device fell over")
        self.seen += texts
        seeds = [
            int.from_bytes(hashlib.sha256(f"{self.version}{t}".encode()).digest()[:8], "big")
            for t in texts
        ]
        return (
            np.stack(
                [
                    np.random.default_rng(s).normal(size=self.dimensions).astype(np.float32)
                    for s in seeds
                ]
            )
            if texts
            else np.empty((0, 8))
        )


class NoMessage(Exception):
    def __str__(self) -> str:
        raise ValueError


@pytest.mark.parametrize("name", ["texts/\udcff", "nul \0"])
def test_what_an_exception_of_a_models_or_a_callers_code_says_ends_in_no_other_error(
    tmp_path, name
):
    """The names of files may hold bytes that are no text. It was stored with the failed build, and
    the kernel could build nothing more."""

    def fail(_: Progress) -> None:
        raise FileNotFoundError(name)

    with jl.open(tmp_path / "lab") as ws:
        for error, kind in (
            (OSError(name), errors.SourceUnavailable),
            (NoMessage(), jl.SchemaMismatch),
        ):
            model = Counting()
            model.encode = lambda _, error=error: (_ for _ in ()).throw(error)
            with pytest.raises(kind, match="failed on the batch") as caught:
                ws.embed("v", "SELECT 1 AS id, 'a' AS t", key="id", text="t", model=model)
            assert caught.value.__cause__ is error
        with pytest.raises(FileNotFoundError):
            ws.materialize("t", "SELECT 1 AS x", progress=fail)
        assert {t.status for t in ws.tables(status=None)} == {"failed"}
        assert ws.materialize("t", "SELECT 1 AS x").version == 2


def csv(path: Path, rows: dict[Any, str]) -> Path:
    path.write_text(
        "id,title,year\n"
        + "".join(f"{k},{t},{2000 + i}\n" for i, (k, t) in enumerate(rows.items()))
    )
    return path


@pytest.fixture
def texts(tmp_path: Path) -> dict[Any, str]:
    return {i: f"text {i}" for i in range(1, 301)}


@pytest.fixture
def lab(ws: Any, tmp_path: Path, texts: dict[Any, str]) -> Any:
    ws.sources.add("papers", csv(tmp_path / "papers.csv", texts))
    return ws


def embed(ws: Any, model: Any, source: str = "papers", **how: Any) -> Any:
    """The vectors `v` of the column `title` of a source."""
    return ws.embed("v", source, **{"key": "id", "text": "title", "model": model, **how})


# -- what is bound ---------------------------------------------------------------------------------


def test_each_row_has_the_vector_of_its_own_text(lab, texts):
    encoder = Counting()
    embed(lab, encoder)
    for key in (1, 77, 300):
        assert np.array_equal(lab.vector("v", key), encoder.encode([texts[key]])[0])


def test_one_anchor_covers_key_and_texts_and_nothing_else(lab):
    table = embed(lab, Counting())
    [anchor] = table.manifest.anchors
    assert (anchor.input.name, anchor.columns) == ("papers", ("id", "title"))


def test_a_source_that_is_read_twice_is_anchored_once_over_all_its_columns(lab):
    both = "SELECT a.id, b.title FROM papers a JOIN papers b USING (id) WHERE a.year > 0"
    [anchor] = embed(lab, Counting(), both).manifest.anchors
    assert anchor.columns == ("id", "title", "year")


def test_names_are_found_whatever_their_case_and_where_leaves_rows_out(lab):
    table = embed(
        lab, Counting(), "PAPERS", key="ID", text=["Title", "title"], where="id <= 5 -- few"
    )
    assert table.row_count == 5


def test_where_stays_within_its_brackets(lab):
    for where in (
        "true) UNION ALL SELECT 1, 'x' WHERE (true",
        "SELECT true",
        "true); SELECT (1",
        "(true",
        "",
        "  ",
    ):
        with pytest.raises((errors.StatementNotAllowed, errors.InvalidArgument)):
            embed(lab, Counting(), where=where)


def test_a_file_that_where_reads_by_its_path_is_an_input_and_no_other_way_leads_to_a_file(
    lab, tmp_path
):
    (tmp_path / "wanted.csv").write_text("id\n1\n2\n")
    wanted = f"id IN (SELECT id FROM read_csv('{tmp_path}/wanted.csv'))"
    table = embed(lab, Counting(), where=wanted)
    assert table.row_count == 2 and len(table.inputs) == 2
    with pytest.raises(errors.StatementNotAllowed):
        named = f"title IN (SELECT content FROM read_text('{tmp_path}/wanted.csv'))"
        embed(lab, Counting(), where=named)
    with lab.tenant("acme"), pytest.raises(errors.StatementNotAllowed):
        embed(lab, Counting(), where=wanted)


@pytest.mark.parametrize("text", ["year > 1 /* ) */", "name = ')'", 'f("a)") > 1', "a[1] = (2)"])
def test_brackets_in_texts_and_comments_are_no_brackets(text):
    assert check_expression(text) == text


@pytest.mark.parametrize(
    "asked", ["papers", "SELECT id, title FROM papers WHERE title <> ')'", "copied"]
)
def test_what_a_recorded_embedding_reads_can_be_told_from_its_statement(lab, asked):
    lab.materialize("copied", "SELECT * FROM papers")
    table = embed(lab, Counting(), asked, where="id < 9")
    assert (
        len(lab.sql(f"SELECT id FROM {recorded_from_text(table.manifest.descriptor)}").arrow())
        == 300
    )


# -- bad input -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "error"),
    cases("statements/embeddings_refused", "change", "error"),
)
def test_bad_arguments_are_told_and_make_nothing(lab, change, error):
    with pytest.raises(getattr(errors, error)) as caught:
        embed(lab, **{"model": Counting(), **change})
    assert isinstance(caught.value, errors.JammiError) and str(caught.value)
    assert lab.tables(status=None) == []


@pytest.mark.parametrize(
    ("change", "missing", "near"),
    [({"key": "idd"}, "idd", "id"), ({"text": ["title", "titel"]}, "titel", "title")],
)
@pytest.mark.parametrize("source", ["papers", "SELECT * FROM papers"])
def test_a_misspelt_column_is_told_as_other_producers_tell_it(lab, change, missing, near, source):
    with pytest.raises(errors.SchemaMismatch) as error:
        embed(lab, Counting(), source, **change)
    assert (error.value.table, error.value.column, error.value.message) == (
        source,
        missing,
        f"{source!r} has no column {missing!r}.",
    )
    assert error.value.near == (near,) and error.value.statement is None


@pytest.mark.parametrize("key", ["{'a': 1}", "[1]", "MAP {1: 2}", "INTERVAL 1 DAY"])
def test_a_key_without_an_order_is_refused(ws, key):
    with pytest.raises(errors.SchemaMismatch, match="cannot be a key"):
        embed(ws, Counting(), f"SELECT {key} AS k, 'a' AS title", key="k")


def test_a_key_of_more_digits_than_can_be_looked_up_is_refused(ws):
    most = 10**38 - 1
    embed(ws, Counting(), f"SELECT {most}::HUGEINT AS k, 'a' AS title", key="k")
    assert ws.search("v", row=most, k=1).arrow().num_rows == 0 and ws.vector("v", most) is not None
    with pytest.raises(errors.SchemaMismatch, match="more digits"):
        embed(ws, Counting(), f"SELECT {most + 1}::HUGEINT AS k, 'a' AS title", key="k")


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (lambda n: np.ones((n - 1, 8), np.float32), "shape"),
        (lambda n: np.ones((n, 7), np.float32), "width 7"),
        (lambda n: np.full((n, 8), np.nan, np.float32), "not finite"),
        (lambda n: np.full((n, 8), np.inf, np.float32), "not finite"),
        (lambda n: np.zeros((n, 8), np.float32), "zeros"),
        (lambda n: ["x"] * n, "did not return an array of numbers"),
        (lambda n: None, "did not return an array of numbers"),
    ],
)
def test_an_encoder_that_gives_something_else_is_told_with_model_and_key(lab, made, said):
    encoder = Counting()
    encoder.encode = lambda texts: made(len(texts))  # type: ignore[method-assign]
    with pytest.raises(errors.SchemaMismatch, match=said) as error:
        embed(lab, encoder)
    assert (
        "'counting'" in str(error.value)
        and "first for key 1." in str(error.value)
        and error.value.key == 1
    )
    assert "v" not in lab and [t.status for t in lab.tables(status=None)] == ["failed"]


def test_the_first_key_whose_vector_is_unusable_is_named_and_the_good_vectors_are_kept(lab, texts):
    encoder, bad = Counting(), {"text 7", "text 70", "text 200"}
    good = encoder.encode
    # the shortest is encoded first, and 200 comes before 70 in no order but that of the texts'
    # lengths
    encoder.encode = lambda some: np.where([[t in bad] for t in some], np.nan, good(some))  # type: ignore[method-assign]
    bad.remove("text 7")
    with pytest.raises(errors.SchemaMismatch, match="not finite, first for key 70") as error:
        embed(lab, encoder)
    assert error.value.key == 70
    before, encoder.seen = len(encoder.seen), []
    bad.clear()
    table = embed(lab, encoder)
    assert (
        table.reuse.encoded_before >= 69
        and len(encoder.seen) == 300 - table.reuse.encoded_before < before + 231
    )


# -- keys and texts --------------------------------------------------------------------------------


def test_null_and_empty_texts_are_the_empty_text_and_equal_texts_are_encoded_once(ws):
    encoder = Counting()
    rows = "(VALUES (1, NULL), (2, ''), (3, 'a'), (4, 'a'), (5, 'b')) t(k, title)"
    embed(ws, encoder, f"SELECT * FROM {rows}", key="k")
    assert sorted(encoder.seen) == ["", "a", "b"]
    vectors = [ws.vector("v", k) for k in range(1, 6)]
    assert (
        np.array_equal(vectors[0], vectors[1])
        and np.array_equal(vectors[2], vectors[3])
        and not np.array_equal(vectors[3], vectors[4])
    )


@pytest.mark.parametrize(
    ("rows", "key", "text", "seen"),
    [
        ("(VALUES (1, 'a', 'b'), (2, NULL, 'c'), (3, NULL, ''))", "k", "yx", ["", "b\na", "c"]),
        ("(VALUES ('graph', 1, 2))", "k", "k", ["graph"]),
        ("(VALUES (1, 'a'::ENUM('a', 'b'), 2))", "k", "x", ["a"]),
    ],
    ids=["several columns in the order given, without empty ones", "the key", "an enum"],
)
def test_what_is_encoded_as_a_text(ws, rows, key, text, seen):
    encoder = Counting()
    embed(ws, encoder, f"SELECT * FROM {rows} t(k, x, y)", key=key, text=[*text])
    assert sorted(encoder.seen) == seen


# -- what is taken over ----------------------------------------------------------------------------


def test_what_a_version_took_over_is_told_of_every_embedding_and_after_a_restart(
    lab, tmp_path, texts
):
    embed(lab, "hashing")
    csv(tmp_path / "papers.csv", texts | {7: "another"})
    lab.recompute("v")
    lab.materialize("m", "SELECT 1 AS a")
    first, second = (
        Reuse(new=len(texts), changed=0, removed=0, unchanged=0),
        Reuse(new=0, changed=1, removed=0, unchanged=len(texts) - 1),
    )
    assert [lab.table("v", version=n).reuse for n in (1, 2)] == [first, second]
    assert embed(lab, "hashing").reuse == Reuse(new=0, changed=0, removed=0, unchanged=len(texts))
    lab.close()
    with jl.open(lab.path) as again:
        assert [(t.name, t.reuse) for t in again.tables()] == [
            ("m", None),
            ("v", second),
            ("v", first),
        ]
        assert "unchanged" not in repr(again.table("v"))  # it is no news there


def test_vectors_of_another_encoder_are_never_taken_over(lab):
    embed(lab, Counting())
    other = Counting(version="2")
    embed(lab, other)
    assert len(other.seen) == 300


def test_an_encoder_that_was_used_before_finds_its_version_again(lab, tmp_path, texts):
    one, two = Counting(), Counting(version="2")
    embed(lab, one)
    embed(lab, two)
    one.seen.clear()
    csv(tmp_path / "papers.csv", texts | {7: "another"})
    embed(lab, one)
    assert one.seen == ["another"]


# -- encoders --------------------------------------------------------------------------------------


def weighed(weights: str) -> Counting:
    """An encoder that says which weights it has."""
    from jammi_lab.features.vectors.encoders.base import EncoderIdentity

    encoder = Counting()
    encoder.identity = EncoderIdentity(name="counting", version="1", dimensions=8, weights=weights)  # type: ignore[attr-defined]
    return encoder


def test_other_weights_under_a_name_in_use_are_refused(lab):
    embed(lab, weighed("a" * 64))
    with pytest.raises(errors.InvalidArgument, match="other weights"):
        embed(lab, weighed("b" * 64))


def test_other_weights_under_the_same_name_after_a_restart_change_the_definition(
    tmp_path,
):
    with jl.open(tmp_path / "lab") as ws:
        ws.sources.add("papers", csv(tmp_path / "papers.csv", {1: "a"}))
        embed(ws, weighed("a" * 64))
    with jl.open(tmp_path / "lab") as ws:
        ws.embed("w", "papers", key="id", text="title", model=weighed("b" * 64))
        verdict = ws.staleness("v")
        assert isinstance(verdict, Stale) and isinstance(verdict.reasons[0], DefinitionChanged)
        with pytest.raises(errors.ModelNotFound, match="other weights"):
            ws.search("v", "a")


def test_after_a_restart_without_its_encoder_a_table_can_be_read_but_not_made_again(
    tmp_path,
):
    path = csv(tmp_path / "papers.csv", {1: "a", 2: "b"})
    with jl.open(tmp_path / "lab") as ws:
        ws.sources.add("papers", path)
        embed(ws, Counting())
    with jl.open(tmp_path / "lab") as ws:
        assert ws.staleness("v") == Fresh()
        assert len(ws.search("v", row=1).arrow()) == 1
        with pytest.raises(errors.ModelNotFound, match="vector"):
            ws.search("v", "a")
        csv(path, {1: "a", 2: "c"})
        plan = ws.plan("v")
        assert [s.name for s in plan.blocked] == ["v"]
        [step] = plan.apply().steps
        assert step.outcome == "blocked" and "'counting'" in step.error
        ws.embed(
            "w", "papers", key="id", text="title", model=Counting()
        )  # the encoder is here again
        ws.recompute("v")
        assert ws.staleness("v") == Fresh()


def test_a_table_is_stale_after_its_model_was_trained_on_and_no_row_is_taken_over(lab):
    model = SentenceModel()
    before = embed(lab, model)
    assert lab.staleness("v") == Fresh()
    model.weight = 2.0
    assert isinstance(lab.staleness("v"), Stale)
    assert lab.recompute("v").executed == ["v"] and lab.staleness("v") == Fresh()
    made = lab.table("v")
    assert made.read().arrow()["vector"][0].as_py() != before.read().arrow()["vector"][0].as_py()
    assert (
        made.manifest.descriptor["encoder"]["weights"]
        != before.manifest.descriptor["encoder"]["weights"]
    )


# -- progress, interrupts, checkpoints -------------------------------------------------------------


def test_progress_comes_after_the_building_row_and_before_the_first_batch(lab):
    told: list[tuple[Progress, list[str]]] = []
    embed(
        lab,
        Counting(),
        progress=lambda p: told.append((p, [t.status for t in lab.tables(status=None)])),
    )
    assert all(
        status == (["ready"] if p.stage.startswith("index") else ["building"]) for p, status in told
    ), told  # the index follows
    last = [p for p, _ in told if p.unit == "texts"][-1]
    assert (last.stage, last.done, last.total) == ("embed v", 300, 300)


def test_texts_are_found_under_names_as_sql_writes_them(lab):
    encoder = Counting()
    lab.materialize('my "own" papers', "SELECT * FROM papers WHERE id < 4")
    for n, asked in enumerate(
        ['jammi."my ""own"" papers"', '"papers"', ' "jammi"."my ""own"" papers" ']
    ):
        assert lab.embed(f"v{n}", asked, key="id", text="title", model=encoder).row_count == (
            300 if n == 1 else 3
        )
    with pytest.raises(errors.TableNotFound):
        embed(lab, encoder, 'jammi."no such"')


MEMORY = """
import resource, sys
import numpy as np, jammi_lab as jl
class Fast:
    name, version, dimensions = "fast", "1", 384
    def encode(self, texts):
        out = np.ones((len(texts), 384), np.float32)
        out[:, 0] = [int(t.split()[-1]) for t in texts]
        return out
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
with jl.open("lab") as ws:
    many = "SELECT i AS id, 'text ' || i AS title FROM range({}) t(i)"
    ws.embed("warm", many.format(5000), key="id", text="title", model=Fast(), index="later")
    before = peak()
    ws.embed("v", many.format(100_000), key="id", text="title", model=Fast(), index="later")
    print((peak() - before) / (100_000 * 384 * 4))
"""


@pytest.mark.only_soak
@pytest.mark.slow
def test_embedding_holds_little_more_than_the_vectors(run_python):
    assert float(run_python(MEMORY, start=True).stdout) < 1.75


def test_a_database_of_several_tables_is_told_to_be_one(ws, tmp_path):
    with duckdb.connect(tmp_path / "crm.duckdb") as made:
        made.execute("CREATE TABLE a AS SELECT 1 AS id, 'x' AS t; CREATE TABLE b AS SELECT 1 AS id")
    ws.sources.add("crm", tmp_path / "crm.duckdb")
    with pytest.raises(errors.TableNotFound, match="crm is a database, not a table") as caught:
        embed(ws, "hashing", "crm", text="t")
    assert "crm.a" in caught.value.hint
    assert embed(ws, "hashing", "crm.a", text="t").row_count == 1


PANDAS = """
import sys, traceback
from pathlib import Path
import jammi_lab as jl

class Finder:
    @staticmethod
    def find_spec(name, *_):
        if name == "pandas":
            print(*{Path(frame.filename).parent.name for frame in traceback.extract_stack()} & {"producers"})

sys.meta_path.insert(0, Finder)
papers = Path("papers.csv")
with jl.open("lab") as ws:
    for titles in ("1,a\\n2,b\\n", "1,a\\n2,c\\n"):
        papers.write_text("id,title\\n" + titles)
        ws.sources.add("papers", "papers.csv", replace=True)
        print(ws.embed("vectors", "papers", key="id", text="title", model="hashing", index="later").outcome)
        print(ws.lexical("words", "papers", key="id", text="title").outcome)
"""


def test_embedding_imports_no_pandas_in_which_an_interrupt_would_be_lost(run_python):
    """Arrow imports it where it gives numpy for the first time, and takes an interrupt that comes
    meanwhile for a pandas that is not there."""
    assert run_python(PANDAS, start=True).stdout.split() == 4 * ["computed"]
